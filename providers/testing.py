"""The contract every provider keeps, as a test class to subclass; shipped for outsiders.

A subclass says how to put files behind a source (`serve`) and inherits the tests. Needs pytest,
which the program itself does not. `FolderStage` is the smallest stage a `Fetcher` accepts.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from wanrec.providers import provider_for
from wanrec.providers.base import Provider, ProviderContext, TransferEvent
from wanrec.providers.fetching import Fetched, FetchRequest
from wanrec.providers.limits import Limits
from wanrec.providers.parts import BLOB_DIR, PARTIAL_DIR
from wanrec.providers.transfer import Fetcher
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import EntryKind, FileFact

__all__ = ["PRIVATE_DIR", "FetchHarness", "FolderStage", "ProviderContract", "Served"]

Served = tuple[str, ProviderContext]

FILES = {
    "config.json": b'{"hidden_size": 384}',
    "empty.txt": b"",
    "vae/weights.bin": bytes(range(256)) * 12_289,  # above 3 MiB, no multiple of a power of two
    "name with space+plus%41.txt": b"names are sent as they are, and arrive as they are",
}


PRIVATE_DIR = ".wanrec/stage/run"
"""What a run keeps for itself: small files are written there under their name at once."""


class FolderStage:
    """A stage in a plain folder: what the disk room does, without its guards."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def make_dirs(self, rel: str, mode: int = 0o755) -> None:
        """As `StageDir`."""
        os.makedirs(self._path(rel), mode, exist_ok=True)

    def create(self, rel: str, mode: int = 0o600) -> int:
        """As `StageDir`."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        try:
            return os.open(self._path(rel), flags, mode)
        except OSError as exc:
            raise _as_filesystem_error(exc, rel) from exc

    def rename(self, src: str, dst: str) -> None:
        """As `StageDir`."""
        os.replace(self._path(src), self._path(dst))

    def unlink(self, rel: str) -> None:
        """As `StageDir`."""
        os.unlink(self._path(rel))

    def stat(self, rel: str) -> FileFact:
        """As `StageDir`."""
        try:
            status = os.lstat(self._path(rel))
        except FileNotFoundError:
            return FileFact(kind=EntryKind.MISSING)
        return FileFact(kind=EntryKind.FILE, size=status.st_size, ino=status.st_ino)

    @contextlib.contextmanager
    def folder(self, rel: str) -> Iterator[tuple[int | None, str]]:
        """As `StageDir`."""
        yield None, self._path(rel) + os.sep

    def _path(self, rel: str) -> str:
        return f"{self.root}/{rel}"


class FetchHarness:
    """A `Fetcher` on a folder of its own, with its events kept.

    Attributes:
        root: the folder that stands for the root.
        blob_dir: root-relative folder of the verified files.
        events: (kind, fields) in the order they came.
        react: called with each event's kind, for a test that acts in the midst of a transfer.
        stop: set it to interrupt.
    """

    def __init__(
        self,
        root: Path,
        *,
        limits: Limits | None = None,
        no_failover: bool = False,
        blob_dir: str = BLOB_DIR,
    ) -> None:
        self.root = root
        self.blob_dir = blob_dir
        self.events: list[tuple[TransferEvent, Mapping[str, object]]] = []
        self.react: Callable[[TransferEvent], None] = lambda kind: None
        self.stop = threading.Event()
        self.fetcher = Fetcher(
            FolderStage(root),
            limits or Limits(),
            self._hear,
            self.stop,
            translate_os_error=_as_filesystem_error,
            no_failover=no_failover,
            blob_dir=blob_dir,
        )

    def _hear(self, kind: TransferEvent, fields: Mapping[str, object]) -> None:
        self.events.append((kind, fields))
        self.react(kind)

    def fetch(
        self, path: str, content: bytes | None, *sources: Served, size: bool = True
    ) -> Fetched:
        """Fetch a file that is expected to have this content (None: nobody knows)."""
        return self.fetcher.fetch(
            FetchRequest(
                address=f"m@1::{path}",
                path=path,
                size=len(content) if content is not None and size else None,
                sha256=None if content is None else hashlib.sha256(content).hexdigest(),
                sources=sources,
            )
        )

    def staged(self) -> dict[str, bytes]:
        """Name → bytes of every blob in the stage."""
        return {file.name: file.read_bytes() for file in _files(self.root / self.blob_dir)}

    def partial(self) -> list[str]:
        """Names of what is left of unfinished transfers."""
        return [file.name for file in _files(self.root / PARTIAL_DIR)]

    def kinds(self) -> list[TransferEvent]:
        """The kinds of the events so far, progress left out."""
        return [kind for kind, _ in self.events if kind is not TransferEvent.PROGRESS]


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _as_filesystem_error(exc: OSError, rel: str) -> WanrecError:
    return WanrecError(ErrorCode.FILESYSTEM_ERROR, f"{rel}: {exc.strerror}")


class ProviderContract:
    """Subclass as ``class TestMine(ProviderContract)`` and implement `serve`."""

    @abstractmethod
    def serve(self, files: Mapping[str, bytes], folder: Path) -> Served:
        """Put the files behind a source and return its URL and context; `folder` is scratch."""

    @pytest.fixture
    def served(self, tmp_path: Path) -> Served:
        """The standard files behind the source under test."""
        scratch = tmp_path / "source"
        scratch.mkdir()
        return self.serve(FILES, scratch)

    @pytest.fixture
    def provider(self, served: Served) -> Iterator[Provider]:
        """The provider under test."""
        provider = provider_for(*served)
        yield provider
        provider.session.close()

    @pytest.fixture(params=[BLOB_DIR, PRIVATE_DIR], ids=["shared", "private"])
    def harness(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FetchHarness]:
        """A fetcher whose stage is empty: one that others look into, then a run's own."""
        root = tmp_path / "root"
        root.mkdir()
        harness = FetchHarness(root, blob_dir=request.param)
        yield harness
        harness.fetcher.close()

    def test_catalogue_lists_every_file_once_with_its_size(self, provider: Provider) -> None:
        """The catalogue names each file once, sorted, with the right size."""
        if not provider.lists:
            with pytest.raises(WanrecError) as caught:
                list(provider.catalogue())
            assert caught.value.code is ErrorCode.SOURCE_UNAVAILABLE
            return
        listed = [(entry.path, entry.size) for entry in provider.catalogue()]
        assert listed == sorted((path, len(content)) for path, content in FILES.items())

    @pytest.mark.parametrize("path", sorted(FILES))
    def test_whole_file_by_open_range(self, provider: Provider, path: str) -> None:
        """A range without an end is the file, byte for byte."""
        assert _read(provider, path, 0, None) == FILES[path]

    @pytest.mark.parametrize(
        ("start", "stop"), [(0, 1), (1, 2), (65_535, 65_537), (1 << 20, (1 << 20) + 7)]
    )
    def test_exact_range(self, provider: Provider, start: int, stop: int) -> None:
        """A range is exactly the bytes asked for."""
        content = FILES["vae/weights.bin"]
        assert _read(provider, "vae/weights.bin", start, stop) == content[start:stop]

    def test_range_up_to_the_last_byte(self, provider: Provider) -> None:
        """A range may end with the file."""
        content = FILES["vae/weights.bin"]
        size = len(content)
        assert _read(provider, "vae/weights.bin", size - 3, size) == content[-3:]

    @pytest.mark.parametrize(
        "path", ["../x", "/etc/passwd", "a/../../x", "a\\b", "CON", ".wanrec/x"]
    )
    def test_unsafe_names_are_refused_before_any_request(
        self, provider: Provider, path: str
    ) -> None:
        """A name that could leave the source is UNSAFE_PATH."""
        with pytest.raises(WanrecError) as caught:
            provider.locate(path)
        assert caught.value.code is ErrorCode.UNSAFE_PATH

    def test_missing_file_is_not_found(self, provider: Provider) -> None:
        """A file that is not there is NOT_FOUND_AT_SOURCE, and the error names the source."""
        with pytest.raises(WanrecError) as caught:
            provider.open_range(provider.locate("not/there.bin"), 0, None).close()
        assert caught.value.code is ErrorCode.NOT_FOUND_AT_SOURCE
        assert caught.value.source == provider.name

    def test_probe_knows_the_size(self, provider: Provider) -> None:
        """Asked to look, the provider says how big a file is."""
        located = provider.locate("vae/weights.bin", probe=True)
        assert located.size == len(FILES["vae/weights.bin"])

    def test_check_of_a_good_source(self, provider: Provider) -> None:
        """A source that works is healthy."""
        assert provider.check().ok

    def test_offline_refuses_only_network_sources(self, served: Served) -> None:
        """--offline is OFFLINE for a source that needs the network and no matter for others."""
        import attrs

        url, context = served
        provider = provider_for(url, attrs.evolve(context, offline=True))
        if provider.needs_network:
            with pytest.raises(WanrecError) as caught:
                provider.locate("config.json")
            assert caught.value.code is ErrorCode.OFFLINE
        else:
            assert provider.locate("config.json").source == provider.name

    @pytest.mark.parametrize("path", sorted(FILES))
    def test_fetch_lands_verified_bytes(
        self, served: Served, harness: FetchHarness, path: str
    ) -> None:
        """A fetched file lies in the stage under its sha256, whole, and nothing else is left."""
        content = FILES[path]
        fetched = harness.fetch(path, content, served)
        assert harness.staged() == {hashlib.sha256(content).hexdigest(): content}
        assert harness.partial() == []
        assert fetched.staged == f"{harness.blob_dir}/{fetched.sha256}"
        assert (fetched.size, fetched.bytes_fetched) == (len(content), len(content))

    @pytest.mark.parametrize("path", ["config.json", "empty.txt", "vae/weights.bin"])
    def test_fetch_of_unknown_content_is_named_by_what_came(
        self, served: Served, harness: FetchHarness, path: str
    ) -> None:
        """Without size and sha256 the file is named by the hash of its bytes."""
        fetched = harness.fetch(path, None, served)
        assert fetched.sha256 == hashlib.sha256(FILES[path]).hexdigest()
        assert list(harness.staged()) == [fetched.sha256]

    @pytest.mark.parametrize("path", ["config.json", "vae/weights.bin"])
    def test_wrong_bytes_never_land(self, served: Served, harness: FetchHarness, path: str) -> None:
        """Right-sized wrong bytes are CHECKSUM_FAIL and leave nothing behind."""
        expected = b"x" * len(FILES[path])
        with pytest.raises(WanrecError) as caught:
            harness.fetch(path, expected, served)
        assert caught.value.code is ErrorCode.CHECKSUM_FAIL
        assert harness.staged() == {}
        assert harness.partial() == []

    @pytest.mark.parametrize("path", ["config.json", "vae/weights.bin"])
    @pytest.mark.parametrize("extra", [b"", b"more than there is"])
    def test_other_size_never_lands(
        self, served: Served, harness: FetchHarness, path: str, extra: bytes
    ) -> None:
        """A size other than the expected one is SIZE_MISMATCH and leaves nothing behind."""
        expected = FILES[path] + extra if extra else FILES[path][:-1]
        with pytest.raises(WanrecError) as caught:
            harness.fetch(path, expected, served)
        assert caught.value.code is ErrorCode.SIZE_MISMATCH
        assert harness.staged() == {}
        assert harness.partial() == []

    def test_stop_ends_a_fetch(self, served: Served, harness: FetchHarness) -> None:
        """A set stop event is INTERRUPTED, and no file lands."""
        harness.stop.set()
        with pytest.raises(WanrecError) as caught:
            harness.fetch("vae/weights.bin", FILES["vae/weights.bin"], served)
        assert caught.value.code is ErrorCode.INTERRUPTED
        assert harness.staged() == {}

    def test_fails_over_to_the_source_under_test(
        self, served: Served, harness: FetchHarness, tmp_path: Path
    ) -> None:
        """Behind a source that lies and one that is not there, this one delivers."""
        liar = tmp_path / "liar"
        liar.mkdir()
        content = FILES["config.json"]
        (liar / "config.json").write_bytes(b"x" * len(content))
        context = ProviderContext(base=tmp_path)
        sources = (("local://gone", context), ("local://liar", context), served)
        fetched = harness.fetch("config.json", content, *sources)
        assert fetched.source == provider_for(*served).name
        assert len(fetched.failovers) == 2
        assert harness.kinds() == [TransferEvent.FAILOVER, TransferEvent.FAILOVER]
        assert harness.partial() == []


def _read(provider: Provider, path: str, start: int, stop: int | None) -> bytes:
    with provider.open_range(provider.locate(path), start, stop) as body:
        buffer, content = memoryview(bytearray(70_001)), bytearray()
        while count := body.readinto(buffer):
            content += buffer[:count]
        return bytes(content)
