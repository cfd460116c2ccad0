"""`ensure` and `path`: one model, and where it lies."""

from __future__ import annotations

from pathlib import Path

import click

from wanrec.reconcile.cli.options import global_options, json_option
from wanrec.reconcile.cli.session import Session

__all__ = ["ensure", "path"]


def complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Model ids and keys for the shell."""
    from wanrec.reconcile.cli.completion import models_like

    return models_like(incomplete)


def _answer(session: Session, place: Path, as_json: bool) -> None:
    if as_json:
        from wanrec.reconcile.render_state import document

        session.write(document(model=_key_of(place), path=str(place)))
    else:
        session.write(f"{place}\n")


def _key_of(place: Path) -> str:
    """The whole key, ``ID`` or ``ID[VARIANT]``, of a model directory: whatever word was given."""
    name, version, *variant = place.name.split("@")
    return f"{name}@{version}" + (f"[{variant[0]}]" if variant else "")


@click.command()
@click.argument("model", metavar="MODEL", shell_complete=complete_model)
@click.option("--variant", metavar="NAME", help="Which variant; else the default one.")
@click.option("--offline", is_flag=True, help="Use local sources only.")
@json_option
@global_options
@click.pass_obj
def ensure(
    session: Session, /, model: str, variant: str | None, offline: bool, as_json: bool
) -> None:
    """Make one model present, whole and verified, and print its absolute path."""
    from wanrec.reconcile.cli.sinks import Warnings
    from wanrec.reconcile.engine import ApplyRequest

    engine = session.engine()
    request = ApplyRequest(sink=Warnings(session), stop=session.stop)
    session.graceful = True
    try:
        place = engine.ensure(model, variant, offline=offline, request=request)
    finally:
        session.graceful = False
    _answer(session, place, as_json)


@click.command()
@click.argument("model", metavar="MODEL", shell_complete=complete_model)
@click.option("--variant", metavar="NAME", help="Which variant; else the default one.")
@json_option
@global_options
@click.pass_obj
def path(session: Session, /, model: str, variant: str | None, as_json: bool) -> None:
    """Print where a model lies or would lie; touch nothing."""
    _answer(session, session.engine().path(model, variant), as_json)
