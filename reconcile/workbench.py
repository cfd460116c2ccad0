"""What every command of the engine stands on: settings, specs, an opened root, a plan.

The only place that wires specs, state and disk together, and where time and environment enter.
`Engine` adds the commands; sessions (`engine_apply`, `engine_ensure`, `engine_state`) work on a
bench and know nothing of the other commands.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

import attrs

from wanrec.reconcile import engine_settled
from wanrec.reconcile.disk import Root
from wanrec.reconcile.engine_requests import PlanRequest
from wanrec.reconcile.engine_view import View, observe_models, open_store, state_place, view_of
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.facts import Via
from wanrec.reconcile.settings import Settings
from wanrec.reconcile.settings import load as load_settings
from wanrec.reconcile.telemetry import span
from wanrec.reconcile.version import __version__
from wanrec.state.store import StateStore

if TYPE_CHECKING:
    from wanrec.reconcile.actions import Plan, PlanOptions
    from wanrec.reconcile.engine_present import PresentModels
    from wanrec.reconcile.model import Desired
    from wanrec.reconcile.select_args import SelectArgs

__all__ = ["Workbench"]


_SHARE_VIA = {"copy": Via.COPY, "reflink": Via.REFLINK}


class Workbench:
    """One project on one root.

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
        self.environ = environ
        self.now = now
        self._present: PresentModels | None = None

    @classmethod
    def from_config(
        cls,
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
        **settings: object,
    ) -> Self:
        """Make one from settings given here, the environment and the config file.

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

    @property
    def present(self) -> PresentModels:
        """What this engine remembers of the state between calls (see `engine_present`)."""
        if self._present is None:
            from wanrec.reconcile.engine_present import PresentModels

            self._present = PresentModels()
        return self._present

    def collect(self, select: SelectArgs | None = None) -> Desired:
        """Read, check and resolve the specs, all without `select`; no disk, no network.

        Raises:
            WanrecError: every fault of every spec at once.
        """
        from wanrec.reconcile.engine_specs import collect
        from wanrec.reconcile.select_args import SelectArgs

        return collect(self.settings, select or SelectArgs())

    def plan(self, select: SelectArgs | None = None, request: PlanRequest | None = None) -> Plan:
        """Compare specs (all of them without `select`), state and disk; changes nothing.

        Raises:
            WanrecError: of specs, state or root.
        """
        from wanrec.reconcile import engine_hooks  # drift and path have no use for plug-ins
        from wanrec.reconcile.engine_specs import portable_words
        from wanrec.reconcile.select_args import SelectArgs

        select = select or SelectArgs()
        request = request or PlanRequest()
        with span("wanrec.plan"):
            quick = engine_settled.applies_to(
                self.settings, select, request
            ) and not engine_hooks.transforms(self.settings)
            if quick and (noted := engine_settled.plan_as_noted(self, request)) is not None:
                return noted
            from wanrec.reconcile.engine_beside import plan_with_neighbours

            desired = self.collect(select)
            request = _addressed(desired, request)
            if request.create_root:
                self._create_root()
            if request.state_only and self._state_alone():
                plan = self._plan_state(desired, self.options(request))
            else:
                with self.opened() as (root, store):
                    key = engine_settled.note_key(self.settings, root, store) if quick else None
                    view = view_of(root, store)
                    plan = self.plan_view(root, view, desired, self.options(request))
                    if not request.state_only:
                        plan = plan_with_neighbours(root, store, view, desired, plan)
                    engine_settled.note_plan(self.settings, root, store, key, plan, view.state)
        plan = engine_hooks.judged(self.settings, plan)
        return attrs.evolve(plan, selection=portable_words(self.settings, select))

    def _state_alone(self) -> bool:
        """True on a review runner: a copy of a state, and no root that it belongs to."""
        place, root = state_place(self.settings), self.settings.root
        return place is not None and "://" not in place and (root is None or not root.is_dir())

    def _plan_state(self, desired: Desired, options: PlanOptions) -> Plan:
        from wanrec.reconcile.engine_files import read_input
        from wanrec.reconcile.model import Observed
        from wanrec.reconcile.plan import make_plan
        from wanrec.state.codec import decode

        place = Path(state_place(self.settings) or "")
        return make_plan(desired, decode(read_input(place), str(place)), Observed(), options)

    def plan_view(self, root: Root, view: View, desired: Desired, options: PlanOptions) -> Plan:
        """Plan on a state and a root that are already open."""
        from wanrec.reconcile.model import Observed
        from wanrec.reconcile.plan import make_plan

        if options.state_only:
            observed = Observed(busy=view.busy)
        else:
            with span("wanrec.refresh"):
                observed = observe_models(root, view, desired, options)
        return make_plan(desired, view.state, observed, options)

    def options(self, request: PlanRequest) -> PlanOptions:
        """The planner's options for a request of this project."""
        from wanrec.reconcile.actions import PlanOptions

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
            share_via=_SHARE_VIA.get(self.settings.link_mode, Via.LINK),
            verified_before=None if age is None else _before(self.now(), age),
        )

    @contextmanager
    def opened(self) -> Iterator[tuple[Root, StateStore]]:
        """Open root and store for the length of one call."""
        root = Root.open(self.root)
        try:
            yield root, open_store(self.settings, self.now)
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


def _before(now_ns: int, age_s: float) -> str:
    from wanrec.reconcile.stage_identity import rfc3339

    return rfc3339(now_ns - int(age_s * 1e9))


def _addressed(desired: Desired, request: PlanRequest) -> PlanRequest:
    """The request with every ``--replace`` word as the full addresses it means."""
    if not request.replace:
        return request
    from wanrec.reconcile.desired_lookup import addresses_of

    return attrs.evolve(request, replace=addresses_of(desired.models, request.replace))
