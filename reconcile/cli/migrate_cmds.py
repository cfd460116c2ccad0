"""`migrate`: from a legacy folder tree to models, step by step; the tree itself is only read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wanrec.reconcile.cli.options import format_option, global_options, select_options
from wanrec.reconcile.cli.session import Session
from wanrec.reconcile.errors import ExitCode

if TYPE_CHECKING:
    from wanrec.reconcile.adopting import Adopted
    from wanrec.reconcile.engine import Engine

__all__ = ["migrate"]

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
@global_options
def migrate() -> None:
    """Take over a legacy tree: analyze says what it is, plan prepares, execute does it.

    The legacy tree is never changed: until you remove it yourself, nothing is lost, and deleting
    the new models is the way back.
    """


_bring_options = (
    click.option(
        "--link",
        type=click.Choice(["copy", "hard"]),
        default="copy",
        show_default=True,
        help="hard: share the files of the legacy tree; who edits one then edits both.",
    ),
    click.option(
        "--keep-going", is_flag=True, help="Pass over what cannot be read, with a warning."
    ),
)


def _brings(function: F) -> F:
    for option in reversed(_bring_options):
        function = option(function)
    return function


def _run(
    session: Session,
    engine: Engine,
    folder: str,
    options: dict[str, Any],
    *,
    link: str = "copy",
    **how: Any,
) -> Adopted:
    from wanrec.reconcile.adopting import AdoptRequest, adopt
    from wanrec.reconcile.adopting_take import Link
    from wanrec.reconcile.cli.lock_cmds import ByteCounter
    from wanrec.reconcile.cli.sinks import Warnings
    from wanrec.reconcile.desired import SelectArgs

    request = AdoptRequest(
        folder=Path(folder),
        select=SelectArgs(**options),
        warn=lambda text: session.say(f"Warning: {text}", "warning"),
        progress=ByteCounter(session, "Hashed"),
        stop=session.stop,
        sink=Warnings(session),
        link=Link(link),
        **how,
    )
    session.graceful = True
    try:
        return adopt(engine, request)
    finally:
        session.graceful = False


@migrate.command()
@click.argument("folder", metavar="DIR")
@select_options
@format_option("text", "json")
@global_options
@click.pass_obj
def analyze(session: Session, /, folder: str, fmt: str, **options: Any) -> None:
    """Say which folder holds which model, how sure that is, and what is missing; write nothing."""
    from wanrec.reconcile.adopting_folders import as_json, recognise
    from wanrec.reconcile.desired import SelectArgs
    from wanrec.reconcile.render_state import document
    from wanrec.reconcile.render_words import columns, plural

    engine = session.engine()
    copies: dict[str, list[str]] = {}
    found = _run(session, engine, folder, options, dry_run=True, keep_going=True, copies=copies)
    desired = engine.collect(SelectArgs(**options))
    models = [model for model in desired.models if desired.selection.has_model(model.key)]
    rows = recognise(Path(folder), copies, models)
    if fmt == "json":
        missing = [{"address": a, "size": s} for a, s in sorted(found.missing.items())]
        session.write(document(folders=as_json(rows), models=list(found.models), missing=missing))
        return
    table = [
        (row.folder, row.model, f"{int(row.by_hash * 100)}%", f"{int(row.by_name * 100)}%")
        for row in rows
    ]
    if table:
        session.write(columns(("FOLDER", "MODEL", "BY HASH", "BY NAME"), table))
    lines = [f"  ?  {address}  not found" for address in sorted(found.missing)]
    lacking = plural(len(found.missing), "file")
    lines.append(f"{plural(len(found.models), 'model')} can be whole, {lacking} missing.")
    session.write("".join(f"{line}\n" for line in lines))


@migrate.command()
@click.argument("folder", metavar="DIR")
@select_options
@_brings
@click.option("--out", metavar="FILE", help="Bring files in and save the plan, for `apply FILE`.")
@global_options
@click.pass_obj
def plan(
    session: Session, /, folder: str, out: str | None, link: str, keep_going: bool, **options: Any
) -> int:
    """Show the ordinary plan that puts in place what was found; without --out write nothing.

    With --out what was found is copied into the stage, and the plan is saved.
    """
    from wanrec.reconcile.render import PlanFormat, render_plan

    engine = session.engine()
    how: dict[str, Any] = {"dry_run": out is None, "link": link, "keep_going": keep_going}
    done = _run(session, engine, folder, options, plan_only=True, **how)
    if done.plan is None and not done.missing:
        session.say("Nothing to bring in: every model is there.")
        return int(ExitCode.OK)
    if done.plan is None:
        session.say("No model can be whole; nothing was planned.", "warning")
        return int(ExitCode.DIFFERS)
    session.write(render_plan(done.plan, PlanFormat.TEXT, session.color))
    if out is None:
        session.say(f"Nothing was written. To bring this in: wanrec migrate execute {folder}")
        return int(ExitCode.OK)
    engine.save_plan(done.plan, Path(out))
    session.say(f"Saved the plan. To carry out exactly this: wanrec apply {out}")
    return int(ExitCode.OK)


@migrate.command()
@click.argument("folder", metavar="DIR")
@select_options
@_brings
@global_options
@click.pass_obj
def execute(session: Session, /, folder: str, link: str, keep_going: bool, **options: Any) -> int:
    """Bring the models in; the legacy tree stays as it is until you remove it."""
    from wanrec.reconcile.cli.apply_cmds import exit_of
    from wanrec.reconcile.cli.sinks import tell_result

    done = _run(session, session.engine(), folder, options, link=link, keep_going=keep_going)
    if done.result is None:
        session.say("Nothing to bring in: see wanrec migrate analyze.", "warning")
        return int(ExitCode.OK)
    tell_result(session, done.result)
    return exit_of(done.result)
