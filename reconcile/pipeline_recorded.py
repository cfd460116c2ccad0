"""What the state alone knows of a pipeline: for servers that have a root and no specs.

The state records files, not facts. A Diffusers model carries its facts with it: its verified
`model_index.json` names the class, the components and the expert boundary. Any other layout is
told apart only by its spec, and that is what the error says.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from wanrec.reconcile.engine_ensure import recorded_key
from wanrec.reconcile.engine_recorded import recorded_model
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import DesiredModel, ModelFacts
from wanrec.reconcile.pipeline_declared import Declared
from wanrec.reconcile.pipeline_rules import CLASSES, Task
from wanrec.reconcile.pipeline_tensors import stored_format

if TYPE_CHECKING:
    from wanrec.reconcile.engine import Engine

__all__ = ["recorded_pipeline"]

INDEX = "model_index.json"
_MAX_INDEX_BYTES = 1 << 20


def recorded_pipeline(
    engine: Engine, model: str, variant: str | None, loras: tuple[str, ...]
) -> Declared | None:
    """Return what is recorded of a model that no spec names; None when the state knows it not.

    Raises:
        WanrecError: MISSING_MANIFEST when only a spec could tell the rest; of state or root.
    """
    state = engine.state()
    key = recorded_key(state, model, variant)
    if key is None:
        return None
    known = {other: recorded_model(state, other) for other in state.models}
    base = known[key]
    if loras or not any(file.path == INDEX for file in base.files):
        raise _only_a_spec_tells(key)
    base = attrs.evolve(base, facts=ModelFacts(values=_facts(Path(engine.root), base)))
    return Declared(base=base, known={**known, key: base})


def _only_a_spec_tells(key: str) -> WanrecError:
    return WanrecError(
        ErrorCode.MISSING_MANIFEST,
        f"{key} is recorded, but what its files are to a pipeline stands in its spec alone",
        detail=f"without specs only Diffusers models without LoRAs are known, by {INDEX}",
        address=key,
        hint=f"set WAN_MODELS_MANIFEST to its spec; wanrec.ensure({key!r}) gives its directory",
    )


def _facts(root: Path, base: DesiredModel) -> dict[str, Any]:
    """The facts that a Diffusers model states itself."""
    place = root / base.directory / INDEX
    try:
        with place.open("rb") as file:
            index = json.loads(file.read(_MAX_INDEX_BYTES))
        named = {name: value for name, value in index.items() if isinstance(value, list)}
    except (OSError, ValueError, AttributeError) as error:
        raise WanrecError(
            ErrorCode.INCOMPLETE_MODEL,
            f"{INDEX} of {base.key} cannot be read: {error}",
            where=str(place),
            address=base.key,
            hint=f"wanrec ensure {base.key} --force, where its spec is",
        ) from None
    facts = {
        "layout": "diffusers",
        "pipeline": index.get("_class_name"),
        "task": _task(index),
        "boundary_ratio": index.get("boundary_ratio"),
        "required_components": [name for name, parts in named.items() if parts and parts[0]],
        "dtype": _format(place.parent, base),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _task(index: dict[str, Any]) -> str | None:
    if index.get("expand_timesteps"):
        return Task.TI2V.value
    name = index.get("_class_name")
    return next((task.value for task, known in CLASSES.items() if known == name), None)


def _format(folder: Path, base: DesiredModel) -> str | None:
    """How the transformer is stored; None when no safetensors header says it."""
    weights = (f.path for f in base.files if f.path.startswith("transformer/"))
    return next((stored_format(folder / p) for p in weights if p.endswith(".safetensors")), None)
