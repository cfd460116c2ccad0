"""From an answer into a file: through a pipe or a buffer, the same bytes at the same place."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from wanrec.providers.base import Body
from wanrec.providers.limits import Limits
from wanrec.providers.pouring import Pouring
from wanrec.providers.wire import Connection, Origin, Watch, WireFault
from wanrec.reconcile.errors import ErrorCode

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
    send: Callable[[socket.socket], object],
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


class FaultyBody(Body):
    """The watchdog gives an answer up just when bytes of it have come."""

    def readinto(self, buffer: memoryview) -> int:
        """As the base class."""
        raise AssertionError("there is a pipe")

    def splice(self, pipe: int, most: int) -> int | None:
        """As the base class."""
        os.write(pipe, b"of the answer that broke")
        raise WireFault(ErrorCode.STALLED, "too slow")

    def close(self) -> None:
        """As the base class."""


def test_nothing_of_a_broken_answer_gets_into_the_next(tmp_path: Path) -> None:
    """Bytes that a failed call left in the pipe are not taken for those of the next answer."""
    ours, peers = socket.socketpair()
    sender = threading.Thread(target=send_all, args=(peers,))
    sender.start()
    limits, total = Limits(), 0
    with (tmp_path / "a").open("wb") as file, Pouring(limits) as pouring:
        with pytest.raises(WireFault):
            pouring.pour(FaultyBody(), file.fileno(), 0, pouring.most)
        with SocketBody(ours, PLAIN, limits) as body:
            while count := pouring.pour(body, file.fileno(), total, pouring.most):
                total += count
            assert body.spliced == len(CONTENT)
    sender.join()
    assert (tmp_path / "a").read_bytes() == CONTENT


@ways
def test_a_program_that_was_stopped_is_not_a_slow_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pipe_bytes: int
) -> None:
    """After Ctrl-Z and `fg` the time in between is not held against the source."""
    clock = itertools.count(0, 3600)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    limits = Limits(pipe_bytes=pipe_bytes)
    total, _ = poured(tmp_path / "a", limits, lambda peer: (peer.sendall(b"few"), peer.close()))
    assert total == 3
