"""State against disk: what recorded files are no longer what the state says.

Reads only: no spec, no lock, no network; nothing is written but, by a deep check and where it can,
the part digests of what it has read, which are no part of the state (`part_records`). A file
whose stat identity is as recorded is believed (the trust rule); a doubtful one is hashed within a
budget and only its bytes decide; `deep` hashes everything. Models of a live run are named and
left out.
"""

from __future__ import annotations

import os
import stat as stat_
from collections.abc import Callable, Collection, Container
from typing import TYPE_CHECKING

from wanrec.reconcile.disk_paths import fact_of
from wanrec.reconcile.disk_scan import Seen, look_into, strangers, with_parents
from wanrec.reconcile.disk_walk import Tree
from wanrec.reconcile.facts import EntryKind, FileFact
from wanrec.reconcile.findings import Content, DriftItem, DriftKind, DriftReport
from wanrec.reconcile.trust import is_trusted, verified_ns
from wanrec.state.model import FileRecord, State

if TYPE_CHECKING:
    from wanrec.reconcile.drift_pace import Pace

__all__ = ["DEFAULT_REHASH_BUDGET", "run_drift"]

DEFAULT_REHASH_BUDGET = 1 << 30

_Group = tuple[list[str], list[str], list[FileRecord]]
"""Names in one folder, their addresses and records. Three lists: a tuple a file costs more."""
_Inode = tuple[int, int, str]
"""Device, inode and the hash its names are recorded with."""


def run_drift(
    root: Tree,
    state: State,
    *,
    busy: Collection[str] = frozenset(),
    deep: bool = False,
    rehash_budget: int | None = DEFAULT_REHASH_BUDGET,
    ignore: Callable[[str], bool] | None = None,
    only: Container[str] | None = None,
    max_age_s: float | None = None,
    now_ns: int = 0,
    threads: int = 2,
    pace: Pace | None = None,
    record_parts: bool = False,
) -> DriftReport:
    """Compare the disk with the state.

    Args:
        root: open for reading.
        state: with the journals of live and dead runs applied.
        busy: keys of models a live run is working on; reported, not judged.
        deep: hash every file, budget or not.
        rehash_budget: bytes that may be read for doubtful files; None: no limit.
        ignore: address → True to leave it out; left-out files are counted.
        only: addresses and model keys to look at; None: all.
        max_age_s: records verified longer ago are doubtful.
        now_ns: the present, for `max_age_s`.
        threads: for hashing.
        record_parts: with `deep`: write down the parts of big files under `.wanrec/cache`.
        pace: with `deep`: which files to hash first and when to stop.
    """
    oldest = 0 if max_age_s is None else now_ns - int(max_age_s * 1_000_000_000)
    scope = _Scope(state, busy, ignore, only)
    look = _Look(root, deep, oldest)
    look.record_parts = record_parts
    foreign = look.at(scope)
    if deep and pace is not None:
        look.decide_in_time(pace, threads)
    else:
        look.decide(rehash_budget, threads)
    return DriftReport(
        checked=scope.checked,
        items=tuple(look.items()),
        suspects=tuple(sorted(look.suspects)),
        # A model that a live run brings for the first time has no record yet, and is busy too.
        busy=tuple(sorted(key for key in {*busy} if only is None or key in only)),
        unreadable=tuple(sorted(look.unreadable)),
        foreign=tuple(sorted(foreign)),
        ignored=scope.ignored,
        bytes_hashed=look.bytes_hashed,
        left=look.left if pace is not None else None,
        models=tuple(sorted(scope.models)),
    )


