"""`wanrec.pipelines`: from a model id to what a video pipeline is started with.

`resolve` says which class loads a model, where each component lies, what it takes as input and how
much memory it needs; it makes the model present and refuses one that lacks a part, before a GPU is
touched and before diffusers is imported. `load` hands the verified directory to diffusers, which is
an extra (``pip install wanrec[diffusers]``) and is imported here alone.

A LoRA is resolved together with the base it requires. ``WANREC_PROFILE=dev`` picks the lightest
variant of a model instead of the default one. A recorded Diffusers model is resolved without specs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanrec.reconcile.api import current_engine
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.pipeline_declared import Declared, Part, declared_pipeline, parts_of
from wanrec.reconcile.pipeline_paths import Lora, PipelinePaths, refuse_missing
from wanrec.reconcile.pipeline_rules import (
    CLASSES,
    Task,
    Vram,
    estimate_vram,
    layout_of,
    required_roles,
    roles_of,
    task_of,
)
from wanrec.reconcile.pipeline_tensors import check_indexes, index_faults, tensor_names

if TYPE_CHECKING:
    from wanrec.reconcile.engine import Engine
    from wanrec.reconcile.model import DesiredModel

__all__ = [
    "Lora",
    "PipelinePaths",
    "Task",
    "Vram",
    "check_indexes",
    "get_wan_paths",
    "index_faults",
    "load",
    "resolve",
    "tensor_names",
]


def get_wan_paths(model: str, variant: str | None = None) -> PipelinePaths:
    """Make a model present and return where its parts lie: the pipeline loader's entry.

    Raises:
        WanrecError: as `resolve`.
    """
    return resolve(model, variant)


def resolve(
    model: str,
    variant: str | None = None,
    *,
    ensure: bool = True,
    offline: bool = False,
    precision: str | None = None,
    loras: Iterable[str] = (),
    engine: Engine | None = None,
) -> PipelinePaths:
    """Return where the parts of a pipeline lie, all required ones present.

    What the spec leaves out is refused before anything is fetched.

    Args:
        model: a model, or a LoRA (its base comes along).
        variant: which variant; else the default one, or the lightest under WANREC_PROFILE=dev.
        ensure: bring what is missing; False: only look, for a root that somebody else keeps.
        offline: use local sources only.
        precision: to estimate memory for; None: the fact, else bf16.
        loras: more overlays, by model id, for the same base.
        engine: instead of the one of the working directory.

    Raises:
        WanrecError: INCOMPLETE_MODEL, naming what is missing; MISSING_MANIFEST for a recorded model
            that only its spec could tell apart; of `ensure` and the specs.
    """
    engine = engine or current_engine()
    declared = _declared(engine, model, variant, tuple(loras))
    base, overlays = declared.base, declared.overlays
    parts = parts_of(base, declared.known)
    required = required_roles(base)
    refuse_missing(base.key, required, parts, base.spec, declared.note)
    if ensure:
        for key in (base.key, *(overlay.key for overlay in overlays)):
            engine.ensure(key, offline=offline)
    root = Path(engine.root)
    paths = PipelinePaths(
        model=base.key,
        path=root / base.directory,
        task=task_of(base),
        layout=layout_of(base),
        pipeline_class=_class_of(base),
        components={name: _place(root, part) for name, part in parts.items()},
        required=required,
        loras=tuple(_loras(root, overlays)),
        facts=base.facts.values,
        vram=estimate_vram(base, {name: role for name, (_, role) in parts.items()}, precision),
        files={name: _files(root, part) for name, part in parts.items()},
    )
    paths.check()
    return paths


def load(
    model: str,
    variant: str | None = None,
    *,
    image: object = None,
    loras: Iterable[str] = (),
    offline: bool = False,
    engine: Engine | None = None,
    **options: Any,
) -> Any:
    """Return the diffusers pipeline of a model, loaded from its verified directory.

    Everything that can be refused is refused first: missing components, shards that are not what
    their index says, inputs that the pipeline does not take. The model is neither swapped nor
    evicted while it is read.

    Args:
        model: a model, or a LoRA (its base comes along).
        variant: as for `resolve`.
        image: what the first request will bring; chooses the class of TI2V models.
        loras: more overlays, by model id.
        offline: use local sources only.
        engine: instead of the one of the working directory.
        options: for `from_pretrained`, for example ``torch_dtype``.

    Raises:
        WanrecError: as `resolve`; INVALID_CONFIG when diffusers is not installed, is too old or
            has no class for the model.
    """
    engine = engine or current_engine()
    paths = resolve(model, variant, loras=loras, offline=offline, engine=engine)
    name = paths.class_for(image=image)
    if name is None:
        raise WanrecError(
            ErrorCode.INVALID_CONFIG,
            f"diffusers has no pipeline for {paths.model} ({paths.layout} layout)",
            detail="its paths are in wanrec.pipelines.resolve(...).components",
            address=paths.model,
        )
    with _kept_in_place(engine, paths):
        check_indexes(paths.path)
        pipeline = _diffusers_class(name).from_pretrained(str(paths.path), **options)
        _put_on(pipeline, paths.loras)
    return pipeline


def _put_on(pipeline: Any, loras: Iterable[Lora]) -> None:
    scales: dict[str, float] = {}
    for lora in loras:
        adapter = lora.path.stem.replace(".", "_")
        second = {"load_into_transformer_2": True} if lora.component == "transformer_2" else {}
        pipeline.load_lora_weights(
            str(lora.path.parent), weight_name=lora.path.name, adapter_name=adapter, **second
        )
        scales[adapter] = lora.scale
    if scales:
        pipeline.set_adapters(list(scales), list(scales.values()))


def _declared(engine: Engine, model: str, variant: str | None, loras: tuple[str, ...]) -> Declared:
    """As the specs say; as the state says where they name no such model."""
    try:
        return declared_pipeline(engine, model, variant, loras)
    except WanrecError as error:
        if error.code is not ErrorCode.MODEL_NOT_FOUND:
            raise
        from wanrec.reconcile.pipeline_recorded import recorded_pipeline

        recorded = recorded_pipeline(engine, model, variant, loras)
        if recorded is None:
            raise
        return recorded


def _class_of(model: DesiredModel) -> str | None:
    stated = model.facts.values.get("pipeline")
    if isinstance(stated, str):
        return stated
    task = task_of(model)
    return CLASSES[task] if task is not None and layout_of(model) == "diffusers" else None


def _place(root: Path, part: Part) -> Path:
    model, role = part
    return root / model.directory / role.path if role.path else root / model.directory


def _files(root: Path, part: Part) -> tuple[tuple[Path, int | None], ...]:
    model, role = part
    folder = root / model.directory
    return tuple((folder / file.path, file.size) for file in role.files if not file.optional)


def _loras(root: Path, overlays: Iterable[DesiredModel]) -> Iterator[Lora]:
    for overlay in overlays:
        scale = overlay.facts.values.get("lora_scale", 1.0)
        for name, role in roles_of(overlay).items():
            yield Lora(
                model=overlay.key,
                path=root / overlay.directory / role.path,
                component="transformer_2" if name == "lora_2" else "transformer",
                scale=float(scale) if isinstance(scale, int | float) else 1.0,
            )


@contextmanager
def _kept_in_place(engine: Engine, paths: PipelinePaths) -> Iterator[None]:
    from contextlib import ExitStack

    with ExitStack() as stack:
        for key in dict.fromkeys((paths.model, *(lora.model for lora in paths.loras))):
            stack.enter_context(engine.use(key))
        yield


def _diffusers_class(name: str) -> Any:
    import importlib

    try:
        diffusers = importlib.import_module("diffusers")
    except ImportError as error:
        raise WanrecError(
            ErrorCode.INVALID_CONFIG,
            f"{name} needs diffusers, which cannot be imported: {error}",
            hint='pip install "wanrec[diffusers]"',
        ) from error
    found = getattr(diffusers, name, None)
    if found is None:
        version = getattr(diffusers, "__version__", "unknown")
        raise WanrecError(
            ErrorCode.INVALID_CONFIG,
            f"diffusers {version} has no {name}",
            hint='pip install --upgrade "wanrec[diffusers]"',
        )
    return found
