"""What the tests of web faults share: contents, limits, and the two outcomes of a fetch.

Fetches are against a `LyingServer`. The limits make retries quick and leave a busy machine all the
time it wants: only `IMPATIENT`, for sources that say nothing, has windows one can wait for.
"""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import pytest

from support.lying_server import Answer, LyingServer, Peer, Request
from wanrec.providers.base import ProviderContext
from wanrec.providers.limits import MIB, Limits
from wanrec.providers.testing import FetchHarness, Served
from wanrec.reconcile.errors import WanrecError

__all__ = [
    "BIG",
    "CANARY",
    "FAST",
    "IMPATIENT",
    "SMALL",
    "both",
    "cut_after",
    "fails",
    "lands",
    "once",
    "source_of",
]

SMALL = b"0123456789abcdef" * 4096  # 64 KiB: one answer, no range
BIG = os.urandom(64 * 1024) * 80  # 5 MiB: ranges
CANARY = "c4n4ry-s3cr3t"
FAST = Limits(
    backoff_s=0.01,
    backoff_cap_s=0.02,
    retry_after_cap_s=0.1,
    first_range_bytes=MIB,
    range_bytes=MIB,
    workers_per_file=3,
    first_workers=3,
    retries=3,
)
IMPATIENT = attrs.evolve(FAST, stall_window_s=0.5, connect_timeout_s=0.3)

both = pytest.mark.parametrize("content", [SMALL, BIG], ids=["small", "big"])


def source_of(server: LyingServer, folder: str = "/m", limits: Limits = FAST) -> Served:
    """The source URL of a folder of the server, with a secret in its query."""
    context = ProviderContext(base=Path(), limits=limits)
    return f"{server.url}{folder}?token={CANARY}", context


def lands(harness: FetchHarness, server: LyingServer, content: bytes) -> None:
    """Fetch `a.bin`; it lands whole, and nothing else stays."""
    fetched = harness.fetch("a.bin", content, source_of(server))
    assert harness.staged() == {fetched.sha256: content}
    assert harness.partial() == []


def fails(
    harness: FetchHarness,
    server: LyingServer,
    content: bytes,
    *,
    keeps_part: bool = False,
    limits: Limits = FAST,
) -> WanrecError:
    """Fetch `a.bin`; it fails, lands nothing and shows no secret."""
    with pytest.raises(WanrecError) as caught:
        harness.fetch("a.bin", content, source_of(server, limits=limits))
    assert harness.staged() == {}
    if not keeps_part:
        assert harness.partial() == []
    assert CANARY not in str(caught.value)
    assert CANARY not in str(harness.events)
    return caught.value


def once(fault: Answer, then: Answer) -> Answer:
    """The fault for the first request only."""
    return lambda request, peer: (fault if request.number == 0 else then)(request, peer)


def cut_after(content: bytes, share: float, *, reset: bool) -> Answer:
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
