"""What `--help`, the man page and the generated pages show: examples that the program takes."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from wanrec.reconcile.cli.commands import program
from wanrec.reconcile.cli.examples import EXAMPLES, examples_of
from wanrec.reconcile.cli.session import Session

TOP = Path(__file__).resolve().parents[2]


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Every command and group of the program, without its name."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield " ".join((*path, name))
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def test_every_command_has_examples() -> None:
    """Each command shows at least one line, and no line is of a command that is gone."""
    assert set(EXAMPLES) == set(commands(program))
    assert all(EXAMPLES.values())


def parsed(words: list[str]) -> str:
    """The command that a line means, once the option parser has taken all of it."""
    context = program.make_context("wanrec", words, obj=Session())
    command: click.Command = program
    while isinstance(command, click.Group):
        first = "_protected_args" if hasattr(context, "_protected_args") else "protected_args"
        rest = [*getattr(context, first), *context.args]
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        context = found.make_context(name, rest, parent=context)
        command = found
    return context.command_path.partition(" ")[2]


@pytest.mark.parametrize("command", EXAMPLES)
def test_examples_parse(command: str) -> None:
    """Each line is a command line of its command, as a shell would cut it."""
    for line in examples_of(command):
        typed = line.removeprefix("cd $(").removesuffix(")") if line.startswith("cd $(") else line
        words = shlex.split(typed.split(" | ")[0].split(" > ")[0], comments=True)
        assert words[0] == ("wan" if command.startswith("models") else "wanrec")
        assert parsed(words[1:]).startswith(command)


def test_help_shows_the_examples_of_where_one_is() -> None:
    """A command that stands in two groups shows the lines of the group it was called in."""
    for path in ("gc", "models gc"):
        context = click.Context(program, info_name="wanrec")
        command: click.Command = program
        for name in path.split():
            assert isinstance(command, click.Group)
            found = command.get_command(context, name)
            assert found is not None
            command, context = found, click.Context(found, parent=context, info_name=name)
        shown = command.get_help(context).partition("Examples:")[2].splitlines()
        assert [line.strip() for line in shown if line] == examples_of(path)


def test_generated_pages_are_up_to_date() -> None:
    """`docs/generate.py --check` finds no page, the man page included, that would change."""
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_man_page_is_sound() -> None:
    """The page gives groff nothing to warn about, and shows every command."""
    done = subprocess.run(
        ["groff", "-man", "-Tascii", "-P-cbou", "-ww", "-rLL=200n", str(TOP / "docs/man/wanrec.1")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert not [name for name in commands(program) if f"wanrec {name}" not in done.stdout]
