"""A fetch that is killed goes on in another process with what had arrived (promise P2)."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.lying_server import Answer, LyingServer, Peer, Request, serve_ranges

from wanrec.providers import receivers
from wanrec.providers.base import ProviderContext
from wanrec.providers.limits import MIB, Limits
from wanrec.providers.parts import Parts
from wanrec.providers.resume import Intervals, open_part, resumable_bytes
from wanrec.providers.testing import FetchHarness, FolderStage
from wanrec.reconcile.errors import WanrecError

CHILD = """
import hashlib, sys
from pathlib import Path
from wanrec.providers.base import ProviderContext
from wanrec.providers.limits import Limits
from wanrec.providers.testing import FetchHarness
from wanrec.providers.fetching import FetchRequest

root, url, size, sha256, short = sys.argv[1:]
limits = Limits(journal_bytes=1 << 18, range_bytes=1 << 20, max_range_bytes=1 << 20,
                first_workers=2, workers_per_file=2)
harness = FetchHarness(Path(root), limits=limits if short else Limits())
source = (url, ProviderContext(base=Path()))
harness.fetcher.fetch(
    FetchRequest(address="m", path="a.bin", size=int(size), sha256=sha256, sources=(source,))
)
harness.fetcher.close()
"""


class _Gate:
    """Serves honestly up to a position in the stream of sent bytes, then holds."""

    def __init__(self, content: bytes) -> None:
        self._honest = serve_ranges(content)
        self.content = content
        self.hold_at = 0
        self.reached = threading.Event()

    def __call__(self, request: Request, peer: Peer) -> bool:
        start, _ = request.range(len(self.content)) or (0, len(self.content))
        if self.hold_at and start + MIB >= self.hold_at:
            self.reached.set()
            peer.hold()
            return False
        return self._honest(request, peer)


class _Long:
    """Serves a block over and over as one long file; tells when a number of bytes has been sent."""

    def __init__(self, server: LyingServer, block: bytes, count: int) -> None:
        self._server = server
        self._block = memoryview(block)
        self.size = len(block) * count
        self.sha256 = hashlib.sha256()
        for _ in range(count):
            self.sha256.update(block)
        self.goal = 0.0
        self.reached = threading.Event()

    def __call__(self, request: Request, peer: Peer) -> bool:
        at, stop = request.range(self.size) or (0, self.size)
        span = f"bytes {at}-{stop - 1}/{self.size}"
        peer.send_head("206 Partial Content", Content_Range=span, Content_Length=stop - at)
        while at < stop:
            inside = at % len(self._block)
            piece = self._block[inside : inside + min(stop - at, MIB // 4)]
            peer.send(piece)
            at += len(piece)
            if self._server.sent[request.path] >= self.goal:
                self.reached.set()
        return True


def _child(
    root: Path, server: LyingServer, size: int, sha256: str, *, short: bool = False
) -> subprocess.Popen[bytes]:
    arguments = [str(root), f"{server.url}/m", str(size), sha256, "short" if short else ""]
    return subprocess.Popen([sys.executable, "-c", CHILD, *arguments])


def test_killed_fetches_converge_without_refetching(tmp_path: Path) -> None:
    """Three kills -9 at different places, one more run: whole, and hardly a byte sent twice."""
    content = os.urandom(24 * MIB)
    sha256 = hashlib.sha256(content).hexdigest()
    gate = _Gate(content)
    with LyingServer() as server:
        server.on("/m/a.bin", gate)
        for share in (1, 2, 3):
            gate.hold_at = len(content) * share // 4
            gate.reached.clear()
            child = _child(tmp_path, server, len(content), sha256, short=True)
            assert gate.reached.wait(120)
            child.kill()
            child.wait()
        gate.hold_at = 0
        assert _child(tmp_path, server, len(content), sha256, short=True).wait(120) == 0
        sent = server.sent["/m/a.bin"]
    blobs = list((tmp_path / ".wanrec/stage/blob").iterdir())
    assert [blob.read_bytes() for blob in blobs] == [content]
    assert list((tmp_path / ".wanrec/partial").iterdir()) == []
    in_flight = 2 * MIB  # two receivers, a range of one MiB each
    assert sent <= len(content) + 3 * in_flight


@pytest.mark.slow
def test_thirty_kills_of_a_long_fetch_cost_little(tmp_path: Path) -> None:
    """2 GiB, killed thirty times at random moments: whole in the end, 5 % sent twice at most."""
    moments = random.Random(1)
    with LyingServer() as server:
        long = _Long(server, os.urandom(MIB), 2048)
        server.on("/m/a.bin", long)
        for _ in range(30):
            long.goal = server.sent["/m/a.bin"] + moments.uniform(0.2, 1.6) * long.size / 31
            long.reached.clear()
            child = _child(tmp_path, server, long.size, long.sha256.hexdigest())
            assert long.reached.wait(120)
            child.kill()
            child.wait()
        long.goal = float("inf")
        assert _child(tmp_path, server, long.size, long.sha256.hexdigest()).wait(120) == 0
        sent = server.sent["/m/a.bin"]
    blobs = list((tmp_path / ".wanrec/stage/blob").iterdir())
    assert [(blob.name, blob.stat().st_size) for blob in blobs] == [
        (long.sha256.hexdigest(), long.size)
    ]
    assert long.size <= sent <= 1.05 * long.size
    blobs[0].unlink()  # two gigabytes are not kept for whoever looks at the folder later


def test_part_of_a_living_fetch_is_not_adopted(tmp_path: Path) -> None:
    """While its process lives, a part belongs to it: the second fetch makes its own."""
    parts = Parts(FolderStage(tmp_path))
    first = open_part(parts, "ab" * 32, 100)
    first.wrote(0, 50)
    second = open_part(parts, "ab" * 32, 100)
    assert second.part.rel != first.part.rel
    assert second.done.total() == 0
    first.keep()
    third = open_part(parts, "ab" * 32, 100)
    assert third.done.total() == 0  # nothing was in the file, whatever the journal says
    second.keep()
    third.keep()


def test_kept_part_is_adopted_with_what_it_holds(tmp_path: Path) -> None:
    """Once its owner is gone, a part is continued under a name of the new owner's."""
    parts = Parts(FolderStage(tmp_path))
    first = open_part(parts, "ab" * 32, 100)
    os.pwrite(first.part.fd, b"x" * 60, 0)
    first.wrote(0, 40)
    first.wrote(50, 60)
    first.pin("https://host/m", '"v1"')
    first.keep()
    assert resumable_bytes(parts.stage) == {"ab" * 32: 50}
    second = open_part(parts, "ab" * 32, 100)
    assert list(second.done) == [(0, 40), (50, 60)]
    assert list(second.done.gaps(100)) == [(40, 50), (60, 100)]
    assert (second.source, second.etag) == ("https://host/m", '"v1"')
    second.keep()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-3],
        lambda text: text + b"w 10 9",
        lambda text: text + b"w x y\nnonsense\n{\n[]\n",
        lambda text: text.replace(b'"size": 100', b'"size": 101'),
        lambda text: b"",
        lambda text: b"\xff\xfe" + text,
        lambda text: text + b"w 90 999999999999\n",
    ],
    ids=["torn", "tail", "junk", "size", "empty", "binary", "beyond"],
)
def test_damaged_journal_never_claims_more_than_the_part_holds(
    tmp_path: Path, damage: object
) -> None:
    """Whatever became of the journal, adopting is safe: fewer bytes, never invented ones."""
    assert callable(damage)
    parts = Parts(FolderStage(tmp_path))
    first = open_part(parts, "ab" * 32, 100)
    os.pwrite(first.part.fd, b"x" * 60, 0)
    first.wrote(0, 60)
    first.keep()
    (journal,) = (tmp_path / ".wanrec/partial").glob("*.ranges")
    journal.write_bytes(damage(journal.read_bytes()))
    second = open_part(parts, "ab" * 32, 100)
    assert second.done.total() <= 60
    assert all(0 <= start < stop <= 60 for start, stop in second.done)
    second.keep()


