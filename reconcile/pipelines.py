"""`wanrec.pipelines`: from a model id to what a video pipeline is started with.

`resolve` says which class loads a model, where each component lies, what it takes as input and how
much memory it needs; it makes the model present and refuses one that lacks a part, before a GPU is
touched and before diffusers is imported. `load` hands the verified directory to diffusers, which is
an extra (``pip install wanrec[diffusers]``) and is imported here alone.

A LoRA is resolved together with the base it requires. ``WANREC_PROFILE=dev`` picks the lightest
variant of a model instead of the default one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from wanrec.reconcile.api import current_engine
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.pipeline_rules import (
    CLASSES,
    LORA_ROLES,
    Role,
    Task,
    Vram,
    estimate_vram,
    input_faults,
    is_overlay,
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

PROFILE = "WANREC_PROFILE"


@attrs.frozen(kw_only=True)
class Lora:
    """One LoRA file: which expert it belongs on, and how strong it is by default."""

    model: str
    path: Path
    component: str
    scale: float = 1.0


@attrs.frozen(kw_only=True)
class PipelinePaths:
    """Where the parts of one pipeline lie. May be used as a path: it is the model directory.

    Attributes:
        model: key of the base model.
        path: its directory, absolute.
        task: what it does, None when nothing says so.
        layout: repository layout.
        pipeline_class: the diffusers class, None when diffusers has none for it.
        components: role → absolute path of the file or folder.
        required: roles a run cannot do without.
        loras: overlays to put on, in order.
        facts: what the spec says for the pipeline (fps, frames, guidance, boundary_ratio, …).
        vram: the estimated memory.
        files: role → absolute paths of the files it consists of, with their sizes.
    """

    model: str
    path: Path
    task: Task | None
    layout: str
    pipeline_class: str | None
    components: Mapping[str, Path]
    required: tuple[str, ...]
    loras: tuple[Lora, ...] = ()
    facts: Mapping[str, object] = attrs.field(factory=dict)
    vram: Vram
    files: Mapping[str, tuple[tuple[Path, int | None], ...]] = attrs.field(factory=dict, repr=False)

    def __fspath__(self) -> str:
        return str(self.path)

    def __getitem__(self, component: str) -> Path:
        """The path of one component; KeyError when the pipeline has none."""
        return self.components[component]

    def check(self) -> None:
        """Make sure that every component lies there whole, by stats alone.

        Raises:
            WanrecError: INCOMPLETE_MODEL, naming what is missing and the command that brings it.
        """
        _refuse_missing(self.model, self.required, self.components, "")
        for role, files in self.files.items():
            for path, size in files:
                problem = _absent(path, size)
                if problem:
                    raise WanrecError(
                        ErrorCode.INCOMPLETE_MODEL,
                        f"{self.model} cannot be loaded: its {role} is not whole, {problem}",
                        where=str(path),
                        address=self.model,
                        hint=f"wanrec ensure {self.model}",
                    )

    def check_inputs(
        self,
        *,
        image: object = None,
        audio: object = None,
        video: object = None,
        width: int | None = None,
        height: int | None = None,
        frames: int | None = None,
    ) -> None:
        """Refuse a request that the pipeline cannot answer, before any memory is taken.

        Raises:
            WanrecError: USAGE, with every fault: an image for t2v, none for i2v, odd sizes.
        """
        named = {"image": image, "audio": audio, "video": video}
        given = [name for name, value in named.items() if value is not None]
        faults = input_faults(self.task, given, width=width, height=height, frames=frames)
        if faults:
            raise WanrecError(
                ErrorCode.USAGE,
                f"{self.model}: {faults[0]}",
                detail="\n".join(faults[1:]),
                address=self.model,
            )

    def class_for(self, *, image: object = None) -> str | None:
        """The diffusers class for a request; TI2V takes another one when an image is given."""
        if self.pipeline_class and self.task is Task.TI2V and image is not None:
            return CLASSES[Task.I2V]
        return self.pipeline_class


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
        WanrecError: INCOMPLETE_MODEL, naming what is missing; of `ensure` and the specs.
    """
    engine = engine or current_engine()
    base, overlays, known = _declarations(engine, model, variant, tuple(loras))
    parts = _parts(base, known)
    required = required_roles(base)
    _refuse_missing(base.key, required, parts, base.spec)
    if base.facts.values.get("lora_required") and not overlays and "lora" not in parts:
        raise _needs_lora(base, known)
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


def _declarations(
    engine: Engine, model: str, variant: str | None, loras: tuple[str, ...]
) -> tuple[DesiredModel, tuple[DesiredModel, ...], dict[str, DesiredModel]]:
    """The base, its overlays, and everything the specs declare, by key."""
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
    return chosen, tuple(overlays), known


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


Part = tuple["DesiredModel", Role]


def _parts(base: DesiredModel, known: Mapping[str, DesiredModel]) -> dict[str, Part]:
    """Role → whose it is: the model's own, then those of what it requires."""
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


def _refuse_missing(key: str, required: Iterable[str], there: Iterable[str], spec: str) -> None:
    missing = [role for role in required if role not in there]
    if not missing:
        return
    raise WanrecError(
        ErrorCode.INCOMPLETE_MODEL,
        f"{key} cannot be loaded without {', '.join(missing)}",
        detail="no pinned file of the model, nor of a model it requires, belongs to it",
        address=key,
        where=spec or None,
        hint=f"list it in files or components, or pin it: wanrec lock; then: wanrec ensure {key}",
    )


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


def _absent(path: Path, size: int | None) -> str:
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError as error:
        return f"{path.name}: {error.strerror}"
    if not stat.S_ISREG(found.st_mode):
        return f"{path.name} is no regular file"
    if size is not None and found.st_size != size:
        return f"{path.name} has {found.st_size} bytes of {size}"
    return ""


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
