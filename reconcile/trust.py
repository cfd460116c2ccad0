"""The trust rule: may a recorded file be believed without reading it? One rule for every command.

Goes in: a record of the state and what one stat call said. Comes out: a verdict. Size, mtime,
ctime and inode as recorded, and all of them older than the record: trusted. Another size: changed.
Anything else that differs, or a time that is not older than the record (a write in the same clock
tick would be invisible, so such an entry is *racy*): doubtful, and only a hash decides. Modes,
owners and device numbers never count. On Windows ctime is the creation time and is not used.

Nothing here reads a disk or a clock.
"""

from __future__ import annotations

import enum
import sys
from functools import lru_cache

from wanrec.reconcile.facts import EntryKind, FileFact
from wanrec.reconcile.findings import DriftKind
from wanrec.state.model import FileRecord

__all__ = ["Trust", "difference", "is_trusted", "judge", "judge_stat", "verified_ns"]

_CTIME_IS_CHANGE_TIME = sys.platform != "win32"
_STAMP_LENGTH = len("2026-01-01T00:00:00.000000Z")


class Trust(enum.StrEnum):
    """What a stat says about a recorded file."""

    TRUSTED = "trusted"
    DOUBTFUL = "doubtful"
    SIZE_CHANGED = "size_changed"
    TYPE_CHANGED = "type_changed"
    MISSING = "missing"
    UNREADABLE = "unreadable"


def verified_ns(stamp: str) -> int:
    """Return an RFC 3339 time as nanoseconds since the epoch, 0 when it is not one.

    0 is older than every file, so a record with a broken time is never trusted.
    """
    try:
        if len(stamp) == _STAMP_LENGTH and stamp[19] == "." and stamp[26] == "Z":
            return _second(stamp[:19]) + int(stamp[20:26]) * 1_000
        return _parsed(stamp)
    except ValueError:
        return 0


@lru_cache(maxsize=1 << 12)
def _second(prefix: str) -> int:
    return _parsed(prefix + "+00:00")  # many files share a second, few share a microsecond


def _parsed(stamp: str) -> int:
    from datetime import UTC, datetime  # not needed by runs that meet no record

    moment = datetime.fromisoformat(stamp)
    if moment.tzinfo is None:
        raise ValueError("a time without an offset")
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000


def is_trusted(record: FileRecord, size: int, mtime_ns: int, ctime_ns: int, ino: int) -> bool:
    """True when these stat values of a regular file need no hash. Called once per file."""
    if size != record.size or mtime_ns != record.mtime_ns or ino != record.ino:
        return False
    verified = verified_ns(record.verified_at)
    if mtime_ns >= verified:
        return False
    return not _CTIME_IS_CHANGE_TIME or (ctime_ns == record.ctime_ns and ctime_ns < verified)


def judge_stat(record: FileRecord, size: int, mtime_ns: int, ctime_ns: int, ino: int) -> Trust:
    """Judge a regular file by raw stat values."""
    if size != record.size:
        return Trust.SIZE_CHANGED
    trusted = is_trusted(record, size, mtime_ns, ctime_ns, ino)
    return Trust.TRUSTED if trusted else Trust.DOUBTFUL


def judge(record: FileRecord, fact: FileFact | None) -> Trust:
    """Judge what lies at the path of a record; None means nothing lies there."""
    if fact is None or fact.kind is EntryKind.MISSING:
        return Trust.MISSING
    if fact.kind is EntryKind.UNREADABLE:
        return Trust.UNREADABLE
    if fact.kind is not EntryKind.FILE:
        return Trust.TYPE_CHANGED
    return judge_stat(record, fact.size, fact.mtime_ns, fact.ctime_ns, fact.ino)


_KINDS = {
    Trust.MISSING: DriftKind.MISSING,
    Trust.SIZE_CHANGED: DriftKind.SIZE,
    Trust.TYPE_CHANGED: DriftKind.TYPE,
}


def difference(record: FileRecord, fact: FileFact | None) -> DriftKind | None:
    """Return how the disk is known to differ from the record, None when it is not known to.

    A doubtful file differs only when its bytes were read and have another hash.
    """
    kind = _KINDS.get(judge(record, fact))
    if kind is None and fact is not None and fact.sha256 not in (None, record.sha256):
        return DriftKind.CONTENT
    return kind
