"""`drift` and `status`: they look at the disk and change nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from wanrec.reconcile.cli.options import (
    format_option,
    global_options,
    json_option,
    known_format,
    select_options,
)
from wanrec.reconcile.cli.output import deliver
from wanrec.reconcile.cli.session import Session
from wanrec.reconcile.errors import ErrorCode, ExitCode, WanrecError

if TYPE_CHECKING:
    from wanrec.reconcile.actions import DriftReport, ModelStatus
    from wanrec.reconcile.engine import DriftRequest
    from wanrec.reconcile.select_args import SelectArgs

__all__ = ["drift", "status", "status_rows"]

_DRIFT_FORMATS = ("text", "json", "prometheus", "nagios", "junit", "tap", "github")


@click.command()
@select_options
@click.option("--deep", is_flag=True, help="Hash every file.")
@click.option("--rehash-budget", metavar="BYTES", help="Hash at most this much of the doubtful.")
@click.option("--strict", is_flag=True, help="Exit 2 when doubtful files were left unread.")
@click.option("--ignore", metavar="EXPR", help="Leave out files that match these words.")
@click.option("--max-age", metavar="S", help="Doubt what was last verified longer ago.")
@click.option(
    "--budget", metavar="TIME", help="With --deep: hash for so long, oldest first; then go on."
)
@click.option(
    "--record-parts", is_flag=True, help="With --deep: note the parts of big files in the cache."
)
@click.option(
    "--fail-on",
    multiple=True,
    type=click.Choice(["missing", "size", "content", "type", "suspect", "foreign"]),
    help="Exit 2 only for this kind; may be given more than once.",
)
@click.option("--watch", metavar="SECONDS", help="Check again and again, a tenth more or less.")
@click.option("--output", metavar="FILE", help="Replace a file instead of printing.")
@format_option(*_DRIFT_FORMATS, plugins=True)
@global_options
@click.pass_obj
def drift(session: Session, /, fmt: str, watch: str | None, **options: Any) -> int:
    """Compare the disk with what was applied; take no lock, use no network, write nothing.

    Exits 0 clean, 2 when something differs, 6 when something could not be looked at.
    """
    if options["budget"] is not None and not options["deep"]:
        raise click.UsageError("--budget is about --deep")
    if fmt == "nagios" and options["fail_on"]:
        raise click.UsageError("Nagios has exit codes of its own: --fail-on cannot be given")
    if watch is None:
        return _drift_once(session, fmt, **options)
    return _drift_again(session, _seconds("--watch", watch) or 0.0, fmt, options)


def _drift_again(session: Session, every: float, fmt: str, options: dict[str, Any]) -> int:
    """Check until a signal comes. Spread, so that many hosts do not look at one time."""
    import random

    if every <= 0:
        raise click.UsageError("--watch: more than 0 seconds")
    while True:
        try:
            _drift_once(session, fmt, **options)
        except WanrecError as error:
            if error.exit_code in (ExitCode.USAGE, ExitCode.REFUSED):
                raise
            session.report(error)
        if session.reader_gone:
            return int(ExitCode.OK)
        # The pause is what was asked for; a signal ends it.
        time.sleep(every * random.uniform(0.9, 1.1))  # noqa: S311 - jitter, not a secret


def _drift_once(
    session: Session,
    fmt: str,
    *,
    strict: bool,
    output: str | None,
    fail_on: tuple[str, ...],
    **options: Any,
) -> int:
    from wanrec.reconcile.render import DriftFormat, nagios_exit, render_drift, render_drift_error

    if fmt not in _DRIFT_FORMATS:
        return _drift_by_plugin(session, fmt, strict, output, fail_on, options)
    form = DriftFormat(fmt)
    try:
        report = session.engine(rehash_budget=options["rehash_budget"]).drift(
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
        from wanrec.reconcile.render_words import plural

        unread = plural(len(report.suspects), "doubtful file")
        session.say(f"Warning: not read: {unread}.", "warning")
    if form is DriftFormat.NAGIOS:
        return nagios_exit(report)
    return _drift_exit(report, strict, fail_on)


def _drift_by_plugin(
    session: Session,
    fmt: str,
    strict: bool,
    output: str | None,
    fail_on: tuple[str, ...],
    options: dict[str, Any],
) -> int:
    from wanrec.reconcile.engine_hooks import plugin_format

    engine = session.engine(rehash_budget=options["rehash_budget"])
    render = plugin_format(engine.settings, "drift", fmt)
    if render is None:
        known_format(fmt, _DRIFT_FORMATS)
        return int(ExitCode.USAGE)
    report = engine.drift(_drift_request(options))
    deliver(session, render(report), output)
    return _drift_exit(report, strict, fail_on)


def _drift_request(options: dict[str, Any]) -> DriftRequest:
    from wanrec.reconcile.engine import DriftRequest

    select = None
    names = ("words", "keyword", "marks", "exclude")
    chosen = {name: options[name] for name in names}
    if any(chosen.values()):
        from wanrec.reconcile.select_args import SelectArgs

        select = SelectArgs(**chosen)
    return DriftRequest(
        select=select,
        deep=options["deep"],
        record_parts=options["record_parts"],
        ignore=options["ignore"],
        max_age_s=_seconds("--max-age", options["max_age"]),
        budget_s=_seconds("--budget", options["budget"]),
    )


def _seconds(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    from wanrec.reconcile.settings_units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise WanrecError(ErrorCode.USAGE, f"{option}: {error}") from None


def _drift_exit(report: DriftReport, strict: bool, fail_on: tuple[str, ...]) -> int:
    """Could not look (6) over differs (2); the report itself is always complete."""
    if report.unreadable:
        return int(ExitCode.LOCAL_IO)
    kinds = {item.kind.value for item in report.items}
    kinds |= {"suspect"} if report.suspects else set()
    kinds |= {"foreign"} if report.foreign else set()
    counted = set(fail_on) or {"missing", "size", "content", "type"}
    if strict:
        counted.add("suspect")
    return int(ExitCode.DIFFERS if kinds & counted else ExitCode.OK)


@click.command()
@select_options
@json_option
@click.option("--check", is_flag=True, help="Exit 2 unless every model is COMPLETE.")
@global_options
@click.pass_obj
def status(session: Session, /, as_json: bool, check: bool, **options: Any) -> int:
    """Say of every model whether it is there, whole, and when that was last verified.

    Where there are no specs, for all that is recorded.
    """
    from wanrec.reconcile.actions import Status
    from wanrec.reconcile.render_state import status_json, status_text
    from wanrec.reconcile.select_args import SelectArgs

    rows = status_rows(session, SelectArgs(**options))
    session.write(status_json(rows) if as_json else status_text(rows))
    wanted = [row for row in rows if row.presence == "required" or row.bytes_present]
    incomplete = any(row.state is not Status.COMPLETE for row in wanted)
    return int(ExitCode.DIFFERS if check and incomplete else ExitCode.OK)


def status_rows(session: Session, select: SelectArgs) -> tuple[ModelStatus, ...]:
    """As the specs say; for all that is recorded where a reader has the root and no specs.

    Raises:
        WanrecError: of specs, state or root.
    """
    engine = session.engine()
    try:
        return engine.status(select)
    except WanrecError as error:
        chosen = select.words or select.keyword or select.marks or select.exclude
        if error.code is not ErrorCode.MISSING_MANIFEST or chosen or engine.settings.manifest:
            raise
        from wanrec.reconcile.engine_recorded import recorded_statuses

        rows = recorded_statuses(engine)
        if not rows:
            raise
    session.say("There are no spec files here: this is what the state knows.")
    return rows
