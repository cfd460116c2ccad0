"""What an apply says and leaves when the disk or a signal gets in its way, on real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.faults import (
    MODEL,
    NEW,
    OLD,
    QUIET,
    end_state,
    inject,
    leftovers,
    models_on_disk,
    new_program,
    want,
)
from support.program import Program, command_line

from wanrec.state import codec

HOME = f"wan22/{MODEL}"

as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to change user"
)


@pytest.fixture
def upgrade(wanrec: Program) -> Program:
    """A project whose model is applied, and whose spec wants the next version of it."""
    want(wanrec, tiny=OLD)
    wanrec.ok("apply", "-y", env=QUIET)
    want(wanrec, tiny=NEW)
    return wanrec


def code_of(stderr: str) -> list[str]:
    """The error codes a run printed."""
    return [part.partition("]")[0] for part in stderr.split("Error[")[1:]]


def recovers(program: Program) -> None:
    """One more apply ends whole and clean."""
    program.ok("apply", "-y")
    assert models_on_disk(program) == {MODEL: NEW}
    assert leftovers(program) == []
    program.ok("drift", "--deep")
    assert program.ok("plan").stdout.startswith("No changes.")


def state_bytes(program: Program) -> bytes:
    """The state file as it is."""
    return (program.root / ".wanrec/state.json").read_bytes()


DISK_FAULTS = [
    # call, error, exit and code that must come of it
    pytest.param("sendfile,copy_file_range,pwrite64", "ENOSPC", "NO_SPACE", id="data-full"),
    pytest.param("sendfile,copy_file_range,pwrite64", "EDQUOT", "NO_SPACE", id="data-quota"),
    pytest.param("sendfile,copy_file_range,pwrite64", "EIO", "FILESYSTEM_ERROR", id="data-eio"),
    pytest.param("renameat2", "EROFS", "READ_ONLY", id="swap-read-only"),
    pytest.param("linkat", "ENOSPC", "NO_SPACE", id="link-full"),
    pytest.param("fdatasync", "EIO", "FILESYSTEM_ERROR", id="journal-eio"),
    pytest.param("mkdirat", "EACCES", "PERMISSION_DENIED", id="folder-denied"),
]


@pytest.mark.strace
@pytest.mark.parametrize(("call", "error", "code"), DISK_FAULTS)
def test_a_failing_disk_leaves_the_old_model(
    upgrade: Program, call: str, error: str, code: str
) -> None:
    """Exit 6 with the right code; the old files and the old state untouched; a re-run is whole."""
    before = state_bytes(upgrade)
    exit_code, out, err, fired = inject(upgrade, call, f"error={error}", "apply", "-y")
    assert fired
    assert exit_code == 6, f"{out}\n{err}"
    assert code_of(err)[:1] == [code]
    assert models_on_disk(upgrade) == {MODEL: OLD}
    assert state_bytes(upgrade) == before
    recovers(upgrade)


@pytest.mark.strace
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_flush_that_fails_is_never_trusted(upgrade: Program, number: int) -> None:
    """EIO at any fsync of the acting thread: an error, never a half model; a re-run is whole."""
    what = f"error=EIO:when={number}"
    exit_code, out, err, fired = inject(upgrade, "fsync", what, "apply", "-y", "--parallelism", "1")
    assert fired
    assert exit_code in (6, 9), f"{out}\n{err}"
    assert "FILESYSTEM_ERROR" in code_of(err)
    assert models_on_disk(upgrade) in ({MODEL: OLD}, {MODEL: NEW})
    codec.decode(state_bytes(upgrade), "state.json")
    assert upgrade.run("drift").exit == 0
    recovers(upgrade)


@pytest.mark.strace
def test_a_state_that_cannot_be_written_is_folded_in_later(upgrade: Program) -> None:
    """Files landed, the state did not: exit 9, the journal kept, the next run folds it in."""
    before = state_bytes(upgrade)
    exit_code, out, err, fired = inject(upgrade, "rename", "error=ENOSPC", "apply", "-y")
    assert fired
    assert exit_code == 9, f"{out}\n{err}"
    assert "NO_SPACE" in err
    assert "wanrec apply" in err
    assert state_bytes(upgrade) == before
    assert models_on_disk(upgrade) == {MODEL: NEW}
    assert list((upgrade.root / ".wanrec/journal").glob("*.jsonl"))
    assert upgrade.run("drift").exit == 0
    recovers(upgrade)
    assert json.loads(state_bytes(upgrade))["files"].keys() == {f"{MODEL}::{p}" for p in NEW}


@pytest.mark.strace
@pytest.mark.parametrize("error", ["EXDEV", "EMLINK", "EPERM"])
def test_without_links_files_are_copied(upgrade: Program, error: str) -> None:
    """A file system that refuses links costs a copy, not the apply."""
    exit_code, out, err, fired = inject(upgrade, "linkat", f"error={error}", "apply", "-y")
    assert fired
    assert exit_code == 0, f"{out}\n{err}"
    assert models_on_disk(upgrade) == {MODEL: NEW}
    upgrade.ok("drift", "--deep")


@pytest.mark.strace
def test_too_many_open_files(wanrec: Program) -> None:
    """EMFILE below the root: exit 6 TOO_MANY_FILES, nothing at a final path, nothing left over."""
    want(wanrec, tiny=NEW)
    partial = wanrec.root / ".wanrec/partial"
    partial.mkdir(parents=True)
    exit_code, out, err, fired = inject(
        wanrec, "openat", "error=EMFILE", "apply", "-y", paths=[partial]
    )
    assert fired
    assert exit_code == 6, f"{out}\n{err}"
    assert code_of(err)[:1] == ["TOO_MANY_FILES"]
    assert models_on_disk(wanrec) == {}
    assert list(partial.iterdir()) == []
    recovers(wanrec)


def test_room_is_checked_before_the_first_byte(
    wanrec: Program, mounted: Callable[[str], Path]
) -> None:
    """A plan that does not fit: exit 6 NO_SPACE with both figures, nothing fetched."""
    want(wanrec, tiny={"big.txt": b"x" * 400_000})
    root = mounted("size=200k")
    done = wanrec.run("apply", "-y", "--root", str(root))
    assert done.exit == 6
    assert code_of(done.stderr) == ["NO_SPACE"]
    assert not list(root.glob("wan22/*"))
    assert not list(root.glob(".wanrec/partial/*"))


def test_no_inodes_left(wanrec: Program, mounted: Callable[[str], Path]) -> None:
    """Inodes run out midway: exit 6 NO_SPACE, no model; with room the same root is completed."""
    want(wanrec, tiny={f"f{n}.txt": b"x" * n for n in range(1, 40)})
    root = mounted("nr_inodes=30")
    done = wanrec.run("apply", "-y", "--root", str(root))
    assert done.exit == 6, done.stderr
    assert code_of(done.stderr)[:1] == ["NO_SPACE"]
    assert not list(root.glob("wan22/*/*"))
    subprocess.run(["mount", "-o", "remount,nr_inodes=3000", str(root)], check=True)
    wanrec.ok("apply", "-y", "--root", str(root))
    assert len(list(root.glob("wan22/*/*"))) == 39


def test_a_read_only_root(wanrec: Program, mounted: Callable[[str], Path]) -> None:
    """A read-only file system: exit 6 READ_ONLY; what is whole there still answers with 0."""
    want(wanrec, tiny=NEW)
    root = mounted("size=4m")
    wanrec.ok("apply", "-y", "--root", str(root))
    subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
    for command in (("apply", "-y"), ("plan",), ("drift",), ("ensure", MODEL)):
        wanrec.ok(*command, "--root", str(root))
    want(wanrec, tiny=OLD)
    done = wanrec.run("apply", "-y", "--root", str(root))
    assert done.exit == 6
    assert code_of(done.stderr)[:1] == ["READ_ONLY"]
    done = wanrec.run("gc", "--root", str(root))
    assert done.exit == 6
    assert "Read-only file system" in done.stderr
    assert "why:" not in done.stderr  # the summary says it all; a bare errno explains nothing


def test_the_doctor_names_a_read_only_root_once(
    wanrec: Program, mounted: Callable[[str], Path]
) -> None:
    """One cause is one failed line: what could not be tried for it is told as such, exit 6."""
    root = mounted("size=4m")
    subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
    done = wanrec.run("doctor", "--root", str(root))
    assert done.exit == 6
    assert (done.stdout + done.stderr).count("READ_ONLY") == 1
    assert done.stdout.count("not tried: the root cannot be written to") >= 5


@pytest.fixture
def for_all() -> Iterator[Path]:
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@as_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
def test_a_root_one_may_not_write(for_all: Path) -> None:
    """Without the right to write: exit 6 PERMISSION_DENIED, nothing half done."""
    program = new_program(for_all / "place")
    want(program, tiny=NEW)
    program.root.chmod(0o555)
    program.home.chmod(0o777)

    def as_nobody(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["setpriv", "--reuid", "65534", "--clear-groups", *command_line(), *words],
            cwd=program.project,
            env=program.environment(**QUIET),
            capture_output=True,
            text=True,
            check=False,
        )

    if as_nobody("--version").returncode:
        pytest.skip("the program is not installed where others may read it")
    done = as_nobody("apply", "-y")
    assert done.returncode == 6, done.stderr
    assert code_of(done.stderr)[:1] == ["PERMISSION_DENIED"]
    assert list(program.root.iterdir()) == []


@pytest.mark.parametrize("kind", ["fifo", "folder", "symlink", "parent-symlink"])
def test_what_is_no_file_is_never_followed(upgrade: Program, tmp_path: Path, kind: str) -> None:
    """A pipe, folder or link where a file should be: refused, never opened, outside untouched."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "weights.txt").write_bytes(b"theirs")
    place = upgrade.root / HOME / "vae/weights.txt"
    if kind == "parent-symlink":
        shutil.rmtree(place.parent)
        place.parent.symlink_to(outside)
    else:
        place.unlink()
        if kind == "fifo":
            os.mkfifo(place)
        elif kind == "folder":
            place.mkdir()
        else:
            place.symlink_to(outside / "weights.txt")
    done = upgrade.run("apply", "-y")
    assert done.exit in (3, 0, 9), f"{done.stdout}\n{done.stderr}"
    if done.exit:
        assert set(code_of(done.stderr)) & {"UNSAFE_PATH", "FOREIGN_FILE"}
    assert {p.name: p.read_bytes() for p in outside.iterdir()} == {"weights.txt": b"theirs"}


