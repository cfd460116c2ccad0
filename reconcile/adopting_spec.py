"""`wanrec adopt --write-spec`: an unknown folder becomes a spec and its lock file.

A snapshot of a HuggingFace cache becomes a model whose source is the Hub at that commit; any other
folder becomes one model whose source is the folder. Pickles are left out, and named.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import attrs

from wanrec.providers.base import ProviderContext
from wanrec.reconcile.adopting_scan import Obstacle, refusal, scan
from wanrec.reconcile.disk import Root
from wanrec.reconcile.engine_files import write_output
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.lockfile import (
    LockedModel,
    LockFile,
    declaration_digest,
    dump_lock,
    lock_path,
)
from wanrec.reconcile.locking_model import pin_model
from wanrec.reconcile.locking_sources import Desk
from wanrec.reconcile.manifest import parse_manifest
from wanrec.reconcile.manifest_schema import PICKLE_SUFFIXES

if TYPE_CHECKING:
    from wanrec.reconcile.manifest_models import ModelDecl
    from wanrec.reconcile.workbench import Workbench

__all__ = ["write_spec_of"]

_cache_folder = re.compile(r"models--([A-Za-z0-9._-]+?)--([A-Za-z0-9._-]+)").fullmatch
_commit = re.compile(r"[0-9a-f]{40}").fullmatch
_IGNORED = (*(f"*{suffix}" for suffix in PICKLE_SUFFIXES), ".gitattributes")


class _Part(NamedTuple):
    """One model to be: its id, where its files lie, and the source to write down."""

    id: str
    folder: Path
    source: str


def write_spec_of(
    bench: Workbench, folder: Path, spec: Path, warn: Callable[[str], None] | None = None
) -> str:
    """Write spec and lock; returns what to tell the user.

    Args:
        bench: settings and environment.
        folder: what is to be described.
        spec: the file to write; its lock file lies beside it.
        warn: told what is passed over; None: such things are errors.

    Raises:
        WanrecError: INVALID_CONFIG for a folder that is none, a name that is taken or no ``.toml``,
            and of the root; NOT_FOUND_AT_SOURCE when nothing is left; UNSAFE_PATH,
            PERMISSION_DENIED and others for what cannot be looked at; disk errors.
    """
    if not folder.is_dir():
        raise WanrecError(ErrorCode.INVALID_CONFIG, f"{folder}: no such folder", where=str(folder))
    if spec.suffix != ".toml" or spec.exists():
        what = "is there already" if spec.exists() else "must end in .toml"
        raise WanrecError(ErrorCode.INVALID_CONFIG, f"{spec} {what}", where=str(spec))
    Root.open(bench.root).close()  # else the spec would be in the way of the next try
    _look_around(folder, warn)
    parts = _cache_parts(folder) or [_plain_part(folder, spec)]
    text = _spec_text(parts)
    declared = {decl.id: decl for decl in parse_manifest(text.encode(), spec.name).models}
    models = {part.id: _pinned(bench, part, declared[part.id]) for part in parts}
    lock = LockFile(path=lock_path(spec.name), models=models)
    spec.parent.mkdir(parents=True, exist_ok=True)
    write_output(spec.with_name(lock.path), dump_lock(lock).encode())
    write_output(spec, text.encode())
    return f"Wrote {spec} and {lock.path}. Pickles and .gitattributes are left out."


def _look_around(folder: Path, warn: Callable[[str], None] | None) -> None:
    obstacles: list[Obstacle] = []
    scan(str(folder), _AnySize(), obstacles.append)
    for obstacle in obstacles:
        if warn is None:
            raise refusal(obstacles, "put it right, or pass over it with --keep-going")
        warn(f"passed over {obstacle}")


class _AnySize:
    """Every size is of interest."""

    def __contains__(self, size: object) -> bool:
        return True


def _cache_parts(folder: Path) -> list[_Part]:
    """The newest snapshot of every repository of a HuggingFace cache, or of one repository."""
    repos = [folder] if _cache_folder(folder.name) else sorted(folder.glob("models--*"))
    parts: dict[str, _Part] = {}
    for repo in repos:
        match = _cache_folder(repo.name)
        snapshots = [s for s in repo.glob("snapshots/*") if s.is_dir() and _commit(s.name)]
        if match is None or not snapshots:
            continue
        newest = max(snapshots, key=lambda place: (place.stat().st_mtime_ns, place.name))
        source = f"hf://{match[1]}/{match[2]}@{newest.name}"
        model = f"{match[2]}@1.0.0"
        if model in parts:
            model = f"{match[1]}-{match[2]}@1.0.0"
        parts[model] = _Part(model, newest, source)
    return list(parts.values())


def _plain_part(folder: Path, spec: Path) -> _Part:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._") or "model"
    try:
        source = os.path.relpath(folder.resolve(), spec.resolve().parent).replace(os.sep, "/")
    except ValueError:  # another drive on Windows
        source = folder.resolve().as_posix()
    return _Part(f"{name}@1.0.0", folder, f"local://{source}")


def _spec_text(parts: list[_Part]) -> str:
    lines = ["# Written by `wanrec adopt --write-spec`; edit it as you like.", "schema_version = 1"]
    for part in parts:
        lines += [
            "",
            f"[models.{json.dumps(part.id)}]",
            f"sources = [{json.dumps(part.source, ensure_ascii=False)}]",
            f"ignore_patterns = {json.dumps(_IGNORED)}",
        ]
    return "\n".join(lines) + "\n"


def _pinned(bench: Workbench, part: _Part, decl: ModelDecl) -> LockedModel:
    """The entry, from the files that lie there; it is written for the source of the spec."""
    here = attrs.evolve(decl, sources=(f"local://{part.folder.resolve().as_posix()}",))
    desk = Desk(
        context=ProviderContext(base=part.folder, environ=bench.environ),
        warn=lambda _: None,
        progress=lambda _: None,
        stop=_Never(),
        threads=bench.settings.parallelism,
    )
    pinned = pin_model(here, None, desk)
    commit = part.source.partition("@")[2] if part.source.startswith("hf://") else ""
    return attrs.evolve(
        pinned,
        spec_sha256=declaration_digest(decl),
        revisions={part.source: commit} if commit else {},
    )


class _Never:
    """Asks for no stop."""

    def is_set(self) -> bool:
        """False."""
        return False
