"""A megabyte kept aside, so that gc can work on a disk that has not one byte left.

Removing models needs a little room itself: a journal, a lock file, the new state. An apply lays
the reserve by when there is room; gc gives it up first when the disk is full, and lays it by again
at the end. Nobody depends on it: without it a full disk has to be helped by hand.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from wanrec.reconcile.disk import Root
from wanrec.reconcile.disk_errors import translated
from wanrec.reconcile.errors import WanrecError
from wanrec.reconcile.facts import EntryKind

__all__ = ["RESERVE", "SIZE", "lay_by", "spend", "spent_if_full"]

RESERVE = ".wanrec/reserve"
SIZE = 1 << 20
_ROOM = 8 * SIZE
"""Bytes that have to be free before a reserve is taken from them."""


def lay_by(root: Root) -> None:
    """Make the reserve if it is not there and the disk has room; best effort."""
    with contextlib.suppress(WanrecError):
        there = root.stat(RESERVE)
        if (there.kind, there.size) == (EntryKind.FILE, SIZE) or root.free_bytes() < _ROOM:
            return
        root.unlink(RESERVE, missing_ok=True)
        fd = root.create(RESERVE)
        try:
            with translated(RESERVE, "write"):
                # Noise: a file system that compresses would keep nothing aside for zeros.
                os.write(fd, os.urandom(SIZE))
        finally:
            os.close(fd)


def spend(root: Root) -> bool:
    """Give the reserve up; False when there was none."""
    if root.stat(RESERVE).kind is not EntryKind.FILE:
        return False
    root.unlink(RESERVE, missing_ok=True)
    return True


@contextlib.contextmanager
def spent_if_full(root: Root) -> Iterator[None]:
    """Give the reserve up now if the disk is as good as full; lay it by again at the end."""
    if root.free_bytes() < SIZE:
        spend(root)
    try:
        yield
    finally:
        lay_by(root)
