"""What gc sees before it acts: who is a candidate, what shields it, what nobody comes back for.

Reads state, stats and locks; writes nothing. The decision itself is `lifecycle.decide`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile.disk import Root
from wanrec.reconcile.engine_view import View
from wanrec.reconcile.lifecycle import (
    Candidate,
    Decision,
    Inode,
    Keep,
    Limits,
    Shield,
    decide,
    shield_of,
)
from wanrec.reconcile.lifecycle_litter import Litter, find_litter
from wanrec.reconcile.lifecycle_usage import Measured, measure
from wanrec.reconcile.model import EntryKind, Presence
from wanrec.reconcile.trust import verified_ns
from wanrec.state.model import ModelRecord, State, lock_name, reach_name
from wanrec.state.store import StateStore

if TYPE_CHECKING:
    from wanrec.reconcile.workbench import Workbench

__all__ = ["USED", "Sight", "records_of"]

USED = ".wanrec/used"


class Sight:
    """One root as gc sees it; `spare` are models that stay whatever the limits say."""

    def __init__(
        self,
        engine: Workbench,
        root: Root,
        store: StateStore,
        spare: frozenset[str] = frozenset(),
    ) -> None:
        self._engine = engine
        self._root = root
        self._store = store
        self._spare = spare

    def decided(self, view: View, limits: Limits) -> tuple[tuple[Decision, ...], int]:
        """What becomes of each model, and the bytes they all take now."""
        files = measure(self._root, view.state)
        candidates = self._candidates(view, files)
        names: dict[Inode, int] = {}
        for file in files:
            names[file.inode] = names.get(file.inode, 0) + 1
        outside = frozenset(file.inode for file in files if file.nlink > names[file.inode])
        before = sum({file.inode: file.size for file in files}.values())
        return decide(candidates, limits, outside), before

    def left(self, view: View, decisions: Iterable[Decision]) -> dict[str, int]:
        """Bytes of the models that stay: by family, and of all under the empty name."""
        gone = {row.key for row in decisions if row.removes}
        sizes: dict[str, dict[Inode, int]] = {"": {}}
        for file in measure(self._root, view.state):
            if file.key not in gone:
                sizes[""][file.inode] = file.size
                sizes.setdefault(file.family, {})[file.inode] = file.size
        return {family: sum(inodes.values()) for family, inodes in sizes.items()}

    def _candidates(self, view: View, files: Iterable[Measured]) -> list[Candidate]:
        by_key: dict[str, list[Measured]] = {}
        for file in files:
            by_key.setdefault(file.key, []).append(file)
        return [
            self._candidate(key, record, by_key.get(key, []), key in view.busy)
            for key, record in sorted(records_of(view.state).items())
        ]

    def _candidate(
        self, key: str, record: ModelRecord, files: list[Measured], busy: bool
    ) -> Candidate:
        orphan = not record.owners
        return Candidate(
            key=key,
            family=record.directory.partition("/")[0],
            last_used_ns=self.last_used(key, record),
            inodes={file.inode: file.size for file in files},
            apparent=sum(file.size for file in files),
            shield=shield_of(self.about(key, record, busy)),
            orphan=orphan,
            requires=record.requires,
        )

    def about(self, key: str, record: ModelRecord, busy: bool) -> Shield:
        """What is known about a model besides its files."""
        locks, name = self._store.locks, lock_name(key)
        return Shield(
            pinned=record.pinned,
            protect=record.protect,
            required=record.presence is Presence.REQUIRED,
            orphan=not record.owners,
            in_use=locks.is_held(f"use-{name}"),
            busy=busy
            or key in self._spare
            or locks.is_held(name)
            or locks.is_held(f"use-{reach_name(key)}"),
        )

    def lasting_shield(self, key: str, record: ModelRecord) -> Keep | None:
        """What keeps a model from going while the caller holds its locks."""
        about = attrs.evolve(self.about(key, record, busy=False), in_use=False)
        return shield_of(attrs.evolve(about, busy=key in self._spare))

    def last_used(self, key: str, record: ModelRecord) -> int:
        """The mtime of its use mark, else the time of its last apply."""
        mark = self._root.stat(f"{USED}/{key}")
        if mark.kind is EntryKind.FILE:
            return mark.mtime_ns
        return verified_ns(record.applied_at)

    def litter(
        self, view: View, decisions: Iterable[Decision], own: str = ""
    ) -> tuple[Litter, ...]:
        """What no run will come back for, once the models that go have gone; `own`: gc's run."""
        before = self._engine.now() - int(self._engine.settings.stale_after * 1e9)
        leaving = {row.key for row in decisions if row.removes}
        seen, files = self._store.read_overlay(), view.state.files.items()
        return find_litter(
            self._root,
            older_than_ns=before,
            runs=frozenset(run.run_id for run in (*seen.live, *seen.dead)),
            pids=frozenset(run.pid for run in seen.live if run.run_id != own),
            models=frozenset(view.state.models),
            contents=frozenset(
                file.sha256 for address, file in files if address.partition("::")[0] not in leaving
            ),
        )


def records_of(state: State) -> dict[str, ModelRecord]:
    """The recorded models; files whose model is not recorded are a model of nobody."""
    records = dict(state.models)
    for address, file in state.files.items():
        key, _, path = address.partition("::")
        if key not in records:
            records[key] = ModelRecord(
                spec_sha256="",
                presence=Presence.ON_DEMAND,
                directory=file.path.removesuffix(f"/{path}"),
            )
    return records
