"""Specs that an earlier run has parsed, kept for the next one in the folder that the user named.

One file for each project: spec path → the digest of every byte it was made from (the spec, its
lock, each `defaults.toml` above it) and its rows. The files of the specs are read and hashed in
every run; only the parsing is spared, and only for bytes that are the same, by the same wanrec.

The rows say what is wanted, so they lie where only the user can write, never below a root that
others share: see `user_cache`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanrec.reconcile.user_cache import NOT_OURS, UserCache

if TYPE_CHECKING:
    from wanrec.reconcile.desired_expanded import Expanded

__all__ = ["SpecCache"]

_WORTH_BYTES = 32 << 10
"""Specs of fewer bytes are parsed in the time a cache takes to be read."""


class SpecCache:
    """The parsed specs of one project.

    Args:
        folder: where projects are kept, None: nowhere.
        project: what the specs are found by; any text.
    """

    def __init__(self, folder: Path | None, project: str) -> None:
        self._file = UserCache(folder, project)
        self._known: Mapping[str, Any] | None = None

    def recall(self, path: str, key: str) -> Expanded | None:
        """Return a spec as an earlier run made it of the same bytes, None when there is none."""
        if self._known is None:
            known = self._file.read()
            self._known = known if isinstance(known, dict) else {}
        try:
            made_of, rows = self._known[path]
            if made_of != key:
                return None
            from wanrec.reconcile.desired_expanded import from_rows

            return from_rows(path, rows)
        except NOT_OURS:
            return None

    def keep(self, keys: Mapping[str, str], specs: Iterable[Expanded], size: int) -> None:
        """Keep the specs of this run, if one of them is new and they are worth it.

        Args:
            keys: spec path → digest of what it was made from, of every spec without a fault.
            specs: what they were expanded to.
            size: bytes of all of them.
        """
        known = self._known or {}
        same = all(path in known and known[path][0] == key for path, key in keys.items())
        if self._file.folder is None or same or size < _WORTH_BYTES:
            return
        from wanrec.reconcile.desired_expanded import to_rows

        rows = {
            spec.path: [keys[spec.path], to_rows(spec)]
            for spec in specs
            if spec.path in keys and not spec.faults
        }
        self._file.write(rows)
