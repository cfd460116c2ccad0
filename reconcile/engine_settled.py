"""When a plan or a drift check may be answered from the note of the last empty plan.

Only the plain form of either: whatever narrows, deepens or ages a run is looked at properly. So is
a root on which a run is under way, or ended without folding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wanrec.reconcile.disk import Root
from wanrec.reconcile.engine_requests import DriftRequest, PlanRequest
from wanrec.reconcile.errors import WanrecError
from wanrec.reconcile.settings import Settings
from wanrec.reconcile.version import __version__
from wanrec.state.store import StateStore

if TYPE_CHECKING:
    from wanrec.reconcile.actions import Plan
    from wanrec.reconcile.findings import DriftReport
    from wanrec.reconcile.select_args import SelectArgs
    from wanrec.reconcile.workbench import Workbench
    from wanrec.state.model import State

__all__ = ["applies_to", "drift_as_noted", "note_key", "note_plan", "plan_as_noted"]


def applies_to(settings: Settings, select: SelectArgs, request: PlanRequest) -> bool:
    """True for a plan of everything, in which no option asks for more than a stat."""
    return not _narrows(select) and request == PlanRequest() and settings.verify_max_age is None


def _narrows(select: SelectArgs) -> bool:
    return bool(select.words or select.keyword or select.marks or select.exclude)


def note_key(settings: Settings, root: Root, store: StateStore) -> str | None:
    """Key of the note as of now; taken before the state is read."""
    from wanrec.reconcile.settled import key_of

    return key_of(root, store, __version__, *_project(settings), settings.marks)


def plan_as_noted(bench: Workbench, request: PlanRequest) -> Plan | None:
    """The empty plan, if specs, state and disk are as they were when it was last empty."""
    from wanrec.reconcile.actions import Plan
    from wanrec.reconcile.engine_specs import source_digests
    from wanrec.reconcile.settled import recall

    settings = bench.settings
    try:
        sources = source_digests(settings)
        with bench.opened() as (root, store):
            key = note_key(settings, root, store)
            note = recall(root, key, _name(settings), sources) if key and sources else None
    except WanrecError:
        return None  # told by whoever looks properly
    if note is None:
        return None
    return Plan(
        lineage=note.lineage or None,
        serial=note.serial,
        specs=note.sources,
        options=bench.options(request),
    )


def note_plan(
    settings: Settings, root: Root, store: StateStore, key: str | None, plan: Plan, state: State
) -> None:
    """Leave a note of a plan that found nothing to do and nothing to say."""
    said = plan.actions or plan.records or plan.blocked or plan.warnings or plan.drift
    if key is None or said or plan.foreign or plan.partial or not state.files:
        return
    from wanrec.reconcile.engine_beside import own_names
    from wanrec.reconcile.settled import remember

    remember(root, key, _name(settings), plan.specs, state, own_names(root, store))


def drift_as_noted(
    settings: Settings, root: Root, store: StateStore, request: DriftRequest
) -> DriftReport | None:
    """The clean report, if state and disk are as they were when a plan was last empty."""
    select = request.select
    narrowed = select is not None and _narrows(select)
    if narrowed or request.deep or request.ignore is not None:
        return None
    if request.max_age_s is not None or settings.verify_max_age is not None:
        return None
    from wanrec.reconcile.findings import DriftReport
    from wanrec.reconcile.settled import recall

    key = note_key(settings, root, store)
    note = recall(root, key, _name(settings)) if key else None
    if note is None:
        return None
    return DriftReport(checked=note.files, models=tuple(note.models))


def _project(settings: Settings) -> tuple[str, str]:
    return settings.project, str(settings.project_dir)


def _name(settings: Settings) -> str:
    return "\0".join(_project(settings))
