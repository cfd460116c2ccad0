"""The WAN2.2 family in small: the real specs, names and structure, content that is nearly empty.

Each published digest becomes content of its own: files that are equal in reality are equal here,
others are not. Sizes are divided, weights are sparse with an honest safetensors header, an index
names the shards beside it, JSON is filled up with spaces. The lock files are made with the true
digests of this content. `ScaleModel.comfy`, `hub_cache` and `downloaded` lay the same files out
as other programs leave them, by hard links.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.wan22 import SPECS, Model, Row, spec_text
from wanrec.reconcile.lockfile import (
    LockedFile,
    LockedModel,
    LockFile,
    declaration_digest,
    dump_lock,
)
from wanrec.reconcile.manifest import parse_manifest

__all__ = ["SCALE", "ScaleModel"]

SCALE = int(os.environ.get("WANREC_TEST_SCALE", "1000"))
"""How many times smaller files are; 1 makes the family in full size (sparse, but hashed)."""
_UNKNOWN_SIZE = 2_000_000
_SMALLEST = 700


class ScaleModel:
    """A project with the shipped specs, a mirror folder that has everything, and true locks."""

    def __init__(self, project: Path, names: Iterable[str] = SPECS, scale: float = SCALE) -> None:
        self.project = project
        self.scale = scale
        self.names = tuple(names)
        self.digests: dict[str, tuple[str, int]] = {}
        """``ID::PATH`` → sha256 and size."""

    def write(self, *, only: Container[str] | None = None) -> None:
        """Write specs, mirror and lock files.

        Args:
            only: ids of the models that get content; None: all. Of the others there is what plan
                and preflight read.
        """
        models = [model for name in self.names for model in SPECS[name][1]]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            jobs = [(model, path, row) for model in models for path, row in model.files()]
            made = pool.map(lambda job: self._made(*job, only is None or job[0].id in only), jobs)
            self.digests = {
                f"{model.id}::{path}": found
                for (model, path, _), found in zip(jobs, made, strict=True)
            }
        for name in self.names:
            head, models = SPECS[name]
            text = spec_text(head, models)
            target = self.project / f"specs/{name}.toml"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            decls = {decl.id: decl for decl in parse_manifest(text.encode(), name).models}
            locked = {
                model.id: LockedModel(
                    spec_sha256=declaration_digest(decls[model.id]), files=tuple(self._model(model))
                )
                for model in models
            }
            lock = dump_lock(LockFile(path=name, models=locked))
            (self.project / f"specs/{name}.lock.toml").write_text(lock, encoding="utf-8")

    def unique_bytes(self, names: Iterable[str]) -> tuple[int, int]:
        """Sum of all files, and of distinct content, of these specs."""
        ids = {model.id for name in names for model in SPECS[name][1]}
        found = [v for address, v in self.digests.items() if address.partition("::")[0] in ids]
        return sum(size for _, size in found), sum(size for _, size in set(found))

    def place(self, model: Model, row: Row) -> Path:
        """Where a file lies in the mirror."""
        return self.project / "mirror/wan22" / model.id / row.path

    def hub_cache(self, name: str, top: Path) -> None:
        """Lay a spec out as a HuggingFace cache: blobs, and a snapshot of links to them."""
        for model in SPECS[name][1]:
            repo = top / f"models--{model.repo.replace('/', '--')}"
            for path, row in model.files():
                blob = repo / "blobs" / self.digests[f"{model.id}::{path}"][0]
                _linked(self.place(model, row), blob)
                link = repo / "snapshots" / (model.commit or "0" * 40) / row.path
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(os.path.relpath(blob, link.parent))

    def downloaded(self, name: str, top: Path) -> None:
        """Lay a spec out as `hf download --local-dir` does: a folder each, with its bookkeeping."""
        for model in SPECS[name][1]:
            folder = top / model.repo.rpartition("/")[2]
            for _, row in model.files():
                _linked(self.place(model, row), folder / row.path)
                note = folder / ".cache/huggingface/download" / f"{row.path}.metadata"
                note.parent.mkdir(parents=True, exist_ok=True)
                note.write_text(f"{model.commit}\n{row.sha256}\n1700000000.0\n")

    def comfy(self, name: str, top: Path) -> None:
        """Lay a spec out as ComfyUI's `models` folder: by kind of file, all models together."""
        for model in SPECS[name][1]:
            for _, row in model.files():
                kind, _, file = row.path.removeprefix("split_files/").rpartition("/")
                _linked(self.place(model, row), top / (kind or "loras") / file)

    def _made(self, model: Model, path: str, row: Row, content: bool) -> tuple[str, int]:
        seed = row.sha256 or f"{row.repo}/{row.path}"
        if not content:
            return hashlib.sha256(seed.encode()).hexdigest(), _scaled(row, self.scale)
        shards = [path for path, _ in model.files() if path.endswith(".safetensors")]
        place = self.place(model, row)
        size = _write(place, seed, _scaled(row, self.scale), _named_by(path, shards))
        with place.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), size

    def _model(self, model: Model) -> Iterator[LockedFile]:
        for path, row in model.files():
            sha256, size = self.digests[f"{model.id}::{path}"]
            yield LockedFile(
                path=path,
                size=size,
                sha256=sha256,
                source_path=row.path if row.path != path else None,
                variant=model.variant_of(row),
            )

    def drop_mirror(self) -> None:
        """Take the only source away."""
        shutil.rmtree(self.project / "mirror")


def _scaled(row: Row, scale: float) -> int:
    size = row.size if row.size is not None else _UNKNOWN_SIZE
    return size if scale == 1 else max(int(size / scale), _SMALLEST)


def _linked(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        os.link(source, target)


def _named_by(path: str, shards: list[str]) -> list[str]:
    """The shards an index has to name."""
    folder = path.rpartition("/")[0]
    stem = path.removesuffix(".safetensors.index.json")
    if stem == path:
        return []
    numbered = re.compile(re.escape(stem) + r"-\d+-of-\d+\.safetensors").fullmatch
    return [shard[len(folder) + 1 if folder else 0 :] for shard in shards if numbered(shard)]


def _write(place: Path, seed: str, size: int, shards: list[str]) -> int:
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.suffix == ".json":
        weights = {f"weight.{number}": shard for number, shard in enumerate(shards)}
        document = {"seed": seed, "weight_map": weights} if shards else {"seed": seed}
        data = json.dumps(document).encode().ljust(size)
        place.write_bytes(data)
        return len(data)
    if place.suffix == ".safetensors":
        head = _header(seed, size)
        size = max(size, len(head))
    else:
        head = f"scale model {seed}\n".encode()
    with place.open("wb") as file:
        file.write(head)
        file.truncate(size)
    return size


def _header(seed: str, size: int) -> bytes:
    """A safetensors header for one tensor that fills the file."""
    room = size - 400
    tensor = {"dtype": "U8", "shape": [room], "data_offsets": [0, room]}
    header = json.dumps({"__metadata__": {"seed": seed}, "weight": tensor}).encode()
    return (392).to_bytes(8, "little") + header.ljust(392)
