"""Reads the spec files of a run, their lock files and their `defaults.toml`.

The only module that reads spec files; `collect_find` says which, and what they mean is decided
elsewhere. The project's specs that no word names are read too, for look-ups, and their faults do
not stop the run. All faults of all files come together.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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
    from wanrec.reconcile.lockfile import LockFile
    from wanrec.reconcile.manifest import DefaultsFile, Manifest
    from wanrec.reconcile.model import SpecSource

__all__ = ["Collection", "collect", "digests", "load", "read_file"]

Read = Callable[[Path], bytes]


@attrs.frozen(kw_only=True)
class Collection:
    """Every spec that was read. `spec_words`, `given`, `guests`, `named`: as in `FoundSpecs`.

    Attributes:
        manifests: sorted by path.
        locks: spec path → its lock file.
        sources: digests of all files that were read.
        problems: spec path → its faults, for specs that do not stop the run.
    """

    manifests: tuple[Manifest, ...]
    locks: Mapping[str, LockFile] = attrs.field(factory=dict)
    sources: tuple[SpecSource, ...] = ()
    spec_words: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    given: frozenset[str] = frozenset()
    guests: frozenset[str] = frozenset()
    named: frozenset[str] | None = None
    problems: Mapping[str, tuple[Fault, ...]] = attrs.field(factory=dict)


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

    with open(path, "rb", opener=_open_at_once) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(0, "not a regular file")
        return stream.read(MAX_MANIFEST_BYTES + 1)


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def load(project_dir: Path, found: FoundSpecs, read: Read = read_file) -> Collection:
    """Read and check every spec that was found, with its lock file and defaults.

    Raises:
        FaultGroup: every fault of the specs that concern the run.
    """
    from wanrec.reconcile.model import SpecSource

    loader = _Loader(project_dir, read)
    manifests: list[Manifest] = []
    problems: dict[str, tuple[Fault, ...]] = {}
    for spec in found.files:
        manifest, faults = loader.spec(spec)
        if manifest is not None:
            manifests.append(manifest)
        if faults:
            problems[spec.path] = tuple(faults)
    stopping = {
        path: faults
        for path, faults in problems.items()
        if found.named is None or path in found.named
    }
    if stopping:
        faults = _in_order(fault for faults in stopping.values() for fault in faults)
        raise FaultGroup(faults, hint=_lock_hint(faults))
    return Collection(
        manifests=tuple(manifests),
        locks=loader.locks,
        sources=tuple(SpecSource(path, sha) for path, sha in sorted(loader.digests.items())),
        spec_words=found.words,
        given=found.given,
        guests=found.guests,
        named=found.named,
        problems=problems,
    )


def digests(project_dir: Path, found: FoundSpecs, read: Read = read_file) -> dict[str, str] | None:
    """Return path → sha256 of the files that `load` would read, without looking into them.

    None when one of them cannot be read: `load` says why.
    """
    import hashlib

    places: dict[str, Path] = {}
    for spec in found.files:
        places[spec.path] = spec.absolute
        places[lock_name(spec.path)] = Path(lock_name(str(spec.absolute)))
        for folder in folders_above(project_dir, spec):
            place = os.path.join(folder, DEFAULTS_FILE)
            places[relative_name(place, os.path.abspath(project_dir))] = Path(place)
    known: dict[str, str] = {}
    for path, absolute in places.items():
        try:
            known[path] = hashlib.sha256(read(absolute)).hexdigest()
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return known


class _Loader:
    """Reads each file once; `digests` and `locks` fill up on the way."""

    def __init__(self, project_dir: Path, read: Read) -> None:
        self.project_dir = os.path.abspath(project_dir)
        self.read = read
        self.digests: dict[str, str] = {}
        self.locks: dict[str, LockFile] = {}
        self._defaults: dict[str, tuple[DefaultsFile | None, list[Fault]]] = {}

    def spec(self, spec: SpecFile) -> tuple[Manifest | None, list[Fault]]:
        """Return a spec's manifest and its faults, those of its lock and defaults included."""
        from wanrec.reconcile.manifest import parse_manifest

        defaults, faults = self._cascade(spec)
        manifest = None
        try:
            manifest = parse_manifest(self.read(spec.absolute), spec.path, defaults)
            self.digests[spec.path] = manifest.sha256
        except FaultGroup as group:
            faults = [*faults, *group.faults]
        except OSError as error:
            faults = [*faults, _unreadable(spec.path, error)]
        return manifest, [*faults, *self._lock(spec)]

    def _lock(self, spec: SpecFile) -> list[Fault]:
        from wanrec.reconcile.lockfile_parse import parse_lock

        name = lock_name(spec.path)
        try:
            lock = parse_lock(self.read(spec.absolute.with_name(os.path.basename(name))), name)
        except FileNotFoundError:
            return []
        except OSError as error:
            return [_unreadable(name, error)]
        except FaultGroup as group:
            return list(group.faults)
        self.locks[spec.path] = lock
        self.digests[name] = lock.sha256
        return []

    def _cascade(self, spec: SpecFile) -> tuple[list[DefaultsFile], list[Fault]]:
        """Return the defaults that apply to a spec, nearest first, and their faults."""
        found: list[DefaultsFile] = []
        faults: list[Fault] = []
        for folder in folders_above(Path(self.project_dir), spec):
            if folder not in self._defaults:
                self._defaults[folder] = self._defaults_of(folder)
            defaults, problems = self._defaults[folder]
            faults += problems
            if defaults is not None:
                found.append(defaults)
        return found, faults

    def _defaults_of(self, folder: str) -> tuple[DefaultsFile | None, list[Fault]]:
        from wanrec.reconcile.manifest import parse_defaults

        place = os.path.join(folder, DEFAULTS_FILE)
        name = relative_name(place, self.project_dir)
        try:
            defaults = parse_defaults(self.read(Path(place)), name)
        except FileNotFoundError:
            return None, []
        except OSError as error:
            return None, [_unreadable(name, error)]
        except FaultGroup as group:
            return None, list(group.faults)
        self.digests[name] = defaults.sha256
        return defaults, []


def _lock_hint(faults: Iterable[Fault]) -> str:
    """A lock file is not repaired by hand."""
    locks = sorted({fault.file for fault in faults if fault.file.endswith(LOCK_SUFFIX)})
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
