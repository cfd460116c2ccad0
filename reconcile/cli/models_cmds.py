"""`wan models …`: the earlier orchestrator's commands, on the same engine."""

from __future__ import annotations

import click

from wanrec.reconcile.cli.lazy import LazyGroup
from wanrec.reconcile.cli.options import global_options, json_option
from wanrec.reconcile.cli.session import Session
from wanrec.reconcile.errors import ErrorCode, ExitCode, WanrecError

__all__ = ["models"]

_HERE = "wanrec.reconcile.cli.models_cmds"
_TABLE = {
    "status": (f"{_HERE}:status", "Say of every model how much of it is there."),
    "ensure": (f"{_HERE}:ensure", "Make models present and print their paths."),
}


@click.group(cls=LazyGroup, table=_TABLE)
@global_options
def models() -> None:
    """The commands under their earlier names."""


@click.command()
@click.option("--only", multiple=True, metavar="ID", help="Only this model; may be repeated.")
@json_option
@global_options
@click.pass_obj
def status(session: Session, /, only: tuple[str, ...], as_json: bool) -> None:
    """Say of every model whether it is there, whole, and when that was last verified."""
    from wanrec.reconcile.desired import SelectArgs
    from wanrec.reconcile.render_state import status_json, status_text

    rows = session.engine().status(SelectArgs(words=only))
    session.write(status_json(rows) if as_json else status_text(rows))


@click.command()
@click.option("--only", multiple=True, metavar="ID", help="This model; may be repeated.")
@click.option("--all", "everything", is_flag=True, help="Every model of the specs.")
@json_option
@global_options
@click.pass_obj
def ensure(session: Session, /, only: tuple[str, ...], everything: bool, as_json: bool) -> int:
    """Make models present, whole and verified, and print their absolute paths."""
    if bool(only) == everything:
        raise WanrecError(
            ErrorCode.USAGE, "say which models: --only ID, or --all", hint="wanrec status"
        )
    from wanrec.reconcile.cli.sinks import Warnings
    from wanrec.reconcile.desired import SelectArgs
    from wanrec.reconcile.engine import ApplyRequest
    from wanrec.reconcile.render_state import document

    engine = session.engine()
    request = ApplyRequest(sink=Warnings(session), stop=session.stop)
    keys = only or tuple(
        model.key for model in engine.collect(SelectArgs()).models if model.installed
    )
    session.graceful = True
    try:
        paths = {key: str(engine.ensure(key, request=request)) for key in keys}
    finally:
        session.graceful = False
    text = "".join(f"{path}\n" for path in paths.values())
    session.write(document(models=paths) if as_json else text)
    return int(ExitCode.OK)
