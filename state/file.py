"""The state as a file: `.wanrec/state.json` under the root, or wherever `--state` says.

The previous content stays as `NAME.backup` beside it. At every instant, also after a crash, a
whole state lies at the path: the backup gets its name first, then the new content is renamed
over the old one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from wanrec.state.atomic import keep_backup, read_regular, sweep_temporaries, write_atomic
from wanrec.state.reading import WANREC_DIR
from wanrec.state.store import StateStore

if TYPE_CHECKING:
    from wanrec.state.lock import StopFlag

__all__ = ["FileStore"]


class FileStore(StateStore):
    """A state in one JSON file."""

    def __init__(
        self,
        root: Path,
        state_path: Path | None = None,
        *,
        version: str = "",
        now: Callable[[], int] = time.time_ns,
        lock_timeout_s: float = 600.0,
        stop: StopFlag | None = None,
    ) -> None:
        """As `StateStore`; `state_path` is the user's `--state`, whose links are followed."""
        super().__init__(root, version=version, now=now, lock_timeout_s=lock_timeout_s, stop=stop)
        inside = os.path.join(os.path.realpath(root), WANREC_DIR, "state.json")
        self._path = inside if state_path is None else os.path.realpath(state_path)
        self._inside = self._path == inside

    @property
    def where(self) -> str:
        """Absolute path of the state file."""
        return self._path

    @property
    def inside_root(self) -> bool:
        """True when no other place was asked for."""
        return self._inside

    def _stamp(self) -> object:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _read_bytes(self) -> bytes | None:
        return read_regular(self._path)

    def _read_backup(self) -> bytes | None:
        return read_regular(f"{self._path}.backup")

    def _write_bytes(self, data: bytes, *, keep_previous: bool) -> None:
        sweep_temporaries(self._path)
        if keep_previous:
            keep_backup(self._path, f"{self._path}.backup")
        write_atomic(self._path, data)
