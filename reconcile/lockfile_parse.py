"""Bytes of a lock file → `LockFile`, or every fault of it with its line.

Refuses what `wanrec lock` cannot have written: unknown keys, paths that are not safe or collide,
a format of a later wanrec, and entries that were edited by hand.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import attrs

from wanrec.reconcile.errors import ErrorCode, FaultGroup
from wanrec.reconcile.lockfile import (
    LOCK_FILE_KEYS,
    LOCK_KEYS,
    LOCK_MODEL_KEYS,
    LOCK_SCHEMA_VERSION,
    LockedFile,
    LockedModel,
    LockFile,
    entry_digest,
)
from wanrec.reconcile.manifest_checks import Findings, show_value
from wanrec.reconcile.manifest_schema import MAX_SIZE
from wanrec.reconcile.manifest_text import read_toml
from wanrec.reconcile.names import check_model_id, check_path, find_collisions
from wanrec.reconcile.toml_lines import KeyPath

__all__ = ["NEWER_HINT", "ReadLock", "parse_lock", "read_lock"]

NEWER_HINT = "upgrade wanrec: pip install -U wanrec"

_is_sha256 = re.compile(r"[0-9a-f]{64}").fullmatch
_REQUIRED_KEYS = frozenset(("path", "size", "sha256"))
_PLAIN_KEYS = _REQUIRED_KEYS | {"etag"}


def parse_lock(data: bytes, name: str) -> LockFile:
    """Read a lock file.

    Args:
        data: the bytes.
        name: its POSIX path relative to the project directory, for messages.

    Raises:
        FaultGroup: every fault of the file; LOCK_OUTDATED for entries edited by hand.
    """
    read = read_lock(data, name)
    if read.faults is not None:
        raise read.faults
    return read.lock


class ReadLock(NamedTuple):
    """A lock file without the entries that were edited by hand, which ones, and what to say."""

    lock: LockFile
    edited: frozenset[str]
    faults: FaultGroup | None


def read_lock(data: bytes, name: str) -> ReadLock:
    """As `parse_lock`, for who writes the file again: an edited entry is left out, not raised.

    Raises:
        FaultGroup: every other fault of the file.
    """
    raw, text = read_toml(data, name)
    findings = Findings(name, text)
    _check_version(raw, findings)
    blocks = findings.table(raw, LOCK_KEYS, ()).get("models", {})
    models = {
        model_id: _read_model(findings, ("models", model_id), block)
        for model_id, block in blocks.items()
    }
    _close(findings, name)
    edited = _edited(findings, blocks, models)
    lock = LockFile(
        path=name,
        sha256=hashlib.sha256(data).hexdigest(),
        models={key: model for key, model in models.items() if key not in edited},
    )
    try:
        _close(findings, name)
    except FaultGroup as group:
        return ReadLock(lock, edited, group)
    return ReadLock(lock, edited, None)


def _close(findings: Findings, name: str) -> None:
    try:
        findings.close()
    except FaultGroup as group:
        spec = name.removesuffix(".lock.toml") + ".toml"
        raise FaultGroup(group.faults, hint=f"write it again: wanrec lock {spec}") from None


def _edited(
    findings: Findings, blocks: Mapping[str, Any], models: Mapping[str, LockedModel]
) -> frozenset[str]:
    """Note the entries that are not as `wanrec lock` wrote them.

    A file in which no entry has a digest was written before there were any: it is believed.
    """
    stated = {key: block.get("entry_sha256") for key, block in blocks.items()}
    if not any(stated.values()):
        return frozenset()
    wrong = [key for key, model in models.items() if stated[key] != entry_digest(key, model)]
    for key in wrong:
        message = "edited by hand; only `wanrec lock` may write this entry"
        findings.add(("models", key), message, ErrorCode.LOCK_OUTDATED)
    return frozenset(wrong)


def _check_version(raw: Mapping[str, Any], findings: Findings) -> None:
    version = raw.get("schema_version", LOCK_SCHEMA_VERSION)
    if type(version) is int and version == LOCK_SCHEMA_VERSION:
        return
    message = f"lock version {show_value(version)}; this wanrec reads {LOCK_SCHEMA_VERSION}"
    findings.add(("schema_version",), message, ErrorCode.SCHEMA_VERSION_MISMATCH)
    try:
        findings.close()
    except FaultGroup as group:
        raise FaultGroup(group.faults, hint=NEWER_HINT) from None


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
        _plain_file(entry) or _read_file(findings, (*at, "files", place), entry)
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


def _plain_file(entry: Mapping[str, Any]) -> LockedFile | None:
    """The value of an entry that is plainly right, as nearly all of 100,000 are; else None."""
    if not _REQUIRED_KEYS <= entry.keys() <= _PLAIN_KEYS:
        return None
    path, size, sha256 = entry["path"], entry["size"], entry["sha256"]
    etag = entry.get("etag", "")
    if type(path) is not str or type(size) is not int or type(sha256) is not str:
        return None
    if not 0 <= size <= MAX_SIZE or not _is_sha256(sha256) or type(etag) is not str:
        return None
    if check_path(path) is not None:
        return None
    return LockedFile(path=path, size=size, sha256=sha256, etag=entry.get("etag"))


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
