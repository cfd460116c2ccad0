"""The door to every output: values in, finished text out; layout only, no decision, no I/O.

Each form lives in a sibling that is loaded when it is asked for: a drift check or a plan without
changes loads neither jinja2 nor rich. All forms are byte-stable: the same value gives the same
bytes under any hash seed, on any machine; times are arguments, and sizes in JSON are integers.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from wanrec.reconcile.render_words import escaped, human_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from wanrec.reconcile.actions import ApplyResult, DriftReport, ModelStatus, Plan
    from wanrec.reconcile.errors import WanrecError
    from wanrec.reconcile.render_state import LockRow
    from wanrec.state.model import State

__all__ = [
    "DriftFormat",
    "GraphFormat",
    "PlanFormat",
    "escaped",
    "human_bytes",
    "nagios_exit",
    "render_apply",
    "render_collect",
    "render_config",
    "render_drift",
    "render_drift_error",
    "render_error",
    "render_graph",
    "render_history",
    "render_json",
    "render_locks",
    "render_plan",
    "render_state_list",
    "render_state_show",
    "render_status",
    "render_table",
]


class PlanFormat(enum.StrEnum):
    """The forms of a plan."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    HTML = "html"
    GITHUB = "github"


class DriftFormat(enum.StrEnum):
    """The forms of a drift report."""

    TEXT = "text"
    JSON = "json"
    PROMETHEUS = "prometheus"
    NAGIOS = "nagios"
    JUNIT = "junit"
    TAP = "tap"
    GITHUB = "github"


class GraphFormat(enum.StrEnum):
    """The forms of a plan's graph."""

    DOT = "dot"
    MERMAID = "mermaid"
    JSON = "json"


def render_plan(plan: Plan, fmt: PlanFormat = PlanFormat.TEXT, color: bool = False) -> str:
    """Return a plan in one of its forms, ending with a line end.

    Args:
        plan: the plan, whole; blocked plans are shown like any other, marked.
        fmt: which form.
        color: ANSI colour, for TEXT only.
    """
    match fmt:
        case PlanFormat.TEXT:
            from wanrec.reconcile.render_text import plan_text

            return plan_text(plan, color)
        case PlanFormat.JSON:
            import json

            from wanrec.reconcile.planfile import plan_to_dict

            return json.dumps(plan_to_dict(plan), indent=2) + "\n"
        case PlanFormat.MARKDOWN:
            from wanrec.reconcile.render_pages import plan_markdown

            return plan_markdown(plan)
        case PlanFormat.HTML:
            from wanrec.reconcile.render_pages import plan_html

            return plan_html(plan)
        case PlanFormat.GITHUB:
            from wanrec.reconcile.render_github import plan_github

            return plan_github(plan)


def render_drift(
    report: DriftReport,
    fmt: DriftFormat = DriftFormat.TEXT,
    color: bool = False,
    *,
    at_ns: int = 0,
) -> str:
    """Return a drift report in one of its forms, complete whatever the form.

    Args:
        report: what was found.
        fmt: which form.
        color: ANSI colour, for TEXT only.
        at_ns: when the check ran, nanoseconds since the epoch; PROMETHEUS prints it.
    """
    match fmt:
        case DriftFormat.TEXT:
            from wanrec.reconcile.render_drift import drift_text

            return drift_text(report, color)
        case DriftFormat.JSON:
            from wanrec.reconcile.render_drift import drift_json

            return drift_json(report)
        case _:
            from wanrec.reconcile.render_monitoring import drift_monitoring

            return drift_monitoring(report, fmt.value, at_ns)


def render_drift_error(error: WanrecError, fmt: DriftFormat, *, at_ns: int = 0) -> str:
    """Return what a monitoring form says when the check itself failed; empty for TEXT.

    A collector that reads only the file must be able to tell "could not look" from "clean".
    """
    match fmt:
        case DriftFormat.TEXT:
            return ""
        case DriftFormat.JSON:
            import json

            return json.dumps({"format_version": 1, "error": error.to_dict()}, indent=2) + "\n"
        case _:
            from wanrec.reconcile.render_monitoring import error_monitoring

            return error_monitoring(error, fmt.value, at_ns)


