"""A server of raw HTTP requests on loopback: a thread to accept, one for each connection.

What derives from it answers one request after the other, as bytes of its own.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import NamedTuple, Self

__all__ = ["Heard", "LoopbackServer", "parse_request"]


class Heard(NamedTuple):
    """One request as it came; header names in lower case, `lines` as they were sent."""

    method: str
    target: str
    headers: dict[str, str]
    lines: list[str]


def parse_request(text: str) -> Heard:
    """Take a request head apart."""
    first, *lines = text.split("\r\n")
    method, target, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return Heard(method, target, headers, lines)


class LoopbackServer:
    """A context manager that serves on a port of its own.

    Attributes:
        port: on 127.0.0.1.
        ending: set when the server is being stopped.
    """

    def __init__(self) -> None:
        self.ending = threading.Event()
        self._lock = threading.Lock()
        self._peers: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def answer(self, heard: Heard, client: socket.socket) -> bool:
        """Answer one request; True keeps the connection for the next."""
        raise AssertionError(f"nobody answers {heard}")

    def secured(self, client: socket.socket) -> socket.socket:
        """The connection as requests come over it."""
        return client

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.ending.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            peers = list(self._peers)
        for peer in peers:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._peers.add(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), self.secured(sock) as client:
            pending = b""
            while not self.ending.is_set():
                while b"\r\n\r\n" not in pending:
                    data = client.recv(65536)
                    if not data:
                        return
                    pending += data
                head, _, pending = pending.partition(b"\r\n\r\n")
                if not self.answer(parse_request(head.decode("latin-1")), client):
                    return
        with self._lock:
            self._peers.discard(sock)
