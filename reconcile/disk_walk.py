"""The reading half of the door to the root: paths are walked, never trusted.

Every path is POSIX and relative to the root. A path is resolved one component at a time from an
open directory handle, and no component may be a link, so nothing outside the root can be reached
whatever happens to the tree meanwhile. Where the platform has no directory handles, every
component is looked at before a plain path is used; that is weaker against races, not against
mistakes. Nothing here writes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as stat_
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from wanrec.reconcile.disk_errors import printable, translate_os_error, translated
from wanrec.reconcile.disk_paths import (
    HAS_DIR_FD,
    READ_DIR,
    READ_FILE,
    STEP,
    fact_of,
    is_junction,
    kind_of,
    no_folder,
    split_path,
    unreadable,
)
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.facts import EntryKind, FileFact

__all__ = ["Tree"]

_MISSING = FileFact(kind=EntryKind.MISSING)


class Tree:
    """An open root for readers. Thread-safe: it holds one directory handle and no position.

    Attributes:
        path: the absolute path it was opened at, for messages and for callers outside the root.
    """

    __slots__ = ("_fd", "_held", "path")

    def __init__(self, path: Path, fd: int | None) -> None:
        self.path = path
        self._fd = fd
        self._held: dict[str, int] = {}

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the root; works on a read-only file system.

        Raises:
            WanrecError: INVALID_CONFIG when `path` is missing, a link or no directory.
        """
        where = str(path)
        try:
            found = kind_of(os.lstat(where).st_mode)
        except FileNotFoundError:
            found = EntryKind.MISSING
        except OSError as exc:
            raise translate_os_error(exc, where, "open the root") from exc
        if found is not EntryKind.DIRECTORY:
            raise _no_root(where, found)
        with translated(where, "open the root"):
            fd = os.open(where, STEP) if HAS_DIR_FD else None
        return cls(Path(os.path.abspath(where)), fd)

    def close(self) -> None:
        """Release the handle; closing twice is harmless."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def held(self, *rels: str) -> Iterator[None]:
        """Keep folders open for the block: work on many entries right below them opens less.

        Only for folders that keep their name meanwhile, and that no call is still at work in when
        the block ends. One that cannot be opened is not held, and found out when it is used.
        """
        mine: dict[str, int] = {}
        try:
            for rel in rels:
                if self._fd is not None and rel not in self._held:
                    with contextlib.suppress(OSError):
                        mine[rel] = self._held[rel] = self._descend(split_path(rel), STEP)
            yield
        finally:
            for rel, fd in mine.items():
                del self._held[rel]
                os.close(fd)

    def stat(self, rel: str) -> FileFact:
        """Say what lies at `rel`, links never followed; never raises for what it finds.

        A link anywhere on the way is a SYMLINK, a file on the way OTHER.
        """
        try:
            with self._parent(rel) as (fd, name):
                return fact_of(os.stat(name, dir_fd=fd, follow_symlinks=False))
        except FileNotFoundError:
            return _MISSING
        except OSError as exc:
            if exc.errno in (errno.ENOTDIR, errno.ELOOP):
                return self._obstacle(split_path(rel))
            return unreadable(exc)

    def exists(self, rel: str) -> bool:
        """True when anything at all lies at `rel`, a dangling link too."""
        return self.stat(rel).kind is not EntryKind.MISSING

    def walk(self, rel: str) -> dict[str, FileFact]:
        """Return everything below the folder `rel`, by path relative to it, sorted.

        Files, links and other entries are listed, folders only when they are empty or could not
        be read. `{}` when nothing lies at `rel`, `{"": fact}` when it is no readable folder.
        """
        return dict(sorted((path, fact) for path, fact in self._scan(rel) if not _full(fact)))

    def folders(self, rel: str) -> tuple[str, ...]:
        """Return the folders below `rel`, relative to it, parents first."""
        listed = self._scan(rel)
        return tuple(sorted(p for p, fact in listed if p and fact.kind is EntryKind.DIRECTORY))

    @contextlib.contextmanager
    def folder(self, rel: str) -> Iterator[tuple[int | None, str]]:
        """Open a folder for fast work on many entries: yields `(dir_fd, prefix)`.

        Use as ``os.stat(prefix + name, dir_fd=dir_fd, follow_symlinks=False)`` and
        ``os.listdir(prefix if dir_fd is None else dir_fd)``. `OSError` is not translated here.
        """
        parts = split_path(rel)
        if self._fd is None:
            yield None, self._plain(parts, folder=True) + os.sep
            return
        fd = self._descend(parts, READ_DIR)
        try:
            yield fd, ""
        finally:
            os.close(fd)

    def open_read(self, rel: str) -> int:
        """Open a regular file for reading and return its descriptor; never blocks.

        Raises:
            WanrecError: UNSAFE_PATH for anything but a regular file; or the translated reason.
        """
        with translated(rel, "read"), self._parent(rel) as (fd, name):
            # Looked at before it is opened: opening a device may already act on it.
            _require_file(os.stat(name, dir_fd=fd, follow_symlinks=False), rel)
            opened = os.open(name, READ_FILE, dir_fd=fd)
            try:
                _require_file(os.fstat(opened), rel)
            except BaseException:
                os.close(opened)
                raise
            return opened

    def read_small(self, rel: str, limit: int = 1 << 26) -> bytes:
        """Read a whole small file.

        Raises:
            WanrecError: FILESYSTEM_ERROR when it is larger than `limit` bytes; as `open_read`.
        """
        with os.fdopen(self.open_read(rel), "rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise translate_os_error(OSError(errno.EFBIG, "too large to be read"), rel, "read")
        return data

    def free_bytes(self, rel: str = "") -> int:
        """Bytes an unprivileged writer may still use where `rel` is, or would come to be."""
        with translated(rel, "measure"), self._nearest(rel) as (fd, prefix):
            if hasattr(os, "statvfs"):
                room = os.statvfs(prefix if fd is None else fd)
                return room.f_bavail * room.f_frsize
            import shutil

            return shutil.disk_usage(prefix).free

    def device(self, rel: str = "") -> int:
        """Device number of the file system where `rel` is, or would come to be."""
        with translated(rel, "look at"), self._nearest(rel) as (fd, prefix):
            return os.stat(prefix if fd is None else fd).st_dev

    def _scan(self, rel: str) -> Iterator[tuple[str, FileFact]]:
        """Yield every entry below `rel`; a DIRECTORY with `nlink` 0 is known to be empty."""
        pending = [""]
        while pending:
            below = pending.pop()
            try:
                with self.folder(_join(rel, below)) as (fd, prefix):
                    names = os.listdir(prefix if fd is None else fd)
                    found = [(_join(below, n), _look(fd, prefix + n)) for n in names]
            except OSError as exc:
                fact = self.stat(_join(rel, below))
                if fact.kind is EntryKind.DIRECTORY:
                    fact = unreadable(exc)
                if fact.kind is not EntryKind.MISSING:
                    yield below, fact
                continue
            if below:
                yield below, FileFact(kind=EntryKind.DIRECTORY, nlink=len(found))
            for path, fact in found:
                if fact.kind is EntryKind.DIRECTORY:
                    pending.append(path)
                elif fact.kind is not EntryKind.MISSING:
                    yield path, fact

    def _parent(self, rel: str) -> _Parent:
        """Give `(dir_fd, name)` to be handed to an `os` function together."""
        return _Parent(self, rel)

    def _open_parent(self, rel: str) -> tuple[int | None, str, bool]:
        """Return the folder's descriptor, the name in it, and whether to close it afterwards."""
        parts = split_path(rel)
        if self._fd is None:
            return None, self._plain(parts), False
        if self._held and parts:
            kept = self._held.get(rel.rpartition("/")[0])
            if kept is not None:
                return kept, parts[-1], False
        return self._descend(parts[:-1], STEP), parts[-1] if parts else ".", True

    @contextlib.contextmanager
    def _nearest(self, rel: str) -> Iterator[tuple[int | None, str]]:
        """Open `rel`, or the nearest folder above it that exists."""
        parts = split_path(rel)
        while parts and self.stat("/".join(parts)).kind is not EntryKind.DIRECTORY:
            parts.pop()
        with self.folder("/".join(parts)) as place:
            yield place

    def _descend(self, folders: list[str], flags: int) -> int:
        """Open a folder one component at a time; the caller closes the descriptor."""
        assert self._fd is not None, "the root is closed"
        if not folders:
            return os.open(".", flags, dir_fd=self._fd)
        fd = self._fd
        last = len(folders) - 1
        for index, name in enumerate(folders):
            try:
                step = os.open(name, flags if index == last else STEP, dir_fd=fd)
            finally:
                if fd != self._fd:
                    os.close(fd)
            fd = step
        return fd

    def _plain(self, parts: list[str], *, folder: bool = False) -> str:
        """Return the absolute path after looking at every folder on the way, or all of it."""
        path = str(self.path)
        for index, part in enumerate(parts):
            path = os.path.join(path, part)
            if index == len(parts) - 1 and not folder:
                break
            st = os.lstat(path)
            linked = is_junction(st)
            if linked or not stat_.S_ISDIR(st.st_mode):
                raise OSError(errno.ELOOP if linked else errno.ENOTDIR, "not a folder", path)
        return path

    def _obstacle(self, parts: list[str]) -> FileFact:
        """Say what stands where a folder is needed."""
        for depth in range(1, len(parts)):
            place = "/".join(parts[:depth])
            kind = self.stat(place).kind
            if kind is not EntryKind.DIRECTORY:
                return no_folder(place, kind)
        return FileFact(kind=EntryKind.OTHER, error="no folder on the way")


