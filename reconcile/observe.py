"""The disk as one run sees it: stat facts of every wanted or recorded file, hashes where asked.

In go the root, where each model lies, what is wanted there and what is recorded; out comes
`Observed`. One stat a file through a handle of its folder; nothing is written, no lock is taken,
and a file that cannot be looked at is a fact with a reason, never an exception. What to do about
any of it is the planner's.
"""

from __future__ import annotations

import os
import stat as stat_
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile.disk_paths import WANREC_DIR, fact_of
from wanrec.reconcile.disk_scan import Seen, look_into, strangers, with_parents
from wanrec.reconcile.disk_walk import Tree
from wanrec.reconcile.model import EntryKind, FileFact, FileSpec, Observed
from wanrec.reconcile.trust import is_trusted
from wanrec.state.model import FileRecord

if TYPE_CHECKING:
    from wanrec.reconcile.content import Stop

__all__ = ["STAGED_BLOBS", "FactTable", "observe"]

STAGED_BLOBS = f"{WANREC_DIR}/stage/blob"
_RETIRED = f"{WANREC_DIR}/stage/retired"
_HEX = frozenset("0123456789abcdef")
_NO_FILES: dict[str, FileRecord] = {}
_NO_SPECS: dict[str, FileSpec] = {}
_NONE_WAITING: dict[int, int] = {}

Wanted = Mapping[str, Mapping[str, FileSpec]]
Recorded = Mapping[str, Mapping[str, FileRecord]]


class FactTable(Mapping[str, FileFact]):
    """Address → fact. The fact of a trusted file is what its record says, made when asked for."""

    __slots__ = ("_links", "_others", "trusted")

    def __init__(
        self,
        others: dict[str, FileFact],
        trusted: dict[str, FileRecord],
        links: Mapping[str, int],
    ) -> None:
        self._others = others
        self.trusted = trusted
        self._links = links

    def __getitem__(self, address: str) -> FileFact:
        fact = self._others.get(address)
        if fact is not None:
            return fact
        record = self.trusted[address]
        return FileFact(
            kind=EntryKind.FILE,
            size=record.size,
            mtime_ns=record.mtime_ns,
            ctime_ns=record.ctime_ns,
            ino=record.ino,
            dev=record.dev,
            nlink=self._links.get(address, 1),
        )

    def __iter__(self) -> Iterator[str]:
        yield from self._others
        yield from self.trusted

    def __len__(self) -> int:
        return len(self._others) + len(self.trusted)


_Group = tuple[list[str], list[str], list[FileRecord | None], list[FileSpec | None]]
"""Names in one folder, their addresses, and the record, else the spec. Lists side by side: a
tuple for each of 100,000 files costs more than its stat."""


def observe(
    root: Tree,
    directories: Mapping[str, str],
    wanted: Wanted,
    recorded: Recorded,
    *,
    deep: bool = False,
    rehash_budget: int = 0,
    threads: int = 2,
    busy: frozenset[str] = frozenset(),
    stop: Stop | None = None,
) -> Observed:
    """Look at the disk.

    Args:
        root: open for reading.
        directories: model key → model directory, relative to the root.
        wanted: model key → path inside the model → what is wanted there.
        recorded: model key → path inside the model → record. A recorded file is looked at where
            its record says it is.
        deep: hash every file that is there; else only those at wanted paths that are not
            recorded and whose size fits (they may be adopted).
        rehash_budget: bytes that may be read, besides, for recorded files whose stat leaves doubt;
            those of `busy` models are left alone.
        threads: for hashing.
        busy: passed on.
        stop: ends the hashing early.

    Raises:
        WanrecError: INTERRUPTED when `stop` was set. Nothing else for what lies on the disk.
    """
    places = _places(directories, wanted, recorded)
    look = _Look(root, deep, rehash_budget, busy)
    foreign = look.at(places, directories)
    others = {key: recorded[key] for key in recorded.keys() - directories.keys()}
    look.beside(_places(dict.fromkeys(sorted(others), ""), {}, others))
    look.hash(threads, stop)
    return Observed(
        facts=FactTable(look.facts, look.trusted, look.links),
        foreign=tuple(sorted(foreign)),
        staged=_staged(root),
        busy=busy,
        trusted=look.trusted.keys(),
    )


def _places(
    directories: Mapping[str, str], wanted: Wanted, recorded: Recorded
) -> dict[str, _Group]:
    """Group every wanted or recorded file by its folder."""
    places: dict[str, _Group] = {}
    for key, directory in directories.items():
        records = recorded.get(key, _NO_FILES)
        for path, record in records.items():
            folder, _, name = record.path.rpartition("/")
            group = places.get(folder)
            if group is None:
                group = places[folder] = ([], [], [], [])
            group[0].append(name)
            group[1].append(f"{key}::{path}")
            group[2].append(record)
            group[3].append(None)
        for path, spec in wanted.get(key, _NO_SPECS).items():
            if path not in records:
                folder, _, name = f"{directory}/{path}".rpartition("/")
                group = places.setdefault(folder, ([], [], [], []))
                group[0].append(name)
                group[1].append(f"{key}::{path}")
                group[2].append(None)
                group[3].append(spec)
    return places


