"""What a lying, broken or hostile web server can do, and what must come of it (rows 12-25).

Every fetch is against a raw server with one scripted fault; whatever happens, wrong bytes never
land, nothing of a wrong answer stays behind, and no secret is shown.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.lying_server import Answer, LyingServer, Peer, Request, head, serve_ranges

from wanrec.providers.base import ProviderContext, TransferEvent
from wanrec.providers.limits import MIB, Limits
from wanrec.providers.testing import FetchHarness, Served
from wanrec.reconcile.errors import ErrorCode, WanrecError

SMALL = b"0123456789abcdef" * 4096  # 64 KiB: one answer, no range
BIG = os.urandom(64 * 1024) * 80  # 5 MiB: ranges
CANARY = "c4n4ry-s3cr3t"
FAST = Limits(
    backoff_s=0.01,
    backoff_cap_s=0.02,
    retry_after_cap_s=0.3,
    stall_window_s=0.6,
    connect_timeout_s=2.0,
    range_bytes=MIB,
    workers_per_file=3,
    first_workers=3,
    retries=3,
)

both = pytest.mark.parametrize("content", [SMALL, BIG], ids=["small", "big"])


@pytest.fixture
def server() -> Iterator[LyingServer]:
    """A server without scripts."""
    with LyingServer() as server:
        yield server


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[FetchHarness]:
    """A fetcher with short limits."""
    (tmp_path / "root").mkdir()
    harness = FetchHarness(tmp_path / "root", limits=FAST)
    yield harness
    harness.fetcher.close()


def _source(server: LyingServer, folder: str = "/m") -> Served:
    context = ProviderContext(base=Path(), limits=FAST)
    return f"{server.url}{folder}?token={CANARY}", context


def _lands(harness: FetchHarness, server: LyingServer, content: bytes) -> None:
    fetched = harness.fetch("a.bin", content, _source(server))
    assert harness.staged() == {fetched.sha256: content}
    assert harness.partial() == []


def _fails(
    harness: FetchHarness, server: LyingServer, content: bytes, *, keeps_part: bool = False
) -> WanrecError:
    with pytest.raises(WanrecError) as caught:
        harness.fetch("a.bin", content, _source(server))
    assert harness.staged() == {}
    if not keeps_part:
        assert harness.partial() == []
    assert CANARY not in str(caught.value)
    assert CANARY not in str(harness.events)
    return caught.value


def _once(fault: Answer, then: Answer) -> Answer:
    """The fault for the first request only."""
    return lambda request, peer: (fault if request.number == 0 else then)(request, peer)


def _cut_after(content: bytes, share: float, *, reset: bool) -> Answer:
    """Announce an honest answer, send a share of it, and hang up."""

    def answer(request: Request, peer: Peer) -> bool:
        start, stop = request.range(len(content)) or (0, len(content))
        if "range" in request.headers:
            span = f"bytes {start}-{stop - 1}/{len(content)}"
            peer.send_head("206 Partial Content", Content_Range=span, Content_Length=stop - start)
        else:
            peer.send_head("200 OK", Content_Length=len(content))
        peer.send(content[start : start + int((stop - start) * share)])
        if reset:
            peer.reset()
        return False

    return answer


# --- row 12: cut or reset in the midst of a body --------------------


@both
@pytest.mark.parametrize("reset", [False, True], ids=["cut", "reset"])
def test_cut_answer_is_continued(
    harness: FetchHarness, server: LyingServer, content: bytes, reset: bool
) -> None:
    """One cut answer is one retry, and the file lands."""
    server.on("/m/a.bin", _once(_cut_after(content, 0.4, reset=reset), serve_ranges(content)))
    _lands(harness, server, content)
    assert harness.kinds() == [TransferEvent.RETRY]


def test_cut_range_is_continued_where_it_broke(harness: FetchHarness, server: LyingServer) -> None:
    """Bytes that arrived before a cut are not asked for again."""
    server.on("/m/a.bin", _once(_cut_after(BIG, 0.5, reset=False), serve_ranges(BIG)))
    _lands(harness, server, BIG)
    assert server.sent["/m/a.bin"] == len(BIG)


@both
def test_a_source_that_always_cuts_runs_out_of_retries(
    harness: FetchHarness, server: LyingServer, content: bytes
) -> None:
    """No progress, no end of retries: SOURCE_UNAVAILABLE after the budget."""
    server.on("/m/a.bin", _cut_after(content, 0.0, reset=False))
    assert _fails(harness, server, content).code is ErrorCode.SOURCE_UNAVAILABLE
    assert len(server.asked("/m/a.bin")) <= (FAST.retries + 1) * FAST.workers_per_file


# --- row 13: wrong bytes of the right size --------------------


@both
def test_wrong_bytes_are_not_landed_and_not_asked_for_again(
    harness: FetchHarness, server: LyingServer, content: bytes
) -> None:
    """Right-sized wrong bytes are CHECKSUM_FAIL after one fetch."""
    server.on("/m/a.bin", serve_ranges(b"x" * len(content)))
    assert _fails(harness, server, content).code is ErrorCode.CHECKSUM_FAIL
    assert server.sent["/m/a.bin"] == len(content)


@both
def test_next_source_delivers_after_wrong_bytes(
    harness: FetchHarness, server: LyingServer, content: bytes
) -> None:
    """The hash decides who delivered; the liar is one failover."""
    server.on("/liar/a.bin", serve_ranges(b"x" * len(content)))
    server.on("/good/a.bin", serve_ranges(content))
    fetched = harness.fetch("a.bin", content, _source(server, "/liar"), _source(server, "/good"))
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
    assert _fails(harness, server, content).code is ErrorCode.SIZE_MISMATCH
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
    _lands(harness, server, content)


@both
@pytest.mark.parametrize("extra", [b"", b"one more"])
def test_chunked_answer_of_another_size(
    harness: FetchHarness, server: LyingServer, content: bytes, extra: bytes
) -> None:
    """A body that is shorter or longer than declared is SIZE_MISMATCH."""
    server.on("/m/a.bin", _chunked(content + extra if extra else content[:-1]))
    assert _fails(harness, server, content).code is ErrorCode.SIZE_MISMATCH


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
    _lands(harness, server, content)


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
    assert _fails(harness, server, content).code is ErrorCode.SIZE_MISMATCH


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
    assert _fails(harness, server, content).code is ErrorCode.SIZE_MISMATCH
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
    assert _fails(harness, server, content).code is ErrorCode.SOURCE_UNAVAILABLE


# --- rows 15 and 16: ranges --------------------


def test_ignored_range_restarts_from_zero(harness: FetchHarness, server: LyingServer) -> None:
    """200 to a range is the whole file: it is read from its start, never written at an offset."""

    def answer(request: Request, peer: Peer) -> bool:
        peer.send_head("200 OK", Content_Length=len(BIG))
        peer.send(BIG)
        return True

    server.on("/m/a.bin", answer)
    _lands(harness, server, BIG)


def test_range_that_is_ignored_later_restarts_from_zero(
    harness: FetchHarness, server: LyingServer
) -> None:
    """A source that honours the first range and ignores others still gives the right file."""
    whole: Answer = _sized(BIG, len(BIG), close=False)
    server.on("/m/a.bin", _once(serve_ranges(BIG, etag=None), whole))
    _lands(harness, server, BIG)


def _span(text: Callable[[int, int, int], str], **extra: object) -> Answer:
    def answer(request: Request, peer: Peer) -> bool:
        start, stop = request.range(len(BIG)) or (0, len(BIG))
        span = text(start, stop, len(BIG))
        fields = {"Content_Range": span} if span else {}
        peer.send_head("206 Partial Content", Content_Length=stop - start, **fields, **extra)
        peer.send(BIG[start:stop])
        return True

    return answer


@pytest.mark.parametrize(
    "span",
    [
        lambda a, b, n: f"bytes {a + 1}-{b}/{n}",
        lambda a, b, n: f"bytes {a}-{b - 2}/{n}",
        lambda a, b, n: f"bytes {a}-{b}/{n}",
        lambda a, b, n: f"bytes {b}-{a}/{n}",
        lambda a, b, n: f"octets {a}-{b - 1}/{n}",
        lambda a, b, n: "",
        lambda a, b, n: "bytes 0-99999999999999999999999/1",
    ],
    ids=["shifted", "shorter", "longer", "reversed", "unit", "absent", "huge"],
)
def test_another_range_than_asked_is_refused(
    harness: FetchHarness, server: LyingServer, span: Callable[[int, int, int], str]
) -> None:
    """206 with another start, end or unit is RANGE_MISMATCH before a byte is written."""
    server.on("/m/a.bin", _span(span))
    assert _fails(harness, server, BIG).code is ErrorCode.RANGE_MISMATCH
    assert len(server.asked("/m/a.bin")) == 1


def test_another_total_than_declared_is_refused(harness: FetchHarness, server: LyingServer) -> None:
    """206 of a file of another size is SIZE_MISMATCH before a byte is written."""
    server.on("/m/a.bin", _span(lambda a, b, n: f"bytes {a}-{b - 1}/{n + 1}"))
    assert _fails(harness, server, BIG).code is ErrorCode.SIZE_MISMATCH


def test_multipart_ranges_are_refused(harness: FetchHarness, server: LyingServer) -> None:
    """multipart/byteranges has no Content-Range of its own: RANGE_MISMATCH."""
    fields = {"Content_Type": "multipart/byteranges; boundary=x"}
    server.on("/m/a.bin", _span(lambda a, b, n: "", **fields))
    assert _fails(harness, server, BIG).code is ErrorCode.RANGE_MISMATCH


def test_part_of_a_file_though_all_was_asked_for(
    harness: FetchHarness, server: LyingServer
) -> None:
    """206 without a Range is RANGE_MISMATCH."""

    def answer(request: Request, peer: Peer) -> bool:
        span = f"bytes 0-{len(SMALL) - 1}/{len(SMALL)}"
        peer.send_head("206 Partial Content", Content_Length=len(SMALL), Content_Range=span)
        peer.send(SMALL)
        return True

    server.on("/m/a.bin", answer)
    assert _fails(harness, server, SMALL).code is ErrorCode.RANGE_MISMATCH


# --- rows 17 and 18: stale parts and changed sources --------------------


def _leave_part(harness: FetchHarness, server: LyingServer, content: bytes) -> None:
    """Leave a journaled part behind: the source dies after its first range."""
    cut: Answer = _cut_after(content, 0.0, reset=False)
    server.on("/m/a.bin", _once(serve_ranges(content), cut))
    _fails(harness, server, content, keeps_part=True)
    assert len(harness.partial()) == 2  # the part and its journal
    server.requests.clear()
    server.sent.clear()


def test_later_attempt_continues_a_kept_part(
    harness: FetchHarness, server: LyingServer, tmp_path: Path
) -> None:
    """Another fetcher goes on where one gave up, and asks for no byte again."""
    _leave_part(harness, server, BIG)
    server.on("/m/a.bin", serve_ranges(BIG))
    later = FetchHarness(harness.root, limits=FAST)
    later.fetch("a.bin", BIG, _source(server))
    later.fetcher.close()
    assert server.sent["/m/a.bin"] == len(BIG) - MIB
    assert later.partial() == []
    assert all(r.headers["if-match"] == '"v1"' for r in server.asked("/m/a.bin"))


def test_part_is_continued_from_another_source(harness: FetchHarness, server: LyingServer) -> None:
    """Identity is the hash: a second source goes on with what the first delivered."""
    cut: Answer = _cut_after(BIG, 0.0, reset=False)
    server.on("/dying/a.bin", _once(serve_ranges(BIG, etag='"one"'), cut))
    server.on("/good/a.bin", serve_ranges(BIG, etag='"two"'))
    fetched = harness.fetch("a.bin", BIG, _source(server, "/dying"), _source(server, "/good"))
    assert fetched.source.endswith("/good")
    assert server.sent["/good/a.bin"] == len(BIG) - MIB
    assert harness.staged() == {fetched.sha256: BIG}


@pytest.mark.parametrize("status", ["412 Precondition Failed", "416 Range Not Satisfiable"])
def test_source_that_refuses_to_continue_is_read_from_zero(
    harness: FetchHarness, server: LyingServer, status: str
) -> None:
    """412 and 416 drop the part; the file is fetched once more from its start."""
    _leave_part(harness, server, BIG)

    def refuse(request: Request, peer: Peer) -> bool:
        peer.send_head(status, Content_Length=0)
        return True

    server.on("/m/a.bin", _once(refuse, serve_ranges(BIG)))
    harness.fetcher._dead_until.clear()
    _lands(harness, server, BIG)
    assert server.sent["/m/a.bin"] == len(BIG)


def test_416_for_ever_ends(harness: FetchHarness, server: LyingServer) -> None:
    """A source that never has the range is RANGE_MISMATCH after one restart."""

    def refuse(request: Request, peer: Peer) -> bool:
        peer.send_head("416 Range Not Satisfiable", Content_Length=0)
        return True

    server.on("/m/a.bin", refuse)
    assert _fails(harness, server, BIG).code is ErrorCode.RANGE_MISMATCH
    assert len(server.asked("/m/a.bin")) == 2


def test_new_version_between_ranges_restarts_under_its_validator(
    harness: FetchHarness, server: LyingServer
) -> None:
    """A changed ETag drops the part; the spec's sha256 decides about the new version."""
    old = bytes(len(BIG))
    server.on("/m/a.bin", _once(serve_ranges(old, '"v1"'), serve_ranges(BIG, '"v2"')))
    _lands(harness, server, BIG)


