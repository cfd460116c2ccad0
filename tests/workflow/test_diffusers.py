"""The pipeline loader with diffusers itself, where it is installed: small random weights, a CPU."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest
from support.program import Program
from support.small import declare

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("diffusers", "torch")),
        reason='needs the extra: pip install "wanrec[diffusers]"',
    ),
]

MAKE = """
import sys
from diffusers import (
    AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import T5TokenizerFast, UMT5Config, UMT5EncoderModel

letters = [(letter, -2.0) for letter in "\\u2581abcdefghijklmnopqrstuvwxyz"]
vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *letters]
tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
config = UMT5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4)

def expert():
    return WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=16,
        out_channels=16, text_dim=32, freq_dim=256, ffn_dim=32, num_layers=2, rope_max_seq_len=32,
    )

WanPipeline(
    tokenizer=T5TokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
    ),
    text_encoder=UMT5EncoderModel(config),
    vae=AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
        temperal_downsample=[False, True, True],
    ),
    scheduler=UniPCMultistepScheduler(flow_shift=3.0),
    transformer=expert(),
    transformer_2=expert(),
    boundary_ratio=0.875,
).save_pretrained(sys.argv[1], max_shard_size="40KB")
"""
RUN = """
import json, sys
from wanrec import pipelines

paths = pipelines.resolve("t2v-tiny")
before = "diffusers" in sys.modules
pipe = pipelines.load("t2v-tiny")
frames = pipe(
    "a cat", height=16, width=16, num_frames=9, num_inference_steps=2, guidance_scale=1.0,
    max_sequence_length=16, output_type="np",
).frames
print(json.dumps({
    "components": sorted(paths.components), "before": before, "class": type(pipe).__name__,
    "named": paths.pipeline_class, "boundary": pipe.config.boundary_ratio, "shape": frames.shape,
}))
"""


def python(program: Program, code: str, *words: str) -> str:
    """Run a script in the project; its last line."""
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=program.project,
        env=program.environment(HF_HUB_OFFLINE="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().rpartition("\n")[2]


def test_two_experts_are_loaded_and_run(wanrec: Program) -> None:
    """resolve, load and two steps of a tiny T2V with both experts, with its spec and without."""
    made = wanrec.home / "made"
    python(wanrec, MAKE, str(made))
    files = {
        path.relative_to(made).as_posix(): path.read_bytes()
        for path in made.rglob("*")
        if path.is_file()
    }
    assert any("-of-" in name for name in files), "sharded, so that an index is checked"
    spec = declare(wanrec, {"t2v-tiny@2.2.0": files})
    answers = [json.loads(python(wanrec, RUN))]
    spec.unlink()
    answers.append(json.loads(python(wanrec, RUN)))
    parts = ["scheduler", "text_encoder", "tokenizer", "transformer", "transformer_2", "vae"]
    for answer in answers:
        assert answer == {
            "components": parts,
            "before": False,
            "class": "WanPipeline",
            "named": "WanPipeline",
            "boundary": 0.875,
            "shape": [1, 9, 16, 16, 3],
        }
