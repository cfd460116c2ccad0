"""`wan models …`: the earlier orchestrator's commands, on the same engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wanrec.reconcile.cli.lazy import LazyGroup
from wanrec.reconcile.cli.model_cmds import complete_model
from wanrec.reconcile.cli.options import global_options, json_option
from wanrec.reconcile.cli.session import Session
from wanrec.reconcile.errors import ErrorCode, ExitCode, WanrecError, worst_exit

if TYPE_CHECKING:
    from wanrec.reconcile.engine import Engine

__all__ = ["models"]

_CLI = "wanrec.reconcile.cli"
_HERE = f"{_CLI}.models_cmds"
_TABLE = {
    "status": (f"{_HERE}:status", "Say of every model how much of it is there."),
    "ensure": (f"{_HERE}:ensure", "Make models present and print their paths."),
    "path": (f"{_CLI}.model_cmds:path", "Print where a model lies; touch nothing."),
    "usage": (f"{_CLI}.disk_cmds:usage", "Say what the models take on the disk."),
    "gc": (f"{_CLI}.disk_cmds:gc", "Evict on-demand models; clear what nothing reaches."),
    "pin": (f"{_CLI}.disk_cmds:pin", "Keep models from being evicted."),
    "unpin": (f"{_CLI}.disk_cmds:unpin", "Let gc evict models again."),
}


@click.group(cls=LazyGroup, table=_TABLE)
@global_options
def models() -> None:
    """The same program under its earlier name: `wan models ensure --only t2v-A14B@2.2.0`."""


@click.command()
@click.option(
    "--only",
    multiple=True,
    metavar="ID",
    help="Only this model; may be repeated.",
    shell_complete=complete_model,
)
@json_option
@global_options
@click.pass_obj
def status(session: Session, /, only: tuple[str, ...], as_json: bool) -> None:
    """Say of every model whether it is there, whole, and when that was last verified."""
    from wanrec.reconcile.cli.check_cmds import status_rows
    from wanrec.reconcile.render_state import status_json, status_text
    from wanrec.reconcile.select_args import SelectArgs

    rows = status_rows(session, SelectArgs(words=only))
    session.write(status_json(rows) if as_json else status_text(rows))


@click.command()
@click.option(
    "--only",
    multiple=True,
    metavar="ID",
    help="This model; may be repeated.",
    shell_complete=complete_model,
)
@click.option("--all", "everything", is_flag=True, help="Every model the specs install.")
@click.option("--offline", is_flag=True, help="Use local sources only.")
@json_option
@global_options
@click.pass_obj
def ensure(
    session: Session, /, only: tuple[str, ...], everything: bool, offline: bool, as_json: bool
) -> int:
    """Make models present, whole and verified, and print their absolute paths."""
    if bool(only) == everything:
        raise WanrecError(
            ErrorCode.USAGE, "say which models: --only ID, or --all", hint="wanrec status"
        )
    from wanrec.reconcile.cli.sinks import Warnings
    from wanrec.reconcile.engine import ApplyRequest

    engine = session.engine()
    request = ApplyRequest(sink=Warnings(session), stop=session.stop)
    keys = only or _installed(engine)
    failures: list[WanrecError] = []
    paths: dict[str, str] = {}
    session.graceful = True
    try:
        for key in keys:
            try:
                paths[key] = str(engine.ensure(key, offline=offline, request=request))
            except WanrecError as error:
                failures.append(error)
    finally:
        session.graceful = False
    return _report(session, paths, failures, as_json)


def _installed(engine: Engine) -> tuple[str, ...]:
    """What an apply of everything would bring: on-demand models are left to their users."""
    from wanrec.reconcile.model import Presence
    from wanrec.reconcile.select_args import SelectArgs

    models = engine.collect(SelectArgs()).models
    return tuple(m.key for m in models if m.installed and m.presence is Presence.REQUIRED)


def _report(
    session: Session, paths: dict[str, str], failures: list[WanrecError], as_json: bool
) -> int:
    """The paths on stdout, every failure on stderr; 9 when both came about."""
    if as_json:
        from wanrec.reconcile.render_state import document

        failed = [failure.to_dict() for failure in failures]
        session.write(document(models=paths, failed=failed))
    else:
        session.write("".join(f"{path}\n" for path in paths.values()))
    for failure in failures:
        session.report(failure, document=False)
    if failures and paths:
        return int(ExitCode.PARTIAL)
    return int(worst_exit(failure.code for failure in failures)) if failures else int(ExitCode.OK)
