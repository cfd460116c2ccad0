"""Declarations → `Desired`: which files of which models must lie where, and what a run is about.

Pure. `expand` resolves one spec file on its own (variants, install, components, patterns, lock
entries, source templates) and depends on nothing but that spec and its lock, so its result is kept
by their digests (`spec_cache`). `build` joins the expanded specs: look-ups, requirements,
collisions, presence, then selection. Faults of all specs are reported together; faults of specs
that were only loaded for look-ups become warnings, and such a run is partial: it deletes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile.desired_link import link
from wanrec.reconcile.desired_lookup import ModelIndex
from wanrec.reconcile.desired_select import SelectArgs, select
from wanrec.reconcile.errors import ErrorCode, Fault, FaultGroup
from wanrec.reconcile.model import Desired, DesiredModel, Policy, Presence, Selection

if TYPE_CHECKING:
    from wanrec.reconcile.collect import Collection
    from wanrec.reconcile.desired_expanded import Expanded

__all__ = [
    "SelectArgs",
    "build",
    "build_expanded",
    "expand_all",
    "further_faults",
    "model_index",
    "node_ids",
]


def build(collection: Collection, args: SelectArgs | None = None) -> Desired:
    """Return everything the specs want, and the part of it this run is about.

    Args:
        collection: the loaded specs.
        args: what the user chose; None: everything.

    Raises:
        FaultGroup: every fault of the specs this run names, or of all of them when it names none.
        WanrecError: MODEL_NOT_FOUND, VARIANT_NOT_FOUND, NOTHING_SELECTED or USAGE, for the words.
    """
    return build_expanded(collection, expand_all(collection), args or SelectArgs())


def expand_all(collection: Collection) -> list[Expanded]:
    """Return every spec resolved on its own, sorted by path: known ones as they are known."""
    specs = list(collection.recalled.values())
    if collection.manifests:
        from wanrec.reconcile.desired_expand import expand  # with all that parsing needs

        specs += [
            expand(manifest, collection.locks.get(manifest.path))
            for manifest in collection.manifests
        ]
    return sorted(specs, key=lambda spec: spec.path)


def build_expanded(
    collection: Collection, expanded: Sequence[Expanded], args: SelectArgs
) -> Desired:
    """As `build`, for specs that are expanded already, sorted by path."""
    kept = _without_shadowed(collection, expanded)
    models, faults = _joined(kept, args)
    warnings = _judge(collection, faults)
    index = model_index(kept)
    selection = select(models, index, args, collection.spec_words)
    if warnings:
        selection = attrs.evolve(selection, partial=True)
    notes = _notes(kept, models.values(), selection, frozenset(args.words))
    return Desired(
        models=tuple(models.values()),
        removed=tuple(rule for spec in kept for rule in spec.removed),
        policy=_strictest([spec.policy for spec in kept], len(models)),
        sources=collection.sources,
        selection=selection,
        warnings=(*warnings, *notes),
    )


def further_faults(rest: Collection, expanded: Sequence[Expanded], args: SelectArgs) -> list[Fault]:
    """Return what else is wrong with specs that are faulty already, as far as they could be read.

    A requirement that no spec declares is a fault only when every spec could be read, and one of
    a variant only when its model is sound.

    Args:
        rest: the specs as far as they could be read.
        expanded: what they want, sorted by path.
        args: what the user chose.
    """
    kept = _without_shadowed(rest, expanded)
    read = {spec.path for spec in kept}
    _, faults = _joined(kept, args)
    return [
        fault
        for path, found in faults.items()
        if rest.named is None or path in rest.named
        for fault in found
        if fault.code is not ErrorCode.VARIANT_NOT_FOUND
        and (fault.code is not ErrorCode.MODEL_NOT_FOUND or rest.problems.keys() <= read)
    ]


def _joined(
    kept: Sequence[Expanded], args: SelectArgs
) -> tuple[dict[str, DesiredModel], dict[str, list[Fault]]]:
    """Return the models of all specs by key, and the faults by spec file."""
    models, link_faults = link(kept)
    faults = {spec.path: list(spec.faults) for spec in kept}
    for fault in (*_marks(kept, args.declared_marks), *link_faults):
        faults.setdefault(fault.file, []).append(fault)
    return models, faults


def _notes(
    expanded: Iterable[Expanded],
    models: Iterable[DesiredModel],
    selection: Selection,
    words: frozenset[str],
) -> tuple[str, ...]:
    """What is to be known of the selected models; it narrows no run.

    A model that comes on demand has nothing to be said of until it is asked for by name.
    """
    notes = {model_id: note for spec in expanded for model_id, note in spec.notes.items()}
    if not notes:
        return ()
    chosen = {
        model.id
        for model in models
        if selection.has_model(model.key)
        and (model.presence is Presence.REQUIRED or {model.key, model.id, model.name} & words)
    }
    return tuple(notes[model_id] for model_id in sorted(notes) if model_id in chosen)


def model_index(expanded: Iterable[Expanded]) -> ModelIndex:
    """Return the look-up table of the models these specs declare."""
    return ModelIndex(model for spec in expanded for model in spec.declared)


def node_ids(desired: Desired, *, installed_only: bool = False) -> list[str]:
    """Return ``SPECFILE::ADDRESS`` of every selected file, by spec file, model and path.

    Models that came along only because a selected one requires them are left out.
    """
    selection = desired.selection
    found = []
    for model in sorted(desired.models, key=lambda model: (model.spec, model.key)):
        if model.key in selection.pulled_in or not selection.has_model(model.key):
            continue
        if installed_only and not model.installed:
            continue
        addresses = (f"{model.key}::{file.path}" for file in model.files)
        found += [
            f"{model.spec}::{address}"
            for address in addresses
            if selection.has_address(address, model.key)
        ]
    return found


def _without_shadowed(collection: Collection, expanded: Sequence[Expanded]) -> tuple[Expanded, ...]:
    """Let a named spec from outside the project win over the project's own spec of one id.

    Somebody who names a copy of a project's spec means the copy; two specs *of* the project that
    declare one id stay a fault.
    """
    guests, given = collection.guests, collection.given
    taken = {model.id for spec in expanded if spec.path in guests for model in spec.declared}
    if not taken:
        return tuple(expanded)
    return tuple(spec if spec.path in given else spec.without(taken) for spec in expanded)


def _marks(expanded: Iterable[Expanded], declared: tuple[str, ...] | None) -> list[Fault]:
    """Strict marks: a model may only carry marks the configuration declares."""
    if declared is None:
        return []
    known = {mark.partition("(")[0] for mark in declared}
    faults = []
    for spec in expanded:
        marks = {(model.id, mark) for model in spec.models for mark in model.facts.marks}
        for model_id, mark in sorted(marks):
            if mark.partition("(")[0] not in known:
                at = f"models.{json.dumps(model_id)}.marks"
                message = f'mark "{mark}" is not in the configured marks'
                faults.append(Fault(spec.path, spec.lines[model_id], message, at))
    return faults


def _judge(collection: Collection, faults: Mapping[str, list[Fault]]) -> tuple[str, ...]:
    """Raise what concerns this run; return the rest as warnings."""
    named = collection.named
    fatal = [
        fault for path, found in faults.items() if named is None or path in named for fault in found
    ]
    rest = [
        fault
        for path, found in (*collection.problems.items(), *faults.items())
        if named is not None and path not in named
        for fault in found
    ]
    if any(fault.code is ErrorCode.MODEL_NOT_FOUND for fault in fatal):
        fatal += rest  # the missing model may stand in a spec that could not be read
    if fatal:
        ordered = sorted(fatal, key=lambda fault: (fault.file, fault.line or 0, fault.message))
        raise FaultGroup(ordered, hint=_hint(ordered))
    if not rest:
        return ()
    specs = ", ".join(sorted({fault.file for fault in rest}))
    return (f"nothing will be deleted: not every spec of the project is sound ({specs})",)


def _hint(faults: Iterable[Fault]) -> str:
    lock_codes = (ErrorCode.LOCK_MISSING, ErrorCode.LOCK_OUTDATED)
    specs = sorted({fault.file for fault in faults if fault.code in lock_codes})
    return f"run: wanrec lock {' '.join(specs)}" if specs else ""


def _strictest(policies: Sequence[Policy], models: int) -> Policy:
    """Return one policy that allows only what all of them allow.

    A share and a count of `max_delete` are compared by what they mean for this many models.
    """
    if not policies:
        return Policy()
    return Policy(
        allow_pickle=all(policy.allow_pickle for policy in policies),
        require_sha256=any(policy.require_sha256 for policy in policies),
        max_delete=min(
            (policy.max_delete for policy in policies),
            key=lambda limit: limit * models if isinstance(limit, float) else limit,
        ),
    )
