"""As much of JSON Schema as wanrec's own schemas use, so that tests need no validator package."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list, tuple),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}


def problems(value: object, schema: Schema, root: Schema, at: str = "") -> list[str]:
    """Return what a JSON value does against a schema; `root` holds the definitions."""
    if "$ref" in schema:
        return problems(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, at)
    names = schema.get("type", [])
    if names and not _is_type(value, [names] if isinstance(names, str) else names):
        return [f"{at}: not {names}"]
    found = [*_combined(value, schema, root, at), *_limits(value, schema, at)]
    if isinstance(value, (list, tuple)):
        for item in value:
            found += problems(item, schema.get("items", {}), root, f"{at}[]")
    if isinstance(value, dict):
        found += _members(value, schema, root, at)
    return found


def _is_type(value: object, names: list[str]) -> bool:
    if isinstance(value, bool):
        return "boolean" in names
    return any(isinstance(value, _TYPES[name]) for name in names)


def _combined(value: object, schema: Schema, root: Schema, at: str) -> Iterator[str]:
    options = [problems(value, option, root, at) for option in schema.get("anyOf", ())]
    if options and all(options):
        yield from min(options, key=len)
    for rule in schema.get("allOf", ()):
        if not problems(value, rule["if"], root, at):
            yield from problems(value, rule["then"], root, at)


def _limits(value: object, schema: Schema, at: str) -> Iterator[str]:
    if value != schema.get("const", value) or value not in schema.get("enum", [value]):
        yield f"{at}: not allowed"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{at}: does not match"
    if isinstance(value, str) and len(value) < schema.get("minLength", 0):
        yield f"{at}: too short"
    if isinstance(value, (list, tuple)) and len(value) < schema.get("minItems", 0):
        yield f"{at}: too few"
    if _is_type(value, ["number"]) and not (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
    ):
        yield f"{at}: out of range"


def _members(value: dict[str, Any], schema: Schema, root: Schema, at: str) -> Iterator[str]:
    yield from (f"{at}: no {name}" for name in schema.get("required", ()) if name not in value)
    for name, item in value.items():
        rule = schema.get("properties", {}).get(name)
        if rule is None and any(re.search(p, name) for p in schema.get("patternProperties", ())):
            continue
        if rule is None:
            rule = schema.get("additionalProperties", {})
            yield from problems(name, schema.get("propertyNames", {}), root, f"{at}.{name}")
        if rule is False:
            yield f"{at}.{name}: unknown"
        else:
            yield from problems(item, rule, root, f"{at}.{name}")
