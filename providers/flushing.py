"""Writes a part out while more of it arrives, so that no receiver ever waits for the disk.

Receivers tell what they have journaled; one thread asks the kernel to begin writing it, and makes
it durable from time to time. What is flushed last is the caller's business: all files of a model
together.
"""

from __future__ import annotations

import threading

from wanrec.providers.limits import Limits
from wanrec.providers.resume import Intervals, ResumablePart
from wanrec.providers.writeback import start_writeback

__all__ = ["Flusher"]


class Flusher:
    """The way of one part to the disk; `wrote` may be called from several receivers."""

    def __init__(self, target: ResumablePart, limits: Limits) -> None:
        self._target = target
        self._limits = limits
        self._changed = threading.Condition()
        self._fresh = Intervals()
        self._bytes = 0
        self._closing = False
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="wanrec-flush", daemon=True)

    def start(self) -> Flusher:
        """Start the thread."""
        self._thread.start()
        return self

    def wrote(self, start: int, stop: int) -> None:
        """Tell that the bytes from start up to stop are in the part and in its journal.

        Raises:
            OSError: an earlier flush failed.
        """
        with self._changed:
            if self._failure is not None:
                raise self._failure
            self._fresh.add(start, stop)
            self._bytes += stop - start
            if self._bytes >= self._limits.writeback_bytes:
                self._changed.notify()

    def finish(self) -> None:
        """Begin writing the rest, and end the thread.

        Raises:
            OSError: a flush failed: nothing that is in the part is to be trusted.
        """
        self.close()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End the thread; safe after `finish`."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.ident is not None:  # it was started
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closing or self._bytes >= self._limits.writeback_bytes
                )
                fresh, self._fresh, self._bytes = self._fresh, Intervals(), 0
                closing = self._closing
            for start, stop in fresh:
                start_writeback(self._target.part.fd, start, stop - start)
            if closing:
                return
            try:
                self._target.sync(self._limits.sync_bytes)
            except OSError as exc:
                self._failure = exc
                return
