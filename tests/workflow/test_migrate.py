"""`wanrec migrate`: a tree of model folders by name becomes models, and stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.program import Program
from support.specs import declare, spec_text

FILES = {"model_index.json": b'{"m": 1}', "vae/model.onnx": bytes(range(256)) * 30}
OLD = {**FILES, "vae/model.onnx": bytes(256 * 30)}


@pytest.fixture
def legacy(wanrec: Program, tmp_path: Path) -> Path:
    """A legacy tree: one folder is the model, one an older version of it, one is neither."""
    model = declare(FILES, "local://../nowhere")
    wanrec.write("specs/m.toml", spec_text({"m@1": model}))
    for name, files in (("Wan-m", FILES), ("Wan-m-old", OLD), ("notes", {"a.txt": b"x"})):
        for path, data in files.items():
            target = tmp_path / "legacy" / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    return tmp_path / "legacy"


def test_analyze(wanrec: Program, legacy: Path) -> None:
    """Each folder gets its model with both confidences; what fits none is left out."""
    found = wanrec.ok("migrate", "analyze", str(legacy), "--format", "json").json()
    rows = {row["folder"]: row for row in found["folders"]}
    assert set(rows) == {"Wan-m", "Wan-m-old"}
    assert (rows["Wan-m"]["by_hash_percent"], rows["Wan-m"]["by_name_percent"]) == (100, 100)
    assert rows["Wan-m-old"]["by_hash_percent"] < 10
    assert rows["Wan-m-old"]["by_name_percent"] == 100
    text = wanrec.ok("migrate", "analyze", str(legacy)).stdout
    assert "Wan-m" in text and "1 model can be whole, 0 files missing." in text
    assert not list(wanrec.root.iterdir())


def test_plan_then_apply(wanrec: Program, legacy: Path) -> None:
    """The plan is an ordinary one: it is reviewed, applied from its file, and then done."""
    done = wanrec.ok("migrate", "plan", str(legacy), "--out", "m.plan")
    assert "Plan: 2 to create" in done.stdout and "0 B to fetch" in done.stdout
    assert wanrec.files() == {}
    wanrec.ok("apply", "m.plan")
    assert wanrec.ok("plan").stdout.startswith("No changes.")


def test_plan_alone_writes_nothing(wanrec: Program, legacy: Path) -> None:
    """Without --out the plan is shown as it will be, and the root stays empty."""
    shown = wanrec.ok("migrate", "plan", str(legacy)).stdout
    assert not list(wanrec.root.iterdir())
    assert shown == wanrec.ok("migrate", "plan", str(legacy), "--out", "m.plan").stdout


def test_planning_is_no_dead_end(wanrec: Program, legacy: Path) -> None:
    """What a plan has staged can be analysed, planned again and executed; then all is there."""
    first = wanrec.ok("migrate", "plan", str(legacy), "--out", "m.plan").stdout
    found = wanrec.ok("migrate", "analyze", str(legacy), "--format", "json").json()
    assert {row["folder"]: row["by_hash_percent"] for row in found["folders"]}["Wan-m"] == 100
    assert wanrec.ok("migrate", "plan", str(legacy), "--out", "n.plan").stdout == first
    done = wanrec.ok("migrate", "execute", str(legacy))
    assert "Apply complete! 2 created" in done.stdout and done.stderr == ""
    assert wanrec.ok("plan").stdout.startswith("No changes.")
    assert "every model is there" in wanrec.ok("migrate", "plan", str(legacy)).stderr


def test_execute(wanrec: Program, legacy: Path) -> None:
    """The models are there, the legacy tree is untouched, and a second run has nothing to do."""
    before = {path: path.read_bytes() for path in legacy.rglob("*") if path.is_file()}
    wanrec.ok("migrate", "execute", str(legacy))
    assert wanrec.ok("plan").stdout.startswith("No changes.")
    assert {path: path.read_bytes() for path in legacy.rglob("*") if path.is_file()} == before
    assert "Nothing to bring in" in wanrec.ok("migrate", "execute", str(legacy)).stderr


def test_the_way_back(wanrec: Program, legacy: Path) -> None:
    """Deleting the models leaves the legacy tree whole, and it can be taken over again."""
    wanrec.ok("migrate", "execute", str(legacy))
    files = wanrec.files()
    wanrec.ok("apply", "-y", "--destroy", "--allow-delete")
    assert wanrec.files() == {}
    wanrec.ok("gc")
    assert (legacy / "Wan-m/vae/model.onnx").read_bytes() == FILES["vae/model.onnx"]
    wanrec.ok("migrate", "execute", str(legacy))
    assert wanrec.files() == files


def test_without_space(wanrec: Program, legacy: Path) -> None:
    """--link hard takes no space: one inode, and the legacy file keeps its mode."""
    old = legacy / "Wan-m/vae/model.onnx"
    old.chmod(0o640)
    wanrec.ok("migrate", "plan", str(legacy), "--link", "hard", "--out", "m.plan")
    wanrec.ok("apply", "m.plan")
    new = wanrec.root / "wan22/m@1/vae/model.onnx"
    assert new.stat().st_ino == old.stat().st_ino and old.stat().st_mode & 0o777 == 0o640
    assert wanrec.ok("plan").stdout.startswith("No changes.")


def test_folders_by_publisher(wanrec: Program, legacy: Path) -> None:
    """Two models in one folder are both told; files directly in DIR are those of the folder `.`."""
    other = {"n/weights.onnx": bytes(reversed(range(256))) * 40}
    wanrec.write("specs/n.toml", spec_text({"n@1": declare(other, "local://../nowhere")}))
    (legacy / "Wan-m" / "n").mkdir()
    (legacy / "Wan-m" / "n/weights.onnx").write_bytes(other["n/weights.onnx"])
    told = wanrec.ok("migrate", "analyze", str(legacy), "--format", "json").json()["folders"]
    assert {row["model"] for row in told if row["folder"] == "Wan-m"} == {"m@1", "n@1"}
    inside = wanrec.ok("migrate", "analyze", str(legacy / "Wan-m"), "--format", "json").json()
    rows = {(row["folder"], row["model"]) for row in inside["folders"]}
    assert {("vae", "m@1"), ("n", "n@1")} <= rows and (".", "m@1") in rows
    assert wanrec.ok("migrate", "analyze", str(legacy)).stdout.count("100%") == 4 + 1


def test_a_wrong_name_is_told_by_its_name(wanrec: Program, legacy: Path) -> None:
    """A folder whose files have the names but not the bytes is recognised, and nothing is taken."""
    for path in FILES:
        (legacy / "Wan-m" / path).unlink()
    (legacy / "Wan-m-old/model_index.json").write_bytes(b'{"m": 0}')
    rows = wanrec.ok("migrate", "analyze", str(legacy), "--format", "json").json()
    assert [(r["folder"], r["by_hash_percent"], r["by_name_percent"]) for r in rows["folders"]] == [
        ("Wan-m-old", 0, 100)
    ]
    assert rows["models"] == []
    none = wanrec.run("migrate", "plan", str(legacy), "--out", "m.plan")
    assert none.exit == 2 and not (wanrec.project / "m.plan").exists()
