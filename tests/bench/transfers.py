"""Verified transfers against the tools people use: from S3, from a Hub, from a local folder.

Three workloads: A one big file, B eight middling ones, C two thousand small ones. The peer is the
usual tool and a two-thread hash pass over what it brought, because wanrec's files are verified. Two
more rows check big files by their recorded parts.

Guest memory that was never touched costs a host fault a page, and whoever runs first pays it: all
of it is touched once before anything is measured. WANREC_BENCH_SHRINK=16 makes every file that
much smaller, to try the benchmark itself.

What a run of many small files leaves is put aside until the end: ext4 without a journal passes over
inodes that were freed in the last minutes, one by one, and whoever creates most pays for it.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import peers
from pairs import Command
from parts import MIB, Bench, Row
from trees import Shape, Tree

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `support`

__all__ = ["TRANSFERS"]

_SHRINK = int(os.environ.get("WANREC_BENCH_SHRINK", "1"))
_WORKLOADS = {
    "A": ("A: 1 x 2 GiB", Shape(1, 1, 2048 * MIB // _SHRINK)),
    "B": ("B: 8 x 256 MiB", Shape(1, 8, 256 * MIB // _SHRINK)),
    "C": ("C: 2,000 x 64 KiB", Shape(1, 2000 // _SHRINK, MIB // 16)),
}
_MEMORY_MIB = 150
_MANY = 100
_numbers = itertools.count()
_TOUCH = """
import mmap, os
free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 3 // 4
block = bytes(1 << 26)
with mmap.mmap(-1, free) as memory:
    for at in range(0, free - len(block), len(block)):
        memory[at : at + len(block)] = block
"""


def s3(bench: Bench) -> Iterator[Row]:
    """A, B and C from SeaweedFS, against `s5cmd cp`."""
    weed, s5cmd = peers.program("weed"), peers.program("s5cmd")
    if weed is None or s5cmd is None:
        return
    from support.seaweed import running_seaweed

    _warm_memory()
    (bench.place / "weed").mkdir()
    with running_seaweed(bench.place / "weed") as server, _environment(server.environ):
        for (name, (what, shape)), bar in zip(_WORKLOADS.items(), (0.9, 1.0, 0.75), strict=True):
            place = f"s3://{server.bucket()}"
            tree = _tree(bench, f"s3-{name}", shape, place)
            words = [s5cmd, "--log", "error", "--endpoint-url", server.url, "cp"]
            folder = f"{tree.source / 'model-000'}/"
            subprocess.run([*words, folder, f"{place}/"], check=True, stdout=subprocess.DEVNULL)
            shutil.rmtree(tree.source)
            peer = _then_hash(bench, name, [*words, f"{place}/*", "{}/"])
            yield from _row(bench, f"s3 {what}", tree, ("s5cmd cp + hashlib", peer), bar)


def hub(bench: Bench) -> Iterator[Row]:
    """A, B and C from a local Hub, against `hf download`."""
    hf = peers.program("hf")
    if hf is None:
        return
    _warm_memory()
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    for (name, (what, shape)), bar in zip(_WORKLOADS.items(), (0.4, 0.4, 0.2), strict=True):
        repository = f"bench/{name.lower()}"
        tree = _tree(bench, f"hub-{name}", shape, f"hf://{repository}@main")
        with _running_hub(repository, tree.source / "model-000") as url:
            shutil.rmtree(tree.source)
            place = {"HF_ENDPOINT": url, "HF_HOME": str(bench.place / "hf-home")}
            with _environment(place | quiet):
                peer = _then_hash(bench, name, [hf, "download", repository, "--local-dir", "{}"])
                yield from _row(bench, f"hub {what}", tree, ("hf download + hashlib", peer), bar)


@contextlib.contextmanager
def _running_hub(repository: str, folder: Path) -> Iterator[str]:
    words = [sys.executable, str(peers.HERE / "hub_process.py"), repository, str(folder)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def local(bench: Bench) -> Iterator[Row]:
    """A, B and C from a folder, against `cp -r`."""
    _warm_memory()
    for name, (what, shape) in _WORKLOADS.items():
        tree = _tree(bench, f"local-{name}", shape, None)
        peer = peers.copy_and_hash(tree.source, bench.place / "copied")
        yield from _row(bench, f"local {what}", tree, ("cp + hashlib", peer), 1.2)


def parts(bench: Bench) -> Iterator[Row]:
    """Deep checks of big files whose parts are recorded; the first, uncounted run records them."""
    _warm_memory()
    for name, shape in {
        "1 x 4 GiB": Shape(1, 1, 4096 * MIB // _SHRINK),
        "60 x 64 MiB": Shape(4, 15, max(20 * MIB, 64 * MIB // _SHRINK)),
    }.items():
        tree = bench.tree(f"parts-{name[0]}", shape).settled()
        shutil.rmtree(tree.source)
        ours = Command(tree.command("drift", "--deep", "--record-parts"), tree.project)
        peer = "two-thread hashlib", peers.hash_pass(tree.root)
        yield from bench.row(f"drift --deep by parts, {name}", ours, peer, 0.5, _MEMORY_MIB)
        shutil.rmtree(tree.place)


def _tree(bench: Bench, name: str, shape: Shape, source: str | None) -> Tree:
    """Return a project whose files come from `source`; None: from the folder they are made in."""
    tree = bench.tree(name, shape)
    if source is not None:
        for spec in (tree.project / "specs").iterdir():
            text = spec.read_text()
            spec.write_text(text.replace(f"local://{tree.source / spec.stem}", source))
    return tree


def _row(
    bench: Bench, what: str, tree: Tree, peer: tuple[str, Command], bar: float
) -> Iterator[Row]:
    words = tree.command("apply", "-y", "--create-root")
    ours = Command(words, tree.project, functools.partial(_clear, tree.root, tree.shape))
    yield from bench.row(what, ours, peer, bar, _MEMORY_MIB)
    shutil.rmtree(tree.place)


def _clear(folder: Path, shape: Shape) -> None:
    if not folder.exists():
        return
    if shape.total < _MANY:
        shutil.rmtree(folder)
    else:
        folder.rename(folder.with_name(f"{folder.name}.{next(_numbers)}"))


def _then_hash(bench: Bench, name: str, words: list[str]) -> Command:
    """A download into a new folder, named `{}` in the words, then the hash pass over it."""
    target = bench.place / f"peer-{name}"
    download = [word.replace("{}", str(target)) for word in words]
    hashing = [sys.executable, str(peers.HERE / "hash_pass.py"), str(target)]
    count = str(len(download))
    script = 'n=$1; shift; "${@:1:n}" && exec "${@:n+1}"'
    return Command(
        ["bash", "-c", script, "bash", count, *download, *hashing],
        bench.place,
        before=functools.partial(_clear, target, _WORKLOADS[name][1]),
    )


@contextlib.contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    """What every program that is measured inherits."""
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@functools.cache
def _warm_memory() -> None:
    """Touch most of the memory that is free, once, and in a process of its own.

    A program's peak counts from the fork on, so this process has to stay small.
    """
    if _SHRINK == 1 and hasattr(os, "sysconf"):
        subprocess.run([sys.executable, "-c", _TOUCH], check=True)


TRANSFERS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    part.__name__: part for part in (local, s3, hub, parts)
}
