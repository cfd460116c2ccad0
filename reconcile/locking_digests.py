"""The sha256 of every wanted file: stated by somebody, else found out, and never two of them.

What a listing states costs nothing. Else every source is asked: local copies are read and compared
with the git blob id where a Hub lists one, buckets state what they keep, small files of a Hub are
fetched where there is no copy. Only when none of them tells is one remote file read, if it is small
or that was asked for. Disagreements are gathered and shown together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from wanrec.providers.base import CatalogueEntry
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.lockfile import LockedFile
from wanrec.reconcile.locking_sources import SMALL, Desk, Listing, git_blob_id, is_git_blob
from wanrec.reconcile.model import FileSpec

__all__ = ["Pin", "pinned"]

Known = Mapping[tuple[str | None, str], LockedFile]
_Told = tuple[object, str]
"""A size or digest, and who says so."""


@attrs.frozen(kw_only=True)
class Pin:
    """What is known of one wanted file so far.

    Attributes:
        path: in the model.
        source_path: its name at the sources.
        declared: what the spec says of it.
        held: the sources that have it, with their entries, in order.
        sha256: None while nobody has told it.
    """

    path: str
    source_path: str
    variant: str | None
    declared: FileSpec | None
    held: tuple[tuple[Listing, CatalogueEntry], ...]
    sha256: str | None = None

    @property
    def entry(self) -> CatalogueEntry:
        """How the first source lists it."""
        return self.held[0][1]


def pinned(pins: Iterable[Pin], desk: Desk, spec: str, known: Known, *, fetch: bool) -> list[Pin]:
    """Return the pins with their digests; those of large files that nobody states lack one.

    Args:
        pins: what was chosen.
        desk: asks sources.
        spec: the spec file, for messages.
        known: the files of an earlier entry, by variant and path.
        fetch: read large remote files too.

    Raises:
        WanrecError: CHECKSUM_FAIL where two disagree; source codes.
    """
    stated = []
    lines: list[str] = []
    for pin in pins:
        hashes = _hashes(pin, spec)
        lines += _disagreement(pin.path, "size", _sizes(pin, spec))
        lines += _disagreement(pin.path, "sha256", hashes)
        lines += _disagreement(pin.path, "git blob id", _blob_ids(pin))
        stated.append(_with(pin, hashes))
    _refuse(lines)
    if all(pin.sha256 for pin in stated):
        return stated
    finder = _Finder(desk, known, fetch)
    found = desk.at_once(finder.digests, stated)
    for pin, hashes in zip(stated, found, strict=True):
        lines += _disagreement(pin.path, "sha256", hashes)
    _refuse([*lines, *sorted(finder.lines)])
    return [_with(pin, hashes) for pin, hashes in zip(stated, found, strict=True)]


def _with(pin: Pin, hashes: Sequence[_Told]) -> Pin:
    return attrs.evolve(pin, sha256=str(hashes[0][0])) if hashes and not pin.sha256 else pin


def _sizes(pin: Pin, spec: str) -> list[_Told]:
    """What the spec says, then what the listings say."""
    own = pin.declared.size if pin.declared else None
    listed = [(entry.size, listing.provider.name) for listing, entry in pin.held]
    return [*([] if own is None else [(own, spec)]), *listed]


def _hashes(pin: Pin, spec: str) -> list[_Told]:
    own = pin.declared.sha256 if pin.declared else None
    listed = [(entry.sha256, one.provider.name) for one, entry in pin.held if entry.sha256]
    return [*([] if own is None else [(own, spec)]), *listed]


def _blob_ids(pin: Pin) -> list[_Told]:
    return [(entry.blob_id, one.provider.name) for one, entry in pin.held if is_git_blob(entry)]


class _Finder:
    """Finds digests that no listing states, several files at a time."""

    def __init__(self, desk: Desk, known: Known, fetch: bool) -> None:
        self._desk = desk
        self._known = known
        self._fetch = fetch
        self.lines: list[str] = []

    def digests(self, pin: Pin) -> list[_Told]:
        """Every digest that can be had without reading what was not asked for."""
        if pin.sha256 is not None:
            return []
        old = self._known.get((pin.variant, pin.path))
        if old and old.etag and old.etag == pin.entry.etag and old.size == pin.entry.size:
            return [(old.sha256, "the lock file")]
        told: list[_Told] = [
            (digest, name) for digest, name in self._told(pin) if digest is not None
        ]
        if told or (pin.entry.size > SMALL and not self._fetch):
            return told
        listing, entry = pin.held[0]
        return [(self._desk.digest(listing, entry), listing.provider.name)]

    def _told(self, pin: Pin) -> Iterator[tuple[str | None, str]]:
        """What every source says that need not be fetched at length; None: it says nothing."""
        read = any(listing.local for listing, _ in pin.held)
        for listing, entry in pin.held:
            if listing.local:
                digest: str | None = self._of_local(pin, listing, entry)
            elif is_git_blob(entry):
                # What has been read was compared with every blob id: one reading is enough.
                ask = not read and entry.size <= SMALL
                digest = self._desk.digest(listing, entry) if ask else None
                read = read or ask
            else:
                located = self._desk.stated(listing, entry)
                digest = located.sha256 if located else None
            yield digest, listing.provider.name

    def _of_local(self, pin: Pin, listing: Listing, entry: CatalogueEntry) -> str:
        blobs = _blob_ids(pin)
        if not blobs or entry.size > SMALL:
            return self._desk.digest(listing, entry)
        data = self._desk.content(listing, entry)
        told = [(git_blob_id(data), listing.provider.name), *blobs]
        self.lines += _disagreement(pin.path, "git blob id", told)
        return hashlib.sha256(data).hexdigest()


def _disagreement(path: str, what: str, told: Sequence[_Told]) -> Iterator[str]:
    if len({value for value, _ in told}) > 1:
        says = "".join(f"\n  {value}  says {who}" for value, who in told)
        yield f"{path}: {what}{says}"


def _refuse(lines: Sequence[str]) -> None:
    if not lines:
        return
    raise WanrecError(
        ErrorCode.CHECKSUM_FAIL,
        "the sources do not agree",
        detail="\n".join(lines),
        hint="list only sources that have the same files; nothing was written",
    )
