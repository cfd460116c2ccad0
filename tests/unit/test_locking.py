"""What `wanrec lock` believes of a source, on a source that says what each test needs."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from wanrec.providers.base import Body, CatalogueEntry, Located, Provider, ProviderContext
from wanrec.providers.limits import Limits
from wanrec.providers.source_url import parse_source
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.lockfile import LockedModel
from wanrec.reconcile.locking_model import is_unchanged, needs_sources, pin_model
from wanrec.reconcile.locking_sources import SMALL, Desk, Listing
from wanrec.reconcile.manifest import ModelDecl
from wanrec.reconcile.model import FileSpec

DIGEST = "ab" * 32


def git_id(data: bytes) -> str:
    """The git blob id of some bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class Bytes(Body):
    """A body in memory, handed out in small pieces."""

    def __init__(self, data: bytes) -> None:
        self.rest = data
        self.stop = self.total = len(data)

    def readinto(self, buffer: memoryview) -> int:
        """Hand out at most five bytes."""
        piece, self.rest = self.rest[:5], self.rest[5:]
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """Nothing is held."""


class Told(Provider):
    """A remote source that lists `entries` and answers with `answers`."""

    def __init__(self, url: str, entries: list[CatalogueEntry], answers: Mapping[str, bytes]):
        super().__init__(parse_source(url), ProviderContext(base=Path("/")))
        self.entries = entries
        self.answers = answers
        self.revision: str | None = None
        self.etag: str | None = None
        self.read = 0

    def _locate(self, path: str, probe: bool) -> Located:
        return Located(source=self.name, path=path, revision=self.revision, etag=self.etag)

    def _catalogue(self) -> Iterator[CatalogueEntry]:
        return iter(self.entries)

    def _open_range(self, located: Located, start: int, stop: int | None) -> Body:
        self.read += 1
        return Bytes(self.answers[located.path])


class OwnDesk(Desk):
    """A desk whose sources are given by the test."""

    sources: Mapping[str, Told]

    def open(self, url: str) -> Provider:
        """The test's source."""
        return self.sources[url]


def desk(*sources: Told) -> OwnDesk:
    """A desk for these sources."""
    made = OwnDesk(
        context=ProviderContext(base=Path("/")),
        warn=lambda _: None,
        progress=lambda _: None,
        stop=threading.Event(),
    )
    object.__setattr__(made, "sources", {source.url.text: source for source in sources})
    return made


def decl(*urls: str, **more: Any) -> ModelDecl:
    """A model of these sources."""
    return ModelDecl(
        id="m@1", name="m", version="1", family="f", spec="a.toml", sources=urls, **more
    )


def entry(path: str, data: bytes, **more: Any) -> CatalogueEntry:
    """A listing's line for some bytes."""
    return CatalogueEntry(path=path, size=len(data), **more)


ONE, TWO = "hf://o/one@main", "hf://o/two@main"


def test_small_files_are_read_and_checked() -> None:
    """A file without a digest is read, and must be the git blob that was listed."""
    data = b"hello, small file"
    source = Told(ONE, [entry("a.json", data, blob_id=git_id(data))], {"a.json": data})
    pinned = pin_model(decl(ONE), None, desk(source))
    assert pinned.files[0].sha256 == hashlib.sha256(data).hexdigest()
    source.answers = {"a.json": b"hello, other file"}
    with pytest.raises(WanrecError) as caught:
        pin_model(decl(ONE), None, desk(source))
    assert caught.value.code is ErrorCode.SOURCE_CHANGED


@pytest.mark.parametrize("answer", [b"short", b"far too long for the listing"])
def test_another_length_is_refused(answer: bytes) -> None:
    """More or fewer bytes than listed are a source that changed."""
    source = Told(ONE, [entry("a.json", b"0123456789")], {"a.json": answer})
    with pytest.raises(WanrecError) as caught:
        pin_model(decl(ONE), None, desk(source))
    assert caught.value.code is ErrorCode.SOURCE_CHANGED


def test_a_stated_digest_is_taken_from_any_source() -> None:
    """What the first source leaves out, the second may state; then nothing is read."""
    silent = Told(ONE, [entry("a.json", b"x")], {})
    telling = Told(TWO, [entry("a.json", b"x", sha256=DIGEST)], {})
    pinned = pin_model(decl(ONE, TWO), None, desk(silent, telling))
    assert pinned.files[0].sha256 == DIGEST
    assert silent.read == telling.read == 0


