"""`plan`, `show` and `graph`: what would be done, and what was planned before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wanrec.reconcile.cli.options import (
    format_option,
    global_options,
    known_format,
    plan_options,
    select_options,
)
from wanrec.reconcile.cli.session import Session
from wanrec.reconcile.errors import ExitCode, WanrecError

if TYPE_CHECKING:
    from wanrec.reconcile.actions import Plan
    from wanrec.reconcile.engine import Engine

__all__ = ["block_error", "graph", "make", "plan", "rendered", "show"]

_FORMATS = ("text", "json", "markdown", "html", "github")
_SELECT_NAMES = ("words", "keyword", "marks", "exclude")
_CONTRADICTIONS = (
    ("destroy", "refresh_only"),
    ("destroy", "replace"),
    ("refresh_only", "replace"),
    ("state_only", "deep"),
    ("state_only", "refresh_only"),
)


def make(session: Session, options: dict[str, Any], **settings: object) -> tuple[Any, Plan]:
    """Make a plan from what `select_options` and `plan_options` delivered: engine and plan."""
    from wanrec.reconcile.engine import PlanRequest
    from wanrec.reconcile.select_args import SelectArgs

    for one, other in _CONTRADICTIONS:
        if options.get(one) and options.get(other):
            names = (f"--{name.replace('_', '-')}" for name in (one, other))
            raise click.UsageError(f"{' and '.join(names)} contradict each other")
    select = {name: options.pop(name) for name in _SELECT_NAMES}
    engine = session.engine(**settings)
    return engine, engine.plan(SelectArgs(**select), PlanRequest(**options))


def block_error(plan: Plan) -> WanrecError:
    """The error of a plan that may not be applied: the first reason, and how many more."""
    from wanrec.reconcile.render_words import plural

    first, *others = plan.blocked
    more = f"{plural(len(others), 'more reason')} shown with the plan" if others else ""
    return WanrecError(
        first.code, first.message, detail=more, address=first.address, hint=first.hint
    )


@click.command()
@select_options
@plan_options
@click.option("--state-only", is_flag=True, help="Compare with the state; do not look at the disk.")
@click.option("--out", metavar="FILE", help="Save the plan, for `apply FILE`.")
@click.option("--compare", metavar="PLANFILE", help="Say how this plan differs from a saved one.")
@format_option(*_FORMATS, plugins=True)
@click.option("--detailed-exitcode", is_flag=True, help="Exit 2 when there are changes.")
@global_options
@click.pass_obj
def plan(
    session: Session,
    /,
    out: str | None,
    compare: str | None,
    fmt: str,
    detailed_exitcode: bool,
    **options: Any,
) -> int:
    """Show what apply would do; change nothing.

    A plan that may not be applied (a protected model, the delete budget, foreign files) is shown
    whole, is not saved, and exits 3. With --compare only what differs from the saved plan is
    shown, and --detailed-exitcode is about that.
    """
    if out and options["state_only"]:
        raise click.UsageError("a --state-only plan has not seen the disk and cannot be saved")
    if compare:
        return _compare(session, compare, fmt, detailed_exitcode, options)
    engine, made = make(session, options)
    text = rendered(session, engine, made, fmt)
    if out and not made.blocked:
        engine.save_plan(made, Path(out))  # first: when it fails, the error is all there is
    session.write(text)
    if made.blocked:
        error = block_error(made)
        session.report(error, document=False)
        return int(error.exit_code)
    if out:
        session.say(f"Saved the plan. To carry out exactly this: wanrec apply {out}")
    return int(ExitCode.DIFFERS if made and detailed_exitcode else ExitCode.OK)


def _compare(
    session: Session, other: str, fmt: str, detailed_exitcode: bool, options: dict[str, Any]
) -> int:
    from wanrec.reconcile.plan_compare import compare
    from wanrec.reconcile.render_compare import compare_json, compare_text

    if fmt not in ("text", "json"):
        raise click.UsageError("differences are shown as text or json")
    engine, made = make(session, options)
    differences = compare(engine.load_plan(Path(other)).plan, made)
    as_json = fmt == "json"
    session.write(
        compare_json(differences) if as_json else compare_text(differences, session.color)
    )
    return int(ExitCode.DIFFERS if differences and detailed_exitcode else ExitCode.OK)


def rendered(session: Session, engine: Engine, plan: Plan, fmt: str) -> str:
    """The plan in a format of wanrec or of a plug-in.

    Raises:
        click.UsageError: nobody knows the format.
    """
    from wanrec.reconcile.render import PlanFormat, render_plan

    if fmt not in _FORMATS:
        from wanrec.reconcile.engine_hooks import plugin_format

        render = plugin_format(engine.settings, "plan", fmt)
        if render is not None:
            return render(plan)
    return render_plan(plan, PlanFormat(known_format(fmt, _FORMATS)), session.color)


@click.command()
@click.argument("what", metavar="PLANFILE|state")
@format_option(*_FORMATS, plugins=True)
@global_options
@click.pass_obj
def show(session: Session, /, what: str, fmt: str) -> None:
    """Print a saved plan, or the state."""
    if what == "state":
        from wanrec.reconcile.render_state import state_show_json, state_show_text

        if fmt not in ("text", "json"):
            raise click.UsageError("the state is shown as text or json")
        render = state_show_json if fmt == "json" else state_show_text
        session.write(render(session.engine().state()))
        return
    engine = session.engine()
    session.write(rendered(session, engine, engine.load_plan(Path(what)).plan, fmt))


@click.command()
@select_options
@plan_options
@format_option("dot", "mermaid", "json", default="dot")
@click.option("--by-model", is_flag=True, help="One node per model instead of one per file.")
@global_options
@click.pass_obj
def graph(session: Session, /, fmt: str, by_model: bool, **options: Any) -> None:
    """Print the graph of the plan; of a saved one when given its file."""
    from wanrec.reconcile import render_graph

    render = {
        "dot": render_graph.graph_dot,
        "mermaid": render_graph.graph_mermaid,
        "json": render_graph.graph_json,
    }[fmt]
    words = options["words"]
    engine = session.engine()
    if len(words) == 1 and engine.is_plan_file(Path(words[0])):
        made = engine.load_plan(Path(words[0])).plan
    else:
        made = make(session, options)[1]
    session.write(render(made, by_model))
