"""Room for an apply: what has to go before it fits, and what must not go while it runs.

An apply registers the on-demand models it builds upon by a shared lock, which the kernel frees
when the process ends; gc lets go of none that is registered. With `auto_gc` an apply that would
not fit evicts first; without it the refusal names exactly what could be evicted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from wanrec.reconcile.actions import Action, Plan
from wanrec.reconcile.disk import Root
from wanrec.reconcile.engine_view import view_of
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import ActionKind, Desired, Presence
from wanrec.reconcile.preflight import check_room, room_needed
from wanrec.state.model import State, reach_name
from wanrec.state.store import StateStore

if TYPE_CHECKING:
    from wanrec.reconcile.lifecycle import Limits
    from wanrec.reconcile.workbench import Workbench

__all__ = ["built_upon", "fit"]


@contextlib.contextmanager
def built_upon(
    root: Root, store: StateStore, plan: Plan, desired: Desired, timeout_s: float
) -> Iterator[None]:
    """Keep gc from what the plan brings, requires or takes bytes from, while inside.

    Raises:
        WanrecError: CONCURRENT_MODIFICATION when a requirement went after the plan was made.
    """
    required = _required(plan, desired)
    donors = {a.donor.partition("::")[0] for a in plan.actions if a.donor}
    before = view_of(root, store).state
    with contextlib.ExitStack() as stack:
        for key in sorted(required | donors):
            if _may_be_evicted(key, desired, before):
                held = store.locks.use(reach_name(key), timeout_s)
                if held is not None:
                    stack.enter_context(held)
        acting = {action.key for action in plan.actions}
        gone = sorted((required & before.models.keys()) - view_of(root, store).state.models.keys())
        if gone and not acting.issuperset(gone):
            raise WanrecError(
                ErrorCode.CONCURRENT_MODIFICATION,
                f"{gone[0]} was evicted after the plan was made",
                address=gone[0],
                hint="wanrec plan",
            )
        yield


def _required(plan: Plan, desired: Desired) -> set[str]:
    """The models the plan brings or repairs, and all they require."""
    requires = {model.key: model.requires for model in desired.models}
    removing = (ActionKind.DELETE, ActionKind.FORGET)
    todo = [action.key for action in plan.actions if action.action not in removing]
    found: set[str] = set()
    while todo:
        key = todo.pop()
        if key not in found:
            found.add(key)
            todo.extend(requires.get(key, ()))
    return found


def _may_be_evicted(key: str, desired: Desired, state: State) -> bool:
    record = state.models.get(key)
    if record is not None:
        return record.presence is Presence.ON_DEMAND
    return any(m.key == key and m.presence is Presence.ON_DEMAND for m in desired.models)


def fit(engine: Workbench, root: Root, store: StateStore, plan: Plan, desired: Desired) -> None:
    """Make sure that the plan fits, by evicting where the settings say so.

    Raises:
        WanrecError: NO_SPACE, with what could be evicted and the command for it.
    """
    sharing = engine.settings.link_mode != "copy"
    needed = room_needed(plan, delete_first=plan.options.delete_first, sharing=sharing)
    if not needed:
        return
    missing = max(0, needed - root.free_bytes())
    spare = _required(plan, desired) | {a.donor.partition("::")[0] for a in plan.actions if a.donor}
    if engine.settings.auto_gc:
        from wanrec.reconcile.engine_gc import make_room

        limits = _limits(engine, plan, desired, needed, missing)
        if limits is not None:
            make_room(engine, root, store, limits, spare)
    missing = max(0, needed - root.free_bytes())
    if missing:
        _refuse(engine, root, store, needed, missing, frozenset(spare))


def _limits(
    engine: Workbench, plan: Plan, desired: Desired, needed: int, missing: int
) -> Limits | None:
    """What has to go so that room and quotas hold with the plan carried out; None: nothing."""
    from wanrec.reconcile.lifecycle import Limits

    settings = engine.settings
    if not (missing or settings.quotas or settings.max_size is not None):
        return None
    families = {model.key: model.directory.partition("/")[0] for model in desired.models}

    def left(family: str, quota: int) -> int:
        mine = [a for a in plan.actions if families.get(a.key) == family]
        return max(0, quota - sum(map(_brings, mine)))

    return Limits(
        max_size=None if settings.max_size is None else max(0, settings.max_size - needed),
        quotas={family: left(family, quota) for family, quota in settings.quotas},
        room=missing,
    )


def _brings(action: Action) -> int:
    return action.bytes_to_fetch


def _refuse(
    engine: Workbench,
    root: Root,
    store: StateStore,
    needed: int,
    missing: int,
    spare: frozenset[str],
) -> None:
    from wanrec.reconcile.engine_gc import what_could_go

    rows, after = what_could_go(engine, root, store, missing, spare)
    try:
        check_room(root, needed)
    except WanrecError as error:
        freed = sum(row.frees for row in rows)
        if rows:
            names = ", ".join(f"{row.key} ({row.frees:,} bytes)" for row in rows)
            enough = "" if freed >= missing else ", which is not enough"
            error.detail += f"; gc could free {freed:,} bytes{enough}: {names}"
            error.hint = f"wanrec gc --max-size {after}"
        else:
            error.detail += "; gc could free nothing: no on-demand model may go"
            error.hint = "wanrec gc --dry-run says why; or wanrec plan --delete-first"
        raise
