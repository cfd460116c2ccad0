"""Sources that are busy, refuse, say nothing or never end: waits and retries (rows 19-22)."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from support.http_faults import (
    BIG,
    CANARY,
    FAST,
    IMPATIENT,
    SMALL,
    both,
    fails,
    lands,
    once,
    source_of,
)
from support.lying_server import Answer, LyingServer, Peer, Request, closed_port, serve_ranges

from wanrec.providers.base import ProviderContext, TransferEvent
from wanrec.providers.limits import MIB, Limits
from wanrec.providers.testing import FetchHarness
from wanrec.reconcile.errors import ErrorCode, WanrecError

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
    server.on("/m/a.bin", once(_status(status, Retry_After=value), serve_ranges(content)))
    lands(harness, server, content)
    (pause,) = (told["delay_s"] for kind, told in harness.events if kind is TransferEvent.RETRY)
    if value in ("1000000000", "Fri, 31 Dec 2100 23:59:59 GMT"):
        assert pause == FAST.retry_after_cap_s
    else:
        assert pause <= FAST.backoff_cap_s


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
    assert fails(harness, server, content).code is code
    assert len(server.asked("/m/a.bin")) == most


def test_storm_over_many_files_ends_by_the_budget(tmp_path: Path, server: LyingServer) -> None:
    """Forty failing files share one budget of retries; the source is not hammered."""
    from wanrec.providers.testing import FetchHarness as Harness

    harness = Harness(tmp_path, limits=FAST)
    for number in range(40):
        server.on(f"/m/{number}.bin", _status("500 Internal Server Error"))
        with pytest.raises(WanrecError):
            harness.fetch(f"{number}.bin", SMALL, source_of(server))
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
    """A byte now and then, or none at all, is STALLED when the window is over."""

    def then_hold(request: Request, peer: Peer) -> bool:
        answer(request, peer)
        peer.hold()
        return False

    server.on("/m/a.bin", then_hold)
    error = fails(harness, server, content, keeps_part=True, limits=IMPATIENT)
    assert error.code is ErrorCode.STALLED
    assert harness.kinds() == [], "a source that drips from the start is not asked again"


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
                context = ProviderContext(base=Path(), limits=IMPATIENT)
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
    stopper = threading.Thread(target=lambda: (reached.wait(60), harness.stop.set()))
    stopper.start()
    assert fails(harness, server, BIG).code is ErrorCode.INTERRUPTED
    stopper.join()


def test_nobody_listens(harness: FetchHarness) -> None:
    """A refused connection is SOURCE_UNAVAILABLE after a few tries."""
    with closed_port() as port, pytest.raises(WanrecError) as caught:
        context = ProviderContext(base=Path(), limits=FAST)
        harness.fetch("a.bin", SMALL, (f"http://127.0.0.1:{port}/m", context))
    assert caught.value.code is ErrorCode.SOURCE_UNAVAILABLE


def test_total_deadline_ends_a_slow_but_living_source(tmp_path: Path, server: LyingServer) -> None:
    """A source above the stall limit that takes too long altogether is NETWORK_TIMEOUT."""
    limits = Limits(file_deadline_s=0.4, bwlimit=4 * MIB)
    harness = FetchHarness(tmp_path, limits=limits)
    server.on("/m/a.bin", serve_ranges(BIG))
    assert fails(harness, server, BIG, keeps_part=True).code is ErrorCode.NETWORK_TIMEOUT
    harness.fetcher.close()
