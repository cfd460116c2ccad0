"""How fast bytes may move and who hears of it: bandwidth cap, stop event, throttled progress.

One `Bandwidth` a run, one `Pace` a file and attempt. A transfer calls `moved` after each chunk;
that is where it waits, stops, or reports.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from wanrec.providers.base import TransferEvent
from wanrec.reconcile.errors import ErrorCode, WanrecError

__all__ = ["Bandwidth", "OnEvent", "Pace", "interrupted"]

OnEvent = Callable[[TransferEvent, Mapping[str, object]], None]


def interrupted() -> WanrecError:
    """The error of a transfer that was told to stop."""
    return WanrecError(ErrorCode.INTERRUPTED, "stopped before the file was complete")


class Bandwidth:
    """A token bucket over all transfers of a run; holds at most a quarter second of tokens.

    Attributes:
        passed: bytes of the run so far; a hint, concurrent counts may get lost.
    """

    def __init__(self, rate: int | None) -> None:
        self.rate = rate
        self.passed = 0
        self._lock = threading.Lock()
        self._tokens = 0.0
        self._at = time.monotonic()

    def step(self, wanted: int) -> int:
        """The chunk that keeps the flow even under the cap."""
        return wanted if self.rate is None else max(1, min(wanted, self.rate // 8))

    def delay(self, count: int) -> float:
        """Take tokens; return the seconds to wait for them."""
        self.passed += count
        if self.rate is None:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._tokens = min(self.rate / 4, self._tokens + (now - self._at) * self.rate)
            self._at = now
            self._tokens -= count
            return max(0.0, -self._tokens / self.rate)


class Pace:
    """Stop, deadline, bandwidth and progress of one file from one source. Thread-safe.

    Attributes:
        received: bytes that came over, thrown-away ones included.
        ends: when the time of this file is over (monotonic clock), or None.
    """

    def __init__(
        self,
        *,
        bandwidth: Bandwidth,
        stop: threading.Event,
        on_event: OnEvent,
        fields: Mapping[str, object],
        total: int | None,
        interval_s: float,
        deadline_s: float | None = None,
        late: Callable[[], WanrecError] = interrupted,
    ) -> None:
        self.bandwidth = bandwidth
        self.stop = stop
        self.total = total
        self.received = 0
        self.ends = None if deadline_s is None else time.monotonic() + deadline_s
        self._done = 0
        self._on_event = on_event
        self._fields = fields
        self._interval_s = interval_s
        self._late = late
        self._next = time.monotonic() + interval_s
        self._lock = threading.Lock()

    def check(self) -> None:
        """Raise INTERRUPTED when the run is to stop."""
        if self.stop.is_set():
            raise interrupted()

    def already(self, count: int) -> None:
        """Count bytes that an earlier attempt left here: progress, not traffic."""
        with self._lock:
            self._done += count

    def restart(self) -> None:
        """The bytes so far were thrown away; traffic stays counted."""
        with self._lock:
            self._done = 0

    def moved(self, count: int) -> None:
        """Count bytes that arrived; waits for the bandwidth cap, reports at most ten times a s."""
        self.check()
        delay = self.bandwidth.delay(count)
        if delay > 0 and self.stop.wait(delay):
            raise interrupted()
        now = time.monotonic()
        if self.ends is not None and now >= self.ends:
            raise self._late()
        with self._lock:
            self._done += count
            self.received += count
            due = now >= self._next
            if due:
                self._next = now + self._interval_s
            done = self._done
        if due:
            self.tell(TransferEvent.PROGRESS, bytes_done=done, bytes_total=self.total)

    def tell(self, kind: TransferEvent, **fields: object) -> None:
        """Report an event with the file's own fields added."""
        self._on_event(kind, {**self._fields, **fields})
