"""What the parts of the planner share: the inputs of one run, and what has been found so far."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import NamedTuple

from wanrec.reconcile.actions import Action, Block, Content, DriftItem, PlanOptions
from wanrec.reconcile.model import EntryKind, FileFact, Selection
from wanrec.reconcile.trust import difference
from wanrec.state.model import FileRecord

__all__ = ["NOT_FILES", "Context", "Findings", "Records", "note_drift"]

Records = Mapping[str, FileRecord]
NOT_FILES = (EntryKind.DIRECTORY, EntryKind.SYMLINK, EntryKind.OTHER)


class Context(NamedTuple):
    """What every file of a run is judged with. `expired_before`: nanoseconds, 0 for never.

    `trusted`: addresses that the observer has judged already; no fact of theirs is asked for.
    """

    options: PlanOptions
    selection: Selection
    facts: Mapping[str, FileFact]
    trusted: Container[str]
    may_delete: bool
    expired_before: int


class Findings:
    """What has been found so far; the only mutable value of the planner."""

    __slots__ = ("actions", "blocks", "drift", "warnings")

    def __init__(self) -> None:
        self.actions: list[Action] = []
        self.blocks: list[Block] = []
        self.drift: list[DriftItem] = []
        self.warnings: list[str] = []


def note_drift(
    ctx: Context,
    key: str,
    record: FileRecord | None,
    fact: FileFact | None,
    address: str,
    found: Findings,
) -> None:
    """Add to `found.drift` when the disk is known to differ from a record."""
    if record is None or ctx.options.state_only:
        return
    kind = difference(record, fact)
    if kind is not None:
        present = fact is not None and fact.kind is EntryKind.FILE
        found.drift.append(
            DriftItem(
                address=address,
                model=key,
                path=address.partition("::")[2],
                kind=kind,
                expected=Content(size=record.size, sha256=record.sha256),
                found=Content(size=fact.size, sha256=fact.sha256) if fact and present else None,
                paths=(record.path,),
            )
        )
