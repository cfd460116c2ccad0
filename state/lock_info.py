"""Who holds a lock: advice in a file beside it, and the kernel's own word where it gives one.

Nothing here takes a lock. The advice may be stale (a killed holder leaves it behind), may name
a process id that now belongs to somebody else, and is never a reason to break or to steal.
"""

from __future__ import annotations

import os
import time

import attrs

from wanrec.reconcile.errors import ErrorCode, WanrecError

__all__ = [
    "LockInfo",
    "blocking_pid",
    "blocking_pid_of",
    "host_name",
    "read",
    "refuse_other_holder",
    "remove",
    "utc_now",
    "write",
]


@attrs.frozen(kw_only=True)
class LockInfo:
    """A holder. `pid` is 0 when it is not known; `started` tells a reused pid apart."""

    name: str
    pid: int = 0
    host: str = ""
    operation: str = ""
    since: str = ""
    run: str | None = None
    started: str = ""
    dev: int = 0
    ino: int = 0


def utc_now() -> str:
    """The time as RFC 3339 UTC in seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def host_name() -> str:
    """This machine's name, as other holders will read it."""
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")


def write(
    lock_path: str,
    name: str,
    operation: str,
    run: str | None,
    since: str,
    identity: tuple[int, int],
) -> None:
    """Say who holds the lock. A disk that refuses is no reason to fail: it is advice."""
    import msgspec

    pid = os.getpid()
    info = LockInfo(
        name=name,
        pid=pid,
        host=host_name(),
        operation=operation,
        since=since,
        run=run,
        started=_process_start(pid),
        dev=identity[0],
        ino=identity[1],
    )
    # In place: a reader that meets half of it asks the kernel, and no crash leaves a temp file.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    try:
        with os.fdopen(os.open(_info_path(lock_path), flags, 0o644), "wb") as file:
            file.write(msgspec.json.encode(info) + b"\n")
    except OSError:
        return


def read(lock_path: str) -> LockInfo | None:
    """What the last holder wrote, None when there is nothing readable."""
    import msgspec

    try:
        with open(_info_path(lock_path), "rb") as file:
            return msgspec.json.decode(file.read(65536), type=LockInfo)
    except (OSError, msgspec.MsgspecError, ValueError):
        return None


def remove(lock_path: str) -> None:
    """Take the advice back before the lock is let go."""
    try:
        os.unlink(_info_path(lock_path))
    except OSError:
        return


def refuse_other_holder(lock_path: str, identity: tuple[int, int]) -> None:
    """Notice that somebody deleted the lock file under a live holder.

    The new file locks nobody out, so the kernel cannot tell; but the advice names the inode that
    is locked, and a process that is proven to be the one that wrote it.

    Raises:
        WanrecError: LOCK_UNRELIABLE.
    """
    info = read(lock_path)
    if info is None or (info.dev, info.ino) == identity or not info.started:
        return
    if info.host != host_name() or _process_start(info.pid) != info.started:
        return
    raise WanrecError(
        ErrorCode.LOCK_UNRELIABLE,
        "a lock file was deleted or replaced while it was held",
        where=lock_path,
        detail=f"process {info.pid} on {info.host} ({info.operation}, since {info.since}) still"
        " holds the old one",
        hint="wait until that process has ended; never delete lock files",
    )


def blocking_pid(lock_path: str) -> int | None:
    """The process whose lock keeps an exclusive one out, None when nobody's does.

    The caller makes sure that this process holds no lock on the file: closing it would drop it.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        fd = os.open(lock_path, flags)
    except OSError:
        return None
    try:
        return blocking_pid_of(fd)
    finally:
        os.close(fd)


def blocking_pid_of(fd: int) -> int | None:
    """As `blocking_pid`, asked through an open descriptor."""
    try:
        import fcntl
    except ImportError:  # Windows: no way to ask, so try and let go
        return _try_windows(fd)
    import struct
    import sys

    if sys.platform.startswith("linux"):
        layout, order = "hhqqi", (0, 4)
        asked = struct.pack(layout, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    else:
        layout, order = "qqihh", (3, 2)
        asked = struct.pack(layout, 0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET)
    answer = struct.unpack(layout, fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    return None if answer[order[0]] == fcntl.F_UNLCK else answer[order[1]]


def _try_windows(fd: int) -> int | None:
    import msvcrt
    from typing import Any

    windows: Any = msvcrt
    try:
        windows.locking(fd, windows.LK_NBLCK, 1)
    except OSError:
        return 0
    windows.locking(fd, windows.LK_UNLCK, 1)
    return None


def _process_start(pid: int) -> str:
    """Boot and start time of a process, empty where the system does not say (or it is gone)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            ticks = file.read().rpartition(b")")[2].split()[19].decode()
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()}:{ticks}"
    except (OSError, IndexError, ValueError):
        return ""


def _info_path(lock_path: str) -> str:
    return f"{lock_path.removesuffix('.lock')}.info"
