"""The file store: the shipped contract, and what only a file can promise."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.state.clocks import InodeStep, Steps
from wanrec.state.file import FileStore
from wanrec.state.model import State
from wanrec.state.run import RunHeader
from wanrec.state.store import StateStore
from wanrec.state.testing import StateStoreContract, sample_commit

APPLY = RunHeader(operation="apply")


class TestFileStore(StateStoreContract):
    """`.wanrec/state.json`."""

    def make_store(self, root: Path) -> StateStore:
        """As the contract asks."""
        return FileStore(root, version="1.0")


class TestElsewhere(StateStoreContract):
    """`--state PATH`: the state elsewhere, journals and locks under the root."""

    def make_store(self, root: Path) -> StateStore:
        """As the contract asks."""
        place = root.parent / "states"
        place.mkdir(exist_ok=True)
        return FileStore(root, place / "state.json", version="1.0")

    @pytest.fixture
    def tmp_path(self, tmp_path: Path) -> Path:
        """A root with a neighbour for the state."""
        root = tmp_path / "root"
        root.mkdir()
        return root


def applied(root: Path, **changes: object) -> Path:
    """Carry one run through and return the state file."""
    with FileStore(root, version="1.0").begin_run(APPLY) as run:
        run.append_commit(sample_commit(**changes))
        run.fold()
    return root / ".wanrec" / "state.json"


def refusal(store: StateStore) -> ErrorCode:
    """The code that reading raises, the same with and without journals."""
    with pytest.raises(WanrecError) as plain:
        store.read()
    with pytest.raises(WanrecError) as overlay:
        store.read_overlay()
    assert plain.value.code is overlay.value.code
    return plain.value.code


def test_backup_is_the_previous_state(tmp_path: Path) -> None:
    """After each write `.backup` has exactly the bytes that were there before."""
    state = applied(tmp_path)
    before = state.read_bytes()
    applied(tmp_path, generation=2, digest="b")
    assert state.with_name("state.json.backup").read_bytes() == before
    assert state.read_bytes() != before


def test_nothing_but_the_named_files_remains(tmp_path: Path) -> None:
    """No temporary file, journal or run lock outlives its run."""
    applied(tmp_path)
    applied(tmp_path, generation=2, digest="b")
    left = {str(path.relative_to(tmp_path / ".wanrec")) for path in tmp_path.rglob("*")}
    assert left - {"."} == {
        "journal",
        "journal/folded",
        "journal/history.log",
        "locks",
        "locks/state.lock",
        "root_id",
        "state.json",
        "state.json.backup",
    }


def test_steps_are_kept_as_long_as_a_run_is_left(tmp_path: Path) -> None:
    """What a run did to clocks lies in the journal folder until the last other run has folded."""
    steps = tmp_path / ".wanrec/journal/steps"
    step = InodeStep(ino=3, dev=4, size=10, mtime_ns=1, before_ns=2, after_ns=5)
    first, second = (FileStore(tmp_path, version="1.0").begin_run(APPLY) for _ in range(2))
    for run, key in ((first, "m@1"), (second, "n@1")):
        run.append_commit(sample_commit(key))
    first.fold(Steps(steps=(step,), settled="2026-01-02T00:00:00.000000Z"))
    assert steps.is_file()
    second.fold()
    assert not steps.exists()


def test_torn_steps_stop_nobody(tmp_path: Path) -> None:
    """A file of steps that says nothing readable costs a hash later, not the fold."""
    state = applied(tmp_path)
    (tmp_path / ".wanrec/journal/steps").write_bytes(b'{"steps": [')
    applied(tmp_path, generation=2, digest="b")
    assert json.loads(state.read_bytes())["serial"] == 2


def test_replayed_commit_rewrites_nothing(tmp_path: Path) -> None:
    """Folding what is already known leaves the file byte-identical, on the same inode."""
    state = applied(tmp_path)
    before = (state.read_bytes(), state.stat().st_ino)
    applied(tmp_path)
    assert (state.read_bytes(), state.stat().st_ino) == before


def test_folded_journal_that_came_back_is_ignored(tmp_path: Path) -> None:
    """A journal that a crash brought back after its fold neither counts twice nor undoes."""
    store = FileStore(tmp_path, version="1.0")
    run = store.begin_run(APPLY)
    run.append_commit(sample_commit())
    journal = Path(store.journal_path(run.run_id))
    kept = journal.read_bytes()
    run.fold()
    journal.write_bytes(kept)
    state = (tmp_path / ".wanrec" / "state.json").read_bytes()
    view = FileStore(tmp_path).read_overlay()
    assert view.state.serial == 1
    (dead,) = FileStore(tmp_path, version="1.0").recoverable_runs()
    dead.fold()
    assert not journal.exists()
    assert (tmp_path / ".wanrec" / "state.json").read_bytes() == state


def test_lost_state_is_missing_not_fresh(tmp_path: Path) -> None:
    """`root_id` without a state is STATE_MISSING with the command that helps."""
    applied(tmp_path).unlink()
    store = FileStore(tmp_path)
    assert refusal(store) is ErrorCode.STATE_MISSING
    with pytest.raises(WanrecError) as error:
        store.read()
    assert error.value.hint == "wanrec state rebuild"


def test_fold_into_a_lost_state_is_refused(tmp_path: Path) -> None:
    """A run whose state vanished keeps its journal instead of starting afresh."""
    state = applied(tmp_path)
    store = FileStore(tmp_path)
    with store.begin_run(APPLY) as run:
        run.append_commit(sample_commit("n@1"))
        state.unlink()
        with pytest.raises(WanrecError) as error:
            run.fold()
    assert error.value.code is ErrorCode.STATE_MISSING
    assert store.run_ids() == [run.run_id]
    assert not state.exists()


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda data: b"", ErrorCode.STATE_CORRUPT),
        (lambda data: data[: len(data) // 2], ErrorCode.STATE_CORRUPT),
        (lambda data: b"[]", ErrorCode.STATE_CORRUPT),
        (lambda data: data.replace(b'"serial": 1', b'"serial": "1"'), ErrorCode.STATE_CORRUPT),
        (
            lambda data: data.replace(b'"serial": 1', b'"serial": 1,\n"serial": 1'),
            ErrorCode.STATE_CORRUPT,
        ),
        (
            lambda data: data.replace(b'"format_version": 1', b'"format_version": 2'),
            ErrorCode.STATE_NEWER,
        ),
    ],
    ids=["empty", "torn", "wrong-type", "wrong-field", "duplicate-key", "newer"],
)
def test_refused_state_is_left_as_it_is(tmp_path: Path, damage, code: ErrorCode) -> None:
    """Reading and folding refuse a bad state and change none of its bytes."""
    state = applied(tmp_path)
    state.write_bytes(damage(state.read_bytes()))
    before = state.read_bytes()
    assert refusal(FileStore(tmp_path)) is code
    with FileStore(tmp_path).begin_run(APPLY) as run:
        run.append_commit(sample_commit("n@1"))
        with pytest.raises(WanrecError) as error:
            run.fold()
    assert error.value.code is code
    assert state.read_bytes() == before
    assert not state.with_name("state.json.backup").exists()


def test_state_of_another_root_is_foreign(tmp_path: Path) -> None:
    """A state copied in from elsewhere is refused."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    applied(here)
    shutil.copy(applied(there), here / ".wanrec" / "state.json")
    assert refusal(FileStore(here)) is ErrorCode.STATE_FOREIGN


