"""State against disk: what is drift, what is only doubt, and what is neither."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest
from support.recorded_root import digest_of, recorded, rfc3339, written

from wanrec.reconcile.actions import DriftKind, DriftReport
from wanrec.reconcile.disk import Root
from wanrec.reconcile.drift import run_drift
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.state.model import State

ONE, TWO = "m@1", "n@1[fp16]"
PLACES = {ONE: "wan22/m@1", TWO: "wan22/n@1@fp16"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Root]:
    """A root with two models."""
    written(
        tmp_path,
        {
            "wan22/m@1/a": b"aaaa",
            "wan22/m@1/vae/b": b"bbbbbb",
            "wan22/n@1@fp16/c": b"cc",
        },
    )
    with Root.open(tmp_path) as root:
        yield root


@pytest.fixture
def state(disk: Root) -> State:
    """What an apply would have recorded."""
    return recorded(disk.path, PLACES)


def kinds(report: DriftReport) -> dict[str, DriftKind]:
    """Address → kind."""
    return {item.address: item.kind for item in report.items}


def flip(path: Path) -> None:
    """Change one byte in place and put size and mtime back."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def with_identity(state: State, root: Path) -> State:
    """The state as if it had recorded the files' present stat identity (ctime included)."""
    files = {}
    for address, record in state.files.items():
        st = (root / record.path).stat()
        files[address] = attrs.evolve(
            record, mtime_ns=st.st_mtime_ns, ctime_ns=st.st_ctime_ns, ino=st.st_ino
        )
    return attrs.evolve(state, files=files)


def test_untouched_root_is_clean_and_unread(disk: Root, state: State) -> None:
    """Nothing differs, nothing is read, nothing is written."""
    before = disk.walk("")
    report = run_drift(disk, state)
    assert report == DriftReport(checked=3, models=(ONE, TWO))
    assert not report.drifted
    assert disk.walk("") == before


def test_each_kind_of_drift(disk: Root, state: State) -> None:
    """Missing, another size, other bytes and another type are told apart."""
    (disk.path / "wan22/m@1/a").unlink()
    (disk.path / "wan22/m@1/vae/b").write_bytes(b"longer than before")
    (disk.path / "wan22/n@1@fp16/c").write_bytes(b"CC")
    report = run_drift(disk, state)
    assert kinds(report) == {
        "m@1::a": DriftKind.MISSING,
        "m@1::vae/b": DriftKind.SIZE,
        "n@1[fp16]::c": DriftKind.CONTENT,
    }
    missing, grown, changed = report.items
    assert (missing.found, missing.model, missing.path) == (None, ONE, "a")
    assert grown.found is not None and grown.found.size == 18
    assert changed.found is not None and changed.found.sha256 == digest_of(b"CC")
    assert changed.expected is not None and changed.expected.sha256 == digest_of(b"cc")
    assert changed.paths == ("wan22/n@1@fp16/c",)


@pytest.mark.parametrize("thing", ["link", "folder", "pipe"])
def test_another_type_is_drift_and_never_opened(disk: Root, state: State, thing: str) -> None:
    """Something that is no regular file at a recorded path, even one with the right bytes."""
    path = disk.path / "wan22/m@1/a"
    path.rename(disk.path / "moved")
    if thing == "link":
        path.symlink_to(disk.path / "moved")
    elif thing == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    assert kinds(run_drift(disk, state, deep=True)) == {"m@1::a": DriftKind.TYPE}


def test_linked_folder_is_drift(disk: Root, state: State) -> None:
    """A component folder replaced by a link to its own copy is not believed."""
    (disk.path / "wan22/m@1/vae").rename(disk.path / "vae")
    (disk.path / "wan22/m@1/vae").symlink_to(disk.path / "vae")
    assert kinds(run_drift(disk, state, deep=True)) == {"m@1::vae/b": DriftKind.TYPE}


def test_missing_directory_means_each_file(disk: Root, state: State) -> None:
    """A model directory that is gone is one finding for each of its files."""
    (disk.path / "wan22/m@1").rename(disk.path / "gone")
    report = run_drift(disk, state)
    assert kinds(report) == dict.fromkeys(("m@1::a", "m@1::vae/b"), DriftKind.MISSING)


def test_touched_clock_is_not_drift(disk: Root, state: State) -> None:
    """Only content counts: a touched file is read, and found to be the same."""
    for record in state.files.values():
        os.utime(disk.path / record.path)
    report = run_drift(disk, state)
    assert (report.items, report.suspects, report.bytes_hashed) == ((), (), 12)


def test_budget_bounds_reading(disk: Root, state: State) -> None:
    """Doubtful files beyond the budget are suspects, in address order; 0 reads nothing."""
    for record in state.files.values():
        os.utime(disk.path / record.path)
    some = run_drift(disk, state, rehash_budget=7)
    assert (some.suspects, some.bytes_hashed) == (("m@1::vae/b",), 6)
    none = run_drift(disk, state, rehash_budget=0)
    assert none.suspects == tuple(state.files)
    assert not none.drifted
    assert run_drift(disk, state, rehash_budget=None).suspects == ()


