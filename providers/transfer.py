"""Bytes from the first source that delivers them into a verified private file of the stage.

In goes a `FetchRequest` with its sources in order; out comes a `Fetched` whose file is named by
the sha256 that was computed from what landed. Identity is the hash, whoever delivers. Errors of a
source move on to the next one; errors of our own disk do not, because the next source would meet
the same disk. Nothing is flushed to the disk here: the caller flushes in batches.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from wanrec.providers import provider_for, quick
from wanrec.providers.base import (
    Located,
    Provider,
    ProviderContext,
    Session,
    SourceFault,
    TransferEvent,
)
from wanrec.providers.copying import Copied, LocalCopy
from wanrec.providers.fetching import (
    LIES,
    Fetched,
    FetchRequest,
    all_failed,
    check_sha256,
    check_size,
    failure_line,
    is_sources_fault,
)
from wanrec.providers.limits import Limits
from wanrec.providers.local import open_regular
from wanrec.providers.pacing import Bandwidth, OnEvent, Pace, interrupted
from wanrec.providers.parts import BLOB_DIR, Part, Parts, StageDir
from wanrec.providers.retrying import Retries, RetryBudget
from wanrec.providers.salvage import Salvage
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import Via

if TYPE_CHECKING:
    from wanrec.providers.ranges import Received

__all__ = ["Fetcher"]

_DEAD = frozenset(
    {ErrorCode.SOURCE_UNAVAILABLE, ErrorCode.NETWORK_TIMEOUT, ErrorCode.STALLED, ErrorCode.OFFLINE}
)


class Fetcher:
    """Fetches files; `fetch` blocks and may be called from several threads.

    One instance serves one run: it remembers which sources lied or did not answer. A source that
    delivered wrong bytes, or is not there, is asked again only for files that no other source of
    theirs can deliver, and for one file never twice.
    """

    def __init__(
        self,
        stage: StageDir,
        limits: Limits,
        on_event: OnEvent,
        stop: threading.Event,
        *,
        translate_os_error: Callable[[OSError, str], WanrecError],
        no_failover: bool = False,
        blob_dir: str = BLOB_DIR,
    ) -> None:
        self._parts = Parts(stage, blob_dir)
        self._limits = limits
        self._on_event = on_event
        self._stop = stop
        self._translate = translate_os_error
        self._no_failover = no_failover
        self._bandwidth = Bandwidth(limits.bwlimit)
        self._lock = threading.Lock()
        self._session = Session(stop)
        self._budgets: dict[str, RetryBudget] = {}
        self._providers: dict[tuple[str, ProviderContext], Provider] = {}
        self._liars: set[str] = set()
        self._dead_until: dict[str, float] = {}

    def fetch(self, request: FetchRequest) -> Fetched:
        """Bring one file from the first source that delivers it.

        Raises:
            WanrecError: CHECKSUM_FAIL when every source failed and one delivered wrong bytes,
                else the code of the last one; the detail lists all. LOCAL_IO codes, INTERRUPTED
                and a URL that is none end the fetch at once.
        """
        failures: list[WanrecError] = []
        candidates = self._in_order(request.sources)
        for position, (url, context) in enumerate(candidates):
            try:
                return self._from_source(request, url, context, failures)
            except WanrecError as error:
                if not is_sources_fault(error):
                    error.address = error.address or request.address
                    raise
                failures.append(error)
                self._remember(url, error)
                if self._no_failover:
                    break
                if position + 1 < len(candidates):
                    self._tell_failover(request, error)
        raise all_failed(request, failures)

    def _in_order(
        self, sources: tuple[tuple[str, ProviderContext], ...]
    ) -> list[tuple[str, ProviderContext]]:
        now = time.monotonic()

        def rank(source: tuple[str, ProviderContext]) -> int:
            if source[0] in self._liars:
                return 2
            return 1 if self._dead_until.get(source[0], now) > now else 0

        with self._lock:
            unique = list(dict.fromkeys(sources))
            doubted = self._liars or self._dead_until
            return sorted(unique, key=rank) if doubted and not self._no_failover else unique

    def _remember(self, url: str, error: WanrecError) -> None:
        with self._lock:
            if error.code in LIES:
                self._liars.add(url)
            elif error.code in _DEAD:
                self._dead_until[url] = time.monotonic() + self._limits.dead_source_s

    def _tell_failover(self, request: FetchRequest, error: WanrecError) -> None:
        self._on_event(
            TransferEvent.FAILOVER,
            {
                "address": request.address,
                "source": error.source,
                "code": error.code.value,
                "summary": error.summary,
            },
        )

    def _provider(self, url: str, context: ProviderContext) -> Provider:
        with self._lock:
            provider = self._providers.get((url, context))
            if provider is None:
                provider = self._providers[url, context] = provider_for(url, context)
                provider.session = self._session
            return provider

    def _from_source(
        self,
        request: FetchRequest,
        url: str,
        context: ProviderContext,
        failures: list[WanrecError],
    ) -> Fetched:
        provider = self._provider(url, context)
        if self._stop.is_set():
            raise interrupted()
        fetched = self._copy_kept(request, provider)
        if fetched is None:
            apt = self._parts.private and quick.is_apt(request, provider, self._limits)
            fetched = (self._bring_quickly if apt else self._bring)(request, provider)
        if not failures:
            return fetched
        return attrs.evolve(fetched, failovers=tuple(failure_line(failure) for failure in failures))

    def _bring_quickly(self, request: FetchRequest, provider: Provider) -> Fetched:
        """Bring a small file in one answer; after a fault of the source as any other file."""
        assert request.size is not None
        try:
            whole = provider.whole(request.path, request.size)
        except SourceFault as fault:
            return self._bring(request, provider, fault)
        self._bandwidth.passed += request.size
        return quick.landed(request, provider, whole, self._put)

    def _bring(
        self, request: FetchRequest, provider: Provider, after: SourceFault | None = None
    ) -> Fetched:
        """Bring a file; `after`: the fault of a first attempt."""
        pace = self._pace(request, provider)
        located = provider.locate(request.path)
        if located.local_path is None:
            return self._receive(request, provider, located, pace, after)
        return self._copy_local(request, provider, located, pace)

    def _pace(self, request: FetchRequest, provider: Provider) -> Pace:
        return Pace(
            bandwidth=self._bandwidth,
            stop=self._stop,
            on_event=self._on_event,
            fields={"address": request.address, "source": provider.name},
            total=request.size,
            interval_s=self._limits.progress_interval_s,
            deadline_s=self._limits.file_deadline_s,
            late=lambda: provider.error(
                ErrorCode.NETWORK_TIMEOUT, f"{request.path!r} took too long altogether"
            ),
        )

    def _copy_kept(self, request: FetchRequest, provider: Provider) -> Fetched | None:
        """Take the file from what the source's own tools keep here; None when they have it not."""
        if request.sha256 is None:
            return None
        for file in provider.kept(request.path, size=request.size, sha256=request.sha256):
            located = Located(source=provider.name, path=request.path, local_path=file)
            pace = self._pace(request, provider)
            try:
                fetched = self._copy_local(request, provider, located, pace)
            except WanrecError as error:
                if not is_sources_fault(error):
                    raise
                continue  # damaged there: that is no reason to doubt the source itself
            return attrs.evolve(fetched, bytes_fetched=0)
        return None

    def _receive(
        self,
        request: FetchRequest,
        provider: Provider,
        located: Located,
        pace: Pace,
        after: SourceFault | None = None,
    ) -> Fetched:
        from wanrec.providers.ranges import RangeTransfer

        with self._lock:
            capacity = self._limits.retry_budget
            budget = self._budgets.setdefault(provider.name, RetryBudget(capacity))
        transfer = RangeTransfer(
            provider,
            located,
            size=request.size,
            sha256=request.sha256,
            parts=self._parts,
            pace=pace,
            retries=Retries(self._limits, budget, pace),
            limits=self._limits,
            translate=self._translate,
            salvage=request.salvage,
            after=after,
        )
        with transfer as received:
            check_sha256(request, provider, received.sha256)
            staged = self._land(received)
        return Fetched(
            sha256=received.sha256,
            size=received.size,
            source=provider.name,
            revision=located.revision,
            etag=received.etag,
            bytes_fetched=pace.received,
            via=Via.FETCH,
            staged=staged,
            digests=received.digests,
            content=received.content,
        )

    def _land(self, received: Received) -> str:
        sha256 = received.sha256
        if received.content is None:
            assert received.part is not None
            return self._parts.land(received.part, sha256, received.size)
        return self._put(received.content, sha256)

    def _put(self, content: memoryview, sha256: str) -> str:
        try:
            return self._parts.put(content, sha256)
        except OSError as exc:
            raise self._translate(exc, self._parts.blob(sha256)) from exc

    def _copy_local(
        self, request: FetchRequest, provider: Provider, located: Located, pace: Pace
    ) -> Fetched:
        assert located.local_path is not None
        source = open_regular(provider, located.local_path, request.path)
        try:
            before = os.fstat(source)
            check_size(request, provider, before.st_size)
            part = self._parts.create(request.sha256 or secrets.token_hex(8))
            try:
                copied = self._copy(request, provider, pace, source, part, before)
                check_sha256(request, provider, copied.sha256)
                staged = self._parts.land(part, copied.sha256, copied.size)
            except BaseException:
                self._parts.discard(part)
                raise
        finally:
            os.close(source)
        return Fetched(
            sha256=copied.sha256,
            size=copied.size,
            source=provider.name,
            revision=located.revision,
            etag=located.etag,
            bytes_fetched=copied.moved,
            via=copied.via,
            staged=staged,
            digests=copied.digests,
        )

    def _copy(
        self,
        request: FetchRequest,
        provider: Provider,
        pace: Pace,
        source: int,
        part: Part,
        before: os.stat_result,
    ) -> Copied:
        """Copy with the help of the damaged file; when that comes out wrong, without it."""
        copied = self._local_copy(request, provider, pace, part, request.salvage).run(
            source, part.fd, before
        )
        if request.salvage is None or copied.sha256 == request.sha256:
            return copied
        pace.restart()
        return self._local_copy(request, provider, pace, part, None).run(source, part.fd, before)

    def _local_copy(
        self,
        request: FetchRequest,
        provider: Provider,
        pace: Pace,
        part: Part,
        salvage: Salvage | None,
    ) -> LocalCopy:
        return LocalCopy(
            provider,
            request.path,
            limits=self._limits,
            pace=pace,
            translate=lambda exc: self._translate(exc, part.rel),
            salvage=salvage,
        )

    def close(self) -> None:
        """Close connections that were kept for later files."""
        self._session.close()
