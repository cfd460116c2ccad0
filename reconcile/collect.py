"""Reads the spec files of a run, their lock files and their `defaults.toml`.

The only module that reads spec files; `collect_find` says which, and what they mean is decided
elsewhere. The project's specs that no word names are read too, for look-ups, and their faults do
not stop the run. All faults of all files come together. A spec that the caller knows, by the digest
of every byte it is made of, is read and not parsed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import attrs

from wanrec.reconcile.collect_find import (
    DEFAULTS_FILE,
    LOCK_SUFFIX,
    FoundSpecs,
    SpecFile,
    find_specs,
    folders_above,
    lock_name,
    relative_name,
)
from wanrec.reconcile.errors import ErrorCode, Fault, FaultGroup

if TYPE_CHECKING:
    from wanrec.reconcile.desired_expanded import Expanded
    from wanrec.reconcile.lockfile import LockFile
    from wanrec.reconcile.manifest import DefaultsFile, Manifest
    from wanrec.reconcile.model import SpecSource

__all__ = ["Collection", "SpecFaults", "collect", "digests", "load", "read_file"]

_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""Without waiting for the other end of a pipe."""
Read = Callable[[Path], bytes]
Recall = Callable[[str, str], "Expanded | None"]
"""Spec path and digest of what it is made of → what it came to before, if that is known."""


@attrs.frozen(kw_only=True)
class Collection:
    """Every spec that was read. `spec_words`, `given`, `guests`, `named`: as in `FoundSpecs`.

    Attributes:
        manifests: sorted by path, without those in `recalled`.
        locks: spec path → its lock file.
        sources: digests of all files that were read.
        problems: spec path → its faults, for specs that do not stop the run.
        recalled: spec path → what the caller knew it to be.
        keys: spec path → digest of what it is made of, of every spec without a fault.
        size: bytes of all that has a key.
    """

    manifests: tuple[Manifest, ...]
    locks: Mapping[str, LockFile] = attrs.field(factory=dict)
    sources: tuple[SpecSource, ...] = ()
    spec_words: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    given: frozenset[str] = frozenset()
    guests: frozenset[str] = frozenset()
    named: frozenset[str] | None = None
    problems: Mapping[str, tuple[Fault, ...]] = attrs.field(factory=dict)
    recalled: Mapping[str, Expanded] = attrs.field(factory=dict)
    keys: Mapping[str, str] = attrs.field(factory=dict)
    size: int = 0


class SpecFaults(FaultGroup):
    """The faults that stopped a run; `rest` is what could be read of the specs it concerns."""

    def __init__(self, faults: Sequence[Fault], rest: Collection) -> None:
        super().__init__(faults, hint=_lock_hint(faults))
        self.rest = rest


def collect(
    project_dir: Path,
    words: Sequence[str] = (),
    *,
    manifest: str | None = None,
    spec_paths: Sequence[str] = ("specs",),
    cwd: Path | None = None,
) -> Collection:
    """Find and read the specs of a run: `find_specs`, then `load`.

    Raises:
        WanrecError: MISSING_MANIFEST when there is no spec file.
        FaultGroup: every fault of every file that concerns the run.
    """
    return load(project_dir, find_specs(project_dir, words, manifest, spec_paths, cwd))


def read_file(path: Path) -> bytes:
    """Read one regular file, never more than one byte over the cap of a spec.

    Raises:
        OSError: it is not there, not readable, or not a regular file.
    """
    from wanrec.reconcile.manifest_schema import MAX_MANIFEST_BYTES

    fd = os.open(path, _OPEN)
    try:
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode):
            raise OSError(0, "not a regular file")
        data = os.read(fd, min(seen.st_size, MAX_MANIFEST_BYTES) + 1)
        while len(data) != seen.st_size and 0 < len(data) <= MAX_MANIFEST_BYTES:
            more = os.read(fd, MAX_MANIFEST_BYTES + 1 - len(data))
            if not more:
                break
            data += more
        return data
    finally:
        os.close(fd)


