"""`gc`: lets go of on-demand models and of what no run will ever come back for.

Each model goes under its own lock and after every reader is out, by the same journaled drop that
an apply uses, so a kill at any step leaves the old truth or the new one. What a live run works on,
what `wanrec.use` holds and what changed since it was looked at stays. Without a readable state
nothing is removed at all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile.actions import Action, Content
from wanrec.reconcile.disk import Root
from wanrec.reconcile.engine_begin import can_exchange, check_locks, modes_of, tidy
from wanrec.reconcile.engine_view import View, view_of
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.lifecycle import (
    Candidate,
    Decision,
    Inode,
    Keep,
    Limits,
    Remove,
    Shield,
    decide,
    shield_of,
)
from wanrec.reconcile.lifecycle_litter import Litter, clear, due_litter, find_litter
from wanrec.reconcile.lifecycle_reserve import spend, spent_if_full
from wanrec.reconcile.lifecycle_usage import Measured, measure
from wanrec.reconcile.model import ActionKind, EntryKind, Presence, Reason, split_key
from wanrec.reconcile.model_commit import Committer
from wanrec.reconcile.recover import identity_updates
from wanrec.reconcile.stage import IdentityLog, rfc3339, settled
from wanrec.reconcile.trust import verified_ns
from wanrec.state.model import FileRecord, ModelRecord, State, files_by_model, lock_name, reach_name
from wanrec.state.run import RunHeader
from wanrec.state.runs import Run
from wanrec.state.store import StateStore

if TYPE_CHECKING:
    from wanrec.reconcile.workbench import Workbench

__all__ = ["GcReport", "GcRequest", "collect_garbage", "make_room", "what_could_go"]

USED = ".wanrec/used"


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
            return _once_more_if_full(root, _Session(engine, root, store, limits))


def make_room(
    engine: Workbench, root: Root, store: StateStore, limits: Limits, spare: Iterable[str]
) -> None:
    """Evict until the limits hold, or nothing else may go; `spare` stays."""
    _Session(engine, root, store, limits, frozenset(spare)).run(litter=False)


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
        self._spare = spare
        self._clock = engine.now

    def dry(self) -> GcReport:
        """What would happen; takes no lock and writes nothing."""
        view = view_of(self._root, self._store)
        decisions, before = self._decide(view)
        due = due_litter(self._root, self._clock())
        places = {entry.path for entry in due}
        litter = (*due, *(x for x in self._litter(view) if x.path not in places))
        freed = sum(row.frees for row in decisions) + sum(x.size for x in litter if x.removes)
        left = self._left(view, decisions)
        return self._report(True, decisions, litter, before, left, freed, ())

    def run(self, *, litter: bool = True) -> GcReport:
        """Do it; raises what keeps the whole of it from being done."""
        due = due_litter(self._root, self._clock()) if litter else ()
        check_locks(self._root, self._store, self._engine.settings)
        tidy(self._engine, self._root, self._store, "gc")
        view = view_of(self._root, self._store)
        planned, before = self._decide(view)
        log = IdentityLog()
        failures: list[WanrecError] = []
        header = RunHeader(operation="gc", project=self._engine.settings.project)
        with self._store.begin_run(header) as run, ThreadPoolExecutor(1) as pool:
            committer = self._committer(run, log, pool) if _any(planned) else None
            done = [
                self._carried_out(run, committer, row, failures) if committer else row
                for row in planned
            ]
            found = clear(self._root, self._litter(view), log) if litter else ()
            self._fold(run, log)
        self._forget_use(done)
        found += tuple(x for x in due if not self._root.exists(x.path))
        freed = sum(row.frees for row in done) + sum(x.size for x in found if x.removes)
        left = self._left(view, done)
        return self._report(False, done, found, before, left, freed, failures)

    def _report(
        self,
        dry_run: bool,
        models: Iterable[Decision],
        litter: Iterable[Litter],
        before: int,
        left: Mapping[str, int],
        freed: int,
        failures: Iterable[WanrecError],
    ) -> GcReport:
        limits = self._limits
        over = max(0, left[""] - limits.max_size) if limits.max_size is not None else 0
        for family, quota in limits.quotas.items():
            over = max(over, left.get(family, 0) - quota)
        return GcReport(
            dry_run=dry_run,
            models=tuple(models),
            litter=tuple(litter),
            before=before,
            after=left[""],
            freed=freed,
            over=over,
            failures=tuple(failures),
        )

    # Deciding.

    def _decide(self, view: View) -> tuple[tuple[Decision, ...], int]:
        files = measure(self._root, view.state)
        candidates = self._candidates(view, files)
        names: dict[Inode, int] = {}
        for file in files:
            names[file.inode] = names.get(file.inode, 0) + 1
        outside = frozenset(file.inode for file in files if file.nlink > names[file.inode])
        before = sum({file.inode: file.size for file in files}.values())
        return decide(candidates, self._limits, outside), before

    def _left(self, view: View, decisions: Iterable[Decision]) -> dict[str, int]:
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
            for key, record in sorted(_records(view.state).items())
        ]

    def _candidate(
        self, key: str, record: ModelRecord, files: list[Measured], busy: bool
    ) -> Candidate:
        orphan = not record.owners
        return Candidate(
            key=key,
            family=record.directory.partition("/")[0],
            last_used_ns=self._last_used(key, record),
            inodes={file.inode: file.size for file in files},
            apparent=sum(file.size for file in files),
            shield=shield_of(self._about(key, record, busy)),
            orphan=orphan,
            requires=record.requires,
        )

    def _about(self, key: str, record: ModelRecord, busy: bool) -> Shield:
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

    def _last_used(self, key: str, record: ModelRecord) -> int:
        mark = self._root.stat(f"{USED}/{key}")
        if mark.kind is EntryKind.FILE:
            return mark.mtime_ns
        return verified_ns(record.applied_at)

    def _litter(self, view: View) -> tuple[Litter, ...]:
        before = self._clock() - int(self._engine.settings.stale_after * 1e9)
        seen = self._store.read_overlay()
        return find_litter(
            self._root,
            older_than_ns=before,
            runs=frozenset(run.run_id for run in (*seen.live, *seen.dead)),
            pids=frozenset(run.pid for run in seen.live),
            models=frozenset(view.state.models),
        )

    # Doing.

    def _committer(self, run: Run, log: IdentityLog, pool: ThreadPoolExecutor) -> Committer:
        settings = self._engine.settings
        return Committer(
            root=self._root,
            run=run,
            log=log,
            files=pool,
            clock=self._clock,
            modes=modes_of(settings),
            swap_grace_ns=0,
            exchange=can_exchange(self._root, self._store),
            project=settings.project,
            # Whether a reader is inside is known before: gc waits for nobody.
            exclusive=lambda key: contextlib.nullcontext(),
        )

    def _carried_out(
        self, run: Run, committer: Committer, row: Decision, failures: list[WanrecError]
    ) -> Decision:
        if not row.removes:
            return row
        try:
            kept = self._evict(run, committer, row)
        except WanrecError as error:
            if error.code is ErrorCode.NO_SPACE:
                raise
            error.address = error.address or row.key
            failures.append(error)
            return attrs.evolve(row, reason=Keep.FAILED, frees=0, detail=error.summary)
        return row if kept is None else attrs.evolve(row, reason=kept, frees=0)

    def _evict(self, run: Run, committer: Committer, row: Decision) -> Keep | None:
        """Remove one model; why it stays after all, or None."""
        name, locks = lock_name(row.key), self._store.locks
        lock = locks.try_acquire(name, "gc", run=run.run_id)
        if lock is None:
            return Keep.BUSY
        with lock:
            out = locks.try_acquire(f"use-{name}", "gc", run=run.run_id)
            if out is None:
                return Keep.IN_USE
            with out:
                reached = locks.try_acquire(f"use-{reach_name(row.key)}", "gc", run=run.run_id)
                if reached is None:
                    return Keep.BUSY
                with reached:
                    return self._evict_locked(run, committer, row)

    def _evict_locked(self, run: Run, committer: Committer, row: Decision) -> Keep | None:
        state = view_of(self._root, self._store).state
        record = _records(state).get(row.key)
        if record is None:  # another gc was here first
            return Keep.BUSY
        about = self._about(row.key, record, busy=False)
        shield = shield_of(attrs.evolve(about, in_use=False, busy=row.key in self._spare))
        if shield is not None:
            return shield
        if any(row.key in other.requires for key, other in state.models.items() if key != row.key):
            return Keep.REQUIREMENT
        used = self._last_used(row.key, record)
        if used > row.last_used_ns and row.reason is not Remove.ORPHAN:
            return Keep.IN_USE
        recorded = files_by_model(state.files).get(row.key, {})
        run.append_busy(row.key)
        committer.drop(row.key, record, recorded, _deletes(row.key, recorded))
        return None

    def _fold(self, run: Run, log: IdentityLog) -> None:
        now = rfc3339(settled(self._clock, log.facts()))
        updates = identity_updates(view_of(self._root, self._store).state, log, now)
        run.fold(None, updates)

    def _forget_use(self, done: Iterable[Decision]) -> None:
        for row in done:
            if row.removes:
                self._root.unlink(f"{USED}/{row.key}", missing_ok=True)


def _any(decisions: Iterable[Decision]) -> bool:
    return any(row.removes for row in decisions)


def _records(state: State) -> dict[str, ModelRecord]:
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
