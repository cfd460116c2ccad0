"""The commands: settings and specs in, plans, applied models and reports out.

Each public method is one command of the command line. It decides nothing itself: the planner
decides, the applier acts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wanrec.reconcile import engine_settled
from wanrec.reconcile.engine_requests import ApplyRequest, DriftRequest, PlanRequest
from wanrec.reconcile.engine_view import observe_models, view_of
from wanrec.reconcile.telemetry import EventSink, Silent, span
from wanrec.reconcile.workbench import Workbench

if TYPE_CHECKING:
    from wanrec.reconcile.actions import ApplyResult, DriftReport, ModelStatus, Plan
    from wanrec.reconcile.engine_gc import GcReport, GcRequest
    from wanrec.reconcile.lifecycle_usage import Usage
    from wanrec.reconcile.planfile import PlanFile
    from wanrec.reconcile.select_args import SelectArgs
    from wanrec.reconcile.verifying import Verified
    from wanrec.state.lock_info import LockInfo
    from wanrec.state.model import State
    from wanrec.state.run import HistoryEntry

__all__ = ["ApplyRequest", "DriftRequest", "Engine", "PlanRequest"]

_HEAD_BYTES = 1 << 16
_PLAN_NAMES = (".wanplan", ".plan")


class Engine(Workbench):
    """The engine of one project on one root; see `Workbench` for how one is made."""

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
        """True when the file is a plan, or was one: its content decides, before its name."""
        from wanrec.reconcile.planfile import looks_like_plan

        try:
            if not path.exists():
                return path.name.endswith(_PLAN_NAMES)  # reading it says that it is not there
            if not path.is_file():
                return False
            with path.open("rb") as file:
                return looks_like_plan(file.read(_HEAD_BYTES), path.name)
        except (OSError, ValueError):
            return False

    # Apply.

    def apply(self, plan: Plan, request: ApplyRequest | None = None) -> ApplyResult:
        """Carry out a plan that was just made by this engine.

        Raises:
            WanrecError: when the whole run is refused or cannot begin; failures of single models
                are in the result.
        """
        from wanrec.reconcile.engine_apply import ApplySession
        from wanrec.reconcile.engine_metrics import counted

        asked = request or ApplyRequest()
        return counted(self, asked, lambda told: ApplySession(self, told).apply(plan))

    def apply_file(self, path: Path, request: ApplyRequest | None = None) -> ApplyResult:
        """Carry out a saved plan, if specs and state are still what it was made from.

        Raises:
            WanrecError: PLAN_STALE, PLAN_FOREIGN, PLAN_CORRUPT, PLAN_NEWER; as `apply`.
        """
        from wanrec.reconcile.engine_apply import ApplySession
        from wanrec.reconcile.engine_metrics import counted

        asked, file = request or ApplyRequest(), self.load_plan(path)
        return counted(self, asked, lambda told: ApplySession(self, told).apply_file(file))

    def recover(self) -> int:
        """Finish what dead runs left and fold it into the state; how many runs there were."""
        from wanrec.reconcile.recover import recover_runs

        with self.opened() as (root, store):
            grace = int(self.settings.swap_grace * 1e9)
            return recover_runs(root, store, swap_grace_ns=grace, clock=self.now)

    # Look.

    def drift(self, request: DriftRequest | None = None) -> DriftReport:
        """Compare state and disk; writes nothing, takes no lock, uses no network.

        A deep check in portions keeps its place in the cache folder, where it can.

        Raises:
            WanrecError: STATE_MISSING and its kin; INVALID_CONFIG.
        """
        request = request or DriftRequest()
        ignore = None
        if request.ignore is not None:
            from wanrec.reconcile.expressions import compile_keyword

            matches = compile_keyword(request.ignore, "--ignore")

            def ignore(address: str) -> bool:
                return matches((address,))

        budget = request.rehash_budget
        with self.opened() as (root, store), span("wanrec.refresh"):
            noted = engine_settled.drift_as_noted(self.settings, root, store, request)
            if noted is not None:
                return noted
            from wanrec.reconcile.drift import run_drift
            from wanrec.reconcile.engine_beside import report_with_neighbours
            from wanrec.reconcile.engine_view import drift_scope

            view = view_of(root, store)
            only = drift_scope(view.state, self._failed(request.select))
            pace = None
            if request.deep and request.budget_s is not None:
                from wanrec.reconcile.drift_pace import Pace

                pace = Pace.load(root, request.budget_s, self.now())
            report = run_drift(
                root,
                view.state,
                busy=view.busy,
                deep=request.deep,
                rehash_budget=self.settings.rehash_budget if budget is None else budget,
                ignore=ignore,
                only=only,
                max_age_s=self.settings.verify_max_age
                if request.max_age_s is None
                else request.max_age_s,
                now_ns=self.now(),
                threads=self.settings.parallelism,
                pace=pace,
                record_parts=request.record_parts,
            )
            if pace is not None:
                pace.save(root, view.state.files)
            return report_with_neighbours(root, store, view, report, narrowed=only is not None)

    def _failed(self, select: SelectArgs | None) -> SelectArgs | None:
        """A selection with `--last-failed` resolved."""
        if select is None:
            return None
        from wanrec.reconcile.engine_last_failed import expanded

        return expanded(self.settings, select)

    def status(self, select: SelectArgs | None = None) -> tuple[ModelStatus, ...]:
        """Say of every selected model how much of it is there.

        Files whose stat leaves doubt are hashed, as many as `rehash_budget` allows; beyond it they
        count as present.

        Raises:
            WanrecError: of specs, state or root.
        """
        from wanrec.reconcile.status import model_status

        desired = self.collect(select)
        with self.opened() as (root, store):
            view = view_of(root, store)
            options = self.options(PlanRequest())
            budget = self.settings.rehash_budget
            observed = observe_models(root, view, desired, options, rehash_budget=budget)
            return model_status(desired, view.state, observed)

    def verify(self, word: str | None = None) -> Verified:
        """Hash what a folder, a model or the whole root holds against the specs.

        Raises:
            WanrecError: of the specs; MODEL_NOT_FOUND.
        """
        from wanrec.reconcile.verifying import verify

        return verify(self, word)

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
        force: bool = False,
        request: ApplyRequest | None = None,
    ) -> Path:
        """Return the path of a whole, verified model; bring it when it is not there.

        A model that is there costs stats only: no lock, no write, no spec, no network. `force`
        hashes every file of it instead, and brings again what differs.

        Raises:
            WanrecError: what kept the model from being there.
        """
        from wanrec.reconcile.engine_ensure import ensure

        asked = request or ApplyRequest()
        return ensure(self, model, variant, asked, offline=offline, force=force)

    @contextmanager
    def use(
        self, model: str, variant: str | None = None, *, request: ApplyRequest | None = None
    ) -> Iterator[Path]:
        """Ensure a model and keep it from being swapped or evicted inside the block.

        Raises:
            WanrecError: as `ensure`; LOCK_TIMEOUT while a swap is under way.
        """
        from wanrec.reconcile.engine_ensure import ensure_in_use

        path, held = ensure_in_use(self, model, variant, request or ApplyRequest())
        try:
            yield path
        finally:
            if held is not None:
                held.release()

    def state(self) -> State:
        """The state with all journals taken over."""
        with self.opened() as (root, store):
            return view_of(root, store).state

    def state_mv(self, source: str, target: str) -> None:
        """Rename a model's record; its files stay where they are until the next apply."""
        from wanrec.reconcile.engine_state import move_record

        with self.opened() as (_, store):
            self.recover()
            move_record(store, self.settings.project, source, target, self.now)

    def state_rm(self, model: str) -> None:
        """Forget a model without touching its files."""
        from wanrec.reconcile.engine_state import remove_record

        with self.opened() as (_, store):
            self.recover()
            remove_record(store, self.settings.project, model)

    def state_rebuild(self, sink: EventSink | None = None) -> State:
        """Make the state anew from backup, journals, specs and the disk; fetches nothing."""
        from wanrec.reconcile.engine_state import rebuild

        with self.opened() as (root, store):
            return rebuild(self, root, store, sink or Silent())

    def state_history(self) -> list[HistoryEntry]:
        """The recorded changes of the state, oldest first."""
        with self.opened() as (_, store):
            return store.history()

    def locks(self) -> tuple[LockInfo, ...]:
        """Who holds which lock at this moment."""
        with self.opened() as (_, store):
            return store.locks.list_locks()

    # Living with the disk.

    def gc(self, request: GcRequest | None = None) -> GcReport:
        """Evict on-demand models as the limits say and clear what nothing reaches.

        Raises:
            WanrecError: STATE_MISSING and its kin: without a state nothing is removed;
                LOCK_UNRELIABLE; disk errors.
        """
        from wanrec.reconcile.engine_gc import GcRequest, collect_garbage

        return collect_garbage(self, request or GcRequest())

    def pin(self, model: str, *, pinned: bool = True) -> str:
        """Keep a model from being evicted, or no longer; its key. Only the record changes.

        Raises:
            WanrecError: MODEL_NOT_FOUND; LOCK_TIMEOUT while the model is worked on.
        """
        from wanrec.reconcile.engine_state import set_pinned

        with self.opened() as (_, store):
            self.recover()
            settings = self.settings
            return set_pinned(store, settings.project, model, pinned, settings.lock_timeout)

    def usage(self) -> Usage:
        """What the recorded models take on the disk; stats only.

        Raises:
            WanrecError: of state or root.
        """
        from wanrec.reconcile.lifecycle_usage import usage_of

        with self.opened() as (root, store):
            return usage_of(root, view_of(root, store).state)