def test_a_shared_inode_edited_in_place_is_repaired_by_new_ones(wanrec: Program) -> None:
    """Two models share a file and one name is written to: drift names both, apply heals both."""
    want(wanrec, tiny=NEW, twin=NEW)
    wanrec.ok("apply", "-y")
    names = [wanrec.root / f"wan22/{name}@1.0.0/vae/weights.txt" for name in ("tiny", "twin")]
    if names[0].stat().st_ino != names[1].stat().st_ino:
        names[1].unlink()
        os.link(names[0], names[1])
        wanrec.ok("apply", "-y")
    broken = names[0].stat().st_ino
    names[0].chmod(0o644)
    with names[0].open("r+b") as file:
        file.write(b"X")
    found = wanrec.run("drift", "--format", "json")
    assert found.exit == 2
    assert "tiny" in found.stdout
    assert "twin" in found.stdout
    wanrec.ok("apply", "-y")
    assert models_on_disk(wanrec) == {"tiny@1.0.0": NEW, "twin@1.0.0": NEW}
    assert broken not in {name.stat().st_ino for name in names}
    wanrec.ok("drift", "--deep")


SLOW = {f"f{n}.txt": bytes([65 + n]) * 200_000 for n in range(8)}


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"]
)
def test_a_signal_stops_cleanly(wanrec: Program, number: int, code: int) -> None:
    """Stopped while fetching: its own exit code, no traceback, locks free, a re-run finishes."""
    want(wanrec, tiny=SLOW)
    with wanrec.start("apply", "-y", "--format", "json", "--bwlimit", "20KB") as running:
        assert running.stdout is not None
        for line in running.stdout:
            if json.loads(line).get("type", json.loads(line).get("event")) == "action_start":
                break
        running.send_signal(number)
        rest, err = running.communicate(timeout=60)
    assert running.returncode == code, err
    assert "Traceback" not in err
    events = [json.loads(line) for line in rest.splitlines()]
    assert {event["exit"] for event in events if "exit" in event} <= {code}
    assert {failure["exit"] for failure in events[-1]["failed"]} == {code}
    assert models_on_disk(wanrec) == {}
    assert wanrec.ok("locks", "--json").json().get("locks", []) == []
    wanrec.ok("apply", "-y", "--lock-timeout", "0")
    assert models_on_disk(wanrec) == {MODEL: SLOW}
    assert leftovers(wanrec) == []


