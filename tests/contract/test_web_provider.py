"""https:// keeps the provider contract; here against a plain file server on loopback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.lying_server import LyingServer, serve_ranges

from wanrec.providers.base import ProviderContext
from wanrec.providers.testing import ProviderContract, Served


class TestWeb(ProviderContract):
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
