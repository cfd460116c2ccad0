"""Fetching from local sources: failover, limits, events, threads, what may stay behind."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wanrec.providers.base import ProviderContext, TransferEvent
from wanrec.providers.fetching import FetchRequest
from wanrec.providers.hashing import PrefixHasher
from wanrec.providers.limits import MIB, Limits
from wanrec.providers.testing import FetchHarness, FolderStage, Served
from wanrec.providers.transfer import Fetcher
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import Via

GOOD = b"good bytes " * 1000
WRONG = b"evil bytes " * 1000


@pytest.fixture
def harness(tmp_path: Path) -> FetchHarness:
    """A fetcher whose stage is empty."""
    (tmp_path / "root").mkdir()
    return FetchHarness(tmp_path / "root")


def _source(tmp_path: Path, name: str, content: bytes | None) -> Served:
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    if content is not None:
        (folder / "a.bin").write_bytes(content)
    return f"local://{name}", ProviderContext(base=tmp_path)


def _code(harness: FetchHarness, content: bytes, *sources: Served) -> WanrecError:
    with pytest.raises(WanrecError) as caught:
        harness.fetch("a.bin", content, *sources)
    assert harness.staged() == {}
    assert harness.partial() == []
    return caught.value


def test_wrong_bytes_anywhere_decide_the_code(harness: FetchHarness, tmp_path: Path) -> None:
    """All sources failed and one delivered wrong bytes: CHECKSUM_FAIL, and all are listed."""
    liar = _source(tmp_path, "liar", WRONG)
    empty = _source(tmp_path, "empty", None)
    error = _code(harness, GOOD, liar, empty)
    assert error.code is ErrorCode.CHECKSUM_FAIL
    assert error.address == "m@1::a.bin"
    assert "local://liar" in error.detail
    assert "local://empty: NOT_FOUND_AT_SOURCE" in error.detail


def test_without_wrong_bytes_the_last_code_counts(harness: FetchHarness, tmp_path: Path) -> None:
    """No source lied: the code is that of the last one tried."""
    gone: Served = ("local://gone", ProviderContext(base=tmp_path))
    empty = _source(tmp_path, "empty", None)
    assert _code(harness, GOOD, gone, empty).code is ErrorCode.NOT_FOUND_AT_SOURCE


def test_one_event_for_each_failover_and_the_deliverer_is_named(
    harness: FetchHarness, tmp_path: Path
) -> None:
    """Each source that fails before another is tried gives one warning."""
    sources = [_source(tmp_path, "empty", None), _source(tmp_path, "liar", WRONG)]
    fetched = harness.fetch("a.bin", GOOD, *sources, _source(tmp_path, "good", GOOD))
    assert fetched.source == "local://good"
    assert [dict(fields)["code"] for _, fields in harness.events] == [
        "NOT_FOUND_AT_SOURCE",
        "CHECKSUM_FAIL",
    ]
    assert [line.split(":")[0] for line in fetched.failovers] == ["local", "local"]


def test_size_is_looked_at_before_a_byte_is_copied(harness: FetchHarness, tmp_path: Path) -> None:
    """A file of another size is SIZE_MISMATCH without a copy."""
    with pytest.raises(WanrecError) as caught:
        harness.fetch("a.bin", GOOD + b"x", _source(tmp_path, "short", GOOD))
    assert caught.value.code is ErrorCode.SIZE_MISMATCH
    assert not (harness.root / ".wanrec").exists()


def test_liar_is_not_asked_again_while_another_delivers(
    harness: FetchHarness, tmp_path: Path
) -> None:
    """After a lie the source comes last, so it is not touched when another has the file."""
    liar, good = _source(tmp_path, "liar", WRONG), _source(tmp_path, "good", GOOD)
    harness.fetch("a.bin", GOOD, liar, good)
    again = harness.fetch("a.bin", GOOD, liar, good)
    assert again.failovers == ()


def test_a_lie_about_one_file_does_not_block_others(harness: FetchHarness, tmp_path: Path) -> None:
    """A source with one bad file still delivers what only it has."""
    liar = _source(tmp_path, "liar", WRONG)
    (tmp_path / "liar" / "b.bin").write_bytes(GOOD)
    with pytest.raises(WanrecError):
        harness.fetch("a.bin", GOOD, liar)
    assert harness.fetch("b.bin", GOOD, liar).source == "local://liar"


def test_no_failover_stops_at_the_first(tmp_path: Path) -> None:
    """--no-failover reports the first source's error, though the second has the file."""
    harness = FetchHarness(tmp_path, no_failover=True)
    error = _code(harness, GOOD, _source(tmp_path, "a", None), _source(tmp_path, "b", GOOD))
    assert error.code is ErrorCode.NOT_FOUND_AT_SOURCE
    assert harness.events == []


def test_full_disk_is_ours_and_no_other_source_is_tried(tmp_path: Path) -> None:
    """An error of the stage ends the file at once: the next source would meet the same disk."""

    class FullStage(FolderStage):
        def create(self, rel: str, mode: int = 0o600) -> int:
            raise WanrecError(ErrorCode.NO_SPACE, f"no space for {rel}")

    events: list[object] = []
    fetcher = Fetcher(
        FullStage(tmp_path),
        Limits(),
        lambda kind, fields: events.append(kind),
        threading.Event(),
        translate_os_error=lambda exc, rel: WanrecError(ErrorCode.NO_SPACE, rel),
    )
    sources = (_source(tmp_path, "a", GOOD), _source(tmp_path, "b", GOOD))
    with pytest.raises(WanrecError) as caught:
        fetcher.fetch(FetchRequest(address="m@1::a.bin", path="a.bin", sources=sources))
    assert (caught.value.code, caught.value.address) == (ErrorCode.NO_SPACE, "m@1::a.bin")
    assert events == []


