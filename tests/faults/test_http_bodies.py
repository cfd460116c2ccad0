"""A web server that cuts, alters or wrongly frames its answer (rows 12 to 14, and 23).

Every fetch is against a raw server with one scripted fault; whatever happens, wrong bytes never
land, nothing of a wrong answer stays behind, and no secret is shown.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import attrs
import pytest
from support.http_faults import BIG, FAST, both, cut_after, fails, lands, once, source_of
from support.lying_server import Answer, LyingServer, Peer, Request, serve_ranges

from wanrec.providers.base import TransferEvent
from wanrec.providers.limits import MIB
from wanrec.providers.testing import FetchHarness
from wanrec.reconcile.errors import ErrorCode

# --- row 12: cut or reset in the midst of a body --------------------


@both
@pytest.mark.parametrize("reset", [False, True], ids=["cut", "reset"])
def test_cut_answer_is_continued(
    harness: FetchHarness, server: LyingServer, content: bytes, reset: bool
) -> None:
    """One cut answer is one retry, and the file lands."""
    server.on("/m/a.bin", once(cut_after(content, 0.4, reset=reset), serve_ranges(content)))
    lands(harness, server, content)
    assert harness.kinds() == [TransferEvent.RETRY]


def test_cut_range_is_continued_where_it_broke(harness: FetchHarness, server: LyingServer) -> None:
    """Bytes that arrived before a cut are not asked for again."""
    server.on("/m/a.bin", once(cut_after(BIG, 0.5, reset=False), serve_ranges(BIG)))
    lands(harness, server, BIG)
    assert server.sent["/m/a.bin"] == len(BIG)


@both
def test_a_source_that_always_cuts_runs_out_of_retries(
    harness: FetchHarness, server: LyingServer, content: bytes
) -> None:
    """No progress, no end of retries: SOURCE_UNAVAILABLE after the budget."""
    server.on("/m/a.bin", cut_after(content, 0.0, reset=False))
    assert fails(harness, server, content).code is ErrorCode.SOURCE_UNAVAILABLE
    assert len(server.asked("/m/a.bin")) <= (FAST.retries + 1) * FAST.workers_per_file


# --- row 13: wrong bytes of the right size --------------------


def test_what_could_not_be_flushed_is_not_kept(
    harness: FetchHarness, server: LyingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part whose flush failed is thrown away: the next attempt does not believe its journal."""

    def fails_to_flush(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fails_to_flush)
    server.on("/m/a.bin", cut_after(BIG, 0.5, reset=False))
    assert fails(harness, server, BIG).code is ErrorCode.SOURCE_UNAVAILABLE


@both
def test_wrong_bytes_are_not_landed_and_not_asked_for_again(
    harness: FetchHarness, server: LyingServer, content: bytes
) -> None:
    """Right-sized wrong bytes are CHECKSUM_FAIL after one fetch."""
    server.on("/m/a.bin", serve_ranges(b"x" * len(content)))
    assert fails(harness, server, content).code is ErrorCode.CHECKSUM_FAIL
    assert server.sent["/m/a.bin"] == len(content)


@both
def test_next_source_delivers_after_wrong_bytes(
    harness: FetchHarness, server: LyingServer, content: bytes
) -> None:
    """The hash decides who delivered; the liar is one failover."""
    server.on("/liar/a.bin", serve_ranges(b"x" * len(content)))
    server.on("/good/a.bin", serve_ranges(content))
    fetched = harness.fetch(
        "a.bin", content, source_of(server, "/liar"), source_of(server, "/good")
    )
    assert fetched.source == f"{server.url}/good"
    assert harness.kinds() == [TransferEvent.FAILOVER]


# --- row 14 and 23: sizes and framing --------------------


def _sized(content: bytes, announced: int, *, close: bool = True) -> Answer:
    def answer(request: Request, peer: Peer) -> bool:
        peer.send_head("200 OK", Content_Length=announced)
        peer.send(content)
        return not close

    return answer


@both
@pytest.mark.parametrize("difference", [-1, 1, 10**12])
def test_announced_size_that_is_not_the_declared_one(
    harness: FetchHarness, server: LyingServer, content: bytes, difference: int
) -> None:
    """A Content-Length other than the declared size is SIZE_MISMATCH before a byte is read."""
    server.on("/m/a.bin", _sized(content, len(content) + difference))
    assert fails(harness, server, content).code is ErrorCode.SIZE_MISMATCH
    assert len(server.asked("/m/a.bin")) == 1


def _chunked(content: bytes, chunk: int = 8191, *, end: bool = True) -> Answer:
    def answer(request: Request, peer: Peer) -> bool:
        peer.send_head("200 OK", Transfer_Encoding="chunked")
        for at in range(0, len(content), chunk):
            block = content[at : at + chunk]
            peer.send(f"{len(block):x};ext=1\r\n".encode(), body=False)
            peer.send(block)
            peer.send(b"\r\n", body=False)
        if end:
            peer.send(b"0\r\nTrailer: x\r\n\r\n", body=False)
        return end

    return answer


