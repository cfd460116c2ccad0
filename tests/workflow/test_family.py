"""The whole WAN2.2 family in small: shared, applied, damaged, repaired, adopted, all of it."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from support.program import Program
from support.scale_model import ScaleModel

pytestmark = pytest.mark.slow
TRIOS = ("wan22", "wan22-native")
SPECS = tuple(f"specs/{name}.toml" for name in TRIOS)


@pytest.fixture
def family(wanrec: Program) -> ScaleModel:
    """Both trios as a project."""
    made = ScaleModel(wanrec.project, TRIOS)
    made.write()
    return made


def test_apply_drift_repair(wanrec: Program, family: ScaleModel) -> None:
    """Equal content is fetched once; damage to it is one finding with all names, repaired once."""
    total, unique = family.unique_bytes(TRIOS)
    summary = wanrec.ok("plan", *SPECS, "--format", "json").json()["summary"]
    assert summary["bytes_to_fetch"] == unique
    assert summary["bytes_saved"] == total - unique
    wanrec.ok("apply", "-y", *SPECS)
    assert wanrec.ok("plan", *SPECS).stdout.startswith("No changes.")
    assert wanrec.ok("drift").stdout
    encoders = sorted(wanrec.root.rglob("models_t5_umt5-xxl-enc-bf16.pth"))
    assert len({path.stat().st_ino for path in encoders}) == 1 and len(encoders) == 3
    encoders[0].chmod(0o644)
    with encoders[0].open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    drifted = wanrec.run("drift", "--format", "json")
    assert drifted.exit == 2
    addresses = {item["address"] for item in drifted.json()["items"]}
    assert {address.partition("::")[2] for address in addresses} == {encoders[0].name}
    plan = wanrec.ok("plan", *SPECS, "--deep", "--format", "json").json()["summary"]
    assert plan["bytes_to_fetch"] == encoders[0].stat().st_size
    wanrec.ok("apply", "-y", "--deep", *SPECS)
    assert wanrec.ok("verify").stdout.endswith("all as specified.\n")


def test_adopt_the_family(wanrec: Program, family: ScaleModel, tmp_path: Path) -> None:
    """Another root gets every model out of the first one's files, with no source at all."""
    wanrec.ok("apply", "-y", *SPECS)
    family.drop_mirror()
    other = attrs.evolve(wanrec, root=tmp_path / "other")
    other.root.mkdir()
    done = other.ok("adopt", str(wanrec.root), *SPECS)
    assert "0 missing; 6 models can be whole." in done.stdout
    assert "0 B fetched" in done.stdout
    assert other.ok("plan", *SPECS).stdout.startswith("No changes.")
    assert other.ok("verify").stdout.endswith("all as specified.\n")
