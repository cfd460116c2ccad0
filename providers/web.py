"""`https://HOST/PATH`: files below an address, presigned and token-bearing addresses included.

A file lies at the source's path plus its own; a source that already ends with the file's path is
that file (a presigned URL of one file). The query goes along with every request and is never
printed. A web server has no listing: the spec or the lock file names the files.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import attrs

from wanrec.providers.base import CatalogueEntry, Located, SourceFault
from wanrec.providers.http import HttpProvider
from wanrec.reconcile.errors import ErrorCode

__all__ = ["WebProvider"]


class WebProvider(HttpProvider):
    """Plain HTTP(S); http:// is for loopback only unless the context allows more."""

    lists = False

    def _locate(self, path: str, probe: bool) -> Located:
        located = Located(source=self.name, path=path, url=self._address(path))
        if not probe:
            return located
        response = self.probe(located)
        return attrs.evolve(located, size=response.length, etag=response.headers.get("etag"))

    def _catalogue(self) -> Iterator[CatalogueEntry]:
        raise self.error(
            ErrorCode.SOURCE_UNAVAILABLE,
            "a web server cannot list its files",
            hint="name the files with size and sha256 in the spec",
        )

    def _check(self) -> str:
        try:
            self.probe(Located(source=self.name, path="", url=self._address(""))).close()
        except SourceFault as fault:
            if fault.code is not ErrorCode.NOT_FOUND_AT_SOURCE:  # a folder need not have a page
                raise
        return "the server answers"

    def _address(self, path: str) -> str:
        address, mark, query = self.url.text.partition("?")
        sent = quote(path, safe="/!$&'()*+,;=:@~-._")
        if path and not address.endswith("/" + sent):
            address = address.rstrip("/") + "/" + sent
        return quote(address, safe="/!$&'()*+,;=:@~-._%[]") + mark + query
