"""One `[models."ID"]` block → `ModelDecl`: its own keys over the defaults, and what must agree.

Called by `manifest` only. Faults go into the `Findings`; the value returned for a faulty block is
never seen by anybody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs

from wanrec.reconcile.errors import ErrorCode
from wanrec.reconcile.manifest_checks import Findings, show_value
from wanrec.reconcile.manifest_files import allowed_by_patterns, read_files
from wanrec.reconcile.manifest_schema import (
    FACT_KEYS,
    MODEL_KEYS,
    MOVED_KEYS,
    SOURCES_KEYS,
    TEMPLATE_WORDS,
)
from wanrec.reconcile.model import FileSpec, MoveRule, Policy, Presence
from wanrec.reconcile.names import check_variant, collision_key, split_model_id
from wanrec.reconcile.toml_lines import KeyPath

__all__ = ["ModelDecl", "allowed_by_patterns", "read_model"]

_mark = re.compile(r"[\w:+./-]+").fullmatch
_argument = r"""\s*[^\W\d]\w*=(?:-?\d+|True|False|None|"[^"\\]*"|'[^'\\]*')\s*"""
_call = re.compile(rf"{_argument}(?:,{_argument})*\s*\)").fullmatch
_NOT_MARKS = frozenset(("and", "or", "not", "True", "False", "None"))
_url = re.compile(r"[a-z][a-z0-9+.-]*://.", re.DOTALL).match
_braces = re.compile(r"\{([^{}]*)\}").findall


@attrs.frozen(kw_only=True)
class ModelDecl:
    """One model as declared, defaults merged in; lock file and selection not looked at.

    Attributes:
        install: "default", "all", or the variants to install.
        components: install only these; None when the spec does not narrow.
        sources: URLs as written, templates not expanded.
        files: None when the lock file must list them.
        facts: for the pipeline loader.
        spec: the spec file it stands in.
    """

    id: str
    name: str
    version: str
    family: str
    spec: str = ""
    description: str = ""
    variants: tuple[str, ...] = ()
    default_variant: str | None = None
    install: str | tuple[str, ...] = "default"
    presence: Presence = Presence.REQUIRED
    protect: bool = False
    marks: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    optional_components: tuple[str, ...] = ()
    components: tuple[str, ...] | None = None
    sources: tuple[str, ...] = ()
    allow_patterns: tuple[str, ...] = ()
    ignore_patterns: tuple[str, ...] = ()
    files: tuple[FileSpec, ...] | None = None
    moved: tuple[MoveRule, ...] = ()
    facts: Mapping[str, object] = attrs.field(factory=dict)
    policy: Policy = attrs.field(factory=Policy)
    line: int | None = None


def read_model(
    findings: Findings,
    at: KeyPath,
    block: Mapping[str, Any],
    defaults: Mapping[str, Any],
    policy: Policy,
    family: str,
) -> ModelDecl:
    """Check one block and make the declaration."""
    own = findings.table(block, MODEL_KEYS, at)
    values = {**defaults, **own}
    model_id = str(at[-1])
    name, version = split_model_id(model_id)
    if values.get("version", version) != version:
        message = f"version {show_value(values['version'])} does not agree with the id"
        findings.add((*at, "version"), message)
    broken = block.keys() - own.keys()
    if not broken & {"variants", "default_variant", "install"}:
        _check_variants(findings, at, values)
    _check_words(findings, at, values, model_id)
    sources, allow, ignore = _read_sources(findings, at, values)
    if not sources and "sources" not in block:
        findings.add(at, "no sources: write at least one URL, for example local://PATH")
    decl = ModelDecl(
        id=model_id,
        name=name,
        version=version,
        family=family,
        spec=findings.name,
        description=values.get("description", ""),
        variants=tuple(values.get("variants", ())),
        default_variant=values.get("default_variant"),
        install=_install(values.get("install", "default")),
        presence=Presence(values.get("presence", "required")),
        protect=values.get("protect", False),
        marks=tuple(values.get("marks", ())),
        requires=tuple(values.get("requires", ())),
        optional_components=tuple(values.get("optional_components", ())),
        components=tuple(values["components"]) if "components" in values else None,
        sources=sources,
        allow_patterns=allow,
        ignore_patterns=ignore,
        moved=_read_moved(findings, at, values),
        facts={key: value for key, value in values.items() if key in FACT_KEYS},
        policy=policy,
    )
    if "files" not in values:
        return decl
    files = read_files(findings, (*at, "files"), values["files"], decl, "variants" not in broken)
    decl = attrs.evolve(decl, files=files)
    _check_components(findings, at, decl)
    return decl


