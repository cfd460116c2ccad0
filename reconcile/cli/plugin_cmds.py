"""`plugins`: what is loaded, from where, and what is broken."""

from __future__ import annotations

import click

from wanrec.reconcile.cli.options import format_option, global_options
from wanrec.reconcile.cli.session import Session
from wanrec.reconcile.errors import ErrorCode, ExitCode

__all__ = ["plugins"]


@click.command()
@format_option("text", "json")
@global_options
@click.pass_obj
def plugins(session: Session, /, fmt: str) -> int:
    """List plug-ins, where they are from, and which hooks they implement.

    Exits 3 when one of them cannot be loaded.
    """
    from wanrec.reconcile import hooks

    found = hooks.find(session.engine().settings.plugins)
    rows = hooks.Plugins(found, strict=False).rows if found else []
    if fmt == "json":
        from wanrec.reconcile.render_state import document

        session.write(document(plugins=[row._asdict() for row in rows]))
    elif rows:
        from wanrec.reconcile.render_words import columns

        table = [(row.name, row.origin, ", ".join(row.hooks) or "none", row.file) for row in rows]
        session.write(columns(("PLUG-IN", "FROM", "HOOKS", "FILE"), table))
    broken = [row for row in rows if row.problem]
    for row in broken:
        session.say(
            f"Error[{ErrorCode.INVALID_CONFIG}]: the plug-in {row.name} ({row.origin}) cannot be"
            f" loaded: {row.problem}\n  help:   -p no:{row.name} leaves it out",
            "error",
        )
    if not rows and fmt == "text":
        session.say("No plug-ins.")
    return int(ExitCode.REFUSED if broken else ExitCode.OK)