def test_state_option_with_another_roots_state_is_foreign(tmp_path: Path) -> None:
    """`--state` may not point a new root at the state of an old one."""
    new, old = tmp_path / "new", tmp_path / "old"
    new.mkdir()
    old.mkdir()
    assert refusal(FileStore(new, applied(old))) is ErrorCode.STATE_FOREIGN


def test_crash_between_state_and_root_id_heals(tmp_path: Path) -> None:
    """Killed before `root_id` has its name: the state is read, and the next write names it."""
    state = applied(tmp_path)
    root_id = state.with_name("root_id")
    root_id.rename(state.with_name("root_id.new"))
    stored = FileStore(tmp_path).read()
    assert stored is not None
    applied(tmp_path, generation=2, digest="b")
    assert root_id.read_text().strip() == stored.root_id


def test_link_in_place_of_the_state_is_refused(tmp_path: Path) -> None:
    """A link or a pipe at the state's own path is never followed and never waited on."""
    state = applied(tmp_path)
    outside = tmp_path / "outside.json"
    state.rename(outside)
    state.symlink_to(outside)
    assert refusal(FileStore(tmp_path)) is ErrorCode.UNSAFE_PATH
    state.unlink()
    os.mkfifo(state)
    assert refusal(FileStore(tmp_path)) is ErrorCode.UNSAFE_PATH


