"""How two plans differ: what was reviewed, and what would be done now.

Pure. Two actions are equal when they do the same to the same file: kind, content before and after,
where the bytes come from. Why they do it, how much of it lies in the stage already, and in which
order they run may differ.
"""

from __future__ import annotations

import attrs

from wanrec.reconcile.actions import Action, Plan, RecordChange

__all__ = ["Difference", "compare"]


@attrs.frozen(kw_only=True)
class Difference:
    """One thing that only one plan does, or that both do differently.

    Attributes:
        address: of the file, or ``MODEL.FIELD`` of a change of records.
        reviewed: what the other plan does; None: nothing.
        now: what this plan does; None: nothing.
    """

    address: str
    reviewed: Action | RecordChange | None
    now: Action | RecordChange | None


def compare(reviewed: Plan, now: Plan) -> tuple[Difference, ...]:
    """Return every difference, sorted by address; empty when the plans do the same."""
    before, after = _steps(reviewed), _steps(now)
    found = []
    for address in sorted(before.keys() | after.keys()):
        old, new = before.get(address), after.get(address)
        if _essence(old) != _essence(new):
            found.append(Difference(address=address, reviewed=old, now=new))
    return tuple(found)


def _steps(plan: Plan) -> dict[str, Action | RecordChange]:
    steps: dict[str, Action | RecordChange] = {a.address: a for a in plan.actions}
    return steps | {f"{change.model}.{change.field}": change for change in plan.records}


def _essence(step: Action | RecordChange | None) -> object:
    if not isinstance(step, Action):
        return step
    return (step.action, step.before, step.after, step.sources, step.donor, step.optional)
