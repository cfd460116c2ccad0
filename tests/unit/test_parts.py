"""Part digests: where a big file is damaged, found on all cores, and never an identity."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.recorded_root import recorded, written

from wanrec.providers.hashing import PrefixHasher
from wanrec.reconcile import part_digests
from wanrec.reconcile.disk import Root
from wanrec.reconcile.drift import run_drift
from wanrec.reconcile.findings import DriftReport
from wanrec.reconcile.part_digests import PART_BYTES, PartDigests, decode, encode, hasher
from wanrec.reconcile.part_records import PARTS, recall, remember
from wanrec.state.model import State

pytest.importorskip("blake3")

BIG = "wan22/m@1/big.bin"
SIZE = 2 * PART_BYTES + 12345


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Root]:
    """A root with one file of three parts and a small one."""
    written(tmp_path, {BIG: os.urandom(4096) * (SIZE // 4096) + b"x" * (SIZE % 4096)})
    written(tmp_path, {"wan22/m@1/small.bin": b"small"})
    with Root.open(tmp_path) as root:
        yield root


@pytest.fixture
def state(disk: Root) -> State:
    """What an apply would have recorded."""
    return recorded(disk.path, {"m@1": "wan22/m@1"})


def deep(disk: Root, state: State) -> DriftReport:
    """A deep drift check."""
    return run_drift(disk, state, deep=True, record_parts=True)


def flip(disk: Root, *offsets: int) -> None:
    """Change single bytes of the big file."""
    with (disk.path / BIG).open("r+b") as stream:
        for offset in offsets:
            stream.seek(offset)
            byte = stream.read(1)[0]
            stream.seek(offset)
            stream.write(bytes([byte ^ 1]))


def test_first_deep_check_records_big_files_only(disk: Root, state: State) -> None:
    """A clean deep check leaves one record, named by the content; the small file has none."""
    assert not deep(disk, state).drifted
    sha256 = hashlib.sha256((disk.path / BIG).read_bytes()).hexdigest()
    assert list(disk.walk(PARTS)) == [sha256]
    parts = recall(disk, sha256, SIZE)
    assert parts is not None
    assert [parts.span(n) for n in range(3)] == [
        (0, PART_BYTES),
        (PART_BYTES, 2 * PART_BYTES),
        (2 * PART_BYTES, SIZE),
    ]


def test_shallow_check_records_nothing(disk: Root, state: State) -> None:
    """Only a deep check pays for parts, and only one that was asked to may write."""
    run_drift(disk, state, max_age_s=0.0, now_ns=2**62)
    run_drift(disk, state, deep=True)
    assert not disk.exists(PARTS)


def test_bad_parts_are_named(disk: Root, state: State) -> None:
    """Flipped bytes are found, and the ranges of their parts; every byte counts as read once."""
    assert deep(disk, state).items == ()
    flip(disk, 5, SIZE - 1)
    report = deep(disk, state)
    assert [item.parts for item in report.items] == [((0, PART_BYTES), (2 * PART_BYTES, SIZE))]
    found = report.items[0].found
    assert found is not None
    assert found.sha256 == hashlib.sha256((disk.path / BIG).read_bytes()).hexdigest()
    assert report.bytes_hashed == SIZE + len(b"small")


def test_damage_before_any_record_is_still_damage(disk: Root, state: State) -> None:
    """Without a record the whole hash decides, no part is named, and none is recorded."""
    flip(disk, PART_BYTES)
    (item,) = deep(disk, state).items
    assert item.parts == ()
    assert not disk.exists(PARTS)


def test_a_record_is_never_the_verdict(disk: Root, state: State) -> None:
    """A record of other bytes under the right name: the whole hash overrules and drops it."""
    sha256 = state.files["m@1::big.bin"].sha256
    remember(disk, PartDigests(sha256, SIZE, (bytes(32),) * 3))
    assert not deep(disk, state).drifted
    assert not disk.exists(f"{PARTS}/{sha256}")


def test_without_blake3_everything_is_as_before(
    disk: Root, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The optional dependency is missing: records are neither made nor believed."""
    deep(disk, state)
    flip(disk, 5)
    monkeypatch.setattr(part_digests, "_blake3", lambda: None)
    (item,) = deep(disk, state).items
    assert item.parts == ()


def test_a_root_that_cannot_be_written_is_checked_all_the_same(disk: Root, state: State) -> None:
    """Recording is best effort: something in its way is no failure."""
    written(disk.path, {PARTS: b"in the way"})
    assert not deep(disk, state).drifted


@pytest.mark.parametrize("cut", [0, 1, 100, -1, -2])
def test_a_damaged_record_is_ignored(cut: int) -> None:
    """Torn anywhere, it is as good as none."""
    data = encode(PartDigests("a" * 64, SIZE, (bytes(32),) * 3))
    assert decode(data[:cut], "a" * 64, SIZE) is None or data[:cut].rstrip() == data.rstrip()


@given(st.integers(min_value=0, max_value=400), st.integers(min_value=1, max_value=255))
def test_a_changed_record_is_ignored(at: int, by: int) -> None:
    """One changed byte: either the record means the same, or nothing."""
    parts = PartDigests("a" * 64, SIZE, tuple(bytes([n]) * 32 for n in range(3)))
    data = bytearray(encode(parts))
    data[at % len(data)] ^= by
    assert decode(bytes(data), "a" * 64, SIZE) in (None, parts)


def test_a_record_of_other_bytes_is_ignored() -> None:
    """Another sha256 or another size than asked for is not what the record is about."""
    data = encode(PartDigests("a" * 64, SIZE, (bytes(32),) * 3))
    assert decode(data, "b" * 64, SIZE) is None
    assert decode(data, "a" * 64, SIZE + 1) is None


@given(st.lists(st.integers(min_value=1, max_value=PART_BYTES + 99), min_size=1, max_size=4))
def test_chunks_do_not_matter(lengths: list[int]) -> None:
    """However a stream is cut, its parts have the same digests."""
    data = memoryview(bytes(SIZE))
    whole, cut = hasher(SIZE), hasher(SIZE)
    assert whole is not None and cut is not None
    whole.update(data)
    at = 0
    for length in lengths:
        cut.update(data[at : at + length])
        at += length
    cut.update(data[min(at, SIZE) :])
    assert cut.finish("a") == whole.finish("a")


def test_digests_that_run_out_of_memory_cost_only_themselves(tmp_path: Path) -> None:
    """The sha256 of a file comes out right, and soon, when the digests of its parts give up."""

    class Poor:
        def update(self, chunk: memoryview) -> None:
            raise MemoryError

    content = bytes(40 << 20)
    (tmp_path / "a").write_bytes(content)
    with (tmp_path / "a").open("rb") as file:
        prefix = PrefixHasher(file.fileno(), Poor()).start()  # type: ignore[arg-type]
        prefix.wrote(0, len(content))
        assert prefix.finish() == hashlib.sha256(content).hexdigest()
        assert prefix.parts("") is None


def test_parts_are_digested_on_landing(tmp_path: Path) -> None:
    """Whoever hashes a file that arrives has the digests of its parts, however fast it came."""
    content = bytes(40 << 20)
    (tmp_path / "a").write_bytes(content)
    with (tmp_path / "a").open("rb") as file:
        prefix = PrefixHasher(file.fileno(), hasher(len(content))).start()
        prefix.wrote(0, len(content))
        parts = prefix.parts(prefix.finish())
    assert parts is not None and len(parts.digests) == 3