def test_linked_wanrec_directory_is_refused(tmp_path: Path) -> None:
    """`.wanrec` as a link would let writes leave the root: refused, nothing created."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / ".wanrec").symlink_to(outside)
    run = FileStore(root).begin_run(APPLY)
    with pytest.raises(WanrecError) as error:
        run.append_commit(sample_commit())
    assert error.value.code is ErrorCode.UNSAFE_PATH
    assert list(outside.iterdir()) == []


def test_torn_journal_line_is_ignored(tmp_path: Path) -> None:
    """What was whole before the torn line counts, the torn line does not."""
    store = FileStore(tmp_path)
    with store.begin_run(APPLY) as run:
        run.append_commit(sample_commit("a@1"))
        run.append_commit(sample_commit("b@1"))
    journal = Path(store.journal_path(run.run_id))
    journal.write_bytes(journal.read_bytes()[:-20])
    assert list(store.read_overlay().state.models) == ["a@1"]
    (dead,) = store.recoverable_runs()
    assert dead.journal.damaged == 1
    dead.release()


def test_journal_without_a_whole_first_line_is_dropped(tmp_path: Path) -> None:
    """A run that died while it was being born never was."""
    store = FileStore(tmp_path)
    with store.begin_run(APPLY) as run:
        run.append_busy("a@1")
    journal = Path(store.journal_path(run.run_id))
    journal.write_bytes(journal.read_bytes()[:10])
    assert store.read_overlay().fresh
    assert store.recoverable_runs() == []
    assert not journal.exists()
    assert list((tmp_path / ".wanrec" / "locks").glob("run-*.lock")) == []


def test_salvage_of_ruins(tmp_path: Path) -> None:
    """Whole lines of a torn state come back on top of the backup, the disk decides later."""
    applied(tmp_path)
    applied(tmp_path, key="n@1")
    state = tmp_path / ".wanrec" / "state.json"
    whole = FileStore(tmp_path).read()
    assert whole is not None
    data = state.read_bytes()
    state.write_bytes(data[: data.index(b'"files"')])
    saved = FileStore(tmp_path).salvage()
    assert saved.lineage == whole.lineage
    assert saved.serial == 2
    assert saved.models == whole.models
    assert list(saved.files) == ["m@1::config.json"]


def test_salvage_without_the_state(tmp_path: Path) -> None:
    """With the state gone, the backup and the journals are remembered; install writes again."""
    applied(tmp_path)
    applied(tmp_path, key="n@1").unlink()
    store = FileStore(tmp_path, version="1.0")
    saved = store.salvage()
    assert list(saved.models) == ["m@1", "n@1"]  # the second from the journal folded last
    assert saved.lineage
    state = store.install(
        attrs.evolve(
            State(),
            lineage=saved.lineage,
            serial=saved.serial + 1,
            models=saved.models,
            files=saved.files,
        )
    )
    assert FileStore(tmp_path).read() == state
    assert state.lineage == saved.lineage


def test_salvage_refuses_a_newer_state(tmp_path: Path) -> None:
    """A state of a newer format is not rebuilt by an older wanrec, nor overwritten."""
    state = applied(tmp_path)
    newer = state.read_bytes().replace(b'"format_version": 1', b'"format_version": 9')
    state.write_bytes(newer)
    with pytest.raises(WanrecError) as error:
        FileStore(tmp_path).salvage()
    assert error.value.code is ErrorCode.STATE_NEWER
    with pytest.raises(WanrecError) as error:
        FileStore(tmp_path).install(State())
    assert error.value.code is ErrorCode.STATE_NEWER
    assert state.read_bytes() == newer


def test_install_does_not_bury_a_good_backup(tmp_path: Path) -> None:
    """Rebuilding over a corrupt state keeps the last good backup."""
    applied(tmp_path)
    state = applied(tmp_path, key="n@1")
    backup = state.with_name("state.json.backup")
    good = backup.read_bytes()
    whole = FileStore(tmp_path).read()
    assert whole is not None
    state.write_bytes(b"{")
    FileStore(tmp_path).install(whole)
    assert backup.read_bytes() == good


def test_readers_of_a_read_only_root(tmp_path: Path) -> None:
    """Reading state and overlay works without write permission and leaves no trace."""
    applied(tmp_path)
    with FileStore(tmp_path).begin_run(APPLY) as run:
        run.append_commit(sample_commit("n@1"))
    folders = [path for path in tmp_path.rglob("*") if path.is_dir()]
    for path in folders:
        path.chmod(0o555)
    before = sorted((str(p), p.lstat().st_mtime_ns) for p in tmp_path.rglob("*"))
    view = FileStore(tmp_path).read_overlay()
    assert list(view.state.models) == ["m@1", "n@1"]
    assert len(view.dead) == 1
    assert sorted((str(p), p.lstat().st_mtime_ns) for p in tmp_path.rglob("*")) == before
    for path in folders:
        path.chmod(0o755)


def test_no_room_keeps_state_and_journal(tmp_path: Path) -> None:
    """A write that the disk refuses leaves the old state, the journal and no temporary file."""
    state = applied(tmp_path)
    before = state.read_bytes()
    script = (
        "import pathlib, resource, signal, sys\n"
        "from wanrec.state.file import FileStore\n"
        "from wanrec.state.run import RunHeader\n"
        "from wanrec.state.testing import sample_commit\n"
        "from wanrec.reconcile.errors import WanrecError\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "run = FileStore(root).begin_run(RunHeader(operation='apply'))\n"
        "for number in range(40):\n"
        "    run.append_commit(sample_commit(f'n{number}@1'))\n"
        "size = pathlib.Path(run._store.journal_path(run.run_id)).stat().st_size\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        "    run.fold()\n"
        "except WanrecError as error:\n"
        "    print(error.code)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "NO_SPACE"
    assert state.read_bytes() == before
    assert list(state.parent.glob("*.tmp")) == []
    (dead,) = FileStore(tmp_path).recoverable_runs()
    assert len(dead.commits) == 40
    dead.fold()
    assert len(json.loads(state.read_bytes())["models"]) == 41


@pytest.mark.strace
def test_writes_are_synced_in_order(tmp_path: Path) -> None:
    """The new state is synced before it gets its name, the directory after."""
    script = (
        "import pathlib, sys\n"
        "from wanrec.state.file import FileStore\n"
        "FileStore(pathlib.Path(sys.argv[1]))._write_bytes(b'x', keep_previous=True)\n"
    )
    applied(tmp_path)
    trace = tmp_path / "trace"
    calls = "trace=fsync,fdatasync,rename,renameat,renameat2"
    command = ["strace", "-f", "-y", "-qq", "-o", str(trace), "-e", calls]
    subprocess.run([*command, sys.executable, "-c", script, str(tmp_path)], check=True)
    # the interpreter's own files (coverage data, for one) are not our promise
    lines = [line for line in trace.read_text().splitlines() if str(tmp_path) in line]
    seen = [line.split("(")[0].split()[-1] for line in lines]
    assert seen == ["rename", "fsync", "rename", "fsync"], lines
    assert ".backup" in lines[0]
    assert "state.json." in lines[1]
    assert "state.json" in lines[2]
    assert lines[3].split("<")[1].startswith(str(tmp_path / ".wanrec"))