def test_stated_digests_must_agree() -> None:
    """Two digests for one path are both shown, with who says so."""
    sources = [
        Told(url, [entry("a.json", b"x", sha256=sha)], {})
        for url, sha in ((ONE, DIGEST), (TWO, "cd" * 32))
    ]
    with pytest.raises(WanrecError) as caught:
        pin_model(decl(ONE, TWO), None, desk(*sources))
    assert caught.value.code is ErrorCode.CHECKSUM_FAIL
    assert DIGEST in caught.value.detail and TWO in caught.value.detail


class Folder(Told):
    """A source on a local disk, in memory: its files are read freely."""

    gives_local_paths = True


class ReadFolders(OwnDesk):
    """A desk that reads `Folder`s through their bodies."""

    def digest(self, listing: Listing, entry: CatalogueEntry) -> str:
        """As for a remote source."""
        return hashlib.sha256(self.content(listing, entry)).hexdigest()


def test_digests_that_are_found_must_agree() -> None:
    """Of local copies each is read: same size and other bytes is a disagreement."""
    sources = [
        Folder(url, [entry("a.json", data)], {"a.json": data})
        for url, data in ((ONE, b"one"), (TWO, b"two"))
    ]
    made = ReadFolders(
        context=ProviderContext(base=Path("/")),
        warn=lambda _: None,
        progress=lambda _: None,
        stop=threading.Event(),
    )
    object.__setattr__(made, "sources", {source.url.text: source for source in sources})
    with pytest.raises(WanrecError) as caught:
        pin_model(decl(ONE, TWO), None, made)
    assert caught.value.code is ErrorCode.CHECKSUM_FAIL
    for data, url in ((b"one", ONE), (b"two", TWO)):
        assert f"{hashlib.sha256(data).hexdigest()}  says {url}" in caught.value.detail


def test_git_blob_ids_must_agree() -> None:
    """Two repositories tell of small files by blob id alone; nothing is read to compare them."""
    sources = [
        Told(url, [entry("a.json", data, blob_id=git_id(data))], {})
        for url, data in ((ONE, b"one"), (TWO, b"two"))
    ]
    with pytest.raises(WanrecError) as caught:
        pin_model(decl(ONE, TWO), None, desk(*sources))
    assert caught.value.code is ErrorCode.CHECKSUM_FAIL
    assert "a.json: git blob id" in caught.value.detail


def test_a_local_copy_is_held_against_the_blob_id() -> None:
    """A mirror's small file that is not the repository's is seen without fetching the latter."""
    own = Folder(ONE, [entry("a.json", b"one")], {"a.json": b"one"})
    hub = Told(TWO, [entry("a.json", b"two", blob_id=git_id(b"two"))], {})
    with pytest.raises(WanrecError) as caught:
        pin_model(decl(ONE, TWO), None, desk(own, hub))
    assert caught.value.code is ErrorCode.CHECKSUM_FAIL and hub.read == 0
    assert f"{git_id(b'one')}  says {ONE}" in caught.value.detail


def test_an_overwrite_between_listing_and_asking() -> None:
    """Another ETag than the listed one, at the same size: the source changed."""
    source = Told(ONE, [entry("a.json", b"x", etag='"1"')], {})
    source.etag = '"2"'
    with pytest.raises(WanrecError) as caught:
        pin_model(decl(ONE), None, desk(source))
    assert caught.value.code is ErrorCode.SOURCE_CHANGED


@pytest.mark.parametrize(
    ("entries", "code", "said"),
    [
        ([entry("a", b"x"), entry("a", b"y")], ErrorCode.INVALID_MANIFEST, "listed twice"),
        ([CatalogueEntry(path="a", size=-1)], ErrorCode.INVALID_MANIFEST, "-1 bytes"),
        ([CatalogueEntry(path="a", size=2**63)], ErrorCode.INVALID_MANIFEST, "bytes"),
        ([entry("a", b"x", sha256="../x")], ErrorCode.INVALID_MANIFEST, "a sha256 that is none"),
        (
            [entry("../../etc/passwd", b"x")],
            ErrorCode.UNSAFE_PATH,
            "names a file that is refused: ",
        ),
        ([entry("/etc/passwd", b"x")], ErrorCode.UNSAFE_PATH, "names a file that is refused: "),
        ([entry("a\nb", b"x")], ErrorCode.UNSAFE_PATH, "names a file that is refused: "),
        (
            [entry("a/" * 2000 + "b", b"x")],
            ErrorCode.PATH_TOO_LONG,
            "names a file that is refused: ",
        ),
    ],
)
def test_listings_that_are_not_credible(
    entries: list[CatalogueEntry], code: ErrorCode, said: str
) -> None:
    """Duplicates, impossible sizes and hostile names end the run, whoever else could be asked."""
    good = Told(TWO, [entry("a", b"x", sha256=DIGEST)], {})
    with pytest.raises(WanrecError) as caught:
        pin_model(decl(ONE, TWO), None, desk(Told(ONE, entries, {}), good))
    assert caught.value.code is code
    assert said in caught.value.summary and caught.value.source == ONE


