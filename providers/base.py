"""The provider seam: one source of model files, behind few abstract methods.

A `Provider` is made for one source URL and one context. Its public methods are templates: they
check names and limits, refuse the network when offline, and turn every foreign exception into a
`WanrecError` that names the source without secrets. Concrete classes implement the underscored
methods and know nothing of hashing, retries, failover or the disk below the root.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import attrs

from wanrec.providers.limits import Limits
from wanrec.providers.listing import checked_listing
from wanrec.providers.located import CatalogueEntry, Located, SourceHealth, Whole, amount
from wanrec.providers.source_url import SourceUrl, redacted
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.names import check_path

__all__ = [
    "Body",
    "CatalogueEntry",
    "Located",
    "Provider",
    "ProviderContext",
    "Session",
    "SourceFault",
    "SourceHealth",
    "TransferEvent",
    "Whole",
    "amount",
]


class TransferEvent(enum.StrEnum):
    """What a transfer reports while it runs. Values are the contract's event words."""

    PROGRESS = "action_progress"
    RETRY = "action_retry"
    FAILOVER = "action_failover"


@attrs.frozen(kw_only=True, cache_hash=True)
class ProviderContext:
    """What a provider needs to know besides its URL.

    Attributes:
        base: folder of the spec file; relative local sources start here.
        local_root: where relative local sources start instead, when set.
        offline: no network at all.
        allow_http: plain http:// beyond loopback is allowed.
        environ: the environment; may hold secrets, never printed.
        limits: bounds on time, size and number.
    """

    base: Path
    local_root: Path | None = None
    offline: bool = False
    allow_http: bool = False
    environ: Mapping[str, str] = attrs.field(factory=dict, eq=False, repr=False)
    limits: Limits = attrs.field(factory=Limits, repr=False)


class SourceFault(WanrecError):
    """An error of a source that says how to go on with that same source.

    Attributes:
        retry_after: seconds the source asked to wait, or None.
        retries: most further attempts that make sense, None for the usual number.
        restart: True when bytes fetched so far must be dropped before the next attempt.
        reached: position up to which the broken answer was received, or None.
    """

    retry_after: float | None = None
    retries: int | None = None
    restart: bool = False
    reached: int | None = None

    def twin(self) -> SourceFault:
        """The same fault for another file: whoever catches one writes into it whose it is."""
        twin = SourceFault(
            self.code, self.summary, detail=self.detail, source=self.source, hint=self.hint
        )
        twin.retry_after, twin.retries, twin.restart = self.retry_after, self.retries, self.restart
        return twin


class Session:
    """What the providers of one run share: the stop event, and pools by name."""

    def __init__(self, stop: threading.Event | None = None) -> None:
        self.stop = stop or threading.Event()
        self._lock = threading.Lock()
        self._shared: dict[str, object] = {}

    def shared(self, name: str, make: Callable[[], object]) -> object:
        """Return the object of that name, made by the first who asks."""
        with self._lock:
            if name not in self._shared:
                self._shared[name] = make()
            return self._shared[name]

    def close(self) -> None:
        """Close what is shared, where it can be closed."""
        with self._lock:
            shared, self._shared = self._shared, {}
        for thing in shared.values():
            close = getattr(thing, "close", None)
            if close is not None:
                close()


