"""What a plug-in may implement: the hooks of pluggy's project ``wanrec``, and their values.

A plug-in is a module (or object) named by an entry point of the group ``wanrec``, by ``-p`` or by
the setting `plugins`. Its functions carry ``@wanrec.hookimpl``. Each plug-in is asked by itself,
in the order of names; one that raises, or answers something else than is written here, is named in
the error and stops the run, except an observer of events: it is named in a warning.

The functions here are signatures for pluggy, which never calls them: no body is ever run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import pluggy

__all__ = ["Veto", "Warn", "hookimpl"]

Plan = Any
"""`wanrec.reconcile.actions.Plan`; not imported, so that a plug-in does not load it."""
DriftReport = Any
"""`wanrec.reconcile.findings.DriftReport`."""
Event = Any
"""`wanrec.reconcile.telemetry.Event`."""

hookspec = pluggy.HookspecMarker("wanrec")
hookimpl = pluggy.HookimplMarker("wanrec")


class Veto(NamedTuple):
    """The plan may not be applied: it is shown as blocked, POLICY_DENIED, exit 3."""

    message: str
    address: str | None = None
    hint: str = ""


class Warn(NamedTuple):
    """The plan may be applied, but people should know."""

    message: str


@hookspec
def wanrec_providers() -> Mapping[str, str]:
    """Return new URL schemes: scheme → ``module:Class``, a `wanrec.providers.base.Provider`."""
    raise NotImplementedError


@hookspec
def wanrec_check_plan(plan: Plan) -> Veto | Warn | Iterable[Veto | Warn] | None:
    """Judge a plan that would do something, when it is made and when it is applied."""
    raise NotImplementedError


@hookspec
def wanrec_plan_formats() -> Mapping[str, Callable[[Plan], str]]:
    """Return new words for ``plan --format``, each with what renders it."""
    raise NotImplementedError


@hookspec
def wanrec_drift_formats() -> Mapping[str, Callable[[DriftReport], str]]:
    """Return new words for ``drift --format``, each with what renders it."""
    raise NotImplementedError


@hookspec
def wanrec_event(event: Event) -> None:
    """Take note of an event of an apply. Called from any thread; must be quick."""
    raise NotImplementedError


@hookspec
def wanrec_transform_spec(path: str, document: dict[str, Any]) -> dict[str, Any] | None:
    """Return the document a spec file shall be read as, None for as it is.

    What comes back is checked like any spec, and its digest stands in plans.
    """
    raise NotImplementedError
