"""Expanded specs → models that know each other: requirements, collisions, presence.

Pure. What one spec cannot know alone is decided here, and every fault names all its places.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import attrs

from wanrec.reconcile.desired_expanded import Expanded
from wanrec.reconcile.desired_lookup import ModelIndex
from wanrec.reconcile.errors import ErrorCode, Fault, WanrecError
from wanrec.reconcile.model import DesiredModel, Presence
from wanrec.reconcile.names import collision_key

__all__ = ["link"]


def link(specs: Sequence[Expanded]) -> tuple[dict[str, DesiredModel], list[Fault]]:
    """Return the models by key, `requires` resolved and presence propagated, and the faults.

    A required model of a required model is required and installed, whatever its own spec says.
    """
    lines = {spec.path: spec.lines for spec in specs}
    faults = [*_same_ids(specs)]
    models = {model.key: model for spec in specs for model in sorted(spec.models, key=_by_key)}
    models = dict(sorted(models.items()))
    faults += _same_directories(models, lines)
    index = ModelIndex(declared for spec in specs for declared in spec.declared)
    models, unknown = _resolved(models, index, lines)
    faults += unknown
    faults += _cycles(models, lines)
    return _with_presence(models), faults


def _by_key(model: DesiredModel) -> str:
    return model.key


def _same_ids(specs: Sequence[Expanded]) -> Iterator[Fault]:
    places: dict[str, str] = {}
    for spec in specs:
        for declared in spec.declared:
            place = f"{spec.path}:{spec.lines[declared.id]}"
            first = places.setdefault(declared.id, place)
            if first != place:
                yield _fault(
                    spec.path,
                    spec.lines,
                    declared.id,
                    f"{declared.id} is declared here and at {first}",
                    code=ErrorCode.NAME_COLLISION,
                )


def _same_directories(
    models: Mapping[str, DesiredModel], lines: Mapping[str, Mapping[str, int | None]]
) -> Iterator[Fault]:
    taken: dict[str, DesiredModel] = {}
    for model in models.values():
        first = taken.setdefault(collision_key(model.directory), model)
        if first is not model:
            place = f"{first.spec}:{lines[first.spec][first.id]}"
            yield _fault(
                model.spec,
                lines[model.spec],
                model.id,
                f"{model.key} and {first.key} ({place}) have one directory on systems that"
                " ignore case",
                code=ErrorCode.NAME_COLLISION,
            )


def _resolved(
    models: Mapping[str, DesiredModel],
    index: ModelIndex,
    lines: Mapping[str, Mapping[str, int | None]],
) -> tuple[dict[str, DesiredModel], list[Fault]]:
    """Turn words of `requires` into keys; an unknown one is a fault, told once a model."""
    resolved: dict[str, DesiredModel] = {}
    faults: dict[tuple[str, str], Fault] = {}
    for key, model in models.items():
        keys = []
        for word in model.requires:
            try:
                keys.append(index.key(word))
            except WanrecError as error:
                faults[model.id, word] = _fault(
                    model.spec,
                    lines[model.spec],
                    model.id,
                    f"requires: {error.summary}",
                    "requires",
                    error.code,
                )
        # A requirement with faults of its own is not in `models`; its faults are told already.
        known = dict.fromkeys(required for required in keys if required in models)
        resolved[key] = attrs.evolve(model, requires=tuple(known)) if model.requires else model
    return resolved, list(faults.values())


def _cycles(
    models: Mapping[str, DesiredModel], lines: Mapping[str, Mapping[str, int | None]]
) -> Iterator[Fault]:
    """Report each circle once, starting at its first key by name."""
    told: set[frozenset[str]] = set()
    for circle in _circles(models):
        ids = frozenset(models[key].id for key in circle)
        if ids in told:
            continue
        told.add(ids)
        start = circle.index(min(circle))
        ordered = [*circle[start:], *circle[: start + 1]]
        model = models[ordered[0]]
        yield _fault(
            model.spec,
            lines[model.spec],
            model.id,
            f"models require each other in a circle: {' -> '.join(ordered)}",
            "requires",
        )


def _circles(models: Mapping[str, DesiredModel]) -> Iterator[list[str]]:
    """Yield circles of `requires`, depth first, without recursion: chains may be long."""
    done: set[str] = set()
    for root in models:
        path: list[str] = []
        on_path: set[str] = set()
        stack = [(root, iter(models[root].requires))] if root not in done else []
        if stack:
            path.append(root)
            on_path.add(root)
        while stack:
            key, waiting = stack[-1]
            required = next(waiting, None)
            if required is None:
                stack.pop()
                on_path.discard(path.pop())
                done.add(key)
            elif required in on_path:
                yield path[path.index(required) :]
            elif required not in done:
                stack.append((required, iter(models[required].requires)))
                path.append(required)
                on_path.add(required)


def _with_presence(models: dict[str, DesiredModel]) -> dict[str, DesiredModel]:
    waiting = [
        key
        for key, model in models.items()
        if model.requires and model.installed and model.presence is Presence.REQUIRED
    ]
    while waiting:
        for required in models[waiting.pop()].requires:
            model = models[required]
            if not model.installed or model.presence is not Presence.REQUIRED:
                models[required] = attrs.evolve(model, installed=True, presence=Presence.REQUIRED)
                waiting.append(required)
    return models


def _fault(
    spec: str,
    lines: Mapping[str, int | None],
    model_id: str,
    message: str,
    at: str = "",
    code: ErrorCode = ErrorCode.INVALID_MANIFEST,
) -> Fault:
    where = f"models.{json.dumps(model_id)}" + (f".{at}" if at else "")
    return Fault(spec, lines[model_id], message, where, code)
