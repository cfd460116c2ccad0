"""The parts of the benchmark: what is measured against what, and the bar it is held to."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import peers
from pairs import Command, Pair, compare
from trees import Shape, Tree, nested_specs, nested_tests

MIB = 1024 * 1024


class Row(NamedTuple):
    """One line of the table; `limit` is of the ratio, `memory` of our peak in MiB."""

    what: str
    peer: str
    limit: float
    pair: Pair
    memory: float | None = None


class Bench:
    """Where the trees are made, and how often each pair is run."""

    def __init__(self, place: Path, wanrec: str, runs: int) -> None:
        self.place = place
        self.wanrec = wanrec
        self.runs = runs

    def tree(self, name: str, shape: Shape) -> Tree:
        """Return a new project of this shape, not applied."""
        return Tree(self.place / name, self.wanrec, shape).make()

    def row(
        self,
        what: str,
        ours: Command,
        peer: tuple[str, Command | None],
        limit: float,
        memory: float | None = None,
    ) -> Iterator[Row]:
        """Measure one pair; nothing when the peer is not installed."""
        if peer[1] is not None:
            pair = compare(ours, peer[1], self.runs)
            yield Row(what, peer[0], limit, pair, memory)


def noop10k(bench: Bench) -> Iterator[Row]:
    """Nothing to do on 10,000 files."""
    tree = bench.tree("noop10k", Shape(20, 500, 24)).settled()
    dvc = "dvc status", peers.dvc_status(tree.root / "bench", bench.place / "dvc10k")
    for name in ("plan", "drift"):
        yield from bench.row(f"{name}, 10,000 files", _ours(tree, name), dvc, 0.2)


def noop100k(bench: Bench) -> Iterator[Row]:
    """Nothing to do on 100,000 files."""
    tree = bench.tree("noop100k", Shape(200, 500, 24)).settled()
    models = tree.root / "bench"
    git = "git status", peers.git_status(models, bench.place / "git100k")
    dvc = "dvc status", peers.dvc_status(models, bench.place / "dvc100k")
    for name in ("plan", "drift"):
        ours = _ours(tree, name)
        yield from bench.row(f"{name}, 100,000 files", ours, git, 4, 300)
        yield from bench.row(f"{name}, 100,000 files", ours, dvc, 0.2, 300)


def cold100k(bench: Bench) -> Iterator[Row]:
    """The same without the note of an earlier plan: specs and state are read whole."""
    tree = bench.tree("cold100k", Shape(200, 500, 24)).settled()
    git = "git status", peers.git_status(tree.root / "bench", bench.place / "git-cold")
    for name in ("plan", "drift"):
        ours = _ours(tree, name)._replace(before=lambda: _forget(tree))
        yield from bench.row(f"{name} without its note, 100,000 files", ours, git, 12, 300)


def lock100k(bench: Bench) -> Iterator[Row]:
    """Nothing to do on 100,000 files of lock files; then with every one of them parsed first."""
    tree = Tree(bench.place / "lock100k", bench.wanrec, Shape(200, 500, 24))
    models = tree.make(locked=True).settled().root / "bench"
    git = "git status", peers.git_status(models, bench.place / "git-lock")
    dvc = "dvc status", peers.dvc_status(models, bench.place / "dvc-lock")
    ours = _ours(tree, "plan")
    yield from bench.row("plan, 100,000 locked files", ours, git, 4, 300)
    yield from bench.row("plan, 100,000 locked files", ours, dvc, 0.2, 300)
    words = ["env", "WANREC_CACHE_DIR=off", *ours.words]
    first = Command(words, tree.project, before=lambda: _forget(tree))
    yield from bench.row("plan, 100,000 locked files, parsed", first, git, 20, 300)


def start60(bench: Bench) -> Iterator[Row]:
    """What a drift check of a few files costs over the bare interpreter."""
    tree = bench.tree("start60", Shape(3, 20, 24)).settled()
    peer = "python -c pass", peers.nothing(bench.place)
    yield from bench.row("drift, 60 files", _ours(tree, "drift"), peer, 8)


def collect200(bench: Bench) -> Iterator[Row]:
    """Listing what 200 specs with nested defaults declare: parsed, and kept by an earlier run."""
    project = nested_specs(bench.place / "collect200", 200, 5)
    tests = nested_tests(bench.place / "tests200", 200, 5)
    peer = "pytest --collect-only", peers.collect_only(tests)
    kept = bench.place / "cache"
    for how, folder, limit in (("parsed", "off", 0.5), ("kept", str(kept), 0.3)):
        words = ["env", f"WANREC_CACHE_DIR={folder}", bench.wanrec, "collect"]
        yield from bench.row(f"collect, 200 specs, {how}", Command(words, project), peer, limit)


def deep(bench: Bench) -> Iterator[Row]:
    """Every byte read."""
    tree = bench.tree("deep", Shape(4, 15, 32 * MIB)).settled()
    peer = "two-thread hashlib", peers.hash_pass(tree.root)
    ours = Command(tree.command("drift", "--deep"), tree.project)
    yield from bench.row("drift --deep, 60 x 32 MiB", ours, peer, 1.1)


def apply2g(bench: Bench) -> Iterator[Row]:
    """One large file from a local folder."""
    yield from _apply(bench, "apply, 1 x 2 GiB", Shape(1, 1, 2048 * MIB))


def apply60(bench: Bench) -> Iterator[Row]:
    """Many middling files from a local folder."""
    yield from _apply(bench, "apply, 60 x 32 MiB", Shape(4, 15, 32 * MIB))


def ensure16(bench: Bench) -> Iterator[Row]:
    """Sixteen processes ask for the same absent model at once: one fetch, fifteen wait for it.

    At the speed of a local disk, where fifteen processes that only wake up are felt, and at that
    of a fast network, where a model of usual size takes minutes.
    """
    tree = bench.tree("ensure16", Shape(1, 4, 512 * MIB))
    for name, rate in (("from a folder", "10GiB"), ("at 300 MiB/s", "300MiB")):

        def together(count: int, rate: str = rate) -> Command:
            words = [sys.executable, str(peers.HERE / "ensure_together.py"), str(count)]
            script = 'MODELS_ROOT="$1" WANREC_BWLIMIT="$2" exec "${@:3}"'
            places = ["bash", "-c", script, "bash", str(tree.root), rate]
            command = [*places, *words, "model-000@1.0.0"]
            return Command(command, tree.project, before=lambda: _emptied(tree.root))

        one = "the same in one process", together(1)
        yield from bench.row(f"ensure by 16 processes, 2 GiB {name}", together(16), one, 1.1)


def _emptied(root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()


def _apply(bench: Bench, what: str, shape: Shape) -> Iterator[Row]:
    tree = bench.tree(f"apply{shape.total}", shape)
    peer = peers.copy_and_hash(tree.source, bench.place / f"copy{shape.total}")
    ours = Command(
        tree.command("apply", "-y", "--create-root"),
        tree.project,
        before=lambda: shutil.rmtree(tree.root, ignore_errors=True),
    )
    yield from bench.row(what, ours, ("cp + two-thread hashlib", peer), 1.2)


def _ours(tree: Tree, name: str) -> Command:
    return Command(tree.command(name), tree.project)


def _forget(tree: Tree) -> None:
    shutil.rmtree(tree.root / ".wanrec" / "cache", ignore_errors=True)


PARTS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    part.__name__: part
    for part in (
        start60,
        collect200,
        noop10k,
        noop100k,
        cold100k,
        lock100k,
        deep,
        ensure16,
        apply60,
        apply2g,
    )
}
