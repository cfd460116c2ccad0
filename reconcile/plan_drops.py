"""Letting go: deletes and forgets of dropped models and files, and the refresh-only plan.

Goes in: what `plan_scope` lets go, records and facts. Comes out: delete and forget actions. Only
what a record names is ever deleted, and only where a regular file lies.
"""

from __future__ import annotations

from collections.abc import Container

from wanrec.reconcile.actions import Action, Content
from wanrec.reconcile.model import ActionKind, EntryKind, Reason, Selection, split_key
from wanrec.reconcile.plan_context import NOT_FILES, Context, Findings, Records, note_drift
from wanrec.reconcile.plan_scope import Drop, in_spec_scope
from wanrec.reconcile.trust import Trust, judge, verified_ns
from wanrec.state.model import FileRecord, State

__all__ = ["let_go", "plan_drop", "plan_refresh"]


def plan_drop(
    ctx: Context, drop: Drop, records: Records, found: Findings, kept: Container[str] = ()
) -> None:
    """Let go of every recorded file of a dropped model; delete none that lies at a `kept` path."""
    for path, record in records.items():
        delete = drop.delete and record.path not in kept
        let_go(ctx, drop.key, path, record, drop.reason, delete, found)


def let_go(
    ctx: Context,
    key: str,
    path: str,
    record: FileRecord,
    reason: Reason,
    delete: bool,
    found: Findings,
) -> None:
    """Add a delete, or a forget where nothing of ours lies at the path any more."""
    address = f"{key}::{path}"
    fact = ctx.facts.get(address)
    note_drift(ctx, key, record, fact, address, found)
    if delete and fact is not None and fact.kind in NOT_FILES and not ctx.options.state_only:
        found.warnings.append(f"{address} is no regular file any more: forgotten, left in place")
        delete = False
    present = ctx.options.state_only or (fact is not None and fact.kind is EntryKind.FILE)
    kind = ActionKind.DELETE if delete else ActionKind.FORGET
    found.actions.append(_action(key, path, record, kind, reason, present))


def _action(
    key: str, path: str, record: FileRecord, kind: ActionKind, reason: Reason, present: bool
) -> Action:
    model_id, variant = split_key(key)
    content = Content(size=record.size, sha256=record.sha256)
    stays = kind is ActionKind.VERIFY
    return Action(
        address=f"{key}::{path}",
        model=model_id,
        variant=variant,
        path=path,
        action=kind,
        reason=reason,
        size=record.size,
        sha256=record.sha256,
        before=content if present else None,
        after=content if stays else None,
    )


def plan_refresh(
    ctx: Context, state: State, by_model: dict[str, dict[str, FileRecord]], found: Findings
) -> None:
    """Plan `--refresh-only`: hash what is doubtful, forget what is gone, and nothing else."""
    for key in sorted(state.models):
        if not _takes_part(ctx.selection, state, key, ctx.options.project):
            continue
        for path, record in by_model.get(key, {}).items():
            if ctx.selection.has_address(f"{key}::{path}", key):
                _refresh_file(ctx, key, path, record, found)


def _takes_part(selection: Selection, state: State, key: str, project: str) -> bool:
    if not in_spec_scope(state.models[key], selection, project):
        return False
    # Naming a spec file also selects what came from it; its dropped blocks are in no `keys`.
    return selection.has_model(key) or (selection.specs is not None and not selection.partial)


def _refresh_file(ctx: Context, key: str, path: str, record: FileRecord, found: Findings) -> None:
    address = f"{key}::{path}"
    fact = ctx.facts.get(address)
    trust = judge(record, fact)
    note_drift(ctx, key, record, fact, address, found)
    if trust is Trust.MISSING:
        found.actions.append(_action(key, path, record, ActionKind.FORGET, Reason.MISSING, False))
    elif trust is Trust.DOUBTFUL and (fact is None or fact.sha256 in (None, record.sha256)):
        found.actions.append(
            _action(key, path, record, ActionKind.VERIFY, Reason.STAT_CHANGED, True)
        )
    elif trust is Trust.TRUSTED and verified_ns(record.verified_at) < ctx.expired_before:
        found.actions.append(
            _action(key, path, record, ActionKind.VERIFY, Reason.VERIFY_EXPIRED, True)
        )