class _Look:
    """Collects what one run sees."""

    def __init__(self, root: Tree, deep: bool, budget: int, busy: frozenset[str]) -> None:
        self.root = root
        self.deep = deep
        self.budget = budget
        self.busy = busy
        self.facts: dict[str, FileFact] = {}
        self.trusted: dict[str, FileRecord] = {}
        self.links: dict[str, int] = {}
        self.waiting: Mapping[int, int] | None = None
        self.to_hash: list[tuple[str, str]] = []

    def at(self, places: dict[str, _Group], directories: Mapping[str, str]) -> list[str]:
        """Look at every place; returns what nobody named in the model directories."""
        tops = frozenset(directories.values())
        own = with_parents(places, tops) | tops
        foreign: list[str] = []
        for folder in sorted(own.union(places)):
            group = places.get(folder, ([], [], [], []))
            seen, listed = look_into(self.root, folder, group[0])
            self._sort(folder, group, seen)
            if folder in own:
                others = set(listed).difference(group[0])
                foreign.extend(strangers(self.root, folder, others, own))
        return foreign

    def beside(self, places: dict[str, _Group]) -> None:
        """Look at files of models this run is not about, whose bytes it could share."""
        for folder, group in sorted(places.items()):
            self._sort(folder, group, look_into(self.root, folder, group[0])[0])

    def _sort(self, folder: str, group: _Group, seen: list[Seen]) -> None:
        """Tell trusted files from those that need a fact. The hot loop of a no-op run."""
        trusted, deep = self.trusted, self.deep
        for name, address, record, spec, st in zip(*group, seen, strict=True):
            if st is None:
                continue
            if isinstance(st, FileFact):
                self.facts[address] = st
                continue
            regular = stat_.S_ISREG(st.st_mode)
            if record is not None and regular and not deep and _believed(record, st):
                trusted[address] = record
                if st.st_nlink != 1:
                    self.links[address] = self._lasting_links(st)
                continue
            fact = fact_of(st)
            if regular and st.st_nlink != 1:
                fact = attrs.evolve(fact, nlink=self._lasting_links(st))
            self.facts[address] = fact
            if regular and (
                deep
                or (spec is not None and spec.size in (None, st.st_size))
                or (record is not None and self._affords(address, record, st))
            ):
                self.to_hash.append((address, f"{folder}/{name}" if folder else name))

    def _affords(self, address: str, record: FileRecord, st: os.stat_result) -> bool:
        """True, and paid for, when a doubtful file may be read: only its hash can decide."""
        if not st.st_size == record.size <= self.budget or address.partition("::")[0] in self.busy:
            return False
        self.budget -= record.size
        return True

    def _lasting_links(self, st: os.stat_result) -> int:
        """Count the names of a file without those of replaced directories, which go by themselves.

        A file that was carried over an update has a name in the old directory for a while.
        """
        if self.waiting is None:
            self.waiting = _NONE_WAITING
            if any(name.endswith(".json") for name in self.root.walk(_RETIRED)):
                from wanrec.reconcile.stage_retired import waiting_names  # seldom, right after runs

                self.waiting = waiting_names(self.root)
        return st.st_nlink - self.waiting.get(st.st_ino, 0)

    def hash(self, threads: int, stop: Stop | None) -> None:
        """Read what must be read; names of one inode are read once."""
        inodes: dict[tuple[int, int], list[tuple[str, str]]] = {}
        for address, path in self.to_hash:
            fact = self.facts[address]
            inodes.setdefault((fact.dev, fact.ino), []).append((address, path))
        if not inodes:
            return
        from wanrec.reconcile.content import hash_many  # a run that reads no bytes needs no hash

        firsts = [names[0] for names in inodes.values()]
        results = hash_many(
            [path for _, path in firsts],
            self.root.open_read,
            sizes=[self.facts[address].size for address, _ in firsts],
            threads=threads,
            stop=stop,
        )
        for names, result in zip(inodes.values(), results, strict=True):
            for address, path in names:
                self.facts[address] = self._hashed(self.facts[address], path, result)

    def _hashed(self, fact: FileFact, path: str, result: tuple[str, int] | Exception) -> FileFact:
        if isinstance(result, tuple):
            return attrs.evolve(fact, sha256=result[0], size=result[1])
        now = self.root.stat(path)
        if now.kind is not EntryKind.FILE:
            return now
        return attrs.evolve(fact, kind=EntryKind.UNREADABLE, error=_summary(result))


def _believed(record: FileRecord, st: os.stat_result) -> bool:
    # The device is not part of the rule, but a fact made from the record must name the right one.
    return st.st_dev == record.dev and is_trusted(
        record, st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino
    )


def _summary(error: Exception) -> str:
    return str(getattr(error, "detail", "") or getattr(error, "summary", error))


def _staged(root: Tree) -> dict[str, int]:
    """Return the verified bytes that wait in the stage: sha256 → size."""
    return {
        name: fact.size
        for name, fact in root.walk(STAGED_BLOBS).items()
        if len(name) == 64 and _HEX.issuperset(name) and fact.kind is EntryKind.FILE
    }
