"""One user's cache: small JSON files in the folder that the user named.

What lies there decides what a run takes for granted, so a file or folder that is not the user's
own, or that others may write to, is passed over; so is a file that is torn or that another wanrec
wrote. Nothing here ever fails: without a cache everything is worked out again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path
from typing import Any

from wanrec.reconcile.version import __version__

__all__ = ["NOT_OURS", "UserCache"]

_FORMAT = 1
_MAX_BYTES = 1 << 28
_MAX_FILES = 64
_DIGEST = hashlib.sha256().digest_size * 2
_MADE_BY = (
    "collect",
    "desired",
    "engine_specs",
    "lockfile",
    "manifest",
    "model",
    "names",
    "toml_lines",
)
NOT_OURS = (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)
"""What comes of reading, or looking through, a file that holds anything else."""
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_BINARY = getattr(os, "O_BINARY", 0)


class UserCache:
    """One file of the cache.

    Args:
        folder: where the files lie, None: nowhere.
        name: what the file is about; any text.
    """

    def __init__(self, folder: Path | None, name: str) -> None:
        self.folder = folder
        self._name = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:32]

    def read(self) -> Any:
        """Return what this wanrec wrote, None when there is no such thing."""
        if self.folder is None:
            return None
        try:
            data = _read_own(str(self.folder), self._name)
            body = memoryview(data)[_DIGEST:]
            if hashlib.sha256(body).hexdigest().encode() != data[:_DIGEST]:
                return None
            import json

            mark, kept = json.loads(str(body, "utf-8"))
            return kept if mark == _mark() else None
        except NOT_OURS:
            return None

    def write(self, kept: Any) -> None:
        """Replace the file, if there is a folder that can take it."""
        if self.folder is not None:
            with contextlib.suppress(*NOT_OURS):
                self._replace(kept)

    def _replace(self, kept: Any) -> None:
        import json

        body = json.dumps([_mark(), kept], separators=(",", ":")).encode()
        if len(body) >= _MAX_BYTES:
            return
        folder = str(self.folder)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if not _is_own(os.lstat(folder), stat.S_IFDIR):
            return
        _sweep(folder)
        temporary = os.path.join(folder, f"{self._name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _BINARY
        try:
            with open(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(hashlib.sha256(body).hexdigest().encode())
                file.write(body)
            os.replace(temporary, os.path.join(folder, self._name))
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _read_own(folder: str, name: str) -> bytes:
    """Read a file that only this user can have written.

    Raises:
        OSError: it is not there, or somebody else could have written it.
    """
    fd = os.open(os.path.join(folder, name), os.O_RDONLY | _NOFOLLOW | _BINARY)
    with open(fd, "rb") as file:
        if not _is_own(os.fstat(fd), stat.S_IFREG) or not _is_own(os.lstat(folder), stat.S_IFDIR):
            raise PermissionError
        return file.read(_MAX_BYTES)


def _is_own(seen: os.stat_result, kind: int) -> bool:
    if stat.S_IFMT(seen.st_mode) != kind:
        return False
    if not hasattr(os, "geteuid"):  # Windows: what lies in the user's profile is the user's
        return True
    return seen.st_uid == os.geteuid() and not seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _mark() -> list[Any]:
    """Name the wanrec that parses: its version, and its parsing modules as they lie there."""
    here = os.path.dirname(os.path.abspath(__file__))
    seen = hashlib.sha256()
    with contextlib.suppress(OSError), os.scandir(here) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith(_MADE_BY) and entry.name.endswith(".py"):
                st = entry.stat()
                seen.update(f"{entry.name} {st.st_size} {st.st_mtime_ns}\n".encode())
    return [_FORMAT, __version__, seen.hexdigest()]


def _sweep(folder: str) -> None:
    """Make room: of many projects, the ones that changed last are kept."""
    with contextlib.suppress(OSError):
        with os.scandir(folder) as entries:
            found = [
                (entry.stat(follow_symlinks=False).st_mtime_ns, entry.path) for entry in entries
            ]
        for _, path in sorted(found, reverse=True)[_MAX_FILES - 1 :]:
            os.unlink(path)
