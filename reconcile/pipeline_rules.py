"""What each kind of video model is made of, takes, and needs: rules and arithmetic, no disk.

In go the declaration of a model and its facts; out come its task, the role of every file, the roles
a run cannot do without, faults of a request's inputs, and an estimate of the memory it needs. The
tables hold what is published about Wan2.1 and Wan2.2 and nothing else: a model they do not know has
the roles its folders name, and no rules.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import attrs

from wanrec.reconcile.model import DesiredModel, FileSpec

__all__ = [
    "CLASSES",
    "LORA_ROLES",
    "Role",
    "Task",
    "Vram",
    "estimate_vram",
    "input_faults",
    "is_overlay",
    "layout_of",
    "required_roles",
    "roles_of",
    "task_of",
]


class Task(enum.StrEnum):
    """What a model does; values are the short names people use."""

    T2V = "t2v"
    I2V = "i2v"
    TI2V = "ti2v"
    S2V = "s2v"
    ANIMATE = "animate"


CLASSES: Mapping[Task, str | None] = {
    Task.T2V: "WanPipeline",
    Task.I2V: "WanImageToVideoPipeline",
    Task.TI2V: "WanPipeline",
    Task.S2V: None,
    Task.ANIMATE: "WanAnimatePipeline",
}
"""The diffusers class of each task; S2V has none."""

_TASK_WORDS = {
    "text-to-video": Task.T2V,
    "image-to-video": Task.I2V,
    "text-and-image-to-video": Task.TI2V,
    "speech-to-video": Task.S2V,
    "character-animation": Task.ANIMATE,
    **{task.value: task for task in Task},
}
LORA_ROLES = ("lora", "lora_2")
_BASE_ROLES = ("transformer", "vae", "text_encoder")
_LAYOUT_ROLES = {"diffusers": ("tokenizer", "scheduler"), "native": ("tokenizer",)}
"""ComfyUI has tokenizer and scheduler in its own code, the native layout the scheduler."""


@attrs.frozen(kw_only=True)
class Role:
    """One part of a pipeline.

    Attributes:
        path: file or folder, relative to the model directory; empty: the directory itself.
        files: what belongs to it.
    """

    path: str
    files: tuple[FileSpec, ...]

    @property
    def size(self) -> int:
        """Bytes of its files, as far as declared."""
        return sum(file.size or 0 for file in self.files)


# Pattern of a path → role, and the folder that stands for it (None: the file itself).
_NATIVE: tuple[tuple[str, str, str | None], ...] = (
    ("high_noise_model/*", "transformer", "high_noise_model"),
    ("low_noise_model/*", "transformer_2", "low_noise_model"),
    ("models_t5_*", "text_encoder", None),
    ("models_clip_*", "image_encoder", None),
    ("Wan*_VAE.*", "vae", None),
    ("google/umt5-xxl/*", "tokenizer", "google/umt5-xxl"),
    ("xlm-roberta-large/*", "image_tokenizer", "xlm-roberta-large"),
    ("wav2vec2*/*", "audio_encoder", "wav2vec2-large-xlsr-53-english"),
    ("process_checkpoint/*", "preprocessing", "process_checkpoint"),
    ("relighting_lora*", "lora", None),
    ("diffusion_pytorch_model*", "transformer", ""),
)
_COMFY: tuple[tuple[str, str, str | None], ...] = (
    ("*lora*high_noise*", "lora", None),
    ("*lora*low_noise*", "lora_2", None),
    ("*lora*", "lora", None),
    ("text_encoders/*", "text_encoder", None),
    ("vae/*", "vae", None),
    ("clip_vision/*", "image_encoder", None),
    ("audio_encoders/*", "audio_encoder", None),
    ("*high_noise*", "transformer", None),
    ("*low_noise*", "transformer_2", None),
    ("diffusion_models/*", "transformer", None),
    ("*.safetensors", "transformer", None),
    ("*.gguf", "transformer", None),
)
_PATTERNS = {"native": _NATIVE, "comfyui": _COMFY, "gguf": _COMFY, "lora": _COMFY}


def layout_of(model: DesiredModel) -> str:
    """The repository layout: the fact, else diffusers where there is a model_index.json."""
    stated = model.facts.values.get("layout")
    if isinstance(stated, str):
        return stated
    return "diffusers" if any(f.path == "model_index.json" for f in model.files) else "other"


def task_of(model: DesiredModel) -> Task | None:
    """What the model does: by its facts, its marks or its name; None when none of them says."""
    facts = model.facts.values
    words = [facts.get("task"), facts.get("model_type"), *model.facts.marks]
    words += model.name.lower().split("-")
    return next((_TASK_WORDS[word] for word in words if word in _TASK_WORDS), None)


def roles_of(model: DesiredModel) -> dict[str, Role]:
    """The parts a model's own files make up; index and config files at the top are none."""
    table = _PATTERNS.get(layout_of(model))
    found: dict[str, tuple[str, list[FileSpec]]] = {}
    for file in model.files:
        named = _named(file) if table is None else _matched(file, table)
        if named is not None:
            role, path = named
            found.setdefault(role, (path, []))[1].append(file)
    return {name: Role(path=path, files=tuple(files)) for name, (path, files) in found.items()}


def _named(file: FileSpec) -> tuple[str, str] | None:
    folder, sep, _ = file.path.partition("/")
    if file.component is None:
        return None
    return file.component, folder if sep else file.path


def _matched(
    file: FileSpec, table: Iterable[tuple[str, str, str | None]]
) -> tuple[str, str] | None:
    for pattern, role, folder in table:
        if fnmatchcase(file.path, pattern):
            return role, file.path if folder is None else folder
    return None