def nagios_exit(report: DriftReport | None) -> int:
    """Return Nagios' exit code: 0 clean, 1 suspect or busy, 2 differs, 3 could not look."""
    from wanrec.reconcile.render_monitoring import nagios_status

    return nagios_status(report)


def render_graph(plan: Plan, fmt: GraphFormat = GraphFormat.DOT, *, by_model: bool = False) -> str:
    """Return the plan's graph; an edge runs from what is done first. Nodes: files, or models."""
    from wanrec.reconcile import render_graph as graphs

    match fmt:
        case GraphFormat.DOT:
            return graphs.graph_dot(plan, by_model)
        case GraphFormat.MERMAID:
            return graphs.graph_mermaid(plan, by_model)
        case GraphFormat.JSON:
            return graphs.graph_json(plan, by_model)


def render_apply(result: ApplyResult, *, as_json: bool = False, color: bool = False) -> str:
    """Return what an apply did: warnings, failures and the frozen line, or the JSON summary."""
    from wanrec.reconcile.render_apply import apply_json, apply_text

    return apply_json(result) if as_json else apply_text(result, color)


def render_error(
    error: WanrecError, *, address: str | None = None, as_json: bool = False, color: bool = False
) -> str:
    """Return one error as its ``Error[CODE]`` block or as JSON, safe to print."""
    if as_json:
        return render_json(error=error.to_dict())
    from wanrec.reconcile.render_apply import error_text

    return error_text(error, address, color) + "\n"


def render_status(rows: Sequence[ModelStatus], *, as_json: bool = False) -> str:
    """Return one line, or one JSON object, per model."""
    from wanrec.reconcile.render_state import status_json, status_text

    return status_json(rows) if as_json else status_text(rows)


def render_state_list(state: State, *, as_json: bool = False) -> str:
    """Return the recorded models without their files."""
    from wanrec.reconcile.render_state import state_list_json, state_list_text

    return state_list_json(state) if as_json else state_list_text(state)


def render_state_show(
    state: State, keys: Sequence[str] | None = None, *, as_json: bool = False
) -> str:
    """Return recorded models with their files.

    Args:
        state: the state.
        keys: model keys that are in the state; None for all.
        as_json: JSON instead of text.

    Raises:
        KeyError: a key is not recorded; the caller has checked.
    """
    from wanrec.reconcile.render_state import state_show_json, state_show_text

    return state_show_json(state, keys) if as_json else state_show_text(state, keys)


def render_history(entries: Sequence[Mapping[str, object]], *, as_json: bool = False) -> str:
    """Return the changes of the state; an entry may have serial, time, operation, run, models."""
    from wanrec.reconcile.render_state import document, history_text

    if as_json:
        return document(history=[dict(entry) for entry in entries])
    return history_text(entries)


def render_locks(locks: Sequence[LockRow], *, as_json: bool = False) -> str:
    """Return who holds which lock, since when."""
    from wanrec.reconcile.render_state import locks_json, locks_text

    return locks_json(locks) if as_json else locks_text(locks)


def render_collect(
    node_ids: Sequence[str],
    *,
    origins: Mapping[str, Sequence[str]] | None = None,
    as_json: bool = False,
) -> str:
    """Return the collected node ids, one a line; `origins` adds where their values come from."""
    from wanrec.reconcile.render_state import collect_text, document

    if not as_json:
        return collect_text(node_ids, origins)
    extra = {} if origins is None else {"origins": {k: list(v) for k, v in origins.items()}}
    return document(count=len(node_ids), node_ids=list(node_ids), **extra)


def render_config(rows: Sequence[tuple[str, str, str]], *, as_json: bool = False) -> str:
    """Return the settings as (name, value, where from); secrets are masked by the caller."""
    from wanrec.reconcile.render_state import config_text, document

    if as_json:
        return document(settings={n: {"value": v, "from": o} for n, v, o in rows})
    return config_text(rows)


def render_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return any table: cells escaped, columns aligned by what a terminal shows."""
    from wanrec.reconcile.render_words import columns

    return columns(header, rows)


def render_json(**fields: object) -> str:
    """Return a JSON document that begins with `format_version`."""
    from wanrec.reconcile.render_state import document

    return document(**fields)
