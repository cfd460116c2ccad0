"""Counts what an apply committed, from several threads."""

from __future__ import annotations

import threading

from wanrec.reconcile.actions import Action, ApplyResult, Failure
from wanrec.reconcile.errors import WanrecError
from wanrec.reconcile.gather import Gathered
from wanrec.reconcile.model import ActionKind, Assurance
from wanrec.reconcile.model_commit import Committed

__all__ = ["Tally"]


class Tally:
    """Counts, failures and warnings of one run; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(ActionKind, 0)
        self._failures: list[Failure] = []
        self._warnings: list[str] = []
        self._delivered: dict[str, tuple[str, int, Assurance]] = {}
        self._bytes = 0
        self.records = 0

    def fetched(self, action: Action, got: Gathered) -> None:
        """Note who delivered a file; whether it counts is decided by its commit."""
        with self._lock:
            self._bytes += got.bytes_fetched
            self._delivered[action.address] = (
                got.source or ("in place" if got.in_place else "stage"),
                got.bytes_fetched,
                got.assurance,
            )

    def add(self, committed: Committed) -> None:
        """Count what one model committed; a failed model counts nothing."""
        with self._lock:
            self._failures.extend(committed.failures)
            self._warnings.extend(committed.warnings)
            fatal = any(not failure.optional for failure in committed.failures)
            if fatal:
                return
            for got in committed.gathered.values():
                self._counts[ActionKind.REPLACE if got.replaced else got.kind] += 1
            self._counts[ActionKind.DELETE] += len(committed.deleted)
            self._counts[ActionKind.FORGET] += len(committed.forgotten)

    def fail(self, failure: Failure) -> None:
        """Note a failure."""
        with self._lock:
            self._failures.append(failure)

    def skip(self, key: str, why: str) -> None:
        """Note a model that was not begun."""
        with self._lock:
            self._warnings.append(f"{key}: {why}")

    def first_error(self, key: str) -> WanrecError | None:
        """The first error of a model, for those that depend on it."""
        for failure in self._failures:
            if failure.address.partition("::")[0] == key:
                return failure.error
        return None

    def result(self) -> ApplyResult:
        """Everything so far, in a stable order."""
        counts = self._counts
        return ApplyResult(
            created=counts[ActionKind.CREATE],
            verified=counts[ActionKind.VERIFY],
            replaced=counts[ActionKind.REPLACE],
            deleted=counts[ActionKind.DELETE],
            adopted=counts[ActionKind.ADOPT],
            moved=counts[ActionKind.MOVE],
            forgotten=counts[ActionKind.FORGET],
            bytes_fetched=self._bytes,
            failures=tuple(sorted(self._failures, key=lambda failure: failure.address)),
            warnings=tuple(sorted(self._warnings)),
            delivered=dict(sorted(self._delivered.items())),
            records_changed=self.records,
        )
