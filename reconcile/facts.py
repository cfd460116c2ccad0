"""The words for what lies on a disk: the part of the vocabulary that every command needs.

Frozen values only. Apart from `model`, because each class costs start-up time and a drift check
needs no word for what is wanted.
"""

from __future__ import annotations

import enum

import attrs

__all__ = ["Assurance", "EntryKind", "FileFact", "Presence", "Via"]


class Presence(enum.StrEnum):
    """Who brings a model onto the disk: every apply, or only `ensure`."""

    REQUIRED = "required"
    ON_DEMAND = "on-demand"


class Via(enum.StrEnum):
    """How bytes come to a path. A plan says the first way that will be tried."""

    FETCH = "fetch"
    LINK = "link"
    REFLINK = "reflink"
    COPY = "copy"


class Assurance(enum.StrEnum):
    """How a record knows its bytes: hashed by wanrec, found by hash, or taken on trust."""

    VERIFIED = "verified"
    FOUND = "found"
    ASSUMED = "assumed"


class EntryKind(enum.StrEnum):
    """What lies at a path, links never followed."""

    MISSING = "missing"
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    OTHER = "other"
    UNREADABLE = "unreadable"


@attrs.frozen(kw_only=True)
class FileFact:
    """What was seen at one path. `sha256` is there only when the bytes were read.

    Times are nanoseconds since the epoch, sizes bytes. `error` names why a path could not be
    looked at (kind UNREADABLE). `nlink` does not count names that go without anybody's doing.
    """

    kind: EntryKind
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    ino: int = 0
    dev: int = 0
    nlink: int = 1
    sha256: str | None = None
    error: str | None = None
