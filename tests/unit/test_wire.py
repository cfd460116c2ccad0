"""`wire`: heads of answers, and the bytes that come along with them."""

from __future__ import annotations

import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanrec.providers.limits import Limits
from wanrec.providers.wire import Connection, Origin, Watch, WireFault, parse_head


def test_a_head_is_status_and_fields() -> None:
    """Names come in lower case, values without blanks."""
    head = b'HTTP/1.1 206 Partial Content\r\nContent-Length:  3 \r\nETag: "v"'
    assert parse_head(head) == (206, {"content-length": "3", "etag": '"v"'})


def test_an_old_server_closes_unless_it_says_otherwise() -> None:
    """HTTP/1.0 keeps a connection only when asked to."""
    assert parse_head(b"HTTP/1.0 200")[1] == {"connection": "close"}
    assert parse_head(b"HTTP/1.0 200\r\nConnection: keep-alive")[1] == {"connection": "keep-alive"}


@pytest.mark.parametrize(
    ("lines", "joined"),
    [
        (b"X-A: 1\r\nx-a: 2", "1, 2"),
        (b"X-A: 1\r\nx-a: 1", "1"),
    ],
)
def test_a_field_that_comes_twice_is_joined(lines: bytes, joined: str) -> None:
    """As RFC 9110, section 5.3, says; the same value twice is one."""
    assert parse_head(b"HTTP/1.1 200 OK\r\n" + lines)[1] == {"x-a": joined}


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/2 200",
        b"HTTP/1.1 99 x",
        b"HTTP/1.1 200\n",
        b"",
        b"HTTP/1.1 200 OK\r\nno colon",
        b"HTTP/1.1 200 OK\r\nna me : 1",
        b"HTTP/1.1 200 OK\r\n folded: 1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\ncontent-length: 2",
        b"HTTP/1.1 200 OK\r\nContent-Range: bytes 0-1/2\r\nContent-Range: bytes 1-2/3",
    ],
)
def test_what_is_no_head_is_refused(head: bytes) -> None:
    """Broken status lines and fields, and lengths that contradict one another, are faults."""
    with pytest.raises(WireFault):
        parse_head(head)


@given(
    st.integers(0, 12000),
    st.binary(max_size=9000),
    st.lists(st.integers(1, 5000), max_size=4),
    st.integers(1, 6000),
)
def test_heads_and_bodies_are_cut_anywhere(
    padding: int, body: bytes, cuts: list[int], view_bytes: int
) -> None:
    """However an answer arrives, its head is read whole and no byte of its body is lost."""
    head = b"HTTP/1.1 200 OK\r\nx-pad: " + b"p" * padding + b"\r\n\r\n"
    stream = head + body + b"4\r\n"
    ours, theirs = socket.socketpair()
    watch = Watch(Limits(), threading.Event())
    with ours, theirs:
        connection = Connection(Origin("http", "localhost", 80), ours, watch)

        def send() -> None:
            at = 0
            for cut in [*cuts, len(stream)]:
                theirs.sendall(stream[at : at + cut])
                at += cut

        sender = threading.Thread(target=send)
        sender.start()
        assert connection.read_head(65536) == (200, {"x-pad": "p" * padding})
        got = bytearray()
        while len(got) < len(body):
            view = memoryview(bytearray(min(view_bytes, len(body) - len(got))))
            got += view[: connection.readinto(view)]
        assert got == body
        assert connection.read_line(16) == b"4"
        sender.join()
