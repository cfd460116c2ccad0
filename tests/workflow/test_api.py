"""The Python API in the processes it is made for: threads, forks, event loops, many at once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.lying_server import LyingServer, Peer, Request, serve_ranges
from support.program import Program
from support.small import declare, spec_text

import wanrec as api
from wanrec import aio
from wanrec.reconcile.api import current_engine
from wanrec.reconcile.errors import ErrorCode, ExitCode, WanrecError
from wanrec.reconcile.telemetry import EventKind

BIG = {"weights.dat": os.urandom(300_000), "config.txt": b"{}"}


@pytest.fixture
def inside(wanrec: Program, monkeypatch: pytest.MonkeyPatch) -> Program:
    """This process stands in the project, as a server would."""
    monkeypatch.chdir(wanrec.project)
    for name in [name for name in os.environ if name.startswith(("WANREC_", "MODELS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MODELS_ROOT", str(wanrec.root))
    return wanrec


@pytest.fixture
def server() -> Iterator[LyingServer]:
    """An honest HTTP server that counts."""
    with LyingServer() as running:
        yield running


def content(model: str) -> dict[str, bytes]:
    """The files of a model: the weights are its own, for equal bytes would not be fetched again."""
    return {**BIG, "weights.dat": model.encode() + BIG["weights.dat"]}


def served(program: Program, server: LyingServer, count: int = 1) -> list[str]:
    """Declare models that only the server has; their ids."""
    models = {f"m{number:02}@1": content(f"m{number:02}@1") for number in range(count)}
    text = spec_text(models).replace("local://../mirror", server.url)
    program.write("specs/models.toml", text)
    for model, files in models.items():
        for path, data in files.items():
            server.on(f"/{model}/{path}", serve_ranges(data))
    return list(models)


def _child(program: Program, *command: str) -> subprocess.CompletedProcess[str]:
    """A process of its own in the project."""
    return subprocess.run(
        command,
        cwd=program.project,
        env=program.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_functions_share_one_engine_until_something_changes(
    inside: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The engine is made anew for another directory, environment or config file, and only then."""
    first = current_engine()
    assert current_engine() is first
    inside.write("wanrec.toml", 'project = "other"\n')
    second = current_engine()
    assert second.settings.project == "other"
    monkeypatch.setenv("WANREC_PARALLELISM", "2")
    third = current_engine()
    assert third.settings.parallelism == 2
    monkeypatch.chdir(tmp_path)
    assert current_engine().project_dir == tmp_path


def test_the_whole_surface(inside: Program) -> None:
    """ensure, status, plan, apply, drift, verify, use, pin, usage, gc and the earlier names."""
    declare(inside, {"a@1": {"x.txt": b"one"}, "b@1": {"y.txt": b"two"}})
    before = api.status("a@1")
    assert (before.state, before.bytes_needed, before.missing_files) == (
        "NOT_PRESENT",
        3,
        ("x.txt",),
    )
    path = api.ensure("a@1")
    assert (path, (path / "x.txt").read_bytes()) == (inside.root / "test/a@1", b"one")
    after = api.status("a@1")
    assert (after.state, after.bytes_needed) == ("COMPLETE", 0)
    assert after.last_verified
    plan = api.plan()
    assert [action.address for action in plan.actions] == ["b@1::y.txt"]
    assert not api.apply(plan).failures
    assert not api.plan().actions
    assert not api.drift("a@1", deep=True).drifted
    assert api.verify().exit_code is ExitCode.OK
    with api.use("b@1") as used:
        assert (used / "y.txt").read_bytes() == b"two"
    assert (api.pin("a@1"), api.unpin("a")) == ("a@1", "a@1")
    assert api.usage()
    assert not api.gc(dry_run=True).freed
    assert api.ModelEnsurer.from_config().ensure("a@1") == path
    registry = api.ModelRegistry.from_config()
    assert (list(registry), "a@1" in registry, "c@1" in registry) == (["a@1", "b@1"], True, False)
    assert registry.get("a").directory == "test/a@1"
    assert api.GarbageCollector.from_config(root=str(inside.root)).collect(dry_run=True)


def test_progress_hears_events_and_may_fail(inside: Program) -> None:
    """A callback is told of every file; its own defect stops nothing."""
    declare(inside, {"a@1": {"x.txt": b"one"}})
    heard = []

    def listen(event: object) -> None:
        heard.append(event.kind)  # type: ignore[attr-defined]
        raise RuntimeError("a defect of the listener")

    api.ensure("a@1", progress=listen)
    assert {EventKind.ACTION_START, EventKind.ACTION_COMPLETE} <= set(heard)


