"""Finds the spec files of a run and reads them, their lock files and their `defaults.toml`.

The only module that reads spec files; what they mean is decided elsewhere. Specs come from the
words of the command line, else ``WAN_MODELS_MANIFEST``, else the project's spec folders. Specs that
words name do not hide the project's other specs: those are read too, for look-ups, and their
faults do not stop the run. All faults of all files come together.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import attrs

from wanrec.reconcile.errors import ErrorCode, Fault, FaultGroup, WanrecError

if TYPE_CHECKING:
    from wanrec.reconcile.lockfile import LockFile
    from wanrec.reconcile.manifest import DefaultsFile, Manifest
    from wanrec.reconcile.model import SpecSource

__all__ = [
    "Collection",
    "FoundSpecs",
    "SpecFile",
    "collect",
    "digests",
    "find_specs",
    "load",
    "read_file",
]

DEFAULTS_FILE = "defaults.toml"
LOCK_SUFFIX = ".lock.toml"
_NOT_SPECS = (DEFAULTS_FILE, "pyproject.toml", "wanrec.toml")
Read = Callable[[Path], bytes]


class SpecFile(NamedTuple):
    """A spec file: POSIX path relative to the project directory, and where it lies."""

    path: str
    absolute: Path


@attrs.frozen(kw_only=True)
class FoundSpecs:
    """The spec files of a run.

    Attributes:
        files: sorted by path.
        words: each word, or first part of a node id, that names specs → their paths.
        given: every path that words name.
        guests: those of them that are no spec files of the project.
        named: the paths whose faults stop the run; None: all.
    """

    files: tuple[SpecFile, ...]
    words: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    given: frozenset[str] = frozenset()
    guests: frozenset[str] = frozenset()
    named: frozenset[str] | None = None


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


def find_specs(
    project_dir: Path,
    words: Sequence[str] = (),
    manifest: str | None = None,
    spec_paths: Sequence[str] = ("specs",),
    cwd: Path | None = None,
) -> FoundSpecs:
    """Return the spec files of a run, without reading any.

    Args:
        project_dir: what spec paths are relative to.
        words: the command line's words; those that are no specs are left alone.
        manifest: ``WAN_MODELS_MANIFEST``: one spec file or folder.
        spec_paths: files, folders or globs below the project directory.
        cwd: where relative words start; None: the project directory.

    Raises:
        WanrecError: MISSING_MANIFEST when a word names no spec file, or there is none at all.
    """
    finder = _Finder(project_dir, cwd or project_dir)
    spec_words: dict[str, tuple[str, ...]] = {}
    for word in words:
        first = word.partition("::")[0]
        found = finder.word(first, in_node_id=first != word)
        if found is not None:
            spec_words[first] = found
    given = frozenset(path for paths in spec_words.values() for path in paths)
    project = finder.project(manifest, spec_paths, required=not given)
    only_specs = bool(words) and all(word.partition("::")[0] in spec_words for word in words)
    return FoundSpecs(
        files=tuple(sorted(finder.files.values())),
        words=spec_words,
        given=given,
        guests=given - project,
        named=given if only_specs else None,
    )


class _Finder:
    """Collects spec files by path while words and settings are looked through."""

    def __init__(self, project_dir: Path, cwd: Path) -> None:
        self.project_dir = os.path.abspath(project_dir)
        self.cwd = os.path.abspath(cwd)
        self.files: dict[str, SpecFile] = {}

    def word(self, word: str, *, in_node_id: bool) -> tuple[str, ...] | None:
        """Return the specs a word names, None when it is a MODEL."""
        is_toml = word.endswith(".toml")
        if not is_toml and (in_node_id or "@" in word or "[" in word):
            return None
        for base in (self.cwd, self.project_dir):
            place = os.path.normpath(os.path.join(base, word))
            if is_toml and glob.has_magic(word):  # the shell had no match, or was kept from looking
                if specs := list(self._expand(place)):
                    return tuple(self._add(spec) for spec in specs)
            elif os.path.isdir(place):
                return self._folder(place, word)
            if os.path.exists(place):
                return (self._file(place, word),)
        if is_toml or "/" in word or os.sep in word:
            raise _missing(f"there is no spec file {word}")
        return None

    def project(
        self, manifest: str | None, spec_paths: Sequence[str], *, required: bool
    ) -> frozenset[str]:
        """Return the project's own spec files."""
        if manifest:
            return frozenset(self._environment(manifest, required=required))
        places = [place for path in spec_paths for place in self._expand(path)]
        if required and not places:
            looked = ", ".join(spec_paths)
            raise _missing(f"no spec file found in {looked} below {self.project_dir}")
        return frozenset(self._add(place) for place in places)

    def _environment(self, manifest: str, *, required: bool) -> Iterable[str]:
        place = os.path.normpath(os.path.join(self.cwd, manifest))
        if os.path.isdir(place):
            return [self._add(file) for file in _walk(place)]
        if os.path.exists(place):
            return [self._add(place)]
        if required:
            raise _missing(f"WAN_MODELS_MANIFEST names {manifest}, which does not exist")
        return ()

    def _expand(self, spec_path: str) -> Iterator[str]:
        whole = os.path.join(self.project_dir, spec_path)
        for place in sorted(glob.glob(whole, recursive=True)) if glob.has_magic(whole) else [whole]:
            if os.path.isdir(place):
                yield from _walk(place)
            elif os.path.isfile(place) and _is_spec(os.path.basename(place)):
                yield place

    def _folder(self, place: str, word: str) -> tuple[str, ...]:
        found = tuple(self._add(file) for file in _walk(place))
        if not found:
            raise _missing(f"the folder {word} holds no spec file")
        return found

    def _file(self, place: str, word: str) -> str:
        name = os.path.basename(place)
        if name.endswith(LOCK_SUFFIX):
            spec = word.removesuffix(LOCK_SUFFIX) + ".toml"
            raise _missing(f"{word} is a lock file", f"name its spec file: {spec}")
        if name == DEFAULTS_FILE:
            raise _missing(f"{word} holds defaults of a folder", "name a spec file or the folder")
        return self._add(place)

    def _add(self, place: str) -> str:
        path = _relative(os.path.normpath(place), self.project_dir)
        self.files.setdefault(path, SpecFile(path, Path(os.path.normpath(place))))
        return path