def _install(value: str | list[str]) -> str | tuple[str, ...]:
    return value if isinstance(value, str) else tuple(value)


def _check_variants(findings: Findings, at: KeyPath, values: Mapping[str, Any]) -> None:
    variants = tuple(values.get("variants", ()))
    seen: dict[str, str] = {}
    for variant in variants:
        findings.add_name((*at, "variants"), check_variant(variant))
        key = collision_key(variant)
        if key in seen:
            message = f"{show_value(variant)} and {show_value(seen[key])} have one directory"
            findings.add((*at, "variants"), message, ErrorCode.NAME_COLLISION)
        seen[key] = variant
    default, install = values.get("default_variant"), values.get("install", "default")
    if variants and default is None:
        findings.add(at, "default_variant is required with variants")
    elif default is not None:
        what = "one of the variants" if variants else "a variant: the model has none"
        findings.one_of(default, variants, (*at, "default_variant"), what)
    if isinstance(install, str):
        what = '"default", "all" or a list of variants'
        findings.one_of(install, ("default", "all"), (*at, "install"), what)
        return
    for word in install:
        findings.one_of(word, variants, (*at, "install"), "one of the variants")


def _check_words(findings: Findings, at: KeyPath, values: Mapping[str, Any], model_id: str) -> None:
    for mark in values.get("marks", ()):
        name, _, arguments = mark.partition("(")
        if not _mark(name) or name in _NOT_MARKS or not (mark == name or _call(arguments)):
            message = f"{show_value(mark)} cannot be a mark: -m could not name it"
            findings.add((*at, "marks"), message)
    if model_id in values.get("requires", ()):
        findings.add((*at, "requires"), "a model cannot require itself")
    for key in ("requires", "components", "optional_components", "allow_patterns"):
        if "" in values.get(key, ()):
            findings.add((*at, key), "an empty string names nothing")


def _read_sources(
    findings: Findings, at: KeyPath, values: Mapping[str, Any]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The sources and patterns of a model; patterns may stand in `sources` or beside it."""
    raw, where = values.get("sources", ()), (*at, "sources")
    table: Mapping[str, Any] = {}
    if isinstance(raw, dict):
        table, where = findings.table(raw, SOURCES_KEYS, where), (*where, "priority")
        raw = table.get("priority", ())
    if raw == [] and "sources" in values:
        findings.add(where, "the list is empty: write at least one URL, for example local://PATH")
    for index, url in enumerate(raw):
        _check_source(findings, (*where, index), url, has_variants=bool(values.get("variants")))
    allow, ignore = (
        tuple(table.get(key, values.get(key, ()))) for key in ("allow_patterns", "ignore_patterns")
    )
    return tuple(raw), allow, ignore


def _check_source(findings: Findings, at: KeyPath, url: str, *, has_variants: bool) -> None:
    if not _url(url):
        message = f"{show_value(url)} is no source URL; a folder is written local://PATH"
        findings.add(at, message)
    for word in _braces(url):
        if word == "variant" and not has_variants:
            findings.add(at, "{variant} stands in a URL of a model without variants")
        elif word not in TEMPLATE_WORDS:
            known = " ".join(f"{{{name}}}" for name in TEMPLATE_WORDS)
            findings.add(at, f"{show_value('{' + word + '}')} is not one of {known}")


def _read_moved(findings: Findings, at: KeyPath, values: Mapping[str, Any]) -> tuple[MoveRule, ...]:
    rules: dict[str, MoveRule] = {}
    for index, block in enumerate(values.get("moved", ())):
        where = (*at, "moved", index)
        pair = findings.table(block, MOVED_KEYS, where)
        old, new = pair.get("from", ""), pair.get("to", "")
        if old and old == new:
            findings.add(where, "from and to are the same path")
        if old in rules:
            findings.add(where, f"{show_value(old)} is moved twice")
        rules[old] = MoveRule(from_path=old, to_path=new)
    return tuple(rules.values())


def _check_components(findings: Findings, at: KeyPath, decl: ModelDecl) -> None:
    if decl.components is None:
        return
    known = tuple(sorted({spec.component for spec in decl.files or () if spec.component}))
    known += tuple(set(decl.optional_components) - set(known))
    for component in decl.components:
        findings.one_of(component, known, (*at, "components"), "a component of any file")
