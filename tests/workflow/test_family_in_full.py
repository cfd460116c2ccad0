"""The Diffusers trio of WAN2.2 in its true sizes: sparse files, all of them hashed.

For `nox -s family` only: 263 GB go through sha256 three times. Files are taken over by hard links,
so the disk needs next to nothing.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import attrs
import pytest
from support.program import Program
from support.scale_model import SCALE, ScaleModel
from support.wan22 import SPECS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SCALE != 1, reason="half an hour of hashing: nox -s family"),
]
SPEC = "specs/wan22.toml"
SMALL = Path("/dev/shm")


@pytest.mark.parametrize(
    ("words", "bytes_to_fetch", "bytes_saved"),
    [
        pytest.param(["ti2v-5B"], 34_201_418_400, 0, id="ti2v"),
        # index files whose size nobody states count 2 MB each
        pytest.param([SPEC], 263_328_601_764 + 6 * 2_000_000, 23_274_207_770, id="trio"),
    ],
)
def test_true_sizes(
    wanrec: Program,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    bytes_to_fetch: int,
    bytes_saved: int,
) -> None:
    """Plan, preflight, adopt, apply, drift, usage and gc say the figures that were published."""
    monkeypatch.setattr("support.program.TIMEOUT_S", 4 * 3600)
    models = [m for m in SPECS["wan22"][1] if words == [SPEC] or m.id.startswith(words[0])]
    made = ScaleModel(wanrec.project, ["wan22"])
    made.write(only={model.id for model in models})

    summary = wanrec.ok("plan", *words, "--format", "json").json()["summary"]
    assert (summary["bytes_to_fetch"], summary["bytes_saved"]) == (bytes_to_fetch, bytes_saved)
    if SMALL.is_dir() and shutil.disk_usage(SMALL).free < bytes_to_fetch:
        _refused(wanrec, words)

    done = wanrec.ok("adopt", "--link", "hard", str(wanrec.project / "mirror"), *words)
    assert f" 0 missing; {len(models)} model" in done.stdout and "0 B fetched" in done.stdout
    assert "No changes. Disk matches the specs." in wanrec.ok("plan", *words).stdout
    wanrec.ok("drift")

    usage = wanrec.ok("usage", "--json").json()["total"]
    assert (usage["apparent"], usage["saved"]) == (bytes_to_fetch + bytes_saved, bytes_saved)
    places = [path for path in wanrec.root.rglob("wan22/**/*") if path.is_file()]
    inodes = {path.stat().st_ino: path.stat() for path in places}.values()
    assert usage["real"] == sum(one.st_size for one in inodes) == bytes_to_fetch
    assert usage["allocated"] == sum(one.st_blocks * 512 for one in inodes)
    wanrec.ok("gc", "--max-size", "1TiB")
    assert len(places) == sum(1 for path in wanrec.root.rglob("wan22/**/*") if path.is_file())


def _refused(program: Program, words: list[str]) -> None:
    """On a disk in memory there is no room: nothing is fetched."""
    root = SMALL / f"wanrec-family-{os.getpid()}"
    root.mkdir()
    try:
        small = attrs.evolve(program, root=root)
        refused = small.run("apply", "-y", *words)
        assert refused.exit == 6 and "NO_SPACE" in refused.stderr
        assert small.files() == {}
    finally:
        shutil.rmtree(root)
