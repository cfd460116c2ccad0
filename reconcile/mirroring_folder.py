"""A folder that a mirror is written into: on a disk that is carried away, or a share.

Every file is written beside its name, flushed, and renamed; a draft is removed when it failed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from wanrec.providers.shelf import Incoming, Shelf
from wanrec.reconcile.disk_errors import translate_os_error
from wanrec.reconcile.engine_files import write_output

__all__ = ["FolderShelf"]

_CHUNK = 1024 * 1024


class FolderShelf(Shelf):
    """One folder; made when the first file comes."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._folder = folder

    def holds(self, name: str, size: int, sha256: str) -> bool:
        """As the base class; name and size."""
        place = self._folder / name
        with _translated(place, "look at"):
            return place.is_file() and place.stat().st_size == size

    def put(self, name: str, incoming: Incoming) -> None:
        """As the base class."""
        place = self._made(name)
        draft = place.with_name(f".{place.name}.part")
        try:
            with _translated(place, "write"):
                with draft.open("wb") as writer:
                    while chunk := incoming.read(_CHUNK):
                        writer.write(chunk)
                    writer.flush()
                    os.fsync(writer.fileno())
                draft.replace(place)
        finally:
            draft.unlink(missing_ok=True)

    def read(self, name: str) -> bytes | None:
        """As the base class."""
        place = self._folder / name
        with _translated(place, "read"):
            try:
                return place.read_bytes()
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """As the base class; equal content is left as it is."""
        place = self._made(name)
        if self.read(name) != data:
            write_output(place, data)

    def present(self, names: Iterable[str]) -> set[str]:
        """As the base class."""
        return {name for name in names if (self._folder / name).is_file()}

    def room(self) -> int | None:
        """As the base class: of the file system the folder lies on, or will."""
        there = next(
            place
            for place in (self._folder.absolute(), *self._folder.absolute().parents)
            if place.exists()
        )
        with _translated(there, "look at"):
            return shutil.disk_usage(there).free

    def _made(self, name: str) -> Path:
        place = self._folder / name
        with _translated(place.parent, "create"):
            place.parent.mkdir(parents=True, exist_ok=True)
        return place


@contextmanager
def _translated(place: Path, doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise translate_os_error(error, str(place), doing) from error
