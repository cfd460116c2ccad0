"""Remembers for a while who cannot be reached, so that not every file waits for it anew.

Only an origin that no connection of the run ever reached is given up: one connection that fails
beside others says nothing about the rest. Raises `WireFault` only.
"""

from __future__ import annotations

import threading
import time

from wanrec.providers.wire import Origin, WireFault
from wanrec.reconcile.errors import ErrorCode

__all__ = ["Unreachable"]

_DEAD = frozenset({ErrorCode.NETWORK_TIMEOUT, ErrorCode.SOURCE_UNAVAILABLE})


class Unreachable:
    """Origins that nobody could connect to. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._alive: set[Origin] = set()
        self._failures: dict[Origin, int] = {}
        self._dead: dict[Origin, tuple[float, WireFault]] = {}

    def check(self, origin: Origin) -> None:
        """Raise the fault of before while it is not forgotten."""
        with self._lock:
            until, fault = self._dead.get(origin, (0.0, None))
        if fault is not None and time.monotonic() < until:
            raise WireFault(fault.code, fault.text, retries=0, hint=fault.hint)

    def failed(self, origin: Origin, fault: WireFault, forget_s: float) -> None:
        """Remember what will not get better: a fault without retries, or all tries used up."""
        if fault.code not in _DEAD or fault.retries is None:
            return  # somebody answered, if only a proxy
        with self._lock:
            count = self._failures[origin] = self._failures.get(origin, 0) + 1
            slow = fault.code is ErrorCode.NETWORK_TIMEOUT  # one deadline is enough for all files
            if origin not in self._alive and (slow or count > fault.retries):
                self._dead[origin] = time.monotonic() + forget_s, fault

    def reached(self, origin: Origin) -> None:
        """There is somebody: one connection that fails later says nothing about the rest."""
        with self._lock:
            self._alive.add(origin)
