"""The only door to the file system below the root that writes.

Paths go in relative to the root, in POSIX form; entries below the root are created, renamed,
linked, removed, and nothing outside it ever is (`disk_walk` explains how). Each method is one
step a crash may fall behind or in front of; the order of steps, and what is flushed when, is the
caller's. Every failure is a `WanrecError` whose cause is the `OSError`.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping

from wanrec.reconcile import disk_linux
from wanrec.reconcile.disk_errors import os_errno, translate_os_error, translated
from wanrec.reconcile.disk_paths import (
    CREATE_FILE,
    HAS_DIR_FD,
    READ_DIR,
    READ_FILE,
    WANREC_DIR,
    fact_of,
    kind_of,
    split_path,
)
from wanrec.reconcile.disk_walk import Tree
from wanrec.reconcile.errors import WanrecError
from wanrec.reconcile.facts import EntryKind, FileFact, Via

__all__ = ["WANREC_DIR", "Root", "Tree", "fact_of", "identity", "os_errno", "translate_os_error"]

_NO_LINK = frozenset(
    {errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
)
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
# Windows flushes only what is open for writing.
_TO_FLUSH = READ_FILE if HAS_DIR_FD else os.O_RDWR | getattr(os, "O_BINARY", 0)
_BUFFER = 1024 * 1024


def identity(fact: FileFact) -> tuple[int, int, int]:
    """What `remove_tree` compares: inode, size, mtime (they survive renames and link counts)."""
    return (fact.ino, fact.size, fact.mtime_ns)


class Root(Tree):
    """An open root for writers; thread-safe like `Tree`."""

    __slots__ = ()

    def create(self, rel: str, mode: int = 0o600) -> int:
        """Create a new file and return its read-write descriptor; refuses an existing entry."""
        with translated(rel, "create"), self._parent(rel) as (fd, name):
            return os.open(name, CREATE_FILE, mode, dir_fd=fd)

    def make_dirs(self, rel: str, mode: int = 0o755) -> None:
        """Create the folder and those above it; new ones get exactly `mode`, old ones stay.

        Raises:
            WanrecError: UNSAFE_PATH when something else than a folder is on the way.
        """
        parts = split_path(rel)
        for depth in range(1, len(parts) + 1):
            self._make_dir("/".join(parts[:depth]), mode)

    def _make_dir(self, rel: str, mode: int) -> None:
        with translated(rel, "create"), self._parent(rel) as (fd, name):
            try:
                os.mkdir(name, mode, dir_fd=fd)
            except FileExistsError:
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if kind_of(found.st_mode) is not EntryKind.DIRECTORY:
                    raise OSError(errno.ENOTDIR, "not a folder", rel) from None
            else:
                _set_mode(fd, name, mode)

    def link(self, src: str, dst: str) -> bool:
        """Hard-link `src` at the new name `dst`; False when links cannot be had here.

        False means another device, too many links, or a file system or policy without links:
        copy instead. An existing `dst` is an error.
        """
        with translated(dst, "link"), self._pair(src, dst) as (src_fd, old, dst_fd, new):
            try:
                if src_fd is None:
                    os.link(old, new)
                else:
                    os.link(old, new, src_dir_fd=src_fd, dst_dir_fd=dst_fd, follow_symlinks=False)
            except OSError as exc:
                if exc.errno in _NO_LINK:
                    return False
                raise
            return True

    def rename(self, src: str, dst: str) -> None:
        """Rename; a file or empty folder at `dst` is replaced in the same step."""
        with translated(dst, "rename to"), self._pair(src, dst) as (src_fd, old, dst_fd, new):
            if src_fd is None:
                os.replace(old, new)
            else:
                os.rename(old, new, src_dir_fd=src_fd, dst_dir_fd=dst_fd)

    def rename_noreplace(self, src: str, dst: str) -> bool:
        """Rename unless anything lies at `dst`; False when something does.

        Without kernel support the check comes just before the rename.
        """
        with translated(dst, "rename to"), self._pair(src, dst) as (src_fd, old, dst_fd, new):
            try:
                if disk_linux.rename_noreplace(src_fd, old, dst_fd, new):
                    return True
            except FileExistsError:
                return False
        if self.exists(dst):
            return False
        self.rename(src, dst)
        return True

    def exchange(self, a: str, b: str) -> bool:
        """Exchange two entries in one step; False when it cannot be done in one step here."""
        with translated(b, "exchange"), self._pair(a, b) as (a_fd, a_name, b_fd, b_name):
            return disk_linux.rename_exchange(a_fd, a_name, b_fd, b_name)

    def unlink(self, rel: str, *, missing_ok: bool = False) -> None:
        """Remove one name of a file or link; never a folder."""
        with translated(rel, "remove"), self._parent(rel) as (fd, name):
            try:
                os.unlink(name, dir_fd=fd)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def rmdir(self, rel: str) -> bool:
        """Remove an empty folder; False when it is gone already or not empty."""
        with translated(rel, "remove"), self._parent(rel) as (fd, name):
            try:
                os.rmdir(name, dir_fd=fd)
            except FileNotFoundError:
                return False
            except OSError as exc:
                if exc.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    return False
                raise
            return True

    def remove_tree(
        self, rel: str, only: Mapping[str, tuple[int, int, int]] | None = None
    ) -> tuple[str, ...]:
        """Remove a folder and return the paths (relative to it) that were left alone.

        Args:
            rel: the folder; nothing happens when it is not there.
            only: path → `identity` of the entries that may go; None takes everything. An entry
                that is not named, or is no longer the one named, stays, and so do its folders.

        Raises:
            WanrecError: UNSAFE_PATH when `rel` is no folder; the reason when an entry resists.
        """
        folders = self.folders(rel)
        left = []
        for path, fact in self.walk(rel).items():
            if path == "" or fact.kind is EntryKind.UNREADABLE:
                raise translate_os_error(_refusal(fact), f"{rel}/{path}".rstrip("/"), "remove")
            if fact.kind is EntryKind.DIRECTORY:
                continue
            if only is not None and only.get(path) != identity(fact):
                left.append(path)
            else:
                self.unlink(f"{rel}/{path}", missing_ok=True)
        for path in reversed(folders):
            self.rmdir(f"{rel}/{path}")
        self.rmdir(rel)
        return tuple(left)

    def clone_or_copy(self, src: str, dst: str, mode: int = 0o600, *, clone: bool = True) -> Via:
        """Make the new file `dst` with the bytes of `src`, shared where the file system can.

        Nothing is left at `dst` on failure. The caller hashes: `src` may change meanwhile.
        Without `clone` the new file gets blocks of its own.
        """
        source = self.open_read(src)
        try:
            target = self.create(dst, mode)
            try:
                with translated(dst, "write"):
                    return _copy(source, target, clone)
            except BaseException:
                self.unlink(dst, missing_ok=True)
                raise
            finally:
                os.close(target)
        finally:
            os.close(source)

    def fsync_file(self, rel: str) -> None:
        """Flush a file's bytes to the device. After a failure its bytes are not to be trusted."""
        with translated(rel, "flush"), self._parent(rel) as (folder, name):
            fd = os.open(name, _TO_FLUSH, dir_fd=folder)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def fsync_dir(self, rel: str = "") -> None:
        """Flush the names in a folder to the device, where folders can be flushed."""
        with translated(rel, "flush"):
            try:
                with self.folder(rel) as (fd, _):
                    if fd is not None:
                        os.fsync(fd)
            except OSError as exc:
                if exc.errno not in _NO_FOLDER_SYNC:
                    raise

    def write_atomic(
        self, rel: str, data: bytes, mode: int = 0o644, *, draft: str | None = None
    ) -> None:
        """Replace a small file: whole and flushed under its name, or the old one is still there.

        `draft` is where it is written first, for callers who know how to clear it after a crash.
        """
        folder, _, _ = rel.rpartition("/")
        if draft is None:
            draft = f"{folder}/" if folder else ""
            draft += f".{os.urandom(8).hex()}.tmp"
        else:
            self.unlink(draft, missing_ok=True)
        fd = self.create(draft, mode)
        try:
            with translated(rel, "write"):
                try:
                    _write_all(fd, data)
                    if hasattr(os, "fchmod"):
                        os.fchmod(fd, mode)
                    os.fsync(fd)
                finally:
                    os.close(fd)
            self.rename(draft, rel)
        except BaseException:
            with contextlib.suppress(WanrecError):
                self.unlink(draft, missing_ok=True)
            raise
        self.fsync_dir(folder)

    def chmod(self, rel: str, mode: int) -> None:
        """Set the mode of a file or folder; links are refused."""
        with translated(rel, "change the mode of"), self._parent(rel) as (fd, name):
            _set_mode(fd, name, mode)

    @contextlib.contextmanager
    def _pair(self, a: str, b: str) -> Iterator[tuple[int | None, str, int | None, str]]:
        with self._parent(a) as (a_fd, a_name), self._parent(b) as (b_fd, b_name):
            yield a_fd, a_name, b_fd, b_name


