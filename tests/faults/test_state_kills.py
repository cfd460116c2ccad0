"""kill -9 before every call that makes a state durable: old or new, and nothing lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wanrec.state.file import FileStore
from wanrec.state.run import RunHeader
from wanrec.state.testing import sample_commit

pytestmark = pytest.mark.strace

WRITER = """
import pathlib, sys
from wanrec.state.file import FileStore
from wanrec.state.run import RunHeader
from wanrec.state.testing import sample_commit
store = FileStore(pathlib.Path(sys.argv[1]), version="1.0")
for dead in store.recoverable_runs():
    dead.fold()
with store.begin_run(RunHeader(operation="apply")) as run:
    run.append_commit(sample_commit("new@1"))
    run.fold()
"""


def write(root: Path, *wrapper: str) -> int:
    """Run the writer as a process of its own, under a wrapper; its exit code."""
    command = [*wrapper, sys.executable, "-B", "-c", WRITER, str(root)]
    return subprocess.run(command, capture_output=True, check=False).returncode


@pytest.mark.parametrize("fresh", [True, False], ids=["first-write", "later-write"])
@pytest.mark.parametrize("call", ["rename", "link", "unlink", "fsync", "fdatasync"])
def test_killed_before_any_step(tmp_path: Path, call: str, fresh: bool) -> None:
    """At each kill point a reader finds the old or the new state, and a re-run completes it."""
    points = 0
    for number in range(1, 60):
        root = tmp_path / f"{call}-{number}"
        root.mkdir()
        if not fresh:
            with FileStore(root).begin_run(RunHeader(operation="apply")) as run:
                run.append_commit(sample_commit("old@1"))
                run.fold()
        expected = [] if fresh else ["old@1"]
        inject = f"inject={call}:signal=KILL:when={number}"
        trace = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", f"trace={call}"]
        code = write(root, *trace, "-e", inject)
        state = FileStore(root).read()
        assert (list(state.models) if state else []) in (expected, ["new@1", *expected])
        view = FileStore(root).read_overlay()
        assert set(expected) <= set(view.state.models)
        assert write(root) == 0
        final = FileStore(root).read()
        assert final is not None
        assert list(final.models) == sorted(["new@1", *expected])
        assert FileStore(root).run_ids() == []
        assert list((root / ".wanrec" / "locks").glob("run-*")) == []
        assert list((root / ".wanrec").rglob("*.tmp")) == []
        if code == 0:
            break
        assert code in (-9, 137), (tmp_path / "trace").read_text()
        points += 1
    assert points < 58
