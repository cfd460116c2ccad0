"""The receivers of one big file: several threads that ask for ranges and write what comes.

One asks first and alone; only when that answer proves that the source honours
ranges do others start. Where answers take long to begin, receivers become more. After a kill
ranges begin small and grow with the run, so that one that is killed again and again loses a small
part of what it brings. A receiver that fails for good stops all. Receivers never hash: they tell
the prefix hasher, and the journal, what lies in the part.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable

from wanrec.providers.base import Body, SourceFault
from wanrec.providers.flushing import Flusher
from wanrec.providers.hashing import PrefixHasher
from wanrec.providers.limits import MIB, Limits
from wanrec.providers.pacing import Pace
from wanrec.providers.pinned import PinnedSource
from wanrec.providers.pouring import Pouring
from wanrec.providers.resume import ResumablePart
from wanrec.providers.retrying import Retries
from wanrec.reconcile.errors import ErrorCode

__all__ = ["RangesIgnoredError", "Receivers"]

_SAMPLES = 4
_FAR_S = 0.02
_NICENESS = 10


class RangesIgnoredError(Exception):
    """The source sent the whole file though a range was asked for."""


class _StoppedError(Exception):
    """Another receiver of this file has failed."""


class _Crew:
    """How many receivers are at work in one run: near sources are served best by few."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._size = 0
        self.cautious = False  # an earlier run was killed, and so may this one be

    def join(self, most: int | None = None) -> bool:
        """Count one more; False when that would be more than `most`."""
        with self._lock:
            if most is not None and self._size >= most:
                return False
            self._size += 1
            return True

    def leave(self) -> None:
        """Count one less."""
        with self._lock:
            self._size -= 1


def _step_back() -> None:
    """Let the hash threads go first: what comes waits in the socket, what is hashed late does not.

    The file is done when its sha256 is, and where the cores are all busy that thread has fallen
    behind by a second when the last byte of 2 GiB has come.
    """
    if sys.platform == "linux":  # where 0 is the calling thread, see setpriority(2)
        with contextlib.suppress(OSError):
            usual = os.getpriority(os.PRIO_PROCESS, os.getpid())
            os.setpriority(os.PRIO_PROCESS, 0, usual + _NICENESS)


