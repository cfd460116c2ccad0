"""Fixtures of the fault tests: a server that lies, a fetcher that meets it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.http_faults import FAST
from support.lying_server import LyingServer

from wanrec.providers.testing import FetchHarness


@pytest.fixture
def server() -> Iterator[LyingServer]:
    """A server without scripts."""
    with LyingServer() as server:
        yield server


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[FetchHarness]:
    """A fetcher whose retries are quick."""
    (tmp_path / "root").mkdir()
    harness = FetchHarness(tmp_path / "root", limits=FAST)
    yield harness
    harness.fetcher.close()