def _walk(folder: str) -> Iterator[str]:
    """Yield the spec files below a folder, in order; hidden files and folders are passed over."""
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(here, name) for name in sorted(names) if _is_spec(name))


def _is_spec(name: str) -> bool:
    return (
        name.endswith(".toml")
        and not name.startswith(".")
        and not name.endswith(LOCK_SUFFIX)
        and name not in _NOT_SPECS
    )


def _relative(place: str, start: str) -> str:
    try:
        path = os.path.relpath(place, start)
    except ValueError:  # another drive on Windows
        path = place
    return path.replace(os.sep, "/")


def _missing(summary: str, hint: str = "") -> WanrecError:
    return WanrecError(
        ErrorCode.MISSING_MANIFEST,
        summary,
        hint=hint or "`wanrec init` writes a starter spec, specs/models.toml",
    )


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
        places[_lock_path(spec.path)] = Path(_lock_path(str(spec.absolute)))
        for folder in _folders(project_dir, spec):
            place = os.path.join(folder, DEFAULTS_FILE)
            places[_relative(place, os.path.abspath(project_dir))] = Path(place)
    known: dict[str, str] = {}
    for path, absolute in places.items():
        try:
            known[path] = hashlib.sha256(read(absolute)).hexdigest()
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return known


def _folders(project_dir: Path, spec: SpecFile) -> list[str]:
    """The spec's folder, and those above it up to the project directory."""
    folder = str(spec.absolute.parent)
    folders = [folder]
    inside = os.path.join(os.path.abspath(project_dir), "")
    while folder.startswith(inside):
        folder = os.path.dirname(folder)
        folders.append(folder)
    return folders


def _lock_path(spec: str) -> str:
    return spec.removesuffix(".toml") + LOCK_SUFFIX


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
        from wanrec.reconcile.lockfile import parse_lock

        name = _lock_path(spec.path)
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
        for folder in _folders(Path(self.project_dir), spec):
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
        name = _relative(place, self.project_dir)
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
