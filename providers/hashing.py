"""sha256 of a file while it is still being written: a thread follows the contiguous prefix.

Writers say which byte ranges have landed, in any order; the hash thread reads what is contiguous
from the start, out of the page cache, so that no receiver ever stops to hash. Works on an open
descriptor that is readable by position; writes nothing.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from queue import SimpleQueue

from wanrec.reconcile.buffers import page_aligned
from wanrec.reconcile.part_digests import PartDigests, PartHasher

__all__ = ["CAN_READ_AT", "PrefixHasher", "pieces_of", "read_at", "write_at"]

CAN_READ_AT = hasattr(os, "preadv") and hasattr(os, "pwrite")
"""False where descriptors have one shared offset only: no second thread may read there."""

_CHUNK = 1 << 20
_BUFFERS = 4


def read_at(fd: int, view: memoryview, offset: int) -> int:
    """Read into the view from an offset; 0 is the end of the file."""
    if not len(view):
        return 0
    if CAN_READ_AT:
        return os.preadv(fd, [view], offset)
    os.lseek(fd, offset, os.SEEK_SET)
    data = os.read(fd, len(view))
    view[: len(data)] = data
    return len(data)


def pieces_of(fd: int) -> Iterator[memoryview]:
    """Yield a file from its start to its end; each piece is good until the next is asked for."""
    buffer, at = page_aligned(_CHUNK), 0
    while count := read_at(fd, buffer, at):
        yield buffer[:count]
        at += count


def write_at(fd: int, view: memoryview, offset: int) -> None:
    """Write the whole view at an offset, however often the system takes only a part of it."""
    while len(view):
        if CAN_READ_AT:
            count = os.pwrite(fd, view, offset)
        else:
            os.lseek(fd, offset, os.SEEK_SET)
            count = os.write(fd, view)
        view, offset = view[count:], offset + count


class PrefixHasher:
    """Hashes a growing file from its start; `finish` returns the digest of what was written.

    Ranges may arrive in any order and must not overlap. Used by one owner; `wrote` may be called
    from several writer threads. The digests of parts, where they are wanted, are made by a thread
    of their own, from the buffers that the other one has read and hashed: a file that comes fast
    waits for its sha256 alone, and no byte is read twice.
    """

    def __init__(self, fd: int, parts: PartHasher | None = None) -> None:
        self._parts = parts
        self._fd = fd
        self._digest = hashlib.sha256()
        self._changed = threading.Condition()
        self._prefix = 0  # bytes known to be contiguous from 0
        self._ahead: dict[int, int] = {}  # ranges beyond the prefix: start -> stop
        self._closing = False
        self._cancelled = False
        self._failure: OSError | None = None
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._hashed: SimpleQueue[memoryview | None] = SimpleQueue()  # None: that was all
        work = [self._follow] if parts is None else [self._follow, self._digest_parts]
        self._threads = [
            threading.Thread(target=target, name="wanrec-hash", daemon=True) for target in work
        ]

    def start(self) -> PrefixHasher:
        """Start hashing."""
        for _ in range(_BUFFERS if self._parts else 1):
            self._free.put(page_aligned(_CHUNK))
        for thread in self._threads:
            thread.start()
        return self

    def wrote(self, start: int, stop: int) -> None:
        """Tell that the bytes from start up to stop are in the file now."""
        with self._changed:
            self._ahead[start] = stop
            moved = False
            while self._prefix in self._ahead:
                self._prefix = self._ahead.pop(self._prefix)
                moved = True
            if moved:
                self._changed.notify_all()

    @property
    def prefix(self) -> int:
        """Bytes that are contiguous from the start."""
        return self._prefix

    def finish(self) -> str:
        """Wait until the prefix is hashed and return its sha256 in hex.

        Raises:
            OSError: reading back failed.
        """
        self._close(cancel=False)
        if self._failure is not None:
            raise self._failure
        return self._digest.hexdigest()

    def parts(self, sha256: str) -> PartDigests | None:
        """After `finish`: the digests of the parts, if they were wanted."""
        return None if self._parts is None else self._parts.finish(sha256)

    def cancel(self) -> None:
        """Stop hashing soon and wait for the threads; safe after `finish`."""
        self._close(cancel=True)

    def _close(self, *, cancel: bool) -> None:
        with self._changed:
            self._closing = True
            self._cancelled = self._cancelled or cancel
            self._changed.notify_all()
        for thread in self._threads:
            if thread.ident is not None:  # it was started
                thread.join()

    def _follow(self) -> None:
        done = 0
        try:
            while (target := self._wait_beyond(done)) is not None:
                done = self._read_up_to(done, target)
        except OSError as exc:
            self._failure = exc
        finally:
            self._hashed.put(None)

    def _wait_beyond(self, done: int) -> int | None:
        """Wait until more than `done` bytes are contiguous and say how many; None: no more."""
        with self._changed:
            while done >= self._prefix and not self._closing:
                self._changed.wait()
            target = self._prefix
            return None if self._cancelled or (self._closing and done >= target) else target

    def _read_up_to(self, done: int, target: int) -> int:
        while done < target and not self._cancelled:
            buffer = self._free.get()
            count = read_at(self._fd, buffer[: min(_CHUNK, target - done)], done)
            if count == 0:
                raise OSError(5, "the part is shorter than what was written to it")
            self._digest.update(buffer[:count])
            done += count
            if self._parts is None:
                self._free.put(buffer)
            else:
                self._hashed.put(buffer[:count])
        return done

    def _digest_parts(self) -> None:
        while (piece := self._hashed.get()) is not None:
            if self._parts is not None:
                try:
                    self._parts.update(piece)
                except MemoryError:
                    self._parts = None  # the file is no worse without
            self._free.put(memoryview(piece.obj))
