"""The keys a spec file may hold, as tables: kind, limits and one line of documentation each.

The validator (`manifest`), the JSON Schema (`schema`) and the reference in the docs all read
these tables, so they cannot disagree. Data only; nothing is checked here.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

__all__ = [
    "DEFAULTS_FILE_KEYS",
    "FACT_KEYS",
    "FILE_KEYS",
    "MAX_ENTRIES",
    "MAX_KEY_PARTS",
    "MAX_MANIFEST_BYTES",
    "MAX_SIZE",
    "MODEL_KEYS",
    "MOVED_KEYS",
    "PICKLE_SUFFIXES",
    "POLICY_KEYS",
    "REMOVED_KEYS",
    "SCHEMA_VERSION",
    "SOURCES_KEYS",
    "TEMPLATE_WORDS",
    "TOP_KEYS",
    "Key",
    "Kind",
]

SCHEMA_VERSION = 1
MAX_MANIFEST_BYTES = 32 * 1024 * 1024
MAX_ENTRIES = 1_000_000
"""Values in one file, counted by `=` and `,`; about 250,000 files."""
MAX_KEY_PARTS = 16
"""Parts of one dotted key; a deeper key costs tomllib time and memory by the square."""
MAX_SIZE = 2**63 - 1
PICKLE_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".pkl")
TEMPLATE_WORDS = ("family", "id", "name", "variant", "version")


class Kind(enum.StrEnum):
    """What a value must be. TOML booleans are never numbers here."""

    STRING = "a string"
    INTEGER = "an integer"
    NUMBER = "a number"
    NUMBERS = "a number or a list of numbers"
    BOOLEAN = "true or false"
    STRINGS = "a list of strings"
    STRING_OR_STRINGS = "a string or a list of strings"
    COUNT_OR_NAMES = "an integer or a list of strings"
    SHA256 = "64 hexadecimal digits"
    PATH = "a relative POSIX path, as a string"
    TABLE = "a table"
    TABLES = "a list of tables"
    SOURCES = "a list of URLs, or a table with priority"
    FREE = "a table of plain values"
    ANYTHING = "a table of anything"


class Key(NamedTuple):
    """One key: its kind, what it means, and the limits of its value (inclusive)."""

    kind: Kind
    doc: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    required: bool = False


FACT_KEYS: Mapping[str, Key] = {
    "active_params_billion": Key(Kind.NUMBER, "Parameters used per step, in billions", 0),
    "audio_encoder": Key(Kind.STRING, "Audio encoder, for example wav2vec2-large-xlsr-53-english"),
    "base_model": Key(Kind.STRING, "Model this one was made from or is an add-on for"),
    "boundary_ratio": Key(Kind.NUMBER, "Share of timesteps where the experts change", 0, 1),
    "defaults": Key(Kind.FREE, "Call defaults handed to the pipeline as they are"),
    "dtype": Key(Kind.STRING, "Number format the weights are stored in, for example bfloat16"),
    "expand_timesteps": Key(Kind.BOOLEAN, "One timestep per latent patch (TI2V-5B)"),
    "experts": Key(Kind.COUNT_OR_NAMES, "Number of experts, or the components that hold them"),
    "flow_shift": Key(Kind.NUMBER, "Shift of the flow-matching scheduler", 0),
    "fps": Key(Kind.NUMBER, "Native frames per second", 0),
    "frames": Key(Kind.INTEGER, "Native number of frames of a clip", 1),
    "guidance": Key(Kind.NUMBERS, "Guidance scale; with two experts: low, high", 0),
    "guidance_scale": Key(Kind.NUMBERS, "Earlier name of guidance", 0),
    "height": Key(Kind.INTEGER, "Native height in pixels", 1),
    "homepage": Key(Kind.STRING, "Where people read about the model"),
    "image_encoder": Key(Kind.STRING, "Image encoder, for example CLIP ViT-H/14"),
    "in_channels": Key(Kind.INTEGER, "Latent channels the transformer takes", 1),
    "layout": Key(Kind.STRING, "Repository layout: diffusers, native, comfyui, gguf or lora"),
    "license": Key(Kind.STRING, "SPDX name of the licence"),
    "lora_required": Key(Kind.BOOLEAN, "The pipeline does not run without a LoRA"),
    "lora_scale": Key(Kind.NUMBER, "Default strength of a LoRA"),
    "max_sequence_length": Key(Kind.INTEGER, "Longest prompt in tokens", 1),
    "model_type": Key(Kind.STRING, "Earlier name of task"),
    "params_billion": Key(Kind.NUMBER, "All parameters, in billions", 0),
    "pipeline": Key(Kind.STRING, "Pipeline class, for example WanPipeline"),
    "precision": Key(Kind.STRING, "Precision to compute in, for example bf16"),
    "quantization": Key(Kind.STRING, "Quantisation of the weights, for example Q4_K_M"),
    "required_components": Key(Kind.STRINGS, "Components the pipeline cannot do without"),
    "resolution_caps": Key(Kind.STRING_OR_STRINGS, "Resolutions it can make, for example 720p24"),
    "scheduler": Key(Kind.STRING, "Scheduler class, for example UniPCMultistepScheduler"),
    "steps": Key(Kind.INTEGER, "Default number of inference steps", 1),
    "task": Key(Kind.STRING, "What it does, for example text-to-video"),
    "text_encoder": Key(Kind.STRING, "Text encoder, for example umt5-xxl"),
    "tokenizer": Key(Kind.STRING, "Tokenizer, for example google/umt5-xxl"),
    "vae": Key(Kind.STRING, "VAE the latents belong to, for example Wan2.1"),
    "vram_estimation": Key(Kind.FREE, "Figures for the loader's memory estimate"),
    "vram_gb": Key(Kind.NUMBER, "Video memory one run needs, in GB", 0),
    "width": Key(Kind.INTEGER, "Native width in pixels", 1),
}
"""Facts for the pipeline loader: a closed list, no plan depends on them."""

MODEL_KEYS: Mapping[str, Key] = {
    "description": Key(Kind.STRING, "One line for people"),
    "version": Key(Kind.STRING, "Must agree with the id"),
    "variants": Key(Kind.STRINGS, "Names of the variants"),
    "default_variant": Key(Kind.STRING, "Required with variants"),
    "install": Key(Kind.STRING_OR_STRINGS, '"default", "all", or a list of variants'),
    "presence": Key(
        Kind.STRING,
        "required: every apply brings it; on-demand: only ensure does, and gc may evict it",
        choices=("required", "on-demand"),
    ),
    "protect": Key(Kind.BOOLEAN, "Kept in the state: dropping the block does not allow the delete"),
    "marks": Key(Kind.STRINGS, "Words for -m"),
    "requires": Key(Kind.STRINGS, "Models that must be there first"),
    "optional_components": Key(Kind.STRINGS, "Not installed unless components names them"),
    "components": Key(Kind.STRINGS, "Install only these, and files without a component"),
    "sources": Key(Kind.SOURCES, "Where the files come from, in the order they are tried"),
    "allow_patterns": Key(Kind.STRINGS, "Only these files (shell patterns)"),
    "ignore_patterns": Key(Kind.STRINGS, "Not these files (shell patterns)"),
    "files": Key(Kind.TABLES, "The files; absent when the lock file lists them"),
    "moved": Key(Kind.TABLES, "Renames on disk that need no download"),
    "meta": Key(Kind.ANYTHING, "Yours; wanrec does not look inside"),
    **FACT_KEYS,
}

FILE_KEYS: Mapping[str, Key] = {
    "path": Key(Kind.PATH, "Name inside the model directory", required=True),
    "size": Key(Kind.INTEGER, "Bytes", 0, MAX_SIZE),
    "sha256": Key(Kind.SHA256, "Digest of the content"),
    "component": Key(Kind.STRING, "Part of the pipeline; default: first folder of the path"),
    "variant": Key(Kind.STRING, "Only in this variant"),
    "optional": Key(Kind.BOOLEAN, "Installed, but its failure only warns"),
    "allow_pickle": Key(Kind.STRING, "The reason that lifts the pickle policy for this file"),
    "source_path": Key(Kind.PATH, "Its name at the source, when that differs"),
    "shard_index": Key(Kind.BOOLEAN, "Earlier schema: this is the index of sharded weights"),
    "shard_part": Key(Kind.INTEGER, "Earlier schema: number of the shard", 0),
    "meta": MODEL_KEYS["meta"],
}

SOURCES_KEYS: Mapping[str, Key] = {
    "priority": Key(Kind.STRINGS, "Source URLs in the order they are tried", required=True),
    "allow_patterns": MODEL_KEYS["allow_patterns"],
    "ignore_patterns": MODEL_KEYS["ignore_patterns"],
}

POLICY_KEYS: Mapping[str, Key] = {
    "allow_pickle": Key(Kind.BOOLEAN, "Allow files that can run code when they are loaded"),
    "require_sha256": Key(Kind.BOOLEAN, "Refuse files without a digest in spec or lock file"),
    "max_delete": Key(
        Kind.NUMBER,
        "Most that one plan may delete of this project's models: a float is a share of 1,"
        " an integer a count",
        0,
    ),
}

MOVED_KEYS: Mapping[str, Key] = {
    "from": Key(Kind.PATH, "The old path", required=True),
    "to": Key(Kind.PATH, "The new path", required=True),
}

REMOVED_KEYS: Mapping[str, Key] = {
    "model": Key(Kind.STRING, "Id of the model to let go of", required=True),
    "delete": Key(Kind.BOOLEAN, "false: forget it, its files stay"),
}

TOP_KEYS: Mapping[str, Key] = {
    "schema_version": Key(Kind.INTEGER, "Version of this format", 1, 1, required=True),
    "family": Key(Kind.STRING, "First folder of the model directories"),
    "defaults": Key(Kind.TABLE, "Any model key; a model's own value wins"),
    "policy": Key(Kind.TABLE, "What this project allows"),
    "models": Key(Kind.TABLE, "The models, by NAME@VERSION"),
    "removed": Key(Kind.TABLES, "Models to let go of"),
    "meta": MODEL_KEYS["meta"],
}

DEFAULTS_FILE_KEYS: Mapping[str, Key] = {
    name: TOP_KEYS[name] for name in ("schema_version", "family", "defaults", "policy", "meta")
}
"""Keys of a `defaults.toml`."""
