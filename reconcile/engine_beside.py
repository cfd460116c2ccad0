"""What lies beside the model directories of a root and is nobody's: told by plan and drift.

Only the root and the folders that model directories lie in are listed, each once. What is in a
model directory is looked at with the model.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile.disk import Root
from wanrec.reconcile.disk_scan import above, beside
from wanrec.state.store import StateStore

if TYPE_CHECKING:
    from wanrec.reconcile.actions import Plan
    from wanrec.reconcile.engine_view import View
    from wanrec.reconcile.findings import DriftReport
    from wanrec.reconcile.model import Desired

__all__ = ["own_names", "plan_with_neighbours", "report_with_neighbours"]


def plan_with_neighbours(
    root: Root, store: StateStore, view: View, desired: Desired, plan: Plan
) -> Plan:
    """The plan, with what lies beside the models it is about among its foreign entries."""
    narrowed = None
    if plan.partial:
        chosen = desired.selection
        narrowed = {model.directory for model in desired.models if chosen.has_model(model.key)}
    wanted = {model.directory for model in desired.models}
    found = _neighbours(root, store, view, narrowed, wanted)
    return attrs.evolve(plan, foreign=tuple(sorted((*plan.foreign, *found)))) if found else plan


def report_with_neighbours(
    root: Root, store: StateStore, view: View, report: DriftReport, *, narrowed: bool
) -> DriftReport:
    """The report, with what lies beside the models it is about among its foreign entries.

    `narrowed`: the report is about some models only.
    """
    models = view.state.models
    judged = {models[key].directory for key in report.models if key not in view.busy}
    found = _neighbours(root, store, view, judged if narrowed else None, ())
    return attrs.evolve(report, foreign=tuple(sorted((*report.foreign, *found))))


def own_names(root: Root, store: StateStore) -> frozenset[str]:
    """Where the state lies, relative to the root, when `--state` names a place of its own there."""
    top = os.path.join(os.path.realpath(root.path), "")
    if store.inside_root or not store.where.startswith(top):
        return frozenset()
    name = store.where.removeprefix(top).replace(os.sep, "/")
    return frozenset({name, f"{name}.backup"})


def _neighbours(
    root: Root,
    store: StateStore,
    view: View,
    narrowed: Collection[str] | None,
    wanted: Collection[str],
) -> list[str]:
    """List the folders above model directories (all, or the narrowed ones) for what is unknown.

    Nothing while a run brings a model without a record: its directory may be there already.
    """
    models = view.state.models
    if not models.keys() >= view.busy:
        return []
    known = {*wanted, *(record.directory for record in models.values())} - {""}
    folders = above(known) | {""} if narrowed is None else above(narrowed)
    return beside(root, sorted(folders), known | own_names(root, store))
