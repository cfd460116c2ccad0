"""Words for the shell: spec files, model ids and node ids, read from the specs as they are now.

A shell that asks for completions must never be shown an error: what cannot be read is not offered.
Bash cuts words at ``:`` and ``@``, which every address has, so it gets a script of its own that
joins and cuts them again (`BashWords`); fish uses click's but for one thing (`FishWords`), zsh as
it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    add_completion_class,
)

from wanrec.reconcile.errors import WanrecError

if TYPE_CHECKING:
    from wanrec.reconcile.model import Desired

__all__ = ["BashWords", "FishWords", "install", "models_like", "words_like"]

_BASH = """\
%(complete_func)s() {
    local line=${COMP_LINE:0:COMP_POINT} response type value
    local word=${line##*[[:space:]]} cut=
    if [[ $word == *[:@]* ]]; then cut=${word%%"${word##*[:@]}"}; fi
    COMPREPLY=()
    while IFS=, read -r type value; do
        if [[ $type == dir ]]; then compopt -o dirnames
        elif [[ $type == file ]]; then compopt -o default
        elif [[ $type == plain ]]; then COMPREPLY+=("${value#"$cut"}"); fi
    done < <(env WANREC_COMP_LINE="$line" %(complete_var)s=bash_complete "$1")
    return 0
}
complete -o nosort -o nospace -F %(complete_func)s %(prog_name)s
"""


class BashWords(BashComplete):
    """Completion for bash from the whole line, not from words cut at ``:`` and ``@``."""

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the cursor, and the one it stands in."""
        from click.shell_completion import split_arg_string

        line = os.environ.get("WANREC_COMP_LINE", "")
        words = split_arg_string(line)[1:]
        incomplete = words.pop() if words and not line[-1:].isspace() else ""
        return words, incomplete

    def format_completion(self, item: CompletionItem) -> str:
        """Type and word."""
        return f"{item.type},{item.value}"

    @staticmethod
    def _check_version() -> None:
        """`compopt -o nosort` needs bash 4.4; click asks bash, which costs a process a key."""


class FishWords(FishComplete):
    """Completion for fish that leaves commas in words alone."""

    source_template = FishComplete.source_template.replace(
        'string split ","', 'string split --max 1 ","'
    )


def install() -> None:
    """Use these completions instead of click's."""
    add_completion_class(BashWords, "bash")
    add_completion_class(FishWords, "fish")


def words_like(incomplete: str) -> list[str]:
    """Specs and model keys; node ids or addresses once a ``::`` has been typed."""
    desired = _desired()
    if desired is None:
        return []
    specs = sorted({model.spec for model in desired.models})
    keys = sorted(model.key for model in desired.models)
    first, colons, rest = incomplete.partition("::")
    if not colons:
        return _like([*specs, *keys], incomplete)
    if first not in specs:
        return _like(_addresses(desired), incomplete)
    of_spec = _addresses(desired, first) if "::" in rest else _keys(desired, first)
    return _like((f"{first}::{word}" for word in of_spec), incomplete)


def models_like(incomplete: str) -> list[str]:
    """Model keys."""
    desired = _desired()
    return [] if desired is None else _like(sorted(m.key for m in desired.models), incomplete)


def _like(words: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def _keys(desired: Desired, spec: str) -> list[str]:
    return sorted(model.key for model in desired.models if model.spec == spec)


def _addresses(desired: Desired, spec: str | None = None) -> list[str]:
    return sorted(
        f"{model.key}::{file.path}"
        for model in desired.models
        if spec is None or model.spec == spec
        for file in model.files
    )


def _desired() -> Desired | None:
    from wanrec.reconcile.engine_specs import collect
    from wanrec.reconcile.select_args import SelectArgs
    from wanrec.reconcile.settings import load

    try:
        return collect(load({}, os.environ), SelectArgs())
    except (WanrecError, OSError):
        return None