def test_blob_that_is_there_already_stays(harness: FetchHarness, tmp_path: Path) -> None:
    """Identical content that somebody may be linking right now is not replaced."""
    source = _source(tmp_path, "good", GOOD)
    first = harness.fetch("a.bin", GOOD, source)
    inode = os.stat(harness.root / first.staged).st_ino
    second = harness.fetch("a.bin", GOOD, source)
    assert os.stat(harness.root / second.staged).st_ino == inode
    assert harness.partial() == []


def test_many_threads_share_one_fetcher(harness: FetchHarness, tmp_path: Path) -> None:
    """Big and small files from eight threads all land, each under its own hash."""
    source = _source(tmp_path, "many", None)
    contents = {f"f{n}.bin": bytes([n]) * (n % 3 * 2 * MIB + n) for n in range(24)}
    for name, content in contents.items():
        (tmp_path / "many" / name).write_bytes(content)
    with ThreadPoolExecutor(8) as pool:
        jobs = [
            pool.submit(harness.fetch, name, content, source) for name, content in contents.items()
        ]
        for job in jobs:
            job.result(timeout=60)
    assert set(harness.staged()) == {hashlib.sha256(c).hexdigest() for c in contents.values()}
    assert harness.partial() == []


def test_big_file_is_copied_or_cloned(harness: FetchHarness, tmp_path: Path) -> None:
    """A file over several copy steps lands whole, and says how it came."""
    content = os.urandom(19 * MIB + 13)
    fetched = harness.fetch("a.bin", content, _source(tmp_path, "big", content))
    assert fetched.via in (Via.FETCH, Via.REFLINK)
    assert harness.staged() == {fetched.sha256: content}


@pytest.fixture
def slow_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes are moved, also on a file system that could clone them at once."""
    monkeypatch.setattr("wanrec.providers.copying._clone", lambda source, part: False)


@pytest.mark.usefixtures("slow_copies")
def test_bandwidth_cap_holds_over_all_files(tmp_path: Path) -> None:
    """2 MiB under a cap of 4 MiB a second take at least a quarter of a second."""
    harness = FetchHarness(tmp_path, limits=Limits(bwlimit=4 * MIB))
    content = bytes(2 * MIB)
    source = _source(tmp_path, "slow", content)
    begin = time.monotonic()
    harness.fetch("a.bin", content, source)
    assert time.monotonic() - begin >= 0.24


@pytest.mark.usefixtures("slow_copies")
def test_progress_is_throttled_and_ends_below_the_total(tmp_path: Path) -> None:
    """Progress events come at most ten times a second and never count too much."""
    harness = FetchHarness(tmp_path, limits=Limits(bwlimit=8 * MIB))
    content = bytes(4 * MIB)
    begin = time.monotonic()
    harness.fetch("a.bin", content, _source(tmp_path, "slow", content))
    elapsed = time.monotonic() - begin
    done = [fields["bytes_done"] for kind, fields in harness.events]
    assert all(kind is TransferEvent.PROGRESS for kind, _ in harness.events)
    assert 1 <= len(done) <= elapsed / 0.1 + 1
    assert done == sorted(done, key=lambda value: int(str(value)))


@pytest.mark.usefixtures("slow_copies")
def test_stop_during_a_slow_copy_leaves_nothing(tmp_path: Path) -> None:
    """A stop event that comes while bytes move ends the copy and removes the part."""
    harness = FetchHarness(tmp_path, limits=Limits(bwlimit=MIB))
    harness.react = lambda kind: harness.stop.set()  # at the first progress event
    content = bytes(8 * MIB)
    assert _code(harness, content, _source(tmp_path, "slow", content)).code is (
        ErrorCode.INTERRUPTED
    )


def test_import_of_the_transfer_loads_no_network_code() -> None:
    """Local sources cost no HTTP, TLS or SDK import."""
    import subprocess
    import sys

    code = (
        "import sys, wanrec.providers.transfer, wanrec.providers.local\n"
        "print(*sorted({'ssl','http.client','urllib.request','asyncio','boto3','email',"
        "'huggingface_hub','concurrent.futures','networkx'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ""


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_prefix_hasher_takes_ranges_in_any_order(tmp_path: Path, order: tuple[int, ...]) -> None:
    """The digest is that of the file, whatever order its ranges arrived in."""
    content = os.urandom(4 * MIB)
    fd = os.open(tmp_path / "part", os.O_RDWR | os.O_CREAT)
    try:
        hasher = PrefixHasher(fd).start()
        for index in order:
            os.pwrite(fd, content[index * MIB : (index + 1) * MIB], index * MIB)
            hasher.wrote(index * MIB, (index + 1) * MIB)
        assert hasher.prefix == len(content)
        assert hasher.finish() == hashlib.sha256(content).hexdigest()
    finally:
        os.close(fd)


def test_prefix_hasher_reports_a_part_that_was_cut(tmp_path: Path) -> None:
    """A part that is shorter than what was written to it is an error, not a short hash."""
    fd = os.open(tmp_path / "part", os.O_RDWR | os.O_CREAT)
    try:
        hasher = PrefixHasher(fd).start()
        hasher.wrote(0, 100)
        with pytest.raises(OSError, match="shorter"):
            hasher.finish()
    finally:
        os.close(fd)
