"""Finds the spec files of a run, without reading any.

Specs come from the words of the command line, else ``WAN_MODELS_MANIFEST``, else the project's
spec folders. Specs that words name do not hide the project's other specs: those are found too, for
look-ups, and `FoundSpecs.named` says whose faults stop the run.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import attrs

from wanrec.reconcile.errors import ErrorCode, WanrecError

__all__ = [
    "DEFAULTS_FILE",
    "LOCK_SUFFIX",
    "FoundSpecs",
    "SpecFile",
    "find_specs",
    "folders_above",
    "lock_name",
    "relative_name",
]

DEFAULTS_FILE = "defaults.toml"
LOCK_SUFFIX = ".lock.toml"
_NOT_SPECS = (DEFAULTS_FILE, "pyproject.toml", "wanrec.toml")


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
        WanrecError: MISSING_MANIFEST when a word names no spec file, or there is none at all;
            USAGE for an empty word.
    """
    finder = _Finder(project_dir, cwd or project_dir)
    spec_words: dict[str, tuple[str, ...]] = {}
    for word in words:
        if not word:
            raise WanrecError(
                ErrorCode.USAGE,
                "an empty word selects nothing",
                hint="is a variable of the shell unset? leave the word out to select everything",
            )
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
        path = relative_name(os.path.normpath(place), self.project_dir)
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


def relative_name(place: str, start: str) -> str:
    """Return a path as POSIX text relative to `start`, both absolute and normal."""
    inside = os.path.join(start, "")
    try:
        path = place[len(inside) :] if place.startswith(inside) else os.path.relpath(place, start)
    except ValueError:  # another drive on Windows
        path = place
    return path.replace(os.sep, "/")


def _missing(summary: str, hint: str = "") -> WanrecError:
    return WanrecError(
        ErrorCode.MISSING_MANIFEST,
        summary,
        hint=hint or "`wanrec init` writes a starter spec, specs/models.toml",
    )


def folders_above(project_dir: Path, spec: SpecFile) -> list[str]:
    """Return the spec's folder, and those above it up to the project directory."""
    folder = os.path.dirname(str(spec.absolute))
    folders = [folder]
    inside = os.path.join(os.path.abspath(project_dir), "")
    while folder.startswith(inside):
        folder = os.path.dirname(folder)
        folders.append(folder)
    return folders


def lock_name(spec: str) -> str:
    """Return the lock file's name for a spec file: ``a/x.toml`` → ``a/x.lock.toml``."""
    return spec.removesuffix(".toml") + LOCK_SUFFIX
