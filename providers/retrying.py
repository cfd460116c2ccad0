"""When a source is asked again: one policy for a file, one budget for the run.

A retry waits longer each time, with jitter, or as long as the source asked for within a cap. The
budget is spent by retries and earned by progress, so that a storm of failures over many files
ends soon while one bad minute in a long transfer does not matter.
"""

from __future__ import annotations

import secrets
import threading
import time

from wanrec.providers.base import SourceFault, TransferEvent
from wanrec.providers.limits import Limits
from wanrec.providers.pacing import Pace, interrupted
from wanrec.reconcile.errors import ErrorCode

__all__ = ["Retries", "RetryBudget"]

_TRANSIENT = frozenset(
    {
        ErrorCode.NETWORK_TIMEOUT,
        ErrorCode.RATE_LIMIT,
        ErrorCode.SOURCE_UNAVAILABLE,
        ErrorCode.STALLED,
    }
)


class RetryBudget:
    """Retries of all files of a run against one source. Thread-safe."""

    def __init__(self, capacity: int) -> None:
        self._capacity = float(capacity)
        self._left = float(capacity)
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Spend one retry; False when there is none left."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True

    def earn(self) -> None:
        """Progress was made."""
        with self._lock:
            self._left = min(self._capacity, self._left + 1)


class Retries:
    """Decides about one file from one source; `again` waits or raises."""

    def __init__(self, limits: Limits, budget: RetryBudget, pace: Pace) -> None:
        self._limits = limits
        self._budget = budget
        self._pace = pace

    def progress(self) -> None:
        """Bytes arrived in a number worth counting."""
        self._budget.earn()

    def again(self, fault: SourceFault, attempt: int, *, progressed: bool) -> None:
        """Wait before attempt number `attempt` (from 1), or raise the fault.

        Raises:
            SourceFault: the fault itself, when another attempt makes no sense.
            WanrecError: INTERRUPTED while waiting.
        """
        if fault.code not in _TRANSIENT or fault.restart:
            raise fault
        limit = self._limits.retries if fault.retries is None else fault.retries
        if fault.code is ErrorCode.STALLED and not progressed:
            limit = 0  # a source that drips from the start will drip again
        if attempt > limit or not self._budget.take():
            raise fault
        delay = self._delay(fault, attempt)
        ends = self._pace.ends
        if ends is not None and time.monotonic() + delay >= ends:
            raise fault
        self._pace.tell(
            TransferEvent.RETRY,
            attempt=attempt,
            code=fault.code.value,
            summary=fault.summary,
            delay_s=round(delay, 3),
        )
        if self._pace.stop.wait(delay):
            raise interrupted()

    def _delay(self, fault: SourceFault, attempt: int) -> float:
        limits = self._limits
        top = min(limits.backoff_cap_s, limits.backoff_s * 2.0 ** (attempt - 1))
        delay = top * (0.5 + secrets.randbelow(1001) / 2000)
        if fault.retry_after is not None:
            delay = max(delay, min(fault.retry_after, limits.retry_after_cap_s))
        return delay
