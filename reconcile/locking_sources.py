"""What the sources of one model have: their listings, revisions and digests.

Knows the provider seam and nothing of lock files. A source that cannot be asked is passed over
with a warning while another one answers. Digests are taken from what a source states; local files
are read; remote ones are read too when they are small, or when that was asked for.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import attrs

from wanrec.providers import provider_for
from wanrec.providers.base import CatalogueEntry, Located, Provider, ProviderContext, Session
from wanrec.reconcile.buffers import page_aligned
from wanrec.reconcile.content import Stop, hash_fd
from wanrec.reconcile.disk_errors import translate_os_error
from wanrec.reconcile.errors import ErrorCode, WanrecError

__all__ = ["SMALL", "Desk", "Listing", "git_blob_id", "is_git_blob"]

SMALL = 16 * 1024 * 1024
"""A remote file up to this many bytes is read without being asked for."""
_T = TypeVar("_T")
_S = TypeVar("_S")
_CHUNK = 1024 * 1024
_TRIES = 3
_WHOLE_REVISIONS = frozenset({"hf", "package"})
"""Schemes whose revision is one for all files; an S3 version belongs to a single object."""
_is_sha1 = re.compile(r"[0-9a-f]{40}").fullmatch
_NOT_CREDIBLE = (ErrorCode.UNSAFE_PATH, ErrorCode.PATH_TOO_LONG, ErrorCode.INVALID_MANIFEST)


def git_blob_id(data: bytes) -> str:
    """Return the id git gives to these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def is_git_blob(entry: CatalogueEntry) -> bool:
    """True when the listing names the git blob of the bytes themselves, not of an LFS pointer."""
    return entry.blob_id is not None and not entry.sha256 and bool(_is_sha1(entry.blob_id))


class Listing(NamedTuple):
    """One source that answered. `entries` is empty when the source cannot list."""

    url: str
    provider: Provider
    entries: Mapping[str, CatalogueEntry]

    @property
    def local(self) -> bool:
        """True when its files can be read at the price of a local disk."""
        return self.provider.gives_local_paths


