"""What a legacy tree is: which of its folders holds which model, and how sure that is.

Pure judgement over what `adopt` found. By hash: the share of a model's bytes whose content lies in
the folder. By name: the share of its file names that do. Only the hash decides what is taken over;
a name without its content says that a file is damaged, cut short, or of another version.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from wanrec.reconcile.model import DesiredModel

__all__ = ["Recognised", "as_json", "recognise"]

_GREATER_PART = 0.5


class Recognised(NamedTuple):
    """One folder and the model it most likely holds; shares are between 0 and 1."""

    folder: str
    model: str
    by_hash: float
    by_name: float


def recognise(
    top: Path, copies: Mapping[str, Iterable[str]], models: Iterable[DesiredModel]
) -> list[Recognised]:
    """Judge every folder directly below `top`; those that fit no model are left out.

    A folder is said to hold the model that fits best, and every other one whose content lies in it
    for the greater part: trees by publisher have several models in one folder. Files directly in
    `top` are judged as the folder ``.``.

    Args:
        top: the legacy tree.
        copies: sha256 → where this content lies.
        models: what the folders may be.
    """
    base = os.path.realpath(top)
    inside: dict[str, set[str]] = {}
    for sha256, places in copies.items():
        for place in places:
            first, *below = Path(os.path.relpath(place, base)).parts
            inside.setdefault(first if below else ".", set()).add(sha256)
    wanted = [model for model in models if model.files]
    found = []
    for folder, names in sorted(_names(top).items()):
        rows = [
            Recognised(folder, model.key, *_shares(model, inside.get(folder, ()), names))
            for model in wanted
        ]
        rows.sort(key=lambda row: (-row.by_hash, -row.by_name, row.model))
        found += [row for row in rows[:1] if row.by_hash or row.by_name]
        found += [row for row in rows[1:] if row.by_hash > _GREATER_PART]
    return found


def _names(top: Path) -> dict[str, set[str]]:
    """Folder directly below → the names of all files in it."""
    entries = list(top.iterdir())
    found = {
        folder.name: {name for _, _, files in os.walk(folder) for name in files}
        for folder in entries
        if folder.is_dir()
    }
    return {**found, ".": {entry.name for entry in entries if entry.is_file()}}


def _shares(
    model: DesiredModel, content: Iterable[str], names: Iterable[str]
) -> tuple[float, float]:
    have, called = frozenset(content), frozenset(names)
    total = sum(file.size or 0 for file in model.files)
    bytes_found = sum(file.size or 0 for file in model.files if file.sha256 in have)
    by_name = sum(PurePosixPath(file.path).name in called for file in model.files)
    return (bytes_found / total if total else 0.0), by_name / len(model.files)


def as_json(rows: Iterable[Recognised]) -> list[Mapping[str, object]]:
    """Rows of the JSON document; shares in whole percent."""
    return [
        {
            "folder": row.folder,
            "model": row.model,
            "by_hash_percent": int(row.by_hash * 100),
            "by_name_percent": int(row.by_name * 100),
        }
        for row in rows
    ]
