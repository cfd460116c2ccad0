"""A plan as text for a terminal: every action, the frozen summary line last.

Layout only. A plan without actions needs no template, so the common ``No changes.`` run loads
neither jinja2 nor anything else. The text holds no time and no absolute path, and the same plan
gives the same bytes everywhere. Nothing but the list of foreign entries is ever shortened.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from wanrec.reconcile.actions import PARTIAL_WARNING, Block, DriftItem, Plan, RecordChange
from wanrec.reconcile.render_rows import Group, groups_of, kinds_of, laid_out, summary_line
from wanrec.reconcile.render_words import bullet, escaped, human_bytes, paint, plural

if TYPE_CHECKING:
    import jinja2

__all__ = [
    "NO_CHANGES",
    "Section",
    "fill",
    "notes_of",
    "plan_text",
    "saved_line",
    "sections_of",
    "verdict",
]

NO_CHANGES = "No changes. Disk matches the specs."
_FOREIGN_SHOWN = 20


class Section(NamedTuple):
    """A titled list below the actions: records, drift, foreign entries, warnings, blocks."""

    name: str
    title: str
    lines: tuple[str, ...]


def plan_text(plan: Plan, color: bool = False) -> str:
    """Return the plan as text; ANSI colour only when asked for."""
    sections = sections_of(plan)
    if not plan.actions:
        return _without_actions(plan, sections, color)
    groups = [
        {"title": _title(group, color), "lines": laid_out(group, color)}
        for group in groups_of(plan)
    ]
    return fill(
        "plan.txt.j2",
        notes=notes_of(plan),
        legend=[f"  {paint(f'{k.glyph:>3}', k.glyph, color)}  {k}" for k in kinds_of(plan)],
        groups=groups,
        sections=[_painted(section, color) for section in sections],
        summary=paint(verdict(plan), "bold", color),
        saved=saved_line(plan),
    )


def verdict(plan: Plan) -> str:
    """Return the frozen line: counts, or that there is nothing to do and nothing in the way."""
    if plan.actions or plan.blocked:
        return summary_line(plan.summary)
    return NO_CHANGES


def saved_line(plan: Plan) -> str:
    """Return how much sharing saves, or nothing."""
    saved = plan.summary.bytes_saved
    return f"{human_bytes(saved)} saved by sharing." if saved else ""


def notes_of(plan: Plan) -> list[str]:
    """Return what a reader has to know first: what this plan did not look at, or does otherwise."""
    notes = []
    if plan.partial:
        words = " ".join(escaped(word) for word in plan.selection)
        chosen = f" ({words})" if words else ""
        spared = "nothing else" if plan.options.destroy else "nothing"
        notes.append(
            f"Partial run{chosen}: it looks only at what was selected and what that requires;"
            f" {spared} is deleted or forgotten."
        )
    if plan.options.state_only:
        notes.append("State only: the disk was not looked at; it is taken to match the state.")
    if plan.options.delete_first:
        notes.append(
            "Deletes come first (--delete-first): if a source fails, neither old nor new is there."
        )
    return notes


def sections_of(plan: Plan, foreign_shown: int = _FOREIGN_SHOWN) -> list[Section]:
    """Return the lists that follow the actions, empty ones left out."""
    acted_on = {action.address for action in plan.actions}
    drift = [item for item in plan.drift if item.address not in acted_on]
    candidates = (
        Section("records", "Only records change:", tuple(map(_record, plan.records))),
        Section("drift", "Changed on disk since the last apply:", tuple(map(_drift, drift))),
        _foreign(plan.foreign, foreign_shown),
        # That the run is partial stands above the actions already.
        Section(
            "warnings",
            "Warnings:",
            tuple(bullet(text) for text in plan.warnings if text != PARTIAL_WARNING),
        ),
        Section(
            "blocked",
            "This plan cannot be applied:",
            tuple(_block(block) for block in plan.blocked),
        ),
    )
    return [section for section in candidates if section.lines]


def fill(template: str, **values: object) -> str:
    """Fill one of our templates; loads jinja2, which is why nothing else here does."""
    return _environment().get_template(template).render(values)


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2

    # Plain text goes to a terminal, where entities would be read as they stand.
    return jinja2.Environment(
        loader=jinja2.PackageLoader("wanrec.reconcile", "templates"),
        autoescape=jinja2.select_autoescape(("html.j2", "md.j2"), default_for_string=True),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _without_actions(plan: Plan, sections: list[Section], color: bool) -> str:
    lines = [*notes_of(plan)]
    blocked = [section for section in sections if section.name == "blocked"]
    others = [section for section in sections if section.name != "blocked"]
    for section in blocked:
        lines += [section.title, *_painted(section, color).lines, ""]
    lines.append(paint(verdict(plan), "bold", color))
    for section in others:
        lines += ["", section.title, *section.lines]
    return "\n".join(lines) + "\n"


def _title(group: Group, color: bool) -> str:
    mark = "  " + paint(f"blocked: {group.blocked}", "!", color) if group.blocked else ""
    return f"{paint(group.key, 'bold', color)}  ({group.counts}){mark}"


def _painted(section: Section, color: bool) -> Section:
    if section.name != "blocked":
        return section
    return section._replace(lines=tuple(paint(line, "!", color) for line in section.lines))


def _record(change: RecordChange) -> str:
    before = "none" if change.before is None else escaped(change.before)
    after = "none" if change.after is None else escaped(change.after)
    return f"  {escaped(change.model)}  {escaped(change.field)}: {before} → {after}"


def _drift(item: DriftItem) -> str:
    return f"  {escaped(item.address)}  {item.kind}"


def _foreign(paths: tuple[str, ...], shown: int) -> Section:
    lines = [f"  {escaped(path)}" for path in paths[:shown]]
    if len(paths) > shown:
        lines.append(f"  … and {len(paths) - shown} more")
    folders = sum(path.endswith("/") for path in paths)
    counts = ((len(paths) - folders, "file"), (folders, "folder"))
    told = ", ".join(plural(count, noun) for count, noun in counts if count)
    title = f"Foreign, never touched ({told}):"
    return Section("foreign", title, tuple(lines))


def _block(block: Block) -> str:
    about = "" if block.address is None else f" {escaped(block.address)}"
    lines = [bullet(f"blocked: {block.code.value}{about}: {block.message}")]
    if block.hint:
        lines.append(bullet(f"  help: {block.hint}"))
    return "\n".join(lines)
