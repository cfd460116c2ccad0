"""Connections of one run, used again and again, and the framing of the answers on them.

At most `connections_per_host` connections to an origin are in use at a time. How one is made, and
through which proxy, is `dialing`'s; everything after it is bounded by `wire`. Redirects, status
codes and retries are the caller's business. Raises `WireFault` only.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from wanrec.providers.dialing import dial
from wanrec.providers.limits import Limits
from wanrec.providers.proxies import Proxy, proxy_for
from wanrec.providers.unreachable import Unreachable
from wanrec.providers.wire import TICK_S, Connection, Origin, Watch, WireFault, digits
from wanrec.reconcile.errors import ErrorCode

if TYPE_CHECKING:
    import ssl

__all__ = ["Pool", "Response"]


def _never() -> bool:
    return False


class Response:
    """One answer: status, headers (lower-case names), and a body that is read once.

    Attributes:
        length: body bytes announced by Content-Length, or None.
    """

    def __init__(
        self,
        pool: Pool,
        connection: Connection,
        status: int,
        headers: Mapping[str, str],
        *,
        body: bool,
    ) -> None:
        self.status = status
        self.headers = headers
        self.length: int | None = None
        self._pool = pool
        self._connection: Connection | None = connection
        self._left: int | None = None  # of the body, or of the current chunk
        self._chunked = False
        self._first_chunk = True
        self._unwanted = False
        connection.watch.unwanted = lambda: self._unwanted
        self._keep = "close" not in headers.get("connection", "").lower()
        self._frame(body)

    def _frame(self, body: bool) -> None:
        coding = self.headers.get("transfer-encoding", "").lower()
        length = self.headers.get("content-length")
        if not body or self.status in (204, 304):
            self._left = 0
            self.length = int(length) if length and digits(length) else None
            self._finish()
        elif coding:
            if coding != "chunked":
                raise WireFault(ErrorCode.SOURCE_UNAVAILABLE, "unknown transfer encoding")
            self._chunked, self._left = True, 0
        elif length is not None:
            if not digits(length):
                raise WireFault(ErrorCode.SOURCE_UNAVAILABLE, "Content-Length is not a number")
            self.length = self._left = int(length)
            if self._left == 0:
                self._finish()
        else:
            self._keep = False  # the end of the body is the end of the connection

    def readinto(self, view: memoryview) -> int:
        """Fill part of the view; 0 is the end of the body.

        Raises:
            WireFault: the connection broke, stalled, or ended before the announced length.
        """
        connection = self._connection
        if connection is None or not len(view):
            return 0
        if self._chunked and self._left == 0 and not self._next_chunk(connection):
            return 0
        want = len(view) if self._left is None else min(len(view), self._left)
        return self._took(connection.readinto(view[:want]))

    def splice(self, pipe: int, most: int) -> int | None:
        """Move part of the body into a pipe; 0 is its end, None: only `readinto` can tell.

        Raises:
            WireFault: as `readinto`.
        """
        connection = self._connection
        if connection is None:
            return 0
        if self._chunked or self._left is None:
            return None
        count = connection.splice(pipe, min(most, self._left))
        return None if count is None else self._took(count)

    def _took(self, count: int) -> int:
        if count == 0:
            if self._left is not None:
                raise WireFault(ErrorCode.SOURCE_UNAVAILABLE, "the answer was cut short")
            self._finish()
        elif self._left is not None:
            self._left -= count
            if self._left == 0 and not self._chunked:
                self._finish()
        return count

    def _next_chunk(self, connection: Connection) -> bool:
        if not self._first_chunk and connection.read_line(2) != b"":
            raise WireFault(ErrorCode.SOURCE_UNAVAILABLE, "the chunked framing is broken")
        self._first_chunk = False
        size = connection.read_line(1024).partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", size):
            raise WireFault(ErrorCode.SOURCE_UNAVAILABLE, "the chunked framing is broken")
        self._left = int(size, 16)
        if self._left:
            return True
        while connection.read_line(65536):  # trailers
            pass
        self._finish()
        return False

    def _finish(self) -> None:
        """The body is complete: the connection may serve the next request."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.watch.unwanted = _never
            self._pool.give_back(connection, keep=self._keep)

    def abandon(self) -> None:
        """Called by another thread: nobody wants the rest of this answer."""
        self._unwanted = True

    def close(self, drain: int = 0) -> None:
        """Let go of the connection; a short rest (up to `drain` bytes) is read to keep it."""
        scrap = memoryview(bytearray(4096))
        try:
            while self._connection is not None and self._left is not None and drain > 0:
                drain -= self.readinto(scrap)
        except WireFault:
            pass
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.give_back(connection, keep=False)