def test_etag_that_flips_on_every_answer(harness: FetchHarness, server: LyingServer) -> None:
    """A source that never settles is SOURCE_CHANGED, and nothing stays."""

    def answer(request: Request, peer: Peer) -> bool:
        start, stop = request.range(len(BIG)) or (0, len(BIG))
        span = f"bytes {start}-{stop - 1}/{len(BIG)}"
        peer.send_head(
            "206 Partial Content",
            Content_Length=stop - start,
            Content_Range=span,
            ETag=f'"{request.number}"',
        )
        peer.send(BIG[start:stop])
        return True

    server.on("/m/a.bin", answer)
    assert _fails(harness, server, BIG).code is ErrorCode.SOURCE_CHANGED


def test_stale_part_of_other_bytes_is_refetched_once(
    harness: FetchHarness, server: LyingServer
) -> None:
    """A kept part whose bytes were altered meanwhile costs one refetch, not the file."""
    _leave_part(harness, server, BIG)
    (part,) = (harness.root / ".wanrec/partial").glob("*.part")
    with part.open("r+b") as stream:
        stream.write(b"rotten")
    server.on("/m/a.bin", serve_ranges(BIG))
    harness.fetcher._dead_until.clear()
    _lands(harness, server, BIG)
    assert server.sent["/m/a.bin"] == 2 * len(BIG) - MIB


