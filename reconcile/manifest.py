"""TOML text of one spec file → `Manifest`, or every fault of the file in one `FaultGroup`.

In: bytes, and the `defaults.toml` files above it. Out: frozen values, checked: types, limits,
names that are safe and distinct on every OS, variants that exist, policies. Not here: other files
(lock file, requirements, the same id twice: `desired`), the disk, the network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import attrs

from wanrec.reconcile.errors import ErrorCode, FaultGroup
from wanrec.reconcile.manifest_checks import Findings, show_value
from wanrec.reconcile.manifest_models import ModelDecl, read_model
from wanrec.reconcile.manifest_schema import (
    DEFAULTS_FILE_KEYS,
    MODEL_KEYS,
    POLICY_KEYS,
    REMOVED_KEYS,
    SCHEMA_VERSION,
    TOP_KEYS,
    Key,
)
from wanrec.reconcile.manifest_text import read_toml
from wanrec.reconcile.model import Policy, RemovedRule
from wanrec.reconcile.names import check_model_id, check_segment, collision_key

__all__ = [
    "DefaultsFile",
    "Manifest",
    "ModelDecl",
    "parse_defaults",
    "parse_manifest",
    "read_manifest",
]

DEFAULT_FAMILY = "wan22"


class DefaultsFile(NamedTuple):
    """One `defaults.toml`: what it gives to the specs in its folder and below.

    Attributes:
        path: POSIX path relative to the project directory.
        sha256: of the file's bytes.
        family: None when the file does not say.
        defaults: model keys, checked one by one.
        policy: policy keys, checked one by one.
    """

    path: str
    sha256: str
    family: str | None = None
    defaults: Mapping[str, Any] = {}
    policy: Mapping[str, Any] = {}


@attrs.frozen(kw_only=True)
class Manifest:
    """One spec file, read and checked.

    Attributes:
        path: POSIX path relative to the project directory.
        sha256: of the file's bytes.
        defaults: its own `[defaults]`, as written; already part of `models`.
        faulty: ids of models that are wrong: declared, and good for nothing else.
    """

    path: str
    sha256: str
    schema_version: int
    family: str
    policy: Policy
    models: tuple[ModelDecl, ...] = ()
    removed: tuple[RemovedRule, ...] = ()
    defaults: Mapping[str, Any] = attrs.field(factory=dict)
    faulty: frozenset[str] = frozenset()


def parse_manifest(data: bytes, name: str, defaults: Sequence[DefaultsFile] = ()) -> Manifest:
    """Read one spec file.

    Args:
        data: its bytes.
        name: its path in messages, POSIX, relative to the project directory.
        defaults: the `defaults.toml` files above it, nearest first. The nearest one that has a
            key gives its value; the spec's own `[defaults]` win over all of them.

    Raises:
        FaultGroup: everything that is wrong with the file, in the order of its lines.
    """
    manifest, faults = read_manifest(data, name, defaults)
    if faults is not None:
        raise faults
    return manifest


def read_manifest(
    data: bytes, name: str, defaults: Sequence[DefaultsFile] = ()
) -> tuple[Manifest, FaultGroup | None]:
    """As `parse_manifest`, but what is sound comes back beside the faults of the rest.

    Raises:
        FaultGroup: nothing of the file can be read.
    """
    raw, text = read_toml(data, name)
    findings = Findings(name, text)
    _check_version(raw, findings, required=True)
    top = findings.table(raw, _without_version(TOP_KEYS), ())
    own = _read_shared(top, findings, name, data)
    layers = (own, *defaults)
    policy = Policy(**_merged([layer.policy for layer in layers]))
    family = next((layer.family for layer in layers if layer.family is not None), DEFAULT_FAMILY)
    model_defaults = _merged([layer.defaults for layer in layers])
    models = tuple(
        read_model(findings, ("models", model_id), block, model_defaults, policy, family)
        for model_id, block in top.get("models", {}).items()
        if _is_model_block(findings, model_id, block)
    )
    _check_directories(findings, models)
    removed = _read_removed(findings, top.get("removed", []), models, name)
    manifest = Manifest(
        path=name,
        sha256=own.sha256,
        schema_version=SCHEMA_VERSION,
        family=family,
        policy=policy,
        models=_with_lines(models, text),
        removed=removed,
        defaults=own.defaults,
        faulty=findings.below("models"),
    )
    return manifest, findings.group()


def parse_defaults(data: bytes, name: str) -> DefaultsFile:
    """Read one `defaults.toml`: `family`, `[defaults]` and `[policy]` for the specs below it.

    Raises:
        FaultGroup: everything that is wrong with the file, in the order of its lines.
    """
    raw, text = read_toml(data, name)
    findings = Findings(name, text)
    _check_version(raw, findings, required=False)
    top = findings.table(raw, _without_version(DEFAULTS_FILE_KEYS), ())
    own = _read_shared(top, findings, name, data)
    findings.close()
    return own


def _merged(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One table out of several; the first layer that has a key decides it."""
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        merged.update(layer)
    return merged


