"""Two commands run in turn, A B A B, and what came out: medians and the ratio.

Only the ratio means anything: both ran in the same minute on the same machine. Times are of whole
processes, start-up included, and the peak memory is what the system says of the finished process.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple


class Command(NamedTuple):
    """A command line, where it runs, and what makes a run of it fresh again (not timed)."""

    words: Sequence[str]
    cwd: Path
    before: Callable[[], None] = lambda: None


class Taken(NamedTuple):
    """One run: wall and processor seconds, peak memory in MiB."""

    wall: float
    cpu: float
    peak: float


class Pair(NamedTuple):
    """Both sides of a comparison, all counted runs."""

    ours: tuple[Taken, ...]
    peer: tuple[Taken, ...]

    @property
    def ratio(self) -> float:
        """Median of the ratios run by run: what slows the machine down slows both."""
        return statistics.median(
            one.wall / other.wall for one, other in zip(self.ours, self.peer, strict=True)
        )

    @property
    def cpu_ratio(self) -> float:
        """As `ratio`, of processor seconds: steadier on a machine that others use too."""
        return statistics.median(
            one.cpu / other.cpu for one, other in zip(self.ours, self.peer, strict=True)
        )


def run(command: Command) -> Taken:
    """Run a command once; a failing one ends the benchmark with what it said."""
    command.before()
    with subprocess.Popen(
        command.words, cwd=command.cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        start = time.monotonic()
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command.words)}: exit {process.returncode}\n{said.decode()}")
    return Taken(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def compare(ours: Command, peer: Command, runs: int) -> Pair:
    """Run both once without counting, then in turn."""
    run(ours)
    run(peer)
    taken = [(run(ours), run(peer)) for _ in range(runs)]
    return Pair(tuple(one for one, _ in taken), tuple(other for _, other in taken))
