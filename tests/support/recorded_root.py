"""A root with real files and the state an apply would have written about them."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs

from wanrec.state.model import FileRecord, ModelRecord, State

__all__ = ["digest_of", "record_of", "recorded", "rfc3339", "written"]


def rfc3339(moment: datetime) -> str:
    """The form records use."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def digest_of(data: bytes) -> str:
    """The sha256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def written(root: Path, files: dict[str, bytes]) -> None:
    """Write files below the root, an hour old as far as their mtime tells."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        past = path.stat().st_mtime_ns - 3_600_000_000_000
        os.utime(path, ns=(past, past))


def record_of(root: Path, name: str, **changes: object) -> FileRecord:
    """The record of a file as it is now, verified a minute from now (so never racy)."""
    st = (root / name).lstat()
    record = FileRecord(
        path=name,
        size=st.st_size,
        sha256=digest_of((root / name).read_bytes()),
        mtime_ns=st.st_mtime_ns,
        ctime_ns=st.st_ctime_ns,
        ino=st.st_ino,
        dev=st.st_dev,
        verified_at=rfc3339(datetime.now(UTC) + timedelta(minutes=1)),
    )
    return attrs.evolve(record, **changes)  # type: ignore[arg-type]  # a table of changes


def recorded(root: Path, models: dict[str, str]) -> State:
    """The state of every file in the given model directories (key → directory)."""
    files = {}
    for key, directory in models.items():
        for path in sorted((root / directory).rglob("*")):
            if path.is_file() and not path.is_symlink():
                name = path.relative_to(root).as_posix()
                files[f"{key}::{path.relative_to(root / directory).as_posix()}"] = record_of(
                    root, name
                )
    return State(
        files=dict(sorted(files.items())),
        models={
            key: ModelRecord(spec_sha256="", directory=directory)
            for key, directory in models.items()
        },
    )
