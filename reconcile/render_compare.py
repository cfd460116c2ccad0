"""The differences of two plans, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence

from wanrec.reconcile.actions import Action, Content, RecordChange
from wanrec.reconcile.plan_compare import Difference
from wanrec.reconcile.planfile import action_to_dict
from wanrec.reconcile.render_words import escaped, human_bytes, paint, plural, short_digest

__all__ = ["compare_json", "compare_text"]

COMPARE_FORMAT_VERSION = 1


def compare_text(differences: Sequence[Difference], color: bool = False) -> str:
    """Return one block a difference and the counts last; one line when there is none."""
    if not differences:
        return "The plan is the reviewed one.\n"
    lines = ["The plan differs from the reviewed one:", ""]
    counts = {"+": 0, "-": 0, "~": 0}
    for difference in differences:
        mark = "+" if difference.reviewed is None else "-" if difference.now is None else "~"
        counts[mark] += 1
        lines.append(f"  {paint(mark, mark, color)} {escaped(difference.address)}")
        if difference.reviewed is not None:
            lines.append(f"      reviewed: {_step(difference.reviewed)}")
        if difference.now is not None:
            lines.append(f"      now:      {_step(difference.now)}")
    total = f"{counts['+']} new, {counts['-']} gone, {counts['~']} changed."
    lines += ["", paint(f"{plural(len(differences), 'difference')}: {total}", "bold", color)]
    return "\n".join(lines) + "\n"


def compare_json(differences: Sequence[Difference]) -> str:
    """Return one JSON document."""
    import json

    document = {
        "format_version": COMPARE_FORMAT_VERSION,
        "equal": not differences,
        "differences": [
            {
                "address": difference.address,
                "reviewed": _as_dict(difference.reviewed),
                "now": _as_dict(difference.now),
            }
            for difference in differences
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def _as_dict(step: Action | RecordChange | None) -> dict[str, object] | None:
    if isinstance(step, Action):
        return action_to_dict(step)
    if step is None:
        return None
    return {"model": step.model, "field": step.field, "before": step.before, "after": step.after}


def _step(step: Action | RecordChange) -> str:
    if isinstance(step, RecordChange):
        return escaped(f"record {step.field}: {step.before} → {step.after}")
    source = f" from {escaped(step.sources[0])}" if step.sources else ""
    change = f"{_content(step.before)} → {_content(step.after)}"
    return f"{step.action} ({step.reason.replace('_', ' ')})  {change}{source}"


def _content(content: Content | None) -> str:
    if content is None:
        return "nothing"
    size = "" if content.size is None else human_bytes(content.size)
    return " ".join(part for part in (size, short_digest(content.sha256)) if part) or "unknown"
