"""Locks against the things that break locks: kills, stops, threads, forks, links, deletions.

Holders are real processes; a test is told by a line on their standard output when the lock is
held, and lets them go by closing their standard input.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.state import lock_info
from wanrec.state.file import FileStore
from wanrec.state.lock import HeldLock, LockRegistry
from wanrec.state.run import RunHeader
from wanrec.state.testing import sample_commit

HOLDER = """
import pathlib, sys
from wanrec.state.lock import LockRegistry
locks = LockRegistry(pathlib.Path(sys.argv[1]))
kind, name = sys.argv[2:4]
held = locks.use(name, 5) if kind == "use" else locks.acquire(name, 5, "apply", run="r1")
print("held", flush=True)
sys.stdin.read()
held.release()
"""


@contextmanager
def holder(
    directory: Path, name: str = "model-a@1", kind: str = "acquire"
) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lock inside the block, unless the test kills it first."""
    command = [sys.executable, "-c", HOLDER, str(directory), kind, name]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)


@pytest.fixture
def locks(tmp_path: Path) -> LockRegistry:
    """The locks of an empty root."""
    return LockRegistry(tmp_path / "locks")


def refusal(action: Callable[[], object]) -> WanrecError:
    """The error that an action raises."""
    with pytest.raises(WanrecError) as error:
        action()
    return error.value


def in_thread(action: Callable[[], object]) -> list[object]:
    """Run in another thread; the result or the WanrecError, as a list of one."""
    result: list[object] = []

    def call() -> None:
        try:
            result.append(action())
        except WanrecError as error:
            result.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(30)
    return result


def test_held_lock_is_seen_and_freed(locks: LockRegistry) -> None:
    """A lock is listed with its holder while it is held, and gone from the list after."""
    with locks.acquire("model-a@1", 0, "apply", run="r9") as held:
        held.check()
        (info,) = locks.list_locks()
        assert (info.name, info.pid, info.operation, info.run) == (
            "model-a@1",
            os.getpid(),
            "apply",
            "r9",
        )
        assert locks.is_held("model-a@1")
    assert locks.list_locks() == ()
    assert not locks.is_held("model-a@1")
    assert not held.held
    assert Path(held.path).exists(), "a lock file is never unlinked"
    held.release()


def test_timeout_names_the_holder(locks: LockRegistry) -> None:
    """Who waits in vain learns pid, host, operation and since when."""
    with holder(locks.directory) as process:
        error = refusal(lambda: locks.acquire("model-a@1", 0.2, "apply"))
        info = locks.holder("model-a@1")
    assert error.code is ErrorCode.LOCK_TIMEOUT
    assert f"process {process.pid} on {lock_info.host_name()}" in error.summary
    assert "apply, since 20" in error.summary
    assert info is not None
    assert info.pid == process.pid


def test_waiter_gets_the_lock_when_it_is_freed(locks: LockRegistry) -> None:
    """A waiting acquire succeeds once the holder lets go."""
    with holder(locks.directory) as process:
        threading.Timer(0.05, lambda: process.stdin and process.stdin.close()).start()
        with locks.acquire("model-a@1", 30, "apply") as held:
            held.check()


def test_killed_holder_frees_at_once(locks: LockRegistry) -> None:
    """Kill -9: the next one takes over without waiting, whatever the stale info says."""
    with holder(locks.directory) as process:
        process.kill()
        process.wait(60)
        assert locks.list_locks() == ()
        assert lock_info.read(locks.path("model-a@1")) is not None, "the killed one's advice"
        with locks.acquire("model-a@1", 0, "apply") as held:
            held.check()


def test_stopped_holder_is_never_robbed(locks: LockRegistry) -> None:
    """SIGSTOP: LOCK_TIMEOUT that names the pid; the lock stays the holder's."""
    with holder(locks.directory) as process:
        process.send_signal(signal.SIGSTOP)
        error = refusal(lambda: locks.acquire("model-a@1", 0.3, "apply"))
        assert error.code is ErrorCode.LOCK_TIMEOUT
        assert str(process.pid) in error.summary
        assert locks.is_held("model-a@1")


def test_two_threads_exclude_each_other(locks: LockRegistry) -> None:
    """Two threads, two registries, one process: the second waits like a stranger."""
    other = LockRegistry(locks.directory)
    with locks.acquire("model-a@1", 0, "apply"):
        (error,) = in_thread(lambda: other.acquire("model-a@1", 0.05, "apply"))
        assert isinstance(error, WanrecError)
        assert error.code is ErrorCode.LOCK_TIMEOUT
        assert f"process {os.getpid()}" in error.summary
        assert in_thread(lambda: other.try_acquire("model-a@1", "x")) == [None]
        with holder(locks.directory, "model-b@1"):
            assert locks.is_held("model-a@1")
    (held,) = in_thread(lambda: other.acquire("model-a@1", 0, "apply"))
    assert isinstance(held, HeldLock)
    held.release()


