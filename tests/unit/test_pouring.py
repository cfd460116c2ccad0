"""From an answer into a file: through a pipe or a buffer, the same bytes at the same place."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from wanrec.providers.base import Body
from wanrec.providers.limits import Limits
from wanrec.providers.pouring import Pouring
from wanrec.providers.wire import Connection, Origin, Watch, WireFault

CONTENT = os.urandom(300_000)
WAYS = {"pipe": 1 << 16, "buffer": 0}
PLAIN = Origin("http", "127.0.0.1", 80)
pytestmark = pytest.mark.skipif(not hasattr(os, "splice"), reason="needs splice")

ways = pytest.mark.parametrize("pipe_bytes", WAYS.values(), ids=WAYS)


class SocketBody(Body):
    """The body of an answer on one end of a socket pair."""

    def __init__(self, sock: socket.socket, origin: Origin, limits: Limits) -> None:
        sock.settimeout(0.25)
        self._connection = Connection(origin, sock, Watch(limits, threading.Event()))
        self.spliced = 0

    def readinto(self, buffer: memoryview) -> int:
        """As the base class."""
        return self._connection.readinto(buffer)

    def splice(self, pipe: int, most: int) -> int | None:
        """As the base class."""
        count = self._connection.splice(pipe, most)
        self.spliced += count or 0
        return count

    def close(self) -> None:
        """As the base class."""
        self._connection.close()


def poured(
    path: Path,
    limits: Limits,
    send: Callable[[socket.socket], None],
    origin: Origin = PLAIN,
    flags: int = 0,
) -> tuple[int, int]:
    """Pour what a peer sends into a file, behind seven bytes; (bytes, bytes spliced)."""
    ours, peers = socket.socketpair()
    sender = threading.Thread(target=send, args=(peers,))
    sender.start()
    fd = os.open(path, os.O_RDWR | os.O_CREAT | flags)
    total = 0
    try:
        with SocketBody(ours, origin, limits) as body, Pouring(limits) as pouring:
            while count := pouring.pour(body, fd, 7 + total, pouring.most):
                total += count
            return total, body.spliced
    finally:
        os.close(fd)
        sender.join()


def send_all(peer: socket.socket) -> None:
    """An honest peer."""
    with peer:
        peer.sendall(CONTENT)


@ways
def test_bytes_land_where_they_belong(tmp_path: Path, pipe_bytes: int) -> None:
    """Either way the file holds what was sent, from the asked offset on."""
    limits = Limits(pipe_bytes=pipe_bytes, receive_buffer=1 << 12)
    total, spliced = poured(tmp_path / "a", limits, send_all)
    assert (tmp_path / "a").read_bytes() == bytes(7) + CONTENT
    assert total == len(CONTENT)
    assert spliced == (len(CONTENT) if pipe_bytes else 0)


def test_what_must_be_decrypted_goes_through_the_buffer(tmp_path: Path) -> None:
    """Bytes of a TLS connection are never moved past the one who decrypts them."""
    tls = Origin("https", "127.0.0.1", 443)
    total, spliced = poured(tmp_path / "a", Limits(), send_all, tls)
    assert (total, spliced) == (len(CONTENT), 0)


def test_file_that_takes_nothing_from_pipes(tmp_path: Path) -> None:
    """What is in the pipe when the file refuses it is written by hand, and nothing is lost."""
    (tmp_path / "a").write_bytes(bytes(7))
    total, spliced = poured(tmp_path / "a", Limits(), send_all, flags=os.O_APPEND)
    assert (tmp_path / "a").read_bytes() == bytes(7) + CONTENT
    assert total == len(CONTENT)
    assert 0 < spliced < len(CONTENT)


@ways
def test_silent_peer_is_given_up(tmp_path: Path, pipe_bytes: int) -> None:
    """The stall watchdog watches both ways."""
    limits = Limits(pipe_bytes=pipe_bytes, stall_window_s=0.3, receive_buffer=1 << 12)

    def stall(peer: socket.socket) -> None:
        with peer:
            peer.sendall(b"x" * 100)
            peer.recv(1)  # until the other side has closed

    with pytest.raises(WireFault, match="bytes in"):
        poured(tmp_path / "a", limits, stall)
