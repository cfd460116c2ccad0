"""Where the values of a model come from that it does not have itself, for `collect -v`.

Reads the spec and the `defaults.toml` files above it once more; only people who ask pay for it.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from wanrec.reconcile.collect import read_file
from wanrec.reconcile.collect_find import DEFAULTS_FILE

__all__ = ["model_origins"]


def model_origins(
    project_dir: Path, spec: str, read: Callable[[Path], bytes] = read_file
) -> dict[str, tuple[str, ...]]:
    """Return model id → lines ``KEY = VALUE  from FILE``, for the keys it has by default.

    Args:
        project_dir: what spec paths are relative to.
        spec: a spec file that was read without faults.
        read: how files are read.
    """
    document = tomllib.loads(read(project_dir / spec).decode("utf-8-sig"))
    layers = [(f"{spec} [defaults]", document), *_above(project_dir, spec, read)]
    found = {}
    for model, block in document.get("models", {}).items():
        lines = [
            f"{key} = {json.dumps(value, ensure_ascii=False)}  from {origin}"
            for key, (value, origin) in sorted(_inherited(layers).items())
            if key not in block
        ]
        found[model] = tuple(lines)
    return found


def _above(
    project_dir: Path, spec: str, read: Callable[[Path], bytes]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for folder in PurePosixPath(spec).parents:
        place = (folder / DEFAULTS_FILE).as_posix()
        try:
            yield place, tomllib.loads(read(project_dir / place).decode("utf-8-sig"))
        except FileNotFoundError:
            continue


def _inherited(
    layers: list[tuple[str, Mapping[str, Any]]],
) -> dict[str, tuple[Any, str]]:
    """The nearest layer that has a key gives its value."""
    values: dict[str, tuple[Any, str]] = {}
    for origin, layer in reversed(layers):
        if "family" in layer:
            values["family"] = (layer["family"], origin.removesuffix(" [defaults]"))
        values |= {key: (value, origin) for key, value in layer.get("defaults", {}).items()}
    return values
