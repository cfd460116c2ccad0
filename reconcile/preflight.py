"""Asks, before the first byte: is there room for the whole plan, and can every swap be done?

In: the plan, the desired models, the opened root. Raises `NO_SPACE` or `FILESYSTEM_ERROR`; writes
nothing. Bytes that are linked cost nothing; bytes that wait in the stage or in a partial are there
already; a replaced file keeps its old bytes until the swap's grace is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wanrec.reconcile.actions import Plan
from wanrec.reconcile.disk import Root
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import ActionKind, EntryKind, Via

__all__ = ["check_room", "check_swap_targets", "room_needed"]

_BLOCK = 4096
"""Bytes; files are rounded up to whole blocks, as common file systems do."""


def room_needed(plan: Plan, *, delete_first: bool = False, sharing: bool = True) -> int:
    """Bytes the plan adds under the root before anything is freed.

    Without `sharing` equal bytes are copied.
    """
    needed = 0
    for action in plan.actions:
        copied = action.via is Via.COPY or (action.via is Via.LINK and not sharing)
        if copied and action.size:
            needed += -(-action.size // _BLOCK) * _BLOCK
        elif action.bytes_to_fetch:
            needed += -(-action.bytes_to_fetch // _BLOCK) * _BLOCK
    if delete_first:
        needed -= sum(
            action.before.size or 0
            for action in plan.actions
            if action.action is ActionKind.DELETE and action.before
        )
    return max(needed, 0)


def check_room(root: Root, needed: int) -> None:
    """Refuse when `needed` bytes do not fit.

    Raises:
        WanrecError: NO_SPACE with both figures.
    """
    free = root.free_bytes(".")
    if needed > free:
        raise WanrecError(
            ErrorCode.NO_SPACE,
            f"the plan needs {needed:,} bytes, {free:,} are free",
            detail=f"{needed - free:,} bytes are missing; nothing has been fetched",
            where=str(root.path),
            hint="wanrec gc --dry-run, or wanrec plan --delete-first",
        )


def check_swap_targets(root: Root, directories: Mapping[str, str], keys: Iterable[str]) -> None:
    """Refuse model directories that lie on another file system than the stage.

    Raises:
        WanrecError: FILESYSTEM_ERROR naming the directory.
    """
    home = root.device(".")
    for key in sorted(set(keys)):
        directory = directories[key]
        for place in (directory, directory.rpartition("/")[0]):
            if not place or root.stat(place).kind is EntryKind.MISSING:
                continue
            if root.device(place) != home:
                raise WanrecError(
                    ErrorCode.FILESYSTEM_ERROR,
                    f"{place} is on another file system than the root",
                    detail="a model directory is put in place by one rename, "
                    "which cannot cross file systems",
                    address=key,
                    where=place,
                    hint="mount the root itself, never a directory below it",
                )
