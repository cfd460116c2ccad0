"""The WAN2.2 specs and their lock files, made from one table of published sizes and digests.

`wan22-files.tsv` holds what public sources state: repository, path, bytes, sha256; ``-`` where
nobody does. ``python tests/support/wan22.py`` (from the top of the source tree) writes
``specs/wan22*.toml`` again, byte for byte; a test compares. What is not stated is never guessed:
it becomes `unpinned` in the lock file, and `wanrec lock` fills it in on a connected machine.
"""

from __future__ import annotations

import csv
import fnmatch
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from wanrec.reconcile.lockfile import (
    LockedFile,
    LockedModel,
    LockFile,
    declaration_digest,
    dump_lock,
)
from wanrec.reconcile.manifest import parse_manifest

__all__ = ["SPECS", "TABLE", "Model", "Row", "generated", "rows"]

TABLE = Path(__file__).with_name("wan22-files.tsv")
T5_REASON = "upstream ships the text encoder as a torch pickle only; pinned by sha256"
VAE_REASON = "upstream ships the VAE as a torch pickle only; pinned by sha256"
_PICKLES = (".pth", ".ckpt", ".pt", ".bin")


class Row(NamedTuple):
    """One published file; None: nobody states it."""

    repo: str
    path: str
    size: int | None
    sha256: str | None

    @property
    def pinned(self) -> bool:
        """True when both size and digest are known."""
        return self.size is not None and self.sha256 is not None


