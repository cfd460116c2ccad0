"""https:// keeps the provider contract; here against a plain file server on loopback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.http_faults import cut_after
from support.lying_server import LyingServer, serve_ranges

from wanrec.providers.base import ProviderContext
from wanrec.providers.testing import FILES, Served
from wanrec.providers.testing_faults import FaultContract


class TestWeb(FaultContract):
    """Files below an address with a query, ranges honoured."""

    @pytest.fixture(autouse=True)
    def _server(self) -> Iterator[None]:
        with LyingServer() as server:
            self.server = server
            yield

    def serve(self, files: Mapping[str, bytes], folder: Path) -> Served:
        """As the contract asks."""
        for path, content in files.items():
            self.server.on(f"/models/{path}", serve_ranges(content))
        return f"{self.server.url}/models?sig=secret", ProviderContext(base=folder)

    def alter(self, path: str, content: bytes, folder: Path) -> None:
        """As the contract asks."""
        self.server.on(f"/models/{path}", serve_ranges(content, etag='"v2"'))

    def cut(self, path: str, folder: Path) -> bool:
        """As the contract asks."""
        self.server.on(f"/models/{path}", cut_after(FILES[path], 0.5, reset=False))
        return True
