"""From a source that gives byte ranges to a part below the root: receive, journal, hash, resume.

Small files come in one answer and are hashed by the thread that received them. Big ones come in
parallel ranges, journaled, while one thread hashes the contiguous prefix. A source that ignores
ranges, and one that does not tell the size, is read once from the start.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, TypeVar

from wanrec.providers.base import Located, Provider, SourceFault, amount
from wanrec.providers.checksums import Checksum
from wanrec.providers.flushing import Flusher
from wanrec.providers.hashing import CAN_READ_AT, PrefixHasher, pieces_of, write_at
from wanrec.providers.limits import MIB, Limits
from wanrec.providers.pacing import Pace
from wanrec.providers.parts import Part, Parts
from wanrec.providers.pinned import PinnedSource
from wanrec.providers.receivers import RangesIgnoredError, Receivers
from wanrec.providers.reserving import reserve
from wanrec.providers.resume import ResumablePart, open_part
from wanrec.providers.retrying import Retries
from wanrec.providers.salvage import Salvage
from wanrec.reconcile.buffers import page_aligned
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.part_digests import PartDigests, hasher

__all__ = ["RangeTransfer", "Received"]

_T = TypeVar("_T")
_WRONG = frozenset({ErrorCode.CHECKSUM_FAIL, ErrorCode.SIZE_MISMATCH, ErrorCode.SOURCE_CHANGED})


class Received(NamedTuple):
    """A complete part and what its bytes are; digests of its parts where they cost nothing.

    A small file that need not lie in a part is `content`, and nothing of it is on the disk yet.
    """

    part: Part | None
    sha256: str
    size: int
    etag: str | None
    digests: PartDigests | None = None
    content: memoryview | None = None


class RangeTransfer:
    """One file from one source: a context manager around the received part.

    On success the caller lands `Received.part` inside the block. A failure that a later attempt
    may continue keeps the part and its journal; wrong bytes are dropped. `after` is the fault of
    an attempt that was made before, of a file that comes in one answer.
    """

    def __init__(
        self,
        provider: Provider,
        located: Located,
        *,
        size: int | None,
        sha256: str | None,
        parts: Parts,
        pace: Pace,
        retries: Retries,
        limits: Limits,
        translate: Callable[[OSError, str], WanrecError],
        salvage: Salvage | None = None,
        after: SourceFault | None = None,
    ) -> None:
        self._after = after
        self._salvage = salvage
        self._digests: PartDigests | None = None
        self._source = PinnedSource(provider, located, size)
        self._sha256 = sha256
        self._parts = parts
        self._pace = pace
        self._retries = retries
        self._limits = limits
        self._translate = translate
        self._part: Part | None = None
        self._resumable: ResumablePart | None = None

    def __enter__(self) -> Received:
        try:
            return self._receive()
        except BaseException as exc:
            self._leave(exc)
            raise

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(exc)

    def _leave(self, exc: BaseException | None) -> None:
        resumable = self._resumable
        may_continue = resumable is not None and exc is not None and _may_continue(exc, resumable)
        if resumable is not None and may_continue and resumable.keep():
            return
        if exc is not None and self._part is not None:
            self._parts.discard(self._part)
        if resumable is not None:
            resumable.drop_journal()

    def _receive(self) -> Received:
        if self._source.size is not None and self._sha256 is not None:
            return self._receive_known()
        told = self._source.ask()
        self._pace.total = self._source.size
        received = self._receive_known()
        if self._sha256 is None and told is not None:
            self._vouched(received, told)
        return received

    def _vouched(self, received: Received, told: Located) -> None:
        """Without a hash of ours, what the source says about its bytes has to hold."""
        holds = told.sha256 in (None, received.sha256)
        if told.sha256 is None and told.checksum is not None:
            holds = self._holds(told.checksum, received)
        if not holds:
            raise self._source.provider.error(
                ErrorCode.CHECKSUM_FAIL,
                f"{self._source.path!r} came with other bytes than the source vouches for",
            )

    def _holds(self, checksum: Checksum, received: Received) -> bool:
        if received.content is not None:
            return checksum.holds([received.content])
        part = received.part
        assert part is not None
        return self._on_disk(part, lambda: checksum.holds(pieces_of(part.fd)))

    def _receive_known(self) -> Received:
        size = self._source.size
        if size is not None and size < self._limits.small_file:
            return self._receive_small(size)
        if size is None or self._sha256 is None or not CAN_READ_AT:
            self._part = self._parts.create(self._sha256 or secrets.token_hex(8))
            return self._receive_stream(self._part)
        return self._receive_ranges(size, self._sha256)

    def _receive_small(self, size: int) -> Received:
        content = self._persistently(lambda: self._read_small(size))
        if self._parts.private:
            sha256 = hashlib.sha256(content).hexdigest()
            return Received(None, sha256, size, self._source.etag, None, content)
        self._part = self._parts.create(self._sha256 or secrets.token_hex(8))
        self._write(self._part, content, 0)
        return self._received(self._part, hashlib.sha256(content).hexdigest(), size)

    def _read_small(self, size: int) -> memoryview:
        self._pace.restart()
        self._source.pin(None)
        buffer, filled = memoryview(bytearray(size + 1)), 0
        with self._source.open(0, None) as body:
            step = self._pace.bandwidth.step(len(buffer))
            while filled <= size and (count := body.readinto(buffer[filled : filled + step])):
                filled += count
                self._pace.moved(count)
        if filled != size:
            raise self._source.wrong_size(amount(filled, size))
        return buffer[:size]

    def _receive_stream(self, part: Part) -> Received:
        sha256, size = self._persistently(lambda: self._read_stream(part))
        return self._received(part, sha256, size)

    def _read_stream(self, part: Part) -> tuple[str, int]:
        """Read a whole file of any size in one answer, from its first byte."""
        self._pace.restart()
        self._source.pin(None)
        size = self._source.size
        most = self._limits.undeclared_size if size is None else size
        digest, at = hashlib.sha256(), 0
        buffer = page_aligned(self._limits.receive_buffer)
        step = self._pace.bandwidth.step(len(buffer))
        with self._source.open(0, None) as body:
            self._on_disk(part, lambda: os.ftruncate(part.fd, 0))
            while count := body.readinto(buffer[: min(step, most - at + 1)]):
                if at + count > most:
                    raise self._source.wrong_size(amount(at + count, most))
                chunk = buffer[:count]
                self._write(part, chunk, at)
                digest.update(chunk)
                at += count
                self._pace.moved(count)
        if size is not None and at != size:
            raise self._source.wrong_size(amount(at, size))
        return digest.hexdigest(), at

    def _receive_ranges(self, size: int, sha256: str) -> Received:
        resumable = self._resumable = open_part(self._parts, sha256, size)
        part = self._part = resumable.part
        restarts = 0
        if self._salvage is not None and self._salvage.parts.size == size:
            self._on_disk(part, lambda: self._refill(resumable, size))
        while True:
            resumed = resumable.done.total() > 0
            try:
                digest = self._on_disk(part, lambda: self._fill(resumable, size))
            except RangesIgnoredError:
                self._start_over(resumable)
                return self._receive_stream(part)
            except SourceFault as fault:
                if not fault.restart or restarts:
                    raise
            else:
                if digest == sha256 or not resumed:
                    return self._received(part, digest, size)
            # Stale bytes, or a stale validator: once more from the start, and then no more.
            restarts += 1
            self._start_over(resumable)

    def _refill(self, resumable: ResumablePart, size: int) -> None:
        assert self._salvage is not None
        gaps = list(resumable.done.gaps(size))
        reserve(resumable.part.fd, size)
        self._salvage.refill(resumable.part.fd, gaps, resumable.wrote, self._pace.check)

    def _fill(self, resumable: ResumablePart, size: int) -> str:
        self._bind(resumable)
        self._pace.restart()
        self._pace.already(resumable.done.total())
        reserve(resumable.part.fd, size)
        prefix = self._hasher(resumable.part.fd, size)
        flusher = Flusher(resumable, self._limits)
        try:
            prefix.start()
            flusher.start()
            for start, stop in resumable.done:
                prefix.wrote(start, stop)
            receivers = Receivers(
                self._source,
                resumable,
                prefix,
                flusher,
                limits=self._limits,
                pace=self._pace,
                retries=self._retries,
            )
            receivers.fill(list(resumable.done.gaps(size)))
            sha256 = prefix.finish()
            flusher.finish()
            self._digests = prefix.parts(sha256)
            return sha256
        finally:
            prefix.cancel()
            flusher.close()

    def _hasher(self, fd: int, size: int) -> PrefixHasher:
        parts = None if self._salvage is not None else hasher(size)
        return PrefixHasher(fd, parts)

    def _bind(self, resumable: ResumablePart) -> None:
        """Ask on under the validator of the attempt before, when it was the same source."""
        same = resumable.source == self._source.provider.name
        self._source.pin(resumable.etag if same else None)

    def _start_over(self, resumable: ResumablePart) -> None:
        self._on_disk(resumable.part, resumable.reset)
        self._source.pin(None)
        self._pace.restart()

    def _received(self, part: Part, sha256: str, size: int) -> Received:
        return Received(part, sha256, size, self._source.etag, self._digests)

    def _persistently(self, attempt: Callable[[], _T]) -> _T:
        number = 0
        while True:
            before = self._pace.received
            try:
                after, self._after = self._after, None
                if after is not None:
                    raise after
                return attempt()
            except SourceFault as fault:
                if self._source.renew_after(fault):
                    continue
                number += 1
                progressed = self._pace.received - before >= MIB
                self._retries.again(fault, number, progressed=progressed)

    def _write(self, part: Part, chunk: memoryview, at: int) -> None:
        self._on_disk(part, lambda: write_at(part.fd, chunk, at))

    def _on_disk(self, part: Part, act: Callable[[], _T]) -> _T:
        try:
            return act()
        except OSError as exc:
            raise self._translate(exc, part.rel) from exc


def _may_continue(exc: BaseException, resumable: ResumablePart) -> bool:
    """Bytes that are not known to be wrong are worth keeping for the next attempt."""
    wrong = isinstance(exc, WanrecError) and exc.code in _WRONG
    return not wrong and resumable.done.total() > 0
