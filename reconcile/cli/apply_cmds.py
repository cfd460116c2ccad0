"""`apply`: show, ask, do, and say what came of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wanrec.reconcile.cli.options import (
    format_option,
    global_options,
    plan_options,
    select_options,
    transfer_options,
)
from wanrec.reconcile.cli.plan_cmds import block_error, make
from wanrec.reconcile.cli.session import Session
from wanrec.reconcile.errors import ErrorCode, ExitCode, WanrecError, worst_exit

if TYPE_CHECKING:
    from wanrec.reconcile.actions import ApplyResult, Plan
    from wanrec.reconcile.cli.sinks import Sinks
    from wanrec.reconcile.engine import ApplyRequest, Engine

__all__ = ["apply", "exit_of"]

_TRANSFER_NAMES = ("parallelism", "lock_timeout", "bwlimit", "offline", "no_failover")


def exit_of(result: ApplyResult) -> int:
    """The exit code of a finished apply: 0, 9 for a part, else that of the worst failure."""
    codes = [failure.error.code for failure in result.failures if not failure.optional]
    if not codes:
        return int(ExitCode.OK)
    return int(ExitCode.PARTIAL if result.done else worst_exit(codes))


@click.command()
@select_options
@plan_options
@click.option("-y", "--auto-approve", is_flag=True, help="Do not ask.")
@transfer_options
@click.option(
    "--expect",
    metavar="PLANFILE",
    help="Plan again, and go on without a question only if it is this reviewed plan.",
)
@click.option("--fail-fast", is_flag=True, help="Begin nothing new after the first failure.")
@format_option("text", "json")
@click.option("--json-into", metavar="FILE", help="Write the JSON events to a file as well.")
@global_options
@click.pass_obj
def apply(
    session: Session,
    /,
    auto_approve: bool,
    expect: str | None,
    fail_fast: bool,
    fmt: str,
    json_into: str | None,
    **options: Any,
) -> int:
    """Make the disk match the specs, or carry out a saved plan.

    Without -y the plan is shown and approved first; a saved plan asks nothing.
    """
    from wanrec.reconcile.cli.sinks import open_sinks

    settings = {name: options.pop(name) for name in _TRANSFER_NAMES}
    engine = session.engine(**settings)
    saved = _saved_plan(engine, options)
    if saved is not None and expect is not None:
        raise click.UsageError("a saved plan is carried out as it is: --expect cannot be given")
    with open_sinks(session, fmt, json_into) as sinks:
        try:
            if saved is not None:
                made = engine.load_plan(saved).plan
                sinks.planned(made)
                result = _carry_out(
                    session, sinks, fail_fast, lambda r: engine.apply_file(saved, r)
                )
            else:
                engine, made = make(session, options, **settings)
                if expect is not None:
                    _refuse_unexpected(session, engine, Path(expect), made)
                sinks.planned(made)
                _approve(session, made, auto_approve or expect is not None, sinks)
                result = _carry_out(session, sinks, fail_fast, lambda r: engine.apply(made, r))
        except WanrecError as error:
            sinks.refused(error)
            raise
        sinks.finished(result)
    return exit_of(result)


def _refuse_unexpected(session: Session, engine: Engine, reviewed: Path, made: Plan) -> None:
    """Let only what was reviewed be done."""
    from wanrec.reconcile.plan_compare import compare
    from wanrec.reconcile.render_compare import compare_text

    saved = engine.load_plan(reviewed).plan
    if saved.lineage is not None and made.lineage not in (None, saved.lineage):
        raise WanrecError(
            ErrorCode.PLAN_FOREIGN,
            "the plan was reviewed for another root",
            detail=f"plan: lineage {saved.lineage}; state: {made.lineage}",
            where=str(reviewed),
            hint=f"wanrec plan --out {reviewed}",
        )
    differences = compare(saved, made)
    if not differences:
        return
    told = compare_text(differences)
    if session.format != "json":
        session.write(told)
    raise WanrecError(
        ErrorCode.PLAN_STALE,
        "what would be done now is not what was reviewed",
        detail=told.strip() if session.format == "json" else "see the differences above",
        where=str(reviewed),
        hint=f"wanrec plan --out {reviewed}",
    )


def _saved_plan(engine: Engine, options: dict[str, Any]) -> Path | None:
    files = [Path(word) for word in options["words"] if engine.is_plan_file(Path(word))]
    if not files:
        return None
    others = [
        "--" + name.replace("_", "-") if name != "words" else "other words"
        for name, value in options.items()
        if (len(value) > 1 if name == "words" else value)
    ]
    if others:
        raise click.UsageError(f"a saved plan is carried out as it is: {others[0]} cannot be given")
    return files[0]


def _carry_out(session: Session, sinks: Sinks, fail_fast: bool, act: Any) -> ApplyResult:
    from wanrec.reconcile.engine import ApplyRequest

    request: ApplyRequest = ApplyRequest(fail_fast=fail_fast, sink=sinks, stop=session.stop)
    session.graceful = True
    try:
        with sinks.live():
            result: ApplyResult = act(request)
    finally:
        session.graceful = False
    return result


def _approve(session: Session, plan: Plan, approved: bool, sinks: Sinks) -> None:
    if plan.blocked:
        raise block_error(plan)
    if not plan or approved:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise WanrecError(
            ErrorCode.USAGE,
            "a question that nobody could answer",
            detail="the plan has to be approved, and there is no terminal to ask on",
            hint="wanrec apply --auto-approve, or wanrec plan --out FILE and wanrec apply FILE",
        )
    session.say("\nDo you want wanrec to perform these actions? Only 'yes' is taken for a yes.")
    sys.stderr.write("  Answer: ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer:
        raise WanrecError(ErrorCode.USAGE, "a question that nobody could answer")
    if answer.strip() != "yes":
        raise WanrecError(ErrorCode.NOTHING_SELECTED, "apply was not approved; nothing was done")
