"""Several projects on one root, lost states, protection: what must never be taken from anyone."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import attrs
import pytest
from support.program import Program
from support.specs import declare, mirror, spec_text

SHARED = {"weights.txt": b"s" * 5000, "config.json": b"{}\n"}
OWN = {"a.txt": b"a" * 100}
OTHER = {"b.txt": b"b" * 100}


def state_of(program: Program) -> dict[str, Any]:
    """The stored state."""
    document: dict[str, Any] = json.loads((program.root / ".wanrec/state.json").read_text())
    return document


def project(wanrec: Program, name: str, models: dict[str, dict[str, bytes]]) -> Program:
    """A project of that name in a folder of its own, on the same root."""
    here = attrs.evolve(wanrec, project=wanrec.project / name)
    here.project.mkdir(exist_ok=True)
    here.write("wanrec.toml", f'project = "{name}"\n')
    declared = {key: declare(files, mirror(here, key, files)) for key, files in models.items()}
    here.write("specs/all.toml", spec_text(declared, policy={"max_delete": 1.0}))
    return here


def test_projects_do_not_touch_each_other(wanrec: Program) -> None:
    """Two projects in turn on one root; a model of both goes when both have dropped it."""
    one = project(wanrec, "one", {"own@1": OWN, "shared@1": SHARED})
    two = project(wanrec, "two", {"other@1": OTHER, "shared@1": SHARED})
    one.ok("apply", "-y")
    two.ok("apply", "-y")
    assert set(state_of(one)["models"]) == {"own@1", "other@1", "shared@1"}
    assert one.ok("plan").stdout.startswith("No changes.")
    assert two.ok("plan").stdout.startswith("No changes.")

    one = project(wanrec, "one", {"own@1": OWN})
    one.ok("apply", "-y")
    assert "wan22/shared@1/weights.txt" in one.files()
    assert [o["project"] for o in state_of(one)["models"]["shared@1"]["owners"]] == ["two"]

    two = project(wanrec, "two", {"other@1": OTHER})
    two.ok("apply", "-y")
    assert set(two.files()) == {"wan22/own@1/a.txt", "wan22/other@1/b.txt"}


def test_same_id_with_other_bytes_is_refused(wanrec: Program) -> None:
    """The id another project owns, wanted with other bytes: NAME_COLLISION, nothing touched."""
    project(wanrec, "one", {"shared@1": SHARED}).ok("apply", "-y")
    two = project(wanrec, "two", {"shared@1": {**SHARED, "config.json": b'{"x": 1}\n'}})
    refused = two.run("apply", "-y")
    assert refused.exit == 3
    assert "NAME_COLLISION" in refused.stderr
    assert two.files()["wan22/shared@1/config.json"] == SHARED["config.json"]


def test_protected_model_outlives_its_block(wanrec: Program) -> None:
    """A protected model's dropped block: the plan shows the refused delete, nothing goes."""
    spec = {
        "kept@1": declare(OWN, mirror(wanrec, "kept", OWN), protect=True),
        "other@1": declare(OTHER, mirror(wanrec, "other", OTHER)),
    }
    wanrec.write("specs/s.toml", spec_text(spec))
    wanrec.ok("apply", "-y")
    wanrec.write("specs/s.toml", spec_text({"other@1": spec["other@1"]}))
    for command in (("plan", "--out", "p"), ("apply", "-y", "--allow-delete")):
        refused = wanrec.run(*command)
        assert refused.exit == 3
        assert "blocked: PROTECTED" in refused.stdout
        assert "Error[PROTECTED]" in refused.stderr
    assert not (wanrec.project / "p").exists()
    assert wanrec.files()["wan22/kept@1/a.txt"] == OWN["a.txt"]