def test_many_threads_count_to_the_end(locks: LockRegistry, tmp_path: Path) -> None:
    """An unprotected read-add-write by eight threads and two processes loses no step."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    script = (
        "import pathlib, sys, threading\n"
        "from wanrec.state.lock import LockRegistry\n"
        "locks, counter = LockRegistry(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2])\n"
        "def work():\n"
        "    for _ in range(10):\n"
        "        with locks.acquire('state', 60, 'count'):\n"
        "            counter.write_text(str(int(counter.read_text()) + 1))\n"
        "threads = [threading.Thread(target=work) for _ in range(4)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
    )
    command = [sys.executable, "-c", script, str(locks.directory), str(counter)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(90) for process in processes] == [0, 0]
    assert counter.read_text() == "80"


def test_garbage_collected_lock_object_keeps_the_lock(locks: LockRegistry) -> None:
    """A caller that drops its lock object drops no lock."""
    locks.acquire("model-a@1", 0, "apply")
    gc.collect()
    assert locks.is_held("model-a@1")
    assert child_takes(locks.path("model-a@1")) is False


def child_takes(path: str) -> bool:
    """True when a plain record lock can be taken on the file by another process."""
    script = (
        "import fcntl, sys\n"
        "try:\n"
        "    fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except OSError:\n"
        "    sys.exit(3)\n"
    )
    return subprocess.run([sys.executable, "-c", script, path], check=False).returncode == 0


def test_looking_drops_nothing(locks: LockRegistry) -> None:
    """Asking about a lock in every way leaves it held (closing a descriptor would drop it)."""
    with locks.acquire("model-a@1", 0, "apply"):
        locks.list_locks()
        locks.is_held("model-a@1")
        locks.holder("model-a@1")
        in_thread(lambda: LockRegistry(locks.directory).list_locks())
        locks.try_acquire("model-a@1", "x")
        assert not child_takes(locks.path("model-a@1"))


def test_linked_lock_file_is_refused(locks: LockRegistry, tmp_path: Path) -> None:
    """A link at the lock's path is LOCK_UNRELIABLE, and its target is not created."""
    locks.directory.mkdir()
    Path(locks.path("state")).symlink_to(tmp_path / "outside")
    assert refusal(lambda: locks.acquire("state", 0, "apply")).code is ErrorCode.LOCK_UNRELIABLE
    assert not (tmp_path / "outside").exists()
    assert not locks.is_held("state")


@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
def test_lock_file_taken_away_is_noticed_by_the_holder(locks: LockRegistry, replaced: bool) -> None:
    """A holder that checks learns that its lock no longer keeps anybody out."""
    with locks.acquire("state", 0, "apply") as held:
        os.unlink(held.path)
        if replaced:
            Path(held.path).touch()
        assert refusal(held.check).code is ErrorCode.LOCK_UNRELIABLE


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc to prove the holder")
def test_lock_file_taken_away_is_noticed_by_the_next(locks: LockRegistry) -> None:
    """A second process does not get in through a deleted file while the holder lives."""
    with holder(locks.directory) as process:
        os.unlink(locks.path("model-a@1"))
        error = refusal(lambda: locks.acquire("model-a@1", 0, "apply"))
        assert error.code is ErrorCode.LOCK_UNRELIABLE
        assert str(process.pid) in error.detail
        process.kill()
        process.wait(60)
        locks.acquire("model-a@1", 0, "apply").release()


def test_info_of_a_reused_pid_is_only_advice(locks: LockRegistry) -> None:
    """Info that names a living stranger, another host or garbage blocks nobody."""
    with locks.acquire("state", 0, "apply"):
        info = Path(locks.path("state")).with_suffix(".info")
        mine = json.loads(info.read_bytes())
    for change in ({"started": "another:1", "ino": 1}, {"host": "elsewhere", "ino": 1}, None):
        info.write_text(json.dumps(mine | change) if change else "{")
        locks.acquire("state", 0, "apply").release()


FORKING = """
import os, pathlib, sys
from wanrec.state.lock import LockRegistry
locks = LockRegistry(pathlib.Path(sys.argv[1]))
held = locks.acquire("state", 5, "apply")
child = os.fork()
if child == 0:
    refused = locks.try_acquire("state", "child") is None
    inherited = held.held
    held.release()
    os._exit(0 if refused and not inherited else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
held.check()
print("held", flush=True)
sys.stdin.read()
"""


