"""The trust rule, case by case."""

from __future__ import annotations

import attrs
import pytest

from wanrec.reconcile import trust
from wanrec.reconcile.actions import DriftKind
from wanrec.reconcile.model import EntryKind, FileFact
from wanrec.reconcile.trust import Trust, difference, is_trusted, judge, verified_ns
from wanrec.state.model import FileRecord

VERIFIED = "2026-11-23T12:00:00.000000Z"
AT = 1_795_435_200 * 1_000_000_000
OLD = AT - 5_000_000_000

RECORD = FileRecord(
    path="wan22/a@1.0/f",
    size=10,
    sha256="a" * 64,
    mtime_ns=OLD,
    ctime_ns=OLD,
    ino=7,
    dev=1,
    verified_at=VERIFIED,
)
FACT = FileFact(kind=EntryKind.FILE, size=10, mtime_ns=OLD, ctime_ns=OLD, ino=7, dev=1)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, Trust.TRUSTED),
        ({"dev": 2}, Trust.TRUSTED),
        ({"nlink": 3}, Trust.TRUSTED),
        ({"size": 11}, Trust.SIZE_CHANGED),
        ({"size": 11, "ino": 8}, Trust.SIZE_CHANGED),
        ({"mtime_ns": OLD + 1}, Trust.DOUBTFUL),
        ({"ctime_ns": OLD + 1}, Trust.DOUBTFUL),
        ({"ino": 8}, Trust.DOUBTFUL),
        ({"kind": EntryKind.MISSING}, Trust.MISSING),
        ({"kind": EntryKind.SYMLINK}, Trust.TYPE_CHANGED),
        ({"kind": EntryKind.DIRECTORY}, Trust.TYPE_CHANGED),
        ({"kind": EntryKind.OTHER}, Trust.TYPE_CHANGED),
        ({"kind": EntryKind.UNREADABLE}, Trust.UNREADABLE),
    ],
)
def test_one_changed_field_decides(change: dict[str, object], verdict: Trust) -> None:
    """Each stat field alone leads to the verdict of the contract."""
    assert judge(RECORD, attrs.evolve(FACT, **change)) is verdict


def test_nothing_there_is_missing() -> None:
    """No fact means no file."""
    assert judge(RECORD, None) is Trust.MISSING


@pytest.mark.parametrize("field", ["mtime_ns", "ctime_ns"])
@pytest.mark.parametrize(("moment", "trusted"), [(AT - 1, True), (AT, False), (AT + 1, False)])
def test_a_time_not_older_than_the_record_is_racy(field: str, moment: int, trusted: bool) -> None:
    """A write in the tick of the record cannot be seen, so such a file is hashed."""
    record = attrs.evolve(RECORD, **{field: moment})
    fact = attrs.evolve(FACT, **{field: moment})
    assert (judge(record, fact) is Trust.TRUSTED) is trusted


def test_ctime_does_not_count_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ctime is the creation time it is ignored, also by the racy rule."""
    monkeypatch.setattr(trust, "_CTIME_IS_CHANGE_TIME", False)
    assert is_trusted(RECORD, 10, OLD, AT + 5, 7)
    assert not is_trusted(RECORD, 10, OLD + 1, OLD, 7)


@pytest.mark.parametrize(
    ("stamp", "nanoseconds"),
    [
        (VERIFIED, AT),
        ("2026-11-23T12:00:00.000001Z", AT + 1_000),
        ("2026-11-23T12:00:00Z", AT),
        ("2026-11-23T13:00:00.5+01:00", AT + 500_000_000),
        ("1970-01-01T00:00:00.000000Z", 0),
        ("2026-11-23T12:00:00", 0),
        ("2026-11-23T12:00:00.00000xZ", 0),
        ("2026-99-23T12:00:00.000000Z", 0),
        ("yesterday", 0),
        ("", 0),
    ],
)
def test_times_are_read_exactly_or_not_believed(stamp: str, nanoseconds: int) -> None:
    """RFC 3339 times keep their microseconds; what is no time is older than every file."""
    assert verified_ns(stamp) == nanoseconds


def test_a_record_without_a_time_is_never_trusted() -> None:
    """A damaged record leads to a hash, not to belief."""
    assert judge(attrs.evolve(RECORD, verified_at="?"), FACT) is Trust.DOUBTFUL


@pytest.mark.parametrize(
    ("fact", "kind"),
    [
        (FACT, None),
        (attrs.evolve(FACT, ino=8), None),
        (attrs.evolve(FACT, ino=8, sha256="a" * 64), None),
        (attrs.evolve(FACT, sha256="b" * 64), DriftKind.CONTENT),
        (attrs.evolve(FACT, size=3, sha256="b" * 64), DriftKind.SIZE),
        (attrs.evolve(FACT, kind=EntryKind.SYMLINK), DriftKind.TYPE),
        (attrs.evolve(FACT, kind=EntryKind.UNREADABLE), None),
        (None, DriftKind.MISSING),
    ],
)
def test_only_known_differences_are_drift(fact: FileFact | None, kind: DriftKind | None) -> None:
    """A touched clock is no difference; only bytes, sizes, types and absence are."""
    assert difference(RECORD, fact) is kind
