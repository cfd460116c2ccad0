"""Operating system errors of the root, turned into `WanrecError`.

In goes an `OSError` and the path it is about, relative to the root; out comes one error with the
contract's code, the path, the reason of the operating system and a hint that helps. The original
stays reachable as `__cause__` for callers that must tell one errno from another.
"""

from __future__ import annotations

import errno
import os
from types import TracebackType

from wanrec.reconcile.errors import ErrorCode, WanrecError

__all__ = ["os_errno", "printable", "translate_os_error", "translated"]

_SHARING_VIOLATIONS = (32, 33)
"""Windows error numbers of a file that another program holds open."""

_SPACE = (ErrorCode.NO_SPACE, "free some space (`wanrec usage`, `wanrec gc`) or raise the quota")
_DENIED = (
    ErrorCode.PERMISSION_DENIED,
    "run as the owner of the root, or give this user the right to write there",
)
_HANDLES = (ErrorCode.TOO_MANY_FILES, "raise the limit (`ulimit -n`) or lower --parallelism")
_USED = (ErrorCode.IN_USE, "close the program that holds it open, then run the command again")
_UNSAFE = (
    ErrorCode.UNSAFE_PATH,
    "a link or another kind of entry stands in the way; remove it or put the folder back",
)
_BROKEN = (ErrorCode.FILESYSTEM_ERROR, "check the disk and the system log, then run again")
_CHANGED = (
    ErrorCode.FILESYSTEM_ERROR,
    "something changed the root meanwhile; run the command again",
)
_LINKS = (ErrorCode.FILESYSTEM_ERROR, "this file system refuses the operation; see `wanrec doctor`")

_BY_ERRNO = {
    errno.ENOSPC: _SPACE,
    errno.EFBIG: (ErrorCode.NO_SPACE, "raise the file size limit (`ulimit -f`, file system)"),
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: (ErrorCode.READ_ONLY, "mount the file system read-write or choose another root"),
    errno.EMFILE: _HANDLES,
    errno.ENFILE: _HANDLES,
    errno.EBUSY: _USED,
    errno.ELOOP: _UNSAFE,
    errno.ENOTDIR: _UNSAFE,
    errno.EISDIR: _UNSAFE,
    errno.ENAMETOOLONG: (ErrorCode.PATH_TOO_LONG, "shorten the name or use a shorter root"),
    errno.ENOENT: _CHANGED,
    errno.EEXIST: _CHANGED,
    errno.ENOTEMPTY: _CHANGED,
    errno.EXDEV: (
        ErrorCode.FILESYSTEM_ERROR,
        "mount the root as a whole, never a folder inside it",
    ),
    errno.EMLINK: _LINKS,
}
# Names that not every platform has.
for _name, _meaning in {"EDQUOT": _SPACE, "ETXTBSY": _USED, "EOPNOTSUPP": _LINKS}.items():
    if hasattr(errno, _name):
        _BY_ERRNO[getattr(errno, _name)] = _meaning


def printable(text: str) -> str:
    """Return `text` with control, bidi and undecodable characters escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def translate_os_error(exc: OSError, path: str, doing: str = "use") -> WanrecError:
    """Return the error of the contract for `exc`.

    Args:
        exc: what the operating system said.
        path: the path it is about, relative to the root.
        doing: a verb for the summary: "read", "write", "rename", …
    """
    if getattr(exc, "winerror", None) in _SHARING_VIOLATIONS:
        code, hint = _USED
    else:
        code, hint = _BY_ERRNO.get(exc.errno or 0, _BROKEN)
    shown = printable(path) or "."
    reason = os.strerror(exc.errno) if exc.errno else str(exc)
    error = WanrecError(
        code, f"cannot {doing} {shown}: {reason}", detail=reason, where=shown, hint=hint
    )
    error.__cause__ = exc
    return error


def os_errno(error: BaseException) -> int | None:
    """Return the errno behind a translated error (or an `OSError`), None when there is none."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return cause.errno if isinstance(cause, OSError) else None


class translated:
    """Run the body; an `OSError` leaves as a `WanrecError` about `path`."""

    __slots__ = ("_doing", "_path")

    def __init__(self, path: str, doing: str = "use") -> None:
        self._path = path
        self._doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(value, OSError):
            raise translate_os_error(value, self._path, self._doing) from value
