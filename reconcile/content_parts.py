"""Big files checked part by part, so that one file keeps every core busy.

Works on descriptors that the caller's `opener` returns; reads and never writes. What comes out are
the parts that differ from a record, which is a reason to look closer, not a verdict.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from wanrec.reconcile.buffers import page_aligned
from wanrec.reconcile.content import CHUNK, read_view_at
from wanrec.reconcile.errors import WanrecError
from wanrec.reconcile.part_digests import PartDigests, digest_part

__all__ = ["bad_parts"]

_Item = TypeVar("_Item")


def bad_parts(
    items: Sequence[tuple[_Item, PartDigests]],
    opener: Callable[[_Item], int],
    threads: int,
) -> list[tuple[int, ...] | Exception]:
    """Compare files with their recorded parts on several threads.

    Args:
        items: whatever `opener` understands, and what is recorded of it.
        opener: returns a descriptor that is closed here; called on the worker threads.
        threads: at least 1; the calling thread is one of them.

    Returns:
        In the order of `items`: indices of the parts that differ, or the `OSError` or
        `WanrecError` of the one item that could not be read.
    """
    jobs = [(n, part) for n, (_, parts) in enumerate(items) for part in range(len(parts.digests))]
    found: list[list[int]] = [[] for _ in items]
    errors: dict[int, Exception] = {}
    ticket = itertools.count()

    def work() -> None:
        buffer = page_aligned(CHUNK)
        # A ticket is handed out in one step under the interpreter's own lock.
        while (number := next(ticket)) < len(jobs):
            item, part = jobs[number]
            try:
                if item not in errors and not _is_good(*items[item], part, opener, buffer):
                    found[item].append(part)
            except (OSError, WanrecError) as exc:
                errors[item] = exc

    helpers = [
        threading.Thread(target=work, name=f"wanrec-parts-{n}", daemon=True)
        for n in range(1, min(threads, len(jobs)))
    ]
    for helper in helpers:
        helper.start()
    try:
        work()
    finally:
        for _ in jobs:  # only an interrupted caller leaves any: nobody may begin another
            next(ticket)
        for helper in helpers:
            helper.join()
    return [errors.get(n) or tuple(sorted(bad)) for n, bad in enumerate(found)]


def _is_good(
    item: _Item,
    parts: PartDigests,
    part: int,
    opener: Callable[[_Item], int],
    buffer: memoryview,
) -> bool:
    fd = opener(item)
    try:
        digest = digest_part(lambda view, at: read_view_at(fd, view, at), parts.span(part), buffer)
    finally:
        os.close(fd)
    return digest == parts.digests[part]