def _set_mode(fd: int | None, name: str, mode: int) -> None:
    kind = kind_of(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
    if kind not in (EntryKind.FILE, EntryKind.DIRECTORY):
        raise OSError(errno.ELOOP, "not a file or folder", name)
    if fd is None or not hasattr(os, "fchmod"):
        os.chmod(name, mode)
        return
    try:
        opened = os.open(name, READ_FILE if kind is EntryKind.FILE else READ_DIR, dir_fd=fd)
    except PermissionError:
        # Ours, but not readable by its mode: a path-only handle still names the right inode.
        opened = os.open(name, _path_only(), dir_fd=fd)
        try:
            os.chmod(f"/proc/self/fd/{opened}", mode)
        finally:
            os.close(opened)
        return
    try:
        os.fchmod(opened, mode)
    finally:
        os.close(opened)


def _path_only() -> int:
    return int(getattr(os, "O_PATH", os.O_RDONLY)) | READ_FILE


def _refusal(fact: FileFact) -> OSError:
    if fact.kind is EntryKind.UNREADABLE:
        return OSError(errno.EACCES, fact.error or "unreadable")
    return OSError(errno.ENOTDIR, f"it is no folder ({fact.kind})")


def _copy(source: int, target: int, clone: bool) -> Via:
    if clone and disk_linux.reflink(source, target):
        return Via.REFLINK
    if not disk_linux.copy_range(source, target):
        while chunk := os.read(source, _BUFFER):
            _write_all(target, chunk)
    return Via.COPY


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
