"""`state …`, `locks` and `unlock`: what wanrec remembers, and who is at work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wanrec.reconcile.cli.lazy import LazyGroup
from wanrec.reconcile.cli.options import format_option, global_options, json_option
from wanrec.reconcile.cli.session import Session
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.names import nearest

if TYPE_CHECKING:
    from wanrec.state.model import State

__all__ = ["locks", "state", "unlock"]

_HERE = "wanrec.reconcile.cli.state_cmds"
_TABLE = {
    "list": (f"{_HERE}:list_models", "One line per recorded model."),
    "show": (f"{_HERE}:show", "Recorded models with all their files."),
    "mv": (f"{_HERE}:move", "Rename a model's record; files stay where they are."),
    "rm": (f"{_HERE}:remove", "Forget a model; its files stay."),
    "rebuild": (f"{_HERE}:rebuild", "Make the state anew from backup and disk; fetch nothing."),
    "history": (f"{_HERE}:history", "The recorded changes, oldest first."),
}


@click.group(cls=LazyGroup, table=_TABLE)
@global_options
def state() -> None:
    """Look into the state, or change it by hand."""


@click.command(name="list")
@format_option("text", "json")
@global_options
@click.pass_obj
def list_models(session: Session, /, fmt: str) -> None:
    """One line per recorded model."""
    from wanrec.reconcile.render_state import state_list_json, state_list_text

    render = state_list_json if fmt == "json" else state_list_text
    session.write(render(session.engine().state()))


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@format_option("text", "json")
@global_options
@click.pass_obj
def show(session: Session, /, models: tuple[str, ...], fmt: str) -> None:
    """Recorded models with all their files; without a word, every one."""
    from wanrec.reconcile.render_state import state_show_json, state_show_text

    current = session.engine().state()
    keys = [key for word in models for key in _keys(current, word)] if models else None
    render = state_show_json if fmt == "json" else state_show_text
    session.write(render(current, keys))


def _keys(current: State, word: str) -> list[str]:
    """Keys that a MODEL names: itself, ID@VARIANT, every variant of an ID or a NAME."""
    base, _, variant = word.rpartition("@")
    exact = {word, f"{base}[{variant}]"}
    found = [key for key in current.models if key in exact] or [
        key for key in current.models if word in (key.partition("[")[0], key.partition("@")[0])
    ]
    if not found:
        guess = nearest(word, tuple(current.models))
        raise WanrecError(
            ErrorCode.MODEL_NOT_FOUND,
            f"the state knows no model {word!r}" + (f"; did you mean {guess!r}?" if guess else ""),
            hint="wanrec state list",
        )
    return found


@click.command(name="mv")
@click.argument("source", metavar="MODEL")
@click.argument("target", metavar="MODEL")
@global_options
@click.pass_obj
def move(session: Session, /, source: str, target: str) -> None:
    """Rename a model's record; its files stay where they are until the next apply."""
    session.engine().state_mv(source, target)
    session.say(f"Moved {source} to {target} in the state.")


@click.command(name="rm")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@global_options
@click.pass_obj
def remove(session: Session, /, models: tuple[str, ...]) -> None:
    """Forget models; their files stay, and are foreign from then on."""
    engine = session.engine()
    for model in models:
        engine.state_rm(model)
        session.say(f"Forgot {model}; its files were not touched.")


@click.command()
@format_option("text", "json")
@global_options
@click.pass_obj
def rebuild(session: Session, /, fmt: str) -> None:
    """Make the state anew from backup, journals, specs and the disk; fetch nothing."""
    from wanrec.reconcile.cli.sinks import Warnings
    from wanrec.reconcile.render_state import state_list_json, state_list_text
    from wanrec.reconcile.render_words import plural

    rebuilt = session.engine().state_rebuild(Warnings(session))
    models, files = plural(len(rebuilt.models), "model"), plural(len(rebuilt.files), "file")
    session.say(f"Rebuilt the state: {models}, {files}.")
    session.write(state_list_json(rebuilt) if fmt == "json" else state_list_text(rebuilt))


@click.command()
@format_option("text", "json")
@global_options
@click.pass_obj
def history(session: Session, /, fmt: str) -> None:
    """The recorded changes of the state, oldest first."""
    import attrs

    from wanrec.reconcile.render_state import document, history_text

    entries = []
    for entry in session.engine().state_history():
        fields = attrs.asdict(entry)
        entries.append({"serial": fields.pop("serial"), "time": fields.pop("at"), **fields})
    session.write(document(history=entries) if fmt == "json" else history_text(entries))


@click.command()
@json_option
@global_options
@click.pass_obj
def locks(session: Session, /, as_json: bool) -> None:
    """Say who holds which lock, since when."""
    from wanrec.reconcile.render_state import locks_json, locks_text

    held = session.engine().locks()
    session.write(locks_json(held) if as_json else locks_text(held))


@click.command()
@click.argument("lock_id", metavar="ID")
@global_options
@click.pass_obj
def unlock(session: Session, /, lock_id: str) -> None:
    """Break a remote-state lock; for a local one, name the process that holds it."""
    from wanrec.state.model import lock_name

    held = {lock.name: lock for lock in session.engine().locks()}
    holder = held.get(lock_id) or held.get(lock_name(lock_id))
    if holder is None:
        session.say(f"{lock_id} is not locked: there is nothing to break.")
        return
    who = f"process {holder.pid} on {holder.host}" if holder.pid else "another process"
    raise WanrecError(
        ErrorCode.LOCK_TIMEOUT,
        f"{lock_id} is held by {who}: a local lock ends with its process and cannot be broken",
        detail=f"{holder.operation or 'a run'} since {holder.since or 'an unknown time'}",
        hint=f"kill {holder.pid}" if holder.pid else "wanrec locks",
    )