class _Scope:
    """Which recorded files this run is about, grouped by folder."""

    def __init__(
        self,
        state: State,
        busy: Container[str],
        ignore: Callable[[str], bool] | None,
        only: Container[str] | None,
    ) -> None:
        self.state = state
        self.models = self._selected(only)
        self.busy = frozenset(key for key in self.models if key in busy)
        self.ignored = 0
        self.places: dict[str, _Group] = {}
        self.checked = self._group(ignore, only)

    def _selected(self, only: Container[str] | None) -> frozenset[str]:
        if only is None:
            return frozenset(self.state.models)
        by_file = {address.partition("::")[0] for address in self.state.files if address in only}
        return frozenset(key for key in self.state.models if key in only or key in by_file)

    def _group(self, ignore: Callable[[str], bool] | None, only: Container[str] | None) -> int:
        places, checked = self.places, 0
        narrow = bool(only is not None or ignore is not None or self.busy)
        for address, record in self.state.files.items():
            if narrow and not self._taken(address, ignore, only):
                continue
            folder, _, name = record.path.rpartition("/")
            group = places.get(folder)
            if group is None:
                group = places[folder] = ([], [], [])
            group[0].append(name)
            group[1].append(address)
            group[2].append(record)
            checked += 1
        return checked

    def _taken(
        self, address: str, ignore: Callable[[str], bool] | None, only: Container[str] | None
    ) -> bool:
        key = address.partition("::")[0]
        if key in self.busy or not (only is None or address in only or key in only):
            return False
        if ignore is not None and ignore(address):
            self.ignored += 1
            return False
        return True

    def directories(self) -> frozenset[str]:
        """Directories of the models that are judged."""
        models = self.state.models
        taken = (models[key].directory for key in self.models - self.busy)
        return frozenset(directory for directory in taken if directory)


