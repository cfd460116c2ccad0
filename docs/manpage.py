"""The man page `man/wanrec.1`, from the commands themselves; `generate.py` writes and checks it.

In go the tables of the documents, out comes roff text: no dates, no widths, so that it changes
only when the program does.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping

import click

from wanrec.reconcile.cli.commands import program
from wanrec.reconcile.cli.examples import examples_of
from wanrec.reconcile.errors import ExitCode
from wanrec.reconcile.version import __version__

_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_FILES = {
    "wanrec.toml, pyproject.toml": "settings of the project ([tool.wanrec] in the latter)",
    "specs/**/*.toml": "the specs; NAME.lock.toml beside NAME.toml is its lock",
    "ROOT/.wanrec/": "state, journals, locks, stage and caches of a root",
    "~/.cache/wanrec/": "parsed specs; may be removed at any time",
}


def man_page(
    exits: Mapping[ExitCode, str], settings: Mapping[str, str], shared: Iterable[click.Option]
) -> str:
    """Return the whole page.

    Args:
        exits: what each exit code means.
        settings: what each setting means.
        shared: the options every command takes.
    """
    options = list(shared)
    lines = [
        r".\" Written by docs/generate.py from the program; edits are lost.",
        f'.TH WANREC 1 "" "wanrec {__version__}" "User Commands"',
        ".nh",  # words are copied: they are neither hyphenated nor spread
        ".ad l",
        *_section("NAME", [r"wanrec \- declare model files, plan, apply, detect drift"]),
        *_section(
            "SYNOPSIS", [r".B wanrec", r"[\fIOPTION\fR]... \fICOMMAND\fR [\fIARGUMENT\fR]..."]
        ),
        *_section("DESCRIPTION", _paragraphs(program.help or "")),
        *_section("OPTIONS", _options(options)),
        *_section("COMMANDS", _commands(program, (), {option.name for option in options})),
        *_section("EXIT STATUS", _pairs((str(int(code)), text) for code, text in exits.items())),
        *_section("ENVIRONMENT", _environment(settings)),
        *_section("FILES", _pairs(_FILES.items())),
    ]
    return "\n".join(lines) + "\n"


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield f".SH {title}"
    yield from lines


def _commands(group: click.Group, path: tuple[str, ...], shared: set[str | None]) -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name), shared)
        elif command is not None:
            yield from _command(command, (*path, name), shared, context)


def _command(
    command: click.Command, path: tuple[str, ...], shared: set[str | None], context: click.Context
) -> Iterator[str]:
    words = [p.make_metavar(context) for p in command.params if isinstance(p, click.Argument)]
    yield f'.SS "{_text(" ".join(("wanrec", *path, *words)))}"'
    yield from _paragraphs(command.help or "")
    options = [p for p in command.params if isinstance(p, click.Option) and p.name not in shared]
    yield from _options(options)
    examples = examples_of(" ".join(path))
    if examples:
        yield from (".PP", "Examples:", ".PP", ".nf", ".RS", *map(_text, examples), ".RE", ".fi")


def _options(options: Iterable[click.Option]) -> Iterator[str]:
    for option in options:
        names = ", ".join(rf"\fB{_text(name)}\fR" for name in option.opts)
        takes = "" if option.is_flag or option.count else rf" \fI{_text(_metavar(option))}\fR"
        yield from (".TP", names + takes, _text(option.help or ""))


def _metavar(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return "|".join(map(str, option.type.choices))
    return option.metavar or option.type.name.upper()


def _environment(settings: Mapping[str, str]) -> Iterator[str]:
    yield "Every setting can be given as WANREC_NAME; see \\fBwanrec config\\fR."
    yield from _pairs((f"WANREC_{name.upper()}", text) for name, text in settings.items())


def _pairs(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, text in pairs:
        yield from (".TP", rf"\fB{_text(name)}\fR", _text(text))


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(inspect.cleandoc(text).split("\n\n")):
        if number:
            yield ".PP"
        yield _text(" ".join(paragraph.split()))


def _text(text: str) -> str:
    """Plain text for roff: no Markdown, no accidental requests, hyphens that can be copied."""
    plain = _LINK.sub(r"\1", text).replace("`", "")
    escaped = plain.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped
