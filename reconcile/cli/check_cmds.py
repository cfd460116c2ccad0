"""`validate`, `collect`, `drift` and `status`: they look and change nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from wanrec.reconcile.cli.options import (
    format_option,
    global_options,
    json_option,
    select_options,
)
from wanrec.reconcile.cli.output import deliver
from wanrec.reconcile.cli.session import Session
from wanrec.reconcile.errors import ErrorCode, ExitCode, WanrecError

if TYPE_CHECKING:
    from wanrec.reconcile.actions import DriftReport
    from wanrec.reconcile.engine import DriftRequest
    from wanrec.reconcile.model import Desired

__all__ = ["collect", "drift", "status", "validate"]


def _desired(session: Session, options: dict[str, Any]) -> Desired:
    from wanrec.reconcile.select_args import SelectArgs

    return session.engine().collect(SelectArgs(**options))


@click.command()
@select_options
@format_option("text", "json")
@global_options
@click.pass_obj
def validate(session: Session, /, fmt: str, **options: Any) -> None:
    """Check specs, lock files, names and policies; no disk, no network."""
    desired = _desired(session, options)
    specs = [source.path for source in desired.sources]
    models = [model for model in desired.models if desired.selection.has_model(model.key)]
    files = sum(len(model.files) for model in models)
    if fmt == "json":
        from wanrec.reconcile.render_state import document

        text = document(valid=True, specs=specs, models=[m.key for m in models], files=files)
    else:
        from wanrec.reconcile.render_words import plural

        counts = (plural(len(models), "model"), plural(files, "file"))
        text = f"Valid: {plural(len(specs), 'spec file')}, {', '.join(counts)}.\n"
    session.write(text)


@click.command()
@select_options
@format_option("text", "json")
@global_options
@click.pass_obj
def collect(session: Session, /, fmt: str, **options: Any) -> None:
    """List the node ids (SPEC::MODEL::PATH) of what is selected."""
    from wanrec.reconcile.desired import node_ids
    from wanrec.reconcile.render_state import collect_text, document

    ids = node_ids(_desired(session, options))
    session.write(document(node_ids=ids) if fmt == "json" else collect_text(ids))


@click.command()
@select_options
@click.option("--deep", is_flag=True, help="Hash every file.")
@click.option("--rehash-budget", metavar="BYTES", help="Hash at most this much of the doubtful.")
@click.option("--strict", is_flag=True, help="Exit 2 when doubtful files were left unread.")
@click.option("--ignore", metavar="EXPR", help="Leave out files that match these words.")
@click.option("--max-age", metavar="S", help="Doubt what was last verified longer ago.")
@click.option("--output", metavar="FILE", help="Replace a file instead of printing.")
@format_option("text", "json", "prometheus", "nagios", "junit", "tap", "github")
@global_options
@click.pass_obj
def drift(session: Session, /, fmt: str, strict: bool, output: str | None, **options: Any) -> int:
    """Compare the disk with what was applied; take no lock, use no network, write nothing.

    Exits 0 clean, 2 when something differs, 6 when something could not be looked at.
    """
    from wanrec.reconcile.render import DriftFormat, nagios_exit, render_drift, render_drift_error

    form = DriftFormat(fmt)
    try:
        report = session.engine(rehash_budget=options.pop("rehash_budget")).drift(
            _drift_request(options)
        )
    except WanrecError as error:
        if form in (DriftFormat.TEXT, DriftFormat.JSON) and output is None:
            raise
        deliver(session, render_drift_error(error, form, at_ns=time.time_ns()), output)
        session.report(error, document=False)
        return nagios_exit(None) if form is DriftFormat.NAGIOS else int(error.exit_code)
    color = session.color and output is None
    deliver(session, render_drift(report, form, color, at_ns=time.time_ns()), output)
    if report.suspects and form is not DriftFormat.TEXT:
        session.say(f"Warning: {len(report.suspects)} doubtful files were not read.", "warning")
    return nagios_exit(report) if form is DriftFormat.NAGIOS else _drift_exit(report, strict)


def _drift_request(options: dict[str, Any]) -> DriftRequest:
    from wanrec.reconcile.engine import DriftRequest

    select = None
    names = ("words", "keyword", "marks", "exclude")
    chosen = {name: options.pop(name) for name in names}
    if any(chosen.values()):
        from wanrec.reconcile.select_args import SelectArgs

        select = SelectArgs(**chosen)
    return DriftRequest(
        select=select,
        deep=options["deep"],
        ignore=options["ignore"],
        max_age_s=_seconds(options["max_age"]),
    )


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    from wanrec.reconcile.settings_units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise WanrecError(ErrorCode.USAGE, f"--max-age: {error}") from None


def _drift_exit(report: DriftReport, strict: bool) -> int:
    if report.unreadable:
        return int(ExitCode.LOCAL_IO)
    differs = report.drifted or (strict and report.suspects)
    return int(ExitCode.DIFFERS if differs else ExitCode.OK)


@click.command()
@select_options
@json_option
@click.option("--check", is_flag=True, help="Exit 2 unless every model is COMPLETE.")
@global_options
@click.pass_obj
def status(session: Session, /, as_json: bool, check: bool, **options: Any) -> int:
    """Say of every model whether it is there, whole, and when that was last verified."""
    from wanrec.reconcile.actions import Status
    from wanrec.reconcile.render_state import status_json, status_text
    from wanrec.reconcile.select_args import SelectArgs

    rows = session.engine().status(SelectArgs(**options))
    session.write(status_json(rows) if as_json else status_text(rows))
    wanted = [row for row in rows if row.presence == "required" or row.bytes_present]
    incomplete = any(row.state is not Status.COMPLETE for row in wanted)
    return int(ExitCode.DIFFERS if check and incomplete else ExitCode.OK)
