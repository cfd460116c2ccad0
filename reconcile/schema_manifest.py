"""The JSON Schema of spec files, from the tables that the validator itself reads.

Shapes only: that variants exist, names are safe and policies hold is the validator's work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wanrec.reconcile.manifest_schema import (
    FILE_KEYS,
    MODEL_KEYS,
    MOVED_KEYS,
    POLICY_KEYS,
    REMOVED_KEYS,
    SCHEMA_VERSION,
    SOURCES_KEYS,
    TOP_KEYS,
    Key,
    Kind,
)

__all__ = ["manifest_schema"]

_STRINGS = {"type": "array", "items": {"type": "string"}}
_PLACES: dict[str, dict[str, Any]] = {
    "schema_version": {"const": SCHEMA_VERSION},
    "defaults": {"$ref": "#/$defs/model"},
    "policy": {"$ref": "#/$defs/policy"},
    "models": {
        "type": "object",
        "propertyNames": {"pattern": "^[^@]+@[^@]+$"},
        "additionalProperties": {"$ref": "#/$defs/model"},
    },
    "removed": {"type": "array", "items": {"$ref": "#/$defs/removed"}},
}
_MODEL_PLACES: dict[str, dict[str, Any]] = {
    "files": {"type": "array", "items": {"$ref": "#/$defs/file"}, "minItems": 1},
    "moved": {"type": "array", "items": {"$ref": "#/$defs/moved"}},
    "sources": {
        "anyOf": [{**_STRINGS, "minItems": 1}, {"$ref": "#/$defs/sources"}],
    },
}


def manifest_schema() -> dict[str, Any]:
    """Return the schema without ``$schema`` and ``$id``."""
    return {
        "title": "wanrec spec file",
        "description": "Which models, in which variants, must lie on this machine's disk.",
        **_table(TOP_KEYS, _PLACES),
        "$defs": {
            "model": _table(MODEL_KEYS, _MODEL_PLACES),
            "file": _table(FILE_KEYS),
            "sources": _table(SOURCES_KEYS),
            "policy": _table(POLICY_KEYS),
            "moved": _table(MOVED_KEYS),
            "removed": _table(REMOVED_KEYS),
        },
    }


def _table(
    keys: Mapping[str, Key], places: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    places = places or {}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            name: {"description": key.doc, **(places.get(name) or _value(key))}
            for name, key in keys.items()
        },
        "patternProperties": {"^x-": {}},
        "additionalProperties": False,
    }
    required = [name for name, key in keys.items() if key.required]
    return {**schema, "required": required} if required else schema


def _value(key: Key) -> dict[str, Any]:
    """The schema of one value, its limits included."""
    limits = {
        name: limit
        for name, limit in (("minimum", key.minimum), ("maximum", key.maximum))
        if limit is not None
    }
    if key.choices:
        return {"enum": list(key.choices)}
    integer, number = {"type": "integer", **limits}, {"type": "number", **limits}
    shapes: dict[Kind, dict[str, Any]] = {
        Kind.STRING: {"type": "string"},
        Kind.INTEGER: integer,
        Kind.NUMBER: number,
        Kind.NUMBERS: {"anyOf": [number, {"type": "array", "items": number}]},
        Kind.BOOLEAN: {"type": "boolean"},
        Kind.STRINGS: _STRINGS,
        Kind.STRING_OR_STRINGS: {"anyOf": [{"type": "string"}, _STRINGS]},
        Kind.COUNT_OR_NAMES: {"anyOf": [integer, _STRINGS]},
        Kind.SHA256: {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"},
        Kind.PATH: {"type": "string", "minLength": 1},
        Kind.FREE: {"type": "object"},
        Kind.ANYTHING: {"type": "object"},
    }
    return shapes[key.kind]