# --- rows 19 to 21: waits, storms, credentials --------------------


def _status(line: str, **fields: object) -> Answer:
    def answer(request: Request, peer: Peer) -> bool:
        body = f"<error>{CANARY}</error>".encode()
        peer.send_head(line, Content_Length=len(body), **fields)
        peer.send(body, body=False)
        return True

    return answer


@both
@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
@pytest.mark.parametrize(
    "value",
    [
        "0",
        "1000000000",
        "-5",
        "soon",
        "Fri, 31 Dec 2100 23:59:59 GMT",
        "Mon, 01 Jan 2001 00:00:00 GMT",
    ],
)
def test_retry_after_is_honoured_within_the_cap(
    harness: FetchHarness, server: LyingServer, content: bytes, status: str, value: str
) -> None:
    """However long the source asks to wait, the pause is capped, and the file lands."""
    server.on("/m/a.bin", _once(_status(status, Retry_After=value), serve_ranges(content)))
    begin = time.monotonic()
    _lands(harness, server, content)
    elapsed = time.monotonic() - begin
    assert elapsed < FAST.retry_after_cap_s + 2
    if value in ("1000000000", "Fri, 31 Dec 2100 23:59:59 GMT"):
        assert elapsed >= FAST.retry_after_cap_s


@both
@pytest.mark.parametrize(
    ("status", "code", "most"),
    [
        ("429 Too Many Requests", ErrorCode.RATE_LIMIT, FAST.retries + 1),
        ("500 Internal Server Error", ErrorCode.SOURCE_UNAVAILABLE, FAST.retries + 1),
        ("503 Slow Down", ErrorCode.SOURCE_UNAVAILABLE, FAST.retries + 1),
        ("401 Unauthorized", ErrorCode.AUTH_FAIL, 1),
        ("403 Forbidden", ErrorCode.AUTH_FAIL, 1),
        ("404 Not Found", ErrorCode.NOT_FOUND_AT_SOURCE, 1),
        ("410 Gone", ErrorCode.NOT_FOUND_AT_SOURCE, 1),
        ("400 Bad Request", ErrorCode.SOURCE_UNAVAILABLE, 1),
        ("204 No Content", ErrorCode.SOURCE_UNAVAILABLE, 1),
    ],
)
def test_status_gives_its_code_and_no_more_requests_than_make_sense(
    harness: FetchHarness,
    server: LyingServer,
    content: bytes,
    status: str,
    code: ErrorCode,
    most: int,
) -> None:
    """Refusals are not retried, failures are, and the server's text is never shown."""
    server.on("/m/a.bin", _status(status))
    assert _fails(harness, server, content).code is code
    assert len(server.asked("/m/a.bin")) == most


