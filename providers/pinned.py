"""One file at one source, bound to the first answer: its size and its validator.

Every answer passes here before a byte of it is read. An answer of another size is refused, one of
another version is refused, and an address that has expired is renewed once.
"""

from __future__ import annotations

import contextlib
import threading

import attrs

from wanrec.providers.base import Body, Located, Provider, SourceFault
from wanrec.reconcile.errors import ErrorCode

__all__ = ["PinnedSource"]


class PinnedSource:
    """What the receivers of one file share. Thread-safe.

    Attributes:
        size: bytes the file must have, or None while nobody has said.
    """

    def __init__(self, provider: Provider, located: Located, size: int | None) -> None:
        self.provider = provider
        self.size = size
        self._located = located
        self._etag = located.etag
        self._lock = threading.Lock()
        self._renewed = False

    @property
    def path(self) -> str:
        """The file's path at the source."""
        return self._located.path

    @property
    def etag(self) -> str | None:
        """The validator of the answers so far, or None."""
        return self._etag

    def ask(self) -> Located | None:
        """Learn size, validator and checksums where the source tells them before it sends bytes."""
        with contextlib.suppress(SourceFault):
            self._located = self.provider.locate(self.path, probe=True)
            self._etag = self._located.etag
            if self.size is None:
                self.size = self._located.size
            return self._located
        return None

    def pin(self, etag: str | None) -> None:
        """Bind the next answers to a validator, or free them with None."""
        self._etag = etag

    def open(self, start: int, stop: int | None) -> Body:
        """Ask for bytes; the answer's size is checked and its validator is kept.

        Raises:
            SourceFault: SIZE_MISMATCH before a byte is read, and whatever the provider raises.
        """
        with self._lock:
            if self._located.etag != self._etag:
                self._located = attrs.evolve(self._located, etag=self._etag)
            located = self._located
        body = self.provider.open_range(located, start, stop)
        if None not in (body.total, self.size) and body.total != self.size:
            body.close()
            raise self.wrong_size(f"{body.total} bytes")
        if body.etag is not None and self._etag is None:
            self.pin(body.etag)
        return body

    def renew_after(self, fault: SourceFault) -> bool:
        """After AUTH_FAIL: get a new address, once; False when that changes nothing."""
        with self._lock:
            if fault.code is not ErrorCode.AUTH_FAIL or self._renewed:
                return False
            self._renewed = True
            fresh = self.provider.refresh(self._located)
            if fresh is None:
                return False
            self._located = attrs.evolve(fresh, etag=self._etag)
            return True

    def wrong_size(self, found: str) -> SourceFault:
        """The error of a file that is shorter or longer than it must be."""
        return self.provider.wrong_size(self.path, found, self.size)
