"""The state room's own door to errno: OSError in, WanrecError with a contract code out."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from wanrec.reconcile.errors import ErrorCode, WanrecError

__all__ = ["translate", "translated"]

_NAMES = {
    ErrorCode.NO_SPACE: ("ENOSPC", "EDQUOT", "EFBIG"),
    ErrorCode.PERMISSION_DENIED: ("EACCES", "EPERM"),
    ErrorCode.READ_ONLY: ("EROFS",),
    ErrorCode.TOO_MANY_FILES: ("EMFILE", "ENFILE"),
    ErrorCode.IN_USE: ("EBUSY", "ETXTBSY"),
    ErrorCode.UNSAFE_PATH: ("ELOOP", "ENOTDIR"),
    ErrorCode.LOCK_UNRELIABLE: ("ENOLCK",),
}
# By name: no system has all of them.
_CODES = {
    getattr(errno, name): code
    for code, names in _NAMES.items()
    for name in names
    if hasattr(errno, name)
}


def translate(exc: OSError, path: str) -> WanrecError:
    """Return the WanrecError for an error of the operating system at a path."""
    code = _CODES.get(exc.errno or 0, ErrorCode.FILESYSTEM_ERROR)
    reason = exc.strerror or str(exc)
    return WanrecError(code, f"cannot use {path}: {reason}", where=path)


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Raise every OSError of the block as the WanrecError of `translate`."""
    try:
        yield
    except OSError as exc:
        raise translate(exc, path) from exc
