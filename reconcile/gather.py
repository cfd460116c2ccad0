"""Brings the verified bytes of one model together: hashes, donors, staged files, fetches.

In: the actions of one model (made under its lock). Out: for each path where its verified bytes lie
now and what the record will say. Nothing is put at a final path here; a file that fails is
reported, the verified ones stay staged for the next run.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Mapping
from typing import Protocol

import attrs

from wanrec.providers.base import ProviderContext
from wanrec.providers.fetching import Fetched, FetchRequest
from wanrec.providers.salvage import Salvage
from wanrec.reconcile import content, part_records
from wanrec.reconcile.actions import Action
from wanrec.reconcile.disk import Root
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import (
    ActionKind,
    Assurance,
    DesiredModel,
    EntryKind,
    FileFact,
    FileSpec,
    Reason,
    Via,
)
from wanrec.reconcile.stage import BLOBS
from wanrec.reconcile.stage_identity import same_identity
from wanrec.reconcile.stage_origins import Origin, read_origins
from wanrec.reconcile.telemetry import span

__all__ = ["FetchFiles", "Gathered", "Gatherer"]


class FetchFiles(Protocol):
    """The one thing gathering needs from the providers."""

    def fetch(self, request: FetchRequest) -> Fetched:
        """Deliver one verified file into the stage; raises WanrecError when no source can."""


@attrs.frozen(kw_only=True)
class Gathered:
    """Where the verified bytes of one path lie, and how the record will describe them.

    Attributes:
        origin: root-relative path of the bytes.
        take: the origin is a private staged file.
        in_place: the bytes already lie at the final path and stay there.
        identity: stat of the origin when it was verified.
        kind: of the action it was gathered for.
        bytes_fetched: bytes that came over from a source in this run.
        replaced: a verify that found wrong bytes and fetched the right ones.
    """

    path: str
    origin: str
    take: bool
    in_place: bool
    identity: FileFact
    size: int
    sha256: str
    assurance: Assurance = Assurance.VERIFIED
    source: str | None = None
    revision: str | None = None
    etag: str | None = None
    via: Via | None = None
    bytes_fetched: int = 0
    replaced: bool = False
    kind: ActionKind = ActionKind.CREATE


class Gatherer:
    """Gathers single files of one model; thread-safe, one call per action.

    Args:
        root: the opened root.
        fetcher: delivers files from sources.
        model: the desired model, for its files, sources and policy.
        context: how its source URLs are resolved.
        paths: address → root-relative path of recorded files (donors).
        twins: sha256 → root-relative path of a file this run has already committed.
        stop: set when the run is asked to stop.
        private: root-relative folder of this run's verified files.
        extra_sources: model → URLs tried before its own (`--mirror`); asked when one is needed.
    """

    def __init__(
        self,
        root: Root,
        fetcher: FetchFiles,
        model: DesiredModel,
        context: ProviderContext,
        paths: Callable[[str], str | None],
        twins: Callable[[str], str | None],
        stop: threading.Event,
        private: str,
        extra_sources: Callable[[DesiredModel], tuple[str, ...]],
    ) -> None:
        self._private = private
        self._root = root
        self._fetcher = fetcher
        self._model = model
        self._context = context
        self._paths = paths
        self._twins = twins
        self._stop = stop
        self._extra_sources = extra_sources
        self._specs: Mapping[str, FileSpec] = {file.path: file for file in model.files}

    @functools.cached_property
    def _origins(self) -> dict[str, Origin]:
        """Who delivered what waits in the shared stage, as far as it is known."""
        return read_origins(self._root)

    @functools.cached_property
    def _waiting(self) -> frozenset[str]:
        """Names in the shared stage when the first file was gathered; later ones are missed."""
        try:
            with self._root.folder(BLOBS) as (fd, prefix):
                return frozenset(os.listdir(prefix if fd is None else fd))
        except (OSError, WanrecError):
            return frozenset()

    def gather(self, action: Action) -> Gathered:
        """Return where the verified bytes for this action lie.

        Raises:
            WanrecError: the code of what went wrong, with the address.
        """
        spec = self._specs[action.path]
        about = {
            "model": action.model,
            "variant": action.variant,
            "address": action.address,
            "action": action.action.value,
        }
        try:
            with span("wanrec.action", **about) as acting:
                got = self._dispatch(action, spec)
                if got.kind is not action.action:
                    got = attrs.evolve(got, kind=action.action)
                acting.set(bytes=got.size, source=got.source)
                return got
        except WanrecError as error:
            error.address = error.address or action.address
            raise

    def _dispatch(self, action: Action, spec: FileSpec) -> Gathered:
        match action.action:
            case ActionKind.VERIFY:
                return self._verify(action, spec)
            case ActionKind.ADOPT | ActionKind.MOVE:
                return self._adopt(action, spec)
            case ActionKind.REPLACE if action.donor is not None:
                return self._adopt(action, spec)
            case ActionKind.REPLACE:
                return self._bring(action, spec, damaged=self._final(action.path))
            case _:
                return self._bring(action, spec)

    def _final(self, path: str) -> str:
        return f"{self._model.directory}/{path}"

    def _verify(self, action: Action, spec: FileSpec) -> Gathered:
        here = self._final(action.path)
        found = self._hash(here)
        wanted = spec.sha256 or (action.before.sha256 if action.before else None)
        if found is not None and found[0] == wanted:
            return self._in_place(spec, here, found, Assurance.VERIFIED)
        return attrs.evolve(self._bring(action, spec, damaged=here), replaced=True)

    def _adopt(self, action: Action, spec: FileSpec) -> Gathered:
        donor = self._paths(action.donor) if action.donor else self._final(action.path)
        found = self._hash(donor) if donor else None
        if donor is None or found is None or found[0] != spec.sha256:
            # A bad or vanished donor is nobody's loss: the sources still have the bytes.
            return self._bring(action, spec)
        if action.donor is None:
            return self._in_place(spec, donor, found, Assurance.FOUND)
        return Gathered(
            path=spec.path,
            origin=donor,
            take=False,
            in_place=False,
            identity=found[1],
            size=found[1].size,
            sha256=found[0],
            assurance=Assurance.VERIFIED,
            source=f"adopt:{action.donor}",
            via=Via.LINK,
        )

    def _in_place(
        self, spec: FileSpec, here: str, found: tuple[str, FileFact], assurance: Assurance
    ) -> Gathered:
        return Gathered(
            path=spec.path,
            origin=here,
            take=False,
            in_place=True,
            identity=found[1],
            size=found[1].size,
            sha256=found[0],
            assurance=assurance,
        )

    def _bring(self, action: Action, spec: FileSpec, damaged: str | None = None) -> Gathered:
        ready = self._staged(spec) or self._committed_twin(action, spec)
        if ready is not None:
            return ready
        sources = self._extra_sources(self._model) + self._model.sources
        request = FetchRequest(
            address=action.address,
            path=spec.source_path or spec.path,
            size=spec.size,
            sha256=spec.sha256,
            sources=tuple((url, self._context) for url in sources),
            optional=spec.optional,
            salvage=None if damaged is None else self._salvage(damaged, spec),
        )
        with span("wanrec.fetch", address=action.address) as fetching:
            fetched = self._fetcher.fetch(request)
            attempt = 1 + len(fetched.failovers)
            fetching.set(source=fetched.source, bytes=fetched.bytes_fetched, attempt=attempt)
        if fetched.digests is not None:
            part_records.remember(self._root, fetched.digests)
        identity = self._root.stat(fetched.staged)
        self._check_content(fetched.staged, spec, fetched.content)
        return Gathered(
            path=spec.path,
            origin=fetched.staged,
            take=True,
            in_place=False,
            identity=identity,
            size=fetched.size,
            sha256=fetched.sha256,
            source=fetched.source,
            revision=fetched.revision,
            etag=fetched.etag,
            via=fetched.via,
            bytes_fetched=fetched.bytes_fetched,
        )

    def _salvage(self, damaged: str, spec: FileSpec) -> Salvage | None:
        """What may be left of the wanted bytes at a damaged place, where its parts are known."""
        parts = part_records.recall(self._root, spec.sha256, spec.size or 0)
        if parts is None:
            return None
        return Salvage(open=lambda: self._root.open_read(damaged), parts=parts)

    def _staged(self, spec: FileSpec) -> Gathered | None:
        """Bytes an earlier run verified and left in the stage, hashed again before use."""
        if spec.sha256 is None:
            return None
        shared, origin = f"{BLOBS}/{spec.sha256}", f"{self._private}/{spec.sha256}"
        if spec.sha256 not in self._waiting or self._root.stat(shared).kind is not EntryKind.FILE:
            return None
        self._root.make_dirs(self._private, 0o700)
        try:
            # A rename is the claim: of two runs that want the file, one gets it.
            self._root.rename(shared, origin)
        except WanrecError:
            return None
        found = self._hash(origin)
        if found is None or found[0] != spec.sha256:
            self._root.unlink(origin)
            return None
        self._check_content(origin, spec)
        delivered = self._origins.get(spec.sha256, Origin())
        return Gathered(
            path=spec.path,
            origin=origin,
            take=True,
            in_place=False,
            identity=found[1],
            size=found[1].size,
            sha256=found[0],
            source=delivered.source,
            revision=delivered.revision,
            etag=delivered.etag,
            via=Via.FETCH,
        )

    def _committed_twin(self, action: Action, spec: FileSpec) -> Gathered | None:
        """The same bytes as this run has just put into another model: fetched once, linked."""
        if spec.sha256 is None or action.reason is Reason.REQUESTED:
            return None
        twin = self._twins(spec.sha256)
        found = self._hash(twin) if twin else None
        if twin is None or found is None or found[0] != spec.sha256:
            return None
        return Gathered(
            path=spec.path,
            origin=twin,
            take=False,
            in_place=False,
            identity=found[1],
            size=found[1].size,
            sha256=found[0],
            source=f"adopt:{twin}",
            via=Via.LINK,
        )

    def _hash(self, path: str) -> tuple[str, FileFact] | None:
        """sha256 and identity of a file at rest; None when it is not a plain file or changed."""
        before = self._root.stat(path)
        if before.kind is not EntryKind.FILE:
            return None
        with span("wanrec.verify", **{"wanrec.bytes": before.size}):
            fd = self._root.open_read(path)
            try:
                digest, _ = content.hash_fd(fd, before.size, stop=self._stop)
            finally:
                os.close(fd)
        return (digest, before) if same_identity(before, self._root.stat(path)) else None

    def _check_content(self, staged: str, spec: FileSpec, held: memoryview | None = None) -> None:
        """Refuse and drop what may not land; `held` are its bytes, where they are still there."""
        allowed = self._model.policy.allow_pickle or bool(spec.allow_pickle)
        if held is not None:
            fault = content.inspect_bytes(held, spec.path, allow_pickle=allowed)
        else:
            fault = self._inspect(staged, spec.path, allow_pickle=allowed)
        if fault is None:
            return
        self._root.unlink(staged)
        raise WanrecError(
            fault.code,
            fault.message,
            hint=(
                'set allow_pickle = "reason" on the file, if you trust it'
                if fault.code is ErrorCode.POLICY_DENIED
                else "wanrec lock, or another source"
            ),
        )

    def _inspect(
        self, staged: str, path: str, *, allow_pickle: bool
    ) -> content.ContentFault | None:
        fd = self._root.open_read(staged)
        try:
            size = os.fstat(fd).st_size
            return content.inspect_content(fd, size, path, allow_pickle=allow_pickle)
        finally:
            os.close(fd)
