"""`wanrec lock`: specs and their sources in, lock files out.

The one writer of lock files. What a fitting entry pins already is kept without a request; nothing
is written unless every model that had to be asked for was pinned. The text is byte-stable: the
same sources give the same file.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import attrs

from wanrec.providers.base import ProviderContext
from wanrec.reconcile.collect import load, read_file
from wanrec.reconcile.collect_find import LOCK_SUFFIX, find_specs
from wanrec.reconcile.engine_files import write_output
from wanrec.reconcile.engine_hooks import spec_reader
from wanrec.reconcile.engine_last_failed import expanded
from wanrec.reconcile.errors import ErrorCode, FaultGroup, WanrecError, worst_exit
from wanrec.reconcile.lockfile import LockedModel, LockFile, dump_lock, lock_path
from wanrec.reconcile.lockfile_parse import parse_lock, read_lock
from wanrec.reconcile.locking_choice import chosen_models
from wanrec.reconcile.locking_model import is_unchanged, needs_sources, pin_model
from wanrec.reconcile.locking_sources import Desk
from wanrec.reconcile.select_args import SelectArgs
from wanrec.reconcile.settings_limits import transfer_limits

if TYPE_CHECKING:
    from wanrec.reconcile.manifest import Manifest
    from wanrec.reconcile.manifest_models import ModelDecl
    from wanrec.reconcile.workbench import Workbench

__all__ = ["LockChange", "LockRequest", "lock_specs", "write_locks"]


def _quiet(_: object) -> None:
    """Nobody listens."""


@attrs.frozen(kw_only=True)
class LockRequest:
    """What `wanrec lock` is asked to do.

    Attributes:
        select: which models; a model is pinned whole.
        upgrade: ask the sources also for what is pinned.
        fetch: read large files whose digest no source states.
        offline: use local sources only.
        warn, progress, stop: see `Desk`.
    """

    select: SelectArgs = attrs.field(factory=SelectArgs)
    upgrade: bool = False
    fetch: bool = False
    offline: bool | None = None
    warn: Callable[[str], None] = _quiet
    progress: Callable[[int], None] = _quiet
    stop: threading.Event = attrs.field(factory=threading.Event)


@attrs.frozen(kw_only=True)
class LockChange:
    """One lock file before and after; `before` is None when there was none that could be read.

    Attributes:
        path: of the lock file, relative to the project directory.
        place: where it lies.
        text: what it should say; empty when the spec needs no lock file.
        changed: it does not say so yet.
    """

    path: str
    place: Path
    before: LockFile | None
    after: LockFile
    text: str
    changed: bool


def lock_specs(bench: Workbench, request: LockRequest) -> tuple[LockChange, ...]:
    """Work out the lock files of the chosen specs; writes nothing.

    Raises:
        FaultGroup: the specs have faults.
        WanrecError: the first model that could not be pinned; all of them are in its detail.
    """
    settings = bench.settings
    select = attrs.evolve(expanded(settings, request.select), declared_marks=settings.marks)
    found = find_specs(
        settings.project_dir,
        select.words,
        settings.manifest,
        settings.spec_paths,
        cwd=settings.cwd,
    )
    collection = load(settings.project_dir, found, read=_without_locks(spec_reader(settings)))
    places = {spec.path: spec.absolute for spec in found.files}
    chosen = chosen_models(
        select, collection, lambda manifest: _locked_paths(places[manifest.path], manifest)
    )
    locker = _Locker(bench, request, chosen)
    whole = not (select.words or select.keyword or select.marks or select.exclude)
    manifests = [
        manifest
        for manifest in collection.manifests
        if any(decl.id in chosen for decl in manifest.models)
        or (whole or manifest.path in found.given)
    ]
    changes = tuple(locker.spec(manifest, places[manifest.path]) for manifest in manifests)
    locker.close()
    return changes


def write_locks(changes: Iterable[LockChange]) -> None:
    """Write what changed, each file whole or not at all.

    Raises:
        WanrecError: what the disk said.
    """
    for change in changes:
        if change.changed and change.text:
            write_output(change.place, change.text.encode())
        elif change.changed:
            change.place.unlink(missing_ok=True)


def _without_locks(read: Callable[[Path], bytes]) -> Callable[[Path], bytes]:
    """Lock files are looked at later, and may be broken or outdated here."""

    def read_spec(path: Path) -> bytes:
        if path.name.endswith(LOCK_SUFFIX):
            raise FileNotFoundError(path)
        return read(path)

    return read_spec


def _locked_paths(spec: Path, manifest: Manifest) -> Mapping[str, Sequence[str]]:
    """Model id → paths, as far as the lock file beside a spec can be read."""
    name = lock_path(manifest.path)
    try:
        lock = read_lock(read_file(spec.with_name(os.path.basename(name))), name).lock
    except (OSError, FaultGroup):
        return {}
    return {key: [file.path for file in model.files] for key, model in lock.models.items()}


class _Before(NamedTuple):
    """What a lock file says now; `lost`: models whose entry there cannot be believed."""

    data: bytes = b""
    lock: LockFile | None = None
    lost: frozenset[str] = frozenset()

    def entry(self, model_id: str) -> LockedModel | None:
        """The entry of a model, if there is one to go by."""
        return self.lock.models.get(model_id) if self.lock else None


class _Locker:
    """Pins model after model; failures are collected, so that one run tells all of them."""

    def __init__(self, bench: Workbench, request: LockRequest, chosen: frozenset[str]) -> None:
        self._bench = bench
        self._request = request
        self._chosen = chosen
        self._failures: list[WanrecError] = []

    def spec(self, manifest: Manifest, place: Path) -> LockChange:
        """Work out one lock file."""
        name = lock_path(manifest.path)
        lock_place = place.with_name(os.path.basename(name))
        before = self._before(lock_place, name, manifest)
        chosen = self._chosen | before.lost
        desk = self._desk(manifest)
        try:
            entries = [
                (decl.id, self._entry(decl, before.entry(decl.id), desk, decl.id in chosen))
                for decl in manifest.models
            ]
        finally:
            desk.session.close()
        models: Mapping[str, LockedModel] = {key: entry for key, entry in entries if entry}
        after = LockFile(path=name, models=models)
        text = dump_lock(after) if models else ""
        changed = text.encode() != before.data
        if changed and text:
            self._read_back(text.encode(), name, manifest.path)
        return LockChange(
            path=name,
            place=lock_place,
            before=before.lock,
            after=after,
            text=text,
            changed=changed,
        )

    def close(self) -> None:
        """Raise what went wrong; nothing is written then."""
        if not self._failures:
            return
        first, *others = self._failures
        if others:
            worst = worst_exit([error.code for error in self._failures])
            first = next(error for error in self._failures if error.exit_code == worst)
            rest = [error for error in self._failures if error is not first]
            lines = [f"{error.address}: {error.summary}" for error in rest]
            first.detail = "\n".join(filter(None, [first.detail, *lines]))
        raise first

    def _before(self, place: Path, name: str, manifest: Manifest) -> _Before:
        try:
            data = read_file(place)
        except FileNotFoundError:
            return _Before()
        except OSError as error:
            from wanrec.reconcile.disk_errors import translate_os_error

            raise translate_os_error(error, name, "read") from error
        try:
            read = read_lock(data, name)
        except FaultGroup as group:
            if group.code is ErrorCode.SCHEMA_VERSION_MISMATCH:
                raise
            self._request.warn(
                f"{name} is broken and is made anew, every model of it as with --upgrade:"
                f" {group.faults[0].message}"
            )
            return _Before(data, None, frozenset(decl.id for decl in manifest.models))
        for fault in read.faults.faults if read.faults else ():
            self._request.warn(f"{fault}; it is asked for as with --upgrade")
        return _Before(data, read.lock, read.edited)

    def _read_back(self, data: bytes, name: str, spec: str) -> None:
        """What would be written must be a sound lock file: sources list what no disk may hold."""
        try:
            parse_lock(data, name)
        except FaultGroup as group:
            if not self._failures:  # else they are the reason, and are told
                hint = f"leave files out with ignore_patterns in {spec}, or list those you want"
                raise FaultGroup(group.faults, hint=hint) from None

    def _entry(
        self, decl: ModelDecl, old: LockedModel | None, desk: Desk, chosen: bool
    ) -> LockedModel | None:
        request = self._request
        if not chosen:
            return old
        try:
            needed = needs_sources(decl, old)
            if not needed and (old is None or not request.upgrade):
                return old
            if not needed and old is not None and is_unchanged(decl, old, desk):
                return old
            return pin_model(decl, old, desk, fetch=request.fetch)
        except WanrecError as error:
            if error.code is ErrorCode.INTERRUPTED:
                raise
            error.address = error.address or decl.id
            self._failures.append(error)
            return old

    def _desk(self, manifest: Manifest) -> Desk:
        settings, request = self._bench.settings, self._request
        context = ProviderContext(
            base=Path(settings.project_dir, manifest.path).parent,
            local_root=settings.local_root,
            offline=settings.offline if request.offline is None else request.offline,
            allow_http=settings.allow_http,
            environ=self._bench.environ,
            limits=transfer_limits(settings),
        )
        return Desk(
            context=context,
            warn=request.warn,
            progress=request.progress,
            stop=request.stop,
            threads=settings.parallelism,
        )