@both
def test_chunked_answer_of_the_right_size_lands(
    harness: FetchHarness, server: LyingServer, content: bytes
) -> None:
    """A server that does not say the size is fine when what comes is right."""
    server.on("/m/a.bin", _chunked(content))
    lands(harness, server, content)


@both
@pytest.mark.parametrize("extra", [b"", b"one more"])
def test_chunked_answer_of_another_size(
    harness: FetchHarness, server: LyingServer, content: bytes, extra: bytes
) -> None:
    """A body that is shorter or longer than declared is SIZE_MISMATCH."""
    server.on("/m/a.bin", _chunked(content + extra if extra else content[:-1]))
    assert fails(harness, server, content).code is ErrorCode.SIZE_MISMATCH


def _goes_on(content: bytes, framing: str) -> Answer:
    """The right bytes, and then more without end, of a length that was never said."""

    def answer(request: Request, peer: Peer) -> bool:
        if framing == "part":
            start, stop = request.range(len(content)) or (0, len(content))
            span = f"bytes {start}-{stop - 1}/{len(content)}"
            peer.send_head("206 Partial Content", Content_Range=span)
            peer.send(content[start:stop])
        elif framing == "chunked":
            peer.send_head("200 OK", Transfer_Encoding="chunked")
            peer.send(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        else:
            peer.send_head("200 OK")
            peer.send(content)
        while True:
            peer.send(b"10000\r\n" + b"y" * 65536 + b"\r\n")

    return answer


@pytest.mark.parametrize("framing", ["part", "chunked", "bare"])
def test_one_long_range_that_goes_on_is_refused(
    tmp_path: Path, server: LyingServer, framing: str
) -> None:
    """A file that fits one range is read up to its size and not believed when more follows."""
    server.on("/m/a.bin", _goes_on(BIG, framing))
    harness = FetchHarness(tmp_path, limits=attrs.evolve(FAST, range_bytes=64 * MIB))
    assert fails(harness, server, BIG).code is ErrorCode.SIZE_MISMATCH
    assert len(server.asked("/m/a.bin")) == 1


@both
def test_answer_that_ends_with_the_connection(
    harness: FetchHarness, server: LyingServer, content: bytes
) -> None:
    """A body without any length ends with the connection, and lands when it is whole."""

    def answer(request: Request, peer: Peer) -> bool:
        peer.send_head("200 OK")
        peer.send(content)
        return False

    server.on("/m/a.bin", answer)
    lands(harness, server, content)


@both
@pytest.mark.parametrize("framing", ["chunked", "bare"])
def test_endless_body_stops_at_the_declared_size(
    harness: FetchHarness, server: LyingServer, content: bytes, framing: str
) -> None:
    """A body without end is given up just after the declared size."""
    block = b"y" * 65536

    def answer(request: Request, peer: Peer) -> bool:
        fields = {"Transfer_Encoding": "chunked"} if framing == "chunked" else {}
        peer.send_head("200 OK", **fields)
        while True:
            if framing == "chunked":
                peer.send(b"10000\r\n", body=False)
            peer.send(block)
            if framing == "chunked":
                peer.send(b"\r\n", body=False)

    server.on("/m/a.bin", answer)
    assert fails(harness, server, content).code is ErrorCode.SIZE_MISMATCH


@both
def test_compressed_answer_is_refused(
    harness: FetchHarness, server: LyingServer, content: bytes
) -> None:
    """Identity is asked for; a compressed body is not unpacked but refused."""

    def answer(request: Request, peer: Peer) -> bool:
        peer.send_head("200 OK", Content_Length=len(content), Content_Encoding="gzip")
        peer.send(content)
        return True

    server.on("/m/a.bin", answer)
    assert fails(harness, server, content).code is ErrorCode.SIZE_MISMATCH
    assert server.asked("/m/a.bin")[0].headers["accept-encoding"] == "identity"


@both
@pytest.mark.parametrize(
    "answer_head",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"",
    ],
    ids=["ssh", "status", "negative", "two", "coding", "chunk", "colon", "huge", "nothing"],
)
def test_broken_framing_is_an_error_of_the_source(
    harness: FetchHarness, server: LyingServer, content: bytes, answer_head: bytes
) -> None:
    """What is not HTTP, or contradicts itself, is SOURCE_UNAVAILABLE and never lands."""

    def answer(request: Request, peer: Peer) -> bool:
        peer.send(answer_head, body=False)
        return False

    server.on("/m/a.bin", answer)
    assert fails(harness, server, content).code is ErrorCode.SOURCE_UNAVAILABLE
