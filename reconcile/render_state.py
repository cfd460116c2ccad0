"""What is known, as tables for people and JSON for programs: status, state, history, locks,
collected node ids, settings.

Layout only: which rows there are, and their order, is the caller's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import attrs

from wanrec.reconcile.render_words import columns, escaped, human_bytes, plural, short_digest

if TYPE_CHECKING:  # `collect` and `validate` render without any of it
    from wanrec.reconcile.actions import ModelStatus
    from wanrec.state.model import FileRecord, ModelRecord, State

__all__ = [
    "LockRow",
    "collect_text",
    "config_text",
    "document",
    "history_text",
    "locks_json",
    "locks_text",
    "state_list_json",
    "state_list_text",
    "state_show_json",
    "state_show_text",
    "status_json",
    "status_text",
]

FORMAT_VERSION = 1
_LOCK_FIELDS = ("name", "pid", "host", "operation", "since", "run")
_HISTORY_FIELDS = ("serial", "time", "operation", "run", "wanrec_version", "models")


class LockRow(Protocol):
    """Who holds a lock; what is not known is None."""

    @property
    def name(self) -> str:
        """Return the lock's name, the ID of ``unlock ID``."""


def document(**fields: object) -> str:
    """Return a JSON document: `format_version` first, then the fields in the order given."""
    return json.dumps({"format_version": FORMAT_VERSION, **fields}, indent=2) + "\n"


def status_text(rows: Sequence[ModelStatus]) -> str:
    """Return one line per model: its state, what it needs, when it was last known good."""
    return columns(
        ("MODEL", "STATE", "NEEDED", "PRESENT", "LAST VERIFIED", "NOTES"),
        (
            (
                row.model,
                row.state.value,
                human_bytes(row.bytes_needed),
                human_bytes(row.bytes_present),
                row.last_verified or "never",
                _notes(row.presence, row.protect, row.pinned, len(row.missing_files)),
            )
            for row in rows
        ),
    )


def status_json(rows: Sequence[ModelStatus]) -> str:
    """Return the status of every model."""
    return document(models=[attrs.asdict(row) for row in rows])


def state_list_text(state: State) -> str:
    """Return one line per recorded model."""
    from wanrec.state.model import files_by_model

    grouped = files_by_model(state.files)
    return columns(
        ("MODEL", "FILES", "SIZE", "APPLIED", "OWNERS", "NOTES"),
        (
            (
                key,
                str(len(grouped.get(key, {}))),
                human_bytes(_size(grouped.get(key, {}))),
                record.applied_at or "never",
                ", ".join(dict.fromkeys(owner.project for owner in record.owners)) or "none",
                _notes(record.presence.value, record.protect, record.pinned, 0),
            )
            for key, record in state.models.items()
        ),
    )


def state_list_json(state: State) -> str:
    """Return the recorded models without their files."""
    from wanrec.state.model import files_by_model

    grouped = files_by_model(state.files)
    models = [
        {
            "model": key,
            "files": len(grouped.get(key, {})),
            "size": _size(grouped.get(key, {})),
            **attrs.asdict(record),
        }
        for key, record in state.models.items()
    ]
    return document(lineage=state.lineage, serial=state.serial, models=models)


def state_show_text(state: State, keys: Sequence[str] | None = None) -> str:
    """Return recorded models with all their files; None: every model."""
    from wanrec.state.model import files_by_model

    if not state.lineage and keys is None:
        return "Nothing is recorded yet.\n"
    grouped = files_by_model(state.files)
    head = f"lineage {escaped(state.lineage)}, serial {state.serial}\n" if keys is None else ""
    shown = state.models if keys is None else {key: state.models[key] for key in keys}
    blocks = [_model_block(key, record, grouped.get(key, {})) for key, record in shown.items()]
    return "\n".join([part for part in (head, *blocks) if part])


def state_show_json(state: State, keys: Sequence[str] | None = None) -> str:
    """Return recorded models and all their files as `state.json` has them; None: every model."""
    wanted = state.models.keys() if keys is None else frozenset(keys)
    files = {
        address: attrs.asdict(record)
        for address, record in state.files.items()
        if address.partition("::")[0] in wanted
    }
    return document(
        wanrec_version=state.wanrec_version,
        lineage=state.lineage,
        serial=state.serial,
        root_id=state.root_id,
        models={key: attrs.asdict(state.models[key]) for key in sorted(wanted)},
        files=dict(sorted(files.items())),
    )


def history_text(entries: Iterable[Mapping[str, object]]) -> str:
    """Return one line per change of the state; JSON is `document(history=[...])`."""
    header = tuple(field.replace("_", " ").upper() for field in _HISTORY_FIELDS)
    return columns(
        header, ([_cell(entry.get(field)) for field in _HISTORY_FIELDS] for entry in entries)
    )


def locks_text(locks: Sequence[LockRow]) -> str:
    """Return who holds what, since when."""
    if not locks:
        return "No locks are held.\n"
    header = tuple(field.upper() for field in _LOCK_FIELDS)
    rows = ([_cell(getattr(lock, name, None) or None) for name in _LOCK_FIELDS] for lock in locks)
    return columns(header, rows)


def locks_json(locks: Sequence[LockRow]) -> str:
    """Return who holds what, since when."""
    return document(
        locks=[{name: getattr(lock, name, None) for name in _LOCK_FIELDS} for lock in locks]
    )


def collect_text(
    node_ids: Sequence[str], origins: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Return one node id per line; with origins, where each one's values come from below it."""
    lines = []
    for node_id in node_ids:
        lines.append(escaped(node_id))
        lines += [f"    {escaped(origin)}" for origin in (origins or {}).get(node_id, ())]
    return "".join(f"{line}\n" for line in lines)


def config_text(rows: Iterable[tuple[str, str, str]]) -> str:
    """Return every setting, its value (secrets masked by the caller) and where it came from."""
    return columns(("SETTING", "VALUE", "FROM"), rows)


def _model_block(key: str, record: ModelRecord, files: Mapping[str, FileRecord]) -> str:
    facts = {
        "directory": record.directory,
        "applied": record.applied_at or "never",
        "owners": ", ".join(f"{owner.project} ({owner.spec})" for owner in record.owners),
        "notes": _notes(record.presence.value, record.protect, record.pinned, 0),
        "requires": ", ".join(record.requires),
    }
    lines = [f"{escaped(key)}  ({plural(len(files), 'file')}, {human_bytes(_size(files))})"]
    lines += [f"  {name + ':':<11}{escaped(value)}" for name, value in facts.items() if value]
    rows = [(path, *_file_cells(file)) for path, file in files.items()]
    table = columns(("FILE", "SIZE", "DIGEST", "ASSURANCE", "VERIFIED", "SOURCE"), rows)
    return "\n".join([*lines, *(f"  {line}" for line in table.splitlines() if rows)]) + "\n"


def _file_cells(file: FileRecord) -> tuple[str, ...]:
    digest = short_digest(file.sha256)
    return (
        human_bytes(file.size),
        digest,
        file.assurance.value,
        file.verified_at,
        file.source or "",
    )


def _notes(presence: str, protect: bool, pinned: bool, missing: int) -> str:
    notes = [presence] if presence != "required" else []
    notes += ["protected"] if protect else []
    notes += ["pinned"] if pinned else []
    notes += [f"{plural(missing, 'file')} missing"] if missing else []
    return ", ".join(notes)


def _size(files: Mapping[str, FileRecord]) -> int:
    return sum(file.size for file in files.values())


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(str(part) for part in value)
    return str(value)
