"""Measures what models take on the disk: apparent, real, shared and allocated bytes.

`apparent` counts every name, as if nothing were shared; `real` counts every inode of a group
once; `shared` is the part of `real` that files of other groups of the same kind use too;
`allocated` is what the file system has set aside for those inodes (`st_blocks`), which is less
for sparse files. All of it comes from stats: a file that is not there takes nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping

import attrs

from wanrec.reconcile.disk import Root
from wanrec.reconcile.disk_paths import WANREC_DIR
from wanrec.reconcile.errors import WanrecError
from wanrec.state.model import State

__all__ = ["DiskTotal", "Figures", "Measured", "Usage", "disk_total", "measure", "usage_of"]

Inode = tuple[int, int]
_BLOCK = 512
"""Bytes; the unit of `st_blocks` everywhere."""


@attrs.frozen
class Measured:
    """One recorded file that is there. `component` is the first folder of its path, or empty."""

    address: str
    key: str
    family: str
    component: str
    place: str
    size: int
    allocated: int
    inode: Inode
    nlink: int


@attrs.frozen(kw_only=True)
class Figures:
    """What a group of files takes, in bytes; see the module."""

    files: int = 0
    apparent: int = 0
    real: int = 0
    shared: int = 0
    allocated: int = 0

    @property
    def saved(self) -> int:
        """Bytes that sharing saves inside the group."""
        return self.apparent - self.real


@attrs.frozen(kw_only=True)
class DiskTotal:
    """Everything below the root as ``du`` counts it: allocated bytes, each inode once.

    `total` is the sum of the others: recorded files, files of nobody's record, what lies in the
    wanrec directory, and all folders.
    """

    total: int = 0
    models: int = 0
    foreign: int = 0
    wanrec: int = 0
    folders: int = 0


@attrs.frozen(kw_only=True)
class Usage:
    """The whole answer of ``usage``; `components` by model key."""

    total: Figures
    families: Mapping[str, Figures]
    models: Mapping[str, Figures]
    components: Mapping[str, Mapping[str, Figures]]
    disk: DiskTotal


def measure(root: Root, state: State) -> list[Measured]:
    """Stat every recorded file; those that are missing or no plain files are left out."""
    folders: dict[str, list[tuple[str, str]]] = {}
    for address, record in state.files.items():
        folder, _, name = record.path.rpartition("/")
        folders.setdefault(folder, []).append((address, name))
    found = []
    for folder, entries in folders.items():
        try:
            with root.folder(folder) as (fd, prefix):
                for address, name in entries:
                    seen = _stat(fd, prefix + name)
                    if seen is not None and stat.S_ISREG(seen.st_mode):
                        found.append(_measured(address, f"{folder}/{name}".lstrip("/"), seen))
        except (OSError, WanrecError):
            continue
    return found


def _stat(fd: int | None, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except OSError:
        return None


def _measured(address: str, place: str, seen: os.stat_result) -> Measured:
    key, _, path = address.partition("::")
    component = path.partition("/")[0] if "/" in path else ""
    return Measured(
        address,
        key,
        place.partition("/")[0],
        component,
        place,
        seen.st_size,
        _allocated(seen),
        (seen.st_dev, seen.st_ino),
        seen.st_nlink,
    )


def _allocated(seen: os.stat_result) -> int:
    blocks = getattr(seen, "st_blocks", None)
    return seen.st_size if blocks is None else int(blocks) * _BLOCK


def usage_of(root: Root, state: State) -> Usage:
    """Measure and add up."""
    files = measure(root, state)
    models = _grouped(files, lambda file: file.key)
    by_model: dict[str, dict[str, Figures]] = {key: {} for key in models}
    parts = _grouped(files, lambda file: f"{file.key}::{file.component}")
    for address, figures in parts.items():
        key, _, component = address.partition("::")
        by_model[key][component] = figures
    return Usage(
        total=_grouped(files, lambda file: "").get("", Figures()),
        families=_grouped(files, lambda file: file.family),
        models=models,
        components=by_model,
        disk=disk_total(root, {file.inode for file in files}),
    )


def _grouped(files: Iterable[Measured], group: Callable[[Measured], str]) -> dict[str, Figures]:
    groups: dict[str, list[Measured]] = {}
    used_by: dict[Inode, set[str]] = {}
    for file in files:
        key = group(file)
        groups.setdefault(key, []).append(file)
        used_by.setdefault(file.inode, set()).add(key)
    return {key: _figures(groups[key], used_by) for key in sorted(groups)}


def _figures(files: Iterable[Measured], used_by: Mapping[Inode, set[str]]) -> Figures:
    files = tuple(files)
    inodes = {file.inode: file for file in files}
    return Figures(
        files=len(files),
        apparent=sum(file.size for file in files),
        real=sum(file.size for file in inodes.values()),
        shared=sum(f.size for inode, f in inodes.items() if len(used_by[inode]) > 1),
        allocated=sum(file.allocated for file in inodes.values()),
    )


def disk_total(root: Root, recorded: set[Inode]) -> DiskTotal:
    """Walk the whole root and count as ``du -s`` does."""
    sums = dict.fromkeys(("models", "foreign", "wanrec", "folders"), 0)
    seen: set[Inode] = set()
    pending = [""]
    with root.folder("") as (fd, prefix):
        sums["folders"] += _allocated(os.stat(prefix if fd is None else fd))
    while pending:
        folder = pending.pop()
        for name, entry in _entries(root, folder):
            path = f"{folder}/{name}".lstrip("/")
            inode = (entry.st_dev, entry.st_ino)
            if stat.S_ISDIR(entry.st_mode):
                pending.append(path)
                sums["folders"] += _allocated(entry)
            elif inode not in seen:
                seen.add(inode)
                ours = path.partition("/")[0] == WANREC_DIR
                what = "models" if inode in recorded else "wanrec" if ours else "foreign"
                sums[what] += _allocated(entry)
    return DiskTotal(total=sum(sums.values()), **sums)


def _entries(root: Root, folder: str) -> list[tuple[str, os.stat_result]]:
    try:
        with root.folder(folder) as (fd, prefix):
            names = os.listdir(prefix if fd is None else fd)
            looked = ((name, _stat(fd, prefix + name)) for name in names)
            return [(name, entry) for name, entry in looked if entry is not None]
    except (OSError, WanrecError):
        return []
