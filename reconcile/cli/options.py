"""Options that several commands share, as decorators.

Global options stand before or after the command; each tells the session when it is parsed, so the
last one on the line wins wherever it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from wanrec.reconcile.cli.session import Session

__all__ = [
    "create_root_option",
    "format_option",
    "global_options",
    "json_option",
    "known_format",
    "plan_options",
    "select_options",
    "transfer_options",
]

F = TypeVar("F", bound=Callable[..., Any])


def _tell_session(ctx: click.Context, param: click.Parameter, value: object) -> None:
    assert param.name is not None
    if ctx.get_parameter_source(param.name) is not ParameterSource.COMMANDLINE:
        return
    session = ctx.find_object(Session)
    if session is None:  # the shell is completing words
        return
    if param.name in ("verbose", "quiet"):
        session.given["verbose"] = session.given["quiet"] = None
    if param.name == "plugins":  # each -p adds one
        value = (*session.given.get("plugins", ()), *value)  # type: ignore[misc]
    session.given[param.name] = value
    if param.name == "trace_plugins":
        _trace_plugins(session)
    if param.name == "trace_file":
        _start_tracing(session)


def _start_tracing(session: Session) -> None:
    import os

    from wanrec.reconcile import telemetry

    telemetry.shutdown()
    for warning in telemetry.configure(str(session.given["trace_file"]), os.environ):
        session.say(f"Warning: {warning}", "warning")


def _trace_plugins(session: Session) -> None:
    from wanrec.reconcile.hooks import trace_to

    trace_to(lambda text: session.say(text.rstrip("\n")))


def _global(*names: str, **more: Any) -> Callable[[F], F]:
    return click.option(*names, expose_value=False, callback=_tell_session, **more)


_GLOBAL = (
    _global("--root", metavar="DIR", help="The directory all models live under."),
    _global("--state", metavar="PATH_OR_URL", help="Place of the state; {host}: this machine."),
    _global("--mirror", metavar="URL", help="A source tried before every listed one."),
    _global("--config", metavar="FILE", help="The config file to read."),
    _global("-v", "--verbose", count=True, help="Say more; twice: say everything."),
    _global("-q", "--quiet", is_flag=True, help="Say only what went wrong."),
    _global("--no-color", is_flag=True, help="No colour, even on a terminal."),
    _global(
        "--log-format",
        type=click.Choice(["text", "json"]),
        help="How messages on stderr are written.",
    ),
    _global("--trace-file", metavar="FILE", help="Append OpenTelemetry spans as OTLP JSON lines."),
    _global("-p", "plugins", multiple=True, metavar="MODULE", help="Load a plug-in; no:NAME: not."),
    _global("--trace-plugins", is_flag=True, help="Show each call of a plug-in."),
)


def _all(decorators: tuple[Callable[[F], F], ...]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def global_options(function: F) -> F:
    """Accept every global option."""
    return _all(_GLOBAL)(function)


def _note_format(ctx: click.Context, param: click.Parameter, value: str) -> str:
    session = ctx.find_object(Session)
    if session is not None:
        session.format = value
    return value


class _Formats(click.Choice):  # type: ignore[type-arg]  # no generic before click 8.2
    """The formats a command has itself; other words may be those of a plug-in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value if str(value).isidentifier() else super().convert(value, param, ctx))


def known_format(fmt: str, formats: Iterable[str]) -> str:
    """Return a format that no plug-in knows, if the command does.

    Raises:
        click.UsageError: it does not.
    """
    words = list(formats)
    return fmt if fmt in words else str(click.Choice(words).convert(fmt, None, None))


def format_option(*choices: str, default: str = "text", plugins: bool = False) -> Callable[[F], F]:
    """``--format``; errors follow it. With `plugins` the command asks them for unknown words."""
    return click.option(
        "--format",
        "fmt",
        type=_Formats(list(choices)) if plugins else click.Choice(list(choices)),
        default=default,
        show_default=True,
        is_eager=True,
        callback=_note_format,
        help="The form of the output.",
    )


def json_option(function: F) -> F:
    """``--json``: one document on stdout; errors follow it."""

    def note(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
        _note_format(ctx, param, "json" if value else "text")
        return value

    return click.option(
        "--json", "as_json", is_flag=True, is_eager=True, callback=note, help="One JSON document."
    )(function)


_LAST_FAILED = "wanrec.last_failed"


def _note_last_failed(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    ctx.meta[_LAST_FAILED] = value


def _with_last_failed(
    ctx: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    """The option travels as one more word, so that every command that selects knows it."""
    return (*value, "--last-failed") if ctx.meta.get(_LAST_FAILED) else value


def _complete_words(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from wanrec.reconcile.cli.completion import words_like

    return words_like(incomplete)


_SELECT = (
    click.argument(
        "words",
        nargs=-1,
        metavar="[SPEC | NODEID | MODEL | ADDRESS]...",
        callback=_with_last_failed,
        shell_complete=_complete_words,
    ),
    click.option(
        "--last-failed",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_note_last_failed,
        help="Only what the last apply failed at.",
    ),
    click.option("-k", "keyword", metavar="EXPR", help="Keep what matches these words."),
    click.option("-m", "marks", metavar="EXPR", help="Keep models with these marks."),
    click.option("--exclude", metavar="EXPR", help="Leave out what matches these words."),
)


def select_options(function: F) -> F:
    """The spec selection; the function gets `words`, `keyword`, `marks` and `exclude`."""
    return _all(_SELECT)(function)


create_root_option = click.option(
    "--create-root", is_flag=True, help="Create the root when it does not exist."
)

_PLAN = (
    click.option("--deep", is_flag=True, help="Hash every file instead of trusting its stat."),
    click.option("--refresh-only", is_flag=True, help="Only refresh what the state remembers."),
    click.option(
        "--replace", multiple=True, metavar="ADDRESS", help="Bring this file again, though it fits."
    ),
    click.option("--destroy", is_flag=True, help="Delete what is selected instead of bringing it."),
    click.option("--allow-delete", is_flag=True, help="Permit more deletes than max_delete."),
    click.option(
        "--allow-foreign", is_flag=True, help="Permit to replace files wanrec does not know."
    ),
    click.option(
        "--delete-first", is_flag=True, help="Delete before fetching, when room is short."
    ),
    create_root_option,
)


def plan_options(function: F) -> F:
    """What a plan may be asked to be; names as the fields of `PlanRequest`."""
    return _all(_PLAN)(function)


_TRANSFER = (
    click.option("--parallelism", metavar="N", help="Files worked on at the same time."),
    click.option("--lock-timeout", metavar="S", help="How long to wait for a lock, in seconds."),
    click.option("--bwlimit", metavar="RATE", help="Bytes a second over all transfers: 50MiB."),
    click.option("--offline", is_flag=True, default=None, help="Use local sources only."),
    click.option("--no-failover", is_flag=True, default=None, help="Try the first source only."),
)


def transfer_options(function: F) -> F:
    """How bytes are moved; names as in `Settings`, values as they were typed."""
    return _all(_TRANSFER)(function)
