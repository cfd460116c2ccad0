"""``NAME.lock.toml`` ↔ `LockFile`: what `wanrec lock` pinned, beside the spec it pins.

Pure: bytes in, values out, and back. A lock entry adds what a declaration left open (size, sha256,
the file list itself, the commit of a source); it never overrules one. `declaration_digest` says
which parts of a declaration an entry depends on: when it differs, the entry is outdated.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from wanrec.reconcile.errors import ErrorCode, FaultGroup
from wanrec.reconcile.manifest_checks import Findings, show_value
from wanrec.reconcile.manifest_models import ModelDecl
from wanrec.reconcile.manifest_schema import FILE_KEYS, Key, Kind
from wanrec.reconcile.manifest_text import read_toml
from wanrec.reconcile.names import check_model_id, find_collisions
from wanrec.reconcile.toml_lines import KeyPath

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
    "lock_path",
    "parse_lock",
    "pin_source",
]

LOCK_SCHEMA_VERSION = 1
LOCK_KEYS: Mapping[str, Key] = {
    "schema_version": Key(Kind.INTEGER, "Version of this format", 1, 1, required=True),
    "models": Key(Kind.TABLE, "The pinned models, by NAME@VERSION"),
}
LOCK_MODEL_KEYS: Mapping[str, Key] = {
    "spec_sha256": Key(Kind.SHA256, "Digest of the declaration it pins", required=True),
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


def pin_source(url: str, commit: str) -> str:
    """Return a Hub URL that names the commit; other URLs have no revision and stay as they are."""
    match = re.fullmatch(r"(hf://[^/@]+/[^/@]+)(?:@[^/]+)?(/.*)?", url)
    return f"{match[1]}@{commit}{match[2] or ''}" if match else url


def dump_lock(lock: LockFile) -> str:
    """Return the TOML text of a lock file, byte-stable for equal content."""
    import tomli_w

    models = {}
    for model_id, model in sorted(lock.models.items()):
        entry: dict[str, Any] = {"spec_sha256": model.spec_sha256}
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


def parse_lock(data: bytes, name: str) -> LockFile:
    """Read a lock file.

    Args:
        data: the bytes.
        name: its POSIX path relative to the project directory, for messages.

    Raises:
        FaultGroup: every fault of the file.
    """
    raw, text = read_toml(data, name)
    findings = Findings(name, text)
    _check_version(raw, findings)
    top = findings.table(raw, LOCK_KEYS, ())
    models = {
        model_id: _read_model(findings, ("models", model_id), block)
        for model_id, block in top.get("models", {}).items()
    }
    try:
        findings.close()
    except FaultGroup as group:
        spec = name.removesuffix(".lock.toml") + ".toml"
        raise FaultGroup(group.faults, hint=f"write it again: wanrec lock {spec}") from None
    return LockFile(path=name, sha256=hashlib.sha256(data).hexdigest(), models=models)


def _check_version(raw: Mapping[str, Any], findings: Findings) -> None:
    version = raw.get("schema_version", LOCK_SCHEMA_VERSION)
    if type(version) is int and version == LOCK_SCHEMA_VERSION:
        return
    message = f"lock version {show_value(version)}; this wanrec reads {LOCK_SCHEMA_VERSION}"
    findings.add(("schema_version",), message, ErrorCode.SCHEMA_VERSION_MISMATCH)
    findings.close()


def _read_model(findings: Findings, at: KeyPath, block: Any) -> LockedModel:
    findings.add_name(at, check_model_id(str(at[-1])))
    if not isinstance(block, dict):
        findings.add(at, f"must be a table, not {show_value(block)}")
        return LockedModel(spec_sha256="")
    values = findings.table(block, LOCK_MODEL_KEYS, at)
    revisions = values.get("revisions", {})
    for source, commit in revisions.items():
        if not isinstance(commit, str):
            findings.add((*at, "revisions", source), f"must be a string, not {show_value(commit)}")
    files = tuple(
        _read_file(findings, (*at, "files", place), entry)
        for place, entry in enumerate(values.get("files", ()))
    )
    for paths in _paths_by_variant(files):
        for path, earlier, why in find_collisions(paths):
            message = f"{show_value(path)} and {show_value(earlier)} collide: {why}"
            findings.add((*at, "files"), message, ErrorCode.NAME_COLLISION)
    return LockedModel(
        spec_sha256=values.get("spec_sha256", "").lower(),
        revisions=revisions,
        files=files,
        unpinned=tuple(values.get("unpinned", ())),
    )


def _read_file(findings: Findings, at: KeyPath, entry: Any) -> LockedFile:
    values = findings.table(entry, LOCK_FILE_KEYS, at)
    required = {"path": "", "size": 0, "sha256": ""}
    locked = LockedFile(**{**required, **values})
    return attrs.evolve(locked, sha256=locked.sha256.lower())


def _paths_by_variant(files: tuple[LockedFile, ...]) -> Iterator[list[str]]:
    """Yield the paths that lie together in one model directory, for each variant."""
    variants: set[str | None] = {file.variant for file in files if file.variant is not None}
    for variant in sorted(variants or {None}, key=str):
        yield [file.path for file in files if file.path and file.variant in (None, variant)]
