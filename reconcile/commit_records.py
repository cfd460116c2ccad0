"""What a commit puts where, what the state will say of it, which bytes are ours to remove.

In: old records, what was gathered, the stat identities of the files as they now lie. Out: new
records. Reads bytes only to tell a user's file from ours; writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import attrs

from wanrec.reconcile import content
from wanrec.reconcile.content_rules import check_index, is_index
from wanrec.reconcile.disk import Root
from wanrec.reconcile.errors import WanrecError
from wanrec.reconcile.gather import Gathered
from wanrec.reconcile.model import ActionKind, Assurance, DesiredModel, EntryKind, FileFact
from wanrec.reconcile.plan_scope import record_of
from wanrec.reconcile.stage import Placement
from wanrec.reconcile.stage_identity import same_identity
from wanrec.reconcile.trust import is_trusted
from wanrec.state.model import FileRecord, ModelRecord

__all__ = [
    "found_in_place",
    "incomplete",
    "next_record",
    "not_ours",
    "placements_of",
    "records_of",
]


def next_record(
    old: ModelRecord | None, model: DesiredModel, project: str, complete: bool, now: str
) -> ModelRecord:
    """The model record after a commit by `project`.

    An incomplete model (an optional file is missing, or only a part was selected) carries no
    `spec_sha256`: that digest vouches for all files of the spec.
    """
    return attrs.evolve(
        record_of(model, old, project),
        spec_sha256=model.spec_sha256 if complete else "",
        applied_at=now,
        generation=old.generation + 1 if old else 1,
    )


def records_of(
    directory: str,
    kept: Mapping[str, FileRecord],
    gathered: Mapping[str, Gathered],
    facts: Mapping[str, FileFact],
    now: str,
) -> dict[str, FileRecord]:
    """Path → record for kept and gathered files.

    Args:
        directory: the model directory, relative to the root.
        kept: records of files that stay as they are.
        gathered: files whose bytes were verified in this run.
        facts: path → stat identity; a kept file without one keeps its record as it is.
        now: RFC 3339, later than every identity (see `stage.settled`).
    """
    records: dict[str, FileRecord] = {}
    for path in sorted(kept.keys() | gathered.keys()):
        fact, new, old = facts.get(path), gathered.get(path), kept.get(path)
        if fact is None:
            if old is not None:
                records[path] = old
        elif new is not None and (old is None or not new.in_place):
            records[path] = _new_record(f"{directory}/{path}", new, fact, now)
        elif old is not None:
            # A kept file was linked, not read: as trusted as before, only its inode's clock moved.
            assurance = old.assurance if new is None else Assurance.VERIFIED
            records[path] = attrs.evolve(
                old,
                path=f"{directory}/{path}",
                mtime_ns=fact.mtime_ns,
                ctime_ns=fact.ctime_ns,
                ino=fact.ino,
                dev=fact.dev,
                verified_at=now,
                assurance=assurance,
            )
    return records


def _new_record(place: str, new: Gathered, fact: FileFact, now: str) -> FileRecord:
    return FileRecord(
        path=place,
        size=new.size,
        sha256=new.sha256,
        mtime_ns=fact.mtime_ns,
        ctime_ns=fact.ctime_ns,
        ino=fact.ino,
        dev=fact.dev,
        verified_at=now,
        assurance=new.assurance,
        source=new.source,
        revision=new.revision,
        etag=new.etag,
    )


def incomplete(
    root: Root,
    model: DesiredModel,
    kept: Mapping[str, FileRecord],
    gathered: Mapping[str, Gathered],
) -> WanrecError | None:
    """Why the model would not be whole although every file is right: an index names more shards.

    Judged only once all files of the spec are there; a run that brings single files is not.
    """
    sizes = {path: record.size for path, record in kept.items()}
    sizes |= {path: got.size for path, got in gathered.items()}
    if any(file.path not in sizes for file in model.files):
        return None
    for path in sorted(filter(is_index, sizes)):
        got = gathered.get(path)
        origin = got.origin if got else kept[path].path
        fault = check_index(root.read_small(origin), path, sizes)
        if fault is not None:
            return WanrecError(
                fault.code,
                f"{model.key}: {fault.message}",
                address=f"{model.key}::{path}",
                where=path,
                hint="add the missing files to the spec, or wanrec lock",
            )
    return None


def not_ours(
    root: Root, directory: str, recorded: Mapping[str, FileRecord], drop: Iterable[str]
) -> list[str]:
    """Paths to delete whose bytes are no longer the recorded ones: they are somebody else's."""
    spared = []
    for path in drop:
        record = recorded.get(path)
        name = record.path if record else f"{directory}/{path}"
        fact = root.stat(name)
        if fact.kind is EntryKind.MISSING:
            continue
        if record is None or not _still_ours(root, name, record, fact):
            spared.append(path)
    return spared


def found_in_place(root: Root, record: FileRecord) -> Gathered | None:
    """The recorded file, read again: None when its bytes are no longer the recorded ones."""
    before = root.stat(record.path)
    if before.kind is not EntryKind.FILE or before.size != record.size:
        return None
    fd = root.open_read(record.path)
    try:
        digest, _ = content.hash_fd(fd, before.size)
    finally:
        os.close(fd)
    if digest != record.sha256 or not same_identity(before, root.stat(record.path)):
        return None
    return Gathered(
        path=record.path,
        origin=record.path,
        take=False,
        in_place=True,
        identity=before,
        size=before.size,
        sha256=digest,
        kind=ActionKind.VERIFY,
    )


def _still_ours(root: Root, name: str, record: FileRecord, fact: FileFact) -> bool:
    if fact.kind is not EntryKind.FILE or fact.size != record.size:
        return False
    if is_trusted(record, fact.size, fact.mtime_ns, fact.ctime_ns, fact.ino):
        return True
    fd = root.open_read(name)
    try:
        digest, _ = content.hash_fd(fd, fact.size)
    finally:
        os.close(fd)
    return digest == record.sha256


def placements_of(
    root: Root,
    tree: str,
    kept: Mapping[str, FileRecord],
    gathered: Mapping[str, Gathered],
) -> list[Placement]:
    """Say where each file of the next directory comes from: gathered bytes, else the old file."""
    placements = []
    taken: dict[str, str] = {}
    for path in sorted(gathered, key=lambda p: (not gathered[p].take, p)):
        got = gathered[path]
        again = taken.get(got.origin)
        if again is None and got.take:
            taken[got.origin] = f"{tree}/{path}"
        placements.append(
            Placement(
                path=path,
                origin=again or got.origin,
                take=got.take and again is None,
                identity=None if again else got.identity,
                sha256=got.sha256,
                shared=again is not None or _shares(got),
            )
        )
    for path, record in kept.items():
        fact = None if path in gathered else root.stat(record.path)
        if fact is not None and fact.kind is EntryKind.FILE:
            placements.append(
                Placement(
                    path=path,
                    origin=record.path,
                    take=False,
                    identity=fact,
                    sha256=record.sha256,
                )
            )
    return placements


def _shares(got: Gathered) -> bool:
    """True when the bytes belong to another file that stays."""
    return not (got.take or got.in_place or got.kind is ActionKind.MOVE)
