"""Reads recorded files to say whether they are still what the state says, and where they are not.

A deep check goes by the parts of a big file where a record of them is there, several at a time;
only a file with a bad part is then read whole, because only its sha256 decides. Big files without
a record are digested in parts while their sha256 is computed, for the next time, where the caller
allows that to be written down.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from wanrec.reconcile.content import hash_many
from wanrec.reconcile.content_parts import bad_parts
from wanrec.reconcile.disk_walk import Tree
from wanrec.reconcile.part_digests import PART_BYTES, PartDigests, PartHasher, hasher
from wanrec.reconcile.part_records import forget, recall, remember

__all__ = ["Read", "read_all"]

_File = tuple[str, str, int]
"""Root-relative path, recorded sha256, size."""


class Read(NamedTuple):
    """What one file is, and the byte ranges of it that are known to differ."""

    sha256: str
    size: int
    bad: tuple[tuple[int, int], ...] = ()


def read_all(
    root: Tree, files: Sequence[_File], *, threads: int, deep: bool, record: bool
) -> list[Read | Exception]:
    """Read files and return, in their order, what they are or why they cannot be read.

    Nothing is written unless `record` asks for the parts of right files to be remembered.
    """
    results: dict[int, Read | Exception] = {}
    suspected: dict[int, tuple[tuple[int, int], ...]] = {}
    if deep:
        suspected = _by_parts(root, files, max(threads, os.cpu_count() or 1), results)
    rest = [n for n in range(len(files)) if n not in results]
    fresh = _hashers(files, [n for n in rest if n not in suspected]) if deep and record else {}
    hashed = hash_many(
        [files[n][0] for n in rest],
        root.open_read,
        sizes=[files[n][2] for n in rest],
        threads=threads,
        beside={at: fresh[n] for at, n in enumerate(rest) if n in fresh},
    )
    for n, result in zip(rest, hashed, strict=True):
        if isinstance(result, Exception):
            results[n] = result
            continue
        results[n] = Read(*result, suspected.get(n, ()))
        if result != files[n][1:]:
            continue
        if n in suspected:  # the whole is right, so the record of its parts is not
            if record:
                forget(root, files[n][1])
        elif n in fresh:
            remember(root, fresh[n].finish(result[0]))
    return [results[n] for n in range(len(files))]


def _by_parts(
    root: Tree, files: Sequence[_File], threads: int, results: dict[int, Read | Exception]
) -> dict[int, tuple[tuple[int, int], ...]]:
    """Settle what its parts vouch for; return the bad ranges of what must be read whole."""
    known: dict[int, PartDigests] = {}
    for n, (_, sha256, size) in enumerate(files):
        if size > PART_BYTES and (parts := recall(root, sha256, size)) is not None:
            known[n] = parts
    checked = bad_parts(
        [(files[n][0], parts) for n, parts in known.items()], root.open_read, threads
    )
    suspected: dict[int, tuple[tuple[int, int], ...]] = {}
    for (n, parts), bad in zip(known.items(), checked, strict=True):
        if isinstance(bad, Exception):
            results[n] = bad
        elif bad:
            suspected[n] = tuple(parts.span(part) for part in bad)
        else:
            results[n] = Read(parts.sha256, parts.size)
    return suspected


def _hashers(files: Sequence[_File], wanted: Sequence[int]) -> dict[int, PartHasher]:
    fresh = {n: hasher(files[n][2]) for n in wanted if files[n][2] > PART_BYTES}
    return {n: made for n, made in fresh.items() if made is not None}