def test_forked_child_holds_nothing(locks: LockRegistry) -> None:
    """A fork neither inherits a lock nor frees the parent's by letting go of its copy."""
    # In a process with one thread: this one may have others, and forking those is asking for it.
    with subprocess.Popen(
        [sys.executable, "-c", FORKING, str(locks.directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "held\n"
        assert not child_takes(locks.path("state"))
        process.stdin.close()
        assert process.wait(60) == 0


def test_stop_ends_the_wait(locks: LockRegistry) -> None:
    """A set stop flag ends a long wait at once, as INTERRUPTED."""
    stop = threading.Event()
    with holder(locks.directory):
        threading.Timer(0.1, stop.set).start()
        started = time.monotonic()
        error = refusal(lambda: locks.acquire("model-a@1", 600, "apply", stop=stop))
        assert error.code is ErrorCode.INTERRUPTED
        assert time.monotonic() - started < 300, "that was no answer to the flag"


def test_probe_passes_on_a_working_file_system(locks: LockRegistry) -> None:
    """A child is refused the held lock; the second probe costs nothing."""
    locks.probe()
    locks.probe()
    with locks.acquire("state", 0, "apply") as held:
        held.probe()


def test_probe_does_not_queue_behind_other_processes(locks: LockRegistry) -> None:
    """Kept out by another process is proof enough; by a thread of the same process it is none."""
    with holder(locks.directory, "probe"):
        locks.probe(timeout_s=0)
    fresh = LockRegistry(locks.directory)
    with fresh.acquire("probe", 0, "probe"):
        (error,) = in_thread(lambda: fresh.probe(timeout_s=0))
    assert isinstance(error, WanrecError)
    assert error.code is ErrorCode.LOCK_TIMEOUT
    fresh.probe(timeout_s=0)


def test_probe_finds_locks_that_do_nothing(
    locks: LockRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where locking is a no-op, the probe says LOCK_UNRELIABLE."""
    monkeypatch.setattr(fcntl, "lockf", lambda *_: None)
    assert refusal(locks.probe).code is ErrorCode.LOCK_UNRELIABLE


def test_readers_share_and_keep_the_swap_out(locks: LockRegistry) -> None:
    """Many readers in many processes; the swap waits for the last and names a reader."""
    first = locks.use("a@1", 0)
    second = locks.use("a@1", 0)
    assert first is not None
    assert second is not None
    assert [(held.name, held.operation) for held in locks.list_locks()] == [("use-a@1", "use")]
    with holder(locks.directory, "a@1", "use") as process:
        (error,) = in_thread(lambda: locks.exclusive_use("a@1", 0.05))
        assert isinstance(error, WanrecError)
        first.release()
        assert locks.is_held("use-a@1")
        second.release()
        error = refusal(lambda: locks.exclusive_use("a@1", 0.1))
        assert error.code is ErrorCode.LOCK_TIMEOUT
        assert f"process {process.pid}" in error.summary
    with locks.exclusive_use("a@1", 5):
        assert in_thread(lambda: refusal(lambda: locks.use("a@1", 0.05)).code) == [
            ErrorCode.LOCK_TIMEOUT
        ]


def test_reader_without_write_permission_is_still_a_reader(locks: LockRegistry) -> None:
    """A lock file that may only be read can still be shared."""
    locks.exclusive_use("a@1", 0).release()
    path = Path(locks.path("use-a@1"))
    path.chmod(0o444)
    held = locks.use("a@1", 0)
    assert held is not None
    assert locks.is_held("use-a@1")
    held.release()


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "é" * 300, "a" * 400, "a\nb"])
def test_any_name_stays_one_file_of_the_directory(locks: LockRegistry, name: str) -> None:
    """Whatever a lock is called, its file lies in the directory."""
    with locks.acquire(name, 0, "apply"):
        pass
    files = list(locks.directory.parent.rglob("*.lock"))
    assert [path.parent for path in files] == [locks.directory]


RUN = """
import pathlib, sys
from wanrec.state.file import FileStore
from wanrec.state.run import RunHeader
from wanrec.state.testing import sample_commit
run = FileStore(pathlib.Path(sys.argv[1])).begin_run(RunHeader(operation="apply"))
run.append_busy("busy@1")
run.append_commit(sample_commit("done@1"))
print("held", flush=True)
sys.stdin.read()
"""


def test_killed_run_is_recovered_by_the_next(tmp_path: Path) -> None:
    """A run is live while its process is there, dead and whole after kill -9."""
    store = FileStore(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        view = store.read_overlay()
        assert view.busy == {"busy@1"}
        assert [info.pid for info in view.live] == [process.pid]
        assert list(view.state.models) == ["done@1"]
        assert store.recoverable_runs() == []
        process.kill()
        process.wait(60)
    view = store.read_overlay()
    assert view.busy == frozenset()
    assert [info.pid for info in view.dead] == [process.pid]
    (dead,) = store.recoverable_runs()
    dead.fold()
    assert list(FileStore(tmp_path).read_overlay().state.models) == ["done@1"]
    assert list(Path(store.locks.directory).glob("run-*")) == []


def test_concurrent_recoverers_share_the_dead(tmp_path: Path) -> None:
    """Many recoverers at once: each dead run is folded exactly once, none is lost."""
    for number in range(6):
        with FileStore(tmp_path).begin_run(RunHeader(operation="apply")) as run:
            run.append_commit(sample_commit(f"m{number}@1"))
    script = (
        "import pathlib, sys\n"
        "from wanrec.state.file import FileStore\n"
        "taken = FileStore(pathlib.Path(sys.argv[1])).recoverable_runs()\n"
        "[run.fold() for run in taken]\n"
        "print(len(taken))\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    taken = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert sum(taken) == 6
    state = FileStore(tmp_path).read()
    assert state is not None
    assert len(state.models) == 6
    assert list((tmp_path / ".wanrec" / "locks").glob("run-*")) == []
