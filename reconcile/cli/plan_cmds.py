"""`plan`, `show` and `graph`: what would be done, and what was planned before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wanrec.reconcile.cli.options import (
    format_option,
    global_options,
    plan_options,
    select_options,
)
from wanrec.reconcile.cli.session import Session
from wanrec.reconcile.errors import ErrorCode, ExitCode, WanrecError

if TYPE_CHECKING:
    from wanrec.reconcile.actions import Plan

__all__ = ["block_error", "graph", "make", "plan", "show"]

_SELECT_NAMES = ("words", "keyword", "marks", "exclude")


def make(session: Session, options: dict[str, Any], **settings: object) -> tuple[Any, Plan]:
    """Make a plan from what `select_options` and `plan_options` delivered: engine and plan."""
    from wanrec.reconcile.engine import PlanRequest
    from wanrec.reconcile.select_args import SelectArgs

    select = {name: options.pop(name) for name in _SELECT_NAMES}
    engine = session.engine(**settings)
    return engine, engine.plan(SelectArgs(**select), PlanRequest(**options))


def block_error(plan: Plan) -> WanrecError:
    """The error of a plan that may not be applied: the first reason, and how many more."""
    first, *others = plan.blocked
    more = f"{len(others)} more reasons are shown with the plan" if others else ""
    return WanrecError(
        first.code, first.message, detail=more, address=first.address, hint=first.hint
    )


@click.command()
@select_options
@plan_options
@click.option("--state-only", is_flag=True, help="Compare with the state; do not look at the disk.")
@click.option("--out", metavar="FILE", help="Save the plan, for `apply FILE`.")
@format_option("text", "json", "markdown", "html")
@click.option("--detailed-exitcode", is_flag=True, help="Exit 2 when there are changes.")
@global_options
@click.pass_obj
def plan(
    session: Session, /, out: str | None, fmt: str, detailed_exitcode: bool, **options: Any
) -> int:
    """Show what apply would do; change nothing.

    A plan that may not be applied (a protected model, the delete budget, foreign files) is shown
    whole, is not saved, and exits 3.
    """
    from wanrec.reconcile.render import PlanFormat, render_plan

    if out and options["state_only"]:
        raise click.UsageError("a --state-only plan has not seen the disk and cannot be saved")
    engine, made = make(session, options)
    session.write(render_plan(made, PlanFormat(fmt), session.color))
    if made.blocked:
        error = block_error(made)
        session.report(error, document=False)
        return int(error.exit_code)
    if out:
        engine.save_plan(made, Path(out))
        session.say(f"Saved the plan. To carry out exactly this: wanrec apply {out}")
    return int(ExitCode.DIFFERS if made and detailed_exitcode else ExitCode.OK)


@click.command()
@click.argument("what", metavar="PLANFILE|state")
@format_option("text", "json", "markdown", "html")
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
    from wanrec.reconcile.render import PlanFormat, render_plan

    path = Path(what)
    if not path.is_file():
        raise WanrecError(
            ErrorCode.PLAN_CORRUPT,
            "there is no such plan file",
            where=what,
            hint="wanrec plan --out FILE",
        )
    saved = session.engine().load_plan(path)
    session.write(render_plan(saved.plan, PlanFormat(fmt), session.color))


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
