"""Moves an answer into a file: inside the kernel where that goes, else through a buffer.

`splice` hands what a plain socket has received to a pipe and from there to the file, so that the
bytes are copied once instead of twice and never pass through this process. Over TLS, behind
chunked framing, and on systems without the call, a buffer is filled and written.
"""

from __future__ import annotations

import contextlib
import errno
import os
from types import TracebackType
from typing import Self

from wanrec.providers.base import Body
from wanrec.providers.hashing import write_at
from wanrec.providers.limits import Limits
from wanrec.reconcile.buffers import page_aligned

__all__ = ["Pouring"]


class Pouring:
    """The way of one receiver: used by one thread, for one answer after the other."""

    def __init__(self, limits: Limits) -> None:
        self.most = max(limits.pipe_bytes, limits.receive_buffer)
        self._buffer_bytes = limits.receive_buffer
        self._buffer: memoryview | None = None
        self._pipe_bytes = limits.pipe_bytes
        self._pipe = _pipe(limits.pipe_bytes)

    def pour(self, body: Body, fd: int, at: int, most: int) -> int:
        """Write the next bytes of the answer, at most so many, at an offset; 0 is its end.

        Raises:
            SourceFault: as `Body.readinto`; nothing of the failed call is in the file.
            OSError: writing failed.
        """
        if self._pipe is not None:
            try:
                count = body.splice(self._pipe[1], most)
                if count is not None:
                    self._empty(self._pipe[0], fd, at, count)
                    return count
            except BaseException:
                self._renew()
                raise
        if self._buffer is None:
            self._buffer = page_aligned(self._buffer_bytes)
        count = body.readinto(self._buffer[:most])
        write_at(fd, self._buffer[:count], at)
        return count

    def _empty(self, pipe: int, fd: int, at: int, count: int) -> None:
        """Write what is in the pipe."""
        stop = at + count
        try:
            while at < stop:
                at += os.splice(pipe, fd, stop - at, offset_dst=at)
        except OSError as exc:
            if exc.errno != errno.EINVAL:
                raise
            while at < stop:  # a file system that takes nothing from pipes
                data = os.read(pipe, stop - at)
                write_at(fd, memoryview(data), at)
                at += len(data)
            self.close()

    def _renew(self) -> None:
        """Begin with an empty pipe: what a failed call left in it is no part of what follows."""
        self.close()
        self._pipe = _pipe(self._pipe_bytes)

    def close(self) -> None:
        """Let go of the pipe; safe to call twice."""
        pipe, self._pipe = self._pipe, None
        for end in pipe or ():
            os.close(end)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _pipe(size: int) -> tuple[int, int] | None:
    """A pipe that holds `size` bytes, or as many as it may; None where nothing is spliced."""
    if not size or not hasattr(os, "splice"):
        return None
    import fcntl

    try:
        pipe = os.pipe()
    except OSError:  # too many files are open: a buffer needs none
        return None
    with contextlib.suppress(OSError):  # a user's pipes may hold only so much together
        fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, size)
    return pipe
