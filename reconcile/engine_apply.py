"""One apply, from the lock probe to the folded state.

Opens the doors an apply needs, recovers what dead runs left, checks room and swap targets before
the first byte, lets `apply.Applier` do the work and folds the journal. A saved plan is checked
against specs and state first and applied exactly, or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from wanrec.providers.base import ProviderContext
from wanrec.providers.limits import Limits
from wanrec.providers.transfer import Fetcher
from wanrec.reconcile.actions import ApplyResult, Failure, Plan
from wanrec.reconcile.apply import Applier, Fresh
from wanrec.reconcile.apply_jobs import refuse_occupied
from wanrec.reconcile.disk import Root
from wanrec.reconcile.disk_errors import translate_os_error
from wanrec.reconcile.engine_begin import (
    can_exchange,
    check_locks,
    modes_of,
    release,
    tidy,
)
from wanrec.reconcile.engine_hooks import Observed, judged
from wanrec.reconcile.engine_last_failed import note_failures
from wanrec.reconcile.engine_room import built_upon, fit
from wanrec.reconcile.engine_view import view_of
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.lifecycle_reserve import lay_by
from wanrec.reconcile.live_state import LiveState
from wanrec.reconcile.mirroring_source import MirrorSource
from wanrec.reconcile.model import ActionKind, Desired, Reason
from wanrec.reconcile.planfile import PlanFile, Resume, check_resumable
from wanrec.reconcile.preflight import check_swap_targets, room_needed
from wanrec.reconcile.recover import (
    hand_over,
    recover_runs,
)
from wanrec.reconcile.render_words import plural
from wanrec.reconcile.settings_limits import transfer_limits
from wanrec.reconcile.stage import private_stage
from wanrec.reconcile.stage_identity import IdentityLog
from wanrec.reconcile.telemetry import EventKind, emit, span
from wanrec.state.model import State, files_by_model
from wanrec.state.run import RunHeader
from wanrec.state.runs import Run
from wanrec.state.store import StateStore

if TYPE_CHECKING:
    from wanrec.reconcile.engine_requests import ApplyRequest
    from wanrec.reconcile.workbench import Workbench

__all__ = ["ApplySession"]


class ApplySession:
    """One apply of one engine."""

    def __init__(self, engine: Workbench, request: ApplyRequest, operation: str = "apply") -> None:
        self._engine = engine
        self._observed = Observed(engine.settings, request.sink)
        self._request = attrs.evolve(request, sink=self._observed)
        self._operation = operation
        self._settings = engine.settings
        self._clock = engine.now

    def apply(self, plan: Plan) -> ApplyResult:
        """Carry out a plan made a moment ago.

        Raises:
            WanrecError: the code of the plan's first block; NO_SPACE, FILESYSTEM_ERROR,
                LOCK_UNRELIABLE and state errors before anything was touched.
        """
        _refuse_blocked(plan)
        plan = _insisting_on_damage(plan)
        if not plan.actions and not plan.records:
            with self._engine.opened() as (root, store):
                self._tidy(root, store)
                self._note_failures(root, ApplyResult())
            return ApplyResult()
        desired = self._desired(plan)
        with self._engine.opened() as (root, store):
            return self._carry_out(root, store, plan, desired, None)

    def apply_file(self, file: PlanFile) -> ApplyResult:
        """Carry out a saved plan exactly, or what an earlier try of the same file left over.

        Raises:
            WanrecError: PLAN_STALE, PLAN_FOREIGN; as `apply`.
        """
        _refuse_blocked(judged(self._settings, file.plan))
        saved = _insisting_on_damage(file.plan)
        desired = self._desired(saved)
        _refuse_changed_specs(saved, desired)
        with self._engine.opened() as (root, store):
            recover_runs(root, store, swap_grace_ns=self._grace_ns, clock=self._clock)
            state = store.read()
            resume = check_resumable(file, state)
            _refuse_stale(resume, saved, state)
            if resume is Resume.CONTINUES and state and state.last_plan and state.last_plan.done:
                # What --replace asked for has been done; only a changed disk is left to mend.
                options = attrs.evolve(saved.options, replace=frozenset())
                saved = attrs.evolve(saved, options=options)
            fresh = self._replan(root, store, saved, desired)
            refuse_occupied(fresh)
            _refuse_unplanned(saved, fresh)
            if not fresh.actions and not fresh.records:
                release(self._engine, root, store, self._operation)
                return ApplyResult(already_applied=bool(saved.actions or saved.records))
            saved_actions = {action.address: action for action in saved.actions}
            todo = [saved_actions.get(a.address, a) for a in fresh.actions]
            rest = attrs.evolve(saved, actions=tuple(todo), records=fresh.records)
            return self._carry_out(root, store, rest, desired, file.plan_id)

    @property
    def _grace_ns(self) -> int:
        return int(self._settings.swap_grace * 1e9)

    def _desired(self, plan: Plan) -> Desired:
        from wanrec.reconcile.engine_specs import collect_saved

        return collect_saved(self._settings, plan.selection)

    def _replan(self, root: Root, store: StateStore, plan: Plan, desired: Desired) -> Plan:
        options = attrs.evolve(
            plan.options, project_directory=str(self._engine.project_dir), deep=False
        )
        return self._engine.plan_view(root, view_of(root, store), desired, options)

    def _carry_out(
        self,
        root: Root,
        store: StateStore,
        plan: Plan,
        desired: Desired,
        plan_id: str | None,
    ) -> ApplyResult:
        check_locks(root, store, self._settings)
        self._tidy(root, store)
        with built_upon(root, store, plan, desired, self._settings.lock_timeout):
            result = self._run(root, store, plan, desired, plan_id)
        lay_by(root)
        return result

    def _run(
        self,
        root: Root,
        store: StateStore,
        plan: Plan,
        desired: Desired,
        plan_id: str | None,
    ) -> ApplyResult:
        exchange = self._preflight(root, store, plan, desired)
        header = self._header(plan_id, plan.serial)
        log = IdentityLog()
        with store.begin_run(header) as run, span("wanrec.apply"):
            fetcher = self._fetcher(root, run)
            applier = self._applier(root, store, run, plan, desired, exchange, log, fetcher)
            emit(self._request.sink, EventKind.PLAN, actions=len(plan.actions))
            try:
                result = applier.run(plan)
            finally:
                fetcher.close()
                hand_over(root, run.run_id)
            result = self._fold(root, store, run, log, result)
            self._note_failures(root, result)
            return self._observed.warned(result)

    def _note_failures(self, root: Root, result: ApplyResult) -> None:
        if self._operation == "apply":
            note_failures(root, result)

    def _header(self, plan_id: str | None = None, base_serial: int = 0) -> RunHeader:
        return RunHeader(
            operation=self._operation,
            project=self._settings.project,
            plan=plan_id,
            base_serial=base_serial,
            directory=str(self._engine.project_dir),
        )

    def _tidy(self, root: Root, store: StateStore) -> None:
        """End what dead runs began and let go of old directories, also when nothing is to do."""
        tidy(self._engine, root, store, self._operation)

    def _preflight(self, root: Root, store: StateStore, plan: Plan, desired: Desired) -> bool:
        """Check room and swap targets; True when directories can be exchanged in one step."""
        directories = {model.key: model.directory for model in desired.models}
        bringing = {a.key for a in plan.actions if a.action.brings_bytes and a.key in directories}
        check_swap_targets(root, directories, bringing)
        needed = room_needed(plan, delete_first=plan.options.delete_first)
        if needed > root.free_bytes():
            release(self._engine, root, store, self._operation, force=True)
        fit(self._engine, root, store, plan, desired)
        return can_exchange(root, store, self._request.stop)

    def _applier(
        self,
        root: Root,
        store: StateStore,
        run: Run,
        plan: Plan,
        desired: Desired,
        exchange: bool,
        log: IdentityLog,
        fetcher: Fetcher,
    ) -> Applier:
        request, settings = self._request, self._settings
        contexts = self._contexts(desired)
        live = LiveState(root, store, run, log, self._clock)
        models = {model.key: model for model in desired.models}
        # Whoever is planned to be brought is wanted, also when nothing else in sight says why.
        wanted = frozenset(a.key for a in plan.actions if a.action.brings_bytes)

        def replan(key: str) -> Fresh:
            view = live.narrowed(key)
            alone = (models[key],) if key in models else ()
            options = attrs.evolve(
                plan.options,
                project_directory=str(self._engine.project_dir),
                deep=False,
                ensure=wanted & {key},
                replace=frozenset(a for a in plan.options.replace if a.startswith(f"{key}::")),
            )
            seen = attrs.evolve(desired, models=alone)
            fresh = self._engine.plan_view(root, view, seen, options)
            mine = tuple(action for action in fresh.actions if action.key == key)
            records = tuple(change for change in fresh.records if change.model == key)
            return Fresh(
                plan=attrs.evolve(fresh, actions=mine, records=records),
                old=view.state.models.get(key),
                recorded=files_by_model(view.state.files).get(key, {}),
                path_of=live.path_of,
                twin_of=live.twin_of,
            )

        return Applier(
            root=root,
            run=run,
            locks=store.locks,
            fetcher=fetcher,
            desired=desired,
            replan=replan,
            contexts=contexts,
            project=settings.project,
            clock=self._clock,
            modes=modes_of(settings),
            swap_grace_ns=self._grace_ns,
            exchange=exchange,
            parallelism=request.parallelism or settings.parallelism,
            lock_timeout_s=(
                settings.lock_timeout if request.lock_timeout is None else request.lock_timeout
            ),
            sink=request.sink,
            stop=request.stop,
            fail_fast=request.fail_fast,
            extra_sources=MirrorSource(settings.mirror, contexts, request.stop),
            log=log,
        )

    @property
    def _limits(self) -> Limits:
        return transfer_limits(self._settings, self._request.bwlimit)

    def _fetcher(self, root: Root, run: Run) -> Fetcher:
        sink, asked = self._request.sink, self._request.no_failover

        def on_event(kind: str, fields: Mapping[str, object]) -> None:
            emit(sink, EventKind(str(kind)), **fields)

        return Fetcher(
            root,
            self._limits,
            on_event,
            self._request.stop,
            translate_os_error=translate_os_error,
            no_failover=self._settings.no_failover if asked is None else asked,
            blob_dir=private_stage(run.run_id),
        )

    def _contexts(self, desired: Desired) -> dict[str, ProviderContext]:
        settings, asked = self._settings, self._request.offline
        return {
            spec: ProviderContext(
                base=Path(self._engine.project_dir, spec).parent,
                local_root=settings.local_root,
                offline=settings.offline if asked is None else asked,
                allow_http=settings.allow_http,
                environ=dict(self._engine.environ),  # looked into for every file
                limits=self._limits,
            )
            for spec in {model.spec for model in desired.models}
        }

    def _fold(
        self, root: Root, store: StateStore, run: Run, log: IdentityLog, result: ApplyResult
    ) -> ApplyResult:
        """Take the journal into the state; when that fails, what landed is not lost."""
        try:
            done = not any(not failure.optional for failure in result.failures)
            run.fold(log.steps(self._clock), plan_done=done and not self._request.stop.is_set())
        except WanrecError as error:
            error.hint = "wanrec apply: the journal is kept and is taken over by the next run"
            failure = Failure(address="state", error=error)
            return attrs.evolve(result, failures=(*result.failures, failure))
        return result


def _insisting_on_damage(plan: Plan) -> Plan:
    """Ask for files by name whose bytes were read and are wrong.

    Whoever looks again under the lock goes by stats, and rot on a disk moves no clock.
    """
    wrong = (Reason.CORRUPT, Reason.HASH_DIFFERS)
    damaged = {a.address for a in plan.actions if a.reason in wrong}
    if not damaged:
        return plan
    options = attrs.evolve(plan.options, replace=plan.options.replace | damaged)
    return attrs.evolve(plan, options=options)


def _refuse_blocked(plan: Plan) -> None:
    if plan.blocked:
        first = plan.blocked[0]
        more = len(plan.blocked) - 1
        raise WanrecError(
            first.code,
            first.message,
            detail=f"and {plural(more, 'more reason')}, see the plan" if more else "",
            address=first.address,
            hint=first.hint,
        )


def _refuse_changed_specs(saved: Plan, desired: Desired) -> None:
    now = {source.path: source.sha256 for source in desired.sources}
    if now == saved.specs:
        return
    changed = sorted(
        path for path in now.keys() | saved.specs.keys() if now.get(path) != saved.specs.get(path)
    )
    raise WanrecError(
        ErrorCode.PLAN_STALE,
        "the specs changed since the plan was made",
        detail=", ".join(changed),
        where=changed[0],
        hint="wanrec plan --out FILE",
    )


def _refuse_unplanned(saved: Plan, fresh: Plan) -> None:
    """What would now be done must have been reviewed; reading a file needs no review."""
    planned = {action.address: action.action for action in saved.actions}
    for action in fresh.actions:
        kind = planned.get(action.address)
        removes = ActionKind.DELETE in (kind, action.action) and kind is not action.action
        if action.action is not ActionKind.VERIFY and (kind is None or removes):
            raise WanrecError(
                ErrorCode.PLAN_STALE,
                "the disk changed since the plan was made",
                detail=f"{action.address}: now to {action.action} ({action.reason})",
                address=action.address,
                hint="wanrec plan --out FILE",
            )


def _refuse_stale(resume: Resume, saved: Plan, state: State | None) -> None:
    if resume is Resume.FOREIGN:
        raise WanrecError(
            ErrorCode.PLAN_FOREIGN,
            "the plan was made for another root",
            detail=f"plan: lineage {saved.lineage}; state: {state.lineage if state else 'none'}",
            hint="wanrec plan --out FILE",
        )
    if resume is Resume.STALE:
        raise WanrecError(
            ErrorCode.PLAN_STALE,
            "the state changed since the plan was made",
            detail=f"plan: serial {saved.serial}; state: serial {state.serial if state else 0}",
            hint="wanrec plan --out FILE",
        )
