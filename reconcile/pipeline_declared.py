"""Which models a pipeline consists of: the base, what it requires, and the LoRAs put on it.

The specs say; where none names the model, the state and the model's own `model_index.json` do
(`pipeline_recorded`). Nothing is fetched here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.pipeline_rules import LORA_ROLES, Role, is_overlay, roles_of

if TYPE_CHECKING:
    from wanrec.reconcile.engine import Engine
    from wanrec.reconcile.model import Desired, DesiredModel

__all__ = ["PROFILE", "Declared", "Part", "declared_pipeline", "parts_of"]

PROFILE = "WANREC_PROFILE"
"""Environment variable: ``dev`` picks the lightest variant of a model."""

Part = tuple["DesiredModel", Role]
"""Whose part it is, and what it consists of."""


@attrs.frozen(kw_only=True)
class Declared:
    """One pipeline before anything is looked at.

    Attributes:
        base: the model that is loaded.
        overlays: LoRA models to put on it, in order.
        known: everything that is declared, by key.
        note: why the base may be incomplete, empty when nothing is known.
    """

    base: DesiredModel
    overlays: tuple[DesiredModel, ...] = ()
    known: Mapping[str, DesiredModel]
    note: str = ""


def declared_pipeline(
    engine: Engine, model: str, variant: str | None, loras: tuple[str, ...]
) -> Declared:
    """Resolve a model, or a LoRA with its base, through the specs.

    Raises:
        WanrecError: MODEL_NOT_FOUND, VARIANT_NOT_FOUND; INCOMPLETE_MODEL for a LoRA without a
            base, or a base that does not run without one; of specs.
    """
    from wanrec.reconcile.engine_ensure import declaration

    desired, key = declaration(engine, model, variant)
    known = {wanted.key: wanted for wanted in desired.models}
    if variant is None and "[" not in model:
        key = _light_variant(known, key, model, os.environ.get(PROFILE))
    chosen = known[key]
    overlays = [known[declaration(engine, name, None)[1]] for name in loras]
    if is_overlay(chosen):
        overlays.insert(0, chosen)
        chosen = _base_of(chosen, known)
    if chosen.facts.values.get("lora_required") and not overlays and "lora" not in roles_of(chosen):
        raise _needs_lora(chosen, known)
    note = _note(desired, chosen)
    return Declared(base=chosen, overlays=tuple(overlays), known=known, note=note)


def _note(desired: Desired, base: DesiredModel) -> str:
    """What the specs warn of: files of the model that nobody has pinned yet."""
    notes = (text for text in desired.warnings if text.startswith(f"{base.id} is incomplete"))
    return next(notes, "")


def _light_variant(
    known: Mapping[str, DesiredModel], key: str, word: str, profile: str | None
) -> str:
    """The lightest variant in development, the given one else."""
    named = word.count("@") > 1
    if profile is None or named or profile.lower() not in ("dev", "development"):
        return key
    sizes = {
        other.key: sum(file.size or 0 for file in other.files)
        for other in known.values()
        if other.id == known[key].id and all(file.size is not None for file in other.files)
    }
    return min(sizes, key=lambda name: (sizes[name], name != key), default=key)


def _base_of(overlay: DesiredModel, known: Mapping[str, DesiredModel]) -> DesiredModel:
    bases = [known[key] for key in overlay.requires if not is_overlay(known[key])]
    if bases:
        return bases[0]
    raise WanrecError(
        ErrorCode.INCOMPLETE_MODEL,
        f"{overlay.key} is a LoRA and names no base model",
        address=overlay.key,
        where=overlay.spec,
        hint='requires = ["BASE@VERSION"] in its block',
    )


def _needs_lora(base: DesiredModel, known: Mapping[str, DesiredModel]) -> WanrecError:
    fitting = [m.id for m in known.values() if base.key in m.requires and is_overlay(m)]
    return WanrecError(
        ErrorCode.INCOMPLETE_MODEL,
        f"{base.key} does not run without a LoRA",
        detail=f"made for it: {', '.join(fitting)}" if fitting else "no spec declares one for it",
        address=base.key,
        hint=f"wanrec.pipelines.resolve({fitting[0]!r})" if fitting else "declare one: requires",
    )


def parts_of(base: DesiredModel, known: Mapping[str, DesiredModel]) -> dict[str, Part]:
    """Return role → whose it is: the model's own, then those of what it requires."""
    parts: dict[str, Part] = {}
    todo, seen = [base], {base.key}
    while todo:
        model = todo.pop(0)
        for name, role in roles_of(model).items():
            if model is base or name not in LORA_ROLES:
                parts.setdefault(name, (model, role))
        for key in model.requires:
            if key in known and key not in seen:
                seen.add(key)
                todo.append(known[key])
    return parts
