"""What `hf download` has brought already is taken from its cache, byte-checked, not fetched."""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hub_server import HubServer, running_hub
from support.program import Program
from support.specs import declare, spec_text

REPO = "Org/wan-tiny"
MODEL = "tiny@1.0.0"
FILES = {
    "config.json": b'{"layers": 2}\n',
    "vae/config.json": b'{"layers": 3}\n',
    "vae/weights.txt": b"0123456789abcdef" * 200_000,
}
CACHE = f".cache/huggingface/hub/models--{REPO.replace('/', '--')}"


@pytest.fixture
def hub(wanrec: Program) -> Iterator[HubServer]:
    """A hub with the repository, and a project that wants it from there."""
    with running_hub() as server:
        server.push(REPO, FILES)
        table = {MODEL: declare(FILES, f"hf://{REPO}")}
        wanrec.write("specs/models.toml", spec_text(table))
        yield server


def _download(hub: HubServer, home: Path, *words: str) -> None:
    program = shutil.which("hf", path=sysconfig.get_path("scripts"))
    assert program, "hf is missing: pip install huggingface_hub"
    environ = {"HF_ENDPOINT": hub.url, "HOME": str(home)}
    subprocess.run(
        [program, "download", REPO, *words],
        env=environ,
        check=True,
        capture_output=True,
        timeout=120,
    )


def _apply(wanrec: Program, hub: HubServer, *words: str, **environ: str) -> Any:
    result = wanrec.project / "result.json"
    done = wanrec.run(
        *("apply", "-y", "--json-into", str(result), *words),
        env={"HF_ENDPOINT": hub.url, **environ},
    )
    assert done.exit == 0, done.stderr
    assert wanrec.files() == {f"wan22/{MODEL}/{path}": data for path, data in FILES.items()}
    return json.loads(result.read_text().splitlines()[-1])


@pytest.mark.parametrize(
    ("words", "environ"),
    [((), {}), (("--offline",), {}), ((), {"HF_HUB_OFFLINE": "1"})],
)
def test_a_downloaded_repository_is_not_fetched(
    wanrec: Program, hub: HubServer, words: tuple[str, ...], environ: dict[str, str]
) -> None:
    """`hf download`, then `wanrec apply`: no request, zero bytes fetched; offline as well."""
    _download(hub, wanrec.home)
    asked, sent = len(hub.asked), hub.sent
    result = _apply(wanrec, hub, *words, **environ)
    assert result["summary"]["bytes_fetched"] == 0
    assert {entry["source"] for entry in result["delivered"].values()} == {f"hf://{REPO}"}
    assert (len(hub.asked), hub.sent) == (asked, sent)


def test_a_cache_elsewhere_is_found(wanrec: Program, hub: HubServer, tmp_path: Path) -> None:
    """HF_HUB_CACHE and HF_HOME say where the cache is, as they do for `hf`."""
    _download(hub, tmp_path)
    sent = hub.sent
    _apply(wanrec, hub, HF_HUB_CACHE=str(tmp_path / ".cache/huggingface/hub"))
    shutil.rmtree(wanrec.root)
    wanrec.root.mkdir()
    _apply(wanrec, hub, HF_HOME=str(tmp_path / ".cache/huggingface"))
    assert hub.sent == sent


def test_a_damaged_cache_is_not_believed(wanrec: Program, hub: HubServer) -> None:
    """A blob with a flipped byte and one that is cut short: both come from the Hub instead."""
    _download(hub, wanrec.home)
    snapshot = next((wanrec.home / CACHE / "snapshots").iterdir())
    big, small = (snapshot / path for path in ("vae/weights.txt", "config.json"))
    damaged = bytearray(big.read_bytes())
    damaged[1000] ^= 1
    big.resolve().write_bytes(damaged)
    small.resolve().write_bytes(b"{")
    sent = hub.sent
    result = _apply(wanrec, hub)
    wanted = sum(len(FILES[path]) for path in ("vae/weights.txt", "config.json"))
    assert hub.sent - sent == wanted
    assert result["summary"]["bytes_fetched"] == wanted


def test_other_revisions_in_the_cache_help(wanrec: Program, hub: HubServer) -> None:
    """Files that an upgrade left alone are taken from the revision that was downloaded."""
    _download(hub, wanrec.home)
    hub.push(REPO, {**FILES, "new.txt": b"new"})
    sent = hub.sent
    assert _apply(wanrec, hub)["summary"]["bytes_fetched"] == 0
    assert hub.sent == sent


def test_the_cache_is_left_alone(wanrec: Program, hub: HubServer) -> None:
    """What was taken from the cache still lies there, and shares no inode with the root."""
    _download(hub, wanrec.home)
    _apply(wanrec, hub)
    snapshot = next((wanrec.home / CACHE / "snapshots").iterdir())
    for path, data in FILES.items():
        assert (snapshot / path).read_bytes() == data
        landed = (wanrec.root / "wan22" / MODEL / path).stat()
        assert landed.st_ino != (snapshot / path).stat().st_ino
        assert landed.st_nlink == 1