def load(
    project_dir: Path, found: FoundSpecs, read: Read = read_file, recall: Recall | None = None
) -> Collection:
    """Read and check every spec that was found, with its lock file and defaults.

    Args:
        project_dir: what spec paths are relative to.
        found: the specs.
        read: how files are read.
        recall: asked for each spec that could be read, before it is parsed.

    Raises:
        SpecFaults: every fault of the specs that concern the run.
    """
    from wanrec.reconcile.model import SpecSource

    loader = _Loader(project_dir, read, recall)
    manifests: list[Manifest] = []
    problems: dict[str, tuple[Fault, ...]] = {}
    for spec in found.files:
        manifest, faults = loader.spec(spec)
        if manifest is not None:
            manifests.append(manifest)
        if faults:
            problems[spec.path] = tuple(faults)
    named = found.named
    stopping = {path for path in problems if named is None or path in named}
    collection = Collection(
        manifests=tuple(m for m in manifests if m.path not in loader.unsound),
        locks=loader.locks,
        sources=tuple(SpecSource(path, sha) for path, sha in sorted(loader.digests.items())),
        spec_words=found.words,
        given=found.given,
        guests=found.guests,
        named=found.named,
        problems=problems,
        recalled=loader.recalled,
        keys=loader.keys,
        size=loader.size,
    )
    if stopping:
        faults = _in_order(fault for path in sorted(stopping) for fault in problems[path])
        rest = tuple(map(_with_lock_faults, manifests, repeat(problems)))
        raise SpecFaults(faults, attrs.evolve(collection, manifests=rest))
    return collection


def _with_lock_faults(manifest: Manifest, problems: Mapping[str, Sequence[Fault]]) -> Manifest:
    """What a broken lock file pins is not known, so the models beside it are faulty too."""
    lock = lock_name(manifest.path)
    if not any(fault.file == lock for fault in problems.get(manifest.path, ())):
        return manifest
    return attrs.evolve(manifest, faulty=frozenset(model.id for model in manifest.models))


def digests(project_dir: Path, found: FoundSpecs, read: Read = read_file) -> dict[str, str] | None:
    """Return path → sha256 of the files that `load` would read, without looking into them.

    None when one of them cannot be read: `load` says why.
    """
    import hashlib

    known: dict[str, str] = {}
    for path, absolute in _places(project_dir, found).items():
        try:
            known[path] = hashlib.sha256(read(absolute)).hexdigest()
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return known


def _places(project_dir: Path, found: FoundSpecs) -> dict[str, Path]:
    """Every file the specs may be made of, less what the folders they lie in do not list."""
    top = os.path.abspath(project_dir)
    listed: dict[str, frozenset[str] | None] = {}
    places: dict[str, Path] = {}
    for spec in found.files:
        above = folders_above(project_dir, spec)
        for folder in above:
            if folder not in listed:
                listed[folder] = names = _names(folder)
                if names is None or DEFAULTS_FILE in names:
                    place = os.path.join(folder, DEFAULTS_FILE)
                    places[relative_name(place, top)] = Path(place)
        places[spec.path] = spec.absolute
        lock, names = lock_name(str(spec.absolute)), listed[above[0]]
        if names is None or os.path.basename(lock).casefold() in names:
            places[lock_name(spec.path)] = Path(lock)
    return places


def _names(folder: str) -> frozenset[str] | None:
    """List a folder without regard to case; None, if not allowed: anything may lie there then."""
    try:
        return frozenset(name.casefold() for name in os.listdir(folder))
    except OSError:
        return None


class _Text(NamedTuple):
    """One file as it was read: no data when it is not there, a fault when it cannot be read."""

    name: str
    data: bytes | None = None
    sha256: str = ""
    fault: Fault | None = None