def test_bytes_of_before_a_restart_count_only_when_they_were_flushed(tmp_path: Path) -> None:
    """After a power cut only flushed ranges are trusted."""
    parts = Parts(FolderStage(tmp_path))
    first = open_part(parts, "ab" * 32, 100)
    os.pwrite(first.part.fd, b"x" * 60, 0)
    first.wrote(0, 30)
    first.sync()
    first.wrote(30, 60)
    first.part.close()
    first._journal.close()  # as a power cut does: without the flush of `keep`
    (journal,) = (tmp_path / ".wanrec/partial").glob("*.ranges")
    lines = journal.read_bytes().split(b"\n", 1)
    journal.write_bytes(b'{"format": 1, "size": 100, "boot": "another"}\n' + lines[1])
    second = open_part(parts, "ab" * 32, 100)
    assert list(second.done) == [(0, 30)]
    second.keep()


def test_intervals_join_and_leave_gaps() -> None:
    """Ranges that touch or overlap are one; gaps are what is left."""
    done = Intervals()
    for start, stop in [(10, 20), (0, 5), (5, 10), (40, 50), (15, 30), (60, 60)]:
        done.add(start, stop)
    assert list(done) == [(0, 30), (40, 50)]
    assert done.total() == 40
    assert list(done.gaps(70)) == [(30, 40), (50, 70)]