@attrs.define(kw_only=True)
class Desk:
    """Asks sources on behalf of one run of `wanrec lock`.

    Attributes:
        context: how relative and remote URLs are resolved.
        warn: told of each source that did not answer.
        progress: told of bytes as they are read.
        stop: ends reading early.
        threads: files read at the same time.
    """

    context: ProviderContext
    warn: Callable[[str], None]
    progress: Callable[[int], None]
    stop: Stop
    threads: int = 2
    session: Session = attrs.field(factory=Session)

    def open(self, url: str) -> Provider:
        """Make the provider of one source; raises WanrecError for a URL that is none."""
        provider = provider_for(url, self.context)
        provider.session = self.session
        return provider

    def listings(self, urls: Iterable[str], paths: Iterable[str]) -> list[Listing]:
        """List every source that answers, in order; `paths` are asked of those that cannot list.

        Raises:
            WanrecError: the last source's error, when none answered.
        """
        found: list[Listing] = []
        failures: list[tuple[str, WanrecError]] = []
        asked = tuple(paths)
        for url in urls:
            self.check_stop()
            try:
                found.append(self._listing(url, asked))
            except WanrecError as error:
                if error.code in _NOT_CREDIBLE:
                    raise
                failures.append((url, error))
        # The last one is the error itself where nothing answered; no valid model has no sources.
        last = None if found else failures.pop()[1]
        for url, failure in failures:
            self.warn(f"{failure.source or url}: {failure.summary}")
        if last is not None:
            raise last
        return found

    def _listing(self, url: str, paths: tuple[str, ...]) -> Listing:
        provider = self.open(url)
        if provider.lists:
            # Not asked again here: the SDKs behind the listings are patient by themselves.
            listed = provider.catalogue()
            return Listing(url, provider, {entry.path: entry for entry in listed})
        if not paths:
            raise provider.error(
                ErrorCode.NOT_FOUND_AT_SOURCE,
                "this source cannot list its files",
                hint="list them in the spec: path is enough",
            )
        entries = [entry for path in paths if (entry := self._probed(provider, path)) is not None]
        return Listing(url, provider, {entry.path: entry for entry in entries})

    def _probed(self, provider: Provider, path: str) -> CatalogueEntry | None:
        try:
            located = self._patiently(lambda: provider.locate(path, probe=True))
        except WanrecError as error:
            if error.code is ErrorCode.NOT_FOUND_AT_SOURCE:
                return None
            raise
        if located.size is None:
            raise provider.error(
                ErrorCode.SOURCE_UNAVAILABLE, f"the source does not say how long {path!r} is"
            )
        return CatalogueEntry(
            path=path, size=located.size, sha256=located.sha256, etag=located.etag
        )

    def revision(self, provider: Provider, path: str) -> str | None:
        """The commit or version that all files of a source belong to, if it has such a thing."""
        if provider.url.scheme not in _WHOLE_REVISIONS:
            return None
        located = self._patiently(lambda: provider.locate(path))
        if located.revision is None and not provider.gives_local_paths:
            located = self._patiently(lambda: provider.locate(path, probe=True))
        return located.revision

    def stated(self, listing: Listing, entry: CatalogueEntry) -> Located | None:
        """Ask a remote source about one file: it may state a digest that its listing left out.

        Raises:
            WanrecError: SOURCE_CHANGED when the size or the ETag is not the listed one.
        """
        if listing.local or not listing.provider.lists or is_git_blob(entry):
            return None
        located = self._patiently(lambda: listing.provider.locate(entry.path, probe=True))
        if located.size not in (None, entry.size) or (
            entry.etag and located.etag not in (None, entry.etag)
        ):
            raise _changed(listing.provider, entry.path)
        return located

    def content(self, listing: Listing, entry: CatalogueEntry) -> bytes:
        """The bytes of one small file, checked against its git blob id where there is one.

        Raises:
            WanrecError: SOURCE_CHANGED when they are not what was listed; source codes.
        """
        data = bytearray()
        self._read(listing, entry, data.extend)
        return bytes(data)

    def digest(self, listing: Listing, entry: CatalogueEntry) -> str:
        """Read one file and return its sha256.

        Raises:
            WanrecError: SOURCE_CHANGED when it changed under the reading; source codes.
        """
        if listing.local:
            return self._local_digest(listing, entry)
        digest = hashlib.sha256()
        self._read(listing, entry, digest.update)
        return digest.hexdigest()

    def _local_digest(self, listing: Listing, entry: CatalogueEntry) -> str:
        place = listing.provider.locate(entry.path).local_path
        assert place is not None
        try:
            fd = os.open(place, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            try:
                before = os.fstat(fd)
                found, size = hash_fd(fd, entry.size, stop=self.stop, progress=self.progress)
                after = os.fstat(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise translate_os_error(error, str(place), "read") from error
        if size != entry.size or _moved(before, after):
            raise _changed(listing.provider, entry.path)
        return found

    def _read(
        self, listing: Listing, entry: CatalogueEntry, take: Callable[[memoryview], object]
    ) -> None:
        provider = listing.provider
        git = hashlib.sha1(b"blob %d\0" % entry.size, usedforsecurity=False)
        ask = provider.lists and not listing.local and not is_git_blob(entry)
        located = self._patiently(lambda: provider.locate(entry.path, probe=ask))
        located = attrs.evolve(located, size=entry.size, etag=entry.etag or located.etag)
        vouched = located.checksum.begin() if located.checksum is not None else None
        total = 0
        if entry.size:
            with provider.open_range(located, 0, None) as body:
                buffer = page_aligned(min(_CHUNK, entry.size + 1))
                while total <= entry.size and (count := body.readinto(buffer)):
                    take(buffer[:count])
                    git.update(buffer[:count])
                    if vouched is not None:
                        vouched.update(buffer[:count])
                    total += count
                    self.progress(count)
                    self.check_stop()
        if total != entry.size or (is_git_blob(entry) and git.hexdigest() != entry.blob_id):
            raise _changed(provider, entry.path)
        if vouched is not None and not vouched.holds():
            raise provider.error(
                ErrorCode.CHECKSUM_FAIL,
                f"{entry.path!r} came with other bytes than the source vouches for",
            )

    def at_once(self, work: Callable[[_S], _T], items: Sequence[_S]) -> list[_T]:
        """Do the work for all items, several at a time; the first failure is raised."""
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(self.threads, "wanrec-lock") as pool:
            return list(pool.map(work, items))

    def check_stop(self) -> None:
        """Raise INTERRUPTED when the run is to end."""
        if self.stop.is_set():
            raise WanrecError(ErrorCode.INTERRUPTED, "stopped; nothing was written")

    def _patiently(self, ask: Callable[[], _T]) -> _T:
        """Ask again when the answer may be another one in a moment."""
        for left in range(_TRIES - 1, -1, -1):
            self.check_stop()
            try:
                return ask()
            except WanrecError as error:
                if left and error.code.retryable and error.exit_code == 5:
                    continue
                raise
        raise AssertionError("the last try returns or raises")


def _moved(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)


def _changed(provider: Provider, path: str) -> WanrecError:
    return provider.error(
        ErrorCode.SOURCE_CHANGED,
        f"{path!r} is not what the listing said a moment ago",
        hint="wanrec lock",
    )
