"""One process's table of lock files: the part that fasteners leaves to its callers.

A POSIX record lock belongs to the process, not to a thread or an object, and closing any
descriptor of the file drops it. So this table is the only place that opens lock files: a thread
passes the entry's gate before it opens the file, and the open file stays in the entry while the
lock is held, whatever happens to the object that the caller got.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.state import lock_info
from wanrec.state.lock_info import LockInfo
from wanrec.state.osfault import translated

if TYPE_CHECKING:
    from io import TextIOWrapper

__all__ = [
    "Entry",
    "StopFlag",
    "Wait",
    "close",
    "entry_of",
    "holder_of",
    "identity",
    "leave",
    "lock_file",
    "lock_is_held",
    "same_file",
    "unreliable",
]

_FIRST_DELAY_S = 0.01
_MAX_DELAY_S = 0.25
_REOPENS = 20


class StopFlag(Protocol):
    """What a waiting thread looks at (a threading.Event will do)."""

    def is_set(self) -> bool:
        """True once the wait should end."""

    def wait(self, timeout: float) -> bool:
        """Sleep at most so long, less when the flag is set."""


class Entry:
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


_ENTRIES: dict[str, Entry] = {}
_TABLE_MUTEX = threading.Lock()


def entry_of(path: str) -> Entry:
    """The entry of a lock file, the same one for every caller in this process."""
    with _TABLE_MUTEX:
        return _ENTRIES.setdefault(path, Entry())


def _forget_parents_locks() -> None:
    global _TABLE_MUTEX
    _TABLE_MUTEX = threading.Lock()
    _ENTRIES.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents_locks)


class Wait:
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
        if self._stop is None:  # a lock of another process ends without telling anybody
            time.sleep(seconds)
        else:
            self._stop.wait(seconds)


def lock_file(entry: Entry, path: str, wait: Wait, *, create: bool, shared: bool) -> None:
    """Open and lock; leaves the locked file in the entry. The caller holds the gate."""
    for _ in range(_REOPENS):
        handle = _open(path, create=create, shared=shared)
        lock = _fasteners_lock(path, handle, readers=shared or _is_use(path))
        entry.lock = lock
        try:
            wait.until(functools.partial(_try, lock, path, shared))
        except BaseException:
            close(entry)
            raise
        if same_file(handle.fileno(), path):
            return
        # Deleted or replaced between open and lock: what we hold locks nobody out.
        close(entry)
    raise unreliable(path, "the lock file keeps being replaced")


def _open(path: str, *, create: bool, shared: bool) -> TextIOWrapper:
    if os.path.islink(path):
        raise unreliable(path, "the lock file is a symbolic link")
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


def lock_is_held(path: str) -> bool:
    """True when the lock file is locked by anybody; see `LockRegistry.is_held`."""
    entry = _ENTRIES.get(path)
    if entry is not None and (entry.exclusive or entry.shared):
        return True
    entry = entry_of(path)
    # Closing our look-only descriptor would drop a lock that another thread takes meanwhile.
    if not entry.gate.acquire(blocking=False):
        return True
    try:
        return entry.shared > 0 or lock_info.blocking_pid(path) is not None
    finally:
        entry.gate.release()


def holder_of(path: str) -> LockInfo:
    """What is known about the holder; pid 0 when nobody says."""
    info = lock_info.read(path)
    if info is not None:
        return info
    entry = entry_of(path)
    pid = os.getpid() if entry.exclusive or entry.shared else _asked_pid(entry, path)
    name = os.path.basename(path).removesuffix(".lock")
    # Readers are many and write nothing about themselves, but only they hold this kind so.
    operation = "use" if name.startswith("use-") else ""
    return LockInfo(name=name, pid=pid, host=lock_info.host_name(), operation=operation)


def _asked_pid(entry: Entry, path: str) -> int:
    """The kernel's answer, asked through the waiting thread's own descriptor if there is one."""
    if entry.gate.acquire(blocking=False):
        try:
            return lock_info.blocking_pid(path) or 0
        finally:
            entry.gate.release()
    try:
        return lock_info.blocking_pid_of(entry.lock.lockfile.fileno()) or 0
    except (AttributeError, ValueError, OSError):  # another thread has let go meanwhile
        return 0


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
        raise unreliable(path, str(exc)) from exc


def close(entry: Entry) -> None:
    """Close the entry's file, which frees its lock. The caller holds the gate or the mutex."""
    lock, entry.lock = entry.lock, None
    if lock is None:
        return
    # Closing the last descriptor of the file is what frees a record lock, held or not.
    if getattr(lock, "acquired", False):
        lock.release()
    elif lock.lockfile is not None:
        lock.lockfile.close()


def leave(entry: Entry) -> None:
    """One sharer goes; the last one frees the lock."""
    with entry.mutex:
        entry.shared -= 1
        if entry.shared == 0:
            close(entry)


def identity(entry: Entry) -> tuple[int, int]:
    """Device and inode of the file that is locked."""
    fact = os.fstat(entry.lock.lockfile.fileno())
    return fact.st_dev, fact.st_ino


def same_file(fd: int, path: str) -> bool:
    """True when the path still leads to the open file."""
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


def _is_use(path: str) -> bool:
    return os.path.basename(path).startswith("use-")


def unreliable(path: str, detail: str) -> WanrecError:
    """LOCK_UNRELIABLE with its reason."""
    return WanrecError(
        ErrorCode.LOCK_UNRELIABLE,
        "a lock cannot be relied on",
        where=path,
        detail=detail,
        hint="put the root on a local file system, or set trust_locks = true if only one wanrec"
        " runs at a time",
    )
