"""HTTP/1.1 on one socket: send a head, parse a head, receive raw bytes, and nothing more.

Heads are parsed by hand and bodies are received straight into the caller's buffer, because a
model may be thousands of small files. Every wait is bounded by the stall watchdog, and a stop
event ends it. Framing and reuse are `pool`'s business. Raises `WireFault` only.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from wanrec.providers.limits import Limits
from wanrec.reconcile.errors import ErrorCode

__all__ = [
    "TICK_S",
    "Connection",
    "Origin",
    "Watch",
    "WireFault",
    "digits",
    "is_loopback",
    "parse_head",
    "parse_url",
]

TICK_S = 0.25
"""A wait of this length at most passes between two looks at the stop event."""

_WINDOW = 4096
"""Bytes of a head that are asked for at once; what comes of the body is copied once more."""
_NO_SPLICE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM})

_BLANK = " \t\n\r\v\f"
_status_line = re.compile(r"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: .*)?\Z", re.DOTALL).fullmatch
digits = re.compile(r"[0-9]{1,18}").fullmatch
_url = re.compile(
    r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::([0-9]{1,5}))?(/[!-~]*|\?[!-~]*)?",
    re.IGNORECASE,
).fullmatch


class WireFault(Exception):
    """What went wrong on the wire, as a code of the contract and a text without secrets.

    Attributes:
        fresh: False when a connection that was used before broke before it answered: the peer
            had closed it meanwhile, and the same request may be sent again at once.
        retries: most further attempts that make sense, None for the usual number.
        hint: what helps, or empty.
    """

    def __init__(
        self,
        code: ErrorCode,
        text: str,
        *,
        fresh: bool = True,
        retries: int | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.fresh = fresh
        self.retries = retries
        self.hint = hint


class Origin(NamedTuple):
    """Where credentials may go: scheme, host and port."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The Host header: without the port when it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = 443 if self.scheme == "https" else 80
        return host if self.port == usual else f"{host}:{self.port}"


@functools.lru_cache(maxsize=64)
def parse_url(url: str) -> tuple[Origin, str]:
    """Split a URL into its origin and the target of the request line.

    Raises:
        WireFault: not http or https, user info in it, or characters that no request may hold.
    """
    match = _url(url.partition("#")[0])
    if match is None:
        raise WireFault(ErrorCode.SOURCE_UNAVAILABLE, "not an http or https address", retries=0)
    scheme, host, port, target = match[1].lower(), match[2].lower().strip("[]"), match[3], match[4]
    number = int(port) if port else 443 if scheme == "https" else 80
    if number > 65535:
        raise WireFault(ErrorCode.SOURCE_UNAVAILABLE, "not a port number", retries=0)
    target = target or "/"
    return Origin(scheme, host, number), target if target[0] == "/" else "/" + target


@functools.lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine by definition."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Watch:
    """The stall watchdog of one connection: time waited on the network against bytes received."""

    def __init__(self, limits: Limits, stop: threading.Event) -> None:
        self._limits = limits
        self._stop = stop
        self.unwanted: Callable[[], bool] = lambda: False
        self.reset()

    def reset(self) -> None:
        """A new request, or a new window."""
        self._waited = 0.0
        self._bytes = 0

    def waited(self, seconds: float, count: int) -> None:
        """Account one receive; raises STALLED or INTERRUPTED."""
        if self._stop.is_set() or self.unwanted():
            raise WireFault(ErrorCode.INTERRUPTED, "stopped")
        self._waited += seconds
        self._bytes += count
        if self._waited >= self._limits.stall_window_s:
            if self._bytes < self._limits.stall_bytes_per_s * self._waited:
                raise WireFault(
                    ErrorCode.STALLED,
                    f"{self._bytes} bytes in {self._waited:.1f} s"
                    f" (at least {self._limits.stall_bytes_per_s} a second are asked for)",
                )
            self.reset()


