"""The provider of `zip://ARCHIVE.zip`: a zip archive as a source of model files."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from wanrec.providers.base import Body, CatalogueEntry, Located, Provider
from wanrec.reconcile.errors import ErrorCode


class ZipProvider(Provider):
    """Each file of the archive is a file of the source. wanrec hashes what it delivers."""

    needs_network = False

    def _locate(self, path: str, probe: bool) -> Located:
        with self._archive() as archive:
            return Located(source=self.name, path=path, size=self._entry(archive, path).file_size)

    def _catalogue(self) -> Iterator[CatalogueEntry]:
        with self._archive() as archive:
            for entry in archive.infolist():
                if not entry.is_dir():
                    yield CatalogueEntry(path=entry.filename, size=entry.file_size)

    def _open_range(self, located: Located, start: int, stop: int | None) -> Body:
        archive = self._archive()
        try:
            return ZipBody(self, archive, self._entry(archive, located.path), start, stop)
        except BaseException:
            archive.close()
            raise

    def _archive(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(Path(self.context.base, self.url.location))
        except (OSError, zipfile.BadZipFile) as error:
            raise self.error(ErrorCode.SOURCE_UNAVAILABLE, f"no such archive: {error}") from None

    def _entry(self, archive: zipfile.ZipFile, path: str) -> zipfile.ZipInfo:
        try:
            return archive.getinfo(path)
        except KeyError:
            raise self.error(ErrorCode.NOT_FOUND_AT_SOURCE, f"not in the archive: {path}") from None


class ZipBody(Body):
    """A range of one unpacked file."""

    def __init__(
        self,
        provider: ZipProvider,
        archive: zipfile.ZipFile,
        entry: zipfile.ZipInfo,
        start: int,
        stop: int | None,
    ) -> None:
        self._provider = provider
        self.total = entry.file_size
        self.start = start
        self.stop = self.total if stop is None else min(stop, self.total)
        self._archive = archive
        self._file = archive.open(entry)
        self._file.seek(start)
        self._left = self.stop - start

    def readinto(self, buffer: memoryview) -> int:
        """Fill part of the buffer; a damaged archive is an error of this source."""
        try:
            data = self._file.read(min(len(buffer), self._left))
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error):
            fault = self._provider.error(ErrorCode.SOURCE_UNAVAILABLE, "the archive is damaged")
            fault.retries = 0  # it will be damaged the next time too
            raise fault from None
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def close(self) -> None:
        """Let go of the archive."""
        self._file.close()
        self._archive.close()