class Body(ABC):
    """Bytes of one answer: a context manager that is read once, front to back.

    Attributes:
        start: offset of the first byte in the file.
        stop: offset after the last byte, or None when the source did not say.
        total: size of the whole file, or None when the source did not say.
        etag: validator of this answer, or None.
        whole: True when the source sent the whole file though a range was asked for.
    """

    start: int = 0
    stop: int | None = None
    total: int | None = None
    etag: str | None = None
    whole: bool = False

    @abstractmethod
    def readinto(self, buffer: memoryview) -> int:
        """Fill part of the buffer; 0 is the end of the answer."""

    def splice(self, pipe: int, most: int) -> int | None:
        """Move at most so many bytes into a pipe, inside the kernel; 0 is the end of the answer.

        None where that cannot be: then `readinto` is called for them.
        """
        return None

    def abandon(self) -> None:  # noqa: B027 - a source that never waits need not do anything
        """Called by another thread: let a `readinto` that waits now fail soon."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file or connection; safe to call twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Provider(ABC):
    """One source. Thread-safe: `locate` and `open_range` are called from several threads.

    Attributes:
        needs_network: refused with OFFLINE when the context says so.
        gives_local_paths: `locate` returns a `local_path` that the transfer may copy itself.
        lists: the source can say which files it has.
        session: what it shares with the other providers of the run; set by the transfer.
    """

    needs_network: ClassVar[bool] = True
    gives_local_paths: ClassVar[bool] = False
    lists: ClassVar[bool] = True

    def __init__(self, url: SourceUrl, context: ProviderContext) -> None:
        self.url = url
        self.context = context
        self.name = redacted(url.text)
        self.session = Session()

    def locate(self, path: str, *, probe: bool = False) -> Located:
        """Say where a file is. Without `probe` no request is made when none is needed.

        Raises:
            WanrecError: UNSAFE_PATH, PATH_TOO_LONG, OFFLINE, NOT_FOUND_AT_SOURCE, AUTH_FAIL or
                another source code.
        """
        fault = check_path(path)
        if fault is not None:
            raise self.error(fault.code, fault.message)
        self._require_network()
        with self._translated(path):
            return self._locate(path, probe)

    def kept(self, path: str, *, size: int | None, sha256: str) -> Iterator[Path]:
        """Yield files of this machine that may have the content already; no network.

        Nobody has looked at their bytes: the caller computes the sha256.
        """
        return iter(()) if check_path(path) is not None else self._kept(path, size, sha256)

    def catalogue(self) -> Iterator[CatalogueEntry]:
        """List the files of this source, each once, sorted by path.

        Raises:
            WanrecError: UNSAFE_PATH for a name that no disk may hold; INVALID_MANIFEST for a
                listing that is too long, repeats itself or has sizes or digests that are none;
                OFFLINE and other source codes.
        """
        self._require_network()
        with self._translated(""):
            return iter(self._checked_listing())

    def open_range(self, located: Located, start: int, stop: int | None) -> Body:
        """Open bytes ``start`` up to ``stop`` (None: to the end) of a located file.

        The caller must look at `Body.whole`: a source may ignore ranges and send everything.

        Raises:
            WanrecError: RANGE_MISMATCH when the answer is another range; SOURCE_CHANGED when
                the pinned validator no longer holds; other source codes.
        """
        self._require_network()
        with self._translated(located.path):
            body = self._open_range(located, start, stop)
        mismatch = _range_fault(located, body, start, stop)
        if mismatch is not None:
            body.close()
            fault = self.error(*mismatch)
            fault.restart = fault.code is ErrorCode.SOURCE_CHANGED
            raise fault
        return body

    def whole(self, path: str, size: int) -> Whole:
        """Bring a small file of known size in one answer; nothing is tried twice.

        Raises:
            WanrecError: as `locate` and `open_range`; SIZE_MISMATCH.
        """
        located = self.locate(path)
        with self._translated(path):
            return self._whole(located, size)

    def wrong_size(self, path: str, found: str, size: int | None) -> SourceFault:
        """Make the error of a file that is shorter or longer than it must be."""
        wanted = "" if size is None else f", {size} are expected"
        fault = self.error(ErrorCode.SIZE_MISMATCH, f"{path!r} has {found} at the source{wanted}")
        fault.retries = 0
        return fault

    def check(self) -> SourceHealth:
        """Test the source without moving a model file. Never raises a source error."""
        try:
            self._require_network()
            with self._translated(""):
                detail = self._check()
        except WanrecError as error:
            return SourceHealth(
                source=self.name, ok=False, code=error.code, detail=error.summary, hint=error.hint
            )
        return SourceHealth(source=self.name, ok=True, detail=detail)

    def refresh(self, located: Located) -> Located | None:
        """Give a located file a new address or token, once after AUTH_FAIL; None: it cannot."""
        return None

    def error(
        self, code: ErrorCode, summary: str, *, detail: str = "", hint: str = ""
    ) -> SourceFault:
        """Make an error that names this source; the texts must hold no secrets."""
        return SourceFault(code, summary, detail=detail, source=self.name, hint=hint)

    @abstractmethod
    def _locate(self, path: str, probe: bool) -> Located: ...

    @abstractmethod
    def _catalogue(self) -> Iterator[CatalogueEntry]: ...

    @abstractmethod
    def _open_range(self, located: Located, start: int, stop: int | None) -> Body: ...

    def _whole(self, located: Located, size: int) -> Whole:
        with self._open_range(located, 0, None) as body:
            if body.total not in (None, size):
                raise self.wrong_size(located.path, f"{body.total} bytes", size)
            buffer, filled = memoryview(bytearray(size + 1)), 0
            while filled <= size and (count := body.readinto(buffer[filled:])):
                filled += count
            if filled != size:
                raise self.wrong_size(located.path, amount(filled, size), size)
            return Whole(buffer[:size], body.etag, located.revision)

    def _kept(self, path: str, size: int | None, sha256: str) -> Iterator[Path]:
        return iter(())

    def _check(self) -> str:
        count = sum(1 for _ in self._checked_listing())
        return f"{count} files"

    def _require_network(self) -> None:
        if self.needs_network and self.context.offline:
            raise self.error(
                ErrorCode.OFFLINE,
                "this source needs the network, and --offline is set",
                hint="run without --offline, or add a local:// source",
            )

    def _checked_listing(self) -> list[CatalogueEntry]:
        return checked_listing(self._catalogue(), self.context.limits.max_listing, self.error)

    @contextlib.contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise self.translate(exc, path) from exc

    def translate(self, exc: OSError, path: str) -> SourceFault:
        """Turn an OSError of *reading the source* into an error of the contract."""
        code, what = _OS_CODES.get(exc.errno or 0, (ErrorCode.SOURCE_UNAVAILABLE, "cannot read"))
        if isinstance(exc, TimeoutError):
            code, what = ErrorCode.NETWORK_TIMEOUT, "timed out"
        subject = f"{path!r} at the source" if path else "the source"
        return self.error(code, f"{what}: {subject}", detail=exc.strerror or type(exc).__name__)


_OS_CODES = {
    errno.ENOENT: (ErrorCode.NOT_FOUND_AT_SOURCE, "not found"),
    errno.ENOTDIR: (ErrorCode.NOT_FOUND_AT_SOURCE, "not found"),
    errno.EISDIR: (ErrorCode.NOT_FOUND_AT_SOURCE, "a folder, not a file"),
    errno.EACCES: (ErrorCode.AUTH_FAIL, "not allowed to read"),
    errno.EPERM: (ErrorCode.AUTH_FAIL, "not allowed to read"),
    errno.ELOOP: (ErrorCode.UNSAFE_PATH, "a symlink that leads nowhere"),
    errno.ENAMETOOLONG: (ErrorCode.PATH_TOO_LONG, "name too long"),
    errno.EMFILE: (ErrorCode.TOO_MANY_FILES, "too many open files"),
    errno.ENFILE: (ErrorCode.TOO_MANY_FILES, "too many open files"),
    errno.ETIMEDOUT: (ErrorCode.NETWORK_TIMEOUT, "timed out"),
}


def _range_fault(
    located: Located, body: Body, start: int, stop: int | None
) -> tuple[ErrorCode, str] | None:
    if located.etag is not None and body.etag is not None and body.etag != located.etag:
        return ErrorCode.SOURCE_CHANGED, f"{located.path!r} changed at the source"
    if body.whole:
        return None
    asked = f"{start}-{'' if stop is None else stop - 1}"
    expected = body.total if stop is None else min(stop, body.total or stop)
    if body.start != start or (expected is not None and body.stop not in (expected, None)):
        answer = f"{body.start}-{'' if body.stop is None else body.stop - 1}"
        return ErrorCode.RANGE_MISMATCH, f"asked for bytes {asked}, the answer has {answer}"
    if located.size is not None and body.total is not None and body.total != located.size:
        return (
            ErrorCode.SOURCE_CHANGED,
            f"{located.path!r} has {body.total} bytes at the source, {located.size} before",
        )
    return None