class Connection:
    """One socket to one origin; sends a request, parses a head, receives a body.

    Attributes:
        through: True when a proxy is at the other end: it decides which address a name means.
    """

    def __init__(
        self, origin: Origin, sock: socket.socket, watch: Watch, *, through: bool = False
    ) -> None:
        self.origin = origin
        self.through = through
        self.requests = 0
        self.watch = watch
        self._sock = sock
        self._whole = _wait_in_kernel(sock)
        self._window = bytearray(_WINDOW)  # received and not yet taken: from start up to stop
        self._start = self._stop = 0

    @property
    def peer(self) -> str:
        """The numeric address at the other end, without a scope; behind a proxy the host."""
        if self.through:
            return self.origin.host
        return str(self._sock.getpeername()[0]).partition("%")[0]

    def send(self, head: bytes) -> None:
        """Send a request head."""
        self.requests += 1
        self.watch.reset()
        try:
            self._sock.sendall(head)
        except OSError as exc:
            raise self._broken(exc) from exc

    def read_head(self, limit: int) -> tuple[int, dict[str, str]]:
        """Receive and parse one response head."""
        return parse_head(self._take_until(b"\r\n\r\n", limit, "the response head has no end"))

    def read_line(self, limit: int) -> bytes:
        """Receive one line of chunked framing, without its end."""
        return self._take_until(b"\r\n", limit, "the chunked framing is broken")

    def _take_until(self, mark: bytes, limit: int, endless: str) -> bytes:
        while True:
            end = self._window.find(mark, self._start, self._stop)
            if end >= 0:
                found = bytes(self._window[self._start : end])
                self._start = end + len(mark)
                return found
            if self._stop - self._start > limit:
                raise WireFault(ErrorCode.SOURCE_UNAVAILABLE, endless)
            self._fill()

    def _fill(self) -> None:
        # Heads are awaited for one stall window altogether, however steadily they drip.
        held = self._stop - self._start
        if not held:
            self._start = self._stop = 0
        elif self._stop == len(self._window):
            self._window = self._window[self._start :] + bytes(_WINDOW)
            self._start, self._stop = 0, held
        count = self._receive(memoryview(self._window)[self._stop :], counts=False)
        if count == 0:
            raise self._broken(None)
        self._stop += count

    def readinto(self, view: memoryview) -> int:
        """Receive body bytes, those first that came along with the head."""
        held = self._stop - self._start
        if held:
            count = min(len(view), held)
            view[:count] = memoryview(self._window)[self._start : self._start + count]
            self._start += count
            return count
        return self._receive(view, counts=True)

    def splice(self, pipe: int, most: int) -> int | None:
        """Move body bytes into a pipe without copying them; None where that cannot be now."""
        in_memory, encrypted = self._start < self._stop, self.origin.scheme != "http"
        if in_memory or encrypted:
            return None
        while True:
            begin = time.monotonic()
            try:
                count = os.splice(self._sock.fileno(), pipe, most)
            except BlockingIOError:
                self._await_bytes()
                self.watch.waited(_waiting(begin), 0)
                continue
            except OSError as exc:
                if exc.errno in _NO_SPLICE:
                    return None
                raise self._broken(exc) from exc
            self.watch.waited(_waiting(begin), count)
            return count

    def _await_bytes(self) -> None:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.poll(TICK_S * 1000)

    def _receive(self, view: memoryview, *, counts: bool) -> int:
        while True:
            begin = time.monotonic()
            try:
                count = self._sock.recv_into(view, 0, self._whole if counts else 0)
            except (TimeoutError, BlockingIOError):
                self.watch.waited(_waiting(begin), 0)
                continue
            except OSError as exc:
                raise self._broken(exc) from exc
            self.watch.waited(_waiting(begin), count if counts else 0)
            return count

    def _broken(self, exc: OSError | None) -> WireFault:
        why = "the connection was closed" if exc is None else exc.strerror or type(exc).__name__
        fresh = self.requests <= 1
        return WireFault(ErrorCode.SOURCE_UNAVAILABLE, f"connection lost: {why}", fresh=fresh)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


def _wait_in_kernel(sock: socket.socket) -> int:
    """Let a plain socket wait inside its calls, `TICK_S` at most, without a poll before each.

    Returns the flag of recv(2) that fills the buffer in one call, or 0: such a call returns what
    has come when its time is over.
    """
    if sys.platform == "linux" and type(sock) is socket.socket:
        tick = struct.pack("ll", 0, int(TICK_S * 1_000_000))  # a timeval
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            sock.setsockopt(socket.SOL_SOCKET, option, tick)
        sock.setblocking(True)
        return socket.MSG_WAITALL
    sock.settimeout(TICK_S)
    return 0


def _waiting(begin: float) -> float:
    """Seconds of one wait; far more than a wait can last is time in which we were stopped."""
    return min(time.monotonic() - begin, 4 * TICK_S)


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Parse a response head; header names come out in lower case.

    Raises:
        WireFault: it is no head of HTTP/1, or contradicts itself.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    match = _status_line(first)
    if match is None:
        raise WireFault(ErrorCode.SOURCE_UNAVAILABLE, "the answer is not HTTP")
    headers: dict[str, str] = {"connection": "close"} if match[1] == "0" else {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or name != name.strip(_BLANK):
            raise WireFault(ErrorCode.SOURCE_UNAVAILABLE, "the answer has a broken header")
        key, text = name.lower(), value.strip(_BLANK)
        if key == "connection":
            headers[key] = text
        elif headers.setdefault(key, text) != text:
            if key in ("content-length", "content-range", "location", "transfer-encoding"):
                raise WireFault(ErrorCode.SOURCE_UNAVAILABLE, f"the answer has two {key} headers")
            headers[key] += ", " + text
    return int(match[2]), headers
