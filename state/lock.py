"""Locks between threads, processes and crashes, for one `.wanrec/locks/` directory.

The kernel's lock decides; who holds it, since when and why is advice in a `.info` file beside
it. Threads of one process keep each other out too, links are never followed, a file that is
deleted or replaced under a lock is noticed by its device and inode, a forked child inherits
nothing, and a killed holder's lock is free at once. How: `state.lock_table`.

A lock file is never unlinked, with one exception: the lock of a run, whose name is used once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.state import lock_info
from wanrec.state.lock_info import LockInfo
from wanrec.state.lock_table import (
    Entry,
    StopFlag,
    Wait,
    close,
    entry_of,
    holder_of,
    identity,
    leave,
    lock_file,
    lock_is_held,
    same_file,
    unreliable,
)

__all__ = ["HeldLock", "LockInfo", "LockRegistry", "StopFlag"]


class HeldLock:
    """A lock that is held until `release`, the end of its `with` block or of the process."""

    def __init__(self, path: str, entry: Entry, *, shared: bool = False) -> None:
        self.path = path
        self._entry: Entry | None = entry
        self._shared = shared
        self._pid = os.getpid()

    def __enter__(self) -> HeldLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    @property
    def held(self) -> bool:
        """True until released; False in a forked child, which inherits no lock."""
        return self._entry is not None and self._pid == os.getpid()

    def check(self) -> None:
        """Make sure that the lock file is still the one that was locked.

        Raises:
            WanrecError: LOCK_UNRELIABLE when it was deleted or replaced, or when the lock was
                released or belongs to the parent process.
        """
        if self._entry is None or not self.held:
            raise unreliable(self.path, "the lock is not held by this process")
        if not same_file(self._entry.lock.lockfile.fileno(), self.path):
            raise unreliable(self.path, "the lock file was deleted or replaced while it was held")

    def release(self, *, unlink: bool = False) -> None:
        """Let go; a second call does nothing. `unlink` is for names that are never used again."""
        entry, self._entry = self._entry, None
        if entry is None or self._pid != os.getpid():
            return
        if self._shared:
            leave(entry)
            return
        lock_info.remove(self.path)
        if unlink:
            _unlink_quietly(self.path)
        with entry.mutex:
            close(entry)
            entry.exclusive = False
        entry.gate.release()

    def probe(self) -> None:
        """Let a child process try the lock that this one holds.

        Raises:
            WanrecError: LOCK_UNRELIABLE when the child gets it too.
        """
        from wanrec.state.lock_probe import child_is_refused

        if not child_is_refused(self.path):
            raise unreliable(
                self.path,
                "a second process could take a lock that is held: this file system does not lock",
            )


class LockRegistry:
    """The locks under one directory; all instances of a process share one table."""

    def __init__(
        self, directory: Path, *, timestamp: Callable[[], str] = lock_info.utc_now
    ) -> None:
        self.directory = directory
        self._timestamp = timestamp
        self._probed = False

    def path(self, name: str) -> str:
        """Absolute path of the lock file of a name, with the directory's links resolved."""
        return os.path.join(os.path.realpath(self.directory), f"{_file_stem(name)}.lock")

    def acquire(
        self,
        name: str,
        timeout_s: float,
        operation: str,
        *,
        run: str | None = None,
        stop: StopFlag | None = None,
        create: bool = True,
    ) -> HeldLock:
        """Take a lock, waiting at most `timeout_s` for whoever holds it.

        Raises:
            WanrecError: LOCK_TIMEOUT, naming the holder; LOCK_UNRELIABLE for a link, a file that
                keeps changing, or a file system without locks; INTERRUPTED when `stop` was set;
                with `create` false, FILESYSTEM_ERROR when there is no such lock file; READ_ONLY,
                PERMISSION_DENIED, NO_SPACE as the disk says.
        """
        return self._acquire(name, timeout_s, operation, run, stop, create)

    def try_acquire(
        self, name: str, operation: str, *, run: str | None = None, create: bool = True
    ) -> HeldLock | None:
        """Take a lock if that can be done at once; None when somebody holds it."""
        try:
            return self._acquire(name, 0.0, operation, run, None, create)
        except WanrecError as exc:
            if exc.code is ErrorCode.LOCK_TIMEOUT:
                return None
            raise

    def _acquire(
        self,
        name: str,
        timeout_s: float,
        operation: str,
        run: str | None,
        stop: StopFlag | None,
        create: bool,
    ) -> HeldLock:
        path = self.path(name)
        entry = entry_of(path)
        wait = Wait(timeout_s, stop, lambda waited: self._timed_out(name, path, waited))
        wait.until(lambda pause: entry.gate.acquire(timeout=pause), blocking=True)
        try:
            wait.until(lambda _: entry.shared == 0)
            lock_file(entry, path, wait, create=create, shared=False)
            try:
                lock_info.refuse_other_holder(path, identity(entry))
            except WanrecError:
                close(entry)
                raise
            entry.exclusive = True
        except BaseException:
            entry.gate.release()
            raise
        held = HeldLock(path, entry)
        lock_info.write(path, name, operation, run, self._timestamp(), identity(entry))
        return held

    def use(self, name: str, timeout_s: float, *, stop: StopFlag | None = None) -> HeldLock | None:
        """Take the shared lock of a reader; any number of readers may be inside.

        Returns:
            The lock, or None where no lock file can be made (a read-only root, where nobody can
            swap anything either).

        Raises:
            WanrecError: as `acquire`.
        """
        path = self.path(f"use-{name}")
        entry = entry_of(path)
        wait = Wait(timeout_s, stop, lambda waited: self._timed_out(name, path, waited))
        wait.until(lambda pause: entry.gate.acquire(timeout=pause), blocking=True)
        try:
            with entry.mutex:
                if entry.shared:
                    entry.shared += 1
                    return HeldLock(path, entry, shared=True)
            try:
                lock_file(entry, path, wait, create=True, shared=True)
            except WanrecError as exc:
                if exc.code in (ErrorCode.READ_ONLY, ErrorCode.PERMISSION_DENIED):
                    return None
                raise
            with entry.mutex:
                entry.shared = 1
        finally:
            entry.gate.release()
        return HeldLock(path, entry, shared=True)

    def exclusive_use(
        self, name: str, timeout_s: float, *, stop: StopFlag | None = None
    ) -> HeldLock:
        """Keep readers out (see `use`), waiting for those inside.

        Raises:
            WanrecError: as `acquire`; LOCK_TIMEOUT names a reader.
        """
        return self.acquire(f"use-{name}", timeout_s, "swap", stop=stop)

    def is_held(self, name: str) -> bool:
        """True when a thread of this process or another process has the lock; takes nothing."""
        return lock_is_held(self.path(name))

    def holder(self, name: str) -> LockInfo | None:
        """What the holder wrote about itself; None when nobody holds the lock."""
        path = self.path(name)
        return holder_of(path) if lock_is_held(path) else None

    def list_locks(self) -> tuple[LockInfo, ...]:
        """The locks that are held at this moment, by name."""
        try:
            names = sorted(os.listdir(self.directory))
        except FileNotFoundError:
            return ()
        base = os.path.realpath(self.directory)
        paths = [os.path.join(base, name) for name in names if name.endswith(".lock")]
        return tuple(holder_of(path) for path in paths if lock_is_held(path))

    def probe(self, timeout_s: float = 30.0) -> None:
        """Prove once per process that locks in this directory keep other processes out.

        Many processes that begin at once do not queue for it: whoever is kept out by another
        process has its proof.

        Raises:
            WanrecError: LOCK_UNRELIABLE when they do not; else as `acquire`.
        """
        if self._probed:
            return
        gate = entry_of(self.path("probe")).gate
        threads = gate.locked()
        held = self.try_acquire("probe", "probe")
        if held is None and (threads or gate.locked()):  # kept out by a thread of this process
            held = self.acquire("probe", timeout_s, "probe")
        if held is not None:
            with held:
                held.probe()
        self._probed = True

    def _timed_out(self, name: str, path: str, waited_s: float) -> WanrecError:
        info = holder_of(path)
        who = f"process {info.pid} on {info.host}" if info.pid else "another process"
        why = f" ({info.operation}, since {info.since})" if info.operation else ""
        return WanrecError(
            ErrorCode.LOCK_TIMEOUT,
            f"lock {name!r} is held by {who}{why}",
            where=path,
            detail=f"waited {waited_s:.1f} s",
            hint="wait for that process or end it; `wanrec locks` lists all holders",
        )


def _unlink_quietly(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return


def _file_stem(name: str) -> str:
    """A lock name as one file name; what a file system may refuse becomes a digest."""
    safe = name and all(char.isalnum() or char in "-_.@[]+" for char in name)
    if safe and name.isascii() and len(name) <= 150 and not name.startswith("."):
        return name
    import hashlib

    kept = "".join(char if char.isascii() and char.isalnum() else "_" for char in name[:60])
    return f"{kept}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
