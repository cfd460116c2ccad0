"""`local://` and `file://`: a folder of this machine, read and never written.

Symlinks at the source are followed for reading (a HuggingFace cache is made of them); what they
lead to must be a regular file. FIFOs, sockets and devices are refused without blocking on them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from wanrec.providers.base import Body, CatalogueEntry, Located, Provider, ProviderContext
from wanrec.providers.hashing import read_at
from wanrec.providers.source_url import SourceUrl
from wanrec.reconcile.errors import ErrorCode

__all__ = ["FileBody", "LocalProvider", "open_regular", "walk_folder"]

_NOT_MODEL_FOLDERS = frozenset({".cache", ".git", "__pycache__"})


class LocalProvider(Provider):
    """A folder; relative ones start at `local_root`, else at the spec file's folder."""

    needs_network = False
    gives_local_paths = True

    def __init__(self, url: SourceUrl, context: ProviderContext) -> None:
        super().__init__(url, context)
        self._checked: Path | None = None

    def _locate(self, path: str, probe: bool) -> Located:
        file = self._file(path)
        size = None
        if probe:
            fd = open_regular(self, file, path)
            size = os.fstat(fd).st_size
            os.close(fd)
        return Located(
            source=self.name,
            path=path,
            size=size,
            local_path=file,
            revision=self._revision(),
        )

    def _catalogue(self) -> Iterator[CatalogueEntry]:
        return walk_folder(self._folder())

    def _open_range(self, located: Located, start: int, stop: int | None) -> Body:
        file = located.local_path or self._file(located.path)
        return FileBody(open_regular(self, file, located.path), start, stop)

    def _file(self, path: str) -> Path:
        return self._folder() / path

    def _folder(self) -> Path:
        if self._checked is None:
            base = self.context.local_root or self.context.base
            folder = base / _expand_home(self.url)
            if not folder.is_dir():
                raise self.error(
                    ErrorCode.SOURCE_UNAVAILABLE,
                    "the source folder does not exist" if not folder.exists() else "not a folder",
                    hint="a relative local:// starts at local_root, else beside the spec file",
                )
            self._checked = folder
        return self._checked

    def _revision(self) -> str | None:
        return None


def _expand_home(url: SourceUrl) -> Path:
    path = Path(url.location)
    return path.expanduser() if url.scheme == "local" and url.location.startswith("~") else path


class FileBody(Body):
    """A range of an open regular file; owns the descriptor."""

    def __init__(self, fd: int, start: int, stop: int | None) -> None:
        self._fd = fd
        size = os.fstat(fd).st_size
        self.total = size
        self.start = min(start, size)
        self.stop = size if stop is None else min(stop, size)
        self._at = self.start

    def readinto(self, buffer: memoryview) -> int:
        """As the base class."""
        stop = self.stop or 0
        count = read_at(self._fd, buffer[: max(0, stop - self._at)], self._at)
        self._at += count
        return count

    def close(self) -> None:
        """As the base class."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_regular(provider: Provider, file: Path, path: str) -> int:
    """Open a source file for reading; never blocks, and takes regular files only.

    Raises:
        WanrecError: NOT_FOUND_AT_SOURCE, AUTH_FAIL, TOO_MANY_FILES; UNSAFE_PATH for what is not
            a regular file.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        fd = os.open(file, flags | getattr(os, "O_BINARY", 0))
    except OSError as exc:
        if not isinstance(exc, FileNotFoundError | PermissionError) and _is_special(file):
            raise _not_regular(provider, path) from exc
        raise provider.translate(exc, path) from exc
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _not_regular(provider, path)
    return fd


def _is_special(file: Path) -> bool:
    try:
        mode = file.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _not_regular(provider: Provider, path: str) -> Exception:
    return provider.error(ErrorCode.UNSAFE_PATH, f"{path!r} at the source is not a regular file")


def walk_folder(folder: Path) -> Iterator[CatalogueEntry]:
    """Yield the regular files below a folder, symlinked files included, folders never followed."""

    def refuse(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if name not in _NOT_MODEL_FOLDERS)
        prefix = Path(parent).relative_to(folder).as_posix()
        for name in sorted(names):
            try:
                status = os.stat(os.path.join(parent, name))
            except FileNotFoundError:  # a symlink that leads nowhere is no file
                continue
            if stat.S_ISREG(status.st_mode):
                path = name if prefix == "." else f"{prefix}/{name}"
                yield CatalogueEntry(path=path, size=status.st_size)
