"""State ↔ bytes: the file format of `state.json`, and nothing that touches a disk.

`encode` writes one entry per line, so that two states can be read as a diff; `decode` goes
straight from JSON into the frozen records. Fields that this wanrec does not know are kept and
written back. What is torn, empty, of a wrong type or holds a key twice is refused
(STATE_CORRUPT), and so is a newer format (STATE_NEWER); nothing is ever repaired in passing.
"""

from __future__ import annotations

import functools
import gc
import operator
import types
from collections.abc import Mapping
from typing import Any

import attrs
import msgspec

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.state.model import (
    STATE_FORMAT_VERSION,
    FileRecord,
    ModelRecord,
    PlanProgress,
    ProjectRecord,
    State,
)

__all__ = ["decode", "encode", "salvage_lines"]

_TOP = ("", "")
_BAD_JSON = (msgspec.MsgspecError, ValueError, RecursionError)
_REBUILD = "wanrec state rebuild"


class _Wire(msgspec.Struct):
    """The top level of the file; its field order is the file's."""

    format_version: int
    wanrec_version: str
    lineage: str
    serial: int
    root_id: str
    models: dict[str, ModelRecord]
    files: dict[str, FileRecord]
    projects: dict[str, ProjectRecord] = {}
    last_plan: PlanProgress | None = None
    folded: tuple[str, ...] = ()


class _Head(msgspec.Struct):
    format_version: int


_TABLES: dict[str, type[Any]] = {
    "models": ModelRecord,
    "files": FileRecord,
    "projects": ProjectRecord,
}
_encode_json = msgspec.json.Encoder().encode


@functools.cache
def _wire_decoder() -> msgspec.json.Decoder[_Wire]:
    return msgspec.json.Decoder(_Wire)


def encode(state: State) -> bytes:
    """Return the bytes of `state.json`: sorted tables, one entry per line, a final newline."""
    extra = state.extra or {}
    tables = {"models": state.models, "files": state.files, "projects": state.projects}
    lines = []
    for name in _Wire.__struct_fields__:
        if name in tables:
            entries = b",\n".join(_entries(tables[name], name, extra))
            value = b"{\n" + entries + b"\n}" if entries else b"{}"
        elif ("", name) in extra:
            value = _encode_json(_merged(getattr(state, name), extra[("", name)]))
        else:
            value = _encode_json(getattr(state, name))
        lines.append(b'"%s": %s' % (name.encode(), value))
    for name, unknown in extra.get(_TOP, {}).items():
        lines.append(_encode_json(name) + b": " + _encode_json(unknown))
    return b"{\n" + b",\n".join(lines) + b"\n}\n"


def _entries(
    table: Mapping[str, object],
    name: str,
    extra: Mapping[tuple[str, str], Mapping[str, object]],
) -> list[bytes]:
    """One `"key":{…}` a record, its fields in the order they are declared in."""
    to_json = _encode_json
    if any(place[0] == name for place in extra):
        return [
            b" " + to_json({key: _merged(table[key], extra.get((name, key), {}))})[1:-1]
            for key in sorted(table)
        ]
    names = [field.name for field in attrs.fields(_TABLES[name])]
    if len(names) == 1:
        return [b" " + to_json({key: table[key]})[1:-1] for key in sorted(table)]
    # A struct keeps the declared order (an attrs class does not) and costs a third of a dict.
    line, values = msgspec.defstruct("Line", names, gc=False), operator.attrgetter(*names)
    return [b" " + to_json({key: line(*values(table[key]))})[1:-1] for key in sorted(table)]


def _merged(record: object, unknown: Mapping[str, object]) -> object:
    if record is None:
        return None
    cls: type[Any] = type(record)
    known = {field.name: getattr(record, field.name) for field in attrs.fields(cls)}
    return known | dict(unknown)


def decode(data: bytes, where: str) -> State:
    """Return the state in the bytes; `where` names the file in errors.

    Raises:
        WanrecError: STATE_NEWER for a newer format; STATE_CORRUPT for everything else that is
            not a whole state of this format.
    """
    collecting = gc.isenabled()
    gc.disable()  # 100,000 new records would be walked again and again: a third of the time
    try:
        wire = _wire_decoder().decode(data)
    except _BAD_JSON as exc:
        _refuse_newer(data, where)
        raise _corrupt(where, str(exc) or type(exc).__name__) from exc
    finally:
        if collecting:
            gc.enable()
    if wire.format_version > STATE_FORMAT_VERSION:
        raise _newer(where, wire.format_version)
    if wire.format_version < 1 or wire.serial < 0:
        raise _corrupt(where, f"format_version {wire.format_version}, serial {wire.serial}")
    for address, file in wire.files.items():
        if "::" not in address:
            raise _corrupt(where, f"not an address: {address!r}")
        # The disk refuses such a path too, but would blame a spec for it.
        if _leaves_root(file.path):
            raise _corrupt(where, f"not a path below the root: {file.path!r}")
    for model in wire.models.values():
        if _leaves_root(model.directory):
            raise _corrupt(where, f"not a path below the root: {model.directory!r}")
    extra = None
    if data.count(b'":') != _key_count(wire):
        extra = _unknown_fields(_checked_json(data, where)) or None
    fields = {name: getattr(wire, name) for name in _Wire.__struct_fields__}
    return State(**fields, extra=extra)