def _no_root(where: str, found: EntryKind) -> WanrecError:
    what, hint = "is not a directory", "give --root a directory"
    if found is EntryKind.MISSING:
        what = "does not exist"
        hint = f"wanrec init --root {_word(where)}  (or --create-root with plan and apply)"
    elif found is EntryKind.SYMLINK:
        what = "is a symbolic link; name the folder it points to"
        hint = f"--root {_word(os.path.realpath(where))}"
    return WanrecError(
        ErrorCode.INVALID_CONFIG,
        f"the root {printable(where)} {what}",
        where=printable(where),
        hint=hint,
    )


def _word(path: str) -> str:
    """Return a path as it can be typed into a shell."""
    import shlex  # only for who is refused

    return shlex.quote(printable(path))


def _require_file(st: os.stat_result, rel: str) -> None:
    kind = kind_of(st.st_mode)
    if kind is not EntryKind.FILE:
        shown = printable(rel)
        raise WanrecError(
            ErrorCode.UNSAFE_PATH,
            f"{shown}: not a regular file ({kind})",
            where=shown,
            hint="remove it; wanrec reads and writes regular files only",
        )


def _look(fd: int | None, name: str) -> FileFact:
    try:
        return fact_of(os.stat(name, dir_fd=fd, follow_symlinks=False))
    except FileNotFoundError:
        return _MISSING
    except OSError as exc:
        return unreadable(exc)


def _full(fact: FileFact) -> bool:
    return fact.kind is EntryKind.DIRECTORY and fact.nlink > 0


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and name else folder or name


class _Parent:
    """The open folder of one path, for a block; a class, because every step on the disk has one."""

    __slots__ = ("_fd", "_rel", "_tree")

    def __init__(self, tree: Tree, rel: str) -> None:
        self._tree = tree
        self._rel = rel
        self._fd: int | None = None

    def __enter__(self) -> tuple[int | None, str]:
        fd, name, mine = self._tree._open_parent(self._rel)
        if mine:
            self._fd = fd
        return fd, name

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._fd is not None:
            os.close(self._fd)