class Pool:
    """Connections of one run, at most `connections_per_host` to an origin at a time."""

    def __init__(
        self, limits: Limits, stop: threading.Event, environ: Mapping[str, str] | None = None
    ) -> None:
        self._limits = limits
        self._stop = stop
        self._environ = environ or {}
        self._lock = threading.Lock()
        self._idle: dict[Origin, list[Connection]] = {}
        self._slots: dict[Origin, threading.Semaphore] = {}
        self._proxies: dict[Origin, Proxy | None] = {}
        self._unreachable = Unreachable()
        self._tls: ssl.SSLContext | None = None

    def request(
        self,
        method: str,
        origin: Origin,
        target: str,
        headers: Mapping[str, str],
        vet: Callable[[str], None] | None = None,
    ) -> Response:
        """Send one request and return its answer; the body is the caller's to read or close.

        `vet` gets the numeric address of the peer before anything is sent there, and may raise;
        behind a proxy it gets the host.

        Raises:
            WireFault: NETWORK_TIMEOUT, STALLED, SOURCE_UNAVAILABLE or INTERRUPTED; for a proxy
                that refuses, or is none, AUTH_FAIL, RATE_LIMIT or INVALID_CONFIG.
        """
        proxy = self._proxy(origin) if origin.scheme == "http" else None
        if proxy is not None:
            target, headers = f"http://{origin.authority}{target}", {**headers, **proxy.headers}
        lines = [f"{method} {target} HTTP/1.1", f"Host: {origin.authority}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        if head.count(b"\r\n") != len(lines) + 1:
            raise WireFault(ErrorCode.SOURCE_UNAVAILABLE, "a header holds a line break")
        self._take_slot(origin)
        try:
            return self._exchange(method, origin, head, vet)
        except BaseException:
            self._slots[origin].release()
            raise

    def _exchange(
        self, method: str, origin: Origin, head: bytes, vet: Callable[[str], None] | None
    ) -> Response:
        while True:
            connection = self._idle_connection(origin) or self._connect(origin)
            try:
                if vet is not None:
                    vet(connection.peer)
                connection.send(head)
                status, headers = connection.read_head(self._limits.max_header_bytes)
                while status < 200 and status != 101:
                    status, headers = connection.read_head(self._limits.max_header_bytes)
                connection.watch.reset()
                return Response(self, connection, status, headers, body=method != "HEAD")
            except WireFault as fault:
                connection.close()
                if fault.fresh or fault.code is not ErrorCode.SOURCE_UNAVAILABLE:
                    raise
            except BaseException:
                connection.close()
                raise

    def _take_slot(self, origin: Origin) -> None:
        with self._lock:
            slots = self._slots.get(origin)
            if slots is None:
                slots = threading.Semaphore(self._limits.connections_per_host)
                self._slots[origin] = slots
        while not slots.acquire(timeout=TICK_S):
            if self._stop.is_set():
                raise WireFault(ErrorCode.INTERRUPTED, "stopped")

    def give_back(self, connection: Connection, *, keep: bool) -> None:
        """Take a connection back after its answer; frees its slot."""
        if keep:
            with self._lock:
                self._idle.setdefault(connection.origin, []).append(connection)
        else:
            connection.close()
        self._slots[connection.origin].release()

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def _idle_connection(self, origin: Origin) -> Connection | None:
        with self._lock:
            idle = self._idle.get(origin)
            return idle.pop() if idle else None

    def _connect(self, origin: Origin) -> Connection:
        proxy = self._proxy(origin)
        self._unreachable.check(origin)
        try:
            sock = dial(origin, proxy, self._trusted, self._limits)
        except WireFault as fault:
            self._unreachable.failed(origin, fault, self._limits.dead_source_s)
            raise
        self._unreachable.reached(origin)
        watch = Watch(self._limits, self._stop)
        return Connection(origin, sock, watch, through=proxy is not None)

    def _proxy(self, origin: Origin) -> Proxy | None:
        if origin not in self._proxies:
            self._proxies[origin] = proxy_for(origin, self._environ)
        return self._proxies[origin]

    def _trusted(self) -> ssl.SSLContext:
        from wanrec.providers.certificates import tls_context

        with self._lock:
            if self._tls is None:
                self._tls = tls_context(self._environ)
            return self._tls