def test_rebuild_restores_what_backup_remembers(wanrec: Program) -> None:
    """A lost state: refused by all, rebuilt without a source, owners and protection intact."""
    one = project(wanrec, "one", {"own@1": OWN})
    spec = {"kept@1": declare(OTHER, mirror(wanrec, "kept", OTHER), protect=True)}
    wanrec.write("specs/s.toml", spec_text(spec))
    one.ok("apply", "-y")
    wanrec.ok("apply", "-y", "specs/s.toml")
    one.write("specs/more.toml", spec_text({"late@1": declare(SHARED, mirror(one, "l", SHARED))}))
    one.ok("apply", "-y")
    before = state_of(wanrec)
    (wanrec.root / ".wanrec/state.json").unlink()
    for command in (("plan", "specs/s.toml"), ("apply", "-y", "specs/s.toml"), ("drift",)):
        assert wanrec.run(*command).exit == 8
    shutil.rmtree(wanrec.project / "mirror")
    wanrec.ok("state", "rebuild")
    after = state_of(wanrec)
    assert after["lineage"] == before["lineage"]
    assert after["serial"] > before["serial"] - 1
    assert after["models"]["own@1"]["owners"] == before["models"]["own@1"]["owners"]
    assert after["models"]["kept@1"]["protect"] is True
    assert wanrec.ok("plan", "specs/s.toml").stdout.startswith("No changes.")
    assert wanrec.run("drift", "--deep").exit == 0
    one.ok("apply", "-y")
    assert one.ok("plan").stdout.startswith("No changes.")


@pytest.mark.skipif(os.name == "nt", reason="owners are a thing of POSIX")
def test_chown_and_touch_are_not_drift(wanrec: Program) -> None:
    """`chown -R` and `touch` over the root: plan shows verify only, drift exits 0."""
    project(wanrec, "one", {"own@1": OWN, "shared@1": SHARED}).ok("apply", "-y")
    one = attrs.evolve(wanrec, project=wanrec.project / "one")
    uid, gid = (65534, 65534) if os.geteuid() == 0 else (-1, -1)  # only root gives files away
    for path in (wanrec.root / "wan22").rglob("*"):
        os.chown(path, uid, gid)
        os.utime(path)
    plan = one.ok("plan", "--format", "json").json()
    assert {action["action"] for action in plan["actions"]} == {"verify"}
    assert {action["reason"] for action in plan["actions"]} == {"stat_changed"}
    assert one.run("drift").exit == 0
    one.ok("apply", "-y")
    assert one.ok("plan").stdout.startswith("No changes.")


def test_unnamed_project_from_elsewhere_may_not_delete(wanrec: Program) -> None:
    """The project name `default` used from two directories: deletes are PROJECT_UNNAMED."""
    one = attrs.evolve(wanrec, project=wanrec.project / "one")
    two = attrs.evolve(wanrec, project=wanrec.project / "two")
    for here, key, files in ((one, "own@1", OWN), (two, "other@1", OTHER)):
        here.project.mkdir()
        spec = {key: declare(files, mirror(here, key, files))}
        here.write("specs/s.toml", spec_text(spec, policy={"max_delete": 1.0}))
    one.ok("apply", "-y")
    refused = two.run("apply", "-y")
    assert refused.exit == 3
    assert "PROJECT_UNNAMED" in refused.stderr
    assert one.files() == {"wan22/own@1/a.txt": OWN["a.txt"]}
    for name in ("state.json", "state.json.backup", "journal/folded"):
        (one.root / ".wanrec" / name).unlink(missing_ok=True)
    one.ok("state", "rebuild")
    assert "PROJECT_UNNAMED" in two.run("plan").stderr


@pytest.mark.parametrize(
    ("kind", "code"),
    [("symlink", "INVALID_CONFIG"), ("absent", "INVALID_CONFIG"), ("file", "INVALID_CONFIG")],
)
def test_bad_roots_are_refused(wanrec: Program, tmp_path: Path, kind: str, code: str) -> None:
    """A root that is a link, a file or not there is refused before anything is touched."""
    root = tmp_path / "badroot"
    if kind == "symlink":
        root.symlink_to(wanrec.root)
    elif kind == "file":
        root.write_text("x")
    wanrec.write("specs/s.toml", spec_text({"own@1": declare(OWN, mirror(wanrec, "o", OWN))}))
    refused = wanrec.run("--root", str(root), "apply", "-y")
    assert refused.exit == 3
    assert code in refused.stderr
    assert wanrec.files() == {}
