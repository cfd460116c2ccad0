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
from typing import NamedTuple

import attrs

from wanrec.reconcile.content import Stop, hash_many
from wanrec.reconcile.disk import WANREC_DIR, Tree, fact_of
from wanrec.reconcile.disk_scan import look_into, strangers, with_parents
from wanrec.reconcile.model import EntryKind, FileFact, FileSpec, Observed
from wanrec.reconcile.trust import is_trusted
from wanrec.state.model import FileRecord

__all__ = ["STAGED_BLOBS", "FactTable", "observe"]

STAGED_BLOBS = f"{WANREC_DIR}/stage/blob"
_HEX = frozenset("0123456789abcdef")
_NO_FILES: dict[str, FileRecord] = {}

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


class _Place(NamedTuple):
    """One file to look at."""

    name: str
    address: str
    path: str
    record: FileRecord | None
    spec: FileSpec | None


def observe(
    root: Tree,
    directories: Mapping[str, str],
    wanted: Wanted,
    recorded: Recorded,
    *,
    deep: bool = False,
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
        threads: for hashing.
        busy: passed on.
        stop: ends the hashing early.

    Raises:
        WanrecError: INTERRUPTED when `stop` was set. Nothing else for what lies on the disk.
    """
    places = _places(directories, wanted, recorded)
    look = _Look(root, deep)
    foreign = look.at(places, directories)
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
) -> dict[str, list[_Place]]:
    """Group every wanted or recorded file by its folder."""
    places: dict[str, list[_Place]] = {}
    make = _Place._make
    for key, directory in directories.items():
        specs, records = wanted.get(key, {}), recorded.get(key, _NO_FILES)
        for path, record in records.items():
            folder, _, name = record.path.rpartition("/")
            place = make((name, f"{key}::{path}", record.path, record, specs.get(path)))
            group = places.get(folder)
            if group is None:
                places[folder] = [place]
            else:
                group.append(place)
        for path, spec in specs.items():
            if path not in records:
                full = f"{directory}/{path}"
                folder, _, name = full.rpartition("/")
                place = make((name, f"{key}::{path}", full, None, spec))
                places.setdefault(folder, []).append(place)
    return places


class _Look:
    """Collects what one run sees."""

    def __init__(self, root: Tree, deep: bool) -> None:
        self.root = root
        self.deep = deep
        self.facts: dict[str, FileFact] = {}
        self.trusted: dict[str, FileRecord] = {}
        self.links: dict[str, int] = {}
        self.to_hash: list[_Place] = []

    def at(self, places: dict[str, list[_Place]], directories: Mapping[str, str]) -> list[str]:
        """Look at every place; returns what nobody named in the model directories."""
        tops = frozenset(directories.values())
        own = with_parents(places, tops) | tops
        foreign: list[str] = []
        for folder in sorted(own.union(places)):
            group = places.get(folder, [])
            names = look_into(self.root, folder, group, self._seen, self._odd)
            if folder in own:
                known = frozenset(place.name for place in group)
                foreign.extend(strangers(self.root, folder, names, known, own))
        return foreign

    def _seen(self, place: _Place, st: os.stat_result) -> None:
        record = place.record
        if not stat_.S_ISREG(st.st_mode):
            self.facts[place.address] = fact_of(st)
        elif record is not None and not self.deep:
            if st.st_dev == record.dev and is_trusted(
                record, st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino
            ):
                self.trusted[place.address] = record
                if st.st_nlink != 1:
                    self.links[place.address] = st.st_nlink
            else:
                self.facts[place.address] = fact_of(st)
        else:
            self.facts[place.address] = fact_of(st)
            if self.deep or _size_fits(place.spec, st.st_size):
                self.to_hash.append(place)

    def _odd(self, place: _Place, fact: FileFact | None) -> None:
        if fact is not None:
            self.facts[place.address] = fact

    def hash(self, threads: int, stop: Stop | None) -> None:
        """Read what must be read; names of one inode are read once."""
        inodes: dict[tuple[int, int], list[_Place]] = {}
        for place in self.to_hash:
            fact = self.facts[place.address]
            inodes.setdefault((fact.dev, fact.ino), []).append(place)
        firsts = [names[0] for names in inodes.values()]
        if not firsts:
            return
        sizes = [self.facts[place.address].size for place in firsts]
        paths = [place.path for place in firsts]
        results = hash_many(paths, self.root.open_read, sizes=sizes, threads=threads, stop=stop)
        for names, result in zip(inodes.values(), results, strict=True):
            for place in names:
                self.facts[place.address] = self._hashed(place, result)

    def _hashed(self, place: _Place, result: tuple[str, int] | Exception) -> FileFact:
        fact = self.facts[place.address]
        if isinstance(result, tuple):
            return attrs.evolve(fact, sha256=result[0], size=result[1])
        now = self.root.stat(place.path)
        if now.kind is not EntryKind.FILE:
            return now
        reason = str(result.strerror) if isinstance(result, OSError) else _summary(result)
        return attrs.evolve(fact, kind=EntryKind.UNREADABLE, error=reason)


def _summary(error: Exception) -> str:
    return str(getattr(error, "detail", "") or getattr(error, "summary", error))


def _size_fits(spec: FileSpec | None, size: int) -> bool:
    return spec is not None and spec.size in (None, size)


def _staged(root: Tree) -> dict[str, int]:
    """Return the verified bytes that wait in the stage: sha256 → size."""
    return {
        name: fact.size
        for name, fact in root.walk(STAGED_BLOBS).items()
        if len(name) == 64 and _HEX.issuperset(name) and fact.kind is EntryKind.FILE
    }
