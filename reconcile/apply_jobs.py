"""A plan as jobs: one a model, each with what it waits for. Pure.

Also the two questions asked of a model that was planned again under its lock: is what is to do
still what was planned, and does a file stay?
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from wanrec.reconcile.actions import Action, Plan
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import ActionKind, DesiredModel, split_key
from wanrec.state.model import FileRecord

__all__ = ["Job", "agreed", "jobs_of", "refuse_occupied", "stays"]

_ON_THE_DISK = (ErrorCode.FOREIGN_FILE, ErrorCode.UNSAFE_PATH)


@attrs.frozen(kw_only=True)
class Job:
    """All actions of one model.

    Attributes:
        after: keys of jobs that must have ended before.
        blocked_by: keys whose failure makes this job pointless: requirements, or successors of
            the same name (an old version stays until every new one stands).
    """

    key: str
    actions: tuple[Action, ...]
    after: frozenset[str]
    blocked_by: frozenset[str]


def jobs_of(plan: Plan, models: Mapping[str, DesiredModel]) -> list[Job]:
    """Group the actions by model, in plan order; record changes become jobs without actions."""
    by_key: dict[str, list[Action]] = {}
    for action in plan.actions:
        by_key.setdefault(action.key, []).append(action)
    for change in plan.records:
        by_key.setdefault(change.model, [])
    removing = {
        key
        for key, actions in by_key.items()
        if actions
        and all(a.action in (ActionKind.DELETE, ActionKind.FORGET) for a in actions)
        and (key not in models or not models[key].installed)
    }
    order = {key: position for position, key in enumerate(by_key)}
    doubtful: dict[str | None, str] = {}
    for action in plan.actions:
        if action.action is ActionKind.VERIFY:
            doubtful.setdefault(action.sha256, action.key)
    bringing: dict[str, set[str]] = {}
    for key in by_key.keys() - removing:
        bringing.setdefault(_name(key), set()).add(key)
    jobs = []
    for key, actions in by_key.items():
        donors = {a.partition("::")[0] for action in actions for a in action.depends_on}
        # A damaged inode is repaired under its first name; the other models then link to it.
        twins = {doubtful[a.sha256] for a in actions if a.sha256 in doubtful}
        # Only towards earlier models of the plan, so that no two ever wait for each other.
        donors |= {twin for twin in twins if order[twin] < order[key]}
        requires = set(models[key].requires) & by_key.keys() if key in models else set()
        successors = bringing.get(_name(key), set()) if key in removing else set()
        # Deletes wait for everything that brings bytes, unless the plan itself puts them first.
        first = plan.options.delete_first
        others = by_key.keys() - removing if key in removing and not first else set()
        after = (donors | requires | successors | others) & by_key.keys() - {key}
        if first and key not in removing:
            after |= removing
        jobs.append(
            Job(
                key=key,
                actions=tuple(actions),
                after=frozenset(after - {key}),
                blocked_by=frozenset(requires | successors),
            )
        )
    return jobs


def _name(key: str) -> str:
    return split_key(key)[0].partition("@")[0]


def stays(recorded: Mapping[str, FileRecord], actions: Iterable[Action]) -> bool:
    """True when the model still has a file once the actions are done."""
    left = set(recorded)
    for action in actions:
        if action.action in (ActionKind.DELETE, ActionKind.FORGET):
            left.discard(action.path)
        else:
            left.add(action.path)
    return bool(left)


def refuse_occupied(plan: Plan, key: str | None = None) -> None:
    """Refuse what has come to lie at a wanted path since the plan was made.

    Other reasons to block (budgets, protection) are judged on the whole plan, before it is begun.

    Raises:
        WanrecError: FOREIGN_FILE or UNSAFE_PATH; with `key` for that model's paths only.
    """
    for block in plan.blocked:
        if block.code in _ON_THE_DISK and key in (None, (block.address or "").partition("::")[0]):
            raise WanrecError(block.code, block.message, address=block.address, hint=block.hint)


def agreed(job: Job, fresh: tuple[Action, ...]) -> tuple[Action, ...]:
    """What is still to do of what was planned.

    Something that another run has done meanwhile is simply no longer there. A file whose clock
    was moved meanwhile is hashed again, which harms nobody. Anything else that was not planned
    means that the model changed under us.

    Raises:
        WanrecError: CONCURRENT_MODIFICATION.
    """
    planned = {action.address: action for action in job.actions}
    todo = []
    for action in fresh:
        if action.key != job.key:
            continue
        before = planned.get(action.address)
        if before is None and action.action is ActionKind.VERIFY:
            # Its clock moved meanwhile, perhaps by a link of ours: reading it harms nobody.
            todo.append(action)
            continue
        if before and (before.action, action.action) == (ActionKind.FORGET, ActionKind.DELETE):
            todo.append(before)  # seen alone, nobody says that another model wants the file
            continue
        removes = action.action in (ActionKind.DELETE, ActionKind.FORGET)
        if before is None or (removes and before.action is not action.action):
            raise WanrecError(
                ErrorCode.CONCURRENT_MODIFICATION,
                f"{action.address} changed after it was planned",
                detail=f"now to {action.action}: {action.reason}",
                address=action.address,
                hint="wanrec plan",
            )
        # Seen alone, the model does not know of the donor that the whole plan found for it.
        brings = action.action in (ActionKind.CREATE, ActionKind.REPLACE)
        shared = before.donor is not None and action.donor is None and brings
        todo.append(before if shared else action)
    return tuple(todo)
