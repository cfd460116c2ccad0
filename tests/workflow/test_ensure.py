"""`ensure` as an inference server calls it: in process, often, by many, on roots of every kind."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.program import Program
from support.small import declare, spec_text

from wanrec.reconcile.api import status
from wanrec.reconcile.engine import ApplyRequest, Engine
from wanrec.reconcile.errors import ErrorCode, WanrecError

COMPONENTS = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")
FIFTY = {f"{part}/{n:02}.txt": f"{part} {n}".encode() for part in COMPONENTS for n in range(10)}


def engine_of(program: Program, **env: str | None) -> Engine:
    """An engine as a server in the project directory would make it."""
    return Engine.from_config(cwd=program.project, environ=program.environment(**env))


def applied(program: Program, models: Mapping[str, Mapping[str, bytes]]) -> Engine:
    """A project whose models are all there."""
    declare(program, models)
    program.ok("apply", "-y")
    return engine_of(program)


def grown(program: Program) -> tuple[int, int, int]:
    """What must not grow: bytes of the state, entries below the root, open descriptors."""
    return (
        (program.root / ".wanrec/state.json").stat().st_size,
        sum(1 for _ in program.root.rglob("*")),
        len(os.listdir("/proc/self/fd")),
    )


def rotten(program: Program, address: str, place: str) -> Path:
    """Turn one byte and keep every stat the record knows, as a failing disk would."""
    path = program.root / place
    path.chmod(0o644)
    before = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    state = program.root / ".wanrec/state.json"
    document = json.loads(state.read_text())
    record = document["files"][address]
    record["ctime_ns"] = path.stat().st_ctime_ns
    record["verified_at"] = "2100-01-01T00:00:00.000000Z"
    state.write_text(json.dumps(document))
    return path


@pytest.mark.slow
def test_ten_thousand_calls_leave_nothing(wanrec: Program, capsys: pytest.CaptureFixture) -> None:
    """10,000 calls on a present model: no growth of state, files, descriptors or memory."""
    import tracemalloc

    engine = applied(wanrec, {"a@1": FIFTY})
    deadline = time.monotonic() + 60
    while not engine.present._seen or not engine.present._seen.settled:
        engine.ensure("a@1")
        assert time.monotonic() < deadline, "the state is never kept"
    before = grown(wanrec)
    begun = time.perf_counter()
    for _ in range(1_000):
        engine.ensure("a@1")
    each_ms = time.perf_counter() - begun
    tracemalloc.start()
    engine.ensure("a@1")
    memory = tracemalloc.get_traced_memory()[0]
    for _ in range(10_000):
        engine.ensure("a@1")
    growth = tracemalloc.get_traced_memory()[0] - memory
    tracemalloc.stop()
    assert grown(wanrec) == before
    assert growth < 64 * 1024
    with capsys.disabled():
        sys.stdout.write(f"\nensure of a present 50-file model: {each_ms:.2f} ms a call\n")


def test_a_kept_state_is_dropped_when_it_changes(wanrec: Program) -> None:
    """An engine that has answered for long notices what another process applied since."""
    engine = applied(wanrec, {"a@1": {"x.txt": b"one"}})
    deadline = time.monotonic() + 60
    while not engine.present._seen or not engine.present._seen.settled:
        engine.ensure("a@1")
        assert time.monotonic() < deadline, "the state is never kept"
    declare(wanrec, {"a@1": {"x.txt": b"two"}, "b@1": {"y.txt": b"y"}})
    wanrec.ok("apply", "-y")
    assert (engine.ensure("a@1") / "x.txt").read_bytes() == b"two"
    assert (engine.ensure("b@1") / "y.txt").read_bytes() == b"y"


def test_a_damaged_file_is_seen_at_the_next_call(wanrec: Program) -> None:
    """Another size, or a file that is gone, is mended though the state itself was kept."""
    engine = applied(wanrec, {"a@1": {"x.txt": b"one", "d/y.txt": b"two"}})
    path = engine.ensure("a@1")
    (path / "x.txt").unlink()
    (path / "d/y.txt").chmod(0o644)
    (path / "d/y.txt").write_bytes(b"short")
    assert engine.ensure("a@1") == path
    assert (path / "x.txt").read_bytes() == b"one"
    assert (path / "d/y.txt").read_bytes() == b"two"


def test_a_damaged_requirement_is_mended_too(wanrec: Program) -> None:
    """A model is whole when what it requires is whole."""
    declare(wanrec, {"base@1": {"x.txt": b"base"}, "lora@1": {"y.txt": b"lora"}})
    spec = wanrec.project / "specs/models.toml"
    spec.write_text(
        spec.read_text().replace('[models."lora@1"]', '[models."lora@1"]\nrequires = ["base@1"]')
    )
    wanrec.ok("apply", "-y")
    engine = engine_of(wanrec)
    engine.ensure("lora@1")
    (wanrec.root / "test/base@1/x.txt").unlink()
    engine.ensure("lora@1")
    assert (wanrec.root / "test/base@1/x.txt").read_bytes() == b"base"


def test_a_touched_file_is_hashed_and_recorded(wanrec: Program) -> None:
    """Other clocks, same bytes: hashed once, recorded, and believed from then on."""
    engine = applied(wanrec, {"a@1": {"x.txt": b"one"}})
    path = engine.ensure("a@1")
    os.utime(path / "x.txt", ns=(1, 1))
    before = (path / "x.txt").stat().st_ino
    engine.ensure("a@1")
    assert (path / "x.txt").stat().st_ino == before
    assert engine.state().files["a@1::x.txt"].mtime_ns == 1


def test_force_finds_what_no_stat_tells(wanrec: Program) -> None:
    """Rot under an unchanged stat: believed by default, found and mended with `force`."""
    applied(wanrec, {"a@1": {"x.txt": b"one", "y.txt": b"two"}})
    path = rotten(wanrec, "a@1::x.txt", "test/a@1/x.txt")
    engine = engine_of(wanrec)
    engine.ensure("a@1")
    assert path.read_bytes() == b"on!"
    engine.ensure("a@1", force=True)
    assert path.read_bytes() == b"one"


@pytest.mark.parametrize("saved", [False, True])
def test_deep_mends_what_no_stat_tells(wanrec: Program, saved: bool) -> None:
    """`apply --deep`, and a saved `plan --deep`, replace the rotten file; then all is done."""
    applied(wanrec, {"a@1": {"x.txt": b"one"}})
    path = rotten(wanrec, "a@1::x.txt", "test/a@1/x.txt")
    if saved:
        wanrec.ok("plan", "--deep", "--out", "p.plan")
        assert "1 replaced" in wanrec.ok("apply", "p.plan").stdout
        assert "Already applied." in wanrec.ok("apply", "p.plan").stdout
    else:
        assert "1 replaced" in wanrec.ok("apply", "--deep", "-y").stdout
    assert path.read_bytes() == b"one"
    assert "No changes." in wanrec.ok("plan", "--deep").stdout


def test_without_specs_the_state_answers(wanrec: Program) -> None:
    """A present model needs no spec; touched bytes are hashed then, wrong ones refused."""
    engine = applied(wanrec, {"a@1": {"x.txt": b"one"}})
    (wanrec.project / "specs/models.toml").unlink()
    path = engine.ensure("a@1")
    os.utime(path / "x.txt", ns=(1, 1))
    assert engine.ensure("a@1") == path
    (path / "x.txt").chmod(0o644)
    (path / "x.txt").write_bytes(b"two")
    with pytest.raises(WanrecError) as caught:
        engine.ensure("a@1")
    assert caught.value.code is ErrorCode.MODEL_NOT_FOUND
    assert caught.value.summary.startswith("a@1 is recorded but not whole")


def test_without_specs_the_state_tells_the_status(wanrec: Program) -> None:
    """`status` of a recorded model needs no spec; of one nobody recorded it says so."""
    applied(wanrec, {"a@1": {"x.txt": b"one", "y.txt": b"two"}})
    (wanrec.project / "specs/models.toml").unlink()
    engine = engine_of(wanrec)
    assert (status("a", engine=engine).state, status("a@1", engine=engine).path) == (
        "COMPLETE",
        "test/a@1",
    )
    (wanrec.root / "test/a@1/x.txt").unlink()
    found = status("a@1", engine=engine)
    assert (found.state, found.missing_files, found.bytes_needed) == ("PARTIAL", ("x.txt",), 3)
    with pytest.raises(WanrecError) as caught:
        status("b@1", engine=engine)
    assert caught.value.code is ErrorCode.MODEL_NOT_FOUND


def test_a_file_from_the_future_can_be_used(wanrec: Program) -> None:
    """A clock that is ahead is never believed, so the file is hashed; `use` still gets in."""
    engine = applied(wanrec, {"a@1": {"x.txt": b"one"}})
    ahead = time.time_ns() + 10**15
    os.utime(wanrec.root / "test/a@1/x.txt", ns=(ahead, ahead))
    with engine.use("a@1") as path:
        assert (path / "x.txt").read_bytes() == b"one"


def test_offline_brings_from_local_sources_only(wanrec: Program) -> None:
    """`offline=True` takes a model from a folder, and says OFFLINE of one from the network."""
    declare(wanrec, {"a@1": {"x.txt": b"one"}})
    far = spec_text({"far@1": {"x.txt": b"far away"}})
    wanrec.write("specs/far.toml", far.replace("local://../mirror", "https://models.invalid"))
    engine = engine_of(wanrec)
    assert (engine.ensure("a@1", offline=True) / "x.txt").read_bytes() == b"one"
    with pytest.raises(WanrecError) as caught:
        engine.ensure("far@1", offline=True)
    assert caught.value.code is ErrorCode.OFFLINE


def test_waiting_for_another_ensure_ends(wanrec: Program) -> None:
    """While somebody else brings the model: LOCK_TIMEOUT at the limit, INTERRUPTED when stopped."""
    declare(wanrec, {"a@1": {"x.txt": b"one"}})
    engine = engine_of(wanrec)
    stopped = ApplyRequest()
    stopped.stop.set()
    with engine.opened() as (_, store), store.locks.acquire("ensure-model-a@1", 0, "ensure"):
        for request, code in (
            (ApplyRequest(lock_timeout=0.01), ErrorCode.LOCK_TIMEOUT),
            (stopped, ErrorCode.INTERRUPTED),
        ):
            with pytest.raises(WanrecError) as caught:
                engine.ensure("a@1", request=request)
            assert caught.value.code is code
    assert (engine.ensure("a@1") / "x.txt").read_bytes() == b"one"
