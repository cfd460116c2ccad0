"""Who a file is by its stat, and what wanrec's own links and unlinks do to that.

Every link and unlink moves the ctime of the inode and so of all its other names. Each such step is
bracketed by two stats (`IdentityLog`), so that the records of the other names can be refreshed
without reading a byte.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from wanrec.reconcile.facts import FileFact
from wanrec.state.clocks import InodeStep, Steps

__all__ = ["IdentityLog", "rfc3339", "same_identity", "settled"]

_TICK_NS = 12_000_000
"""Coarsest kernel clock tick (HZ=100) and a little: an edit after it must show in the ctime."""


class IdentityLog:
    """Stat identities of inodes before and after wanrec's own links and unlinks.

    Models of one run may share inodes, so a step and its two stats belong inside `guard`.
    """

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self._known: dict[int, dict[tuple[int, int, int], None]] = {}
        self._latest: dict[int, FileFact] = {}
        self._steps: list[InodeStep] = []

    def touched(self, before: FileFact, after: FileFact) -> None:
        """Note that our own step turned `before` into `after` (same inode)."""
        latest = self._latest.get(before.ino)
        if latest is None or not same_identity(latest, before):
            # Somebody else changed it in between: what was known of it proves nothing now.
            self._known[before.ino] = {}
        self._known[before.ino][_triple(before)] = None
        self._latest[before.ino] = after
        if before.ctime_ns != after.ctime_ns:
            self._steps.append(
                InodeStep(
                    ino=after.ino,
                    dev=after.dev,
                    size=after.size,
                    mtime_ns=after.mtime_ns,
                    before_ns=before.ctime_ns,
                    after_ns=after.ctime_ns,
                )
            )

    def __bool__(self) -> bool:
        return bool(self._latest)

    def steps(self, clock: Callable[[], int]) -> Steps:
        """All steps so far, with a time after the last of them; may wait for that (`settled`)."""
        if not self._steps:
            return Steps()
        now = rfc3339(settled(clock, self._latest.values()))
        return Steps(steps=tuple(self._steps), settled=now)

    def after(self, ino: int, size: int, mtime_ns: int, ctime_ns: int) -> FileFact | None:
        """The identity now of an inode that was recorded so, or None when we can't vouch."""
        if (size, mtime_ns, ctime_ns) in self._known.get(ino, ()):
            return self._latest[ino]
        return None


def _triple(fact: FileFact) -> tuple[int, int, int]:
    return fact.size, fact.mtime_ns, fact.ctime_ns


def same_identity(a: FileFact, b: FileFact) -> bool:
    """True when both stats speak of the same, untouched inode."""
    return (a.kind, a.size, a.mtime_ns, a.ctime_ns, a.ino) == (
        b.kind,
        b.size,
        b.mtime_ns,
        b.ctime_ns,
        b.ino,
    )


def rfc3339(now_ns: int) -> str:
    """Nanoseconds since the epoch as RFC 3339 UTC with microseconds (rounded down)."""
    seconds, rest = divmod(now_ns, 1_000_000_000)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{stamp}.{rest // 1000:06d}Z"


def settled(clock: Callable[[], int], facts: Iterable[FileFact]) -> int:
    """A time later than every ctime in `facts` by more than a clock tick; waits for it if need be.

    Records stamped with it are not racy: whoever edits such a file afterwards moves its ctime
    past the recorded one. A clock that was set back is not waited for; those files are re-hashed.
    """
    last = max((max(fact.ctime_ns, fact.mtime_ns) for fact in facts), default=0) + _TICK_NS
    for _ in range(20):
        now = clock()
        if now > last or last - now > 10 * _TICK_NS:
            return now
        time.sleep((last - now) / 1e9 + 0.0005)  # only the clock can end this wait
    return clock()
