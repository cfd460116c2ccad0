"""A small project on local files: models as dictionaries in, spec and mirror folder out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from support.program import Program

__all__ = ["declare", "spec_text"]

Files = Mapping[str, bytes]


def spec_text(models: Mapping[str, Files], head: str = "", mirror: str = "../mirror") -> str:
    """A spec file for these models; each model's source is its folder of the mirror."""
    blocks = ["schema_version = 1", 'family = "test"', head]
    for model, files in models.items():
        blocks.append(f"[models.{json.dumps(model)}]")
        blocks.append(f"sources = [{json.dumps(f'local://{mirror}/{model}')}]")
        for path, data in files.items():
            blocks += [
                f"[[models.{json.dumps(model)}.files]]",
                f"path = {json.dumps(path)}",
                f"size = {len(data)}",
                f'sha256 = "{hashlib.sha256(data).hexdigest()}"',
            ]
    return "\n".join(blocks) + "\n"


def declare(program: Program, models: Mapping[str, Files], **more: str) -> Path:
    """Write mirror and `specs/models.toml` of a project; returns the spec file."""
    for model, files in models.items():
        for path, data in files.items():
            program.write(f"mirror/{model}/{path}", data)
    return program.write("specs/models.toml", spec_text(models, **more))
