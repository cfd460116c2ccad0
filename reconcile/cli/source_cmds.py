"""`sources`: can the models be had, from whom, and how fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from wanrec.reconcile.cli.options import global_options, json_option, select_options
from wanrec.reconcile.cli.session import Session
from wanrec.reconcile.errors import ErrorCode, ExitCode

if TYPE_CHECKING:
    from wanrec.reconcile.sources import SourceReport, Survey

__all__ = ["sources"]

_SHOWN = 5


@click.command()
@select_options
@json_option
@click.option("--offline", is_flag=True, default=None, help="Ask local sources only.")
@click.option("--strict", is_flag=True, help="Fail when any source fails or lacks a file.")
@click.option("--no-sample", is_flag=True, help="Read no bytes for the speed.")
@global_options
@click.pass_obj
def sources(
    session: Session,
    /,
    as_json: bool,
    offline: bool | None,
    strict: bool,
    no_sample: bool,
    **options: Any,
) -> int:
    """Test each source of the selected models; download no model.

    Exits 0 when every file can be had from at least one source.
    """
    from wanrec.reconcile.desired import SelectArgs
    from wanrec.reconcile.sources import SAMPLE_BYTES, survey

    engine = session.engine()
    found = survey(
        engine,
        engine.collect(SelectArgs(**options)),
        offline=offline,
        sample_bytes=0 if no_sample else SAMPLE_BYTES,
        stop=session.stop,
    )
    session.write(_json(found) if as_json else "".join(map(_text, found.reports)))
    if found.undeliverable:
        shown = _some(found.undeliverable)
        session.say(f"No source has {shown}", "error", undeliverable=list(found.undeliverable))
    return int(_exit(found, strict))


def _exit(found: Survey, strict: bool) -> ExitCode:
    bad = [report for report in found.reports if not report.whole]
    if not found.undeliverable and not (strict and bad):
        return ExitCode.OK
    codes = [report.code for report in bad if report.code is not None]
    return (codes[0] if codes else ErrorCode.NOT_FOUND_AT_SOURCE).exit_code


def _text(report: SourceReport) -> str:
    from wanrec.reconcile.sources import describe

    word = "ok" if report.whole else "FAIL" if report.code is not None else "LACKS"
    lines = [f"{word:<5} {report.source}: {describe(report)}"]
    if report.missing:
        lines.append(f"      missing: {_some(report.missing)}")
    if report.differing:
        lines.append(f"      another size: {_some(report.differing)}")
    if report.hint:
        lines.append(f"      fix: {report.hint}")
    return "\n".join(lines) + "\n"


def _some(paths: tuple[str, ...]) -> str:
    rest = len(paths) - _SHOWN
    return ", ".join(paths[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _json(found: Survey) -> str:
    import attrs

    from wanrec.reconcile.render_state import document

    rows = [{**attrs.asdict(report), "whole": report.whole} for report in found.reports]
    return document(sources=rows, undeliverable=list(found.undeliverable))