def test_storm_over_many_files_ends_by_the_budget(tmp_path: Path, server: LyingServer) -> None:
    """Forty failing files share one budget of retries; the source is not hammered."""
    from wanrec.providers.testing import FetchHarness as Harness

    harness = Harness(tmp_path, limits=FAST)
    for number in range(40):
        server.on(f"/m/{number}.bin", _status("500 Internal Server Error"))
        with pytest.raises(WanrecError):
            harness.fetch(f"{number}.bin", SMALL, _source(server))
    harness.fetcher.close()
    assert len(server.requests) <= 40 + FAST.retry_budget


# --- row 22: slow, silent, endless --------------------


def _drip(count: int = 10**6, *, in_head: bool = False) -> Answer:
    def answer(request: Request, peer: Peer) -> bool:
        start, stop = request.range(len(BIG)) or (0, len(SMALL))
        if in_head:
            peer.send(b"HTTP/1.1 200 OK\r\nX: ", body=False)
        elif "range" in request.headers:
            span = f"bytes {start}-{stop - 1}/{len(BIG)}"
            peer.send_head("206 Partial Content", Content_Length=stop - start, Content_Range=span)
        else:
            peer.send_head("200 OK", Content_Length=len(SMALL))
        for _ in range(count):
            peer.send(b"z", body=False)
            peer.hold(0.05)
        return False

    return answer


