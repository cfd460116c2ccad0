"""What a provider does when its source goes bad: more tests to subclass, shipped for outsiders.

A `FaultContract` is a `ProviderContract` whose source can be changed after it was served. Wrong,
missing and surplus bytes, an answer that breaks, and a file that changes while it is read must end
as errors of the contract that name the source: never as a file, never as a foreign exception.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest

from wanrec.providers.base import ProviderContext, TransferEvent
from wanrec.providers.limits import Limits
from wanrec.providers.testing import FILES, FetchHarness, ProviderContract, Served
from wanrec.reconcile.errors import ErrorCode, ExitCode, WanrecError

__all__ = ["FaultContract"]

_SMALL, _BIG = "config.json", "vae/weights.bin"
_CHANGED = frozenset(
    {
        ErrorCode.CHECKSUM_FAIL,
        ErrorCode.NOT_FOUND_AT_SOURCE,
        ErrorCode.RANGE_MISMATCH,
        ErrorCode.SIZE_MISMATCH,
        ErrorCode.SOURCE_CHANGED,
        ErrorCode.SOURCE_UNAVAILABLE,
    }
)
both = pytest.mark.parametrize("path", [_SMALL, _BIG])


class FaultContract(ProviderContract):
    """Subclass as ``class TestMine(FaultContract)``; implement `serve` and `alter`."""

    @abstractmethod
    def alter(self, path: str, content: bytes, folder: Path) -> None:
        """Give a served file other bytes at the source; `folder` is that of `serve`."""

    def cut(self, path: str, folder: Path) -> bool:
        """Let every answer for a served file break in its midst; False: this source cannot."""
        return False

    @pytest.fixture
    def scratch(self, served: Served, tmp_path: Path) -> Path:
        """The folder that `serve` was given."""
        return tmp_path / "source"

    @pytest.fixture
    def hasty(self, tmp_path: Path) -> Iterator[FetchHarness]:
        """A fetcher that reads in small pieces, tells of each, and does not try again."""
        root = tmp_path / "hasty"
        root.mkdir()
        limits = Limits(
            first_range_bytes=1 << 18,
            range_bytes=1 << 18,
            receive_buffer=1 << 16,
            pipe_bytes=1 << 16,
            copy_step=1 << 18,
            progress_interval_s=0.0,
            first_workers=1,
            workers_per_file=1,
            retries=0,
        )
        harness = FetchHarness(root, limits=limits)
        yield harness
        harness.fetcher.close()

    @both
    def test_wrong_bytes_at_the_source(
        self, served: Served, scratch: Path, harness: FetchHarness, path: str
    ) -> None:
        """Right-sized wrong bytes are CHECKSUM_FAIL, and nothing of them stays."""
        self.alter(path, b"x" * len(FILES[path]), scratch)
        error = _refused(harness, served, path)
        assert error.code is ErrorCode.CHECKSUM_FAIL
        assert harness.partial() == []

    @both
    @pytest.mark.parametrize("change", [-1, +1], ids=["short", "long"])
    def test_another_number_of_bytes_at_the_source(
        self, served: Served, scratch: Path, harness: FetchHarness, path: str, change: int
    ) -> None:
        """A byte less or more than declared is SIZE_MISMATCH, and nothing of it stays."""
        content = FILES[path]
        self.alter(path, content[:-1] if change < 0 else content + b"x", scratch)
        error = _refused(harness, served, path)
        assert error.code is ErrorCode.SIZE_MISMATCH
        assert harness.partial() == []

    @both
    def test_the_next_source_delivers_what_this_one_spoiled(
        self, served: Served, scratch: Path, harness: FetchHarness, path: str
    ) -> None:
        """After wrong bytes the next source is asked, and the result says who failed and why."""
        self.alter(path, b"x" * len(FILES[path]), scratch)
        good = scratch / "good"
        (good / path).parent.mkdir(parents=True)
        (good / path).write_bytes(FILES[path])
        context = ProviderContext(base=scratch)
        fetched = harness.fetch(path, FILES[path], served, ("local://good", context))
        assert fetched.source == "local://good"
        assert [ErrorCode.CHECKSUM_FAIL in line for line in fetched.failovers] == [True]
        assert list(harness.staged().values()) == [FILES[path]]

    def test_a_file_that_changes_while_it_is_read(
        self, served: Served, scratch: Path, hasty: FetchHarness
    ) -> None:
        """Bytes of two versions never become a file: the old one lands whole, or nothing."""
        changes = iter([b"y" * len(FILES[_BIG])])

        def react(kind: TransferEvent) -> None:
            for content in changes:
                self.alter(_BIG, content, scratch)

        hasty.react = react
        try:
            hasty.fetch(_BIG, FILES[_BIG], served)
        except WanrecError as error:
            assert error.code in _CHANGED
            assert error.source is not None
        assert list(hasty.staged().values()) in ([], [FILES[_BIG]])

    @both
    def test_an_answer_that_breaks(
        self, served: Served, scratch: Path, hasty: FetchHarness, path: str
    ) -> None:
        """An answer that ends too soon is an error of the source, not a shorter file."""
        if not self.cut(path, scratch):
            pytest.skip("an answer of this source cannot be made to break")
        _refused(hasty, served, path)


def _refused(harness: FetchHarness, served: Served, path: str) -> WanrecError:
    with pytest.raises(WanrecError) as caught:
        harness.fetch(path, FILES[path], served)
    assert caught.value.source is not None
    assert caught.value.exit_code in (ExitCode.INTEGRITY, ExitCode.SOURCE)
    assert harness.staged() == {}
    return caught.value
