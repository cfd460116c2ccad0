"""The state while a run is changing it: what others did is read again, what we did is remembered.

One instance a run, thread-safe. Reading the whole state for each of a thousand models would cost
more than the models; it is read again only when somebody else wrote to it or to a journal.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import attrs

from wanrec.reconcile.disk import Root
from wanrec.reconcile.engine_view import View, view_of
from wanrec.reconcile.stage_identity import IdentityLog, rfc3339
from wanrec.state.model import (
    FileRecord,
    ModelRecord,
    State,
    apply_identities,
    files_by_model,
)
from wanrec.state.runs import Run
from wanrec.state.store import StateStore

__all__ = ["LiveState"]


class LiveState:
    """The state of one root during one run."""

    def __init__(
        self,
        root: Root,
        store: StateStore,
        run: Run,
        log: IdentityLog,
        clock: Callable[[], int],
    ) -> None:
        self._log = log
        self._clock = clock
        self._root = root
        self._store = store
        self._run = run
        self._lock = threading.Lock()
        self._seen: object = object()
        self._view = View(state=State(), busy=frozenset(), fresh=True)
        self._files: dict[str, dict[str, FileRecord]] = {}

    def narrowed(self, key: str) -> View:
        """The state as if it held this one model only. Call it with the model's lock held.

        Raises:
            WanrecError: as `view_of`.
        """
        with self._lock:
            self._refresh()
            record, files = self._model(key)
        state = attrs.evolve(
            self._view.state,
            models={key: record} if record is not None else {},
            files={f"{key}::{path}": file for path, file in files.items()},
        )
        if self._log:
            state = apply_identities(state, self._moved(state))
        return attrs.evolve(self._view, state=state)

    def _moved(self, state: State) -> dict[str, FileRecord]:
        """Inodes this run linked for other models: their clocks moved, their bytes did not."""
        now = rfc3339(self._clock())
        moved = {}
        for address, record in state.files.items():
            fact = self._log.after(record.ino, record.size, record.mtime_ns, record.ctime_ns)
            if fact is not None and fact.ctime_ns != record.ctime_ns:
                moved[address] = attrs.evolve(
                    record, ctime_ns=fact.ctime_ns, dev=fact.dev, verified_at=now
                )
        return moved

    def path_of(self, address: str) -> str | None:
        """Where a recorded file lies, relative to the root; None when it is not recorded."""
        key, _, path = address.partition("::")
        with self._lock:
            record = self._model(key)[1].get(path)
        return record.path if record is not None else None

    def twin_of(self, sha256: str) -> str | None:
        """Where this run has already put these bytes, relative to the root."""
        return self._run.place_of(sha256)

    def _model(self, key: str) -> tuple[ModelRecord | None, dict[str, FileRecord]]:
        own = self._run.latest(key)
        if own is not None:
            return own.model, dict(own.files)
        return self._view.state.models.get(key), self._files.get(key, {})

    def _refresh(self) -> None:
        stamp = self._store.stamp(self._run.run_id)
        if stamp != self._seen:
            self._view = view_of(self._root, self._store)
            self._files = files_by_model(self._view.state.files)
            self._seen = stamp
