"""local:// and file:// keep the provider contract, and add their own rules for what is a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from wanrec.providers import provider_for
from wanrec.providers.base import ProviderContext
from wanrec.providers.testing import FetchHarness, ProviderContract, Served
from wanrec.providers.testing_faults import FaultContract
from wanrec.reconcile.errors import ErrorCode, WanrecError


def _write(files: Mapping[str, bytes], folder: Path) -> None:
    for path, content in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


class TestLocalBesideTheSpec(FaultContract):
    """A relative local:// source beside the spec file."""

    def serve(self, files: Mapping[str, bytes], folder: Path) -> Served:
        """As the contract asks."""
        _write(files, folder / "mirror@1.0")
        return "local://mirror@1.0", ProviderContext(base=folder)

    def alter(self, path: str, content: bytes, folder: Path) -> None:
        """As the contract asks."""
        _write({path: content}, folder / "mirror@1.0")


class TestLocalRoot(ProviderContract):
    """A relative local:// source below local_root."""

    def serve(self, files: Mapping[str, bytes], folder: Path) -> Served:
        """As the contract asks."""
        _write(files, folder / "mirrors" / "m")
        context = ProviderContext(base=folder / "specs", local_root=folder / "mirrors")
        return "local://m", context


class TestFileUrl(ProviderContract):
    """An absolute file:// source, percent-encoded."""

    def serve(self, files: Mapping[str, bytes], folder: Path) -> Served:
        """As the contract asks."""
        _write(files, folder / "my models")
        return (folder / "my models").as_uri(), ProviderContext(base=folder / "elsewhere")


class TestHubCacheLayout(ProviderContract):
    """A folder of symlinks to blobs outside it, as the HuggingFace cache is made."""

    def serve(self, files: Mapping[str, bytes], folder: Path) -> Served:
        """As the contract asks."""
        blobs = folder / "blobs"
        blobs.mkdir()
        for number, (path, content) in enumerate(files.items()):
            (blobs / str(number)).write_bytes(content)
            link = folder / "snapshots" / "c0ffee" / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blobs / str(number), link.parent))
        return "local://snapshots/c0ffee", ProviderContext(base=folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the platform has no FIFOs")
def test_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    """A FIFO at the source is UNSAFE_PATH at once, and never hangs the run."""
    os.mkfifo(tmp_path / "weights.bin")
    harness = FetchHarness(tmp_path / "root")
    with pytest.raises(WanrecError) as caught:
        harness.fetch("weights.bin", None, ("local://.", ProviderContext(base=tmp_path)))
    assert caught.value.code is ErrorCode.UNSAFE_PATH


def test_device_behind_a_symlink_is_refused(tmp_path: Path) -> None:
    """A symlink to a device is UNSAFE_PATH."""
    (tmp_path / "weights.bin").symlink_to("/dev/zero")
    harness = FetchHarness(tmp_path / "root")
    with pytest.raises(WanrecError) as caught:
        harness.fetch("weights.bin", None, ("local://.", ProviderContext(base=tmp_path)))
    assert caught.value.code is ErrorCode.UNSAFE_PATH


def test_folder_at_the_name_of_a_file_is_not_found_or_refused(tmp_path: Path) -> None:
    """A folder where a file is wanted is no file."""
    (tmp_path / "weights.bin").mkdir()
    harness = FetchHarness(tmp_path / "root")
    with pytest.raises(WanrecError) as caught:
        harness.fetch("weights.bin", None, ("local://.", ProviderContext(base=tmp_path)))
    assert caught.value.code in (ErrorCode.UNSAFE_PATH, ErrorCode.NOT_FOUND_AT_SOURCE)


def test_symlink_loop_and_broken_link_are_reported(tmp_path: Path) -> None:
    """A link that leads nowhere is an error of the source, not a defect."""
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "broken").symlink_to("nothing")
    provider = provider_for("local://.", ProviderContext(base=tmp_path))
    for name, code in (
        ("loop", ErrorCode.UNSAFE_PATH),
        ("broken", ErrorCode.NOT_FOUND_AT_SOURCE),
    ):
        with pytest.raises(WanrecError) as caught:
            provider.open_range(provider.locate(name), 0, None)
        assert caught.value.code is code


def test_missing_folder_says_where_relative_sources_start(tmp_path: Path) -> None:
    """A source folder that does not exist is SOURCE_UNAVAILABLE with a hint."""
    provider = provider_for("local://gone", ProviderContext(base=tmp_path))
    health = provider.check()
    assert (health.ok, health.code) == (False, ErrorCode.SOURCE_UNAVAILABLE)
    assert "local_root" in health.hint


def test_git_and_cache_folders_are_no_model_files(tmp_path: Path) -> None:
    """Folders that tools keep beside a model are not listed."""
    _write({".git/HEAD": b"x", ".cache/huggingface/a.lock": b"", "a.json": b"{}"}, tmp_path)
    provider = provider_for("local://.", ProviderContext(base=tmp_path))
    assert [entry.path for entry in provider.catalogue()] == ["a.json"]
