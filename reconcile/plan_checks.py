"""Why a plan may not be applied: protection, budgets, empty spec sets, unnamed projects.

Goes in: what the run is about and the actions it came to. Comes out: blocks, which are printed
with the whole plan; or, where there is nothing to print, an error. Contract, section 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wanrec.reconcile.actions import Action, Block, PlanOptions
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import ActionKind, Desired, Policy
from wanrec.reconcile.plan_scope import Scope, in_spec_scope, name_of, owned_by
from wanrec.state.model import State

__all__ = ["check_request", "ordered_blocks", "plan_blocks"]

_ORDER = (
    ErrorCode.PROTECTED,
    ErrorCode.NAME_COLLISION,
    ErrorCode.UNSAFE_PATH,
    ErrorCode.FOREIGN_FILE,
    ErrorCode.PROJECT_UNNAMED,
    ErrorCode.NOTHING_SELECTED,
    ErrorCode.DELETE_BUDGET,
)


def check_request(desired: Desired, state: State, options: PlanOptions) -> None:
    """Refuse requests that name nothing.

    Raises:
        WanrecError: NOTHING_SELECTED for an empty spec set with nothing recorded;
            MODEL_NOT_FOUND for an `ensure` or `--replace` that no spec knows.
    """
    empty = not (desired.models or desired.removed or options.destroy)
    if empty and not any(owned_by(record, options.project) for record in state.models.values()):
        raise WanrecError(
            ErrorCode.NOTHING_SELECTED,
            "no spec file names a model, and nothing is recorded",
            hint="wanrec init, or name a spec file",
        )
    unknown = sorted(options.ensure - {model.key for model in desired.models})
    unknown += _unknown_addresses(desired, options.replace)
    if unknown:
        raise WanrecError(
            ErrorCode.MODEL_NOT_FOUND,
            f"no selected spec names {unknown[0]}",
            detail=", ".join(unknown) if len(unknown) > 1 else "",
            address=unknown[0],
            hint="wanrec collect",
        )


def _unknown_addresses(desired: Desired, addresses: frozenset[str]) -> list[str]:
    missing = set(addresses)
    for model in desired.models if missing else ():
        missing.difference_update(f"{model.key}::{spec.path}" for spec in model.files)
    return sorted(missing)


def plan_blocks(
    desired: Desired, state: State, scope: Scope, actions: Sequence[Action], options: PlanOptions
) -> list[Block]:
    """Return the blocks that concern the plan as a whole."""
    deleting = [action for action in actions if action.action is ActionKind.DELETE]
    blocks = _protected(deleting, state)
    blocks += _nothing_selected(desired, state, scope, options)
    if deleting:
        blocks += _unnamed(state, options)
        blocks += _over_budget(desired.policy, state, scope, actions, options)
    return blocks


def ordered_blocks(blocks: Iterable[Block]) -> tuple[Block, ...]:
    """Return blocks by code, most telling first, then by address."""
    return tuple(sorted(blocks, key=lambda b: (_ORDER.index(b.code), b.address or "", b.message)))


def _protected(deleting: Iterable[Action], state: State) -> list[Block]:
    counts: dict[str, int] = {}
    for action in deleting:
        record = state.models.get(action.key)
        if record is not None and record.protect:
            counts[action.key] = counts.get(action.key, 0) + 1
    return [
        Block(
            code=ErrorCode.PROTECTED,
            message=f"{key} is protected; this plan would delete {_files(count)} of it",
            address=key,
            hint="apply `protect = false` first, or let go without deleting:"
            ' [[removed]] model = "…", delete = false',
        )
        for key, count in counts.items()
    ]


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _nothing_selected(
    desired: Desired, state: State, scope: Scope, options: PlanOptions
) -> list[Block]:
    if desired.models or desired.removed or options.allow_delete or options.destroy:
        return []
    if options.refresh_only or not scope.may_delete:
        return []
    hit = [
        record
        for record in state.models.values()
        if in_spec_scope(record, desired.selection, options.project)
    ]
    if not hit:
        return []
    return [
        Block(
            code=ErrorCode.NOTHING_SELECTED,
            message=f"no spec file names a model, but {len(hit)} of them"
            f" {'is' if len(hit) == 1 else 'are'} recorded:"
            " applying this would let go of all of them",
            hint="check the spec files; --allow-delete if this is meant",
        )
    ]


def _unnamed(state: State, options: PlanOptions) -> list[Block]:
    known = state.projects.get(options.project)
    if options.project != "default" or known is None or not known.directory:
        return []
    if known.directory == options.project_directory:
        return []
    return [
        Block(
            code=ErrorCode.PROJECT_UNNAMED,
            # No directories here: this text is published with the plan.
            message="the project `default` was last applied from another directory,"
            " and this plan would delete",
            hint='set `project = "…"` in wanrec.toml, so that the two are told apart',
        )
    ]


def _over_budget(
    policy: Policy,
    state: State,
    scope: Scope,
    actions: Sequence[Action],
    options: PlanOptions,
) -> list[Block]:
    if options.allow_delete:
        return []
    fresh = {
        name_of(action.key)
        for action in actions
        if action.action.brings_bytes and action.key not in state.models
    }
    counted = [d.key for d in scope.drops if d.delete and name_of(d.key) not in fresh]
    total = sum(owned_by(record, options.project) for record in state.models.values())
    limit = policy.max_delete
    allowed = limit if isinstance(limit, int) else limit * total
    if not options.destroy and len(counted) <= allowed:
        return []
    why = "--destroy deletes" if options.destroy else "this plan would delete"
    return [
        Block(
            code=ErrorCode.DELETE_BUDGET,
            message=f"{why} {len(counted)} of {total} recorded models"
            + ("" if options.destroy else f"; max_delete = {limit}"),
            hint="check the spec files; --allow-delete if this is meant",
        )
    ]