def test_part_without_known_hash_is_not_kept(tmp_path: Path) -> None:
    """Nothing to name it by: a failed fetch of unknown content leaves nothing."""
    harness = FetchHarness(tmp_path, limits=Limits(retries=0))
    with LyingServer() as server, pytest.raises(Exception, match="not found"):
        harness.fetch("a.bin", None, (f"{server.url}/m", ProviderContext(base=tmp_path)))
    harness.fetcher.close()
    assert harness.partial() == []


@pytest.mark.parametrize("killed", [False, True], ids=["fresh", "after a kill"])
def test_ranges_are_long_unless_an_earlier_run_was_cut_off(
    tmp_path: Path, killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fresh run asks for much at once; one that goes on begins small, and grows as it brings."""
    monkeypatch.setattr(receivers, "_FAR_S", 60.0)  # on a busy machine even this server is late
    content = os.urandom(MIB) * 24
    limits = Limits(
        first_range_bytes=MIB // 16,
        range_share=16,
        range_bytes=MIB,
        max_range_bytes=MIB,
        first_workers=1,
        workers_per_file=1,
        retries=0,
    )
    brought = MIB // 2
    with LyingServer() as server:
        source = (f"{server.url}/m", ProviderContext(base=tmp_path, limits=limits))
        if killed:
            server.on("/m/a.bin", _cut_after(content, brought))
            cut_off = FetchHarness(tmp_path, limits=limits)
            with pytest.raises(WanrecError, match="cut short"):
                cut_off.fetch("a.bin", content, source)
            cut_off.fetcher.close()
            server.requests.clear()
        server.on("/m/a.bin", serve_ranges(content))
        harness = FetchHarness(tmp_path, limits=limits)
        harness.fetch("a.bin", content, source)
        asked = [request.range(len(content)) for request in server.requests]
    harness.fetcher.close()
    spans = [span for span in asked if span is not None]
    first = brought if killed else 0
    assert [start for start, _ in spans] == [first, *(stop for _, stop in spans[:-1])]
    assert max(stop - start for start, stop in spans) == MIB
    if killed:
        lengths = [(stop - start, start - first) for start, stop in spans]
        assert all(length <= max(MIB // 16, came // 16) for length, came in lengths)
    else:
        assert all(stop - start == MIB for start, stop in spans)


def _cut_after(content: bytes, count: int) -> Answer:
    """Begin an honest answer, and break off after so many bytes."""

    def answer(request: Request, peer: Peer) -> bool:
        start, stop = request.range(len(content)) or (0, len(content))
        span = f"bytes {start}-{stop - 1}/{len(content)}"
        peer.send_head(
            "206 Partial Content", Content_Range=span, Content_Length=stop - start, ETag='"v1"'
        )
        peer.send(memoryview(content)[start : start + count])
        return False

    return answer
