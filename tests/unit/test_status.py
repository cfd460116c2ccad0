"""The five words of status, from what was observed."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from wanrec.reconcile.actions import ModelStatus, Status
from wanrec.reconcile.model import (
    Desired,
    DesiredModel,
    EntryKind,
    FileFact,
    FileSpec,
    Observed,
    Presence,
    Selection,
)
from wanrec.reconcile.status import model_status
from wanrec.state.model import FileRecord, ModelRecord, State

KEY = "m@1"
GOOD, OLD = "a" * 64, "b" * 64
RECORD = FileRecord(
    path="wan22/m@1/w",
    size=10,
    sha256=GOOD,
    mtime_ns=1,
    ctime_ns=1,
    ino=1,
    dev=1,
    verified_at="2026-01-02T00:00:00.000000Z",
)
STATE = State(
    models={KEY: ModelRecord(spec_sha256="", pinned=True)},
    files={
        f"{KEY}::w": RECORD,
        f"{KEY}::c": attrs.evolve(RECORD, verified_at="2026-01-01T00:00:00.000000Z"),
    },
)
THERE = FileFact(kind=EntryKind.FILE, size=10)


def desired(*more: FileSpec, **changes: Any) -> Desired:
    """One model of two files of ten bytes."""
    files = tuple(FileSpec(path=path, size=10, sha256=GOOD) for path in ("c", "w"))
    model = DesiredModel(
        key=KEY,
        id=KEY,
        name="m",
        version="1",
        variant=None,
        family="wan22",
        directory="wan22/m@1",
        files=files + more,
        sources=(),
        presence=Presence.REQUIRED,
    )
    return Desired(models=(attrs.evolve(model, **changes),))


def row(
    facts: dict[str, FileFact], wanted: Desired | None = None, state: State = STATE, **seen: Any
) -> ModelStatus:
    """The one row."""
    table = {f"{KEY}::{path}": fact for path, fact in facts.items()}
    (only,) = model_status(wanted or desired(), state, Observed(facts=table, **seen))
    return only


def test_whole_model_is_complete() -> None:
    """All files as recorded: nothing needed, the oldest verification tells the age."""
    whole = row({"c": THERE, "w": THERE})
    assert (whole.state, whole.bytes_needed, whole.bytes_present) == (Status.COMPLETE, 0, 20)
    assert whole.last_verified == "2026-01-01T00:00:00.000000Z"
    assert whole.pinned


@pytest.mark.parametrize(
    ("facts", "word", "needed"),
    [
        ({}, Status.NOT_PRESENT, 20),
        ({"c": THERE}, Status.PARTIAL, 10),
        ({"c": THERE, "w": FileFact(kind=EntryKind.FILE, size=9)}, Status.CORRUPT, 10),
        ({"c": THERE, "w": FileFact(kind=EntryKind.SYMLINK)}, Status.CORRUPT, 10),
        ({"c": THERE, "w": attrs.evolve(THERE, sha256=OLD)}, Status.CORRUPT, 10),
        ({"c": THERE, "w": FileFact(kind=EntryKind.UNREADABLE)}, Status.PARTIAL, 10),
    ],
)
def test_word_for_each_sight(facts: dict[str, FileFact], word: Status, needed: int) -> None:
    """Missing files are missing bytes, another size, type or hash is corrupt."""
    seen = row(facts)
    assert (seen.state, seen.bytes_needed) == (word, needed)
    assert len(seen.missing_files) == needed // 10


def test_old_version_is_partial_not_corrupt() -> None:
    """A file that is as recorded but no longer the wanted one is merely out of date."""
    files = {a: attrs.evolve(r, sha256=OLD) for a, r in STATE.files.items()}
    seen = row({"c": THERE, "w": THERE}, state=attrs.evolve(STATE, files=files))
    assert (seen.state, seen.bytes_needed) == (Status.PARTIAL, 20)


def test_unrecorded_file_counts_by_its_hash() -> None:
    """Somebody's own file is complete only when its bytes are known to be right."""
    empty = State()
    good, other = attrs.evolve(THERE, sha256=GOOD), attrs.evolve(THERE, sha256=OLD)
    assert row({"c": good, "w": good}, state=empty).state is Status.COMPLETE
    assert row({"c": good, "w": THERE}, state=empty).state is Status.PARTIAL
    assert row({"c": good, "w": other}, state=empty).state is Status.CORRUPT


def test_staged_bytes_are_not_needed() -> None:
    """What an earlier run fetched and verified is not fetched again."""
    assert row({}, staged={GOOD: 10}).bytes_needed == 0


def test_missing_optional_file_does_not_count() -> None:
    """A model without its optional files is complete."""
    wanted = desired(FileSpec(path="extra", size=5, sha256=OLD, optional=True))
    assert row({"c": THERE, "w": THERE}, wanted).state is Status.COMPLETE
    assert row({}, wanted).state is Status.NOT_PRESENT


def test_live_run_is_verifying() -> None:
    """A model that a run is working on is not judged."""
    assert row({"c": THERE}, busy=frozenset({KEY})).state is Status.VERIFYING


def test_only_what_was_asked_for_is_listed() -> None:
    """Unselected models and variants that were never installed have no row."""
    unselected = attrs.evolve(desired(), selection=Selection(keys=frozenset()))
    assert model_status(unselected, STATE, Observed()) == ()
    assert model_status(desired(installed=False), State(), Observed()) == ()
    assert len(model_status(desired(installed=False), STATE, Observed())) == 1
