"""A plan as a page: markdown for a pull-request comment, HTML that stands alone.

Both put what can hurt first: deletes, blocks, what is foreign, bytes. The markdown begins with a
marker line by which a bot finds its earlier comment, and always fits one comment: when it must be
cut, every model keeps its riskiest lines and the reader is told how much is missing.
Whatever a spec or a disk contributed stands inside code fences longer than any run of backticks in
them, or is HTML-escaped; nobody is mentioned, nothing is rendered, no link is made of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from wanrec.reconcile.actions import Plan
from wanrec.reconcile.model import ActionKind
from wanrec.reconcile.render_rows import Group, groups_of, kinds_of, laid_out
from wanrec.reconcile.render_text import Section, fill, notes_of, saved_line, sections_of, verdict
from wanrec.reconcile.render_words import human_bytes, plural

__all__ = ["COMMENT_LIMIT", "MARKER", "plan_html", "plan_markdown"]

COMMENT_LIMIT = 65_536
MARKER = "<!-- wanrec-plan -->"
_RESERVE = 400
_SMALLEST_MODEL = 400
_SECTION_LINES = 20
_SECTION_CHARS = 4_000
_LINE_CHARS = 400
_OPEN = ("notes", "blocked", "warnings")
_RISK = (ActionKind.DELETE, ActionKind.REPLACE, ActionKind.FORGET, ActionKind.ADOPT)


class _Model(NamedTuple):
    """One collapsible model: its head filled in without lines, and the lines, riskiest first."""

    group: Group
    fence: str
    lines: tuple[str, ...]
    risky: tuple[str, ...]
    head: int

    @property
    def size(self) -> int:
        return self.head + sum(len(line) + 1 for line in self.lines)


class _Cut(NamedTuple):
    """What is left out of a comment: whole models, and actions in all."""

    models: int
    actions: int


def plan_markdown(plan: Plan, limit: int = COMMENT_LIMIT) -> str:
    """Return the plan as a comment of at most `limit` characters (at least 32,768)."""
    sections = [_limited(section) for section in _sections(plan)]
    bare = _comment(plan, sections, (), "")
    models = [_model(group) for group in groups_of(plan)]
    room = limit - len(bare)
    if sum(model.size for model in models) <= room:
        return _comment(plan, sections, [_filled(m, m.lines) for m in models], "")
    shown, cut = _fitted(models, room - _RESERVE)
    return _comment(plan, sections, shown, _shortened(cut))


def plan_html(plan: Plan) -> str:
    """Return the plan as one self-contained page: no script, no outside resource, nothing cut."""
    opened, closed = _split(sections_of(plan, foreign_shown=len(plan.foreign)))
    page = fill(
        "plan.html.j2",
        verdict=verdict(plan),
        saved=saved_line(plan),
        notes=notes_of(plan),
        risks=_risks(plan),
        open_sections=opened,
        closed_sections=closed,
        kinds=kinds_of(plan),
        groups=groups_of(plan),
    )
    return page.rstrip("\n") + "\n"


def _comment(plan: Plan, sections: list[Section], models: Sequence[str], shortened: str) -> str:
    opened, closed = _split(sections)
    page = fill(
        "plan.md.j2",
        verdict=verdict(plan),
        risks=_risks(plan),
        shortened=shortened,
        open_sections=[_fenced(section) for section in opened],
        closed_sections=[_fenced(section) for section in closed],
        models=models,
    )
    return page.rstrip("\n") + "\n"


def _sections(plan: Plan) -> list[Section]:
    notes = Section("notes", "Please note:", tuple(notes_of(plan)))
    return [*([notes] if notes.lines else []), *sections_of(plan)]


def _split(sections: Iterable[Section]) -> tuple[list[Section], list[Section]]:
    ordered = list(sections)
    opened = [s for name in _OPEN for s in ordered if s.name == name]
    return opened, [section for section in ordered if section.name not in _OPEN]


def _risks(plan: Plan) -> list[tuple[str, str]]:
    summary = plan.summary
    codes = ", ".join(sorted({block.code.value for block in plan.blocked}))
    return [
        ("Deletes", str(summary.delete)),
        ("Replaces", str(summary.replace)),
        ("Blocked", f"{len(plan.blocked)} ({codes})" if codes else "0"),
        ("Foreign", str(len(plan.foreign))),
        ("To fetch", human_bytes(summary.bytes_to_fetch)),
        ("To free", human_bytes(summary.bytes_to_free)),
        ("Saved by sharing", human_bytes(summary.bytes_saved)),
    ]


def _limited(section: Section) -> Section:
    """Return the section with few enough, short enough lines for a comment."""
    kept: list[str] = []
    used = 0
    for line in section.lines[:_SECTION_LINES]:
        short = line if len(line) <= _LINE_CHARS else f"{line[:_LINE_CHARS]}…"
        used += len(short)
        if used > _SECTION_CHARS:
            break
        kept.append(short)
    left = len(section.lines) - len(kept)
    return section._replace(lines=(*kept, *([f"  … and {left} more"] if left else [])))


def _fenced(section: Section) -> dict[str, object]:
    return section._asdict() | {"fence": _fence(section.lines)}


def _fence(lines: Iterable[str]) -> str:
    runs = (len(run) for line in lines for run in re.findall("`+", line))
    return "`" * max(3, max(runs, default=0) + 1)


def _model(group: Group) -> _Model:
    lines = laid_out(group)
    pairs = sorted(zip(group.rows, lines, strict=True), key=lambda pair: _danger(pair[0].kind))
    risky = tuple(line for _, line in pairs)
    bare = _Model(group, _fence(lines), tuple(lines), risky, 0)
    return bare._replace(head=len(_filled(bare, ())))


def _danger(kind: ActionKind) -> int:
    return _RISK.index(kind) if kind in _RISK else len(_RISK)


def _filled(model: _Model, lines: Sequence[str]) -> str:
    group = model.group
    counts = f"{group.counts}, blocked: {group.blocked}" if group.blocked else group.counts
    return fill("plan_model.md.j2", title=group.key, counts=counts, fence=model.fence, lines=lines)


def _fitted(models: Sequence[_Model], room: int) -> tuple[list[str], _Cut]:
    """Share the room: the riskiest models first, small ones whole, big ones cut to equal parts."""
    by_risk = sorted(range(len(models)), key=lambda i: _group_danger(models[i].group))
    kept = by_risk[: max(0, room) // _SMALLEST_MODEL]
    shown: dict[int, str] = {}
    actions = sum(len(model.lines) for model in models)
    for place, index in enumerate(sorted(kept, key=lambda i: (models[i].size, i))):
        model = models[index]
        lines = _cut_lines(model, room // (len(kept) - place))
        if lines is None:
            continue
        shown[index] = _filled(model, lines)
        room -= len(shown[index])
        actions -= len(lines) - (len(lines) < len(model.lines))
    return [shown[i] for i in sorted(shown)], _Cut(len(models) - len(shown), actions)


def _cut_lines(model: _Model, share: int) -> Sequence[str] | None:
    if model.size <= share:
        return model.lines
    left = share - model.head - len("  … and 1000000 more\n")
    kept = []
    for line in model.risky:
        left -= len(line) + 1
        if left < 0:
            break
        kept.append(line)
    return [*kept, f"  … and {len(model.lines) - len(kept)} more"] if kept else None


def _group_danger(group: Group) -> tuple[bool, int]:
    return (not group.blocked, min((_danger(row.kind) for row in group.rows), default=0))


def _shortened(cut: _Cut) -> str:
    models = f", {plural(cut.models, 'model')} wholly" if cut.models else ""
    return (
        f"**Shortened to fit a comment: {plural(cut.actions, 'action')} left out{models}.**"
        " The whole plan: `wanrec show PLANFILE`, or `wanrec plan`."
    )