def _silent(request: Request, peer: Peer) -> bool:
    peer.hold()
    return False


@both
@pytest.mark.parametrize(
    "answer",
    [_drip(), _drip(in_head=True), _drip(0), _silent],
    ids=["drip", "head", "stalled", "silent"],
)
def test_slow_source_is_stalled_within_the_window(
    harness: FetchHarness, server: LyingServer, content: bytes, answer: Answer
) -> None:
    """A byte now and then, or none at all, is STALLED soon after the window."""

    def then_hold(request: Request, peer: Peer) -> bool:
        answer(request, peer)
        peer.hold()
        return False

    server.on("/m/a.bin", then_hold)
    begin = time.monotonic()
    assert _fails(harness, server, content, keeps_part=True).code is ErrorCode.STALLED
    assert time.monotonic() - begin < 4 * FAST.stall_window_s


def test_connection_that_is_never_accepted(harness: FetchHarness) -> None:
    """A full backlog is NETWORK_TIMEOUT or STALLED within the limits, not a hang."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        port = deaf.getsockname()[1]
        fill = [socket.socket() for _ in range(4)]
        for sock in fill:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        try:
            with pytest.raises(WanrecError) as caught:
                context = ProviderContext(base=Path(), limits=FAST)
                harness.fetch("a.bin", SMALL, (f"http://127.0.0.1:{port}/m", context))
        finally:
            for sock in fill:
                sock.close()
    assert caught.value.code in (ErrorCode.NETWORK_TIMEOUT, ErrorCode.STALLED)


def test_stop_event_ends_a_wait(harness: FetchHarness, server: LyingServer) -> None:
    """Ctrl-C while a source is silent ends the fetch at once."""
    reached = threading.Event()

    def answer(request: Request, peer: Peer) -> bool:
        reached.set()
        peer.hold()
        return False

    server.on("/m/a.bin", answer)
    stopper = threading.Thread(target=lambda: (reached.wait(5), harness.stop.set()))
    stopper.start()
    assert _fails(harness, server, BIG).code is ErrorCode.INTERRUPTED
    stopper.join()


def test_nobody_listens(harness: FetchHarness) -> None:
    """A refused connection is SOURCE_UNAVAILABLE after a few tries."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(WanrecError) as caught:
        context = ProviderContext(base=Path(), limits=FAST)
        harness.fetch("a.bin", SMALL, (f"http://127.0.0.1:{port}/m", context))
    assert caught.value.code is ErrorCode.SOURCE_UNAVAILABLE