def test_ensure_many_tries_all_and_names_every_failure(inside: Program) -> None:
    """One model without a source does not keep the others away."""
    declare(inside, {"a@1": {"x.txt": b"one"}, "b@1": {"y.txt": b"two"}, "c@1": {"z.txt": b"3"}})
    for gone in ("b@1/y.txt", "c@1/z.txt"):
        (inside.project / "mirror" / gone).unlink()
    with pytest.raises(WanrecError) as caught:
        api.ensure_many(["a@1", "b@1", "c@1"], max_concurrent=2)
    assert caught.value.code is ErrorCode.NOT_FOUND_AT_SOURCE
    assert any(note.startswith("c@1") for note in caught.value.__notes__)
    assert api.status("a@1").state == "COMPLETE"
    with pytest.raises(ValueError, match="max_concurrent"):
        api.ensure_many([], max_concurrent=0)
    assert api.ensure_many([]) == {}


def test_threads_share_one_fetch(inside: Program, server: LyingServer) -> None:
    """Eight threads want the same absent model: the server is asked for it once."""
    (model,) = served(inside, server)
    start, paths = threading.Barrier(8), []

    def work() -> None:
        start.wait()
        paths.append(api.ensure(model))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == [inside.root / "test" / model] * 8
    assert server.sent[f"/{model}/weights.dat"] == len(content(model)["weights.dat"])


def test_sixteen_processes_share_one_fetch(wanrec: Program, server: LyingServer) -> None:
    """Sixteen processes want the same absent model: one fetch, all get the path."""
    (model,) = served(wanrec, server)
    running = [wanrec.start("ensure", model) for _ in range(16)]
    answers = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0] * 16, answers
    assert {out.strip() for out, _ in answers} == {str(wanrec.root / "test" / model)}
    for path, data in content(model).items():
        assert server.sent[f"/{model}/{path}"] == len(data)


class Together:
    """Answers for several models that wait for each other, and how many were fetched at once.

    The weights of a model are sent once `count` models have been asked for, then those of the next
    `count`; a test that never sees so many at once ends at the barrier's time limit.
    """

    def __init__(self, server: LyingServer, models: Sequence[str], count: int) -> None:
        self.most = 0
        self._meet = threading.Barrier(count, timeout=120)
        self._lock = threading.Lock()
        self._open: set[str] = set()
        for model in models:
            self._script(server, model)

    def _script(self, server: LyingServer, model: str) -> None:
        honest, met = serve_ranges(content(model)["weights.dat"]), threading.Event()

        def answer(request: Request, peer: Peer) -> bool:
            if request.method == "GET":
                with self._lock:
                    first = not met.is_set()
                    met.set()
                    self._open.add(model)
                    self.most = max(self.most, len(self._open))
                if first:
                    self._meet.wait()
                with self._lock:  # from here on its client may be done with it, and ask for more
                    self._open.discard(model)
            return honest(request, peer)

        server.on(f"/{model}/weights.dat", answer)


def test_sixteen_models_are_fetched_up_to_the_limit(inside: Program, server: LyingServer) -> None:
    """Sixteen models, four at a time: the server never sees fewer than four wait, nor a fifth."""
    ids = served(inside, server, 16)
    together = Together(server, ids, 4)
    paths = api.ensure_many(ids, max_concurrent=4)
    assert together.most == 4
    assert list(paths) == ids
    for model, path in paths.items():
        weights = content(model)["weights.dat"]
        assert (path / "weights.dat").read_bytes() == weights
        assert server.sent[f"/{model}/weights.dat"] == len(weights)


FORKED = """
import os, sys, wanrec
wanrec.status(sys.argv[1])  # the engine is made before the fork, as in a preloading server
pids = []
for model in sys.argv[1:]:
    pids.append(os.fork())
    if not pids[-1]:
        try:
            print(wanrec.ensure(model), flush=True)
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(repr(error))
            os._exit(4)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids])
"""


def test_sixteen_processes_fetch_sixteen_models(inside: Program, server: LyingServer) -> None:
    """A process for each model: nobody waits for another's, all sixteen are fetched at once."""
    ids = served(inside, server, 16)
    together = Together(server, ids, 16)
    done = _child(inside, sys.executable, "-P", "-c", FORKED, *ids)
    *paths, codes = done.stdout.splitlines()
    assert codes == str([0] * 16), done.stderr
    assert sorted(paths) == [str(inside.root / "test" / model) for model in ids]
    assert together.most == 16
    assert api.drift(deep=True).drifted is False


