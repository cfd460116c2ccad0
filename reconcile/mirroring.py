"""`wanrec mirror`: specs, locks and model files onto a disk or bucket, for those who come later.

Takes what lies whole under the root and hashes every byte on the way; a file that is not what its
spec says never gets its name there. The place is a project of its own (its specs are found in it)
and a source: ``--mirror DEST`` tries it first. What an earlier run brought stays as it is; a run
that was cut short goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import attrs

from wanrec.providers import shelf_for
from wanrec.providers.base import ProviderContext
from wanrec.providers.limits import Limits
from wanrec.providers.shelf import Shelf
from wanrec.providers.source_url import parse_source, redacted
from wanrec.reconcile.disk_errors import translate_os_error
from wanrec.reconcile.engine_files import read_input
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.mirroring_folder import FolderShelf
from wanrec.reconcile.mirroring_sums import SUMS, dump_sums, parse_sums

if TYPE_CHECKING:
    from wanrec.reconcile.desired import SelectArgs
    from wanrec.reconcile.model import DesiredModel
    from wanrec.reconcile.workbench import Workbench

__all__ = ["Mirrored", "mirror"]

_CHUNK = 1024 * 1024
_SUMS_EVERY = 256 * _CHUNK
"""A killed run sends at most these bytes again to a place that vouches for nothing."""


@attrs.frozen(kw_only=True)
class Mirrored:
    """What was done: files copied and kept, their bytes, and models that are not whole here."""

    copied: int = 0
    kept: int = 0
    bytes_copied: int = 0
    models: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


def mirror(
    bench: Workbench,
    dest: str,
    select: SelectArgs,
    *,
    progress: Callable[[int], None],
    stop: threading.Event,
) -> Mirrored:
    """Copy the selected models that lie whole under the root.

    Args:
        bench: settings, specs and root.
        dest: a folder, ``local://`` or ``file://`` URL of one, or ``s3://BUCKET/PREFIX``.
        select: which models; their specs come along.
        progress: told of bytes as they are read.
        stop: ends the work early.

    Raises:
        WanrecError: INVALID_CONFIG for a place that cannot be written to; CHECKSUM_FAIL when a
            file under the root is not what the spec says; NO_SPACE before anything is copied;
            disk errors; AUTH_FAIL and other source codes of a bucket; OFFLINE; INTERRUPTED.
    """
    desired = bench.collect(select)
    chosen = [m for m in desired.models if desired.selection.has_model(m.key)]
    whole = [model for model in chosen if _is_whole(bench.root, model)]
    shelf = _shelf(bench, dest)
    with contextlib.closing(shelf):
        run = _Run(shelf, progress, stop)
        run.models(list(_jobs(bench.root, whole)))
        for source in desired.sources:
            run.small(_inside(source.path), read_input(bench.project_dir / source.path))
        run.write_sums()
    wanted = {model.key for model in chosen if model.installed}
    return Mirrored(
        copied=run.copied,
        kept=run.kept,
        bytes_copied=run.bytes_copied,
        models=tuple(model.key for model in whole),
        absent=tuple(sorted(wanted - {model.key for model in whole})),
    )


def _shelf(bench: Workbench, dest: str) -> Shelf:
    if "://" not in dest:
        return _folder(bench, Path(dest))
    try:
        url = parse_source(dest)
    except WanrecError as error:
        error.code = ErrorCode.INVALID_CONFIG
        raise
    if url.scheme in ("local", "file"):
        return _folder(bench, Path(url.location))
    if bench.settings.offline:
        raise WanrecError(
            ErrorCode.OFFLINE,
            "a bucket needs the network, and --offline is set",
            source=redacted(dest),
            hint="run without --offline, or mirror into a folder",
        )
    context = ProviderContext(
        base=bench.project_dir,
        allow_http=bench.settings.allow_http,
        environ=bench.environ,
        limits=Limits(),
    )
    shelf = shelf_for(url, context)
    if shelf is None:
        raise WanrecError(
            ErrorCode.INVALID_CONFIG,
            f"a mirror is written into a folder or an S3 bucket, not to {url.scheme}://",
            source=redacted(dest),
            hint="wanrec mirror FOLDER, or wanrec mirror s3://BUCKET/PREFIX",
        )
    return shelf


def _folder(bench: Workbench, folder: Path) -> Shelf:
    if folder.resolve().is_relative_to(bench.root.resolve()):
        raise WanrecError(
            ErrorCode.INVALID_CONFIG,
            "a mirror lies outside the root: what is in the root belongs to its models",
            where=str(folder),
            hint="wanrec mirror FOLDER, with a folder on another disk",
        )
    return FolderShelf(folder)


def _inside(path: str) -> str:
    """A spec from outside the project keeps its name only."""
    return path if not path.startswith(("../", "/")) else f"specs/{path.rpartition('/')[2]}"


def _is_whole(root: Path, model: DesiredModel) -> bool:
    folder = root / model.directory
    return all(
        file.optional
        or ((path := folder / file.path).is_file() and file.size in (None, path.stat().st_size))
        for file in model.files
    )


class _Job(NamedTuple):
    """One file: what it is called there, where it lies, what it must be."""

    name: str
    place: Path
    address: str
    size: int
    sha256: str


def _jobs(root: Path, models: list[DesiredModel]) -> Iterator[_Job]:
    for model in models:
        for file in model.files:
            place = root / model.directory / file.path
            if file.optional and not place.is_file():
                continue
            size = place.stat().st_size if file.size is None else file.size
            yield _Job(
                name=f"{model.directory}/{file.source_path or file.path}",
                place=place,
                address=f"{model.key}::{file.path}",
                size=size,
                sha256=file.sha256 or _digest(place),
            )


def _digest(place: Path) -> str:
    with _reading(place) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextlib.contextmanager
def _reading(place: Path) -> Iterator[BufferedReader]:
    try:
        with place.open("rb") as opened:
            yield opened
    except OSError as error:
        raise translate_os_error(error, str(place), "read") from error


class _Run:
    """One run onto one shelf."""

    def __init__(
        self, shelf: Shelf, progress: Callable[[int], None], stop: threading.Event
    ) -> None:
        self.copied = self.kept = self.bytes_copied = 0
        self._shelf = shelf
        self._progress = progress
        self._stop = stop
        self._unsaid = 0
        self._before = parse_sums(shelf.read(SUMS) or b"")
        self._sums: dict[str, str] = {}

    def models(self, jobs: list[_Job]) -> None:
        """Copy model files, all but those that an earlier run did.

        Raises:
            WanrecError: see `mirror`; what was copied until then is in SHA256SUMS.
        """
        todo = [job for job in jobs if not self._is_there(job)]
        self._check_room(sum(job.size for job in todo))
        try:
            for job in todo:
                self._copy(job)
        except WanrecError:
            with contextlib.suppress(WanrecError):
                self.write_sums()
            raise

    def small(self, name: str, data: bytes) -> None:
        """Copy a spec or lock file; a changed one replaces the earlier."""
        self._shelf.write(name, data)
        self._sums[name] = hashlib.sha256(data).hexdigest()

    def write_sums(self) -> None:
        """Write SHA256SUMS, in the form `sha256sum -c` reads; what is gone is left out."""
        earlier = self._before.keys() - self._sums.keys()
        still = self._shelf.present(earlier) if earlier else set()
        self._before = {name: self._before[name] for name in still}
        self._shelf.write(SUMS, dump_sums({**self._before, **self._sums}))
        self._unsaid = 0

    def _is_there(self, job: _Job) -> bool:
        self._check_stop()
        known = self._shelf.vouches or self._before.get(job.name) == job.sha256
        if not (known and self._shelf.holds(job.name, job.size, job.sha256)):
            return False
        self._sums[job.name] = job.sha256
        self.kept += 1
        return True

    def _check_room(self, needed: int) -> None:
        room = self._shelf.room()
        if room is not None and needed > room:
            raise WanrecError(
                ErrorCode.NO_SPACE,
                f"the models need {needed} more bytes, and {room} are free",
                where=self._shelf.name,
                hint="wanrec mirror DEST MODEL brings one model at a time",
            )

    def _copy(self, job: _Job) -> None:
        with _reading(job.place) as opened:
            self._shelf.put(job.name, _Outgoing(job, opened, self._progress, self._check_stop))
        self._sums[job.name] = job.sha256
        self.copied += 1
        self.bytes_copied += job.size
        self._unsaid += job.size
        if self._unsaid >= _SUMS_EVERY and not self._shelf.vouches:
            self.write_sums()

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise WanrecError(
                ErrorCode.INTERRUPTED, "stopped", hint="wanrec mirror: the next run goes on"
            )


class _Outgoing:
    """A file of the root on its way to the shelf; see `Incoming`."""

    def __init__(
        self,
        job: _Job,
        opened: BufferedReader,
        progress: Callable[[int], None],
        check_stop: Callable[[], None],
    ) -> None:
        self._job = job
        self._opened = opened
        self._progress = progress
        self._check_stop = check_stop
        self._hash = hashlib.sha256()
        self._left = job.size

    @property
    def size(self) -> int:
        """Bytes it gives."""
        return self._job.size

    @property
    def sha256(self) -> str:
        """Their digest."""
        return self._job.sha256

    def read(self, count: int) -> bytes:
        """Give bytes; the end is only reached by a file that is what its spec says."""
        taken: list[bytes] = []
        while (wanted := min(count, self._left, _CHUNK)) > 0:
            self._check_stop()
            try:
                chunk = self._opened.read(wanted)
            except OSError as error:
                raise translate_os_error(error, str(self._job.place), "read") from error
            if not chunk:
                break
            self._hash.update(chunk)
            self._left -= len(chunk)
            count -= len(chunk)
            self._progress(len(chunk))
            taken.append(chunk)
        if not taken:
            self._check_whole()
        return b"".join(taken)

    def _check_whole(self) -> None:
        if self._left or self._opened.read(1) or self._hash.hexdigest() != self._job.sha256:
            raise WanrecError(
                ErrorCode.CHECKSUM_FAIL,
                "the file under the root is not what the spec says",
                address=self._job.address,
                where=str(self._job.place),
                hint="wanrec drift --deep, then wanrec apply",
            )
