"""Print how long wanrec takes next to a peer that does comparable work, as Markdown.

    nox -s bench                      every part
    nox -s bench -- noop10k start60   some of them
    nox -s bench -- --runs 3 deep

Nothing is asserted: times belong to a machine and a moment. The bar stands beside each ratio.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import peers
from pairs import Taken
from parts import PARTS, Bench, Row
from transfers import TRANSFERS

_HEAD = """\
| measured | peer | ratio | bar | of processor time | seconds | peer's | peak MiB |
|---|---|---:|---:|---:|---:|---:|---:|"""


def main() -> None:
    """Run the parts that were asked for."""
    PARTS.update(TRANSFERS)
    parser = argparse.ArgumentParser(prog="bench", description="Ratios against peers.")
    parser.add_argument("parts", nargs="*", help=f"of: {' '.join(PARTS)}")
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each pair")
    parser.add_argument("--place", type=Path, help="a folder for the trees (else temporary)")
    given = parser.parse_args()
    unknown = [part for part in given.parts if part not in PARTS]
    if unknown:
        parser.error(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    wanrec = peers.program("wanrec")
    if wanrec is None:
        parser.error("wanrec is not installed in this environment")
    if given.place is not None:
        given.place.mkdir(parents=True, exist_ok=True)
    print(_HEAD, flush=True)
    for name in given.parts or PARTS:
        with tempfile.TemporaryDirectory(prefix="wanrec-bench-", dir=given.place) as place:
            for row in PARTS[name](Bench(Path(place), wanrec, given.runs)):
                print(_line(row), flush=True)
    for name in ("dvc", "git", "s5cmd", "weed", "hf"):
        if peers.program(name) is None:
            print(f"\n{name} is not installed: its rows are missing.")


def _line(row: Row) -> str:
    peak = max(taken.peak for taken in row.pair.ours)
    memory = f"{peak:.0f}" + (f" (bar {row.memory:.0f})" if row.memory else "")
    cells = [
        row.what,
        f"`{row.peer}`",
        f"{row.pair.ratio:.2f}",
        f"{row.limit:g}",
        f"{row.pair.cpu_ratio:.2f}",
        _median(row.pair.ours),
        _median(row.pair.peer),
        memory,
    ]
    return f"| {' | '.join(cells)} |"


def _median(runs: Sequence[Taken]) -> str:
    return f"{statistics.median(taken.wall for taken in runs):.3f}"


if __name__ == "__main__":
    sys.exit(main())
