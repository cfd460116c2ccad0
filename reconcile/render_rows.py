"""A plan laid out for people: one group per model, one row per action, columns that line up.

The text, markdown and HTML forms share these rows, so that they cannot tell different stories.
Rows stand by kind, then path; groups in the order in which the plan first touches their model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from wanrec.reconcile.actions import Action, Block, Plan, Summary
from wanrec.reconcile.model import ActionKind, Reason, Via
from wanrec.reconcile.render_words import (
    escaped,
    human_bytes,
    paint,
    short_digest,
    short_source,
    to_width,
    width,
)

__all__ = ["Group", "Row", "apply_counts", "groups_of", "kinds_of", "laid_out", "summary_line"]

_ORDER = {kind: place for place, kind in enumerate(ActionKind)}
_PATH_COLUMNS = 45
_PATH_COLUMNS_MAX = 80
_SIZE_COLUMNS = 9
_FACT_COLUMNS = 22
_VIA_WORDS = {Via.LINK: "linked from", Via.REFLINK: "cloned from", Via.COPY: "copied from"}
_ALWAYS = ("create", "verify", "replace", "delete")
_WHEN_SOME = ("adopt", "move", "forget")


class Row(NamedTuple):
    """One action in words; every text is escaped already."""

    kind: ActionKind
    path: str
    size: str
    digest: str
    detail: str
    blocked: str


class Group(NamedTuple):
    """One model's rows, with the counts that head them and the code that blocks it whole."""

    key: str
    counts: str
    rows: tuple[Row, ...]
    blocked: str


def groups_of(plan: Plan) -> list[Group]:
    """Return the plan's actions as one group per model."""
    by_key: dict[str, list[Action]] = {}
    for action in plan.actions:
        by_key.setdefault(action.key, []).append(action)
    blocks = _blocks_by_address(plan.blocked)
    return [_group(key, actions, blocks) for key, actions in by_key.items()]


def kinds_of(plan: Plan) -> list[ActionKind]:
    """Return the kinds of action the plan uses, in the order of the legend."""
    return sorted({action.action for action in plan.actions}, key=_ORDER.__getitem__)


def laid_out(group: Group, color: bool = False) -> list[str]:
    """Return a group's rows as aligned lines; nothing is cut, a very long path only sticks out."""
    longest = max((width(row.path) for row in group.rows), default=0)
    path_columns = max(_PATH_COLUMNS, min(longest, _PATH_COLUMNS_MAX))
    sizes = (width(row.size) for row in group.rows if row.digest)
    size_columns = max(_SIZE_COLUMNS, max(sizes, default=0))
    return [_line(row, path_columns, size_columns, color) for row in group.rows]


def summary_line(summary: Summary) -> str:
    """Return the frozen line ``Plan: A to create, … Y to free.``."""
    counts = [f"{getattr(summary, kind)} to {kind}" for kind in _ALWAYS]
    counts += [f"{n} to {kind}" for kind in _WHEN_SOME if (n := getattr(summary, kind))]
    fetch, free = human_bytes(summary.bytes_to_fetch), human_bytes(summary.bytes_to_free)
    return f"Plan: {', '.join(counts)}. {fetch} to fetch, {free} to free."


def apply_counts(counts: Sequence[int], bytes_fetched: int) -> str:
    """Return ``A created, V verified, R replaced, D deleted. X fetched.``, as other tools parse."""
    created, verified, replaced, deleted = counts
    return (
        f"{created} created, {verified} verified, {replaced} replaced, {deleted} deleted."
        f" {human_bytes(bytes_fetched)} fetched."
    )


def _blocks_by_address(blocks: Iterable[Block]) -> dict[str, str]:
    found: dict[str, str] = {}
    for block in blocks:
        if block.address is not None:
            found.setdefault(block.address, block.code.value)
    return found


def _group(key: str, actions: list[Action], blocks: dict[str, str]) -> Group:
    ordered = sorted(actions, key=lambda action: (_ORDER[action.action], action.path))
    blocked = blocks.get(key, "")
    rows = tuple(_row(action, _mark(action, blocks, blocked)) for action in ordered)
    return Group(escaped(key), _counts(actions), rows, blocked)


def _mark(action: Action, blocks: dict[str, str], model_mark: str) -> str:
    """A block on the model is repeated at its deletes: they are what a reader looks for."""
    inherited = model_mark if action.action is ActionKind.DELETE else ""
    return blocks.get(action.address, inherited)


def _counts(actions: Iterable[Action]) -> str:
    tally = dict.fromkeys(ActionKind, 0)
    to_fetch = 0
    for action in actions:
        tally[action.action] += 1
        to_fetch += action.bytes_to_fetch
    words = ", ".join(f"{count} {kind}" for kind, count in tally.items() if count)
    return f"{words}; {human_bytes(to_fetch)} to fetch" if to_fetch else words


def _row(action: Action, blocked: str) -> Row:
    details = _details(action)
    if action.optional:
        details.append("optional")
    size, digest = _size(action), ""
    if action.action is not ActionKind.REPLACE:
        digest = short_digest(action.sha256)
    return Row(action.action, escaped(action.path), size, digest, ", ".join(details), blocked)


def _size(action: Action) -> str:
    before = action.before.size if action.before else None
    size = action.size if action.size is not None else before
    if size is None:
        return "size unknown" if action.action.brings_bytes else ""
    if action.action is ActionKind.REPLACE and before is not None:
        return f"{human_bytes(before)} → {human_bytes(size)}"
    return human_bytes(size)


def _details(action: Action) -> list[str]:
    reason = action.reason.value.replace("_", " ")
    match action.action:
        case ActionKind.CREATE:
            origin = _origin(action)
            return origin if action.reason is Reason.MISSING else [*origin, reason]
        case ActionKind.REPLACE:
            return [reason, *_shared(action)]
        case ActionKind.ADOPT:
            return _shared(action) or ["in place"]
        case ActionKind.MOVE:
            return [_former_place(action)]
        case ActionKind.VERIFY | ActionKind.DELETE | ActionKind.FORGET:
            return [reason]


def _origin(action: Action) -> list[str]:
    shared = _shared(action)
    if shared:
        return shared
    source = [f"from {short_source(action.sources[0])}"] if action.sources else []
    left = action.bytes_to_fetch
    if action.size is None or left == action.size:
        return source
    if left == 0:
        return [*source, "already fetched"]
    return [*source, f"{human_bytes(left)} left to fetch"]


def _shared(action: Action) -> list[str]:
    if action.donor is None or action.via is None or action.via is Via.FETCH:
        return []
    return [f"{_VIA_WORDS[action.via]} {escaped(action.donor)}"]


def _former_place(action: Action) -> str:
    """Where a moved file lay; its own address means that the model directory was renamed."""
    if action.donor is None or action.donor == action.address:
        return "from its former directory"
    key, _, path = action.donor.partition("::")
    return f"from {escaped(path if key == action.key else action.donor)}"


def _line(row: Row, path_columns: int, size_columns: int, color: bool) -> str:
    glyph = paint(f"{row.kind.glyph:>3}", row.kind.glyph, color)
    fact = row.size
    if row.digest:
        fact = f"{to_width(row.size, size_columns)} {row.digest}"
    detail = row.detail
    if row.blocked:
        mark = paint(f"blocked: {row.blocked}", "!", color)
        detail = f"{detail}  {mark}" if detail else mark
    path = to_width(row.path, path_columns)
    return f"  {glyph}  {path}  {to_width(fact, _FACT_COLUMNS)}  {detail}".rstrip()
