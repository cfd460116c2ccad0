"""What runs leave in the wanrec directory, and which of it no run will ever come back for.

Partials and verified files in the stage are worth something: the next apply goes on with them. So
they stay until they are old, and longer while a run is at work. A stage tree, or a stage of a run
that has neither journal nor process, is reached by nobody and stays only until it is old, too.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator

import attrs

from wanrec.providers.parts import PARTIAL_DIR
from wanrec.reconcile.disk import Root
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.facts import EntryKind, FileFact
from wanrec.reconcile.part_records import PARTS
from wanrec.reconcile.recover import due_retired
from wanrec.reconcile.stage import BLOBS, STAGE, TREES, purge
from wanrec.reconcile.stage_identity import IdentityLog
from wanrec.reconcile.stage_retired import read_retired

__all__ = ["Fate", "Kind", "Litter", "clear", "due_litter", "find_litter"]

_FIXED = frozenset({"blob", "tree", "retired"})


class Kind(enum.StrEnum):
    """What lies there."""

    PARTIAL = "partial"
    STAGED = "staged"
    STAGE = "stage"
    RETIRED = "retired"
    USE_MARK = "use_mark"
    PARTS = "parts"


class Fate(enum.StrEnum):
    """What becomes of it, and why."""

    STALE = "stale"
    DUE = "due"
    YOUNG = "young"
    LIVE = "live"
    GRACE = "grace"
    FAILED = "failed"


@attrs.frozen(kw_only=True)
class Litter:
    """One entry below the wanrec directory. `size` is what its removal frees."""

    path: str
    kind: Kind
    fate: Fate
    size: int = 0

    @property
    def removes(self) -> bool:
        """True when it goes."""
        return self.fate in (Fate.STALE, Fate.DUE)


def find_litter(
    root: Root,
    *,
    older_than_ns: int,
    runs: frozenset[str],
    pids: frozenset[int],
    models: frozenset[str],
    contents: frozenset[str],
) -> tuple[Litter, ...]:
    """Look at everything that could be litter; removes nothing.

    Args:
        root: the opened root.
        older_than_ns: what was changed later stays.
        runs: ids of runs that have a journal: what is theirs is for them or for recovery.
        pids: processes of the live ones.
        models: recorded model keys.
        contents: sha256 of everything recorded that stays.
    """

    def fate(newest_ns: int, live: bool) -> Fate:
        if live:
            return Fate.LIVE
        return Fate.STALE if newest_ns < older_than_ns else Fate.YOUNG

    found = [*_partials(root, fate, pids), *_blobs(root, fate, bool(pids))]
    found += [*_stages(root, fate, runs), *_marks(root, fate, models)]
    found += _parts(root, contents, bool(pids))
    return tuple(sorted(found, key=lambda litter: litter.path))


_Judge = Callable[[int, bool], Fate]


def _partials(root: Root, fate: _Judge, pids: frozenset[int]) -> Iterator[Litter]:
    newest: dict[str, int] = {}
    files = _files(root, PARTIAL_DIR)
    for name, fact in files.items():
        stem = name.rpartition(".")[0]
        newest[stem] = max(newest.get(stem, 0), fact.mtime_ns)
    owners = {str(pid) for pid in pids}
    for name, fact in files.items():
        stem = name.rpartition(".")[0]
        live = not owners.isdisjoint(stem.split("-")[1:2])
        yield _file(f"{PARTIAL_DIR}/{name}", Kind.PARTIAL, fate(newest[stem], live), fact)


def _blobs(root: Root, fate: _Judge, live: bool) -> Iterator[Litter]:
    for name, fact in _files(root, BLOBS).items():
        # A live run may have planned on these bytes.
        when = max(fact.mtime_ns, fact.ctime_ns)
        yield _file(f"{BLOBS}/{name}", Kind.STAGED, fate(when, live), fact)


def _stages(root: Root, fate: _Judge, runs: frozenset[str]) -> Iterator[Litter]:
    waiting = {retired.tree for retired in read_retired(root)}
    for folder, kind in ((TREES, Kind.STAGE), (STAGE, Kind.STAGE)):
        for name in _folders(root, folder):
            place = f"{folder}/{name}"
            if (folder == STAGE and name in _FIXED) or name.startswith("probe-"):
                continue
            if place in waiting:
                yield Litter(path=place, kind=Kind.RETIRED, fate=Fate.GRACE)
                continue
            live = any(name == run or name.startswith(f"{run}-") for run in runs)
            inside = _files(root, place).values()
            newest = max((max(f.mtime_ns, f.ctime_ns) for f in inside), default=0)
            newest = max(newest, root.stat(place).mtime_ns)
            size = sum(f.size for f in inside if f.nlink == 1)
            yield Litter(path=place, kind=kind, fate=fate(newest, live), size=size)


def _marks(root: Root, fate: _Judge, models: frozenset[str]) -> Iterator[Litter]:
    for name, fact in _files(root, ".wanrec/used").items():
        if name not in models:
            yield _file(f".wanrec/used/{name}", Kind.USE_MARK, fate(fact.mtime_ns, False), fact)


def _parts(root: Root, contents: frozenset[str], live: bool) -> Iterator[Litter]:
    """Part digests of contents that are gone. A live run may be about to record one."""
    for name, fact in _files(root, PARTS).items():
        if name not in contents:
            yield _file(f"{PARTS}/{name}", Kind.PARTS, Fate.LIVE if live else Fate.STALE, fact)


def _file(path: str, kind: Kind, fate: Fate, fact: FileFact) -> Litter:
    return Litter(path=path, kind=kind, fate=fate, size=fact.size if fact.nlink == 1 else 0)


def _files(root: Root, folder: str) -> dict[str, FileFact]:
    if root.stat(folder).kind is not EntryKind.DIRECTORY:
        return {}
    return {p: fact for p, fact in root.walk(folder).items() if fact.kind is EntryKind.FILE}


def _folders(root: Root, folder: str) -> list[str]:
    if root.stat(folder).kind is not EntryKind.DIRECTORY:
        return []
    return [name for name in root.folders(folder) if "/" not in name]


def due_litter(root: Root, now_ns: int) -> tuple[Litter, ...]:
    """The old directories whose readers have had their time."""
    return tuple(
        Litter(
            path=retired.tree,
            kind=Kind.RETIRED,
            fate=Fate.DUE,
            size=sum(f.size for f in _files(root, retired.tree).values() if f.nlink == 1),
        )
        for retired in due_retired(root, now_ns)
    )


def clear(root: Root, litter: Iterable[Litter], log: IdentityLog) -> tuple[Litter, ...]:
    """Remove what is stale; what resists is reported as failed.

    Raises:
        WanrecError: NO_SPACE: a disk so full that nothing can be removed is for the caller.
    """
    return tuple(
        entry if entry.fate is not Fate.STALE or _cleared(root, entry, log) else _failed(entry)
        for entry in litter
    )


def _cleared(root: Root, entry: Litter, log: IdentityLog) -> bool:
    try:
        if root.stat(entry.path).kind is EntryKind.DIRECTORY:
            purge(root, entry.path, lambda path, fact: True, log)
        else:
            root.unlink(entry.path, missing_ok=True)
    except WanrecError as error:
        if error.code is ErrorCode.NO_SPACE:
            raise
        return False
    return True


def _failed(entry: Litter) -> Litter:
    return attrs.evolve(entry, fate=Fate.FAILED, size=0)
