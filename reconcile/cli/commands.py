"""The table of commands, in the order of help."""

from __future__ import annotations

import os

import click

from wanrec.reconcile.cli.lazy import LazyGroup
from wanrec.reconcile.cli.options import global_options
from wanrec.reconcile.version import __version__

__all__ = ["TABLE", "program"]

_HERE = "wanrec.reconcile.cli"

TABLE = {
    "init": (f"{_HERE}.setup_cmds:init", "Write a starter spec and config."),
    "validate": (f"{_HERE}.collect_cmds:validate", "Check specs and lock files; touch nothing."),
    "collect": (f"{_HERE}.collect_cmds:collect", "List the node ids of what is selected."),
    "lock": (f"{_HERE}.lock_cmds:lock", "Pin the files of the specs to what the sources have."),
    "plan": (f"{_HERE}.plan_cmds:plan", "Show what apply would do."),
    "apply": (f"{_HERE}.apply_cmds:apply", "Make the disk match the specs."),
    "show": (f"{_HERE}.plan_cmds:show", "Print a saved plan, or the state."),
    "graph": (f"{_HERE}.plan_cmds:graph", "Print the plan's graph."),
    "drift": (f"{_HERE}.check_cmds:drift", "Compare the disk with what was applied."),
    "status": (f"{_HERE}.check_cmds:status", "Say of every model how much of it is there."),
    "ensure": (f"{_HERE}.model_cmds:ensure", "Make one model present and print its path."),
    "path": (f"{_HERE}.model_cmds:path", "Print where a model lies; touch nothing."),
    "adopt": (f"{_HERE}.adopt_cmds:adopt", "Bring in model files that lie somewhere already."),
    "usage": (f"{_HERE}.disk_cmds:usage", "Say what the models take on the disk."),
    "gc": (f"{_HERE}.disk_cmds:gc", "Evict on-demand models; clear what nothing reaches."),
    "pin": (f"{_HERE}.disk_cmds:pin", "Keep models from being evicted."),
    "unpin": (f"{_HERE}.disk_cmds:unpin", "Let gc evict models again."),
    "sources": (f"{_HERE}.source_cmds:sources", "Test the sources of models; download none."),
    "migrate": (f"{_HERE}.migrate_cmds:migrate", "Take over a legacy folder tree."),
    "verify": (f"{_HERE}.airgap_cmds:verify", "Hash a folder or model against the specs."),
    "mirror": (f"{_HERE}.airgap_cmds:mirror", "Copy specs, locks and models into a folder."),
    "state": (f"{_HERE}.state_cmds:state", "Look into the state, or change it by hand."),
    "locks": (f"{_HERE}.state_cmds:locks", "Say who holds which lock, since when."),
    "unlock": (f"{_HERE}.state_cmds:unlock", "Break a remote lock; name a local one's holder."),
    "doctor": (f"{_HERE}.setup_cmds:doctor", "Test root, file system, locks, clock and space."),
    "schema": (f"{_HERE}.setup_cmds:schema", "Print a JSON Schema."),
    "models": (f"{_HERE}.models_cmds:models", "status and ensure under their earlier names."),
    "plugins": (f"{_HERE}.plugin_cmds:plugins", "List plug-ins, and where they are from."),
    "config": (f"{_HERE}.setup_cmds:config", "Print every setting and where it came from."),
}

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=LazyGroup, table=TABLE, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="wanrec", message="%(prog)s %(version)s")
@global_options
def program() -> None:
    """Declare model files, plan, apply, detect drift.

    Global options may stand before or after the command; given twice, the last one wins.
    """
    if any(name.startswith("OTEL_") for name in os.environ):
        _trace_by_environment()


def _trace_by_environment() -> None:
    from wanrec.reconcile import telemetry
    from wanrec.reconcile.cli.session import Session

    session = click.get_current_context().find_object(Session)
    trace_file = session.given.get("trace_file") if session else None
    if session is None or trace_file:
        return  # --trace-file has configured both
    for warning in telemetry.configure(None, os.environ):
        session.say(f"Warning: {warning}", "warning")
