"""Fixtures of the fault tests: a server that lies, a fetcher that meets it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.http_faults import FAST
from support.lying_server import LyingServer

from wanrec.providers.testing import PRIVATE_DIR, FetchHarness


@pytest.fixture(autouse=True)
def _children_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is killed leaves torn measurements, and the others would tell nothing new."""
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[LyingServer]:
    """A server without scripts."""
    with LyingServer() as server:
        yield server


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[FetchHarness]:
    """A fetcher whose retries are quick, with a stage of its own, as a run has one."""
    (tmp_path / "root").mkdir()
    harness = FetchHarness(tmp_path / "root", limits=FAST, blob_dir=PRIVATE_DIR)
    yield harness
    harness.fetcher.close()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a tmpfs with the given options; unmounted at the end. Needs root, and the right."""
    place = tmp_path / "mounted"
    place.mkdir()

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("cannot mount here")
        return place

    yield mount
    subprocess.run(["umount", str(place)], capture_output=True, check=False)
