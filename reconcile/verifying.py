"""`wanrec verify`: the bytes of a folder against the specs, without any state.

Every wanted file is read. Works on a root, on one model's directory wherever it lies, and on a
mirror; looks, and changes nothing.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import attrs

from wanrec.reconcile.content import hash_many
from wanrec.reconcile.desired import SelectArgs
from wanrec.reconcile.errors import ErrorCode, ExitCode, WanrecError
from wanrec.reconcile.model import Presence

if TYPE_CHECKING:
    from wanrec.reconcile.model import Desired, DesiredModel, FileSpec
    from wanrec.reconcile.workbench import Workbench

__all__ = ["Finding", "Verified", "as_json", "verify"]


class Finding(NamedTuple):
    """One file that is not what the spec says.

    `kind`: missing, size, content or unreadable; `found`: what is there instead.
    """

    address: str
    kind: str
    expected: str
    found: str


@attrs.frozen(kw_only=True)
class Verified:
    """What was looked at, and what is wrong with it."""

    models: tuple[str, ...] = ()
    checked: int = 0
    findings: tuple[Finding, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """0 sound; 4 wrong bytes; 6 unreadable; 2 something is missing."""
        kinds = {finding.kind for finding in self.findings}
        if kinds & {"size", "content"}:
            return ExitCode.INTEGRITY
        if "unreadable" in kinds:
            return ExitCode.LOCAL_IO
        return ExitCode.DIFFERS if kinds else ExitCode.OK


def verify(
    bench: Workbench,
    word: str | None = None,
    select: SelectArgs | None = None,
    *,
    progress: Callable[[int], None] | None = None,
    stop: threading.Event | None = None,
) -> Verified:
    """Hash what a folder, a model, or the whole root holds.

    Args:
        bench: settings and specs.
        word: a folder or a MODEL; None: the root.
        select: which models and files of them; None: all.
        progress: told of bytes as they are read.
        stop: ends the work early.

    Raises:
        WanrecError: of the specs; NOTHING_SELECTED for a folder that no spec's model fits.
    """
    desired, places = _places(bench, word, select or SelectArgs())
    jobs = [
        (model, file, place)
        for model, place in places
        for file in model.files
        if desired.selection.has_address(f"{model.key}::{file.path}", model.key)
    ]
    found = [_looked_at(model, file, place) for model, file, place in jobs]
    readable = [one for one in found if isinstance(one, _Job)]
    results = hash_many(
        [job.place for job in readable],
        _open,
        sizes=[job.size for job in readable],
        threads=bench.settings.parallelism,
        stop=stop,
        progress=progress,
    )
    findings = [one for one in found if isinstance(one, Finding)]
    for job, result in zip(readable, results, strict=True):
        wrong = _judged(job, result)
        if wrong is not None:
            findings.append(wrong)
    return Verified(
        models=tuple(model.key for model, _ in places),
        checked=len(readable),
        findings=tuple(sorted(findings)),
    )


class _Job(NamedTuple):
    address: str
    place: str
    size: int
    sha256: str | None


def _places(
    bench: Workbench, word: str | None, select: SelectArgs
) -> tuple[Desired, list[tuple[DesiredModel, Path]]]:
    """Which selected models lie where."""
    folder = Path(word) if word is not None and Path(word).is_dir() else None
    if word is not None and folder is None:
        select = attrs.evolve(select, words=(word, *select.words))
    desired = bench.collect(select)
    chosen = [m for m in desired.models if desired.selection.has_model(m.key)]
    if folder is not None:
        return desired, _in_folder(chosen, folder)
    root = bench.root
    by_expression = select.keyword or select.marks or select.exclude
    named = bool(select.words) and desired.selection.partial and not by_expression
    return desired, [
        (model, root / model.directory)
        for model in chosen
        if (root / model.directory).is_dir()
        or (model.installed and (named or model.presence is Presence.REQUIRED))
    ]


def _in_folder(models: Sequence[DesiredModel], folder: Path) -> list[tuple[DesiredModel, Path]]:
    """Models below a folder (a root, a mirror, a family), or the one whose directory it is."""
    name = folder.resolve().name
    found = []
    for model in models:
        own = model.directory.rpartition("/")[2]
        below = [folder / model.directory, folder / own, folder if name == own else None]
        place = next((one for one in below if one is not None and one.is_dir()), None)
        if place is not None:
            found.append((model, place))
    if not found:
        fitting = [
            (sum((folder / file.path).is_file() for file in model.files), model) for model in models
        ]
        best = max((count for count, _ in fitting), default=0)
        found = [(model, folder) for count, model in fitting if best and count == best]
    if len(found) == 1 or (found and found[0][1] != folder):
        return found
    raise WanrecError(
        ErrorCode.NOTHING_SELECTED,
        f"{folder} is the directory of no model, or could be of several",
        where=str(folder),
        hint="wanrec verify MODEL looks at one model under the root",
    )


def _looked_at(model: DesiredModel, file: FileSpec, folder: Path) -> _Job | Finding | None:
    address = f"{model.key}::{file.path}"
    names = dict.fromkeys(name for name in (file.path, file.source_path) if name)
    for name in names:
        place = folder / name
        try:
            status = place.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            return Finding(address, "unreadable", _expected(file), error.strerror or "unreadable")
        if not stat.S_ISREG(status.st_mode):
            return Finding(address, "content", _expected(file), "not a regular file")
        if file.size is not None and status.st_size != file.size:
            return Finding(address, "size", f"{file.size} bytes", f"{status.st_size} bytes")
        return _Job(address, str(place), status.st_size, file.sha256)
    return None if file.optional else Finding(address, "missing", _expected(file), "nothing")


def _expected(file: FileSpec) -> str:
    return f"sha256:{file.sha256}" if file.sha256 else f"{file.size} bytes"


def _open(place: str) -> int:
    return os.open(place, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))


def _judged(job: _Job, result: tuple[str, int] | Exception) -> Finding | None:
    expected = f"sha256:{job.sha256}"
    if isinstance(result, OSError):
        return Finding(job.address, "unreadable", expected, result.strerror or "unreadable")
    if isinstance(result, Exception):
        raise result
    if job.sha256 in (None, result[0]):
        return None
    return Finding(job.address, "content", expected, f"sha256:{result[0]}")


def as_json(done: Verified) -> Mapping[str, object]:
    """The fields of the JSON document."""
    return {
        "verified": not done.findings,
        "models": list(done.models),
        "checked": done.checked,
        "items": [finding._asdict() for finding in done.findings],
    }
