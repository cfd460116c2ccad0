"""Names and facts below the root: which paths are names at all, and what a stat result says.

Pure apart from asking the platform which flags it has. Shared by the reading and the writing half
of the door.
"""

from __future__ import annotations

import os
import stat as stat_

from wanrec.reconcile.disk_errors import printable
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.facts import EntryKind, FileFact

__all__ = [
    "CREATE_FILE",
    "HAS_DIR_FD",
    "READ_DIR",
    "READ_FILE",
    "STEP",
    "WANREC_DIR",
    "fact_of",
    "is_junction",
    "kind_of",
    "no_folder",
    "split_path",
    "unreadable",
]

WANREC_DIR = ".wanrec"
"""The only folder under the root that is wanrec's own."""

HAS_DIR_FD = {os.open, os.stat, os.mkdir, os.rmdir, os.unlink, os.rename, os.link} <= (
    os.supports_dir_fd
)
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
_BINARY = getattr(os, "O_BINARY", 0)
READ_DIR = os.O_RDONLY | _DIRECTORY | _NOFOLLOW | _CLOEXEC
# O_PATH passes through folders that may be searched and not listed.
STEP = getattr(os, "O_PATH", os.O_RDONLY) | _DIRECTORY | _NOFOLLOW | _CLOEXEC
READ_FILE = os.O_RDONLY | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0) | _CLOEXEC | _BINARY
CREATE_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _CLOEXEC | _BINARY
_REPARSE_POINT = 0x400
_NO_NAMES = frozenset({"", ".", ".."})


def split_path(rel: str) -> list[str]:
    """Return the components of a relative POSIX path; `""` and `"."` are the root itself.

    Raises:
        WanrecError: UNSAFE_PATH when the path is absolute or has a component that is no name.
    """
    if rel in ("", "."):
        return []
    parts = rel.split("/")
    bad = not _NO_NAMES.isdisjoint(parts) or "\0" in rel
    if (
        bad
        or not (rel.isascii() or _encodable(rel))
        or (os.sep != "/" and any(c in rel for c in ":\\"))
    ):
        shown = printable(rel)
        raise WanrecError(
            ErrorCode.UNSAFE_PATH,
            f"{shown}: not a path below the root",
            where=shown,
            hint="use a relative path with / and without . and ..",
        )
    return parts


def _encodable(rel: str) -> bool:
    if rel.isascii():
        return True
    try:
        os.fsencode(rel)
    except UnicodeEncodeError:
        return False
    return True


def kind_of(mode: int) -> EntryKind:
    """Return what an `st_mode` stands for."""
    if stat_.S_ISREG(mode):
        return EntryKind.FILE
    if stat_.S_ISDIR(mode):
        return EntryKind.DIRECTORY
    return EntryKind.SYMLINK if stat_.S_ISLNK(mode) else EntryKind.OTHER


def fact_of(st: os.stat_result) -> FileFact:
    """Return the fact for one stat result (taken without following links)."""
    return FileFact(
        kind=kind_of(st.st_mode),
        size=st.st_size,
        mtime_ns=st.st_mtime_ns,
        ctime_ns=st.st_ctime_ns,
        ino=st.st_ino,
        dev=st.st_dev,
        nlink=st.st_nlink,
    )


def no_folder(place: str, kind: EntryKind) -> FileFact:
    """Return the fact for what lies below a link or a file, where only a folder will do."""
    names = {EntryKind.SYMLINK: "a symbolic link", EntryKind.FILE: "a file"}
    found = names.get(kind, "a special file")
    return FileFact(
        kind=EntryKind.OTHER if kind is EntryKind.FILE else kind,
        error=f"{found} lies where a folder is needed: {printable(place)}",
    )


def is_junction(st: os.stat_result) -> bool:
    """True for a Windows reparse point, which leads elsewhere like a link."""
    return bool(getattr(st, "st_file_attributes", 0) & _REPARSE_POINT)


def unreadable(exc: OSError) -> FileFact:
    """Return the fact for a path that could not be looked at."""
    reason = os.strerror(exc.errno) if exc.errno else str(exc)
    return FileFact(kind=EntryKind.UNREADABLE, error=reason)
