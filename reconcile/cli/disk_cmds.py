"""`usage`, `gc`, `pin` and `unpin`: living with the disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from wanrec.reconcile.cli.options import global_options, json_option
from wanrec.reconcile.cli.session import Session
from wanrec.reconcile.errors import ErrorCode, ExitCode, WanrecError, worst_exit

__all__ = ["gc", "pin", "unpin", "usage"]

Number = TypeVar("Number", int, float)


@click.command()
@json_option
@global_options
@click.pass_obj
def usage(session: Session, /, as_json: bool) -> None:
    """Say what the models take on the disk, and what sharing saves; stats only."""
    from wanrec.reconcile.cli.disk_text import usage_json, usage_text

    found = session.engine().usage()
    session.write(usage_json(found) if as_json else usage_text(found))


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would go and why the rest stays.")
@click.option("--max-size", metavar="SIZE", help="Evict until all models take at most this much.")
@click.option("--max-age", metavar="AGE", help="Evict what was not used for so long: 30d.")
@json_option
@global_options
@click.pass_obj
def gc(
    session: Session,
    /,
    dry_run: bool,
    max_size: str | None,
    max_age: str | None,
    as_json: bool,
) -> int:
    """Evict on-demand models and clear what no run will come back for.

    The models that were used the longest time ago go first. Pinned, protected and required models
    stay, and so does what somebody uses or works on at this moment. Without a limit here or in
    the settings no model is evicted.
    """
    from wanrec.reconcile.cli.disk_text import gc_json, gc_text
    from wanrec.reconcile.engine_gc import GcRequest
    from wanrec.reconcile.settings_units import parse_duration, parse_size

    request = GcRequest(
        dry_run=dry_run,
        max_size=_parsed("--max-size", max_size, parse_size),
        max_age_s=_parsed("--max-age", max_age, parse_duration),
    )
    report = session.engine().gc(request)
    session.write(gc_json(report) if as_json else gc_text(report))
    for warning in report.warnings:
        session.say(f"Warning: {warning}", "warning")
    for failure in report.failures:
        session.report(failure, document=False)
    if report.failures:
        return int(worst_exit(failure.code for failure in report.failures))
    return int(ExitCode.OK)


def _parsed(option: str, text: str | None, parse: Callable[[str], Number]) -> Number | None:
    try:
        return None if text is None else parse(text)
    except ValueError as error:
        raise WanrecError(ErrorCode.USAGE, f"{option}: {error}") from None


_models = click.argument("models", nargs=-1, required=True, metavar="MODEL...")


@click.command()
@_models
@json_option
@global_options
@click.pass_obj
def pin(session: Session, /, models: tuple[str, ...], as_json: bool) -> None:
    """Keep models from being evicted by gc until they are unpinned."""
    _set_pinned(session, models, True, as_json)


@click.command()
@_models
@json_option
@global_options
@click.pass_obj
def unpin(session: Session, /, models: tuple[str, ...], as_json: bool) -> None:
    """Let gc evict models again."""
    _set_pinned(session, models, False, as_json)


def _set_pinned(session: Session, models: tuple[str, ...], pinned: bool, as_json: bool) -> None:
    engine = session.engine()
    keys = []
    for model in models:
        keys.append(engine.pin(model, pinned=pinned))
        session.say(f"{'Pinned' if pinned else 'Unpinned'} {keys[-1]}.")
    if as_json:
        from wanrec.reconcile.render_state import document

        session.write(document(models=keys, pinned=pinned))