def test_total_deadline_ends_a_slow_but_living_source(tmp_path: Path, server: LyingServer) -> None:
    """A source above the stall limit that takes too long altogether is NETWORK_TIMEOUT."""
    limits = Limits(file_deadline_s=0.4, bwlimit=4 * MIB)
    harness = FetchHarness(tmp_path, limits=limits)
    server.on("/m/a.bin", serve_ranges(BIG))
    assert _fails(harness, server, BIG, keeps_part=True).code is ErrorCode.NETWORK_TIMEOUT
    harness.fetcher.close()


# --- row 24: redirects --------------------


def _redirect(place: str, status: str = "302 Found") -> Answer:
    def answer(request: Request, peer: Peer) -> bool:
        peer.send_head(status, Location=place, Content_Length=0)
        return True

    return answer


@both
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 T", "308 P"])
def test_redirect_is_followed_with_the_range(
    harness: FetchHarness, server: LyingServer, content: bytes, status: str
) -> None:
    """A redirect, absolute or relative, leads to the file."""
    server.on("/m/a.bin", _redirect("../other/b.bin?x=1", status))
    server.on("/other/b.bin", serve_ranges(content))
    _lands(harness, server, content)


def test_credentials_do_not_cross_to_another_port(
    harness: FetchHarness, server: LyingServer
) -> None:
    """At the second origin no Authorization and no Cookie arrives, the range does."""
    from wanrec.providers.base import Located
    from wanrec.providers.web import WebProvider

    class Authorised(WebProvider):
        def _locate(self, path: str, probe: bool) -> Located:
            import attrs

            located = super()._locate(path, probe)
            secret = {"Authorization": f"Bearer {CANARY}", "Cookie": CANARY, "X-Token": CANARY}
            return attrs.evolve(located, headers=secret)

    from wanrec.providers.source_url import parse_source

    with LyingServer() as other:
        other.on("/b.bin", serve_ranges(BIG))
        server.on("/m/a.bin", _redirect(f"{other.url}/b.bin"))
        url, context = _source(server)
        provider = Authorised(parse_source(url), context)
        with provider.open_range(provider.locate("a.bin"), 0, 100) as body:
            assert body.stop == 100
        provider.session.close()
        (here,), (there,) = server.asked("/m/a.bin"), other.asked("/b.bin")
    assert CANARY in here.headers["authorization"]
    assert CANARY not in str(there)
    assert there.headers["range"] == "bytes=0-99"


