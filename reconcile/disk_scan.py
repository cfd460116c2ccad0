"""Looking at many files of a root at once: one folder handle a folder, one stat a file.

In go paths grouped by folder; out come stat results and the names nobody asked for. Read-only,
and a folder or file that cannot be looked at is an answer, never an exception.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Container, Iterable
from typing import TypeVar

from wanrec.reconcile.disk_paths import unreadable
from wanrec.reconcile.disk_walk import Tree
from wanrec.reconcile.model import EntryKind, FileFact

__all__ = ["look_into", "strangers", "with_parents"]

_Wanted = TypeVar("_Wanted", bound=tuple[object, ...])
_stat = os.stat


def look_into(
    tree: Tree,
    folder: str,
    wanted: Iterable[_Wanted],
    seen: Callable[[_Wanted, os.stat_result], None],
    odd: Callable[[_Wanted, FileFact | None], None],
    *,
    listed: bool = True,
) -> list[str]:
    """Stat the wanted names of one folder.

    Args:
        tree: the root.
        folder: relative to the root.
        wanted: tuples whose first item is the name in the folder.
        seen: called with the stat result of what lies there (never following a link).
        odd: called with None when nothing lies there, or with the fact that says why not.
        listed: also return every name in the folder.

    Returns:
        The names in the folder, `[]` when it cannot be listed.
    """
    try:
        with tree.folder(folder) as (fd, prefix):
            names = os.listdir(prefix if fd is None else fd) if listed else []
            for item in wanted:
                try:
                    st = _stat(f"{prefix}{item[0]}", dir_fd=fd, follow_symlinks=False)
                except FileNotFoundError:
                    odd(item, None)
                except OSError as exc:
                    odd(item, unreadable(exc))
                else:
                    seen(item, st)
            return names
    except OSError:
        _each_alone(tree, folder, wanted, odd)
        return []


def _each_alone(
    tree: Tree,
    folder: str,
    wanted: Iterable[_Wanted],
    odd: Callable[[_Wanted, FileFact | None], None],
) -> None:
    """Answer for the files of a folder that is not there, is no folder, or cannot be listed."""
    place = tree.stat(folder)
    for item in wanted:
        fact = place
        if place.kind is EntryKind.DIRECTORY:
            fact = tree.stat(f"{folder}/{item[0]}" if folder else str(item[0]))
        elif place.kind is EntryKind.FILE:
            fact = FileFact(kind=EntryKind.OTHER, error="a file stands where a folder is needed")
        odd(item, None if fact.kind is EntryKind.MISSING else fact)


def strangers(
    tree: Tree, folder: str, names: Collection[str], known: Container[str], folders: Container[str]
) -> list[str]:
    """Return what lies in one folder and is not known: paths relative to the root.

    Args:
        tree: the root.
        folder: relative to the root.
        names: what was listed there.
        known: names of files there that somebody wants.
        folders: folders of the root that are looked into by themselves.
    """
    found: list[str] = []
    for name in names:
        path = f"{folder}/{name}"
        if name in known or path in folders:
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
