"""Bytes that need not be fetched: donors under the root, equal files of one plan, the stage.

Goes in: actions in execution order, records and facts. Comes out: the same actions; those whose
bytes are or will be under the root name a donor, and `bytes_to_fetch` counts what the stage and
the partial downloads of earlier runs do not have. Contract, sections 4 and 8 (sharing).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from wanrec.reconcile.actions import Action
from wanrec.reconcile.model import ActionKind, Assurance, FileFact, Observed, Reason, Via
from wanrec.reconcile.trust import Trust, judge
from wanrec.state.model import FileRecord, State

__all__ = ["bytes_to_free", "share"]


def share(
    ordered: Sequence[Action],
    state: State,
    observed: Observed,
    *,
    delete_first: bool = False,
    state_only: bool = False,
    via: Via = Via.LINK,
) -> tuple[Action, ...]:
    """Turn fetches of bytes that are at hand into links.

    The first action in execution order that brings some bytes fetches them; later ones wait for
    it and link. A create becomes an adopt; a replace stays a replace and names its donor.
    """
    wanted = {a.sha256 for a in ordered if _fetches(a) and a.sha256 is not None}
    if not wanted:
        return tuple(ordered)
    facts = None if state_only else observed.facts
    donors = _recorded_donors(wanted, _unfit_donors(ordered, delete_first), state.files, facts)
    acting = {action.address for action in ordered if action.action is not ActionKind.DELETE}
    shared = []
    sizes = {address: record.size for address, record in state.files.items()}
    sizes |= {action.address: action.size for action in ordered if action.size is not None}
    for action in ordered:
        donor = donors.get(action.sha256 or "")
        if donor is not None and action.size not in (None, sizes.get(donor, action.size)):
            donor = None  # no bytes have this hash and this size: the sources will say so
        if not _fetches(action):
            shared.append(action)
        elif donor is not None:
            shared.append(_linked(action, donor, donor in acting, via))
        else:
            left = _bytes_to_fetch(action, observed)
            shared.append(attrs.evolve(action, bytes_to_fetch=left))
        if _leaves_bytes(action) and action.sha256 is not None:
            donors.setdefault(action.sha256, action.address)
    return tuple(shared)


def _fetches(action: Action) -> bool:
    return action.via is Via.FETCH


def _leaves_bytes(action: Action) -> bool:
    """True when hashed bytes lie at the address once the action is done."""
    return action.action.brings_bytes or action.action is ActionKind.VERIFY


def _unfit_donors(ordered: Iterable[Action], delete_first: bool) -> frozenset[str]:
    """Recorded files whose bytes this plan changes, doubts or takes away before they are used."""
    return frozenset(
        name
        for action in ordered
        if delete_first or action.action is not ActionKind.DELETE
        for name in (action.address, action.donor)
        if name is not None
    )


def _recorded_donors(
    wanted: set[str],
    unfit: frozenset[str],
    files: Mapping[str, FileRecord],
    facts: Mapping[str, FileFact] | None,
) -> dict[str, str]:
    donors: dict[str, str] = {}
    for address, record in files.items():
        if record.sha256 not in wanted or record.assurance is Assurance.ASSUMED or address in unfit:
            continue
        if facts is None or _is_sound(record, facts.get(address)):
            donors[record.sha256] = min(address, donors.get(record.sha256, address))
    return donors


def _is_sound(record: FileRecord, fact: FileFact | None) -> bool:
    seen = None if fact is None else fact.sha256
    return judge(record, fact) is Trust.TRUSTED and seen in (None, record.sha256)


def _linked(action: Action, donor: str, donor_acts: bool, via: Via) -> Action:
    creates = action.action is ActionKind.CREATE
    wait = {*action.depends_on, donor} if donor_acts else set(action.depends_on)
    return attrs.evolve(
        action,
        action=ActionKind.ADOPT if creates else action.action,
        reason=Reason.FOUND_BY_HASH if creates else action.reason,
        via=via,
        donor=donor,
        bytes_to_fetch=0,
        depends_on=tuple(sorted(wait)),
    )


def _bytes_to_fetch(action: Action, observed: Observed) -> int:
    size, sha256 = action.size or 0, action.sha256
    if sha256 is None:
        return size
    if observed.staged.get(sha256) == size:
        return 0
    return max(0, size - observed.partial.get(sha256, 0))


def bytes_to_free(actions: Iterable[Action], facts: Mapping[str, FileFact]) -> int:
    """Return what the deletes give back: each inode once, and only when its last name goes."""
    chosen = tuple(actions)
    kept = {action.donor for action in chosen if action.donor is not None}
    freed = 0
    names: dict[tuple[int, int], int] = {}
    for action in chosen:
        if action.action is not ActionKind.DELETE or action.before is None:
            continue
        fact = facts.get(action.address)
        if fact is None or fact.ino == 0:
            freed += action.size or 0
        elif action.address not in kept:
            inode = (fact.dev, fact.ino)
            names[inode] = names.get(inode, 0) + 1
            if names[inode] == fact.nlink:
                freed += fact.size
    return freed