def _check_version(raw: Mapping[str, Any], findings: Findings, *, required: bool) -> None:
    """An unsupported version stops at once: what else the file says is not ours to judge.

    Raises:
        FaultGroup: SCHEMA_VERSION_MISMATCH.
    """
    code = ErrorCode.SCHEMA_VERSION_MISMATCH
    version = raw.get("schema_version")
    if version is None:
        if required:
            message = (
                f'the key "schema_version" is missing; write schema_version = {SCHEMA_VERSION}'
            )
            findings.add((), message, code)
    elif type(version) is not int or version != SCHEMA_VERSION:
        stop = Findings(findings.name, findings.text)
        message = f"schema version {show_value(version)}; this wanrec reads {SCHEMA_VERSION}"
        stop.add(("schema_version",), message, code)
        stop.close()


def _without_version(known: Mapping[str, Key]) -> dict[str, Key]:
    """The version has been judged already, with a code of its own."""
    return {**known, "schema_version": known["schema_version"]._replace(required=False)}


def _read_shared(
    top: Mapping[str, Any], findings: Findings, name: str, data: bytes
) -> DefaultsFile:
    family = top.get("family")
    if family is not None:
        findings.add_name(("family",), check_segment(family))
    defaults = findings.table(top.get("defaults", {}), MODEL_KEYS, ("defaults",))
    if "version" in defaults:
        findings.add(("defaults", "version"), "a version belongs to one model, not to all")
    policy = findings.table(top.get("policy", {}), POLICY_KEYS, ("policy",))
    share = policy.get("max_delete")
    if isinstance(share, float) and share > 1:
        message = f"a share is at most 1.0, not {share}; write an integer for a count"
        findings.add(("policy", "max_delete"), message)
    return DefaultsFile(name, hashlib.sha256(data).hexdigest(), family, defaults, policy)


def _is_model_block(findings: Findings, model_id: str, block: object) -> bool:
    at = ("models", model_id)
    findings.add_name(at, check_model_id(model_id))
    if isinstance(block, dict):
        return True
    findings.add(at, f"must be a table, not {show_value(block)}")
    return False


def _check_directories(findings: Findings, models: tuple[ModelDecl, ...]) -> None:
    seen: dict[str, str] = {}
    for model in models:
        key = collision_key(model.id)
        if key in seen:
            both = f"{show_value(model.id)} and {show_value(seen[key])}"
            message = f"{both} have one directory on systems that ignore case"
            findings.add(("models", model.id), message, ErrorCode.NAME_COLLISION)
        seen[key] = model.id


def _read_removed(
    findings: Findings, raw: list[Any], models: tuple[ModelDecl, ...], name: str
) -> tuple[RemovedRule, ...]:
    declared = {model.id for model in models}
    rules = []
    for index, block in enumerate(raw):
        at = ("removed", index)
        values = findings.table(block, REMOVED_KEYS, at)
        model = values.get("model", "")
        if model in declared:
            message = f"{show_value(model)} is still declared in this file; remove one of the two"
            findings.add((*at, "model"), message)
        rules.append(RemovedRule(model=model, delete=values.get("delete", True), spec=name))
    return tuple(rules)


def _with_lines(models: tuple[ModelDecl, ...], text: str) -> tuple[ModelDecl, ...]:
    """Note where each model begins: a search for its header, quick enough for every run."""
    placed, cursor, line = [], 0, 1
    for model in models:
        offset = _header_offset(text, model.id, cursor)
        if offset < cursor:
            cursor, line = 0, 1
        line += text.count("\n", cursor, offset)
        cursor = offset
        placed.append(attrs.evolve(model, line=line))
    return tuple(placed)


def _header_offset(text: str, model_id: str, start: int) -> int:
    for needle in (f'models."{model_id}"', f"models.'{model_id}'", f'"{model_id}"', model_id):
        for begin in (start, 0):
            offset = text.find(needle, begin)
            if offset >= 0:
                return offset
    return 0
