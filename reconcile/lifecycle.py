"""Which models gc lets go, in which order, and why each of the others stays.

Pure. In: what is recorded and measured of every model, and the limits. Out: one decision a model.
Only models that nobody needs at this moment are ever candidates; limits decide how many of them
go, the one that was used the longest time ago first. A requirement goes after whoever requires
it, and counts as used whenever that one was.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping

import attrs

__all__ = [
    "Candidate",
    "Decision",
    "Holdings",
    "Inode",
    "Keep",
    "Limits",
    "Remove",
    "Shield",
    "decide",
    "shield_of",
]

Inode = tuple[int, int]
"""Device and inode number."""


class Keep(enum.StrEnum):
    """Why a model stays."""

    PINNED = "pinned"
    PROTECTED = "protected"
    REQUIRED = "required"
    REQUIREMENT = "requirement"
    IN_USE = "in_use"
    BUSY = "busy"
    WITHIN_LIMITS = "within_limits"
    FREES_NOTHING = "frees_nothing"
    FAILED = "failed"


class Remove(enum.StrEnum):
    """Why a model goes."""

    ORPHAN = "orphan"
    EXPIRED = "expired"
    FAMILY_QUOTA = "family_quota"
    QUOTA = "quota"
    ROOM = "room"


@attrs.frozen(kw_only=True)
class Candidate:
    """One recorded model as gc sees it.

    Attributes:
        key: model key.
        family: first folder of its directory.
        last_used_ns: when it was last asked for, else when it was applied.
        inodes: inode → size of its recorded files that are there.
        apparent: sum of the sizes of its files, each name counted.
        shield: why it must stay whatever the limits say; None when it may go.
        orphan: no project owns it.
        requires: keys of the models it needs.
    """

    key: str
    family: str
    last_used_ns: int
    inodes: Mapping[Inode, int]
    apparent: int = 0
    shield: Keep | None = None
    orphan: bool = False
    requires: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Limits:
    """What is asked for. None: no such limit.

    Attributes:
        max_size: bytes all models together may take, equal inodes counted once.
        quotas: the same for single families.
        unused_since_ns: models last used before it have expired.
        room: bytes that have to come free.
    """

    max_size: int | None = None
    quotas: Mapping[str, int] = attrs.field(factory=dict)
    unused_since_ns: int | None = None
    room: int = 0


@attrs.frozen(kw_only=True)
class Decision:
    """What happens to one model. `frees` counts inodes whose last known name goes with it."""

    key: str
    family: str
    reason: Keep | Remove
    apparent: int
    frees: int = 0
    last_used_ns: int = 0
    detail: str = ""

    @property
    def removes(self) -> bool:
        """True when the model goes."""
        return isinstance(self.reason, Remove)


@attrs.frozen(kw_only=True)
class Shield:
    """What is known about a model besides its files."""

    pinned: bool = False
    protect: bool = False
    required: bool = False
    orphan: bool = False
    in_use: bool = False
    busy: bool = False


def shield_of(about: Shield) -> Keep | None:
    """Why a model must stay, the most lasting reason first; None when it may go."""
    if about.pinned:
        return Keep.PINNED
    if about.protect:
        return Keep.PROTECTED
    if about.required and not about.orphan:
        return Keep.REQUIRED
    if about.in_use:
        return Keep.IN_USE
    return Keep.BUSY if about.busy else None


class Holdings:
    """Which inodes are left when some models have gone; counts names, so sharing costs nothing."""

    def __init__(
        self, candidates: Iterable[Candidate], outside: frozenset[Inode] = frozenset()
    ) -> None:
        self._outside = outside
        self._sizes: dict[Inode, int] = {}
        self._names: dict[Inode, int] = {}
        self.total = 0
        for candidate in candidates:
            for inode, size in candidate.inodes.items():
                self._names[inode] = self._names.get(inode, 0) + 1
                if inode not in self._sizes:
                    self._sizes[inode] = size
                    self.total += size

    def drop(self, candidate: Candidate) -> int:
        """Take a model away; the bytes that came free."""
        freed = 0
        for inode in candidate.inodes:
            self._names[inode] -= 1
            if self._names[inode] == 0:
                self.total -= self._sizes[inode]
                freed += 0 if inode in self._outside else self._sizes[inode]
        return freed


def decide(
    candidates: Iterable[Candidate], limits: Limits, outside: frozenset[Inode] = frozenset()
) -> tuple[Decision, ...]:
    """Decide about every model: those that go first, in the order they go, then those that stay.

    `outside`: inodes that also have names which no model records; they give no room.
    """
    return _Choice(tuple(candidates), limits, outside).made()


_Test = Callable[[Candidate], bool]


class _Choice:
    """One decision in the making."""

    def __init__(
        self, candidates: tuple[Candidate, ...], limits: Limits, outside: frozenset[Inode]
    ) -> None:
        self._outside = outside
        self._all = {candidate.key: candidate for candidate in candidates}
        self._limits = limits
        self._everything = Holdings(candidates, outside)
        self._families = {
            family: Holdings(c for c in candidates if c.family == family)
            for family in {candidate.family for candidate in candidates}
        }
        self._requirers: dict[str, set[str]] = {key: set() for key in self._all}
        for candidate in candidates:
            for required in candidate.requires:
                if required in self._requirers and required != candidate.key:
                    self._requirers[required].add(candidate.key)
        self._used = self._effective_use()
        self._gone: dict[str, Decision] = {}
        self._freed = 0
        self._useless: set[str] = set()
        self._held = self._held_for_good()

    def made(self) -> tuple[Decision, ...]:
        limits = self._limits
        self._take(Remove.ORPHAN, lambda c: c.orphan)
        if limits.unused_since_ns is not None:
            since = limits.unused_since_ns
            self._take(Remove.EXPIRED, lambda c: self._used[c.key] < since)
        for family, quota in sorted(limits.quotas.items()):
            holdings = self._families.get(family)
            while holdings is not None and holdings.total > quota:
                if not self._take_oldest(Remove.FAMILY_QUOTA, family):
                    break
        if limits.max_size is not None:
            while self._everything.total > limits.max_size:
                if not self._take_oldest(Remove.QUOTA):
                    break
        while self._freed < limits.room and self._take_oldest(Remove.ROOM):
            pass
        return (*self._gone.values(), *map(self._kept, sorted(self._all.keys() - self._gone)))

    def _effective_use(self) -> dict[str, int]:
        """Last use by key; whoever is required was used when its requirers were."""
        used = {key: candidate.last_used_ns for key, candidate in self._all.items()}
        todo = sorted(used, key=lambda key: -used[key])
        while todo:
            key = todo.pop(0)
            for required in self._all[key].requires:
                if required in used and used[required] < used[key]:
                    used[required] = used[key]
                    todo.append(required)
        return used

    def _open(self, family: str | None = None) -> list[Candidate]:
        """The models that may go now, the longest unused first."""
        found = [
            candidate
            for key, candidate in self._all.items()
            if key not in self._gone
            and candidate.shield is None
            and family in (None, candidate.family)
            and self._requirers[key] <= self._gone.keys()
        ]
        return sorted(found, key=lambda c: (self._used[c.key], c.key))

    def _take(self, reason: Remove, due: _Test) -> None:
        # Once a model has gone, what only it required may go as well.
        while ready := [candidate for candidate in self._open() if due(candidate)]:
            for candidate in ready:
                self._let_go(candidate, reason)

    def _take_oldest(self, reason: Remove, family: str | None = None) -> bool:
        held = self._held | self._outside if reason is Remove.ROOM else self._held
        for candidate in self._open(family):
            if candidate.inodes.keys() <= held:
                self._useless.add(candidate.key)
                continue
            self._let_go(candidate, reason)
            return True
        return False

    def _held_for_good(self) -> set[Inode]:
        """Inodes that some model holds that will not go: letting another name go frees nothing."""
        staying = {key for key, candidate in self._all.items() if candidate.shield is not None}
        todo = list(staying)
        while todo:
            for required in self._all[todo.pop()].requires:
                if required in self._all and required not in staying:
                    staying.add(required)
                    todo.append(required)
        return {inode for key in staying for inode in self._all[key].inodes}

    def _let_go(self, candidate: Candidate, reason: Remove) -> None:
        freed = self._everything.drop(candidate)
        self._families[candidate.family].drop(candidate)
        self._freed += freed
        self._gone[candidate.key] = self._decision(candidate, reason, frees=freed)

    def _kept(self, key: str) -> Decision:
        candidate = self._all[key]
        if candidate.shield is not None:
            return self._decision(candidate, candidate.shield)
        needed_by = sorted(self._requirers[key] - self._gone.keys())
        if needed_by:
            by = ", ".join(needed_by)
            return self._decision(candidate, Keep.REQUIREMENT, detail=f"required by {by}")
        useless = key in self._useless
        return self._decision(candidate, Keep.FREES_NOTHING if useless else Keep.WITHIN_LIMITS)

    def _decision(
        self, candidate: Candidate, reason: Keep | Remove, *, frees: int = 0, detail: str = ""
    ) -> Decision:
        return Decision(
            key=candidate.key,
            family=candidate.family,
            reason=reason,
            apparent=candidate.apparent,
            frees=frees,
            last_used_ns=candidate.last_used_ns,
            detail=detail,
        )
