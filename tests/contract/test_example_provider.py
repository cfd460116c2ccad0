"""The provider of the worked plug-in keeps the contract that it shows to others."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from wanrec.providers import register
from wanrec.providers.base import ProviderContext
from wanrec.providers.testing import FILES, Served
from wanrec.providers.testing_faults import FaultContract


class TestZip(FaultContract):
    """Files in a zip archive beside the spec."""

    @pytest.fixture(autouse=True)
    def _plugin(self, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(checkout / "docs/examples/plugin"))
        register("zip", "wanrec_acme_zip:ZipProvider")
        sys.modules.pop("wanrec_acme_zip", None)

    def serve(self, files: Mapping[str, bytes], folder: Path) -> Served:
        """As the contract asks."""
        with zipfile.ZipFile(folder / "model.zip", "w") as archive:
            for path, content in files.items():
                archive.writestr(path, content)
        return "zip://model.zip", ProviderContext(base=folder)

    def alter(self, path: str, content: bytes, folder: Path) -> None:
        """As the contract asks."""
        (folder / "model.zip").unlink()  # who reads the old one goes on with it
        self.serve({**FILES, path: content}, folder)

    def cut(self, path: str, folder: Path) -> bool:
        """The bytes no longer fit their checksum: the archive breaks at the file's end."""
        archive = folder / "model.zip"
        data = bytearray(archive.read_bytes())
        data[data.index(FILES[path])] ^= 1
        archive.write_bytes(data)
        return True
