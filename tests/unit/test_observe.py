"""The disk as facts: what is trusted, hashed, foreign, staged, and what cannot be looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.recorded_root import digest_of, recorded, written

from wanrec.reconcile.disk import Root
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import EntryKind, FileSpec, Observed
from wanrec.reconcile.observe import STAGED_BLOBS, observe
from wanrec.state.model import State, files_by_model

KEY = "m@1"
HOME = "wan22/m@1"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Root]:
    """A root with one model of three files."""
    written(
        tmp_path,
        {f"{HOME}/a": b"aaaa", f"{HOME}/vae/b": b"bbbbb", f"{HOME}/vae/deep/c": b"cc"},
    )
    with Root.open(tmp_path) as root:
        yield root


def seen(
    root: Root, state: State | None = None, wanted: dict[str, int | None] | None = None, **how: Any
) -> Observed:
    """Observe the one model."""
    specs = {path: FileSpec(path=path, size=size) for path, size in (wanted or {}).items()}
    records = files_by_model(state.files) if state else {}
    return observe(root, {KEY: HOME}, {KEY: specs}, records, **how)


def test_recorded_files_are_trusted_by_their_stat(disk: Root) -> None:
    """Untouched recorded files are trusted, not read, and their facts are what stat says."""
    state = recorded(disk.path, {KEY: HOME})
    observed = seen(disk, state)
    assert set(observed.trusted) == set(state.files) == set(observed.facts)
    assert observed.foreign == ()
    for address, record in state.files.items():
        assert observed.facts[address] == disk.stat(record.path)
    assert observed.facts.get("m@1::other") is None


def test_links_of_trusted_files_are_counted(disk: Root) -> None:
    """A shared inode is told by its link count, trusted or not."""
    os.link(disk.path / HOME / "a", disk.path / HOME / "a2")
    observed = seen(disk, recorded(disk.path, {KEY: HOME}))
    assert observed.facts["m@1::a"].nlink == 2
    assert observed.facts["m@1::vae/b"].nlink == 1


def test_touched_files_are_facts_without_a_hash(disk: Root) -> None:
    """A doubtful recorded file is not read at plan time: apply verifies it."""
    state = recorded(disk.path, {KEY: HOME})
    os.utime(disk.path / HOME / "a")
    observed = seen(disk, state)
    assert "m@1::a" not in observed.trusted
    assert observed.facts["m@1::a"].sha256 is None


def test_deep_reads_everything(disk: Root) -> None:
    """Deep: every file that is there is hashed, names of one inode get the same answer."""
    os.link(disk.path / HOME / "a", disk.path / HOME / "a2")
    state = recorded(disk.path, {KEY: HOME})
    (disk.path / HOME / "vae" / "b").write_bytes(b"BBBBB")
    observed = seen(disk, state, deep=True)
    hashes = {address: fact.sha256 for address, fact in observed.facts.items()}
    assert hashes == {
        "m@1::a": digest_of(b"aaaa"),
        "m@1::a2": digest_of(b"aaaa"),
        "m@1::vae/b": digest_of(b"BBBBB"),
        "m@1::vae/deep/c": digest_of(b"cc"),
    }
    assert not observed.trusted


def test_unrecorded_files_are_read_when_they_may_be_the_wanted_ones(disk: Root) -> None:
    """Only a file at a wanted path whose size fits is worth reading."""
    observed = seen(disk, wanted={"a": 4, "vae/b": 99, "vae/deep/c": None, "none": 1})
    hashes = {address: fact.sha256 for address, fact in observed.facts.items()}
    assert hashes == {
        "m@1::a": digest_of(b"aaaa"),
        "m@1::vae/b": None,
        "m@1::vae/deep/c": digest_of(b"cc"),
    }


def test_what_nobody_names_is_foreign(disk: Root) -> None:
    """Files and links in a model directory that neither state nor spec names, at any depth."""
    state = recorded(disk.path, {KEY: HOME})
    written(disk.path, {f"{HOME}/mine": b"1", f"{HOME}/vae/mine": b"1", f"{HOME}/my/own/x": b"1"})
    (disk.path / HOME / "link").symlink_to("a")
    (disk.path / HOME / "bare").mkdir()
    written(disk.path, {"wan22/other@1/x": b"1", "elsewhere/y": b"1"})
    observed = seen(disk, state)
    assert observed.foreign == tuple(
        f"{HOME}/{name}" for name in ("link", "mine", "my/own/x", "vae/mine")
    )


def test_odd_entries_are_facts(disk: Root) -> None:
    """A folder, pipe, link or file in the way of a wanted file is told, and nothing is opened."""
    os.mkfifo(disk.path / HOME / "pipe")
    (disk.path / HOME / "link").symlink_to("/etc/passwd")
    (disk.path / HOME / "out").symlink_to("/etc")
    wanted = dict.fromkeys(("pipe", "link", "vae", "out/passwd", "a/inside", "none/x"), None)
    observed = seen(disk, wanted=wanted, deep=True)
    assert {address[5:]: fact.kind for address, fact in observed.facts.items()} == {
        "pipe": EntryKind.OTHER,
        "link": EntryKind.SYMLINK,
        "vae": EntryKind.DIRECTORY,
        "out/passwd": EntryKind.SYMLINK,
        "a/inside": EntryKind.OTHER,
    }


def test_missing_model_has_no_facts(tmp_path: Path) -> None:
    """Where nothing lies there is no fact, no foreign file and no error."""
    with Root.open(tmp_path) as root:
        observed = seen(root, wanted={"a": 1, "b/c": 2})
    assert len(observed.facts) == 0
    assert observed.foreign == ()


def test_one_unreadable_file_does_not_hide_the_others(
    disk: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that cannot be read is a fact with a reason; the others are hashed."""
    real = Root.open_read

    def fails_once(self: Root, rel: str) -> int:
        if rel.endswith("vae/b"):
            raise WanrecError(ErrorCode.FILESYSTEM_ERROR, "x", detail="Input/output error")
        return real(self, rel)

    monkeypatch.setattr(Root, "open_read", fails_once)
    observed = seen(disk, recorded(disk.path, {KEY: HOME}), deep=True)
    broken = observed.facts["m@1::vae/b"]
    assert (broken.kind, broken.error) == (EntryKind.UNREADABLE, "Input/output error")
    assert observed.facts["m@1::a"].sha256 == digest_of(b"aaaa")


def test_recorded_place_counts(disk: Root) -> None:
    """A recorded file is looked for where its record says, not where the model would lie now."""
    state = recorded(disk.path, {KEY: HOME})
    observed = observe(
        disk,
        {KEY: "renamed/m@1"},
        {KEY: {"a": FileSpec(path="a", size=4)}},
        files_by_model(state.files),
    )
    assert set(observed.trusted) == set(state.files)
    assert observed.foreign == ()


def test_stage_is_listed(disk: Root) -> None:
    """Verified bytes of an earlier run are known by their hash; other names are not."""
    written(
        disk.path,
        {
            f"{STAGED_BLOBS}/{'a' * 64}": b"12345",
            f"{STAGED_BLOBS}/{'A' * 64}": b"1",
            f"{STAGED_BLOBS}/short": b"1",
        },
    )
    assert dict(seen(disk).staged) == {"a" * 64: 5}
