"""JSON Schemas (draft 2020-12) of wanrec's files and streams, made from what reads and writes them.

Spec files come from the tables of `manifest_schema`; lock, state and plan from their classes;
events from the table below. The copies in ``specs/*.schema.json`` are this module's output, for
editors and for people without wanrec; a test compares them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, get_type_hints

from wanrec.reconcile.actions import Action, Block, DriftItem, PlanOptions, RecordChange, Summary
from wanrec.reconcile.lockfile import LOCK_MODEL_KEYS, LOCK_SCHEMA_VERSION, LockedModel
from wanrec.reconcile.schema_manifest import manifest_schema
from wanrec.reconcile.telemetry import EventKind
from wanrec.state.model import STATE_FORMAT_VERSION, State

__all__ = ["SCHEMA_KINDS", "schema_for", "schema_text"]

SCHEMA_KINDS = ("manifest", "lock", "state", "plan", "events")
_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_ID = "urn:wanrec:schema:{kind}:1"
_SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_COUNT = {"type": "integer", "minimum": 0}
_STRINGS = {"type": "array", "items": {"type": "string"}}
_TEXT = {"type": "string"}
_MAYBE_TEXT = {"type": ["string", "null"]}
_NOT_IN_PLAN_FILES = ("project", "project_directory", "wanrec_version")

EVENT_FIELDS: dict[EventKind, dict[str, Any]] = {
    EventKind.VERSION: {"format_version": _COUNT, "wanrec_version": _TEXT},
    EventKind.PLAN: {
        "lineage": _MAYBE_TEXT,
        "serial": _COUNT,
        "summary": {"$ref": "#/$defs/Summary"},
        "actions": _COUNT,
    },
    EventKind.ACTION_START: {"address": _TEXT, "action": _TEXT},
    EventKind.ACTION_PROGRESS: {
        "address": _TEXT,
        "bytes_done": _COUNT,
        "bytes_total": {"type": ["integer", "null"], "minimum": 0},
    },
    EventKind.ACTION_RETRY: {"address": _TEXT, "source": _TEXT, "attempt": _COUNT},
    EventKind.ACTION_FAILOVER: {
        "address": _TEXT,
        "source": _MAYBE_TEXT,
        "code": _TEXT,
        "summary": _TEXT,
    },
    EventKind.ACTION_COMPLETE: {"address": _TEXT, "action": _TEXT},
    EventKind.ACTION_ERROR: {
        "address": _TEXT,
        "code": _TEXT,
        "exit": _COUNT,
        "summary": _TEXT,
        "hint": _TEXT,
        "retryable": {"type": "boolean"},
    },
    EventKind.SUMMARY: {
        "outcome": {"enum": ["complete", "already_applied", "partial", "failed"]},
        "failed": {"type": "array", "items": {"$ref": "#/$defs/Failed"}},
    },
}
"""What each line of `apply --format json` says besides `event` and `time`; more may be added."""


def schema_for(kind: str) -> dict[str, Any]:
    """Return the JSON Schema of one of `SCHEMA_KINDS`.

    Raises:
        KeyError: there is no such kind.
    """
    makers = {
        "manifest": manifest_schema,
        "lock": _lock,
        "state": _state,
        "plan": _plan,
        "events": _events,
    }
    body = makers[kind]()
    return {"$schema": _DRAFT, "$id": _ID.format(kind=kind), **body}


def schema_text(kind: str) -> str:
    """Return the schema as the text of ``specs/KIND.schema.json``."""
    return json.dumps(schema_for(kind), indent=2, ensure_ascii=False) + "\n"


def _definitions(*classes: type) -> dict[str, Any]:
    """Schemas of attrs classes and everything they hold, by class name."""
    return _components(classes)[1]


def _components(types: Iterable[Any]) -> tuple[list[Any], dict[str, Any]]:
    """The schemas of some types, and those of the classes they name."""
    import msgspec

    schemas, found = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    return [_tidy(schema) for schema in schemas], {
        name: _tidy(schema) for name, schema in sorted(found.items())
    }


def _tidy(value: Any) -> Any:
    """Digests get their pattern, descriptions lose the line breaks of the source."""
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if not isinstance(value, dict):
        return value
    tidied = {key: _tidy(item) for key, item in value.items()}
    if isinstance(tidied.get("description"), str):
        tidied["description"] = " ".join(tidied["description"].split("\n\n")[0].split())
    properties = tidied.get("properties")
    if isinstance(properties, dict):
        for name in properties.keys() & {"sha256", "spec_sha256"}:
            properties[name] = _with_pattern(properties[name])
    return tidied


def _with_pattern(schema: dict[str, Any]) -> dict[str, Any]:
    if "anyOf" in schema:
        return {**schema, "anyOf": [_with_pattern(option) for option in schema["anyOf"]]}
    return {**schema, "pattern": _SHA256["pattern"]} if schema.get("type") == "string" else schema


def _lock() -> dict[str, Any]:
    definitions = _definitions(LockedModel)
    what = LOCK_MODEL_KEYS["entry_sha256"].doc
    properties = definitions["LockedModel"]["properties"]
    properties["entry_sha256"] = {**_SHA256, "description": what}
    return {
        "title": "wanrec lock file",
        "description": "NAME.lock.toml: written by `wanrec lock`, committed, never edited by hand.",
        "type": "object",
        "properties": {
            "schema_version": {"const": LOCK_SCHEMA_VERSION},
            "models": {"type": "object", "additionalProperties": {"$ref": "#/$defs/LockedModel"}},
        },
        "required": ["schema_version"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _state() -> dict[str, Any]:
    types = {name: hint for name, hint in get_type_hints(State).items() if name != "extra"}
    schemas, definitions = _components(types.values())
    properties = dict(zip(types, schemas, strict=True))
    properties["format_version"] = {"const": STATE_FORMAT_VERSION}
    return {
        "title": "wanrec state",
        "description": "state.json: what wanrec put under a root. Unknown fields are kept.",
        "type": "object",
        "properties": properties,
        "required": [
            *("format_version", "wanrec_version", "lineage", "serial", "root_id"),
            *("models", "files"),
        ],
        "$defs": definitions,
    }


def _plan() -> dict[str, Any]:
    definitions = _definitions(Action, DriftItem, Block, RecordChange, Summary, PlanOptions)
    options = definitions["PlanOptions"]
    for name in _NOT_IN_PLAN_FILES:
        del options["properties"][name]
    properties = {
        "format_version": {"const": 1},
        "wanrec_version": _TEXT,
        "project": _TEXT,
        "lineage": _MAYBE_TEXT,
        "serial": _COUNT,
        "specs": {"type": "object", "additionalProperties": _SHA256},
        "options": {"$ref": "#/$defs/PlanOptions"},
        "selection": _STRINGS,
        "partial": {"type": "boolean"},
        "actions": _list_of("Action"),
        "records": _list_of("RecordChange"),
        "foreign": _STRINGS,
        "drift": _list_of("DriftItem"),
        "warnings": _STRINGS,
        "blocked": _list_of("Block"),
        "summary": {"$ref": "#/$defs/Summary"},
        "digest": {**_SHA256, "description": "Only in plan files: sha256 over everything else."},
    }
    return {
        "title": "wanrec plan",
        "description": "`plan --format json` and plan files; actions in execution order.",
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name != "digest"],
        "$defs": definitions,
    }


def _list_of(name: str) -> dict[str, Any]:
    return {"type": "array", "items": {"$ref": f"#/$defs/{name}"}}


def _events() -> dict[str, Any]:
    rules = [
        {
            "if": {"properties": {"event": {"const": kind.value}}},
            "then": {"properties": fields},
        }
        for kind, fields in EVENT_FIELDS.items()
    ]
    failed = {"address": _TEXT, "code": _TEXT, "exit": _COUNT, "retryable": {"type": "boolean"}}
    return {
        "title": "wanrec event",
        "description": "One line of `apply --format json` (NDJSON). More fields may be added.",
        "type": "object",
        "properties": {
            "event": {"enum": [kind.value for kind in EVENT_FIELDS]},
            "time": {"type": "string", "format": "date-time"},
        },
        "required": ["event", "time"],
        "allOf": rules,
        "$defs": {
            **_definitions(Summary),
            "Failed": {"type": "object", "properties": failed, "required": list(failed)},
        },
    }