def rows() -> list[Row]:
    """The table, in its order."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        read = csv.reader(file, delimiter="\t")
        next(read)
        return [
            Row(repo, path, None if size == "-" else int(size), None if sha == "-" else sha)
            for repo, path, size, sha in read
        ]


@attrs.frozen(kw_only=True)
class Model:
    """One model of a spec.

    Attributes:
        repo: whose files it has.
        commit: of the repository; None: unknown, so its main branch is named.
        facts: keys of the block, in order.
        take: patterns of repository paths.
        leave: patterns of those it does not want.
        strip: prefix that is cut off a repository path.
        listed: the spec lists the files (needed where a pickle is let in by name).
        variants: variant → pattern of the repository paths that only it has.
        notes: comment lines above the block.
    """

    id: str
    repo: str
    commit: str | None
    facts: Mapping[str, Any]
    take: tuple[str, ...] = ("*",)
    leave: tuple[str, ...] = ()
    strip: str = ""
    listed: bool = False
    variants: Mapping[str, str] = attrs.field(factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def hub(self) -> str:
        """The Hub source."""
        return f"hf://{self.repo}@{self.commit or 'main'}"

    def files(self) -> Iterator[tuple[str, Row]]:
        """Path in the model directory, and the published file."""
        for row in rows():
            if row.repo != self.repo or not _hit(row.path, self.take) or _hit(row.path, self.leave):
                continue
            yield row.path.removeprefix(self.strip), row

    def variant_of(self, row: Row) -> str | None:
        """The variant a file belongs to alone."""
        return next((v for v, p in self.variants.items() if fnmatch.fnmatchcase(row.path, p)), None)


def _hit(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def _listing(model: Model) -> Iterator[str]:
    for path, row in model.files():
        yield f'[[models."{model.id}".files]]'
        yield f"path = {_toml(path)}"
        if path != row.path:
            yield f"source_path = {_toml(row.path)}"
        if path.endswith(_PICKLES):
            reason = T5_REASON if "t5" in path else VAE_REASON
            yield f"allow_pickle = {_toml(reason)}"
        if (variant := model.variant_of(row)) is not None:
            yield f"variant = {_toml(variant)}"
        yield ""


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _block(model: Model) -> Iterator[str]:
    unpinned = sorted(path for path, row in model.files() if not row.pinned)
    yield from (f"# {note}" for note in model.notes)
    if unpinned:
        yield "# Not pinned yet, because no public source states size and sha256 of them. Until"
        yield "# `wanrec lock` has run on a connected machine they are left out, and plan says so:"
        yield from (f"#   {path}" for path in unpinned)
    yield f'[models."{model.id}"]'
    yield from (f"{key} = {_toml(value)}" for key, value in model.facts.items())
    yield ""
    yield f'[models."{model.id}".sources]'
    yield "priority = ["
    yield '    "local://../mirror/{family}/{id}",'
    yield '    "s3://ai-models/{family}/{id}",'
    yield f'    "{model.hub}",'
    yield "]"
    if not model.listed:
        yield f"allow_patterns = {_toml(model.take)}"
    if model.leave:
        yield f"ignore_patterns = {_toml(model.leave)}"
    yield ""
    if model.listed:
        yield from _listing(model)


def spec_text(head: str, models: tuple[Model, ...]) -> str:
    """A whole spec file."""
    lines = [line for model in models for line in _block(model)]
    return head + "\n" + "\n".join(lines).rstrip("\n") + "\n"


def lock_text(name: str, spec: str, models: tuple[Model, ...]) -> str:
    """The lock file of a spec: what the table states, and what it does not."""
    declared = {decl.id: decl for decl in parse_manifest(spec.encode(), name).models}
    locked = {}
    for model in models:
        files = [
            LockedFile(
                path=path,
                size=row.size,
                sha256=row.sha256,
                source_path=row.path if path != row.path else None,
                variant=model.variant_of(row),
            )
            for path, row in model.files()
            if row.size is not None and row.sha256 is not None
        ]
        locked[model.id] = LockedModel(
            spec_sha256=declaration_digest(declared[model.id]),
            revisions={model.hub: model.commit} if model.commit else {},
            files=tuple(files),
            unpinned=tuple(sorted(path for path, row in model.files() if not row.pinned)),
        )
    return dump_lock(LockFile(path=name, models=locked))


def generated() -> dict[str, str]:
    """Path below the source tree → text, for every generated file."""
    texts = {}
    for name, (head, models) in SPECS.items():
        spec = spec_text(head, models)
        texts[f"specs/{name}.toml"] = spec
        texts[f"specs/{name}.lock.toml"] = lock_text(f"specs/{name}.lock.toml", spec, models)
    return texts


_T2V = {
    "task": "text-to-video",
    "license": "Apache-2.0",
    "params_billion": 27,
    "active_params_billion": 14,
    "text_encoder": "umt5-xxl",
    "tokenizer": "google/umt5-xxl",
    "vae": "Wan2.1",
    "fps": 16,
    "frames": 81,
    "width": 1280,
    "height": 720,
    "resolution_caps": ["480p16", "720p16"],
    "steps": 40,
    "dtype": "float32",
    "precision": "bf16",
    "vram_gb": 80,
}
_I2V = {**_T2V, "task": "image-to-video", "in_channels": 36}
_TI2V = {
    **_T2V,
    "task": "text-and-image-to-video",
    "params_billion": 5,
    "active_params_billion": 5,
    "vae": "Wan2.2",
    "in_channels": 48,
    "fps": 24,
    "frames": 121,
    "height": 704,
    "resolution_caps": ["720p24"],
    "steps": 50,
    "guidance": 5.0,
    "vram_gb": 24,
}
_DIFFUSERS = {"layout": "diffusers", "scheduler": "UniPCMultistepScheduler"}
_DIFFUSERS_FILES = ("*.json", "*.safetensors", "tokenizer/*")
_STRAYS = ("nohup.out", "assets/*", "examples/*", ".gitattributes", "README.md")
_EXPERTS = ["transformer", "transformer_2"]
_NATIVE_EXPERTS = ["high_noise_model", "low_noise_model"]

_TRIO = (
    Model(
        id="t2v-A14B@2.2.0",
        repo="Wan-AI/Wan2.2-T2V-A14B-Diffusers",
        commit="5be7df9619b54f4e2667b2755bc6a756675b5cd7",
        take=_DIFFUSERS_FILES,
        leave=_STRAYS,
        facts={
            "description": "Text to video, 27B parameters in two experts, 14B active",
            "marks": ["video", "t2v", "gpu80"],
            "pipeline": "WanPipeline",
            **_T2V,
            **_DIFFUSERS,
            "experts": _EXPERTS,
            "boundary_ratio": 0.875,
            "in_channels": 16,
            "flow_shift": 3.0,
            "guidance": [3.0, 4.0],
        },
        notes=(
            "transformer is the high-noise expert, transformer_2 the low-noise one; they change at",
            "boundary_ratio of the timesteps.",
        ),
    ),
    Model(
        id="i2v-A14B@2.2.0",
        repo="Wan-AI/Wan2.2-I2V-A14B-Diffusers",
        commit="596658fd9ca6b7b71d5057529bbf319ecbc61d74",
        take=_DIFFUSERS_FILES,
        leave=_STRAYS,
        facts={
            "description": "Image to video, 27B parameters in two experts, 14B active",
            "marks": ["video", "i2v", "gpu80"],
            "pipeline": "WanImageToVideoPipeline",
            **_I2V,
            **_DIFFUSERS,
            "experts": _EXPERTS,
            "boundary_ratio": 0.9,
            "flow_shift": 3.0,
            "guidance": [3.5, 3.5],
        },
        notes=("transformer is the high-noise expert, transformer_2 the low-noise one.",),
    ),
    Model(
        id="ti2v-5B@2.2.0",
        repo="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        commit="b8fff7315c768468a5333511427288870b2e9635",
        take=_DIFFUSERS_FILES,
        leave=_STRAYS,
        facts={
            "description": "Text and image to video, one dense 5B transformer, 720p at 24 fps",
            "marks": ["video", "ti2v", "gpu24"],
            "pipeline": "WanPipeline",
            **_TI2V,
            **_DIFFUSERS,
            "expand_timesteps": True,
            "flow_shift": 5.0,
        },
        notes=("Every file is pinned: this one runs as it is.",),
    ),
)
_NATIVE = (
    Model(
        id="t2v-A14B-native@2.2.0",
        repo="Wan-AI/Wan2.2-T2V-A14B",
        commit=None,
        leave=(*_STRAYS, "configuration.json"),
        listed=True,
        facts={
            "description": "Text to video, A14B, as Wan-Video/Wan2.2 loads it",
            "marks": ["video", "t2v", "gpu80", "native"],
            **_T2V,
            "layout": "native",
            "experts": _NATIVE_EXPERTS,
            "boundary_ratio": 0.875,
            "in_channels": 16,
            "flow_shift": 12.0,
            "guidance": [3.0, 4.0],
        },
        notes=(
            "The commit of this repository is unknown: the hashes alone say what is wanted.",
            "Upstream really ships a nohup.out; it is ignored.",
        ),
    ),
    Model(
        id="i2v-A14B-native@2.2.0",
        repo="Wan-AI/Wan2.2-I2V-A14B",
        commit="206a9ee1b7bfaaf8f7e4d81335650533490646a3",
        leave=_STRAYS,
        listed=True,
        facts={
            "description": "Image to video, A14B, as Wan-Video/Wan2.2 loads it",
            "marks": ["video", "i2v", "gpu80", "native"],
            **_I2V,
            "layout": "native",
            "experts": _NATIVE_EXPERTS,
            "boundary_ratio": 0.9,
            "flow_shift": 5.0,
            "guidance": [3.5, 3.5],
        },
    ),
    Model(
        id="ti2v-5B-native@2.2.0",
        repo="Wan-AI/Wan2.2-TI2V-5B",
        commit="921dbaf3f1674a56f47e83fb80a34bac8a8f203e",
        leave=_STRAYS,
        listed=True,
        facts={
            "description": "Text and image to video, 5B, as Wan-Video/Wan2.2 loads it",
            "marks": ["video", "ti2v", "gpu24", "native"],
            **_TI2V,
            "layout": "native",
            "flow_shift": 5.0,
        },
        notes=("Every file is pinned.",),
    ),
)
_COMFY_22 = "Comfy-Org/Wan_2.2_ComfyUI_Repackaged"
_COMFY_22_COMMIT = "fb1388adc906ab39ffc26ee40e96b22886b56bc4"
_COMFY_21 = "Comfy-Org/Wan_2.1_ComfyUI_repackaged"
_COMFY_21_COMMIT = "06e001fc51048fb03433a6fb25334de7836704a5"
_COMFY = {"layout": "comfyui"}
_SUPPORT = ["comfy-umt5-xxl@2.1.0", "comfy-vae@2.1.0"]


def _comfy(
    model_id: str,
    names: tuple[str, ...],
    *,
    old: bool = False,
    notes: tuple[str, ...] = (),
    variants: Mapping[str, str] | None = None,
    **facts: Any,
) -> Model:
    """A model of a Comfy-Org repository; its files keep their folder, without `split_files/`."""
    repo, commit = (_COMFY_21, _COMFY_21_COMMIT) if old else (_COMFY_22, _COMFY_22_COMMIT)
    return Model(
        id=model_id,
        repo=repo,
        commit=commit,
        take=tuple(f"split_files/{name}" for name in names),
        strip="split_files/",
        listed=True,
        variants=variants or {},
        notes=notes,
        facts={**facts, **_COMFY, **_variant_keys(variants)},
    )


def _variant_keys(variants: Mapping[str, str] | None) -> dict[str, Any]:
    return {"variants": list(variants), "default_variant": next(iter(variants))} if variants else {}


_COMFY_SET = (
    _comfy(
        "comfy-umt5-xxl@2.1.0",
        ("text_encoders/*",),
        old=True,
        description="umt5-xxl text encoder for ComfyUI, scaled fp8 or fp16",
        marks=["comfy"],
        presence="on-demand",
        variants={"fp8": "*fp8*", "fp16": "*fp16*"},
        notes=("Comes along with whatever requires it. Loader: CLIPLoader, type wan.",),
    ),
    _comfy(
        "comfy-vae@2.1.0",
        ("vae/*",),
        old=True,
        description="Wan2.1 VAE for ComfyUI: every 14B model",
        marks=["comfy"],
        presence="on-demand",
    ),
    _comfy(
        "comfy-vae@2.2.0",
        ("vae/wan2.2_vae.safetensors",),
        description="Wan2.2 VAE for ComfyUI: TI2V-5B only",
        marks=["comfy"],
        presence="on-demand",
    ),
    _comfy(
        "comfy-clip-vision-h@2.1.0",
        ("clip_vision/*",),
        old=True,
        description="CLIP ViT-H/14 for ComfyUI: Animate, and Wan2.1 image to video",
        marks=["comfy"],
        presence="on-demand",
    ),
    _comfy(
        "comfy-t2v-A14B@2.2.0",
        ("diffusion_models/wan2.2_t2v_*_fp8_scaled.safetensors",),
        description="Text to video A14B for ComfyUI, scaled fp8",
        marks=["video", "t2v", "comfy", "fp8"],
        requires=_SUPPORT,
        experts=2,
        fps=16,
        frames=81,
        precision="fp8_e4m3fn",
        notes=("The fp16 pair is not here: no public source states its sha256.",),
    ),
    _comfy(
        "comfy-i2v-A14B@2.2.0",
        ("diffusion_models/wan2.2_i2v_*_fp8_scaled.safetensors",),
        description="Image to video A14B for ComfyUI, scaled fp8",
        marks=["video", "i2v", "comfy", "fp8"],
        requires=_SUPPORT,
        experts=2,
        fps=16,
        frames=81,
        precision="fp8_e4m3fn",
        notes=("The fp16 pair is not here: no public source states its sha256.",),
    ),
    _comfy(
        "comfy-ti2v-5B@2.2.0",
        ("diffusion_models/wan2.2_ti2v_5B_fp16.safetensors",),
        description="Text and image to video 5B for ComfyUI, fp16",
        marks=["video", "ti2v", "comfy", "fp16"],
        requires=["comfy-umt5-xxl@2.1.0", "comfy-vae@2.2.0"],
        fps=24,
        frames=121,
        precision="fp16",
    ),
    _comfy(
        "comfy-s2v-14B@2.2.0",
        (
            "diffusion_models/wan2.2_s2v_14B_fp8_scaled.safetensors",
            "audio_encoders/wav2vec2_large_english_fp16.safetensors",
        ),
        description="Speech to video 14B for ComfyUI, scaled fp8",
        marks=["video", "s2v", "comfy", "fp8"],
        presence="on-demand",
        requires=_SUPPORT,
        audio_encoder="wav2vec2-large-xlsr-53-english",
        fps=16,
        frames=80,
        precision="fp8_e4m3fn",
    ),
    Model(
        id="kijai-animate-14B@2.2.0",
        repo="Kijai/WanVideo_comfy_fp8_scaled",
        commit="033a4e487f60220b3d6e469599a6aebc46e13cee",
        take=("Wan22Animate/Wan2_2-Animate-14B_fp8_e4m3fn_scaled_KJ.safetensors",),
        strip="Wan22Animate/",
        listed=True,
        facts={
            "description": "Character animation 14B for ComfyUI, scaled fp8 by Kijai",
            "marks": ["video", "animate", "comfy", "fp8"],
            "requires": [*_SUPPORT, "comfy-clip-vision-h@2.1.0"],
            **_COMFY,
            "image_encoder": "CLIP ViT-H/14",
            "fps": 30,
            "frames": 77,
            "steps": 20,
            "precision": "fp8_e4m3fn",
        },
    ),
    _comfy(
        "lightx2v-t2v-lora@1.1.0",
        ("loras/wan2.2_t2v_lightx2v_4steps_lora_v1.1_*.safetensors",),
        description="lightx2v: text to video in 4 steps, one LoRA for each expert",
        marks=["lora", "t2v", "comfy"],
        requires=["comfy-t2v-A14B@2.2.0"],
        base_model="comfy-t2v-A14B@2.2.0",
        steps=4,
    ),
    _comfy(
        "lightx2v-i2v-lora@1.0.0",
        ("loras/wan2.2_i2v_lightx2v_4steps_lora_v1_*.safetensors",),
        description="lightx2v: image to video in 4 steps, one LoRA for each expert",
        marks=["lora", "i2v", "comfy"],
        requires=["comfy-i2v-A14B@2.2.0"],
        base_model="comfy-i2v-A14B@2.2.0",
        steps=4,
    ),
    Model(
        id="animate-relight-lora@2.2.0",
        repo="Kijai/WanVideo_comfy",
        commit="8260d429d19fd7a72304cad059160b95d843913f",
        take=("LoRAs/Wan22_relight/WanAnimate_relight_lora_fp16.safetensors",),
        strip="LoRAs/Wan22_relight/",
        listed=True,
        facts={
            "description": "Relighting LoRA of Animate-14B, fp16 by Kijai",
            "marks": ["lora", "animate", "comfy"],
            "requires": ["kijai-animate-14B@2.2.0"],
            "base_model": "kijai-animate-14B@2.2.0",
            "layout": "lora",
        },
    ),
)

_HEAD = """\
# {title}
# Made by tests/support/wan22.py out of published sizes and digests; nothing was downloaded.
# {more}
#
# Sources are tried in this order: a mirror folder beside the specs, a bucket, the Hub at a commit.
# Write your own bucket, or delete the line; the hashes in the lock file decide what is accepted.
schema_version = 1
family = "wan22"
"""

SPECS: Mapping[str, tuple[str, tuple[Model, ...]]] = {
    "wan22": (
        _HEAD.format(
            title="WAN2.2 in the Diffusers layout: what WanPipeline loads. No pickle inside.",
            more="One model alone: wanrec plan specs/wan22.toml -k TI2V",
        ),
        _TRIO,
    ),
    "wan22-native": (
        _HEAD.format(
            title="WAN2.2 in the layout of Wan-Video/Wan2.2. T5 and VAE: pickles, let in by name.",
            more="S2V-14B and Animate-14B have to be locked first: docs/locking.md has them.",
        ),
        _NATIVE,
    ),
    "wan22-comfy": (
        _HEAD.format(
            title="WAN2.2 for ComfyUI, from the repackaged single files, and LoRAs on top of them.",
            more="The repositories hold 700 GB and more: only the files named here are taken.",
        ),
        _COMFY_SET,
    ),
}


def main() -> None:
    """Write the generated files into the source tree."""
    top = Path(__file__).resolve().parents[2]
    for path, text in generated().items():
        (top / path).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
