"""The whole WAN2.2 family, 1:1000: planned, refused for room, applied, drifted, adopted, evicted.

One root is made for all tests of this file; each leaves it as it found it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from support.program import Program
from support.scale_model import ScaleModel
from support.wan22 import SPECS

DIFFUSERS = "wan22"
ON_DEMAND = "comfy-s2v-14B@2.2.0"


@attrs.frozen(kw_only=True)
class Family:
    """A project with the three specs and their mirror, and the root they are applied to."""

    program: Program
    made: ScaleModel

    def elsewhere(self, root: Path) -> Program:
        """The same project on an empty root."""
        root.mkdir()
        return attrs.evolve(self.program, root=root)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """The family, applied."""
    top = tmp_path_factory.mktemp("family")
    program = Program(project=top / "project", root=top / "root", home=top / "home")
    for directory in (program.project, program.root, program.home):
        directory.mkdir()
    made = ScaleModel(program.project)
    made.write()
    program.ok("apply", "-y")
    return Family(program=program, made=made)


def blocks(places: Iterator[Path] | list[Path]) -> dict[tuple[int, int], os.stat_result]:
    """The stat of every inode behind these files."""
    found = (place.lstat() for place in places if place.is_file())
    return {(one.st_dev, one.st_ino): one for one in found}


def test_the_plan_fetches_each_content_once(family: Family, tmp_path: Path) -> None:
    """What the plan fetches is the distinct content; what it saves is the rest, to the byte."""
    plan = family.elsewhere(tmp_path / "r").ok("plan", "--format", "json").json()
    wanted = {a["address"]: (a["sha256"], a["size"]) for a in plan["actions"]}
    total = sum(size for _, size in wanted.values())
    unique = sum(size for _, size in set(wanted.values()))
    assert plan["summary"]["bytes_to_fetch"] == unique
    assert plan["summary"]["bytes_saved"] == total - unique
    models = {action["model"] for action in plan["actions"]}
    assert models == {model.id for name in SPECS for model in SPECS[name][1]} - {ON_DEMAND}


def test_a_disk_that_is_too_small(wanrec: Program) -> None:
    """Ten thousand times the real thing: NO_SPACE names what is missing; nothing was begun."""
    ScaleModel(wanrec.project, scale=1 / 10_000).write(only=())
    refused = wanrec.run("apply", "-y")
    assert refused.exit == 6 and "NO_SPACE" in refused.stderr
    assert wanrec.files() == {} and not list(wanrec.root.glob(".wanrec/p*/*"))


def test_applied_is_converged(family: Family) -> None:
    """After the apply: no changes, no drift, every file as specified."""
    assert family.program.ok("plan").stdout.startswith("No changes.")
    assert family.program.ok("drift", "--format", "json").json()["drifted"] is False
    verified = family.program.ok("verify", "--json").json()
    assert verified["checked"] == len(family.program.files())


def test_usage_agrees_with_stat_and_du(family: Family) -> None:
    """Apparent, real, shared and allocated bytes, and those of the whole root, to the byte."""
    program = family.program
    usage = program.ok("usage", "--json").json()
    for figures in usage["models"]:
        key, bracket, variant = figures["model"].rstrip("]").partition("[")
        folder = f"{key}@{variant}" if bracket else key
        places = list((program.root / "wan22" / folder).rglob("*"))
        inodes = blocks(places).values()
        assert figures["apparent"] == sum(p.stat().st_size for p in places if p.is_file())
        assert figures["real"] == sum(one.st_size for one in inodes)
        assert figures["allocated"] == sum(one.st_blocks * 512 for one in inodes)
    everything = blocks((program.root / "wan22").rglob("*")).values()
    assert usage["total"]["real"] == sum(one.st_size for one in everything)
    assert usage["total"]["allocated"] == sum(one.st_blocks * 512 for one in everything)
    du = subprocess.run(
        ["du", "-s", "--block-size=1", program.root], capture_output=True, text=True, check=True
    )
    assert usage["disk"]["total"] == int(du.stdout.split()[0])


def test_the_trio_saves_what_it_shares(family: Family, tmp_path: Path) -> None:
    """The Diffusers trio alone: `du` of its files is less by exactly the shared bytes."""
    trio = family.elsewhere(tmp_path / "trio")
    trio.ok("apply", "-y", f"specs/{DIFFUSERS}.toml")
    total, unique = family.made.unique_bytes([DIFFUSERS])
    usage = trio.ok("usage", "--json").json()["total"]
    assert (usage["apparent"], usage["real"]) == (total, unique)
    du = ["du", "-s", "--apparent-size", "--block-size=1"]
    places = sorted(path for path in trio.root.rglob("wan22/**/*") if path.is_file())
    once = subprocess.run([*du, "-c", *places], capture_output=True, text=True, check=True)
    counted = subprocess.run([*du, "-c", "-l", *places], capture_output=True, text=True, check=True)
    saved = _sum(counted.stdout) - _sum(once.stdout)
    assert saved == total - unique == usage["saved"]


def _sum(told: str) -> int:
    """The total line of `du -c`."""
    return int(told.splitlines()[-1].split()[0])


def test_damage_is_one_finding(family: Family) -> None:
    """Damage to a shared file is found under all its names, fetched once and mended everywhere."""
    program = family.program
    encoders = sorted(program.root.rglob("models_t5_umt5-xxl-enc-bf16.pth"))
    assert len({path.stat().st_ino for path in encoders}) == 1 and len(encoders) == 3
    encoders[0].chmod(0o644)
    with encoders[0].open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    drifted = program.run("drift", "--format", "json")
    assert drifted.exit == 2
    addresses = {item["address"] for item in drifted.json()["items"]}
    assert {address.partition("::")[2] for address in addresses} == {encoders[0].name}
    mended = program.ok("apply", "-y").stdout
    assert "3 replaced" in mended, mended
    assert program.ok("verify").stdout.endswith("all as specified.\n")


def test_adopted_from_what_other_programs_left(family: Family, tmp_path: Path) -> None:
    """A Hub cache, `hf download` folders and a ComfyUI tree give the family, with no source."""
    other = family.elsewhere(tmp_path / "r")
    left = tmp_path / "left"
    family.made.hub_cache("wan22", left / "huggingface/hub")
    family.made.downloaded("wan22-native", left / "checkpoints")
    family.made.comfy("wan22-comfy", left / "ComfyUI/models")
    mirror = family.made.project / "mirror"
    mirror.rename(mirror.with_name("away"))
    try:
        done = other.ok("adopt", str(left))
        assert " 0 missing; " in done.stdout and "0 B fetched" in done.stdout
        assert other.ok("plan").stdout.startswith("No changes.")
    finally:
        mirror.with_name("away").rename(mirror)
    more = set(other.files()) - set(family.program.files())
    assert set(family.program.files()) < set(other.files())
    assert {path.split("/")[1] for path in more} == {ON_DEMAND, "comfy-umt5-xxl@2.1.0@fp16"}
    shutil.rmtree(left)
    assert other.ok("verify").stdout.endswith("all as specified.\n")


def test_gc_takes_what_nobody_asked_for(family: Family) -> None:
    """Under a quota the on-demand model goes, and no byte of any other."""
    program = family.program
    before = set(program.files())
    program.ok("ensure", ON_DEMAND)
    brought = set(program.files()) - before
    assert brought and all(ON_DEMAND in path for path in brought)
    told = program.ok("gc", "--max-size", "1", "--dry-run").stdout
    assert ON_DEMAND in told
    program.run("gc", "--max-size", "1")
    assert set(program.files()) == before
    assert program.ok("plan").stdout.startswith("No changes.")
