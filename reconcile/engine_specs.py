"""From settings and command-line words to the desired set.

The only place that reads spec files for the engine. Also turns the words kept in a plan file back
into a selection.
"""

from __future__ import annotations

from collections.abc import Iterator

from wanrec.reconcile.collect import find_specs, load
from wanrec.reconcile.desired import SelectArgs, build
from wanrec.reconcile.model import Desired
from wanrec.reconcile.settings import Settings

__all__ = ["collect", "select_of"]


def collect(settings: Settings, select: SelectArgs) -> Desired:
    """Find, read and check the specs, and build what they want.

    Raises:
        WanrecError: every fault of every spec at once; MISSING_MANIFEST.
    """
    files = find_specs(settings.project_dir, select.words, settings.manifest, settings.spec_paths)
    return build(load(settings.project_dir, files), select)


def select_of(words: tuple[str, ...]) -> SelectArgs:
    """The selection that a plan file kept as command-line words."""
    options: dict[str, str | None] = {"-k": None, "-m": None, "--exclude": None}
    plain: list[str] = []
    rest: Iterator[str] = iter(words)
    for word in rest:
        if word in options:
            options[word] = next(rest)
        else:
            plain.append(word)
    return SelectArgs(
        words=tuple(plain),
        keyword=options["-k"],
        marks=options["-m"],
        exclude=options["--exclude"],
    )