def test_a_local_file_that_changes_under_the_hash(tmp_path: Path) -> None:
    """Bytes that are written while they are read have no digest: nothing is pinned."""
    file = tmp_path / "a.bin"
    file.write_bytes(b"1" * 100)
    reading = Desk(
        context=ProviderContext(base=tmp_path),
        warn=lambda _: None,
        progress=lambda _: os.utime(file, ns=(0, 0)),
        stop=threading.Event(),
    )
    with pytest.raises(WanrecError) as caught:
        pin_model(decl(f"local://{tmp_path}"), None, reading)
    assert caught.value.code is ErrorCode.SOURCE_CHANGED and "a.bin" in caught.value.summary


class Endless(Told):
    """A source whose listing does not end by itself."""

    def _catalogue(self) -> Iterator[CatalogueEntry]:
        while True:
            self.read += 1
            yield CatalogueEntry(path=f"file-{self.read}", size=1, sha256=DIGEST)


def test_a_listing_without_end_is_given_up() -> None:
    """One entry more than is allowed is asked for, and no further one."""
    source = Endless(ONE, [], {})
    source.context = attrs.evolve(source.context, limits=Limits(max_listing=1000))
    with pytest.raises(WanrecError) as caught:
        pin_model(decl(ONE), None, desk(source))
    assert caught.value.code is ErrorCode.INVALID_MANIFEST
    assert source.read == 1001


def test_large_files_are_asked_for_first() -> None:
    """Nothing large is read without being asked for; the sizes are told."""
    large = CatalogueEntry(path="a.onnx", size=SMALL + 1)
    source = Told(ONE, [large], {})
    with pytest.raises(WanrecError) as caught:
        pin_model(decl(ONE), None, desk(source))
    assert caught.value.code is ErrorCode.LOCK_MISSING
    assert str(SMALL + 1) in caught.value.detail and source.read == 0


def test_an_equal_etag_spares_the_reading() -> None:
    """A file whose ETag is still the pinned one keeps its digest."""
    data = b"hello"
    source = Told(ONE, [entry("a.json", data, etag='"1"')], {"a.json": data})
    first = pin_model(decl(ONE), None, desk(source))
    again = pin_model(decl(ONE), first, desk(source))
    assert again == first and source.read == 1


def test_what_needs_to_be_asked_for() -> None:
    """Whole declarations and fitting entries need no source; gaps and unpinned files do."""
    whole = decl(ONE, files=(FileSpec(path="a", size=1, sha256=DIGEST),))
    gap = decl(ONE, files=(FileSpec(path="a"),))
    source = Told(ONE, [entry("a", b"x", sha256=DIGEST)], {})
    assert not needs_sources(whole, None)
    assert needs_sources(gap, None)
    pinned = pin_model(gap, None, desk(source))
    assert not needs_sources(gap, pinned)
    assert needs_sources(gap, attrs.evolve(pinned, unpinned=("b",)))
    assert needs_sources(gap, LockedModel(spec_sha256=pinned.spec_sha256))
    assert needs_sources(attrs.evolve(gap, sources=(TWO,)), pinned)


def test_a_revision_that_moved() -> None:
    """An entry is unchanged while every source still says the commit that was pinned."""
    source = Told(ONE, [entry("a", b"x", sha256=DIGEST)], {})
    source.revision = "1" * 40
    pinned = pin_model(decl(ONE), None, desk(source))
    assert pinned.revisions == {ONE: "1" * 40}
    assert is_unchanged(decl(ONE), pinned, desk(source))
    source.revision = "2" * 40
    assert not is_unchanged(decl(ONE), pinned, desk(source))
