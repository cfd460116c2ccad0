"""What a pipeline is made of, takes and needs: rules on declared models."""

from __future__ import annotations

import pytest

from wanrec.reconcile.model import DesiredModel, FileSpec, ModelFacts, Presence
from wanrec.reconcile.pipeline_rules import (
    Task,
    estimate_vram,
    input_faults,
    is_overlay,
    required_roles,
    roles_of,
    task_of,
)


def model(*paths: str, name: str = "x", version: str = "2.2.0", **facts: object) -> DesiredModel:
    """A declared model of 100-byte files; the first folder of a path is its component."""
    files = tuple(
        FileSpec(path=path, size=100, component=path.partition("/")[0] if "/" in path else None)
        for path in paths
    )
    return DesiredModel(
        key=f"{name}@{version}",
        id=f"{name}@{version}",
        name=name,
        version=version,
        variant=None,
        family="wan22",
        directory=f"wan22/{name}@{version}",
        files=files,
        sources=(),
        presence=Presence.REQUIRED,
        facts=ModelFacts(values=facts),
    )


@pytest.mark.parametrize(
    ("facts", "name", "expected"),
    [
        ({"task": "text-to-video"}, "x", Task.T2V),
        ({"model_type": "i2v"}, "x", Task.I2V),
        ({}, "ti2v-5B", Task.TI2V),
        ({}, "kijai-animate-14B", Task.ANIMATE),
        ({"task": "voice-activity"}, "silero-vad", None),
    ],
)
def test_task(facts: dict[str, object], name: str, expected: Task | None) -> None:
    """Facts say the task, also under their earlier name; else the model's name does."""
    assert task_of(model(name=name, **facts)) is expected


@pytest.mark.parametrize(
    ("declared", "needed"),
    [
        (model(task="image-to-video", experts=2), False),
        (model(task="image-to-video", version="2.1.0"), True),
        (model(task="character-animation"), True),
        (model(task="text-to-video", image_encoder="CLIP ViT-H/14"), True),
    ],
)
def test_who_needs_an_image_encoder(declared: DesiredModel, needed: bool) -> None:
    """Wan2.2 image to video has none; Wan2.1 image to video and Animate need CLIP."""
    assert ("image_encoder" in required_roles(declared)) is needed


def test_stated_components_are_required() -> None:
    """`required_components` adds to what the task needs, and is all there is without a task."""
    plain = model("vad/model.onnx", required_components=("vad", "labels"))
    assert required_roles(plain) == ("vad", "labels")
    assert "second" in required_roles(model(task="t2v", required_components=("second",)))
    assert required_roles(model("vad/model.onnx")) == ()


def test_roles_of_other_models_are_their_folders() -> None:
    """A model without a known layout has the components its paths name."""
    roles = roles_of(model("vad/a.onnx", "vad/b.onnx", "README.md"))
    assert {name: (role.path, role.size) for name, role in roles.items()} == {"vad": ("vad", 200)}


def test_overlays_are_models_of_nothing_but_loras() -> None:
    """A LoRA's files are all LoRA; one beside a transformer is part of the model."""
    assert is_overlay(model("loras/a_lora_high_noise.safetensors", layout="comfyui"))
    assert not is_overlay(model("diffusion_models/x.safetensors", layout="comfyui"))
    assert not is_overlay(model("relighting_lora.ckpt", "models_t5_x.pth", layout="native"))
    assert not is_overlay(model())


@pytest.mark.parametrize(
    ("task", "given", "sizes", "fault"),
    [
        (Task.T2V, (), {}, None),
        (Task.T2V, ("image",), {}, "t2v takes no input 'image'"),
        (Task.I2V, ("image",), {}, None),
        (Task.I2V, (), {}, "i2v needs an input 'image'"),
        (Task.TI2V, (), {}, None),
        (Task.TI2V, ("image",), {}, None),
        (Task.TI2V, (), {"height": 720}, "height must be a multiple of 32, not 720"),
        (Task.TI2V, (), {"width": 1280, "height": 704, "frames": 121}, None),
        (Task.T2V, (), {"width": 1280, "height": 720, "frames": 81}, None),
        (Task.T2V, (), {"frames": 80}, "frames must be 4 n + 1, not 80"),
        (Task.S2V, ("image", "audio"), {"frames": 80}, None),
        (Task.S2V, ("image",), {}, "s2v needs an input 'audio'"),
        (Task.ANIMATE, ("image",), {}, "animate needs an input 'video'"),
        (None, ("image", "audio"), {"frames": 2}, None),
    ],
)
def test_inputs(
    task: Task | None, given: tuple[str, ...], sizes: dict[str, int], fault: str | None
) -> None:
    """A request is refused in one line when the pipeline cannot answer it."""
    assert input_faults(task, given, **sizes) == ([fault] if fault else [])


def test_memory_follows_parameters_and_precision() -> None:
    """bf16 halves an F32 transformer, fp8 quarters it; known encoders go by their parameters."""
    declared = model(
        "transformer/model.safetensors",
        "text_encoder/model.safetensors",
        "vae/model.safetensors",
        dtype="float32",
        text_encoder="umt5-xxl",
        vae="Wan2.1",
        vram_gb=80,
    )
    roles = roles_of(declared)
    half, quarter = (estimate_vram(declared, roles, word) for word in ("bf16", "fp8"))
    assert (half.weights["transformer"], quarter.weights["transformer"]) == (50, 25)
    assert half.weights["text_encoder"] == 2 * 5_680_910_336
    assert half.weights["vae"] == 4 * 126_892_531
    assert half.resident == int(sum(half.weights.values()) * 1.2)
    assert half.offload == int(half.weights["text_encoder"] * 1.2)
    assert half.published == 80_000_000_000


def test_memory_of_quantised_files_is_their_size() -> None:
    """Files that are stored in the precision they are used in count as they are."""
    declared = model("diffusion_models/x_fp8.safetensors", layout="comfyui", precision="fp8")
    assert estimate_vram(declared, roles_of(declared)).weights == {"transformer": 100}
