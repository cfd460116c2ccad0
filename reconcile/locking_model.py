"""One declaration and its sources → the lock entry that pins it.

Which files: the declared ones, else what the first answering source lists, through the patterns;
an index of sharded weights brings exactly the shards it names. `locking_digests` finds their
digests; there is an entry only when every one of them is known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from wanrec.reconcile.content_rules import check_index
from wanrec.reconcile.desired_expand import source_urls
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.lockfile import LockedFile, LockedModel, declaration_digest
from wanrec.reconcile.locking_digests import Pin, pinned
from wanrec.reconcile.locking_sources import SMALL, Desk
from wanrec.reconcile.manifest_models import ModelDecl, allowed_by_patterns
from wanrec.reconcile.model import FileSpec
from wanrec.reconcile.render_words import plural

__all__ = ["is_unchanged", "needs_sources", "pin_model"]

_INDEX = ".safetensors.index.json"


class _Wanted(NamedTuple):
    """One file to pin: its path in the model, its name at the source, what the spec says."""

    path: str
    source_path: str
    variant: str | None
    declared: FileSpec | None


def needs_sources(decl: ModelDecl, locked: LockedModel | None) -> bool:
    """True when neither the spec nor a fitting, whole lock entry pins every file."""
    if decl.files is not None and all(f.size is not None and f.sha256 for f in decl.files):
        return False
    if locked is None or locked.unpinned or locked.spec_sha256 != declaration_digest(decl):
        return True
    if decl.files is None:
        return not locked.files
    known = {(file.variant, file.path) for file in locked.files}
    return any(
        not file.sha256 and (file.variant, file.path) not in known
        for file in decl.files
        if allowed_by_patterns(file.path, decl.allow_patterns, decl.ignore_patterns)
    )


def is_unchanged(decl: ModelDecl, locked: LockedModel, desk: Desk) -> bool:
    """True when every pinned revision is still what its source says: one request each."""
    if needs_sources(decl, locked) or not locked.revisions or not locked.files:
        return False
    path = locked.files[0].source_path or locked.files[0].path
    for url, commit in locked.revisions.items():
        try:
            if desk.revision(desk.open(url), path) != commit:
                return False
        except WanrecError as error:
            if error.code is ErrorCode.NOT_FOUND_AT_SOURCE:
                return False
            raise
    return True


def pin_model(
    decl: ModelDecl, old: LockedModel | None, desk: Desk, *, fetch: bool = False
) -> LockedModel:
    """Ask the sources and return the entry.

    Args:
        decl: the declaration.
        old: the entry it had; digests of files that did not change are taken from it.
        desk: asks sources.
        fetch: read large remote files too, when nobody states their digest.

    Raises:
        WanrecError: NOT_FOUND_AT_SOURCE, INCOMPLETE_MODEL, CHECKSUM_FAIL when two disagree,
            LOCK_MISSING when large files would have to be read; source codes.
    """
    per_variant = any("{variant}" in url for url in decl.sources)
    pins: dict[tuple[str | None, str], LockedFile] = {}
    revisions: dict[str, str] = {}
    for variant in decl.variants if per_variant else (None,):
        run = _Pinning(decl, variant, old, desk, fetch)
        for file in run.files():
            pins.setdefault((file.variant, file.path), file)
        revisions |= run.revisions
    files = sorted(pins.values(), key=lambda file: (file.path, file.variant or ""))
    return LockedModel(
        spec_sha256=declaration_digest(decl), revisions=revisions, files=tuple(files)
    )


class _Pinning:
    """One model, or one variant of it where each variant has sources of its own."""

    def __init__(
        self,
        decl: ModelDecl,
        variant: str | None,
        old: LockedModel | None,
        desk: Desk,
        fetch: bool,
    ) -> None:
        self.decl = decl
        self.variant = variant
        self.desk = desk
        self.fetch = fetch
        self.revisions: dict[str, str] = {}
        self.known = {(f.variant, f.path): f for f in old.files} if old else {}
        declared = [] if decl.files is None else [f.source_path or f.path for f in decl.files]
        self.listings = desk.listings(source_urls(decl, variant), declared)

    def files(self) -> list[LockedFile]:
        """Pin every wanted file."""
        wanted = list(self._wanted())
        if not wanted:
            raise self._error(
                ErrorCode.NOT_FOUND_AT_SOURCE,
                "no file is left: the patterns leave out all that the source lists",
            )
        self._note_revisions(wanted[0].source_path)
        held = [self._held(one) for one in wanted]
        pins = pinned(held, self.desk, self.decl.spec, self.known, fetch=self.fetch)
        self._refuse_large([pin for pin in pins if pin.sha256 is None])
        return [_locked(pin) for pin in pins]

    def _wanted(self) -> Iterator[_Wanted]:
        decl, variant = self.decl, self.variant
        allow, ignore = decl.allow_patterns, decl.ignore_patterns
        if decl.files is not None:
            for file in decl.files:
                mine = variant is None or file.variant in (None, variant)
                if mine and allowed_by_patterns(file.path, allow, ignore):
                    name = file.source_path or file.path
                    yield _Wanted(file.path, name, file.variant, file)
            return
        listed = self.listings[0].entries
        chosen = {path for path in listed if allowed_by_patterns(path, allow, ignore)}
        for path in sorted(self._with_shards(chosen)):
            yield _Wanted(path, path, variant or _variant_in(path, decl.variants), None)

    def _with_shards(self, chosen: set[str]) -> set[str]:
        """Exactly the shards that the chosen indexes name, and no stray one beside them."""
        listing = self.listings[0]
        result = set(chosen)
        for path in sorted(path for path in chosen if path.endswith(_INDEX)):
            entry = listing.entries[path]
            if entry.size > SMALL:
                raise self._error(ErrorCode.INCOMPLETE_MODEL, f"{path} is too large for an index")
            data = self.desk.content(listing, entry)
            fault = check_index(data, path, listing.entries)
            if fault is not None:
                raise self._error(fault.code, f"{path}: {fault.message}")
            named = _shards_of(data, path)
            stem = re.escape(path.removesuffix(_INDEX))
            numbered = re.compile(rf"{stem}-\d+-of-\d+\.safetensors").fullmatch
            result -= {other for other in result if numbered(other)}
            result |= named
        return result

    def _note_revisions(self, path: str) -> None:
        for listing in self.listings:
            probe = path if path in listing.entries else next(iter(listing.entries), path)
            revision = self.desk.revision(listing.provider, probe)
            if revision is not None:
                self.revisions[listing.url] = revision

    def _held(self, wanted: _Wanted) -> Pin:
        held = tuple(
            (listing, listing.entries[wanted.source_path])
            for listing in self.listings
            if wanted.source_path in listing.entries
        )
        if not held:
            raise self._error(
                ErrorCode.NOT_FOUND_AT_SOURCE, f"no source has {wanted.source_path!r}"
            )
        return Pin(held=held, **wanted._asdict())

    def _refuse_large(self, pins: list[Pin]) -> None:
        if not pins:
            return
        total = sum(pin.entry.size for pin in pins)
        what = plural(len(pins), "large file")
        error = self._error(
            ErrorCode.LOCK_MISSING, f"no source states the sha256 of {what}: {total} bytes to read"
        )
        error.detail = "\n".join(f"{pin.path}  {pin.entry.size} bytes" for pin in pins)
        error.hint = "wanrec lock --fetch reads and hashes them; or list a source that states it"
        raise error

    def _error(self, code: ErrorCode, summary: str) -> WanrecError:
        source = self.listings[0].provider.name
        return WanrecError(code, summary, address=self.decl.id, source=source)


def _locked(pin: Pin) -> LockedFile:
    assert pin.sha256 is not None
    return LockedFile(
        path=pin.path,
        size=pin.entry.size,
        sha256=pin.sha256,
        etag=pin.entry.etag,
        source_path=pin.source_path if pin.source_path != pin.path else None,
        variant=pin.variant,
    )


def _variant_in(path: str, variants: tuple[str, ...]) -> str | None:
    """The variant a file name speaks of: ``model.fp16.safetensors``, or a folder ``fp16/``."""
    *folders, name = path.split("/")
    marks = {*folders, *name.split(".")[1:-1], *(part.split("-")[0] for part in name.split("."))}
    return next((variant for variant in variants if variant in marks), None)


def _shards_of(index: bytes, path: str) -> set[str]:
    folder = path.rpartition("/")[0]
    names = json.loads(index).get("weight_map") or {}
    return {f"{folder}/{name}" if folder else name for name in names.values()}
