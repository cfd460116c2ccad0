"""Linux system calls that the standard library does not offer: exchange, no-replace, reflink.

Every function says "this kernel or file system cannot" by returning False, and raises `OSError`
for everything else, so that callers can fall back without reading errno. On other platforms all
of them return False.
"""

from __future__ import annotations

import errno
import functools
import os
import platform
import sys
from collections.abc import Callable

__all__ = ["copy_range", "reflink", "rename_exchange", "rename_noreplace"]

_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_FICLONE = 0x40049409
_AT_FDCWD = -100
_SYSCALL_RENAMEAT2 = {"x86_64": 316, "aarch64": 276, "riscv64": 276, "ppc64le": 357, "s390x": 347}
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP})
_NO_CLONE = _UNSUPPORTED | {errno.EXDEV, errno.ENOTTY, errno.EPERM, errno.EBADF, errno.ETXTBSY}
_COPY_STEP = 64 * 1024 * 1024

RenameAt2 = Callable[[int | None, str, int | None, str, int], bool]


def rename_exchange(src_fd: int | None, src: str, dst_fd: int | None, dst: str) -> bool:
    """Exchange two entries in one step; False when the kernel or file system cannot."""
    call = _renameat2()
    return call is not None and call(src_fd, src, dst_fd, dst, _RENAME_EXCHANGE)


def rename_noreplace(src_fd: int | None, src: str, dst_fd: int | None, dst: str) -> bool:
    """Rename unless something is at the new name (EEXIST); False when it cannot be asked for."""
    call = _renameat2()
    return call is not None and call(src_fd, src, dst_fd, dst, _RENAME_NOREPLACE)


def reflink(src_fd: int, dst_fd: int) -> bool:
    """Let `dst_fd` share all blocks of `src_fd`; False when the file system cannot."""
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        fcntl.ioctl(dst_fd, _FICLONE, src_fd)
    except OSError as exc:
        if exc.errno in _NO_CLONE:
            return False
        raise
    return True


def copy_range(src_fd: int, dst_fd: int) -> bool:
    """Copy from both current positions to the end inside the kernel; False when it cannot.

    False comes only before the first byte has moved.
    """
    if sys.platform != "linux":
        return False
    moved = 0
    while True:
        try:
            count = os.copy_file_range(src_fd, dst_fd, _COPY_STEP)
        except OSError as exc:
            if moved == 0 and exc.errno in _NO_CLONE:
                return False
            raise
        if count == 0:
            # Some file systems answer 0 at once although there are bytes (procfs, old FUSE).
            return moved > 0 or os.fstat(src_fd).st_size == 0
        moved += count


@functools.cache
def _renameat2() -> RenameAt2 | None:
    """Find renameat2 in the C library, else by its system call number, else None."""
    if sys.platform != "linux":
        return None
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    number = _SYSCALL_RENAMEAT2.get(platform.machine())
    if not hasattr(libc, "renameat2") and number is None:
        return None

    def call(src_fd: int | None, src: str, dst_fd: int | None, dst: str, flags: int) -> bool:
        places = (
            ctypes.c_int(_AT_FDCWD if src_fd is None else src_fd),
            ctypes.c_char_p(os.fsencode(src)),
            ctypes.c_int(_AT_FDCWD if dst_fd is None else dst_fd),
            ctypes.c_char_p(os.fsencode(dst)),
            ctypes.c_uint(flags),
        )
        if hasattr(libc, "renameat2"):
            result = libc.renameat2(*places)
        else:
            result = libc.syscall(ctypes.c_long(number or 0), *places)
        if result == 0:
            return True
        code = ctypes.get_errno()
        if code in _UNSUPPORTED:
            return False
        raise OSError(code, os.strerror(code), src, None, dst)

    return call
