"""Ranges that are ignored, shifted or of another version, and parts that are stale (rows 15-18)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.http_faults import BIG, FAST, SMALL, cut_after, fails, lands, once, source_of
from support.lying_server import Answer, LyingServer, Peer, Request, serve_ranges

from wanrec.providers.limits import MIB
from wanrec.providers.testing import FetchHarness
from wanrec.reconcile.errors import ErrorCode

# --- rows 15 and 16: ranges --------------------


def test_ignored_range_restarts_from_zero(harness: FetchHarness, server: LyingServer) -> None:
    """200 to a range is the whole file: it is read from its start, never written at an offset."""

    def answer(request: Request, peer: Peer) -> bool:
        peer.send_head("200 OK", Content_Length=len(BIG))
        peer.send(BIG)
        return True

    server.on("/m/a.bin", answer)
    lands(harness, server, BIG)


def test_range_that_is_ignored_later_restarts_from_zero(
    harness: FetchHarness, server: LyingServer
) -> None:
    """A source that honours the first range and ignores others still gives the right file."""

    def whole(request: Request, peer: Peer) -> bool:
        peer.send_head("200 OK", Content_Length=len(BIG))
        peer.send(BIG)
        return True

    server.on("/m/a.bin", once(serve_ranges(BIG, etag=None), whole))
    lands(harness, server, BIG)


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
    assert fails(harness, server, BIG).code is ErrorCode.RANGE_MISMATCH
    assert len(server.asked("/m/a.bin")) == 1


def test_another_total_than_declared_is_refused(harness: FetchHarness, server: LyingServer) -> None:
    """206 of a file of another size is SIZE_MISMATCH before a byte is written."""
    server.on("/m/a.bin", _span(lambda a, b, n: f"bytes {a}-{b - 1}/{n + 1}"))
    assert fails(harness, server, BIG).code is ErrorCode.SIZE_MISMATCH


def test_multipart_ranges_are_refused(harness: FetchHarness, server: LyingServer) -> None:
    """multipart/byteranges has no Content-Range of its own: RANGE_MISMATCH."""
    fields = {"Content_Type": "multipart/byteranges; boundary=x"}
    server.on("/m/a.bin", _span(lambda a, b, n: "", **fields))
    assert fails(harness, server, BIG).code is ErrorCode.RANGE_MISMATCH


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
    assert fails(harness, server, SMALL).code is ErrorCode.RANGE_MISMATCH


# --- rows 17 and 18: stale parts and changed sources --------------------


def _leave_part(harness: FetchHarness, server: LyingServer, content: bytes) -> None:
    """Leave a journaled part behind: the source dies after its first range."""
    cut: Answer = cut_after(content, 0.0, reset=False)
    server.on("/m/a.bin", once(serve_ranges(content), cut))
    fails(harness, server, content, keeps_part=True)
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
    later.fetch("a.bin", BIG, source_of(server))
    later.fetcher.close()
    assert server.sent["/m/a.bin"] == len(BIG) - MIB
    assert later.partial() == []
    assert all(r.headers["if-match"] == '"v1"' for r in server.asked("/m/a.bin"))


def test_part_is_continued_from_another_source(harness: FetchHarness, server: LyingServer) -> None:
    """Identity is the hash: a second source goes on with what the first delivered."""
    cut: Answer = cut_after(BIG, 0.0, reset=False)
    server.on("/dying/a.bin", once(serve_ranges(BIG, etag='"one"'), cut))
    server.on("/good/a.bin", serve_ranges(BIG, etag='"two"'))
    fetched = harness.fetch("a.bin", BIG, source_of(server, "/dying"), source_of(server, "/good"))
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

    server.on("/m/a.bin", once(refuse, serve_ranges(BIG)))
    harness.fetcher._dead_until.clear()
    lands(harness, server, BIG)
    assert server.sent["/m/a.bin"] == len(BIG)


def test_416_for_ever_ends(harness: FetchHarness, server: LyingServer) -> None:
    """A source that never has the range is RANGE_MISMATCH after one restart."""

    def refuse(request: Request, peer: Peer) -> bool:
        peer.send_head("416 Range Not Satisfiable", Content_Length=0)
        return True

    server.on("/m/a.bin", refuse)
    assert fails(harness, server, BIG).code is ErrorCode.RANGE_MISMATCH
    assert len(server.asked("/m/a.bin")) == 2


def test_new_version_between_ranges_restarts_under_its_validator(
    harness: FetchHarness, server: LyingServer
) -> None:
    """A changed ETag drops the part; the spec's sha256 decides about the new version."""
    old = bytes(len(BIG))
    server.on("/m/a.bin", once(serve_ranges(old, '"v1"'), serve_ranges(BIG, '"v2"')))
    lands(harness, server, BIG)


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
    assert fails(harness, server, BIG).code is ErrorCode.SOURCE_CHANGED


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
    lands(harness, server, BIG)
    assert server.sent["/m/a.bin"] == 2 * len(BIG) - MIB