@pytest.mark.parametrize(
    "place",
    [
        "file:///etc/passwd",
        "ftp://x/y",
        "gopher://x",
        "http://[::ffff",
        "//",
        "",
        "http://user:p@x/",
    ],
)
def test_redirect_to_what_is_no_web_address(
    harness: FetchHarness, server: LyingServer, place: str
) -> None:
    """A redirect elsewhere than http or https is SOURCE_UNAVAILABLE at once."""
    server.on("/m/a.bin", _redirect(place))
    assert _fails(harness, server, SMALL).code is ErrorCode.SOURCE_UNAVAILABLE
    assert len(server.asked("/m/a.bin")) <= FAST.max_redirects + 1


def test_redirect_loop_ends_after_ten(harness: FetchHarness, server: LyingServer) -> None:
    """A loop is given up after ten hops, without retries."""
    server.on("/m/a.bin", _redirect("/m/a.bin"))
    assert _fails(harness, server, SMALL).code is ErrorCode.SOURCE_UNAVAILABLE
    assert len(server.asked("/m/a.bin")) == FAST.max_redirects + 1


def test_redirect_from_https_to_http_is_refused(tmp_path: Path) -> None:
    """A hop to a lower scheme is refused before anything is sent there."""
    from wanrec.providers.http import HttpProvider
    from wanrec.providers.source_url import parse_source
    from wanrec.providers.web import WebProvider
    from wanrec.providers.wire import Origin

    provider: HttpProvider = WebProvider(
        parse_source("https://a.example/m"), ProviderContext(base=tmp_path, allow_http=True)
    )
    with pytest.raises(WanrecError) as caught:
        provider._vet_redirect(
            Origin("https", "a.example", 443), Origin("http", "a.example", 80), "a.bin"
        )
    assert caught.value.code is ErrorCode.SOURCE_UNAVAILABLE


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "0.0.0.0", "127.0.0.1", "::1"])
def test_redirect_into_this_machine_is_refused(tmp_path: Path, address: str) -> None:
    """A hop from a public host to loopback or a link-local address is refused."""
    from wanrec.providers.http import _Vetting
    from wanrec.providers.source_url import parse_source
    from wanrec.providers.web import WebProvider
    from wanrec.providers.wire import Origin

    provider = WebProvider(parse_source("https://a.example/m"), ProviderContext(base=tmp_path))
    vet = _Vetting(provider, Origin("https", "a.example", 443), "a.bin")
    with pytest.raises(WanrecError):
        vet(address)
    vet("93.184.216.34")


def test_plain_http_beyond_loopback_is_refused(harness: FetchHarness, tmp_path: Path) -> None:
    """http:// to another machine is POLICY_DENIED unless it is allowed."""
    with pytest.raises(WanrecError) as caught:
        harness.fetch("a.bin", SMALL, ("http://192.0.2.1/m", ProviderContext(base=tmp_path)))
    assert caught.value.code is ErrorCode.POLICY_DENIED


# --- keep-alive --------------------


def test_connection_is_used_again_and_a_dead_one_is_replaced(
    harness: FetchHarness, server: LyingServer
) -> None:
    """A server that hangs up between two files is no failure, and costs no retry."""

    def polite(request: Request, peer: Peer) -> bool:
        peer.send(head("200 OK", Content_Length=len(SMALL)), body=False)
        peer.send(SMALL)
        return False  # closes, without having said so

    server.on("/m/a.bin", polite)
    for _ in range(3):
        harness.fetch("a.bin", SMALL, _source(server))
    assert harness.kinds() == []