class _Look:
    """Collects what differs, and what must be read to know."""

    def __init__(self, root: Tree, deep: bool, oldest: int) -> None:
        self.root = root
        self.deep = deep
        self.oldest = oldest
        self.record_parts = False
        self.found: list[tuple[str, FileRecord, DriftKind, FileFact | None]] = []
        self.doubtful: list[tuple[str, FileRecord, os.stat_result]] = []
        self.unreadable: list[tuple[str, str]] = []
        self.suspects: list[str] = []
        self.right: list[_Inode] = []
        self.left = 0
        self.bytes_hashed = 0
        self.bad_parts: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {}

    def at(self, scope: _Scope) -> list[str]:
        """Look at every recorded file; returns what the state does not know."""
        tops = scope.directories()
        own = with_parents(scope.places, tops) | tops
        others: list[str] = []
        for folder in sorted(own.union(scope.places)):
            wanted, addresses, records = scope.places.get(folder, ([], [], []))
            seen, listed = look_into(self.root, folder, wanted)
            self._sort(addresses, records, seen)
            if folder in own:
                strange = set(listed).difference(wanted)
                others.extend(strangers(self.root, folder, strange, own))
        if not others:
            return []
        recorded = {record.path for record in scope.state.files.values()}
        return [path for path in others if path not in recorded]

    def _sort(self, addresses: list[str], records: list[FileRecord], seen: list[Seen]) -> None:
        """Tell the trusted files from the others. The hot loop."""
        deep, oldest = self.deep, self.oldest
        regular = stat_.S_IFREG
        for address, record, st in zip(addresses, records, seen, strict=True):
            if st is None or isinstance(st, FileFact):
                self._odd(address, record, st)
            elif st.st_mode & 0o170000 != regular:
                self.found.append((address, record, DriftKind.TYPE, fact_of(st)))
            elif st.st_size != record.size:
                self.found.append((address, record, DriftKind.SIZE, fact_of(st)))
            elif (
                deep
                or not is_trusted(record, st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino)
                or (oldest and verified_ns(record.verified_at) < oldest)
            ):
                self.doubtful.append((address, record, st))

    def _odd(self, address: str, record: FileRecord, fact: FileFact | None) -> None:
        if fact is None or fact.kind is EntryKind.MISSING:
            self.found.append((address, record, DriftKind.MISSING, None))
        elif fact.kind is EntryKind.UNREADABLE:
            self.unreadable.append((record.path, fact.error or "unreadable"))
        else:
            self.found.append((address, record, DriftKind.TYPE, fact))

    def decide(self, budget: int | None, threads: int) -> None:
        """Hash doubtful files in address order as far as the budget goes; the rest is suspect.

        Names of one inode are read once.
        """
        if not self.doubtful:
            return
        inodes, facts = self._by_inode()
        chosen = []
        for inode, names in inodes.items():
            if not self.deep and budget is not None:
                budget, fits = _spend(budget, facts[inode].size)
                if not fits:
                    self.suspects.extend(address for address, _ in names)
                    continue
            chosen.append(inode)
        self._hash(chosen, inodes, facts, threads)

    def decide_in_time(self, pace: Pace, threads: int) -> None:
        """Hash what was verified longest ago first, for as long as the pace allows.

        Doubtful files that were not reached are suspect; the others are only counted.
        """
        inodes, facts = self._by_inode()
        order = sorted(inodes, key=lambda inode: min(pace.last(*name) for name in inodes[inode]))
        wrong = [inode for inode in order if any(name[0] in pace.wrong for name in inodes[inode])]
        order = [inode for inode in order if inode not in wrong]
        self._hash(wrong, inodes, facts, threads)  # what was found stays found
        at = 0
        while at < len(order) and pace.more():
            batch = order[at : at + threads]
            self._hash(batch, inodes, facts, threads)
            at += len(batch)
        pace.note([name for inode in self.right for name in inodes[inode]], self.found)
        for inode in order[at:]:
            fact = facts[inode]
            for address, record in inodes[inode]:
                if is_trusted(record, fact.size, fact.mtime_ns, fact.ctime_ns, fact.ino):
                    self.left += 1
                else:
                    self.suspects.append(address)

    def _by_inode(
        self,
    ) -> tuple[dict[_Inode, list[tuple[str, FileRecord]]], dict[_Inode, FileFact]]:
        inodes: dict[_Inode, list[tuple[str, FileRecord]]] = {}
        facts: dict[_Inode, FileFact] = {}
        for address, record, st in sorted(self.doubtful, key=lambda item: item[0]):
            inode = (st.st_dev, st.st_ino, record.sha256)
            inodes.setdefault(inode, []).append((address, record))
            facts.setdefault(inode, fact_of(st))
        return inodes, facts

    def _hash(
        self,
        chosen: list[_Inode],
        inodes: dict[_Inode, list[tuple[str, FileRecord]]],
        facts: dict[_Inode, FileFact],
        threads: int,
    ) -> None:
        from wanrec.reconcile.drift_parts import Read, read_all  # a clean run reads no bytes

        results = read_all(
            self.root,
            [(inodes[inode][0][1].path, inode[2], facts[inode].size) for inode in chosen],
            threads=threads,
            deep=self.deep,
            record=self.record_parts,
        )
        for inode, result in zip(chosen, results, strict=True):
            if isinstance(result, Read):
                self.bytes_hashed += result.size
                if result.sha256 != inode[2]:
                    self.bad_parts[inode[:2]] = result.bad
                    self._differs(inodes[inode], facts[inode], result.sha256, result.size)
                else:
                    self.right.append(inode)
                continue
            for address, record in inodes[inode]:
                self._lost(address, record, result)

    def _differs(
        self, names: list[tuple[str, FileRecord]], fact: FileFact, sha256: str, size: int
    ) -> None:
        seen = FileFact(
            kind=fact.kind, size=size, sha256=sha256, ino=fact.ino, dev=fact.dev, nlink=fact.nlink
        )
        for address, record in names:
            kind = DriftKind.CONTENT if size == record.size else DriftKind.SIZE
            self.found.append((address, record, kind, seen))

    def _lost(self, address: str, record: FileRecord, error: Exception) -> None:
        """Tell a file that went or changed its kind meanwhile from one that cannot be read."""
        fact = self.root.stat(record.path)
        if fact.kind is EntryKind.FILE:
            reason = getattr(error, "strerror", None) or getattr(error, "detail", "")
            self.unreadable.append((record.path, str(reason or error)))
        else:
            self._odd(address, record, fact)

    def items(self) -> list[DriftItem]:
        """One finding a file, but one for all names of a damaged inode, in address order."""
        shared: dict[object, list[tuple[str, FileRecord, DriftKind, FileFact | None]]] = {}
        for finding in sorted(self.found, key=lambda found: found[0]):
            address, record, kind, fact = finding
            damaged = fact is not None and kind in (DriftKind.SIZE, DriftKind.CONTENT)
            one = (kind, fact.dev, fact.ino, record.sha256) if fact and damaged else address
            shared.setdefault(one, []).append(finding)
        return [self._item(names) for names in shared.values()]

    def _item(self, names: list[tuple[str, FileRecord, DriftKind, FileFact | None]]) -> DriftItem:
        address, record, kind, fact = names[0]
        key, _, path = address.partition("::")
        is_file = fact is not None and fact.kind is EntryKind.FILE
        return DriftItem(
            address=address,
            model=key,
            path=path,
            kind=kind,
            expected=Content(size=record.size, sha256=record.sha256),
            found=Content(size=fact.size, sha256=fact.sha256) if fact and is_file else None,
            paths=tuple(name.path for _, name, _, _ in names),
            parts=self.bad_parts.get((fact.dev, fact.ino), ()) if fact else (),
        )


def _spend(budget: int, size: int) -> tuple[int, bool]:
    return (budget - size, True) if size <= budget else (budget, False)
