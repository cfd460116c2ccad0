"""Edits of the state that no plan makes: mv, rm, pin, rebuild.

Each goes through a run and its journal like any apply, so a crash leaves the old state or the new
one. None of them fetches, moves or deletes a model file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile import content
from wanrec.reconcile.disk import Root
from wanrec.reconcile.engine_ensure import recorded_key
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import Assurance, EntryKind
from wanrec.reconcile.plan_scope import record_of
from wanrec.reconcile.recover import end_swaps
from wanrec.reconcile.stage_identity import rfc3339, settled
from wanrec.reconcile.telemetry import EventKind, EventSink, emit
from wanrec.state.model import (
    FileRecord,
    ModelCommit,
    ModelRecord,
    ProjectRecord,
    State,
    files_by_model,
    lock_name,
)
from wanrec.state.run import RunHeader
from wanrec.state.store import StateStore

if TYPE_CHECKING:
    from wanrec.reconcile.model import DesiredModel
    from wanrec.reconcile.workbench import Workbench

__all__ = ["move_record", "rebuild", "remove_record", "set_pinned"]


def move_record(
    store: StateStore, project: str, source: str, target: str, now: Callable[[], int]
) -> None:
    """Let the record of `source` be the record of `target`; files stay where they are.

    Raises:
        WanrecError: MODEL_NOT_FOUND; NAME_COLLISION when `target` is recorded already.
    """
    state = store.read_overlay().state
    key = _known(state, source)
    if target in state.models:
        raise WanrecError(
            ErrorCode.NAME_COLLISION,
            f"{target} is recorded already",
            address=target,
            hint=f"wanrec state rm {target}",
        )
    old = state.models[key]
    files = files_by_model(state.files).get(key, {})
    record = attrs.evolve(old, generation=1, applied_at=rfc3339(now()))
    with store.begin_run(RunHeader(operation="state mv", project=project)) as run:
        run.append_commit(ModelCommit(key=target, model=record, files=files))
        run.append_commit(ModelCommit(key=key, model=None))
        run.fold()


def remove_record(store: StateStore, project: str, model: str) -> None:
    """Forget a model; its files stay and become foreign.

    Raises:
        WanrecError: MODEL_NOT_FOUND; PROTECTED.
    """
    state = store.read_overlay().state
    key = _known(state, model)
    with store.begin_run(RunHeader(operation="state rm", project=project)) as run:
        run.append_commit(ModelCommit(key=key, model=None))
        run.fold()


def set_pinned(store: StateStore, project: str, model: str, pinned: bool, timeout_s: float) -> str:
    """Pin or unpin a model under its lock; returns its key.

    Raises:
        WanrecError: MODEL_NOT_FOUND; LOCK_TIMEOUT.
    """
    operation = "pin" if pinned else "unpin"
    seen = store.read_overlay().state
    key = _known(seen, model)
    if seen.models[key].pinned is pinned:
        return key
    with store.locks.acquire(lock_name(key), timeout_s, operation):
        state = store.read_overlay().state
        old = state.models[_known(state, key)]
        record = attrs.evolve(old, pinned=pinned, generation=old.generation + 1)
        files = files_by_model(state.files).get(key, {})
        with store.begin_run(RunHeader(operation=operation, project=project)) as run:
            run.append_commit(ModelCommit(key=key, model=record, files=files))
            run.fold()
    return key


def _known(state: State, model: str) -> str:
    key = recorded_key(state, model, None)
    if key is None:
        raise WanrecError(
            ErrorCode.MODEL_NOT_FOUND, f"the state knows no {model!r}", hint="wanrec state list"
        )
    return key


def rebuild(engine: Workbench, root: Root, store: StateStore, sink: EventSink) -> State:
    """Make the state anew: memories from backup and journals, facts from the disk.

    What the memories name is hashed; what only the specs name is hashed too and taken when the
    bytes are right. Files that are neither are left to the next plan, as foreign.

    Raises:
        WanrecError: STATE_NEWER; disk and lock errors. The old state is then still in place.
    """
    dead = store.recoverable_runs()
    try:
        past = store.salvage()
        now = engine.now()
        models: dict[str, ModelRecord] = dict(past.models)
        files: dict[str, FileRecord] = {}
        remembered = files_by_model(past.files)
        until_ns = now + int(engine.settings.swap_grace * 1e9)
        for commit in end_swaps(root, dead, until_ns=until_ns):
            remembered[commit.key] = dict(commit.files)
            if commit.model is not None:
                models[commit.key] = commit.model
        for key in list(models):
            found = _hashed(root, key, remembered.get(key, {}), sink)
            if found:
                files |= {f"{key}::{path}": record for path, record in found.items()}
            else:
                del models[key]
        for model in _wanted(engine):
            found = _found_by_spec(root, model, files, sink)
            if found:
                files |= {f"{model.key}::{path}": record for path, record in found.items()}
                if model.key not in models:
                    models[model.key] = _record_of(engine, model, found, rfc3339(now))
        stamp = rfc3339(settled(engine.now, [root.stat(r.path) for r in files.values()]))
        files = {a: attrs.evolve(r, verified_at=stamp) for a, r in sorted(files.items())}
        state = State(
            lineage=past.lineage or "",
            serial=past.serial + 1,
            models=dict(sorted(models.items())),
            files=files,
            projects=_projects(engine, past.projects, models),
        )
        return store.install(state, dead)
    finally:
        for run in dead:
            run.release()


def _projects(
    engine: Workbench, past: Mapping[str, ProjectRecord], models: Mapping[str, ModelRecord]
) -> dict[str, ProjectRecord]:
    """What is remembered of projects; where nobody knows better, this one is applied from here."""
    project = engine.settings.project
    if any(owner.project == project for model in models.values() for owner in model.owners):
        return {project: ProjectRecord(directory=str(engine.project_dir)), **past}
    return dict(past)


def _hashed(
    root: Root, key: str, memories: Mapping[str, FileRecord], sink: EventSink
) -> dict[str, FileRecord]:
    """The remembered files that are still there with the remembered bytes, as of now."""
    found = {}
    for path, memory in memories.items():
        record = _read(root, memory.path)
        if record is not None and record.sha256 == memory.sha256:
            emit(sink, EventKind.ACTION_COMPLETE, address=f"{key}::{path}", action="verify")
            found[path] = attrs.evolve(
                memory,
                mtime_ns=record.mtime_ns,
                ctime_ns=record.ctime_ns,
                ino=record.ino,
                dev=record.dev,
            )
    return found


def _found_by_spec(
    root: Root, model: DesiredModel, known: Mapping[str, FileRecord], sink: EventSink
) -> dict[str, FileRecord]:
    found = {}
    for file in model.files:
        address = f"{model.key}::{file.path}"
        place = f"{model.directory}/{file.path}"
        if address in known or root.stat(place).kind is not EntryKind.FILE:
            continue
        record = _read(root, place)
        if record is not None and file.sha256 == record.sha256:
            emit(sink, EventKind.ACTION_COMPLETE, address=address, action="adopt")
            found[file.path] = record
    return found


def _read(root: Root, place: str) -> FileRecord | None:
    fact = root.stat(place)
    if fact.kind is not EntryKind.FILE:
        return None
    fd = root.open_read(place)
    try:
        digest, size = content.hash_fd(fd, fact.size)
    finally:
        os.close(fd)
    return FileRecord(
        path=place,
        size=size,
        sha256=digest,
        mtime_ns=fact.mtime_ns,
        ctime_ns=fact.ctime_ns,
        ino=fact.ino,
        dev=fact.dev,
        verified_at="",
        assurance=Assurance.FOUND,
    )


def _wanted(engine: Workbench) -> tuple[DesiredModel, ...]:
    """What the specs want, if there are any: a rebuild works without them too."""
    from wanrec.reconcile.desired import SelectArgs

    try:
        return engine.collect(SelectArgs()).models
    except WanrecError:
        return ()


def _record_of(
    engine: Workbench, model: DesiredModel, found: Mapping[str, FileRecord], now: str
) -> ModelRecord:
    whole = all(file.path in found for file in model.files)
    return attrs.evolve(
        record_of(model, None, engine.settings.project),
        spec_sha256=model.spec_sha256 if whole else "",
        applied_at=now,
    )
