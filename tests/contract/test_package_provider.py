"""package:// keeps the provider contract and never runs anything of the package."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from wanrec.providers import provider_for
from wanrec.providers.base import ProviderContext
from wanrec.providers.testing import ProviderContract, Served
from wanrec.providers.testing_faults import FaultContract
from wanrec.reconcile.errors import ErrorCode, WanrecError

BOOBY_TRAP = b"raise SystemExit('the package was imported')\n"


def _install(site: Path, module: str, dist: str, files: Mapping[str, bytes]) -> None:
    """Lay out what pip leaves behind: a module folder and its .dist-info."""
    package = site / module
    package.mkdir(parents=True)
    (package / "__init__.py").write_bytes(BOOBY_TRAP)
    for path, content in files.items():
        file = package / "model" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    info = site / f"{dist.replace('-', '_')}-1.2.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.2.3\n")
    rows = [file.relative_to(site).as_posix() for file in site.rglob("*") if file.is_file()]
    (info / "RECORD").write_text("".join(f'"{row}",,\n' for row in rows))


@pytest.fixture(autouse=True)
def _restored_import_path() -> Iterator[None]:
    before = list(sys.path)
    yield
    sys.path[:] = before


class TestByModuleName(FaultContract):
    """The module's own name."""

    def serve(self, files: Mapping[str, bytes], folder: Path) -> Served:
        """As the contract asks."""
        _install(folder, "trapped_model", "trapped-model-files", files)
        sys.path.insert(0, str(folder))
        return "package://trapped_model/model", ProviderContext(base=folder)

    def alter(self, path: str, content: bytes, folder: Path) -> None:
        """As the contract asks."""
        (folder / "trapped_model" / "model" / path).write_bytes(content)


class TestByDistributionName(ProviderContract):
    """The name that was given to pip."""

    def serve(self, files: Mapping[str, bytes], folder: Path) -> Served:
        """As the contract asks."""
        _install(folder, "trapped_model_b", "other-dist-name", files)
        sys.path.insert(0, str(folder))
        return "package://other-dist-name/model", ProviderContext(base=folder)


class TestByDistributionAndModule(ProviderContract):
    """Distribution and module folder, one after the other."""

    def serve(self, files: Mapping[str, bytes], folder: Path) -> Served:
        """As the contract asks."""
        _install(folder, "trapped_model_c", "third-dist", files)
        sys.path.insert(0, str(folder))
        return "package://third-dist/trapped_model_c/model", ProviderContext(base=folder)


def test_revision_is_the_version_of_the_distribution(tmp_path: Path) -> None:
    """What was delivered can be traced to a version."""
    _install(tmp_path, "trapped_model_d", "fourth-dist", {"a.json": b"{}"})
    sys.path.insert(0, str(tmp_path))
    provider = provider_for("package://fourth-dist/model", ProviderContext(base=tmp_path))
    assert provider.locate("a.json").revision == "1.2.3"


def test_package_that_is_not_installed_names_the_command(tmp_path: Path) -> None:
    """A missing package is SOURCE_UNAVAILABLE and says what to install."""
    provider = provider_for("package://not-installed-here/x", ProviderContext(base=tmp_path))
    with pytest.raises(WanrecError) as caught:
        provider.locate("a.json")
    assert caught.value.code is ErrorCode.SOURCE_UNAVAILABLE
    assert caught.value.hint == "pip install not-installed-here"


def test_folder_that_the_package_does_not_have(tmp_path: Path) -> None:
    """An installed package without that folder is NOT_FOUND_AT_SOURCE."""
    _install(tmp_path, "trapped_model_e", "fifth-dist", {"a.json": b"{}"})
    sys.path.insert(0, str(tmp_path))
    provider = provider_for("package://trapped_model_e/models", ProviderContext(base=tmp_path))
    with pytest.raises(WanrecError) as caught:
        provider.locate("a.json")
    assert caught.value.code is ErrorCode.NOT_FOUND_AT_SOURCE


def test_half_made_module_without_a_spec_is_no_defect(tmp_path: Path) -> None:
    """A name that is being run as __main__ has no spec; that is an absent package, not a crash."""
    provider = provider_for("package://__main__/x", ProviderContext(base=tmp_path))
    with pytest.raises(WanrecError):
        provider.locate("a.json")
