"""The `files` of a model → `FileSpec`s: the one loop that runs 100,000 times.

An entry that is plainly right costs a few comparisons; the careful look, with messages, is only
taken at the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wanrec.reconcile.errors import ErrorCode
from wanrec.reconcile.manifest_checks import Findings, show_value
from wanrec.reconcile.manifest_schema import FILE_KEYS, MAX_SIZE, PICKLE_SUFFIXES
from wanrec.reconcile.model import FileSpec, Policy
from wanrec.reconcile.names import MAX_PATH_CHARS, check_path, find_collisions, model_directory
from wanrec.reconcile.toml_lines import KeyPath

if TYPE_CHECKING:
    from wanrec.reconcile.manifest_models import ModelDecl

__all__ = ["allowed_by_patterns", "read_files"]

MAX_ROOT_RELATIVE_CHARS = 255
"""A longer path fits nowhere on Windows, however short the root."""

_sha256 = re.compile(r"[0-9a-f]{64}").fullmatch
_PLAIN_KEYS = frozenset(("path", "size", "sha256"))


def allowed_by_patterns(path: str, allow: tuple[str, ...], ignore: tuple[str, ...]) -> bool:
    """True when the patterns let a file in. ``*`` also matches ``/``; ``dir/`` means all in it."""
    if not allow and not ignore:
        return True
    from fnmatch import fnmatchcase

    def hit(patterns: tuple[str, ...]) -> bool:
        return any(fnmatchcase(path, p + "*" if p.endswith("/") else p) for p in patterns)

    return (not allow or hit(allow)) and not hit(ignore)


def read_files(
    findings: Findings,
    at: KeyPath,
    raw: list[dict[str, Any]],
    decl: ModelDecl,
    judge_variants: bool,
) -> tuple[FileSpec, ...]:
    """Check the entries of a model, one by one and against one another.

    `judge_variants` is False when the list of variants itself is faulty.
    """
    if not raw:
        findings.add(at, "the list is empty; leave files out when the lock file lists them")
    specs = tuple(
        _plain_file(entry, decl.policy) or _read_file(findings, (*at, index), entry, decl)
        for index, entry in enumerate(raw)
    )
    if judge_variants:
        _check_variants(findings, at, specs, decl.variants)
    _check_together(findings, at, specs, decl)
    return specs


def _plain_file(entry: Mapping[str, Any], policy: Policy) -> FileSpec | None:
    """The value of an entry with nothing but path, size and digest, all right; else None."""
    if entry.keys() != _PLAIN_KEYS:
        return None
    path, size, sha256 = entry["path"], entry["size"], entry["sha256"]
    if type(path) is not str or type(size) is not int or type(sha256) is not str:
        return None
    if not 0 <= size <= MAX_SIZE or not _sha256(sha256) or check_path(path) is not None:
        return None
    if not policy.allow_pickle and _is_pickle(path):
        return None
    folder, slash, _ = path.partition("/")
    return FileSpec(path=path, size=size, sha256=sha256, component=folder if slash else None)


def _read_file(
    findings: Findings, at: KeyPath, entry: Mapping[str, Any], decl: ModelDecl
) -> FileSpec:
    values = findings.table(entry, FILE_KEYS, at)
    path = values.get("path", "")
    if "component" in values and not values["component"]:
        findings.add((*at, "component"), "an empty string names nothing")
    reason = values.get("allow_pickle")
    if reason is not None and not reason.strip():
        findings.add((*at, "allow_pickle"), "give the reason")
    elif reason is None and not decl.policy.allow_pickle and _is_pickle(path):
        _deny_pickle(findings, at, path, decl)
    folder, slash, _ = path.partition("/")
    sha256 = values.get("sha256")
    return FileSpec(
        path=path,
        size=values.get("size"),
        sha256=sha256.lower() if sha256 else None,
        component=values.get("component", folder if slash else None),
        variant=values.get("variant"),
        optional=values.get("optional", False),
        allow_pickle=reason,
        source_path=values.get("source_path"),
    )


def _check_variants(
    findings: Findings, at: KeyPath, specs: tuple[FileSpec, ...], variants: tuple[str, ...]
) -> None:
    what = "one of the variants" if variants else "a variant: the model has none"
    for index, spec in enumerate(specs):
        if spec.variant is not None and spec.variant not in variants:
            findings.one_of(spec.variant, variants, (*at, index, "variant"), what)


def _is_pickle(path: str) -> bool:
    return path.lower().endswith(PICKLE_SUFFIXES)


def _deny_pickle(findings: Findings, at: KeyPath, path: str, decl: ModelDecl) -> None:
    if not allowed_by_patterns(path, decl.allow_patterns, decl.ignore_patterns):
        return
    suffix = path[path.rindex(".") :]
    message = (
        f"{show_value(path)}: {suffix} files can run code when they are loaded;"
        ' allow_pickle = "REASON" lets this one in'
    )
    findings.add((*at, "path"), message, ErrorCode.POLICY_DENIED)


def _check_together(
    findings: Findings, at: KeyPath, specs: tuple[FileSpec, ...], decl: ModelDecl
) -> None:
    """No two files of one variant may want one place, and each must fit below any root."""
    if find_collisions(spec.path for spec in specs):
        for variant in decl.variants or (None,):
            _report_collisions(findings, at, specs, variant)
    longest = max(decl.variants, key=len, default=None)
    room = MAX_ROOT_RELATIVE_CHARS - len(model_directory(decl.family, decl.id, longest)) - 1
    if room >= MAX_PATH_CHARS:
        return
    for index, spec in enumerate(specs):
        if len(spec.path) > room:
            message = "model directory and path together are too long for some systems"
            findings.add((*at, index, "path"), message, ErrorCode.PATH_TOO_LONG)


def _report_collisions(
    findings: Findings, at: KeyPath, specs: tuple[FileSpec, ...], variant: str | None
) -> None:
    wanted = [
        (index, spec.path)
        for index, spec in enumerate(specs)
        if spec.path and spec.variant in (None, variant)
    ]
    last = {path: index for index, path in wanted}
    for path, other, why in find_collisions(path for _, path in wanted):
        message = f"{show_value(path)} and {show_value(other)} collide: {why}"
        findings.add((*at, last[path], "path"), message, ErrorCode.NAME_COLLISION)