def test_the_second_signal_ends_at_once(wanrec: Program) -> None:
    """Two signals: out at once, and nothing is worse than after a crash."""
    want(wanrec, tiny=SLOW)
    with wanrec.start("apply", "-y", "--format", "json", "--bwlimit", "50KB") as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(signal.SIGTERM)
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=60)
    assert running.returncode == 143
    wanrec.ok("apply", "-y")
    assert models_on_disk(wanrec) == {MODEL: SLOW}
    assert leftovers(wanrec) == []


def test_retired_directories_go_when_their_grace_is_over(tmp_path: Path) -> None:
    """Three upgrades without grace: nothing of the old ones stays, nothing looks touched."""
    program = new_program(tmp_path)
    for version in range(3):
        files = {"config.json": b"%d" % version, "weights.txt": b"w" * 5000}
        want(program, tiny=files)
        program.ok("apply", "-y", env={"WANREC_SWAP_GRACE": "0"})
        assert models_on_disk(program) == {MODEL: files}
    assert program.ok("plan").stdout.startswith("No changes.")
    program.ok("apply", "-y", env={"WANREC_SWAP_GRACE": "0"})
    assert list((program.root / ".wanrec/stage/tree").iterdir()) == []
    assert leftovers(program) == []
    assert program.ok("plan", "--format", "json").json()["actions"] == []
    assert end_state(program)["files"] == {f"{HOME}/{p}": d for p, d in files.items()}


def test_two_models_that_share_a_file_are_upgraded_together(wanrec: Program) -> None:
    """A link of one moves the clock of the other's file; that stops neither."""
    big = b"w" * 5000
    want(wanrec, tiny={"a.txt": b"1", "w.txt": big}, twin={"a.txt": b"2", "w.txt": big})
    wanrec.ok("apply", "-y")
    want(wanrec, tiny={"a.txt": b"3", "w.txt": big}, twin={"a.txt": b"4", "w.txt": big})
    done = wanrec.ok("apply", "-y")
    assert "2 replaced" in done.stdout
    assert "0 verified" in done.stdout
    assert wanrec.ok("plan").stdout.startswith("No changes.")
