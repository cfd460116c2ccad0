"""What one spec file wants, and the plain rows it can be kept as.

Pure. `expand` makes an `Expanded` from a spec and its lock; `to_rows` and `from_rows` turn it into
lists of texts and numbers and back, without loss, so that a run need not parse what an earlier run
has parsed. A row says nothing about which bytes it was made from: who keeps it says that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from wanrec.reconcile.desired_lookup import Declared
from wanrec.reconcile.errors import Fault
from wanrec.reconcile.facts import Presence
from wanrec.reconcile.model import (
    DesiredModel,
    FileSpec,
    ModelFacts,
    MoveRule,
    Policy,
    RemovedRule,
    model_key,
)
from wanrec.reconcile.names import model_directory, split_model_id

__all__ = ["Expanded", "from_rows", "to_rows"]


@attrs.frozen(kw_only=True)
class Expanded:
    """What one spec file wants.

    Attributes:
        path: the spec file.
        models: one for each variant; `requires` holds words, not keys.
        declared: every declared model, also one whose faults kept it out of `models`.
        lines: model id → line of its declaration.
        faults: what is wrong with it.
        notes: model id → what people should know of it before they rely on it.
    """

    path: str
    models: tuple[DesiredModel, ...] = ()
    declared: tuple[Declared, ...] = ()
    lines: Mapping[str, int | None] = attrs.field(factory=dict)
    removed: tuple[RemovedRule, ...] = ()
    policy: Policy = attrs.field(factory=Policy)
    faults: tuple[Fault, ...] = ()
    notes: Mapping[str, str] = attrs.field(factory=dict)

    def without(self, ids: Iterable[str]) -> Expanded:
        """Return this spec as if it did not declare these models."""
        gone = frozenset(ids)
        return attrs.evolve(
            self,
            models=tuple(model for model in self.models if model.id not in gone),
            declared=tuple(model for model in self.declared if model.id not in gone),
        )


def to_rows(spec: Expanded) -> list[Any]:
    """Return a sound spec as plain rows; files that variants share are written once."""
    assert not spec.faults
    places: dict[int, int] = {}
    files: list[list[Any]] = []
    for model in spec.models:
        for file in model.files:
            if id(file) not in places:
                places[id(file)] = len(files)
                files.append(_file_row(file))
    policy = spec.policy
    return [
        [policy.allow_pickle, policy.require_sha256, policy.max_delete],
        [[*declared] for declared in spec.declared],
        dict(spec.lines),
        [[rule.model, rule.delete] for rule in spec.removed],
        dict(spec.notes),
        files,
        [_model_row(model, [places[id(file)] for file in model.files]) for model in spec.models],
    ]


def from_rows(path: str, rows: list[Any]) -> Expanded:
    """Return the spec that `to_rows` made these rows of.

    Raises:
        ValueError, TypeError, KeyError, IndexError, AttributeError: they are no such rows.
    """
    shared, declared, lines, removed, notes, files, models = rows
    policy = Policy(allow_pickle=shared[0], require_sha256=shared[1], max_delete=shared[2])
    specs = [_file(*row) for row in files]
    defaults = {name: first for name, _, first in declared}
    return Expanded(
        path=path,
        models=tuple(_model(path, policy, specs, defaults, *row) for row in models),
        declared=tuple(Declared(name, tuple(words), first) for name, words, first in declared),
        lines=lines,
        removed=tuple(RemovedRule(model=name, delete=gone, spec=path) for name, gone in removed),
        policy=policy,
        notes=notes,
    )


def _file_row(file: FileSpec) -> list[Any]:
    """Most files are a path, a size and a digest, in the component their first folder names."""
    row = [file.path, file.size, file.sha256]
    rest = [file.component, file.variant, file.optional, file.allow_pickle, file.source_path]
    return row if rest == [_component(file.path), None, False, None, None] else row + rest


def _component(path: str) -> str | None:
    folder, slash, _ = path.partition("/")
    return folder if slash else None


def _file(path: str, size: int | None, sha256: str | None, *rest: Any) -> FileSpec:
    if not rest:
        return FileSpec(path=path, size=size, sha256=sha256, component=_component(path))
    component, variant, optional, allow_pickle, source_path = rest
    return FileSpec(
        path=path,
        size=size,
        sha256=sha256,
        component=component,
        variant=variant,
        optional=optional,
        allow_pickle=allow_pickle,
        source_path=source_path,
    )


def _model_row(model: DesiredModel, files: list[int]) -> list[Any]:
    facts = model.facts
    return [
        model.id,
        model.variant,
        model.family,
        files,
        model.sources,
        model.presence.value,
        model.installed,
        model.protect,
        model.requires,
        model.spec_sha256,
        [[rule.from_path, rule.to_path] for rule in model.moved],
        [facts.description, facts.marks, dict(facts.values)],
    ]


def _model(
    path: str,
    policy: Policy,
    specs: list[FileSpec],
    defaults: Mapping[str, str | None],
    model_id: str,
    variant: str | None,
    family: str,
    files: list[int],
    sources: list[str],
    presence: str,
    installed: bool,
    protect: bool,
    requires: list[str],
    spec_sha256: str,
    moved: list[list[str]],
    facts: list[Any],
) -> DesiredModel:
    name, version = split_model_id(model_id)
    description, marks, values = facts
    return DesiredModel(
        key=model_key(model_id, variant),
        id=model_id,
        name=name,
        version=version,
        variant=variant,
        family=family,
        directory=model_directory(family, model_id, variant),
        files=tuple([specs[place] for place in files]),
        sources=tuple(sources),
        presence=Presence(presence),
        installed=installed,
        protect=protect,
        requires=tuple(requires),
        default_variant=defaults[model_id],
        spec=path,
        spec_sha256=spec_sha256,
        moved=tuple(MoveRule(from_path=old, to_path=new) for old, new in moved),
        policy=policy,
        facts=ModelFacts(description=description, marks=tuple(marks), values=values),
    )
