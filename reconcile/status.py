"""Where every model stands: one of five words, and what is missing.

Pure: in go the wanted models, the state and what was observed; out comes one row a model. Stat
facts decide unless the bytes were read; a doubtful file that was not read counts as present.
"""

from __future__ import annotations

from collections.abc import Container

from wanrec.reconcile.actions import ModelStatus, Status
from wanrec.reconcile.model import (
    Desired,
    DesiredModel,
    EntryKind,
    FileFact,
    FileSpec,
    Observed,
    Presence,
)
from wanrec.state.model import FileRecord, State

__all__ = ["model_status"]


def model_status(
    desired: Desired,
    state: State,
    observed: Observed,
    *,
    busy: Container[str] = frozenset(),
) -> tuple[ModelStatus, ...]:
    """Return a row for each selected model, in the order of `desired`.

    Variants that are not installed appear only when the state knows them, or when nothing else was
    selected. `bytes_needed` are the
    bytes a source must still deliver (staged ones are not counted), `path` is the model directory
    relative to the root. Missing optional files do not count. Models of a live run (`busy`, or
    named by `observed`) are VERIFYING.
    """
    chosen = [model for model in desired.models if desired.selection.has_model(model.key)]
    shown = [model for model in chosen if model.installed or model.key in state.models]
    return tuple(
        _row(model, state, observed, model.key in busy or model.key in observed.busy)
        for model in shown or (chosen if desired.selection.keys is not None else ())
    )


def _row(model: DesiredModel, state: State, observed: Observed, busy: bool) -> ModelStatus:
    missing, present, needed, corrupt, found = [], 0, 0, False, False
    stamps = []
    for spec in model.files:
        address = f"{model.key}::{spec.path}"
        fact, record = observed.facts.get(address), state.files.get(address)
        verdict = _verdict(spec, record, fact)
        found = found or verdict is not Status.NOT_PRESENT
        if verdict is Status.COMPLETE:
            present += fact.size if fact else 0
            if record is not None:
                stamps.append(record.verified_at)
            continue
        if spec.optional and verdict is Status.NOT_PRESENT:
            continue
        corrupt = corrupt or verdict is Status.CORRUPT
        missing.append(spec.path)
        needed += 0 if spec.sha256 in observed.staged else spec.size or 0
    record_of_model = state.models.get(model.key)
    return ModelStatus(
        model=model.key,
        state=_word(busy=busy, corrupt=corrupt, found=found, whole=not missing),
        path=model.directory,
        bytes_needed=needed,
        bytes_present=present,
        missing_files=tuple(missing),
        last_verified=min(stamps, default=None),
        presence=(model.presence if model.installed else Presence.ON_DEMAND).value,
        pinned=record_of_model.pinned if record_of_model else False,
        protect=record_of_model.protect if record_of_model else model.protect,
    )


def _word(*, busy: bool, corrupt: bool, found: bool, whole: bool) -> Status:
    if busy:
        return Status.VERIFYING
    if corrupt:
        return Status.CORRUPT
    if whole and found:
        return Status.COMPLETE
    return Status.PARTIAL if found else Status.NOT_PRESENT


def _verdict(spec: FileSpec, record: FileRecord | None, fact: FileFact | None) -> Status:
    """Judge one file: COMPLETE, CORRUPT, NOT_PRESENT, or PARTIAL (there, but not what is wanted).

    An older version that is still as recorded is not corrupt, only not the wanted one.
    """
    if fact is None or fact.kind is EntryKind.MISSING:
        return Status.NOT_PRESENT
    if fact.kind is EntryKind.UNREADABLE:
        return Status.PARTIAL
    if fact.kind is not EntryKind.FILE:
        return Status.CORRUPT
    if record is not None and not _as_recorded(record, fact):
        return Status.CORRUPT
    if spec.sha256 is not None:
        known = fact.sha256 or (record.sha256 if record is not None else None)
        return Status.COMPLETE if known == spec.sha256 else _other(spec, record, fact)
    return Status.COMPLETE if spec.size in (None, fact.size) else _other(spec, record, fact)


def _other(spec: FileSpec, record: FileRecord | None, fact: FileFact) -> Status:
    """Bytes that are not the wanted ones: a recorded old version, or somebody's own file."""
    if record is not None:
        return Status.PARTIAL
    same_size = spec.size in (None, fact.size)
    return Status.PARTIAL if same_size and fact.sha256 is None else Status.CORRUPT


def _as_recorded(record: FileRecord, fact: FileFact) -> bool:
    return fact.size == record.size and fact.sha256 in (None, record.sha256)
