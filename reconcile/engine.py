"""Composes the stages: settings and specs in, plans, applied models and reports out.

The only place that wires specs, state, providers and the disk together, and where time and
environment enter. It decides nothing itself: the planner decides, the applier acts. Every public
method is one command of the command line.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile.disk import Root
from wanrec.reconcile.engine_view import View, observe_models, open_store, view_of
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.settings import Settings
from wanrec.reconcile.settings import load as load_settings
from wanrec.reconcile.telemetry import EventSink, Silent, span
from wanrec.reconcile.version import __version__
from wanrec.state.store import StateStore

if TYPE_CHECKING:
    from wanrec.reconcile.actions import ApplyResult, DriftReport, ModelStatus, Plan, PlanOptions
    from wanrec.reconcile.desired import SelectArgs
    from wanrec.reconcile.model import Desired
    from wanrec.reconcile.planfile import PlanFile
    from wanrec.state.lock_info import LockInfo
    from wanrec.state.model import State
    from wanrec.state.run import HistoryEntry

__all__ = ["ApplyRequest", "DriftRequest", "Engine", "PlanRequest"]


@attrs.frozen(kw_only=True)
class PlanRequest:
    """What a plan is asked to be, besides which models it is about."""

    deep: bool = False
    refresh_only: bool = False
    state_only: bool = False
    replace: tuple[str, ...] = ()
    destroy: bool = False
    allow_delete: bool = False
    allow_foreign: bool = False
    delete_first: bool = False
    create_root: bool = False
    ensure: frozenset[str] = frozenset()


@attrs.frozen(kw_only=True)
class ApplyRequest:
    """How an apply is carried out. None: as the settings say."""

    parallelism: int | None = None
    lock_timeout: float | None = None
    bwlimit: int | None = None
    fail_fast: bool = False
    offline: bool | None = None
    no_failover: bool | None = None
    sink: EventSink = attrs.field(factory=Silent)
    stop: threading.Event = attrs.field(factory=threading.Event)


@attrs.frozen(kw_only=True)
class DriftRequest:
    """What a drift run looks at. None: as the settings say; `select` None: everything."""

    select: SelectArgs | None = None
    deep: bool = False
    rehash_budget: int | None = None
    ignore: str | None = None
    max_age_s: float | None = None


class Engine:
    """The engine of one project on one root.

    Args:
        settings: see `settings.load`.
        environ: the environment; secrets in it stay in it.
        now: nanoseconds since the epoch.
    """

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self.settings = settings
        self._environ = environ
        self._now = now

    @classmethod
    def from_config(
        cls,
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
        **settings: object,
    ) -> Engine:
        """Make an engine from settings given here, the environment and the config file.

        Raises:
            WanrecError: INVALID_CONFIG.
        """
        env = os.environ if environ is None else environ
        return cls(load_settings(settings, env, cwd or Path.cwd()), env)

    @property
    def project_dir(self) -> Path:
        """Spec paths and node ids are relative to it."""
        return self.settings.project_dir

    @property
    def root(self) -> Path:
        """The root; raises INVALID_CONFIG when none is set."""
        return self.settings.require_root()

    # Specs.

    def collect(self, select: SelectArgs) -> Desired:
        """Read, check and resolve the specs; no disk below the root, no network.

        Raises:
            WanrecError: every fault of every spec at once.
        """
        from wanrec.reconcile.engine_specs import collect

        return collect(self.settings, select)

    # Plan.

    def plan(self, select: SelectArgs, request: PlanRequest | None = None) -> Plan:
        """Compare specs, state and disk; changes nothing.

        Raises:
            WanrecError: of specs, state or root.
        """
        request = request or PlanRequest()
        with span("wanrec.plan"):
            desired = self.collect(select)
            if request.create_root:
                self._create_root()
            with self._opened() as (root, store):
                view = view_of(root, store)
                plan = self._plan(root, view, desired, self._options(request))
        return attrs.evolve(plan, selection=_words(select))

    def _plan(self, root: Root, view: View, desired: Desired, options: PlanOptions) -> Plan:
        from wanrec.reconcile.model import Observed
        from wanrec.reconcile.plan import make_plan

        if options.state_only:
            observed = Observed(busy=view.busy)
        else:
            with span("wanrec.refresh"):
                observed = observe_models(root, view, desired, options)
        plan = make_plan(desired, view.state, observed, options)
        if desired.warnings:
            plan = attrs.evolve(plan, warnings=(*desired.warnings, *plan.warnings))
        return plan

    def _options(self, request: PlanRequest) -> PlanOptions:
        from wanrec.reconcile.actions import PlanOptions
        from wanrec.reconcile.stage import rfc3339

        age = self.settings.verify_max_age
        return PlanOptions(
            project=self.settings.project,
            project_directory=str(self.project_dir),
            wanrec_version=__version__,
            deep=request.deep,
            refresh_only=request.refresh_only,
            state_only=request.state_only,
            replace=frozenset(request.replace),
            destroy=request.destroy,
            allow_delete=request.allow_delete,
            allow_foreign=request.allow_foreign,
            delete_first=request.delete_first,
            ensure=request.ensure,
            verified_before=None if age is None else rfc3339(self._now() - int(age * 1e9)),
        )

    def save_plan(self, plan: Plan, path: Path) -> None:
        """Write a plan file, whole or not at all.

        Raises:
            WanrecError: the block's code when the plan may not be applied; disk errors.
        """
        from wanrec.reconcile.engine_files import write_output
        from wanrec.reconcile.planfile import encode

        write_output(path, encode(plan))

    def load_plan(self, path: Path) -> PlanFile:
        """Read a plan file.

        Raises:
            WanrecError: PLAN_CORRUPT, PLAN_NEWER; disk errors.
        """
        from wanrec.reconcile.engine_files import read_input
        from wanrec.reconcile.planfile import decode

        return decode(read_input(path), str(path))

    def is_plan_file(self, path: Path) -> bool:
        """True when the file's content, not its name, is a plan's."""
        from wanrec.reconcile.planfile import looks_like_plan

        try:
            with path.open("rb") as file:
                return looks_like_plan(file.read(4096))
        except OSError:
            return False

    # Apply.

    def apply(self, plan: Plan, request: ApplyRequest | None = None) -> ApplyResult:
        """Carry out a plan that was just made by this engine.

        Raises:
            WanrecError: when the whole run is refused or cannot begin; failures of single models
                are in the result.
        """
        from wanrec.reconcile.engine_apply import ApplySession

        return ApplySession(self, request or ApplyRequest()).apply(plan)

    def apply_file(self, path: Path, request: ApplyRequest | None = None) -> ApplyResult:
        """Carry out a saved plan, if specs and state are still what it was made from.

        Raises:
            WanrecError: PLAN_STALE, PLAN_FOREIGN, PLAN_CORRUPT, PLAN_NEWER; as `apply`.
        """
        from wanrec.reconcile.engine_apply import ApplySession

        return ApplySession(self, request or ApplyRequest()).apply_file(self.load_plan(path))

    def recover(self) -> int:
        """Finish what dead runs left and fold it into the state; how many runs there were."""
        from wanrec.reconcile.recover import recover_runs

        with self._opened() as (root, store):
            grace = int(self.settings.swap_grace * 1e9)
            return recover_runs(root, store, swap_grace_ns=grace, clock=self._now)

    # Look.

    def drift(self, request: DriftRequest | None = None) -> DriftReport:
        """Compare state and disk; writes nothing, takes no lock, uses no network.

        Raises:
            WanrecError: STATE_MISSING and its kin; INVALID_CONFIG.
        """
        from wanrec.reconcile.drift import run_drift
        from wanrec.reconcile.engine_view import drift_scope

        request = request or DriftRequest()
        ignore = None
        if request.ignore is not None:
            from wanrec.reconcile.expressions import compile_keyword

            matches = compile_keyword(request.ignore)

            def ignore(address: str) -> bool:
                return matches((address,))

        budget = request.rehash_budget
        with self._opened() as (root, store), span("wanrec.refresh"):
            view = view_of(root, store)
            return run_drift(
                root,
                view.state,
                busy=view.busy,
                deep=request.deep,
                rehash_budget=self.settings.rehash_budget if budget is None else budget,
                ignore=ignore,
                only=drift_scope(view.state, request.select),
                max_age_s=request.max_age_s or self.settings.verify_max_age,
                now_ns=self._now(),
                threads=self.settings.parallelism,
            )

    def status(self, select: SelectArgs) -> tuple[ModelStatus, ...]:
        """Say of every selected model how much of it is there; stat only.

        Raises:
            WanrecError: of specs, state or root.
        """
        from wanrec.reconcile.status import model_status

        desired = self.collect(select)
        with self._opened() as (root, store):
            view = view_of(root, store)
            options = self._options(PlanRequest())
            observed = observe_models(root, view, desired, options)
            return model_status(desired, view.state, observed)

    def path(self, model: str, variant: str | None = None) -> Path:
        """Where a model lies or would lie; from the state, else from the specs.

        Raises:
            WanrecError: MODEL_NOT_FOUND, VARIANT_NOT_FOUND.
        """
        from wanrec.reconcile.engine_ensure import locate

        return self.root / locate(self, model, variant)

    def ensure(
        self,
        model: str,
        variant: str | None = None,
        *,
        offline: bool = False,
        request: ApplyRequest | None = None,
    ) -> Path:
        """Return the path of a whole, verified model; bring it when it is not there.

        A model that is there costs stats only: no lock, no write, no spec, no network.

        Raises:
            WanrecError: what kept the model from being there.
        """
        from wanrec.reconcile.engine_ensure import ensure

        return ensure(self, model, variant, offline, request or ApplyRequest())

    @contextmanager
    def use(self, model: str, variant: str | None = None) -> Iterator[Path]:
        """Ensure a model and keep it from being swapped or evicted inside the block.

        Raises:
            WanrecError: as `ensure`; LOCK_TIMEOUT while a swap is under way.
        """
        from wanrec.reconcile.engine_ensure import recorded_key
        from wanrec.state.model import lock_name

        path = self.ensure(model, variant)
        with self._opened() as (root, store):
            key = recorded_key(view_of(root, store).state, model, variant)
            name = lock_name(key or model)
            held = store.locks.use(name, self.settings.lock_timeout)
        try:
            yield path
        finally:
            if held is not None:
                held.release()

    def state(self) -> State:
        """The state with all journals taken over."""
        with self._opened() as (root, store):
            return view_of(root, store).state

    def state_mv(self, source: str, target: str) -> None:
        """Rename a model's record; its files stay where they are until the next apply."""
        from wanrec.reconcile.engine_state import move_record

        with self._opened() as (_, store):
            self.recover()
            move_record(store, self.settings.project, source, target, self._now)

    def state_rm(self, model: str) -> None:
        """Forget a model without touching its files."""
        from wanrec.reconcile.engine_state import remove_record

        with self._opened() as (_, store):
            self.recover()
            remove_record(store, self.settings.project, model)

    def state_rebuild(self, sink: EventSink | None = None) -> State:
        """Make the state anew from backup, journals, specs and the disk; fetches nothing."""
        from wanrec.reconcile.engine_state import rebuild

        with self._opened() as (root, store):
            return rebuild(self, root, store, sink or Silent())

    def state_history(self) -> list[HistoryEntry]:
        """The recorded changes of the state, oldest first."""
        with self._opened() as (_, store):
            return store.history()

    def locks(self) -> tuple[LockInfo, ...]:
        """Who holds which lock at this moment."""
        with self._opened() as (_, store):
            return store.locks.list_locks()

    # Doors, opened for the length of one call.

    @contextmanager
    def _opened(self) -> Iterator[tuple[Root, StateStore]]:
        root = Root.open(self.root)
        try:
            yield root, open_store(self.settings, self._now)
        finally:
            root.close()

    def _create_root(self) -> None:
        path = self.root
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WanrecError(
                ErrorCode.INVALID_CONFIG,
                f"the root cannot be created: {error.strerror}",
                where=str(path),
            ) from error


def _words(select: SelectArgs) -> tuple[str, ...]:
    """The command-line words that narrowed a run, as a plan file keeps them."""
    words = list(select.words)
    for option, value in (("-k", select.keyword), ("-m", select.marks)):
        if value is not None:
            words += [option, value]
    if select.exclude is not None:
        words += ["--exclude", select.exclude]
    return tuple(words)