class Receivers:
    """Fills the gaps of one part.

    Attributes:
        source: the file at its source.
        target: the part and its journal.
        hasher: is told what has been written.
        flusher: is told what has been journaled.
    """

    def __init__(
        self,
        source: PinnedSource,
        target: ResumablePart,
        hasher: PrefixHasher,
        flusher: Flusher,
        *,
        limits: Limits,
        pace: Pace,
        retries: Retries,
    ) -> None:
        self._source = source
        self._target = target
        self._hasher = hasher
        self._flusher = flusher
        self._limits = limits
        self._pace = pace
        self._retries = retries
        self._lock = threading.Lock()
        self._gaps: deque[tuple[int, int]] = deque()
        self._far_step = 0
        self._waits: deque[float] = deque(maxlen=_SAMPLES)
        self._helpers: list[threading.Thread] = []
        self._failure: BaseException | None = None
        self._bodies: dict[int, Body] = {}  # what each thread is receiving now
        crew = source.provider.session.shared("receivers", _Crew)
        assert isinstance(crew, _Crew)
        self._crew = crew

    def fill(self, gaps: Iterable[tuple[int, int]]) -> None:
        """Receive the gaps, in order of their position.

        Raises:
            RangesIgnoredError: start again without ranges.
            SourceFault, WanrecError: the failure of the first receiver that gave up.
            OSError: writing the part or its journal failed.
        """
        self._gaps.extend(gaps)
        if self._target.done.total():
            self._crew.cautious = True
        self._start_helpers(1, None)
        for helper in self._helpers:  # the list may grow until the last of them has ended
            helper.join()
        if self._failure is not None:
            raise self._failure

    def _take(self) -> tuple[int, int] | None:
        """Cut the next range off the first gap; None when nothing is left or all is lost."""
        with self._lock:
            if self._failure is not None or not self._gaps:
                return None
            start, end = self._gaps.popleft()
            step = self._step()
            stop = min((start // step + 1) * step, end)
            if stop < end:
                self._gaps.appendleft((stop, end))
            return start, stop

    def _step(self) -> int:
        """The length of ranges now, a power of two: servers keep their pieces at such borders.

        What is under way when a run is killed has to be asked for again. One that goes on after
        a kill keeps its ranges a small part of what it has brought: so it loses a small part of
        that, however often it is killed.
        """
        limits, near = self._limits, self._limits.range_bytes
        if self._crew.cautious:
            share = self._pace.bandwidth.passed // limits.range_share
            near = min(near, max(limits.first_range_bytes, share))
        return 1 << (max(near, self._far_step).bit_length() - 1)

    def _start_helpers(self, workers: int, crew: int | None) -> None:
        """Bring the receivers up to `workers`.

        No more than `crew` may then be at work in the run, when that is given.
        """
        fresh: list[threading.Thread] = []
        with self._lock:
            while self._gaps and len(self._helpers) < workers and self._crew.join(crew):
                fresh.append(threading.Thread(target=self._work, daemon=True))
                self._helpers.append(fresh[-1])
        for helper in fresh:
            helper.start()

    def _adapt(self, waited: float, took: float) -> None:
        """Ask for more at once, and from more threads, when waiting is a good part of the time."""
        with self._lock:
            self._waits.append(waited if waited > took / 10 else 0.0)
            # The best of several: one late answer is a busy machine, all late is a far source.
            if len(self._waits) < _SAMPLES or min(self._waits) < _FAR_S:
                return
            self._waits.clear()
            self._far_step = min(self._step() * 2, self._limits.max_range_bytes)
            wanted = len(self._helpers) + 1
        self._start_helpers(min(self._limits.workers_per_file, wanted), None)

    def _work(self) -> None:
        _step_back()
        try:
            with Pouring(self._limits) as pouring:
                while (span := self._take()) is not None:
                    self._fetch(*span, pouring)
        except _StoppedError:
            pass
        except BaseException as exc:  # noqa: BLE001 - carried to the calling thread, which raises it
            with self._lock:
                self._failure = self._failure or exc
                for body in self._bodies.values():
                    body.abandon()
        finally:
            self._crew.leave()

    def _fetch(self, start: int, stop: int, pouring: Pouring) -> None:
        """Receive one range, however many answers it takes."""
        at, attempt = start, 0
        while at < stop:
            begin, asked = at, time.monotonic()
            try:
                with self._source.open(at, stop) as body:
                    waited = time.monotonic() - asked
                    self._accept(body, at, stop)
                    at = self._receive(body, at, stop, pouring)
                    if at == stop:
                        self._check_end(body)
                self._adapt(waited, time.monotonic() - asked)
                if at < stop:
                    raise self._cut(at)
            except SourceFault as fault:
                at = begin if fault.reached is None else fault.reached
                if self._source.renew_after(fault):
                    continue
                progressed = at - begin >= MIB
                attempt = 1 if progressed else attempt + 1
                self._retries.again(fault, attempt, progressed=progressed)

    def _accept(self, body: Body, at: int, stop: int) -> None:
        if body.whole and (at, stop) != (0, self._source.size):
            raise RangesIgnoredError
        self._target.pin(self._source.provider.name, self._source.etag)
        with self._lock:
            if self._failure is not None:
                raise _StoppedError
            self._bodies[threading.get_ident()] = body
        limits = self._limits
        if self._pace.received >= limits.alone_bytes:  # by then all files of the run have begun
            workers = min(limits.first_workers, limits.workers_per_file)
            self._start_helpers(workers, limits.first_receivers)

    def _receive(self, body: Body, at: int, stop: int, pouring: Pouring) -> int:
        """Write an answer into the part; a fault carries the position that was `reached`."""
        fd = self._target.part.fd
        step = self._pace.bandwidth.step(pouring.most)
        entry = at  # where the next journal entry begins
        every = min(self._limits.journal_bytes, (stop - at) // 4)
        try:
            while at < stop:
                count = pouring.pour(body, fd, at, min(step, stop - at))
                if count == 0:
                    break
                self._hasher.wrote(at, at + count)
                at += count
                if at - entry >= every:
                    self._journal(entry, at)
                    entry = at
                if self._failure is not None:
                    raise _StoppedError
                self._pace.moved(count)
        except SourceFault as fault:
            fault.reached = at
            raise
        finally:
            if at > entry:
                self._journal(entry, at)
        return at

    def _check_end(self, body: Body) -> None:
        """An answer that does not say how long it is must not go on beyond what was asked for."""
        more = 0
        with contextlib.suppress(SourceFault):  # all bytes are here, however the answer ends
            more = body.readinto(memoryview(bytearray(1)))
        if more:
            fault = self._source.provider.error(
                ErrorCode.SIZE_MISMATCH, f"{self._source.path!r}: more came than was asked for"
            )
            fault.retries = 0
            raise fault

    def _journal(self, start: int, stop: int) -> None:
        self._target.wrote(start, stop)
        self._flusher.wrote(start, stop)
        self._retries.progress()

    def _cut(self, at: int) -> SourceFault:
        fault = self._source.provider.error(
            ErrorCode.SOURCE_UNAVAILABLE, f"{self._source.path!r}: the answer was cut short"
        )
        fault.reached = at
        return fault
