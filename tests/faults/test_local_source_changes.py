"""A local source that changes while it is read is refused (fault matrix row 36)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from wanrec.providers.base import ProviderContext, TransferEvent
from wanrec.providers.limits import MIB, Limits
from wanrec.providers.testing import FetchHarness, Served
from wanrec.reconcile.errors import ErrorCode, WanrecError

CONTENT = bytes(range(256)) * 8192 * 2


@pytest.fixture(autouse=True)
def _without_clones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that clones has no midst of a copy in which anything could change."""
    monkeypatch.setattr("wanrec.providers.copying._clone", lambda source, part: False)


def _append(file: Path) -> None:
    with file.open("ab") as stream:
        stream.write(b"more")


def _cut(file: Path) -> None:
    os.truncate(file, 100)


def _rewrite_ahead(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"!")


def _rewrite_behind_with_old_mtime(file: Path) -> None:
    before = file.stat()
    with file.open("r+b") as stream:
        stream.write(b"!")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = [_append, _cut, _rewrite_ahead, _rewrite_behind_with_old_mtime]


class _ChangingHarness(FetchHarness):
    """Changes the source once, at the first progress event: in the midst of the copy."""

    def __init__(self, root: Path, change: Callable[[Path], None], file: Path) -> None:
        super().__init__(root, limits=Limits(bwlimit=8 * MIB, progress_interval_s=0.0))
        self.changed = 0

        def once(kind: TransferEvent) -> None:
            if kind is TransferEvent.PROGRESS and not self.changed:
                self.changed += 1
                change(file)

        self.react = once


def _serve(tmp_path: Path, name: str) -> Served:
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.bin").write_bytes(CONTENT)
    return f"local://{name}", ProviderContext(base=tmp_path)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("known", [True, False], ids=["pinned", "unpinned"])
def test_change_during_the_copy_is_refused(
    tmp_path: Path, change: Callable[[Path], None], known: bool
) -> None:
    """However it changes, and whether or not its hash is known, nothing lands."""
    served = _serve(tmp_path, "source")
    harness = _ChangingHarness(tmp_path / "root", change, tmp_path / "source" / "a.bin")
    with pytest.raises(WanrecError) as caught:
        harness.fetch("a.bin", CONTENT if known else None, served)
    assert harness.changed == 1
    assert caught.value.code is ErrorCode.SOURCE_CHANGED
    assert harness.staged() == {}
    assert harness.partial() == []


def test_the_next_source_delivers(tmp_path: Path) -> None:
    """A source that changes is one failover; an untouched one delivers."""
    sources = [_serve(tmp_path, "busy"), _serve(tmp_path, "calm")]
    harness = _ChangingHarness(tmp_path / "root", _append, tmp_path / "busy" / "a.bin")
    fetched = harness.fetch("a.bin", CONTENT, *sources)
    assert fetched.source == "local://calm"
    assert harness.kinds() == [TransferEvent.FAILOVER]


def test_replacing_the_name_does_not_disturb_an_open_source(tmp_path: Path) -> None:
    """A new file renamed over the source leaves the one being read whole; its bytes land."""
    served = _serve(tmp_path, "source")

    def replace(file: Path) -> None:
        other = file.with_name("new")
        other.write_bytes(b"new")
        keep = file.with_name("old")  # keeps the inode's link count, so its ctime moves only here
        os.rename(file, keep)
        os.rename(other, file)

    harness = _ChangingHarness(tmp_path / "root", replace, tmp_path / "source" / "a.bin")
    try:
        fetched = harness.fetch("a.bin", CONTENT, served)
    except WanrecError as error:  # a rename moves ctime on some file systems: refusing is right too
        assert error.code is ErrorCode.SOURCE_CHANGED
        assert harness.staged() == {}
    else:
        assert harness.staged() == {fetched.sha256: CONTENT}