def is_overlay(model: DesiredModel) -> bool:
    """True for a LoRA that is nothing without its base."""
    roles = roles_of(model)
    return bool(roles) and roles.keys() <= set(LORA_ROLES)


def required_roles(model: DesiredModel) -> tuple[str, ...]:
    """The roles a run cannot do without, in the order people name them."""
    facts, task = model.facts.values, task_of(model)
    stated = facts.get("required_components")
    wanted = list(stated) if isinstance(stated, tuple | list) else []
    if task is not None:
        wanted += [*_BASE_ROLES, *_LAYOUT_ROLES.get(layout_of(model), ())]
        if _experts(facts) == 2:
            wanted.append("transformer_2")
        if task is Task.ANIMATE or facts.get("image_encoder") or _needs_clip(model, task):
            wanted.append("image_encoder")
        if task is Task.S2V:
            wanted.append("audio_encoder")
    return tuple(dict.fromkeys(wanted))


def _needs_clip(model: DesiredModel, task: Task) -> bool:
    """Wan2.1 image to video has an image encoder, Wan2.2 has none."""
    return task is Task.I2V and model.version.startswith("2.1")


def _experts(facts: Mapping[str, object]) -> int:
    stated = facts.get("experts", 1)
    if isinstance(stated, int):
        return stated
    return len(stated) if isinstance(stated, tuple | list) else 1


_TAKES: Mapping[Task, tuple[tuple[str, ...], tuple[str, ...]]] = {
    Task.T2V: ((), ()),
    Task.I2V: (("image",), ()),
    Task.TI2V: ((), ("image",)),
    Task.S2V: (("image", "audio"), ("video",)),
    Task.ANIMATE: (("image", "video"), ()),
}
"""Task → inputs it needs and inputs it may be given, besides the prompt."""


def input_faults(
    task: Task | None,
    given: Iterable[str],
    *,
    width: int | None = None,
    height: int | None = None,
    frames: int | None = None,
) -> list[str]:
    """What is wrong with a request, one line each; a task nobody knows takes anything."""
    if task is None:
        return []
    needed, allowed = _TAKES[task]
    names = set(given)
    faults = [f"{task} needs an input {name!r}" for name in needed if name not in names]
    faults += [f"{task} takes no input {name!r}" for name in sorted(names - {*needed, *allowed})]
    step = 32 if task is Task.TI2V else 16
    for name, value in (("width", width), ("height", height)):
        if value is not None and (value < step or value % step):
            faults.append(f"{name} must be a multiple of {step}, not {value}")
    whole = task is Task.S2V  # its clips are 80 frames; the others work on 4 n + 1
    if frames is not None and (frames < 1 or (not whole and (frames - 1) % 4)):
        faults.append(f"frames must be 4 n + 1, not {frames}")
    return faults


_BYTES = {
    "float32": 4.0, "fp32": 4.0, "f32": 4.0,
    "bfloat16": 2.0, "bf16": 2.0, "float16": 2.0, "fp16": 2.0, "f16": 2.0,
    "fp8": 1.0, "fp8_e4m3fn": 1.0, "fp8_e5m2": 1.0, "f8_e4m3": 1.0, "f8_e5m2": 1.0,
    "int8": 1.0, "q8_0": 1.0625,
    "int4": 0.5, "nf4": 0.5,
}  # fmt: skip
_PARAMETERS = {
    "umt5-xxl": 5_680_910_336,
    "Wan2.1": 126_892_531,
    "Wan2.2": 704_688_668,
}
ALLOWANCE = 0.2
"""For activations and what the framework keeps; a rule of thumb, not a measurement."""


@attrs.frozen(kw_only=True)
class Vram:
    """Bytes of video memory a run needs, from parameters and precision.

    Attributes:
        precision: the number format the weights are loaded in.
        weights: role → bytes.
        resident: everything loaded at once, with the allowance.
        offload: the largest part alone, with the allowance: what model offload comes down to.
        published: what the makers state, None when they state nothing.
    """

    precision: str
    weights: Mapping[str, int]
    resident: int
    offload: int
    published: int | None = None


def estimate_vram(
    model: DesiredModel, roles: Mapping[str, Role], precision: str | None = None
) -> Vram:
    """Estimate what a run of these parts needs; the VAE is counted in float32.

    Args:
        model: whose facts count.
        roles: its parts and those of what it requires.
        precision: to load in; None: the fact, else bf16.
    """
    facts = model.facts.values
    chosen = precision or str(facts.get("precision") or "bf16")
    weights = {
        name: size
        for name, role in roles.items()
        if (size := _loaded_bytes(name, role, facts, chosen))
    }
    published = facts.get("vram_gb")
    return Vram(
        precision=chosen,
        weights=weights,
        resident=int(sum(weights.values()) * (1 + ALLOWANCE)),
        offload=int(max(weights.values(), default=0) * (1 + ALLOWANCE)),
        published=int(published * 10**9) if isinstance(published, int | float) else None,
    )


def _loaded_bytes(name: str, role: Role, facts: Mapping[str, object], precision: str) -> int:
    each = _BYTES.get(precision.lower(), 2.0)
    if facts.get("layout") in ("comfyui", "gguf") or facts.get("quantization"):
        return _weights(role)  # stored in the precision it is used in
    known = _PARAMETERS.get(str(facts.get(name)))
    if known is not None:
        return int(known * (4.0 if name == "vae" else each))
    stored = _BYTES.get(str(facts.get("dtype", "")).lower())
    if name.startswith("transformer") and stored is not None:
        return int(_weights(role) / stored * each)
    return _weights(role)


def _weights(role: Role) -> int:
    suffixes = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".gguf", ".onnx")
    return sum(file.size or 0 for file in role.files if file.path.endswith(suffixes))
