"""Starts writing dirty pages to the disk while more bytes arrive, so that the flush ends soon.

A hint only: nothing waits here, nothing is made durable here, and where the kernel has no such
call (or refuses it) nothing happens. `fsync` is still the caller's.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable

__all__ = ["start_writeback"]

_SYNC_FILE_RANGE_WRITE = 2


def start_writeback(fd: int, offset: int, count: int) -> None:
    """Ask the kernel to begin writing these bytes of the file out."""
    call = _sync_file_range()
    if call is not None:
        call(fd, offset, count, _SYNC_FILE_RANGE_WRITE)


@functools.cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    if sys.platform != "linux":
        return None
    import ctypes  # only where bytes are moved, never on the way to a plan

    try:
        call = ctypes.CDLL(None, use_errno=True).sync_file_range
    except (OSError, AttributeError):
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    call.restype = ctypes.c_int

    def begin(fd: int, offset: int, count: int, flags: int) -> int:
        return int(call(fd, offset, count, flags))

    return begin
