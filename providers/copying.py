"""From a file of this machine to a part below the root: clone or copy, and hash what landed.

The calling thread moves bytes inside the kernel while a second thread hashes the contiguous
prefix of the *part* out of the page cache; small files take one read and one write. The source is
compared with itself before and after: a source that changed meanwhile is refused.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from collections.abc import Callable
from typing import NamedTuple

from wanrec.providers.base import Provider
from wanrec.providers.hashing import CAN_READ_AT, PrefixHasher, read_at, write_at
from wanrec.providers.limits import MIB, Limits
from wanrec.providers.pacing import Pace
from wanrec.providers.resume import Intervals
from wanrec.providers.salvage import Salvage
from wanrec.providers.writeback import start_writeback
from wanrec.reconcile.buffers import thread_buffer
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import Via
from wanrec.reconcile.part_digests import PartDigests, hasher

__all__ = ["Copied", "LocalCopy"]

_FICLONE = 0x40049409
_OURS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


class Copied(NamedTuple):
    """What one copy brought: digest, bytes, how, and how many of them the source gave."""

    sha256: str
    size: int
    via: Via
    moved: int
    digests: PartDigests | None = None


class LocalCopy:
    """One copy from an open source into an open part.

    Attributes:
        provider: names the source in errors.
        path: the file's path at the source, for errors.
        translate: turns an OSError of writing the part into an error of the contract.
        salvage: a damaged file whose good parts need not be copied again.
    """

    def __init__(
        self,
        provider: Provider,
        path: str,
        *,
        limits: Limits,
        pace: Pace,
        translate: Callable[[OSError], WanrecError],
        salvage: Salvage | None = None,
    ) -> None:
        self._salvage = salvage
        self.provider = provider
        self.path = path
        self._limits = limits
        self._pace = pace
        self._translate = translate

    def run(self, source: int, part: int, before: os.stat_result) -> Copied:
        """Copy all of the source and hash it.

        Raises:
            WanrecError: SOURCE_CHANGED; INTERRUPTED; an error of reading the source; or, without
                a source, an error of writing the part.
        """
        if before.st_size < self._limits.small_file or not CAN_READ_AT:
            copied = self._copy_inline(source, part, before.st_size)
        else:
            copied = self._copy_beside_hash(source, part, before.st_size)
        if _identity(before) != _identity(os.fstat(source)):
            raise self._changed()
        return copied

    def _copy_inline(self, source: int, part: int, size: int) -> Copied:
        digest = hashlib.sha256()
        view = thread_buffer()
        offset = 0
        while offset < size:
            chunk = self._read(source, view[: min(len(view), size - offset)], offset)
            digest.update(chunk)
            self._write(part, chunk, offset)
            offset += len(chunk)
            self._pace.moved(len(chunk))
        return Copied(digest.hexdigest(), size, Via.FETCH, size)

    def _copy_beside_hash(self, source: int, part: int, size: int) -> Copied:
        via = Via.REFLINK if _clone(source, part) else Via.FETCH
        digests = None if self._salvage is not None else hasher(size)
        prefix = PrefixHasher(part, digests).start()
        moved = size
        try:
            if via is Via.REFLINK:
                prefix.wrote(0, size)
            else:
                gaps = self._gaps(part, size, prefix)
                moved = sum(stop - start for start, stop in gaps)
                for start, stop in gaps:
                    self._copy_in_kernel(source, part, start, stop, prefix)
            sha256 = prefix.finish()
        except OSError as exc:
            raise self._translate(exc) from exc
        finally:
            prefix.cancel()
        self._pace.check()
        return Copied(sha256, size, via, moved, prefix.parts(sha256))

    def _gaps(self, part: int, size: int, prefix: PrefixHasher) -> list[tuple[int, int]]:
        """Take over what a damaged file still has of these bytes; return what is missing then."""
        done = Intervals()
        if self._salvage is not None and self._salvage.parts.size == size:

            def kept(start: int, stop: int) -> None:
                done.add(start, stop)
                prefix.wrote(start, stop)

            self._salvage.refill(part, [(0, size)], kept, self._pace.check)
            self._pace.already(done.total())
        return list(done.gaps(size))

    def _copy_in_kernel(
        self, source: int, part: int, offset: int, size: int, prefix: PrefixHasher
    ) -> None:
        step = self._pace.bandwidth.step(self._limits.copy_step)
        in_kernel = hasattr(os, "copy_file_range")
        while offset < size:
            want = min(step, size - offset)
            count = self._copy_range(source, part, want, offset) if in_kernel else 0
            if count == 0:
                in_kernel = False
                count = self._copy_through_memory(source, part, min(want, MIB), offset)
            prefix.wrote(offset, offset + count)
            start_writeback(part, offset, count)
            offset += count
            self._pace.moved(count)

    def _copy_range(self, source: int, part: int, want: int, offset: int) -> int:
        """Copy inside the kernel; 0 when it cannot be done or memory must tell why."""
        try:
            return os.copy_file_range(source, part, want, offset, offset)
        except OSError as exc:
            if exc.errno in _OURS:
                raise self._translate(exc) from exc
            return 0

    def _copy_through_memory(self, source: int, part: int, want: int, offset: int) -> int:
        chunk = self._read(source, thread_buffer()[:want], offset)
        self._write(part, chunk, offset)
        return len(chunk)

    def _read(self, source: int, view: memoryview, offset: int) -> memoryview:
        try:
            count = read_at(source, view, offset)
        except OSError as exc:
            raise self.provider.translate(exc, self.path) from exc
        if count == 0:
            raise self._changed()
        return view[:count]

    def _write(self, part: int, chunk: memoryview, offset: int) -> None:
        try:
            write_at(part, chunk, offset)
        except OSError as exc:
            raise self._translate(exc) from exc

    def _changed(self) -> WanrecError:
        return self.provider.error(
            ErrorCode.SOURCE_CHANGED,
            f"{self.path!r} changed at the source while it was read",
            hint="wait until it is complete there, then apply again",
        )


def _identity(status: os.stat_result) -> tuple[int, int, int, int, int]:
    ctime = 0 if os.name == "nt" else status.st_ctime_ns
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, ctime)


def _clone(source: int, part: int) -> bool:
    """Share the source's extents with the part where the file system can."""
    if not sys.platform.startswith("linux"):
        return False
    import fcntl

    try:
        fcntl.ioctl(part, _FICLONE, source)
    except OSError:  # not supported, other device, or no room: the copy decides and tells
        return False
    return True
