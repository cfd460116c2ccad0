"""Specs that an earlier run has parsed, kept for the next one in the folder that the user named.

One file for each project: spec path → the digest of every byte it was made from (the spec, its
lock, each `defaults.toml` above it) and its rows. The files of the specs are read and hashed in
every run; only the parsing is spared, and only for bytes that are the same, by the same wanrec.

The rows say what is wanted, so they lie where only the user can write, never below a root that
others share. A file or folder that is not the user's own, or that others may write to, is passed
over; so is one that is torn, that another wanrec wrote, or that holds anything else than rows.
Nothing here ever fails: without a cache everything is parsed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanrec.reconcile.version import __version__

if TYPE_CHECKING:
    from wanrec.reconcile.desired_expanded import Expanded

__all__ = ["SpecCache"]

_FORMAT = 1
_MAX_BYTES = 1 << 28
_MAX_FILES = 64
_WORTH_BYTES = 32 << 10
"""Specs of fewer bytes are parsed in the time a cache takes to be read."""
_DIGEST = hashlib.sha256().digest_size * 2
_MADE_BY = ("collect", "desired", "lockfile", "manifest", "model", "names", "toml_lines")
_NOT_OURS = (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_BINARY = getattr(os, "O_BINARY", 0)


class SpecCache:
    """The parsed specs of one project.

    Args:
        folder: where projects are kept, None: nowhere.
        project: what the specs are found by; any text.
    """

    def __init__(self, folder: Path | None, project: str) -> None:
        self._folder = folder
        self._name = hashlib.sha256(project.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self._known: Mapping[str, Any] | None = None

    def recall(self, path: str, key: str) -> Expanded | None:
        """Return a spec as an earlier run made it of the same bytes, None when there is none."""
        if self._known is None:
            self._known = self._read()
        try:
            made_of, rows = self._known[path]
            if made_of != key:
                return None
            from wanrec.reconcile.desired_expanded import from_rows

            return from_rows(path, rows)
        except _NOT_OURS:
            return None

    def keep(self, keys: Mapping[str, str], specs: Iterable[Expanded], size: int) -> None:
        """Keep the specs of this run, if one of them is new and they are worth it.

        Args:
            keys: spec path → digest of what it was made from, of every spec without a fault.
            specs: what they were expanded to.
            size: bytes of all of them.
        """
        known = self._known or {}
        same = all(path in known and known[path][0] == key for path, key in keys.items())
        if self._folder is None or same or size < _WORTH_BYTES:
            return
        from wanrec.reconcile.desired_expanded import to_rows

        rows = {
            spec.path: [keys[spec.path], to_rows(spec)]
            for spec in specs
            if spec.path in keys and not spec.faults
        }
        with contextlib.suppress(*_NOT_OURS):
            self._write(rows)

    def _read(self) -> Mapping[str, Any]:
        if self._folder is None:
            return {}
        try:
            data = _read_own(str(self._folder), self._name)
            body = memoryview(data)[_DIGEST:]
            if hashlib.sha256(body).hexdigest().encode() != data[:_DIGEST]:
                return {}
            import json

            mark, specs = json.loads(str(body, "utf-8"))
            return specs if mark == _mark() and isinstance(specs, dict) else {}
        except _NOT_OURS:
            return {}

    def _write(self, rows: Mapping[str, Any]) -> None:
        import json

        body = json.dumps([_mark(), rows], separators=(",", ":")).encode()
        if len(body) >= _MAX_BYTES:
            return
        folder = str(self._folder)
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
