"""Brings an outside file into the stage, under the name of its content.

The file itself is only read, unless it was asked for: a hard link shares its inode, a move takes
its name away. Modes of inodes that have names outside are never changed. What lies in the stage is
hashed again before anybody uses it, so an outside file that changes meanwhile harms nothing.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os

from wanrec.reconcile import disk_linux
from wanrec.reconcile.adopting_scan import Candidate
from wanrec.reconcile.disk import Root
from wanrec.reconcile.disk_errors import translate_os_error
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import EntryKind
from wanrec.reconcile.stage import BLOBS

__all__ = ["Link", "take_in"]

_PARTIAL = ".wanrec/partial"
_BUFFER = 1024 * 1024


class Link(enum.StrEnum):
    """How an outside file is brought in."""

    COPY = "copy"
    HARD = "hard"
    MOVE = "move"


def take_in(root: Root, one: Candidate, sha256: str, link: Link) -> str | None:
    """Put a file's bytes into the stage; nothing happens when they are there already.

    Returns the outside path that is to be removed once the model is in place, or None.

    Raises:
        WanrecError: CONCURRENT_MODIFICATION when the file changed since it was hashed;
            FILESYSTEM_ERROR when it cannot be linked; NO_SPACE and other disk errors.
    """
    blob = f"{BLOBS}/{sha256}"
    if root.stat(blob).kind is EntryKind.FILE:
        return None
    root.make_dirs(BLOBS, 0o755)
    if link is not Link.COPY and _linked(root, one, blob, link):
        return None
    root.make_dirs(_PARTIAL, 0o755)
    draft = f"{_PARTIAL}/adopt-{os.getpid()}-{sha256[:16]}.part"
    root.unlink(draft, missing_ok=True)
    try:
        _copy(root, one, draft)
        root.fsync_file(draft)
        root.rename(draft, blob)
    except BaseException:
        with contextlib.suppress(WanrecError):
            root.unlink(draft, missing_ok=True)
        raise
    return one.place if link is Link.MOVE else None


def _linked(root: Root, one: Candidate, blob: str, link: Link) -> bool:
    """Give the inode a name in the stage; False when a move has to copy first."""
    target = root.path / blob
    try:
        if link is Link.HARD:
            os.link(one.place, target, follow_symlinks=False)
        else:
            os.rename(one.place, target)
    except OSError as error:
        if link is Link.MOVE and error.errno == errno.EXDEV:
            return False
        failure = translate_os_error(error, one.place, "link" if link is Link.HARD else "move")
        failure.hint = "without --link the file is copied"
        raise failure from error
    return True


def _copy(root: Root, one: Candidate, draft: str) -> None:
    try:
        # Never waits, should a pipe lie there by now.
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        source = os.open(one.place, flags)
    except OSError as error:
        raise translate_os_error(error, one.place, "read") from error
    try:
        now = os.fstat(source)
        if (now.st_ino, now.st_size, now.st_mtime_ns) != (one.ino, one.size, one.mtime_ns):
            raise WanrecError(
                ErrorCode.CONCURRENT_MODIFICATION,
                "the file changed after it was hashed",
                where=one.place,
                hint="wanrec adopt",
            )
        target = root.create(draft)
        try:
            _copy_bytes(source, target)
        except OSError as error:
            raise translate_os_error(error, draft, "write") from error
        finally:
            os.close(target)
    finally:
        os.close(source)


def _copy_bytes(source: int, target: int) -> None:
    if disk_linux.reflink(source, target) or disk_linux.copy_range(source, target):
        return
    while chunk := os.read(source, _BUFFER):
        view = memoryview(chunk)
        while view:
            view = view[os.write(target, view) :]
