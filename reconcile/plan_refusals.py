"""Why one file may not be planned: a name shared with another project, a link, a foreign file."""

from __future__ import annotations

from collections.abc import Mapping

from wanrec.reconcile.actions import Block
from wanrec.reconcile.errors import ErrorCode
from wanrec.reconcile.model import DesiredModel, EntryKind, FileFact, FileSpec
from wanrec.state.model import FileRecord

__all__ = ["clash", "fits", "foreign", "matches", "unsafe"]


def fits(spec: FileSpec, size: int, sha256: str) -> bool:
    """True when bytes are what the spec asks for; what it does not say, it does not ask for."""
    return spec.size in (None, size) and spec.sha256 in (None, sha256)


def matches(spec: FileSpec, record: FileRecord) -> bool:
    """True when a record is of the bytes the spec asks for."""
    return fits(spec, record.size, record.sha256)


def clash(model: DesiredModel, records: Mapping[str, FileRecord]) -> Block | None:
    """Another project owns this model: its bytes are not this project's to change."""
    for spec in sorted(model.files, key=lambda spec: spec.path):
        record = records.get(spec.path)
        if record is not None and not matches(spec, record):
            return Block(
                code=ErrorCode.NAME_COLLISION,
                message=f"another project owns {model.key} with other bytes in {spec.path}",
                address=f"{model.key}::{spec.path}",
                hint="give one of the two another version or name",
            )
    return None


def unsafe(address: str, fact: FileFact) -> Block:
    """Something that is no regular file lies at a wanted path; links are never followed."""
    if fact.error is not None:  # the place itself could not be reached
        return Block(
            code=ErrorCode.UNSAFE_PATH,
            message=fact.error,
            address=address,
            hint="put a folder in its place; links below the root are never followed",
        )
    names = {EntryKind.SYMLINK: "a symbolic link", EntryKind.DIRECTORY: "a directory"}
    return Block(
        code=ErrorCode.UNSAFE_PATH,
        message=f"{names.get(fact.kind, 'a special file')} lies where a file belongs",
        address=address,
        hint="move it out of the model directory, then plan again",
    )


def foreign(address: str, fact: FileFact, spec: FileSpec) -> Block:
    """A file that the state does not know, with other bytes, lies at a wanted path."""
    if fact.kind is EntryKind.UNREADABLE:
        why = f"it cannot be read ({fact.error or 'unknown reason'})"
    elif spec.size is not None and fact.size != spec.size:
        why = f"{fact.size} bytes instead of {spec.size}"
    else:
        why = "other content" if fact.sha256 else "content not known"
    return Block(
        code=ErrorCode.FOREIGN_FILE,
        message=f"a file that wanrec did not make lies at a wanted path: {why}",
        address=address,
        hint="move it away, or replace it with --allow-foreign",
    )
