"""Private part files below the root, and how a verified one becomes a blob of the stage.

Everything goes through a `StageDir`, which the disk room implements: paths are relative to the
root and never leave it. A part is created exclusively, under a name no other process can have;
it gets its content name only after its sha256 was checked by the caller.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from contextlib import AbstractContextManager
from typing import Protocol

from wanrec.providers.hashing import write_at
from wanrec.reconcile.errors import WanrecError
from wanrec.reconcile.model import EntryKind, FileFact

__all__ = ["BLOB_DIR", "PARTIAL_DIR", "Part", "Parts", "StageDir", "part_name"]

PARTIAL_DIR = ".wanrec/partial"
BLOB_DIR = ".wanrec/stage/blob"


class StageDir(Protocol):
    """The door to the disk below the root; every method raises `WanrecError` only."""

    def make_dirs(self, rel: str, mode: int = 0o755) -> None:
        """Create a folder and its parents; fine when they are there."""

    def create(self, rel: str, mode: int = 0o600) -> int:
        """Create a new file exclusively and return a descriptor to read and write it."""

    def rename(self, src: str, dst: str) -> None:
        """Rename over whatever lies at the target."""

    def unlink(self, rel: str) -> None:
        """Remove one name."""

    def stat(self, rel: str) -> FileFact:
        """Say what lies at a path, links never followed."""

    def folder(self, rel: str) -> AbstractContextManager[tuple[int | None, str]]:
        """Open a folder for `os` calls: a folder descriptor, or None, and a prefix for names."""


def part_name(token: str) -> str:
    """A root-relative name for a part that no other process can have."""
    return f"{PARTIAL_DIR}/{token}-{os.getpid()}-{secrets.token_hex(4)}.part"


class Part:
    """One open part: its root-relative path and its descriptor."""

    def __init__(self, rel: str, fd: int) -> None:
        self.rel = rel
        self.fd = fd

    def close(self) -> None:
        """Close the descriptor; safe to call twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Parts:
    """Makes, discards and lands parts in one root."""

    def __init__(self, stage: StageDir, blob_dir: str = BLOB_DIR) -> None:
        self.stage = stage
        self._blob_dir = blob_dir
        self._ready = False
        self._writes = threading.Condition()
        self._writing: set[str] = set()

    def create(self, token: str) -> Part:
        """Create a part for a content token (a sha256, or any word safe in a file name)."""
        self.make_folders()
        rel = part_name(token)
        return Part(rel, self.stage.create(rel))

    def discard(self, part: Part) -> None:
        """Close and remove a part; one that is gone already is fine."""
        part.close()
        with contextlib.suppress(WanrecError):
            self.stage.unlink(part.rel)

    def land(self, part: Part, sha256: str, size: int) -> str:
        """Give a verified part its content name and return it.

        A blob of this name that is already there has the same content by definition, and may be
        linked by somebody right now: it stays, and the part goes.
        """
        part.close()
        blob = self.blob(sha256)
        there = self.stage.stat(blob)
        if there.kind is EntryKind.FILE and there.size == size:
            self.discard(part)
        else:
            self.stage.rename(part.rel, blob)
        return blob

    def blob(self, sha256: str) -> str:
        """The root-relative path of some content in the stage."""
        return f"{self._blob_dir}/{sha256}"

    def put(self, content: memoryview, sha256: str) -> str:
        """Write verified bytes under their content name at once and return it.

        Only for a folder that nobody else reads: while this works, the file is there in part. Of
        two threads with the same content the second finds what the first one wrote.

        Raises:
            WanrecError: creating it failed.
            OSError: writing it failed; nothing is left of it.
        """
        self.make_folders()
        with self._writes:
            self._writes.wait_for(lambda: sha256 not in self._writing)
            self._writing.add(sha256)
        try:
            return self._write_blob(content, sha256)
        finally:
            with self._writes:
                self._writing.discard(sha256)
                self._writes.notify_all()

    def _write_blob(self, content: memoryview, sha256: str) -> str:
        blob = self.blob(sha256)
        try:
            fd = self.stage.create(blob)
        except WanrecError:
            there = self.stage.stat(blob)
            if there.kind is EntryKind.FILE and there.size == len(content):
                return blob
            raise
        try:
            try:
                write_at(fd, content, 0)
            finally:
                os.close(fd)
        except BaseException:
            with contextlib.suppress(WanrecError):  # the first error is the one that tells
                self.stage.unlink(blob)
            raise
        return blob

    @property
    def private(self) -> bool:
        """True when nobody else looks into the folder of blobs."""
        return self._blob_dir != BLOB_DIR

    def make_folders(self) -> None:
        """Create the folders of parts and blobs, once."""
        if not self._ready:
            self.stage.make_dirs(PARTIAL_DIR, 0o700)
            self.stage.make_dirs(self._blob_dir, 0o700)
            self._ready = True