def test_a_forked_child_goes_on(inside: Program) -> None:
    """A worker forked from a server that has used the API ensures, fetches and locks by itself."""
    declare(inside, {"a@1": {"x.txt": b"one"}, "b@1": {"y.txt": b"two"}})
    code = """
import os, sys, wanrec
with wanrec.use("a@1"):
    pids = []
    for model in ("a@1", "b@1", "b@1"):
        pid = os.fork()
        if pid == 0:
            try:
                with wanrec.use(model) as path:
                    os._exit(0 if path.is_dir() else 3)
            except BaseException as error:
                sys.stderr.write(repr(error))
                os._exit(4)
        pids.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
print(codes, wanrec.status("b@1").state)
"""
    done = _child(inside, sys.executable, "-P", "-c", code)
    assert done.stdout.strip() == "[0, 0, 0] COMPLETE", done.stderr


def test_spawned_workers_ensure(inside: Program) -> None:
    """A pool of fresh worker processes, as a DataLoader starts them, gets the same path."""
    declare(inside, {"a@1": {"x.txt": b"one"}})
    code = (
        "import multiprocessing as m, wanrec\n"
        "if __name__ == '__main__':\n"
        "    with m.get_context('spawn').Pool(2) as pool:\n"
        "        print(len(set(pool.map(wanrec.ensure, ['a@1'] * 4))))\n"
    )
    script = inside.write("main.py", code)
    done = _child(inside, sys.executable, str(script))
    assert done.stdout.strip() == "1", done.stderr


def test_awaiting_does_not_block_the_loop(inside: Program, server: LyingServer) -> None:
    """While a model is fetched the loop runs on: the fetch itself waits for a task of the loop."""
    (model,) = served(inside, server)
    go, honest = threading.Event(), serve_ranges(content(model)["weights.dat"])

    def answer(request, peer):  # type: ignore[no-untyped-def]
        assert go.wait(60)
        return honest(request, peer)

    server.on(f"/{model}/weights.dat", answer)

    async def main() -> Path:
        fetching = asyncio.create_task(aio.ensure(model))
        while not server.asked(f"/{model}/weights.dat"):
            await asyncio.sleep(0)
        go.set()
        return await fetching

    assert asyncio.run(main()) == inside.root / "test" / model


def test_awaited_surface(inside: Program) -> None:
    """ensure_many, status and use, awaited; failures come out as they would without waiting."""
    declare(inside, {"a@1": {"x.txt": b"one"}, "b@1": {"y.txt": b"two"}})

    async def main() -> None:
        paths = await api.aio.ensure_many(["a@1", "b@1"], max_concurrent=1)
        assert list(paths) == ["a@1", "b@1"]
        assert (await aio.status("a@1")).state == "COMPLETE"
        async with aio.use("a@1") as path:
            assert path == paths["a@1"]
            assert not (await aio.drift("a@1", deep=True)).drifted
        assert (await aio.pin("a@1"), await aio.unpin("a@1")) == ("a@1", "a@1")
        assert not await aio.plan()
        assert (await aio.apply(await aio.plan())).failures == ()
        assert (await aio.verify()).exit_code is ExitCode.OK
        assert (await aio.usage()).total.files == 2
        assert not (await aio.gc(dry_run=True)).freed
        with pytest.raises(WanrecError) as caught:
            await aio.ensure("nobody@1")
        assert caught.value.code is ErrorCode.MODEL_NOT_FOUND
        with pytest.raises(WanrecError):
            await aio.ensure_many(["a@1", "nobody@1"])

    asyncio.run(main())


@pytest.mark.parametrize("call", ["ensure", "use"])
def test_cancelling_ends_the_fetch(inside: Program, server: LyingServer, call: str) -> None:
    """A cancelled `await` stops the fetch, leaves nothing half done, and the next one succeeds."""
    (model,) = served(inside, server)
    go, honest = threading.Event(), serve_ranges(content(model)["weights.dat"])

    def answer(request, peer):  # type: ignore[no-untyped-def]
        assert go.wait(60)
        return honest(request, peer)

    server.on(f"/{model}/weights.dat", answer)

    async def held() -> None:
        async with aio.use(model):
            pytest.fail("it was never brought")

    async def main() -> None:
        fetching = asyncio.create_task(aio.ensure(model) if call == "ensure" else held())
        while not server.asked(f"/{model}/weights.dat"):
            await asyncio.sleep(0)
        fetching.cancel()
        await asyncio.sleep(0)  # the cancellation reaches the task before the server answers
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        assert not (inside.root / "test" / model).exists()
        assert (await aio.ensure(model)).is_dir()

    asyncio.run(main())


