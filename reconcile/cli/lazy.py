"""Command groups whose commands are loaded when they are called, not when help lists them.

Each loaded command shows its lines of `examples` below its help.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

__all__ = ["LazyGroup"]


class LazyGroup(click.Group):
    """A group over a table: command name → (``module:attribute``, one line of help)."""

    def __init__(self, *args: Any, table: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of the table."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one command."""
        entry = self._table.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry[0].partition(":")
        loaded = getattr(importlib.import_module(module), attribute)
        assert isinstance(loaded, click.Command)
        # Here, because one command may stand in two groups, with examples of its own in each.
        loaded.format_epilog = _write_examples  # type: ignore[method-assign]
        return loaded

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, and with the nearest command named when there is no such one."""
        if args and args[0] not in self._table and not args[0].startswith("-"):
            from wanrec.reconcile.names import nearest

            guess = nearest(args[0], tuple(self._table))
            also = f"; did you mean {guess!r}?" if guess else ""
            ctx.fail(f"no such command {args[0]!r}{also}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[1]) for name, entry in self._table.items()])


def _write_examples(ctx: click.Context, formatter: click.HelpFormatter) -> None:
    from wanrec.reconcile.cli.examples import examples_of

    lines = examples_of(ctx.command_path.partition(" ")[2])
    if lines:
        with formatter.section("Examples"):
            formatter.write("".join(f"{' ' * formatter.current_indent}{line}\n" for line in lines))
