"""Takes the room of a whole file before its first byte comes, so that a full disk shows at once."""

from __future__ import annotations

import contextlib
import errno
import functools
import os

__all__ = ["reserve"]


def reserve(fd: int, size: int) -> None:
    """Make a file at least `size` bytes long; what it holds stays.

    What cannot fit is refused before the disk is filled to find that out. A file system in memory
    would fill every page with zeros, which takes as long as to receive the bytes: there it is
    enough that the room is free now.

    Raises:
        OSError: ENOSPC and what else the disk says.
    """
    seen = os.fstat(fd)
    if seen.st_size >= size or not hasattr(os, "posix_fallocate"):
        return
    room = os.fstatvfs(fd)
    if room.f_blocks and room.f_bavail * room.f_frsize < size - seen.st_blocks * 512:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if _in_memory(seen.st_dev):
        os.ftruncate(fd, size)
    else:
        os.posix_fallocate(fd, 0, size)


@functools.cache
def _in_memory(device: int) -> bool:
    """True for a tmpfs, as Linux lists its mounts (proc(5), mountinfo)."""
    number = f"{os.major(device)}:{os.minor(device)}"
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", errors="replace") as mounts:
        for line in mounts:
            before, _, after = line.partition(" - ")
            if before.split()[2] == number:
                return after.split()[0] == "tmpfs"
    return False
