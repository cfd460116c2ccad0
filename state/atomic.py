"""Small files that are old or new and never torn: temp, fsync, rename, fsync of the directory.

Nothing here follows a link that lies below the root, and nothing waits on a pipe.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.state.osfault import translated

__all__ = [
    "ensure_dirs",
    "fsync_dir",
    "keep_backup",
    "read_regular",
    "remove",
    "sweep_temporaries",
    "write_atomic",
]

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_BINARY = getattr(os, "O_BINARY", 0)


def read_regular(path: str) -> bytes | None:
    """Return the whole content, None when nothing is there.

    Raises:
        WanrecError: UNSAFE_PATH for a link, a pipe or a folder; else as the disk says.
    """
    with translated(path):
        try:
            fd = os.open(path, os.O_RDONLY | _NOFOLLOW | _NONBLOCK | _BINARY)
        except FileNotFoundError:
            return None
        with os.fdopen(fd, "rb", closefd=True) as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise WanrecError(ErrorCode.UNSAFE_PATH, f"not a regular file: {path}", where=path)
            return file.read()


def write_atomic(path: str, data: bytes, *, mode: int = 0o644) -> None:
    """Replace the file's content; after a crash at any step the old or the new one is there.

    Raises:
        WanrecError: NO_SPACE, READ_ONLY, PERMISSION_DENIED, FILESYSTEM_ERROR; the old file is
            untouched and no temporary file is left.
    """
    temporary = _temporary(path)
    with translated(path):
        try:
            _write_synced(temporary, data, mode)
            os.replace(temporary, path)
        except BaseException:
            remove(temporary)
            raise
        fsync_dir(os.path.dirname(path))


def keep_backup(path: str, backup: str) -> None:
    """Let `backup` name the content that `path` has now; `path` itself is never touched.

    Raises:
        WanrecError: as `write_atomic`.
    """
    temporary = _temporary(backup)
    with translated(backup):
        try:
            try:
                os.link(path, temporary, follow_symlinks=False)
            except FileNotFoundError:
                return
            except (OSError, NotImplementedError):  # no hard links here: a copy will do
                _write_synced(temporary, read_regular(path) or b"", 0o644)
            os.replace(temporary, backup)
        finally:
            # A rename between two names of one inode does nothing and leaves the first.
            remove(temporary)


def ensure_dirs(base: str, names: Iterable[str]) -> None:
    """Make `base` and the directories `base/NAME` where they are missing.

    Raises:
        WanrecError: UNSAFE_PATH when one of them is a link or no directory.
    """
    for path in (base, *(os.path.join(base, name) for name in names)):
        with translated(path):
            try:
                os.mkdir(path, 0o755)
            except FileExistsError:
                if not stat.S_ISDIR(os.lstat(path).st_mode):
                    raise WanrecError(
                        ErrorCode.UNSAFE_PATH, f"not a directory of its own: {path}", where=path
                    ) from None
            else:
                fsync_dir(os.path.dirname(path))


def fsync_dir(path: str) -> None:
    """Make names in a directory durable, where the system can."""
    if os.name == "nt":
        return
    fd = os.open(path or ".", os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove(path: str) -> None:
    """Unlink if it is there and may be; what stays is harmless."""
    try:
        os.unlink(path)
    except OSError:
        return


def sweep_temporaries(path: str) -> None:
    """Remove what killed writers of this file left beside it.

    The caller holds the lock that all its writers hold, so none of it is in use.
    """
    directory, name = os.path.split(path)
    pattern = re.compile(re.escape(name) + r"(\.backup)?\.\d+-[0-9a-f]{8}\.tmp")
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for other in names:
        if pattern.fullmatch(other):
            remove(os.path.join(directory, other))


def _write_synced(path: str, data: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _BINARY
    fd = os.open(path, flags, mode)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(fd, left) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _temporary(path: str) -> str:
    return f"{path}.{os.getpid()}-{os.urandom(4).hex()}.tmp"