def _leaves_root(path: str) -> bool:
    return path[:1] == "/" or (".." in path and ".." in path.split("/"))


def _key_count(wire: _Wire) -> int:
    """How many JSON keys the file holds when it is exactly what `encode` writes.

    Any other number of `":` in the bytes means unknown fields, a key given twice, missing
    optional fields or such characters inside a string: only then the slow reader must look.
    """
    return (
        len(_Wire.__struct_fields__)
        + len(wire.models) * (1 + len(attrs.fields(ModelRecord)))
        + 2 * sum(len(model.owners) for model in wire.models.values())
        + len(wire.files) * (1 + len(attrs.fields(FileRecord)))
        + len(wire.projects) * (1 + len(attrs.fields(ProjectRecord)))
        + (len(attrs.fields(PlanProgress)) if wire.last_plan else 0)
    )


def _checked_json(data: bytes, where: str) -> dict[str, Any]:
    import json

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen = dict(pairs)
        if len(seen) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise _corrupt(where, f"key {twice!r} is there twice")
        return seen

    try:
        parsed: dict[str, Any] = json.loads(data, object_pairs_hook=no_duplicates)
    except _BAD_JSON as exc:
        raise _corrupt(where, str(exc) or type(exc).__name__) from exc
    return parsed


def _unknown_fields(raw: dict[str, Any]) -> dict[tuple[str, str], dict[str, object]]:
    found = {_TOP: _beyond(raw, set(_Wire.__struct_fields__))}
    for table, cls in _TABLES.items():
        known = {field.name for field in attrs.fields(cls)}
        for key, record in raw.get(table, {}).items():
            found[(table, key)] = _beyond(record, known)
    known = {field.name for field in attrs.fields(PlanProgress)}
    found[("", "last_plan")] = _beyond(raw.get("last_plan") or {}, known)
    return {place: fields for place, fields in found.items() if fields}


def _beyond(record: dict[str, Any], known: set[str]) -> dict[str, object]:
    return {name: value for name, value in record.items() if name not in known}


def _refuse_newer(data: bytes, where: str) -> None:
    try:
        head = msgspec.json.decode(data, type=_Head)
    except _BAD_JSON:
        return
    if head.format_version > STATE_FORMAT_VERSION:
        raise _newer(where, head.format_version)


def _newer(where: str, version: int) -> WanrecError:
    return WanrecError(
        ErrorCode.STATE_NEWER,
        f"the state has format {version}, this wanrec reads up to {STATE_FORMAT_VERSION}",
        where=where,
        detail="it was written by a newer wanrec; nothing was changed",
        hint="upgrade wanrec: pip install -U wanrec",
    )


def _corrupt(where: str, detail: str) -> WanrecError:
    return WanrecError(
        ErrorCode.STATE_CORRUPT,
        "the state file cannot be read",
        where=where,
        detail=detail,
        hint=_REBUILD,
    )


def salvage_lines(data: bytes) -> State:
    """Return whatever whole entries a damaged file still holds; never raises.

    It relies on the layout of `encode`: each line that is a whole entry stands for itself. The
    result is for `state rebuild` alone, which hashes the disk before it trusts a record.
    """
    head: dict[str, Any] = {"lineage": "", "root_id": "", "serial": 0}
    tables: dict[str, dict[str, Any]] = {name: {} for name in _TABLES}
    table = ""
    for line in data.splitlines():
        text = line.strip().rstrip(b",")
        if text.startswith(b'"') and text.endswith(b"{"):
            table = text.split(b'"')[1].decode("ascii", "replace")
        elif table in tables and line.startswith(b" "):
            tables[table].update(_parsed(b"{%s}" % text, _entry_decoder(table)))
        elif text.startswith(b'"'):
            for name, value in _parsed(b"{%s}" % text, _entry_decoder("")).items():
                if name in head and isinstance(value, type(head[name])):
                    head[name] = value
    return State(
        lineage=head["lineage"],
        root_id=head["root_id"],
        serial=max(0, head["serial"]),
        models={k: m for k, m in tables["models"].items() if not _leaves_root(m.directory)},
        files={k: f for k, f in tables["files"].items() if not _leaves_root(f.path)},
        projects=tables["projects"],
    )


@functools.cache
def _entry_decoder(table: str) -> msgspec.json.Decoder[dict[str, Any]]:
    value: Any = _TABLES.get(table, Any)
    return msgspec.json.Decoder(types.GenericAlias(dict, (str, value)))


def _parsed(text: bytes, decoder: msgspec.json.Decoder[dict[str, Any]]) -> dict[str, Any]:
    try:
        return decoder.decode(text)
    except _BAD_JSON:
        return {}
