"""`gc`: lets go of on-demand models and of what no run will ever come back for.

Each model goes under its own lock and after every reader is out, by the same journaled drop that
an apply uses, so a kill at any step leaves the old truth or the new one. What a live run works on,
what `wanrec.use` holds and what changed since it was looked at stays. Without a readable state
nothing is removed at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile.disk import Root
from wanrec.reconcile.engine_begin import check_locks, tidy
from wanrec.reconcile.engine_gc_evict import Evictor
from wanrec.reconcile.engine_gc_look import USED, Sight
from wanrec.reconcile.engine_metrics import count_gc
from wanrec.reconcile.engine_view import View, view_of
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.lifecycle import Decision, Limits
from wanrec.reconcile.lifecycle_litter import Litter, clear, due_litter
from wanrec.reconcile.lifecycle_reserve import spend, spent_if_full
from wanrec.reconcile.stage_identity import IdentityLog
from wanrec.state.run import RunHeader
from wanrec.state.runs import Run
from wanrec.state.store import StateStore

if TYPE_CHECKING:
    from wanrec.reconcile.workbench import Workbench

__all__ = ["GcReport", "GcRequest", "collect_garbage", "make_room", "what_could_go"]


@attrs.frozen(kw_only=True)
class GcRequest:
    """How much is to go. None: as the settings say, and without a setting no limit."""

    dry_run: bool = False
    max_size: int | None = None
    max_age_s: float | None = None


@attrs.frozen(kw_only=True)
class GcReport:
    """What went, or would go, and why everything else stays.

    Attributes:
        before, after: bytes of all models, equal inodes counted once.
        freed: bytes whose last name went, leftovers included.
        over: bytes that are still above a limit although nothing else may go.
    """

    dry_run: bool
    models: tuple[Decision, ...]
    litter: tuple[Litter, ...]
    before: int
    after: int
    freed: int
    over: int = 0
    failures: tuple[WanrecError, ...] = ()
    warnings: tuple[str, ...] = ()


def collect_garbage(engine: Workbench, request: GcRequest) -> GcReport:
    """Evict what the limits ask for and clear what nothing reaches.

    Raises:
        WanrecError: STATE_MISSING and its kin, also when nothing was ever applied here;
            LOCK_UNRELIABLE; disk errors. Models that could not be removed are in the report.
    """
    limits = _limits(engine, request)
    with engine.opened() as (root, store):
        _require_state(root, store)
        if request.dry_run:
            return _Session(engine, root, store, limits).dry()
        with spent_if_full(root):
            report = _once_more_if_full(root, _Session(engine, root, store, limits))
        problem = count_gc(engine, root, store, report.freed)
        return attrs.evolve(report, warnings=(problem,)) if problem else report


def make_room(
    engine: Workbench, root: Root, store: StateStore, limits: Limits, spare: Iterable[str]
) -> None:
    """Evict until the limits hold, or nothing else may go; `spare` stays."""
    report = _Session(engine, root, store, limits, frozenset(spare)).run(litter=False)
    count_gc(engine, root, store, report.freed)


def what_could_go(
    engine: Workbench, root: Root, store: StateStore, missing: int, spare: Iterable[str]
) -> tuple[tuple[Decision, ...], int]:
    """The models that `make_room` would evict, and the size all models would have then."""
    report = _Session(engine, root, store, Limits(room=missing), frozenset(spare)).dry()
    return tuple(row for row in report.models if row.removes), report.after


def _limits(engine: Workbench, request: GcRequest) -> Limits:
    settings = engine.settings
    size = settings.max_size if request.max_size is None else request.max_size
    age = settings.max_age if request.max_age_s is None else request.max_age_s
    return Limits(
        max_size=size,
        quotas=dict(settings.quotas),
        unused_since_ns=None if age is None else engine.now() - int(age * 1e9),
    )


def _require_state(root: Root, store: StateStore) -> None:
    if view_of(root, store).fresh:
        raise WanrecError(
            ErrorCode.STATE_MISSING,
            "nothing was ever applied here: without a state nothing is removed",
            where=str(root.path),
            hint="wanrec apply",
        )


def _once_more_if_full(root: Root, session: _Session) -> GcReport:
    try:
        return session.run()
    except WanrecError as error:
        if error.code is not ErrorCode.NO_SPACE or not spend(root):
            raise
    # What the first try journaled is finished by the recovery that the second one starts with.
    return session.run()


class _Session:
    """One gc over one opened root."""

    def __init__(
        self,
        engine: Workbench,
        root: Root,
        store: StateStore,
        limits: Limits,
        spare: frozenset[str] = frozenset(),
    ) -> None:
        self._engine = engine
        self._root = root
        self._store = store
        self._limits = limits
        self._sight = Sight(engine, root, store, spare)
        self._clock = engine.now

    def dry(self) -> GcReport:
        """What would happen; takes no lock and writes nothing."""
        view = view_of(self._root, self._store)
        decisions, before = self._sight.decided(view, self._limits)
        due = due_litter(self._root, self._clock())
        places = {entry.path for entry in due}
        found = self._sight.litter(view, decisions)
        litter = (*due, *(entry for entry in found if entry.path not in places))
        return self._report(True, view, decisions, before, litter)

    def run(self, *, litter: bool = True) -> GcReport:
        """Do it; raises what keeps the whole of it from being done."""
        due = due_litter(self._root, self._clock()) if litter else ()
        check_locks(self._root, self._store, self._engine.settings)
        tidy(self._engine, self._root, self._store, "gc")
        view = view_of(self._root, self._store)
        done, before = self._sight.decided(view, self._limits)
        log = IdentityLog()
        failures: list[WanrecError] = []
        header = RunHeader(operation="gc", project=self._engine.settings.project)
        with self._store.begin_run(header) as run:
            if any(row.removes for row in done):
                done = self._evicted(run, log, done, failures)
            found = self._sight.litter(view, done, run.run_id) if litter else ()
            found = clear(self._root, found, log)
            run.fold(log.steps(self._clock))
        self._forget_use(done)
        found += tuple(entry for entry in due if not self._root.exists(entry.path))
        return self._report(False, view, done, before, found, failures)

    def _evicted(
        self,
        run: Run,
        log: IdentityLog,
        planned: Iterable[Decision],
        failures: list[WanrecError],
    ) -> tuple[Decision, ...]:
        with ThreadPoolExecutor(1) as pool:
            evictor = Evictor(self._engine, self._root, self._store, self._sight, run, log, pool)
            done = tuple(evictor.carry_out(row) for row in planned)
        failures += evictor.failures
        return done

    def _report(
        self,
        dry_run: bool,
        view: View,
        models: tuple[Decision, ...],
        before: int,
        litter: tuple[Litter, ...],
        failures: Iterable[WanrecError] = (),
    ) -> GcReport:
        limits, left = self._limits, self._sight.left(view, models)
        over = max(0, left[""] - limits.max_size) if limits.max_size is not None else 0
        for family, quota in limits.quotas.items():
            over = max(over, left.get(family, 0) - quota)
        freed = sum(row.frees for row in models)
        return GcReport(
            dry_run=dry_run,
            models=models,
            litter=litter,
            before=before,
            after=left[""],
            freed=freed + sum(entry.size for entry in litter if entry.removes),
            over=over,
            failures=tuple(failures),
        )

    def _forget_use(self, done: Iterable[Decision]) -> None:
        for row in done:
            if row.removes:
                self._root.unlink(f"{USED}/{row.key}", missing_ok=True)
