"""Which models a run is about: wanted, dropped, and what their records will say.

Goes in: desired, state, options. Comes out: the models to bring or repair, the models to let go,
and the edits that only the state sees. Rules of the contract, section 8 (projects, variants,
presence, requires). Files are not looked at here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import attrs

from wanrec.reconcile.actions import PlanOptions, RecordChange
from wanrec.reconcile.model import (
    Desired,
    DesiredModel,
    Presence,
    Reason,
    RemovedRule,
    Selection,
    split_key,
)
from wanrec.state.model import ModelRecord, Owner, State

__all__ = [
    "Drop",
    "Scope",
    "has_other_owner",
    "make_scope",
    "name_of",
    "owned_by",
    "record_after",
    "record_changes",
    "record_of",
    "spec_of",
]


class Drop(NamedTuple):
    """A recorded model this project lets go, without any other owner left."""

    key: str
    record: ModelRecord
    delete: bool
    reason: Reason


class Scope(NamedTuple):
    """What the run is about. `released`: models that other projects still own."""

    wanted: tuple[DesiredModel, ...]
    drops: tuple[Drop, ...]
    released: tuple[str, ...]
    may_delete: bool


def name_of(key: str) -> str:
    """Return NAME of a model key ``NAME@VERSION[VARIANT]``."""
    return key.partition("@")[0]


def owned_by(record: ModelRecord, project: str) -> bool:
    """True when the project owns the model."""
    return any(owner.project == project for owner in record.owners)


def has_other_owner(record: ModelRecord, project: str) -> bool:
    """True when another project owns the model, too or alone."""
    return any(owner.project != project for owner in record.owners)


def spec_of(record: ModelRecord, project: str) -> str | None:
    """Return the spec file by which the project owns the model, None when it does not."""
    return next((owner.spec for owner in record.owners if owner.project == project), None)


def make_scope(desired: Desired, state: State, options: PlanOptions) -> Scope:
    """Decide which models are wanted in this run and which are let go."""
    selection = desired.selection
    keys = frozenset() if options.destroy else _wanted_keys(desired, state, options)
    may_delete = not (selection.partial or (selection.keys is not None and selection.specs is None))
    # A narrowed --destroy takes the models that were named, and nothing else.
    named = selection.named if options.destroy and selection.partial else None
    drops, released = [], []
    for key, record in sorted(state.models.items()) if may_delete or named else ():
        if key in keys or not in_spec_scope(record, selection, options.project):
            continue
        if named is not None and key not in named:
            continue
        if has_other_owner(record, options.project):
            released.append(key)
        else:
            drops.append(_drop(key, record, desired.removed, options))
    wanted = (m for m in desired.models if m.key in keys and selection.has_model(m.key))
    return Scope(tuple(wanted), tuple(drops), tuple(released), may_delete)


def in_spec_scope(record: ModelRecord, selection: Selection, project: str) -> bool:
    """True when the project owns the model by a spec file that this run is about."""
    spec = spec_of(record, project)
    return spec is not None and (selection.specs is None or spec in selection.specs)


def _wanted_keys(desired: Desired, state: State, options: PlanOptions) -> frozenset[str]:
    by_key = {model.key: model for model in desired.models}
    todo = [model.key for model in desired.models if _is_wanted(model, state, options)]
    wanted: set[str] = set()
    while todo:  # whoever is wanted needs its requirements, whatever their presence
        key = todo.pop()
        if key not in wanted and key in by_key:
            wanted.add(key)
            todo.extend(by_key[key].requires)
    return frozenset(wanted)


def _is_wanted(model: DesiredModel, state: State, options: PlanOptions) -> bool:
    if model.key in options.ensure or presence_of(model) is Presence.REQUIRED:
        return True
    record = state.models.get(model.key)
    if record is None or not owned_by(record, options.project):
        return False
    # A variant that install no longer names goes, unless it was brought by ensure.
    return model.installed or record.presence is Presence.ON_DEMAND


def presence_of(model: DesiredModel) -> Presence:
    """Return the presence a record of this model gets: variants outside install are on demand."""
    return model.presence if model.installed else Presence.ON_DEMAND


def _drop(
    key: str, record: ModelRecord, removed: Sequence[RemovedRule], options: PlanOptions
) -> Drop:
    model_id, variant = split_key(key)
    names = {model_id, key, f"{model_id}@{variant}"}
    rules = [rule for rule in removed if rule.model in names]
    if rules:
        return Drop(key, record, all(rule.delete for rule in rules), Reason.REMOVED_BLOCK)
    reason = Reason.REQUESTED if options.destroy else Reason.NOT_IN_SPEC
    return Drop(key, record, True, reason)


def record_of(model: DesiredModel, record: ModelRecord | None, project: str) -> ModelRecord:
    """Return what the state says of a wanted model once this project has applied it.

    `applied_at` and `generation` are left as they were: the executor sets them. Where another
    project owns the model too, the stricter answer stays, so that two projects with different
    opinions do not undo each other run after run.
    """
    mine = Owner(project=project, spec=model.spec)
    others = [o for o in record.owners if o.project != project] if record is not None else []
    fresh = ModelRecord(
        spec_sha256=model.spec_sha256,
        owners=tuple(sorted([*others, mine])),
        protect=model.protect,
        presence=presence_of(model),
        directory=model.directory,
        requires=tuple(sorted(model.requires)),
        default_variant=model.default_variant,
    )
    if record is None:
        return fresh
    fresh = attrs.evolve(
        fresh,
        pinned=record.pinned,
        applied_at=record.applied_at,
        generation=record.generation,
    )
    if not others:
        return fresh
    return attrs.evolve(
        fresh,
        spec_sha256=record.spec_sha256,
        protect=fresh.protect or record.protect,
        presence=max(fresh.presence, record.presence),  # "required" sorts after "on-demand"
        requires=tuple(sorted({*fresh.requires, *record.requires})),
        default_variant=record.default_variant or fresh.default_variant,
    )


def record_changes(
    key: str, old: ModelRecord, new: ModelRecord, project: str
) -> list[RecordChange]:
    """List what differs; `owners` shows the spec file by which this project owns the model."""
    rows: list[tuple[str, str | None, str | None]] = [
        ("owners", spec_of(old, project), spec_of(new, project)),
        ("presence", old.presence.value, new.presence.value),
        ("protect", _word(old.protect), _word(new.protect)),
        ("requires", ", ".join(old.requires), ", ".join(new.requires)),
        ("default_variant", old.default_variant, new.default_variant),
        ("spec_sha256", old.spec_sha256, new.spec_sha256),
    ]
    return [
        RecordChange(model=key, field=field, before=before, after=after)
        for field, before, after in rows
        if before != after
    ]


def _word(flag: bool) -> str:
    return "true" if flag else "false"


def record_after(record: ModelRecord, changes: Iterable[RecordChange], project: str) -> ModelRecord:
    """Apply listed changes to a record: what an apply writes for a model without actions."""
    for change in changes:
        after = change.after or ""
        match change.field:
            case "owners":
                others = [owner for owner in record.owners if owner.project != project]
                mine = [] if change.after is None else [Owner(project=project, spec=after)]
                record = attrs.evolve(record, owners=tuple(sorted([*others, *mine])))
            case "presence":
                record = attrs.evolve(record, presence=Presence(after))
            case "protect":
                record = attrs.evolve(record, protect=after == "true")
            case "requires":
                keys = tuple(after.split(", ")) if after else ()
                record = attrs.evolve(record, requires=keys)
            case "default_variant":
                record = attrs.evolve(record, default_variant=change.after)
            case "spec_sha256":
                record = attrs.evolve(record, spec_sha256=after)
            case other:
                raise ValueError(f"no record has a field {other!r}")
    return record
