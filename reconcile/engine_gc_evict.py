"""Lets one model go: under its lock, after every reader is out, by the journaled drop of an apply.

What was decided a moment ago is looked at again once the locks are held: whoever came in between
keeps the model. gc waits for nobody.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile.actions import Action, Content
from wanrec.reconcile.disk import Root
from wanrec.reconcile.engine_begin import can_exchange, modes_of
from wanrec.reconcile.engine_gc_look import Sight, records_of
from wanrec.reconcile.engine_view import view_of
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.lifecycle import Decision, Keep, Remove
from wanrec.reconcile.model import ActionKind, Reason, split_key
from wanrec.reconcile.model_commit import Committer
from wanrec.reconcile.stage_identity import IdentityLog
from wanrec.state.model import FileRecord, files_by_model, lock_name, reach_name
from wanrec.state.runs import Run
from wanrec.state.store import StateStore

if TYPE_CHECKING:
    from wanrec.reconcile.workbench import Workbench

__all__ = ["Evictor"]


class Evictor:
    """Carries the removals of one gc run out; `failures` are what could not be removed."""

    def __init__(
        self,
        engine: Workbench,
        root: Root,
        store: StateStore,
        sight: Sight,
        run: Run,
        log: IdentityLog,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._root = root
        self._store = store
        self._sight = sight
        self._run = run
        self.failures: list[WanrecError] = []
        settings = engine.settings
        self._committer = Committer(
            root=root,
            run=run,
            log=log,
            files=pool,
            clock=engine.now,
            modes=modes_of(settings),
            swap_grace_ns=0,
            exchange=can_exchange(root, store),
            project=settings.project,
            # Whether a reader is inside is known before: gc waits for nobody.
            exclusive=lambda key: contextlib.nullcontext(),
        )

    def carry_out(self, row: Decision) -> Decision:
        """Remove the model if the decision says so; what became of it.

        Raises:
            WanrecError: NO_SPACE: a disk so full that nothing can be removed is for the caller.
        """
        if not row.removes:
            return row
        try:
            kept = self._evict(row)
        except WanrecError as error:
            if error.code is ErrorCode.NO_SPACE:
                raise
            error.address = error.address or row.key
            self.failures.append(error)
            return attrs.evolve(row, reason=Keep.FAILED, frees=0, detail=error.summary)
        return row if kept is None else attrs.evolve(row, reason=kept, frees=0)

    def _evict(self, row: Decision) -> Keep | None:
        """Remove one model; why it stays after all, or None."""
        name, locks, run_id = lock_name(row.key), self._store.locks, self._run.run_id
        lock = locks.try_acquire(name, "gc", run=run_id)
        if lock is None:
            return Keep.BUSY
        with lock:
            out = locks.try_acquire(f"use-{name}", "gc", run=run_id)
            if out is None:
                return Keep.IN_USE
            with out:
                reached = locks.try_acquire(f"use-{reach_name(row.key)}", "gc", run=run_id)
                if reached is None:
                    return Keep.BUSY
                with reached:
                    return self._evict_locked(row)

    def _evict_locked(self, row: Decision) -> Keep | None:
        state = view_of(self._root, self._store).state
        record = records_of(state).get(row.key)
        if record is None:  # another gc was here first
            return Keep.BUSY
        shield = self._sight.lasting_shield(row.key, record)
        if shield is not None:
            return shield
        if any(row.key in other.requires for key, other in state.models.items() if key != row.key):
            return Keep.REQUIREMENT
        used = self._sight.last_used(row.key, record)
        if used > row.last_used_ns and row.reason is not Remove.ORPHAN:
            return Keep.IN_USE
        recorded = files_by_model(state.files).get(row.key, {})
        self._run.append_busy(row.key)
        self._committer.drop(row.key, record, recorded, _deletes(row.key, recorded))
        return None


def _deletes(key: str, recorded: Mapping[str, FileRecord]) -> list[Action]:
    model_id, variant = split_key(key)
    return [
        Action(
            address=f"{key}::{path}",
            model=model_id,
            variant=variant,
            path=path,
            action=ActionKind.DELETE,
            reason=Reason.REQUESTED,
            size=record.size,
            sha256=record.sha256,
            before=Content(size=record.size, sha256=record.sha256),
        )
        for path, record in recorded.items()
    ]
