"""``NAME.lock.toml`` ↔ `LockFile`: what `wanrec lock` pinned, beside the spec it pins.

The values, their digests and their text; `lockfile_parse` reads it. An entry adds what a
declaration left open (size, sha256, the file list itself, the commit of a source); it never
overrules one. `declaration_digest` says which parts of a declaration an entry depends on: when it
differs, the entry is outdated. Each entry carries a digest of itself, so that an edit by hand is
seen; that is no signature.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import attrs

from wanrec.reconcile.manifest_models import ModelDecl
from wanrec.reconcile.manifest_schema import FILE_KEYS, Key, Kind

__all__ = [
    "LOCK_FILE_KEYS",
    "LOCK_KEYS",
    "LOCK_MODEL_KEYS",
    "LOCK_SCHEMA_VERSION",
    "LockFile",
    "LockedFile",
    "LockedModel",
    "declaration_digest",
    "dump_lock",
    "entry_digest",
    "lock_path",
    "pin_source",
]

LOCK_SCHEMA_VERSION = 1
LOCK_KEYS: Mapping[str, Key] = {
    "schema_version": Key(Kind.INTEGER, "Version of this format", 1, 1, required=True),
    "models": Key(Kind.TABLE, "The pinned models, by NAME@VERSION"),
}
LOCK_MODEL_KEYS: Mapping[str, Key] = {
    "spec_sha256": Key(Kind.SHA256, "Digest of the declaration it pins", required=True),
    "entry_sha256": Key(Kind.SHA256, "Digest of this entry: an edit by hand shows"),
    "revisions": Key(Kind.TABLE, "Source URL → the commit it was resolved to"),
    "files": Key(Kind.TABLES, "The files as the sources had them"),
    "unpinned": Key(Kind.STRINGS, "Files known by name only; `wanrec lock` has yet to pin them"),
}
LOCK_FILE_KEYS: Mapping[str, Key] = {
    "path": FILE_KEYS["path"],
    "size": FILE_KEYS["size"]._replace(required=True),
    "sha256": FILE_KEYS["sha256"]._replace(required=True),
    "etag": Key(Kind.STRING, "What the source calls this version of the file"),
    "source_path": FILE_KEYS["source_path"],
    "component": FILE_KEYS["component"],
    "variant": FILE_KEYS["variant"],
    "optional": FILE_KEYS["optional"],
}
_HEADER = "# Written by `wanrec lock`. Commit it; do not edit it by hand.\n"


@attrs.frozen(kw_only=True)
class LockedFile:
    """One file as the sources had it: `size` bytes, `sha256`; the rest as in a `FileSpec`."""

    path: str
    size: int
    sha256: str
    etag: str | None = None
    source_path: str | None = None
    component: str | None = None
    variant: str | None = None
    optional: bool = False


@attrs.frozen(kw_only=True)
class LockedModel:
    """One pinned model.

    Attributes:
        spec_sha256: `declaration_digest` of the declaration it was made from.
        revisions: source URL as declared, templates expanded → the commit it was resolved to.
        files: sorted by path, then variant.
        unpinned: paths whose size or digest nobody has stated yet; they are not installed, and
            `wanrec lock` asks for them.
    """

    spec_sha256: str
    revisions: Mapping[str, str] = attrs.field(factory=dict)
    files: tuple[LockedFile, ...] = ()
    unpinned: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class LockFile:
    """A whole lock file; `path` is relative to the project directory."""

    path: str
    sha256: str = ""
    models: Mapping[str, LockedModel] = attrs.field(factory=dict)


def lock_path(spec: str) -> str:
    """Return the lock file's name for a spec file: ``a/x.toml`` → ``a/x.lock.toml``."""
    return spec.removesuffix(".toml") + ".lock.toml"


def declaration_digest(decl: ModelDecl) -> str:
    """Return the sha256 over what a lock entry depends on: sources, patterns, variants, names.

    Sizes and hashes that the spec gives by hand are not part of it, nor is anything that only
    people, marks or the policy look at.
    """
    files = None
    if decl.files is not None:
        files = sorted(
            [file.path, file.variant or "", file.source_path or ""] for file in decl.files
        )
    parts = [
        decl.id,
        list(decl.sources),
        sorted(decl.allow_patterns),
        sorted(decl.ignore_patterns),
        list(decl.variants),
        files,
    ]
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()


_values_of = attrgetter(*LOCK_FILE_KEYS)


def entry_digest(model_id: str, model: LockedModel) -> str:
    """Return the sha256 over all that an entry says, however its TOML is laid out."""
    files = sorted(model.files, key=lambda file: (file.path, file.variant or ""))
    parts = [
        model_id,
        model.spec_sha256,
        sorted(model.revisions.items()),
        sorted(model.unpinned),
        [_values_of(file) for file in files],
    ]
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()


def pin_source(url: str, commit: str) -> str:
    """Return a Hub URL that names the commit; other URLs have no revision and stay as they are."""
    match = re.fullmatch(r"(hf://[^/@]+/[^/@]+)(?:@[^/]+)?(/.*)?", url)
    return f"{match[1]}@{commit}{match[2] or ''}" if match else url


def dump_lock(lock: LockFile) -> str:
    """Return the TOML text of a lock file, byte-stable for equal content."""
    import tomli_w

    models = {}
    for model_id, model in sorted(lock.models.items()):
        entry: dict[str, Any] = {
            "spec_sha256": model.spec_sha256,
            "entry_sha256": entry_digest(model_id, model),
        }
        if model.revisions:
            entry["revisions"] = dict(sorted(model.revisions.items()))
        if model.unpinned:
            entry["unpinned"] = sorted(model.unpinned)
        files = sorted(model.files, key=lambda file: (file.path, file.variant or ""))
        entry["files"] = [_dump_file(file) for file in files]
        models[model_id] = entry
    document = {"schema_version": LOCK_SCHEMA_VERSION, "models": models}
    return _HEADER + tomli_w.dumps(document)


def _dump_file(file: LockedFile) -> dict[str, Any]:
    values = {name: getattr(file, name) for name in LOCK_FILE_KEYS}
    return {
        name: value for name, value in values.items() if value is not None and value is not False
    }
