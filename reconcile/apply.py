"""Walks a plan: locks each model, looks again, acts, journals, folds the journal into the state.

In: a plan and the doors it needs (root, store, locks, fetcher). Out: an `ApplyResult`; failures
are values, one model's failure stops no other. Decides nothing about *what* to do: that is the
plan's, made again for each model once its lock is held.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Protocol

import attrs

from wanrec.providers.base import ProviderContext
from wanrec.providers.parts import PARTIAL_DIR
from wanrec.reconcile.actions import Action, ApplyResult, Failure, Plan
from wanrec.reconcile.apply_jobs import Job, agreed, jobs_of, refuse_occupied, stays
from wanrec.reconcile.apply_tally import Tally
from wanrec.reconcile.disk import Root
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.gather import FetchFiles, Gathered, Gatherer
from wanrec.reconcile.model import ActionKind, Desired, DesiredModel
from wanrec.reconcile.model_commit import Committed, Committer
from wanrec.reconcile.stage import Modes, private_stage
from wanrec.reconcile.stage_identity import IdentityLog
from wanrec.reconcile.telemetry import EventKind, EventSink, emit, span
from wanrec.state.lock import HeldLock, LockRegistry
from wanrec.state.model import FileRecord, ModelRecord, lock_name
from wanrec.state.runs import Run

__all__ = ["Applier", "Fresh", "Replan"]

_SIGNAL_WAIT_S = 0.2


@attrs.frozen(kw_only=True)
class Fresh:
    """One model seen again under its lock: what is to do now, and what is recorded of it.

    `path_of` tells where any recorded address lies, for donors; `twin_of` where this run has
    already put bytes of a sha256.
    """

    plan: Plan
    old: ModelRecord | None
    recorded: Mapping[str, FileRecord]
    path_of: Callable[[str], str | None]
    twin_of: Callable[[str], str | None]


class Replan(Protocol):
    """Observes and plans one model again; called once a model, with its lock held."""

    def __call__(self, key: str) -> Fresh:
        """Return what is to do for `key` now."""


class Applier:
    """One run over one plan.

    Args:
        root, run, locks, fetcher: the doors.
        desired: what the plan was made for.
        replan: see `Replan`.
        contexts: spec file → how its source URLs are resolved.
        extra_sources: model → URLs tried before its own.
        sink: receives events.
        stop: when set, nothing new is begun and the current fetches end early.
        exact: actions must still be those of the plan (a saved plan), else PLAN_STALE.
    """

    def __init__(
        self,
        *,
        root: Root,
        run: Run,
        locks: LockRegistry,
        fetcher: FetchFiles,
        desired: Desired,
        replan: Replan,
        contexts: Mapping[str, ProviderContext],
        project: str,
        clock: Callable[[], int],
        modes: Modes,
        swap_grace_ns: int,
        exchange: bool,
        parallelism: int,
        lock_timeout_s: float,
        sink: EventSink,
        stop: threading.Event,
        fail_fast: bool = False,
        extra_sources: Callable[[DesiredModel], tuple[str, ...]],
        log: IdentityLog,
    ) -> None:
        self._root = root
        self._run = run
        self._locks = locks
        self._fetcher = fetcher
        self._models = {model.key: model for model in desired.models}
        self._replan = replan
        self._contexts = contexts
        self._project = project
        self._parallelism = max(1, parallelism)
        self._lock_timeout_s = lock_timeout_s
        self._sink = sink
        self._stop = stop
        self._fail_fast = fail_fast
        self._broken = threading.Event()
        self._extra_sources = extra_sources
        self._held = contextlib.ExitStack()
        self._holding = threading.Lock()
        self._holds = False
        self._files = ThreadPoolExecutor(self._parallelism, thread_name_prefix="wanrec-file")
        self._committer = Committer(
            root=root,
            run=run,
            log=log,
            files=self._files,
            clock=clock,
            modes=modes,
            swap_grace_ns=swap_grace_ns,
            exchange=exchange,
            project=project,
            exclusive=self._exclusive,
        )

    def run(self, plan: Plan) -> ApplyResult:
        """Carry the plan out and return what came of it."""
        jobs = jobs_of(plan, self._models)
        tally = Tally()
        failed: set[str] = set()
        try:
            with ThreadPoolExecutor(min(self._parallelism, max(1, len(jobs)))) as pool:
                self._schedule(pool, jobs, tally, failed)
        finally:
            self._files.shutdown(wait=True, cancel_futures=True)
            self._held.close()
        return tally.result()

    def _schedule(
        self, pool: ThreadPoolExecutor, jobs: list[Job], tally: Tally, failed: set[str]
    ) -> None:
        waiting = list(jobs)
        running: dict[Future[bool], Job] = {}
        open_keys = {job.key for job in jobs}
        while waiting or running:
            for job in [job for job in waiting if not job.after & open_keys]:
                waiting.remove(job)
                if self._gives_up(job, tally, failed):
                    failed.add(job.key)
                    open_keys.discard(job.key)
                else:
                    running[pool.submit(self._do, job, tally)] = job
            if not running:
                if waiting and all(job.after & open_keys for job in waiting):
                    raise RuntimeError(f"jobs wait for one another: {waiting}")
                continue
            # A signal that comes just before a wait without end would be seen only after it.
            done, _ = wait(running, timeout=_SIGNAL_WAIT_S, return_when=FIRST_COMPLETED)
            for future in done:
                job = running.pop(future)
                open_keys.discard(job.key)
                if not future.result():
                    failed.add(job.key)

    def _gives_up(self, job: Job, tally: Tally, failed: set[str]) -> bool:
        """True when the job is not begun: asked to stop, or what it needs has failed."""
        if self._stop.is_set():
            return True
        if self._ends_early(job, tally):
            return True
        broken = sorted(job.blocked_by & failed)
        if broken:
            cause = tally.first_error(broken[0])
            tally.fail(
                Failure(
                    address=job.key,
                    error=WanrecError(
                        cause.code if cause else ErrorCode.INCOMPLETE_MODEL,
                        f"{job.key} was left alone, because {broken[0]} failed",
                        address=job.key,
                        hint="wanrec apply",
                    ),
                )
            )
            return True
        return False

    def _ends_early(self, job: Job, tally: Tally) -> bool:
        if not (self._fail_fast and self._broken.is_set()):
            return False
        tally.skip(job.key, "not begun after the first failure (--fail-fast)")
        return True

    def _do(self, job: Job, tally: Tally) -> bool:
        """Carry one job out; True when nothing of it failed."""
        if self._ends_early(job, tally):  # it may have waited long for a free thread
            return False
        done = self._carried_out(job, tally)
        if not done:
            self._broken.set()
        return done

    def _carried_out(self, job: Job, tally: Tally) -> bool:
        try:
            committed = self._locked(job, tally)
        except WanrecError as error:
            error.address = error.address or job.key
            self._report_error(job.key, error)
            tally.fail(Failure(address=job.key, error=error))
            return False
        tally.add(committed)
        return not [failure for failure in committed.failures if not failure.optional]

    def _locked(self, job: Job, tally: Tally) -> Committed:
        name = lock_name(job.key)
        with span("wanrec.lock.wait", **{"wanrec.model": job.key}):
            lock = self._locks.acquire(name, self._lock_timeout_s, "apply", stop=self._stop)
        with lock:
            self._run.append_busy(job.key)
            self._hold_folders()
            fresh = self._replan(job.key)
            refuse_occupied(fresh.plan, job.key)
            todo = agreed(job, fresh.plan.actions)
            old, recorded = fresh.old, fresh.recorded
            model = self._models.get(job.key)
            if not todo:
                self._record_changes(fresh, job.key, tally)
                return Committed()
            for action in todo:
                self._report("action_start", action)
            remains = model is not None and stays(recorded, todo)
            if old is not None and fresh.plan.options.refresh_only:
                committed = self._committer.refresh(job.key, old, recorded, todo)
            elif remains:
                assert model is not None
                gatherer = self._gatherer(model, fresh)
                committed = self._committer.update(
                    model, old, recorded, todo, gatherer, self._finished(tally)
                )
            else:
                assert old is not None
                with span("wanrec.action", model=job.key, action="delete"):
                    committed = self._committer.drop(job.key, old, recorded, todo)
            self._report_committed(todo, committed)
            return committed

    def _hold_folders(self) -> None:
        """Keep open what every fetched file passes through, once the journal can tell of it."""
        with self._holding:
            if self._holds:
                return
            mine = (PARTIAL_DIR, private_stage(self._run.run_id))
            for folder in mine:
                self._root.make_dirs(folder, 0o700)
            self._held.enter_context(self._root.held(*mine))
            self._holds = True

    def _exclusive(self, key: str) -> HeldLock:
        return self._locks.exclusive_use(lock_name(key), self._lock_timeout_s, stop=self._stop)

    def _gatherer(self, model: DesiredModel, fresh: Fresh) -> Gatherer:
        return Gatherer(
            self._root,
            self._fetcher,
            model,
            self._contexts[model.spec],
            fresh.path_of,
            fresh.twin_of,
            self._stop,
            private_stage(self._run.run_id),
            self._extra_sources,
        )

    def _record_changes(self, fresh: Fresh, key: str, tally: Tally) -> None:
        if fresh.old is None or not fresh.plan.records:
            return
        self._committer.record_only(key, fresh.old, fresh.recorded, fresh.plan.records)
        tally.records += len(fresh.plan.records)

    def _finished(self, tally: Tally) -> Callable[[Action, Gathered | WanrecError], None]:
        def done(action: Action, result: Gathered | WanrecError) -> None:
            if isinstance(result, WanrecError):
                self._report_error(action.address, result)
                return
            tally.fetched(action, result)

        return done

    def _report_committed(self, todo: Iterable[Action], committed: Committed) -> None:
        """An action is complete once its model is committed, not when its bytes are there."""
        failed = {failure.address for failure in committed.failures}
        if any(not failure.optional for failure in committed.failures):
            return
        for action in todo:
            if action.address not in failed:
                got = committed.gathered.get(action.path)
                replaced = got is not None and got.replaced
                self._report(
                    "action_complete",
                    attrs.evolve(action, action=ActionKind.REPLACE) if replaced else action,
                    source=got.source if got else None,
                    bytes=got.bytes_fetched if got else 0,
                )

    def _report(self, kind: str, action: Action, **fields: object) -> None:
        emit(
            self._sink,
            EventKind(kind),
            address=action.address,
            action=action.action.value,
            size=action.size,
            **fields,
        )

    def _report_error(self, address: str, error: WanrecError) -> None:
        emit(self._sink, EventKind.ACTION_ERROR, **(error.to_dict() | {"address": address}))
