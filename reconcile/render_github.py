"""A plan as annotations of a GitHub workflow run: what can hurt is a warning, a block an error.

GitHub shows ten annotations of each kind a step and drops the others without a word, so at most
that many are written, the last one saying how many more there are and how to see them.
"""

from __future__ import annotations

from collections.abc import Iterable

from wanrec.reconcile.actions import Action, Plan
from wanrec.reconcile.model import ActionKind
from wanrec.reconcile.render_text import verdict
from wanrec.reconcile.render_words import escaped, human_bytes

__all__ = ["ANNOTATIONS", "plan_github"]

ANNOTATIONS = 10
_HURTS = (ActionKind.DELETE, ActionKind.REPLACE, ActionKind.FORGET)


def plan_github(plan: Plan) -> str:
    """Return workflow commands: blocks, warnings and harmful actions, and the frozen line."""
    blocks = [("wanrec: blocked", f"{block.code}: {block.message}") for block in plan.blocked]
    warnings = [("wanrec", warning) for warning in plan.warnings]
    ordered = sorted(
        (action for action in plan.actions if action.action in _HURTS),
        key=lambda action: (_HURTS.index(action.action), action.address),
    )
    warnings += [("wanrec plan", _told(action)) for action in ordered]
    lines = [*_limited("error", blocks), *_limited("warning", warnings)]
    lines.append(_command("notice", "wanrec plan", verdict(plan)))
    return "".join(f"{line}\n" for line in lines)


def _told(action: Action) -> str:
    size = action.before.size if action.before else None
    amount = "" if size is None else f" ({human_bytes(size)} now)"
    return f"{action.action} {action.address}{amount}: {action.reason.replace('_', ' ')}"


def _limited(kind: str, told: list[tuple[str, str]]) -> Iterable[str]:
    shown = told if len(told) <= ANNOTATIONS else told[: ANNOTATIONS - 1]
    yield from (_command(kind, title, text) for title, text in shown)
    if len(told) > len(shown):
        rest = f"… and {len(told) - len(shown)} more; the whole plan: wanrec plan"
        yield _command(kind, "wanrec plan", rest)


def _command(kind: str, title: str, text: str) -> str:
    message = escaped(text).replace("%", "%25").replace("\n", "%0A")
    return f"::{kind} title={title.replace(':', '%3A')}::{message}"
