"""Small projects with true hashes: a mirror folder with content, and the spec that wants it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from support.program import Program

__all__ = ["declare", "mirror", "spec_text"]


def declare(files: Mapping[str, bytes], source: str, **keys: Any) -> dict[str, Any]:
    """A model table that wants these files, with their real sizes and hashes, from one source."""
    return {
        **keys,
        "files": [
            {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for path, data in files.items()
        ],
        "sources": {"priority": [source]},
    }


def spec_text(models: Mapping[str, Mapping[str, Any]], **top: Any) -> str:
    """A spec file of these model tables."""
    return tomli_w.dumps({"schema_version": 1, **top, "models": dict(models)})


def mirror(program: Program, name: str, files: Mapping[str, bytes]) -> str:
    """Write the files into a mirror folder of the project; return its source URL."""
    folder = program.project / "mirror" / name
    for path, data in files.items():
        target = Path(folder, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return f"local://../mirror/{name}"
