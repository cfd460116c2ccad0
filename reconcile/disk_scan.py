"""Looking at many files of a root at once: one folder handle a folder, one stat a file.

In go paths grouped by folder; out come stat results and the names nobody asked for. Read-only,
and a folder or file that cannot be looked at is an answer, never an exception.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Sequence

from wanrec.reconcile.disk_paths import WANREC_DIR, no_folder, unreadable
from wanrec.reconcile.disk_walk import Tree
from wanrec.reconcile.facts import EntryKind, FileFact

__all__ = ["NOBODYS", "Seen", "above", "beside", "look_into", "strangers", "with_parents"]

NOBODYS = frozenset({WANREC_DIR, "lost+found"})
"""Names beside model directories that are never called foreign: ours, and the file system's."""

Seen = os.stat_result | FileFact | None
"""What lies at a path; a fact says why it could not be looked at, None that nothing is there."""


def look_into(tree: Tree, folder: str, wanted: Sequence[str]) -> tuple[list[Seen], list[str]]:
    """Stat the wanted names of one folder, never following a link, and list the folder.

    Returns:
        What lies at each wanted name, in order; and every name in the folder (`[]` when it
        cannot be listed).
    """
    seen: list[Seen] = []
    stat = os.stat
    try:
        with tree.folder(folder) as (fd, prefix):
            listed = os.listdir(prefix if fd is None else fd)
            for name in wanted:
                try:
                    seen.append(stat(prefix + name, dir_fd=fd, follow_symlinks=False))
                except FileNotFoundError:
                    seen.append(None)
                except OSError as exc:
                    seen.append(unreadable(exc))
            return seen, listed
    except OSError:
        return _each_alone(tree, folder, wanted), []


def _each_alone(tree: Tree, folder: str, wanted: Sequence[str]) -> list[Seen]:
    """Answer for the files of a folder that is not there, is no folder, or cannot be listed."""
    place = tree.stat(folder)
    if place.kind is EntryKind.MISSING:
        return [None] * len(wanted)
    if place.error is None and place.kind is not EntryKind.DIRECTORY:
        place = no_folder(folder, place.kind)
    if place.kind is not EntryKind.DIRECTORY:
        return [place] * len(wanted)
    facts = [tree.stat(f"{folder}/{name}" if folder else name) for name in wanted]
    return [None if fact.kind is EntryKind.MISSING else fact for fact in facts]


def strangers(tree: Tree, folder: str, names: Iterable[str], folders: Container[str]) -> list[str]:
    """Return the files and links at or below these names of a folder, relative to the root.

    Args:
        tree: the root.
        folder: relative to the root.
        names: what was listed there, without what somebody wants.
        folders: folders of the root that are looked into by themselves.
    """
    found: list[str] = []
    for name in names:
        path = f"{folder}/{name}"
        if path in folders:
            continue
        fact = tree.stat(path)
        if fact.kind is EntryKind.DIRECTORY:
            found.extend(
                f"{path}/{below}" if below else path
                for below, inner in tree.walk(path).items()
                if inner.kind is not EntryKind.DIRECTORY
            )
        elif fact.kind is not EntryKind.MISSING:
            found.append(path)
    return found


def with_parents(folders: Iterable[str], tops: Container[str]) -> set[str]:
    """Return the folders that lie in one of `tops`, and those between them and it."""
    inside: set[str] = set()
    for folder in folders:
        chain, step = [folder], folder
        while step and step not in tops and step not in inside:
            step = step.rpartition("/")[0]
            chain.append(step)
        if step:
            inside.update(chain)
    return inside


def above(directories: Iterable[str]) -> set[str]:
    """Return the folders that these lie in, up to the root, which is `""`."""
    found: set[str] = set()
    for path in directories:
        step = path
        while step:
            step = step.rpartition("/")[0]
            if step in found:
                break
            found.add(step)
    return found


def beside(tree: Tree, folders: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return what lies in these folders, outside of model directories, and leads to nothing known.

    A folder is one entry that ends in `/`. It is not walked: it may be anything, of any size. One
    that holds nothing is passed over, as in model directories.

    Args:
        tree: the root.
        folders: above model directories; each is listed once.
        known: every model directory and file that somebody knows.
    """
    ends = frozenset(known)
    leading = ends | above(ends) | {""}
    found: list[str] = []
    for folder in folders:
        if folder in ends:
            continue
        for name in look_into(tree, folder, ())[1]:
            path = f"{folder}/{name}" if folder else name
            if name in NOBODYS or path in leading:
                continue
            kind = tree.stat(path).kind
            if kind is not EntryKind.DIRECTORY:
                found.extend([path] if kind is not EntryKind.MISSING else [])
            elif not _empty(tree, path):
                found.append(f"{path}/")
    return found


def _empty(tree: Tree, folder: str) -> bool:
    """True when a folder holds nothing, or is gone; its first entry is enough to know."""
    try:
        with tree.folder(folder) as (fd, prefix), os.scandir(prefix if fd is None else fd) as rows:
            return next(rows, None) is None
    except FileNotFoundError:
        return True
    except OSError:
        return False
