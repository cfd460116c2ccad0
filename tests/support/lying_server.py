"""A raw HTTP server that tells the truth or lies, one scripted answer per path.

Plain sockets and threads, so that every byte of an answer, wrong framing included, is the
script's. The server keeps what it was asked and counts what it sent.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import unquote

from support.loopback import Heard, LoopbackServer

__all__ = ["Answer", "LyingServer", "Peer", "Request", "closed_port", "head", "serve_ranges"]


class Request(NamedTuple):
    """What a client sent: the path without its query, and the headers in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    number: int

    def range(self, size: int) -> tuple[int, int] | None:
        """The asked range as (start, stop), or None when the whole file was asked for."""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        if match is None:
            return None
        return int(match[1]), min(size, int(match[2]) + 1) if match[2] else size


class Peer:
    """The connection to the client, as an answer sees it."""

    def __init__(self, sock: socket.socket, server: LyingServer, path: str) -> None:
        self._sock = sock
        self._server = server
        self._path = path

    def send(self, data: bytes | memoryview, *, body: bool = True) -> None:
        """Send bytes; body bytes are counted for the path, as far as the client took them.

        A piece is counted before it is sent and what was not taken is counted back: a client
        that has everything must never find the count behind what it has.
        """
        view = memoryview(data)
        while view:
            piece, taken = view[: 1 << 18], 0
            if body:
                self._server.count(self._path, len(piece))
            try:
                taken = self._sock.send(piece)
            finally:
                if body and taken < len(piece):
                    self._server.count(self._path, taken - len(piece))
            view = view[taken:]

    def send_head(self, status: str, **headers: object) -> None:
        """Send a head; names are written with underscores."""
        self.send(head(status, **headers), body=False)

    def reset(self) -> None:
        """Cut the connection so that the client sees a reset."""
        self._sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
        )
        self._sock.close()

    def hold(self, seconds: float = 60.0) -> None:
        """Say nothing until the client goes away or the server ends."""
        self._server.ending.wait(seconds)


Answer = Callable[[Request, Peer], bool]
"""Answers one request; True keeps the connection for the next."""


def head(status: str, **headers: object) -> bytes:
    """The bytes of a response head."""
    lines = [f"HTTP/1.1 {status}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def serve_ranges(content: bytes, etag: str | None = '"v1"') -> Answer:
    """An honest answer: ranges, If-Match, HEAD."""

    def answer(request: Request, peer: Peer) -> bool:
        tags = {"ETag": etag} if etag else {}
        wanted = request.headers.get("if-match")
        if wanted is not None and wanted != etag:
            peer.send_head("412 Precondition Failed", Content_Length=0)
            return True
        asked = request.range(len(content))
        if asked is None:
            peer.send_head("200 OK", Content_Length=len(content), **tags)
            if request.method != "HEAD":
                peer.send(content)
            return True
        start, stop = asked
        if start >= len(content):
            total = f"bytes */{len(content)}"
            peer.send_head("416 Range Not Satisfiable", Content_Range=total, Content_Length=0)
            return True
        span = f"bytes {start}-{stop - 1}/{len(content)}"
        peer.send_head(
            "206 Partial Content", Content_Range=span, Content_Length=stop - start, **tags
        )
        peer.send(memoryview(content)[start:stop])
        return True

    return answer


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port of this machine where nobody listens, and where nobody else can begin to."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


class LyingServer(LoopbackServer):
    """A context manager that serves on a port of its own; what has no script is 404.

    Attributes:
        url: ``http://127.0.0.1:PORT``, or https with a TLS context.
        requests: what was asked, in order.
        sent: body bytes sent, by path.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self._tls = tls
        self.requests: list[Request] = []
        self.sent: dict[str, int] = defaultdict(int)
        self._answers: dict[str, Answer] = {}
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def on(self, path: str, answer: Answer) -> None:
        """Script the answer of a path (decoded, without query)."""
        self._answers[path] = answer

    def asked(self, path: str) -> list[Request]:
        """The requests for a path so far."""
        with self._lock:
            return [request for request in self.requests if request.path == path]

    def count(self, path: str, count: int) -> None:
        """Add to what was sent for a path."""
        with self._lock:
            self.sent[path] += count

    def secured(self, client: socket.socket) -> socket.socket:
        """With a TLS context: the connection inside the encrypted one."""
        return client if self._tls is None else self._tls.wrap_socket(client, server_side=True)

    def answer(self, heard: Heard, client: socket.socket) -> bool:
        """Let the path's script answer."""
        path, _, query = heard.target.partition("?")
        path = unquote(path)
        with self._lock:
            number = sum(1 for request in self.requests if request.path == path)
            request = Request(heard.method, path, query, heard.headers, number)
            self.requests.append(request)
        peer = Peer(client, self, path)
        answer = self._answers.get(path)
        if answer is None:
            peer.send_head("404 Not Found", Content_Length=0)
            return True
        return answer(request, peer)