def test_use_keeps_an_apply_out(inside: Program) -> None:
    """While a block uses a model, an apply that would swap it waits and then says LOCK_TIMEOUT."""
    declare(inside, {"a@1": {"x.txt": b"one"}})
    with api.use("a@1") as path:
        declare(inside, {"a@1": {"x.txt": b"two"}})
        assert inside.run("apply", "-y", "--lock-timeout", "0").exit == 7
        assert (path / "x.txt").read_bytes() == b"one"
    inside.ok("apply", "-y")
    assert (path / "x.txt").read_bytes() == b"two"


@pytest.mark.parametrize("limit", [{"max_size": -1}, {"max_age_s": -1.0}])
def test_a_negative_limit_evicts_nothing(inside: Program, limit: dict[str, float]) -> None:
    """A sum that went below zero is a mistake of the caller, not a wish for an empty disk."""
    declare(inside, {"a@1": {"x.txt": b"one"}}, head='[defaults]\npresence = "on-demand"')
    path = api.ensure("a@1")
    with pytest.raises(ValueError, match="must not be negative"):
        api.gc(**limit)  # type: ignore[arg-type]  # one of the two
    assert path.is_dir()


def test_on_demand_models_come_when_asked_for(inside: Program) -> None:
    """An apply leaves an on-demand model alone; `ensure` brings it, and the next apply keeps it."""
    spec = declare(inside, {"a@1": {"x.txt": b"one"}})
    text = spec.read_text().replace('[models."a@1"]', '[models."a@1"]\npresence = "on-demand"')
    spec.write_text(text)
    inside.ok("apply", "-y")
    assert api.status("a@1").state == "NOT_PRESENT"
    path = api.ensure("a@1")
    inside.ok("apply", "-y")
    assert (path / "x.txt").read_bytes() == b"one"
    assert "No changes." in inside.ok("plan").stdout


def test_a_variant_that_is_not_installed_is_kept_once_ensured(inside: Program) -> None:
    """`variant=` brings just that variant, beside the default one, and apply keeps it."""
    spec = declare(inside, {"a@1": {"x.txt": b"one"}})
    head = 'variants = ["fp16", "bf16"]\ndefault_variant = "fp16"'
    spec.write_text(spec.read_text().replace('[models."a@1"]', f'[models."a@1"]\n{head}'))
    inside.ok("apply", "-y")
    path = api.ensure("a@1", "bf16")
    assert path == inside.root / "test/a@1@bf16"
    inside.ok("apply", "-y")
    assert path.is_dir()
    assert api.ensure("a@1@bf16") == api.ensure("a@1[bf16]") == path


@pytest.mark.parametrize("word", ["", ".", "specs", "specs/models.toml", "*"])
def test_only_a_model_is_a_model(inside: Program, word: str) -> None:
    """Nothing but the name of one model brings one: no empty word, no spec, no pattern of many."""
    declare(inside, {"a@1": {"x.txt": b"one"}, "b@1": {"x.txt": b"two"}})
    with pytest.raises(WanrecError) as caught:
        api.ensure(word)
    assert caught.value.code is ErrorCode.MODEL_NOT_FOUND
    assert inside.run("path", word).exit == 3
    assert inside.files() == {}


def test_a_folder_of_the_same_name_is_not_meant(inside: Program) -> None:
    """Where a MODEL is asked for, what lies in the working directory does not matter."""
    declare(inside, {"a@1": {"x.txt": b"one"}})
    (inside.project / "a").mkdir()
    assert api.ensure("a") == inside.root / "test/a@1"
    assert api.status("a").model == "a@1"


def test_a_read_only_root_answers(inside: Program) -> None:
    """A present model on a root mounted read-only: its path, no lock, nothing written."""
    declare(inside, {"a@1": {"x.txt": b"one"}})
    inside.ok("apply", "-y")
    (inside.project / "specs/models.toml").unlink()
    root, before = str(inside.root), sorted(str(path) for path in inside.root.rglob("*"))
    code = """
import sys, wanrec
root = sys.argv[1]
try:
    open(root + "/probe", "w")
except OSError as error:
    assert error.errno == 30, error
    with wanrec.use("a@1") as path:
        print(path == wanrec.ensure("a@1"))
else:
    sys.exit("the root can be written")
"""
    # In a mount namespace of its own: nobody else sees the mount, and it ends with the process.
    mounted = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 77; shift; "$@"'
    shell = ["unshare", "-rm", "sh", "-c", mounted, "sh", root]
    done = _child(inside, *shell, sys.executable, "-P", "-c", code, root)
    if done.returncode in (1, 77) and not done.stdout:
        pytest.skip(f"no mount namespace can be had here: {done.stderr}")
    assert done.stdout.strip() == "True", done.stderr
    assert sorted(str(path) for path in inside.root.rglob("*")) == before