def test_restored_mtime_is_found_by_ctime(disk: Root, state: State) -> None:
    """A flipped byte with size and mtime put back still moved ctime."""
    flip(disk.path / "wan22/m@1/a")
    assert kinds(run_drift(disk, state)) == {"m@1::a": DriftKind.CONTENT}


def test_deep_finds_what_stat_cannot(disk: Root, state: State) -> None:
    """Where every stat field agrees, only reading tells, and deep reads past the budget."""
    flip(disk.path / "wan22/m@1/a")
    blind = with_identity(state, disk.path)
    assert not run_drift(disk, blind).drifted
    deep = run_drift(disk, blind, deep=True, rehash_budget=0)
    assert kinds(deep) == {"m@1::a": DriftKind.CONTENT}
    assert deep.bytes_hashed == 12


def test_racy_record_is_never_believed(disk: Root, state: State) -> None:
    """A file whose times are not older than its record is read, whatever its identity says."""
    flip(disk.path / "wan22/m@1/a")
    ctime = (disk.path / "wan22/m@1/a").stat().st_ctime_ns
    racy = with_identity(state, disk.path)
    stamp = rfc3339(datetime.fromtimestamp(ctime // 1000 / 1_000_000, UTC))
    files = {a: attrs.evolve(r, verified_at=stamp) for a, r in racy.files.items()}
    report = run_drift(disk, attrs.evolve(racy, files=files))
    assert kinds(report) == {"m@1::a": DriftKind.CONTENT}


def test_old_records_are_read_again(disk: Root, state: State) -> None:
    """Records verified longer ago than asked for are doubtful."""
    flip(disk.path / "wan22/m@1/a")
    blind = with_identity(state, disk.path)
    later = time.time_ns() + 3_600_000_000_000
    assert not run_drift(disk, blind, max_age_s=7200, now_ns=later).drifted
    assert kinds(run_drift(disk, blind, max_age_s=60, now_ns=later)) == {
        "m@1::a": DriftKind.CONTENT
    }


def test_damaged_inode_is_one_finding_with_all_names(disk: Root) -> None:
    """Names that share a damaged file are listed together, and it is read once."""
    os.link(disk.path / "wan22/m@1/a", disk.path / "wan22/n@1@fp16/a")
    state = recorded(disk.path, PLACES)
    flip(disk.path / "wan22/n@1@fp16/a")
    report = run_drift(disk, state)
    assert kinds(report) == {"m@1::a": DriftKind.CONTENT}
    assert report.items[0].paths == ("wan22/m@1/a", "wan22/n@1@fp16/a")
    assert report.bytes_hashed == 4
    (disk.path / "wan22/m@1/a").write_bytes(b"longer")
    grown = run_drift(disk, state).items
    assert [(item.kind, len(item.paths)) for item in grown] == [(DriftKind.SIZE, 2)]


def test_busy_models_are_named_not_judged(disk: Root, state: State) -> None:
    """What a live run is changing is no drift."""
    (disk.path / "wan22/m@1/a").unlink()
    written(disk.path, {"wan22/m@1/new": b"1"})
    report = run_drift(disk, state, busy={ONE})
    assert (report.items, report.busy, report.checked) == ((), (ONE,), 1)
    assert report.foreign == ()
    assert report.models == (ONE, TWO)


def test_foreign_files_are_listed(disk: Root, state: State) -> None:
    """What a model directory has and the state does not is told, and is no drift."""
    written(disk.path, {"wan22/m@1/mine": b"1", "wan22/n@1@fp16/x/y": b"1", "other/z": b"1"})
    report = run_drift(disk, state)
    assert report.foreign == ("wan22/m@1/mine", "wan22/n@1@fp16/x/y")
    assert not report.drifted


def test_selection_and_ignore_narrow_the_look(disk: Root, state: State) -> None:
    """Only selected addresses and models are judged; ignored files are counted."""
    for record in state.files.values():
        (disk.path / record.path).unlink()
    model = run_drift(disk, state, only={TWO})
    assert (tuple(kinds(model)), model.checked, model.models) == (("n@1[fp16]::c",), 1, (TWO,))
    single = run_drift(disk, state, only={"m@1::a"})
    assert (tuple(kinds(single)), single.checked) == (("m@1::a",), 1)
    rest = run_drift(disk, state, ignore=lambda address: address.endswith("::a"))
    assert tuple(kinds(rest)) == ("m@1::vae/b", "n@1[fp16]::c")
    assert (rest.ignored, rest.checked) == (1, 2)


def test_unreadable_is_not_drift(disk: Root, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that could not be looked at is listed with its reason beside complete results."""
    real = Root.open_read

    def fails_once(self: Root, rel: str) -> int:
        if rel.endswith("/b"):
            raise WanrecError(ErrorCode.FILESYSTEM_ERROR, "x", detail="Input/output error")
        return real(self, rel)

    monkeypatch.setattr(Root, "open_read", fails_once)
    flip(disk.path / "wan22/m@1/a")
    report = run_drift(disk, state, deep=True)
    assert kinds(report) == {"m@1::a": DriftKind.CONTENT}
    assert report.unreadable == (("wan22/m@1/vae/b", "Input/output error"),)