class _Loader:
    """Reads each file once; what `Collection` wants to know fills up on the way."""

    def __init__(self, project_dir: Path, read: Read, recall: Recall | None) -> None:
        self.project_dir = os.path.abspath(project_dir)
        self.read = read
        self.recall = recall
        self.digests: dict[str, str] = {}
        self.locks: dict[str, LockFile] = {}
        self.recalled: dict[str, Expanded] = {}
        self.keys: dict[str, str] = {}
        self.unsound: set[str] = set()
        self.size = 0
        self._layers: dict[str, _Text] = {}
        self._defaults: dict[str, tuple[DefaultsFile | None, list[Fault]]] = {}

    def spec(self, spec: SpecFile) -> tuple[Manifest | None, list[Fault]]:
        """Return a spec's manifest and its faults, those of its lock and defaults included."""
        layers = [self._layer(folder) for folder in folders_above(Path(self.project_dir), spec)]
        own = self._text(spec.path, str(spec.absolute))
        if own.data is None and own.fault is None:
            own = own._replace(fault=_unreadable(spec.path, FileNotFoundError(2, "no such file")))
        lock = self._text(lock_name(spec.path), lock_name(str(spec.absolute)))
        texts = [text for text in (own, lock, *layers) if text.data is not None]
        key = None
        if self.recall is not None and not any(text.fault for text in (own, lock, *layers)):
            key = _key(texts)
            if self._knows(spec.path, key, texts):
                return None, []
        manifest, faults = self._parsed(own, lock, layers)
        if key is not None and not faults:
            self._note(spec.path, key, texts)
        return manifest, faults

    def _layer(self, folder: str) -> _Text:
        if folder not in self._layers:
            place = os.path.join(folder, DEFAULTS_FILE)
            self._layers[folder] = self._text(relative_name(place, self.project_dir), place)
        return self._layers[folder]

    def _text(self, name: str, place: str) -> _Text:
        try:
            data = self.read(Path(place))
        except FileNotFoundError:
            return _Text(name)
        except OSError as error:
            return _Text(name, fault=_unreadable(name, error))
        return _Text(name, data, _sha256(data) if self.recall is not None else "")

    def _knows(self, path: str, key: str, texts: list[_Text]) -> bool:
        known = self.recall(path, key) if self.recall is not None else None
        if known is None:
            return False
        self.recalled[path] = known
        self.digests.update((text.name, text.sha256) for text in texts)
        self._note(path, key, texts)
        return True

    def _note(self, path: str, key: str, texts: Iterable[_Text]) -> None:
        self.keys[path] = key
        self.size += sum(len(text.data or b"") for text in texts)

    def _parsed(
        self, own: _Text, lock: _Text, layers: Iterable[_Text]
    ) -> tuple[Manifest | None, list[Fault]]:
        from wanrec.reconcile.manifest import read_manifest

        defaults, faults = self._cascade(layers)
        manifest, broken = None, None
        try:
            if own.data is not None:
                manifest, broken = read_manifest(own.data, own.name, defaults)
        except FaultGroup as group:
            broken = group
        if broken is not None:
            self.unsound.add(own.name)
            faults = [*faults, *broken.faults]
        elif manifest is not None:
            self.digests[own.name] = manifest.sha256
        return manifest, [*faults, *_faults(own), *self._lock(own.name, lock)]

    def _lock(self, spec: str, lock: _Text) -> list[Fault]:
        from wanrec.reconcile.lockfile_parse import parse_lock

        if lock.data is None:
            return _faults(lock)
        try:
            parsed = parse_lock(lock.data, lock.name)
        except FaultGroup as group:
            return list(group.faults)
        self.locks[spec] = parsed
        self.digests[lock.name] = parsed.sha256
        return []

    def _cascade(self, layers: Iterable[_Text]) -> tuple[list[DefaultsFile], list[Fault]]:
        """Return the defaults that apply to a spec, nearest first, and their faults."""
        found: list[DefaultsFile] = []
        faults: list[Fault] = []
        for layer in layers:
            if layer.name not in self._defaults:
                self._defaults[layer.name] = self._defaults_of(layer)
            defaults, problems = self._defaults[layer.name]
            faults += problems
            if defaults is not None:
                found.append(defaults)
        return found, faults

    def _defaults_of(self, layer: _Text) -> tuple[DefaultsFile | None, list[Fault]]:
        from wanrec.reconcile.manifest import parse_defaults

        if layer.data is None:
            return None, _faults(layer)
        try:
            defaults = parse_defaults(layer.data, layer.name)
        except FaultGroup as group:
            return None, list(group.faults)
        self.digests[layer.name] = defaults.sha256
        return defaults, []


def _key(texts: Iterable[_Text]) -> str:
    """Name all that a spec is made of: the nearest defaults come first, absent files are absent."""
    return _sha256("".join(f"{text.sha256} {text.name}\n" for text in texts).encode())


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def _faults(text: _Text) -> list[Fault]:
    return [] if text.fault is None else [text.fault]


def _lock_hint(faults: Iterable[Fault]) -> str:
    """A lock file is not repaired by hand; one of a later wanrec is not written again either."""
    told = [fault for fault in faults if fault.file.endswith(LOCK_SUFFIX)]
    if any(fault.code is ErrorCode.SCHEMA_VERSION_MISMATCH for fault in told):
        from wanrec.reconcile.lockfile_parse import NEWER_HINT

        return NEWER_HINT
    locks = sorted({fault.file for fault in told})
    specs = " ".join(f"{name.removesuffix(LOCK_SUFFIX)}.toml" for name in locks)
    return f"write it again: wanrec lock {specs}" if specs else ""


def _unreadable(name: str, error: OSError) -> Fault:
    code = (
        ErrorCode.PERMISSION_DENIED
        if isinstance(error, PermissionError)
        else ErrorCode.MISSING_MANIFEST
        if isinstance(error, FileNotFoundError)
        else ErrorCode.FILESYSTEM_ERROR
    )
    return Fault(name, None, f"cannot be read: {error.strerror or error}", code=code)


def _in_order(faults: Iterable[Fault]) -> list[Fault]:
    """By file and line; a defaults file that several specs use tells its faults once."""
    unique = {(fault.file, fault.line, fault.message, fault.at): fault for fault in faults}
    return sorted(unique.values(), key=lambda fault: (fault.file, fault.line or 0, fault.at))
