"""What can be remembered when the state is lost: its ruins, its backup, the journals.

Everything found is a claim about the past. `state rebuild` uses it to restore what no disk can
tell (lineage, owners, protection, pins) and to know where to look; it hashes the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.state import codec
from wanrec.state.model import State, apply_commits
from wanrec.state.run import Salvage

if TYPE_CHECKING:
    from wanrec.state.journal import Journal

__all__ = ["salvage"]


def salvage(
    sources: Sequence[tuple[str, bytes | None]], journals: Sequence[Journal], root_id: str | None
) -> Salvage:
    """Merge the sources, best first, and the journals' commits.

    A whole source is believed as it is. Of a damaged one the whole lines are taken, on top of
    the next source. A source of another root is left out.

    Raises:
        WanrecError: STATE_NEWER when a source is of a newer format.
    """
    ruins: list[tuple[str, State]] = []
    whole: tuple[str, State] | None = None
    for name, data in sources:
        if data is None:
            continue
        state, intact = _read(name, data)
        if root_id is not None and state.root_id not in ("", root_id):
            continue
        if intact:
            whole = (name, state)
            break
        ruins.append((name, state))
    layers = ([whole] if whole else []) + [ruin for ruin in reversed(ruins) if _useful(ruin[1])]
    merged = _merge([state for _, state in layers])
    unfolded = [journal for journal in journals if journal.info.run_id not in merged.folded]
    entries = sorted(
        (entry for journal in unfolded for entry in journal.commits),
        key=lambda entry: entry.at_ns,
    )
    after = apply_commits(merged, [entry.commit for entry in entries])
    projects = dict(after.projects)
    for journal in unfolded:
        if journal.commits or journal.swaps:
            projects |= journal.info.header.projects
    return Salvage(
        lineage=after.lineage or None,
        serial=after.serial,
        models=after.models,
        files=after.files,
        projects=projects,
        origins=tuple(name for name, _ in layers) + tuple(j.info.run_id for j in journals),
    )


def _read(name: str, data: bytes) -> tuple[State, bool]:
    try:
        return codec.decode(data, name), True
    except WanrecError as exc:
        if exc.code is ErrorCode.STATE_NEWER:
            raise
        return codec.salvage_lines(data), False


def _useful(state: State) -> bool:
    return bool(state.lineage or state.models or state.files)


def _merge(layers: Sequence[State]) -> State:
    merged = State()
    for layer in layers:
        merged = attrs.evolve(
            merged,
            lineage=layer.lineage or merged.lineage,
            serial=max(layer.serial, merged.serial),
            models={**merged.models, **layer.models},
            files={**merged.files, **layer.files},
            projects={**merged.projects, **layer.projects},
            folded=(*merged.folded, *layer.folded),
        )
    return merged
