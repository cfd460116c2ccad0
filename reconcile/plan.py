"""The planner: what is wanted, what is recorded and what lies on the disk in, a `Plan` out.

Pure and deterministic: no disk, no clock, no environment, and the same inputs give the same plan
whatever the order of their tables. The rules live beside this file: `plan_scope` (which models),
`plan_files` (which action a file needs), `plan_drops` (letting go, refresh-only), `graph` (order),
`plan_share` (bytes that need not be fetched), `plan_checks` (why it may not be applied). A plan
without actions loads no graph library.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from wanrec.reconcile.actions import (
    Action,
    Plan,
    PlanOptions,
    RecordChange,
    Summary,
)
from wanrec.reconcile.model import (
    Desired,
    DesiredModel,
    EntryKind,
    FileFact,
    Observed,
    Presence,
    Via,
)
from wanrec.reconcile.plan_checks import check_request, ordered_blocks, plan_blocks
from wanrec.reconcile.plan_context import Context, Findings
from wanrec.reconcile.plan_drops import plan_drop, plan_refresh
from wanrec.reconcile.plan_files import plan_model
from wanrec.reconcile.plan_scope import (
    Scope,
    make_scope,
    presence_of,
    record_after,
    record_changes,
    record_of,
)
from wanrec.reconcile.trust import verified_ns
from wanrec.state.model import FileRecord, State, files_by_model

__all__ = ["make_plan", "record_after", "record_of"]

_PARTIAL = "This run is partial: what it did not select is neither deleted nor forgotten."


def make_plan(desired: Desired, state: State, observed: Observed, options: PlanOptions) -> Plan:
    """Compare what is wanted with what is there, and say what would make them agree.

    A plan that may not be applied is still whole; `Plan.blocked` says why.

    Raises:
        WanrecError: NOTHING_SELECTED when there is neither a spec nor a record;
            MODEL_NOT_FOUND when `ensure` or `replace` name what no spec has;
            INVALID_MANIFEST when models require one another in a circle.
    """
    check_request(desired, state, options)
    if options.state_only:
        observed = Observed()  # what was seen by chance must not show
    scope = make_scope(desired, state, options)
    found = Findings()
    _find(desired, state, observed, options, scope, found)
    gone = {drop.key for drop in scope.drops}
    requires = {model.key: model.requires for model in desired.models if model.key not in gone}
    actions = _arranged(found.actions, requires, state, observed, options)
    blocks = found.blocks + plan_blocks(desired, state, scope, actions, options)
    records: Sequence[RecordChange] = ()
    if not options.refresh_only:
        narrowed = desired.selection.addresses is not None
        records = _records(scope, state, actions, options, narrowed)
    return Plan(
        lineage=state.lineage or None,
        serial=state.serial,
        specs={source.path: source.sha256 for source in desired.sources},
        actions=actions,
        records=tuple(records),
        foreign=tuple(sorted(observed.foreign)),
        drift=tuple(sorted(found.drift, key=lambda item: item.address)),
        warnings=_warnings(desired, observed, actions, found),
        blocked=ordered_blocks(blocks),
        summary=_summary(actions, observed),
        partial=desired.selection.partial,
        options=options,
    )


def _find(
    desired: Desired,
    state: State,
    observed: Observed,
    options: PlanOptions,
    scope: Scope,
    found: Findings,
) -> None:
    limit = options.verified_before
    ctx = Context(
        options=options,
        selection=desired.selection,
        facts=observed.facts,
        trusted=observed.trusted,
        may_delete=scope.may_delete,
        expired_before=verified_ns(limit) if limit is not None else 0,
    )
    by_model = files_by_model(state.files)
    if options.refresh_only:
        plan_refresh(ctx, state, by_model, found)
        return
    needed = {key for model in scope.wanted for key in model.requires} | options.ensure
    for model in scope.wanted:
        records = by_model.get(model.key)
        if not options.state_only and _evicted_by_hand(model, records, needed, observed):
            continue
        plan_model(ctx, model, state.models.get(model.key), by_model.get(model.key), found)
    # After `state mv` a dropped record may speak of files that a wanted model has as its own.
    kept = {f"{m.directory}/{f.path}" for m in scope.wanted for f in m.files if scope.drops}
    for drop in scope.drops:
        plan_drop(ctx, drop, by_model.get(drop.key, {}), found, kept)


def _evicted_by_hand(
    model: DesiredModel,
    records: Mapping[str, FileRecord] | None,
    needed: Collection[str],
    observed: Observed,
) -> bool:
    """True for an on-demand model of which nothing is left: absent is what nobody asked for."""
    if presence_of(model) is Presence.REQUIRED or model.key in needed or not records:
        return False
    addresses = (f"{model.key}::{path}" for path in records)
    return all(_absent(observed.facts.get(address)) for address in addresses)


def _absent(fact: FileFact | None) -> bool:
    return fact is None or fact.kind is EntryKind.MISSING


def _arranged(
    actions: Sequence[Action],
    requires: Mapping[str, Sequence[str]],
    state: State,
    observed: Observed,
    options: PlanOptions,
) -> tuple[Action, ...]:
    if not actions:
        return ()
    from wanrec.reconcile.graph import execution_order, with_dependencies  # loads networkx
    from wanrec.reconcile.plan_share import share

    ordered = execution_order(actions, requires, delete_first=options.delete_first)
    shared = share(
        ordered,
        state,
        observed,
        delete_first=options.delete_first,
        state_only=options.state_only,
        via=options.share_via,
    )
    return with_dependencies(shared, requires)


def _records(
    scope: Scope,
    state: State,
    actions: Sequence[Action],
    options: PlanOptions,
    narrowed: bool,
) -> list[RecordChange]:
    """Edits that only the state sees, of models that stay."""
    acting = {action.key for action in actions}
    renewed = {action.key for action in actions if action.action.brings_bytes}
    changes: list[RecordChange] = []
    for model in scope.wanted:
        old = state.models.get(model.key)
        if old is not None:
            new = record_of(model, old, options.project)
            rows = record_changes(model.key, old, new, options.project)
            if model.key in renewed:  # what decides bytes is said by the actions
                rows = [row for row in rows if row.field not in ("requires", "spec_sha256")]
            elif narrowed or model.key in acting:
                # The digest vouches for all files of the spec, not for some; with actions, it
                # says nothing that they do not.
                rows = [row for row in rows if row.field != "spec_sha256"]
            changes += rows
    for key in (*scope.released, *(drop.key for drop in scope.drops if drop.key not in acting)):
        spec = next(o.spec for o in state.models[key].owners if o.project == options.project)
        changes.append(RecordChange(model=key, field="owners", before=spec, after=None))
    return sorted(changes, key=lambda change: (change.model, change.field))


def _summary(actions: Iterable[Action], observed: Observed) -> Summary:
    chosen = tuple(actions)
    if not chosen:
        return Summary()
    from wanrec.reconcile.plan_share import bytes_to_free

    counts: dict[str, int] = {}
    for action in chosen:
        counts[action.action.value] = counts.get(action.action.value, 0) + 1
    return Summary(
        **counts,
        bytes_to_fetch=sum(action.bytes_to_fetch for action in chosen),
        bytes_to_free=bytes_to_free(chosen, observed.facts),
        bytes_saved=sum(
            action.size or 0 for action in chosen if action.via in (Via.LINK, Via.REFLINK)
        ),
    )


def _warnings(
    desired: Desired, observed: Observed, actions: Sequence[Action], found: Findings
) -> tuple[str, ...]:
    selection = desired.selection
    lines = [_PARTIAL] if selection.partial else []
    lines += [*desired.warnings, *sorted(found.warnings)]
    acting = {action.key for action in actions}
    lines += [
        f"{key} comes along: a selected model requires it."
        for key in sorted(selection.pulled_in & acting)
    ]
    lines += [
        f"{key} is being worked on by another run; what is planned for it may be out of date."
        for key in sorted(observed.busy & acting)
    ]
    unsized = sum(1 for action in actions if action.via is Via.FETCH and action.size is None)
    if unsized:
        lines.append(f"{unsized} files state no size: more bytes will be fetched than are counted.")
    return tuple(lines)
