"""Locks between threads, processes and crashes, for one `.wanrec/locks/` directory.

The kernel's lock decides; who holds it, since when and why is advice in a `.info` file beside
it. fasteners' lock is a POSIX record lock and has that lock's traps: two threads of one process
both get it, closing any descriptor of the file drops it, and a deleted file lets a second holder
in. So every lock file of the process has one entry in one table: a thread must pass its gate
before the file is opened, the open file stays in the table while the lock is held, links are
never followed, and device and inode are compared after acquiring.

A lock file is never unlinked, with one exception: the lock of a run, whose name is used once.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.state import lock_info
from wanrec.state.lock_info import LockInfo
from wanrec.state.osfault import translated

if TYPE_CHECKING:
    from io import TextIOWrapper

__all__ = ["HeldLock", "LockInfo", "LockRegistry", "StopFlag"]

_FIRST_DELAY_S = 0.01
_MAX_DELAY_S = 0.25
_REOPENS = 20


class StopFlag(Protocol):
    """What a waiting thread looks at (a threading.Event will do)."""

    def is_set(self) -> bool:
        """True once the wait should end."""

    def wait(self, timeout: float) -> bool:
        """Sleep at most so long, less when the flag is set."""


class _Entry:
    """All that this process knows about one lock file.

    `gate` is held by the one thread that opens, awaits or holds the file exclusively; `mutex`
    guards `shared` and `lock`, which outlives the gate while sharers are inside.
    """

    __slots__ = ("exclusive", "gate", "lock", "mutex", "shared")

    def __init__(self) -> None:
        self.gate = threading.Lock()
        self.mutex = threading.Lock()
        self.lock: Any = None
        self.exclusive = False
        self.shared = 0


_ENTRIES: dict[str, _Entry] = {}
_TABLE_MUTEX = threading.Lock()


def _entry(path: str) -> _Entry:
    with _TABLE_MUTEX:
        return _ENTRIES.setdefault(path, _Entry())


def _forget_parents_locks() -> None:
    global _TABLE_MUTEX
    _TABLE_MUTEX = threading.Lock()
    _ENTRIES.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents_locks)


class HeldLock:
    """A lock that is held until `release`, the end of its `with` block or of the process."""

    def __init__(self, path: str, entry: _Entry, *, shared: bool = False) -> None:
        self.path = path
        self._entry: _Entry | None = entry
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
            raise _unreliable(self.path, "the lock is not held by this process")
        if not _same_file(self._entry.lock.lockfile.fileno(), self.path):
            raise _unreliable(self.path, "the lock file was deleted or replaced while it was held")

    def release(self, *, unlink: bool = False) -> None:
        """Let go; a second call does nothing. `unlink` is for names that are never used again."""
        entry, self._entry = self._entry, None
        if entry is None or self._pid != os.getpid():
            return
        if self._shared:
            _leave(entry)
            return
        lock_info.remove(self.path)
        if unlink:
            _unlink_quietly(self.path)
        with entry.mutex:
            _close(entry)
            entry.exclusive = False
        entry.gate.release()

    def probe(self) -> None:
        """Let a child process try the lock that this one holds.

        Raises:
            WanrecError: LOCK_UNRELIABLE when the child gets it too.
        """
        from wanrec.state.lock_probe import child_is_refused

        if not child_is_refused(self.path):
            raise _unreliable(
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
        entry = _entry(path)
        wait = _Wait(timeout_s, stop, lambda waited: self._timed_out(name, path, waited))
        wait.until(lambda pause: entry.gate.acquire(timeout=pause), blocking=True)
        try:
            wait.until(lambda _: entry.shared == 0)
            self._lock_file(entry, path, wait, create=create, shared=False)
            try:
                lock_info.refuse_other_holder(path, _identity(entry))
            except WanrecError:
                _close(entry)
                raise
            entry.exclusive = True
        except BaseException:
            entry.gate.release()
            raise
        held = HeldLock(path, entry)
        lock_info.write(path, name, operation, run, self._timestamp(), _identity(entry))
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
        entry = _entry(path)
        wait = _Wait(timeout_s, stop, lambda waited: self._timed_out(name, path, waited))
        wait.until(lambda pause: entry.gate.acquire(timeout=pause), blocking=True)
        try:
            with entry.mutex:
                if entry.shared:
                    entry.shared += 1
                    return HeldLock(path, entry, shared=True)
            try:
                self._lock_file(entry, path, wait, create=True, shared=True)
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

    def _lock_file(
        self, entry: _Entry, path: str, wait: _Wait, *, create: bool, shared: bool
    ) -> None:
        """Open and lock; leaves the locked file in the entry. The caller holds the gate."""
        for _ in range(_REOPENS):
            handle = self._open(path, create=create, shared=shared)
            lock = _fasteners_lock(path, handle, readers=shared or _is_use(path))
            entry.lock = lock
            try:
                wait.until(functools.partial(_try, lock, path, shared))
            except BaseException:
                _close(entry)
                raise
            if _same_file(handle.fileno(), path):
                return
            # Deleted or replaced between open and lock: what we hold locks nobody out.
            _close(entry)
        raise _unreliable(path, "the lock file keeps being replaced")

    def _open(self, path: str, *, create: bool, shared: bool) -> TextIOWrapper:
        if os.path.islink(path):
            raise _unreliable(path, "the lock file is a symbolic link")
        flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        with translated(path):
            if create:
                try:
                    return _as_file(os.open(path, flags | os.O_CREAT, 0o644))
                except FileNotFoundError:
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                    return _as_file(os.open(path, flags | os.O_CREAT, 0o644))
                except OSError:
                    # A reader needs no write permission for a shared lock on a file that is there.
                    if not shared or not os.path.exists(path):
                        raise
                    return _as_file(os.open(path, flags & ~os.O_RDWR | os.O_RDONLY))
            return _as_file(os.open(path, flags))

    def is_held(self, name: str) -> bool:
        """True when a thread of this process or another process has the lock; takes nothing."""
        return lock_is_held(self.path(name))

    def holder(self, name: str) -> LockInfo | None:
        """What the holder wrote about itself; None when nobody holds the lock."""
        path = self.path(name)
        return _holder(path) if lock_is_held(path) else None

    def list_locks(self) -> tuple[LockInfo, ...]:
        """The locks that are held at this moment, by name."""
        try:
            names = sorted(os.listdir(self.directory))
        except FileNotFoundError:
            return ()
        base = os.path.realpath(self.directory)
        paths = [os.path.join(base, name) for name in names if name.endswith(".lock")]
        return tuple(_holder(path) for path in paths if lock_is_held(path))

    def probe(self, timeout_s: float = 30.0) -> None:
        """Prove once per process that locks in this directory keep other processes out.

        Raises:
            WanrecError: LOCK_UNRELIABLE when they do not; else as `acquire`.
        """
        if self._probed:
            return
        with self.acquire("probe", timeout_s, "probe") as held:
            held.probe()
        self._probed = True

    def _timed_out(self, name: str, path: str, waited_s: float) -> WanrecError:
        info = _holder(path)
        who = f"process {info.pid} on {info.host}" if info.pid else "another process"
        why = f" ({info.operation}, since {info.since})" if info.operation else ""
        return WanrecError(
            ErrorCode.LOCK_TIMEOUT,
            f"lock {name!r} is held by {who}{why}",
            where=path,
            detail=f"waited {waited_s:.1f} s",
            hint="wait for that process or end it; `wanrec locks` lists all holders",
        )


class _Wait:
    """One deadline for all the things a lock must wait for."""

    def __init__(
        self,
        timeout_s: float,
        stop: StopFlag | None,
        timed_out: Callable[[float], WanrecError],
    ) -> None:
        self._start = time.monotonic()
        self._timeout_s = max(0.0, timeout_s)
        self._stop = stop
        self._timed_out = timed_out

    def until(self, attempt: Callable[[float], bool], *, blocking: bool = False) -> None:
        """Repeat the attempt until it succeeds; `blocking`: it sleeps for its argument itself."""
        delay = 0.0
        while not attempt(delay):
            waited = time.monotonic() - self._start
            if self._stop is not None and self._stop.is_set():
                raise WanrecError(ErrorCode.INTERRUPTED, "stopped while waiting for a lock")
            if waited >= self._timeout_s:
                raise self._timed_out(waited)
            delay = min(max(2 * delay, _FIRST_DELAY_S), _MAX_DELAY_S, self._timeout_s - waited)
            if not blocking:
                self._sleep(delay)

    def _sleep(self, seconds: float) -> None:
        if self._stop is None:
            time.sleep(seconds)
        else:
            self._stop.wait(seconds)


def lock_is_held(path: str) -> bool:
    """True when the lock file is locked by anybody; see `LockRegistry.is_held`."""
    entry = _ENTRIES.get(path)
    if entry is not None and (entry.exclusive or entry.shared):
        return True
    entry = _entry(path)
    # Closing our look-only descriptor would drop a lock that another thread takes meanwhile.
    if not entry.gate.acquire(blocking=False):
        return True
    try:
        return entry.shared > 0 or lock_info.blocking_pid(path) is not None
    finally:
        entry.gate.release()


def _holder(path: str) -> LockInfo:
    info = lock_info.read(path)
    if info is not None:
        return info
    entry = _ENTRIES.get(path)
    inside = entry is not None and (entry.exclusive or entry.shared)
    pid = os.getpid() if inside else None
    if entry is None or not inside:
        entry = _entry(path)
        if entry.gate.acquire(blocking=False):
            try:
                pid = lock_info.blocking_pid(path)
            finally:
                entry.gate.release()
    name = os.path.basename(path).removesuffix(".lock")
    return LockInfo(name=name, pid=pid or 0, host=lock_info.host_name())


def _fasteners_lock(path: str, handle: TextIOWrapper, *, readers: bool) -> Any:
    import fasteners

    kind = fasteners.InterProcessReaderWriterLock if readers else fasteners.InterProcessLock
    lock = kind(path)
    # Opened by us, without following links: fasteners uses an open file as it is.
    lock.lockfile = handle
    return lock


def _try(lock: Any, path: str, shared: bool, _pause: float) -> bool:
    try:
        if shared:
            return bool(lock.acquire_read_lock(blocking=False))
        if hasattr(lock, "acquire_write_lock"):
            return bool(lock.acquire_write_lock(blocking=False))
        return bool(lock.acquire(blocking=False))
    except threading.ThreadError as exc:
        raise _unreliable(path, str(exc)) from exc


def _close(entry: _Entry) -> None:
    lock, entry.lock = entry.lock, None
    if lock is None:
        return
    # Closing the last descriptor of the file is what frees a record lock, held or not.
    if getattr(lock, "acquired", False):
        lock.release()
    elif lock.lockfile is not None:
        lock.lockfile.close()


def _leave(entry: _Entry) -> None:
    with entry.mutex:
        entry.shared -= 1
        if entry.shared == 0:
            _close(entry)


def _identity(entry: _Entry) -> tuple[int, int]:
    fact = os.fstat(entry.lock.lockfile.fileno())
    return fact.st_dev, fact.st_ino


def _same_file(fd: int, path: str) -> bool:
    try:
        there = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    here = os.fstat(fd)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _as_file(fd: int) -> TextIOWrapper:
    return os.fdopen(fd, "r" if _read_only(fd) else "r+")


def _read_only(fd: int) -> bool:
    try:
        import fcntl
    except ImportError:
        return False
    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY


def _unlink_quietly(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return


def _is_use(path: str) -> bool:
    return os.path.basename(path).startswith("use-")


def _file_stem(name: str) -> str:
    """A lock name as one file name; what a file system may refuse becomes a digest."""
    safe = name and all(char.isalnum() or char in "-_.@[]+" for char in name)
    if safe and name.isascii() and len(name) <= 150 and not name.startswith("."):
        return name
    import hashlib

    kept = "".join(char if char.isascii() and char.isalnum() else "_" for char in name[:60])
    return f"{kept}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"


def _unreliable(path: str, detail: str) -> WanrecError:
    return WanrecError(
        ErrorCode.LOCK_UNRELIABLE,
        "a lock cannot be relied on",
        where=path,
        detail=detail,
        hint="put the root on a local file system, or set trust_locks = true if only one wanrec"
        " runs at a time",
    )
