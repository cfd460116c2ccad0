"""The main job on real processes: plan, apply, tamper, drift, repair, upgrade, drop."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.program import Program
from support.specs import declare, mirror, spec_text

FILES = {
    "config.json": b'{"a": 1}\n',
    "vae/weights.bin.txt": b"w" * 300_000,
    "vae/config.json": b'{"vae": 1}\n',
}
MODEL = "tiny@1.0.0"
HOME = f"wan22/{MODEL}"


@pytest.fixture
def project(wanrec: Program) -> Program:
    """A project whose one model is applied."""
    source = mirror(wanrec, "tiny", FILES)
    wanrec.write("specs/tiny.toml", spec_text({MODEL: declare(FILES, source)}))
    return wanrec


def flip(path: Path) -> None:
    """Change one byte and put size and mtime back."""
    before = path.stat()
    mode = before.st_mode
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    path.chmod(mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_apply_then_no_changes(project: Program) -> None:
    """What was applied is whole, and a second run finds nothing to do."""
    done = project.ok("apply", "-y")
    assert done.stdout.splitlines()[-1].startswith("Apply complete! 3 created, 0 verified")
    assert project.files() == {f"{HOME}/{path}": data for path, data in FILES.items()}
    again = project.ok("apply", "-y")
    assert again.stdout.splitlines()[-1] == "No changes. Disk matches the specs."
    assert project.run("plan", "--detailed-exitcode").exit == 0
    assert project.run("drift").exit == 0


def test_a_flipped_byte_is_found_and_repaired(project: Program) -> None:
    """One byte flipped behind the back of size and mtime: drift says so, apply repairs it."""
    project.ok("apply", "-y")
    flip(project.root / HOME / "vae/weights.bin.txt")
    found = project.run("drift", "--deep", "--format", "json")
    assert found.exit == 2
    assert [item["path"] for item in found.json()["items"]] == ["vae/weights.bin.txt"]
    project.ok("apply", "-y")
    assert project.files()[f"{HOME}/vae/weights.bin.txt"] == FILES["vae/weights.bin.txt"]
    assert project.run("drift", "--deep").exit == 0


def test_the_events_of_a_repair_agree_with_its_summary(project: Program) -> None:
    """A verify that had to replace is begun as the one and completed as the other."""
    project.ok("apply", "-y")
    flip(project.root / HOME / "vae/weights.bin.txt")
    lines = project.ok("apply", "-y", "--format", "json").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert [(event["event"], event["action"]) for event in events if "action" in event] == [
        ("action_start", "verify"),
        ("action_complete", "replace"),
    ]
    assert events[-1]["summary"]["replaced"] == 1


def test_touch_is_verify_and_no_drift(project: Program) -> None:
    """Touched clocks are not drift: plan shows verify only, refresh-only settles it."""
    project.ok("apply", "-y")
    for path in FILES:
        os.utime(project.root / HOME / path)
    plan = project.run("plan", "--format", "json", "--detailed-exitcode")
    assert plan.exit == 2
    assert {action["action"] for action in plan.json()["actions"]} == {"verify"}
    assert project.run("drift").exit == 0
    project.ok("apply", "--refresh-only", "-y")
    assert project.ok("plan").stdout.strip() == "No changes. Disk matches the specs."


def test_an_upgrade_swaps_and_keeps_foreign_files(project: Program) -> None:
    """New bytes, a dropped file and a user's own file: the swap gets all three right."""
    project.ok("apply", "-y")
    own = project.root / HOME / "notes.txt"
    own.write_text("mine")
    files = {"config.json": b'{"a": 2}\n', "vae/config.json": FILES["vae/config.json"]}
    source = mirror(project, "tiny", files)
    project.write("specs/tiny.toml", spec_text({MODEL: declare(files, source)}))
    plan = project.ok("plan", "--format", "json").json()
    assert {a["path"]: (a["action"], a["reason"]) for a in plan["actions"]} == {
        "config.json": ("replace", "spec_changed"),
        "vae/weights.bin.txt": ("delete", "not_in_spec"),
    }
    assert plan["foreign"] == [f"{HOME}/notes.txt"]
    project.ok("apply", "-y")
    assert project.files() == {
        f"{HOME}/config.json": files["config.json"],
        f"{HOME}/notes.txt": b"mine",
        f"{HOME}/vae/config.json": FILES["vae/config.json"],
    }
    assert project.ok("plan").stdout.strip().startswith("No changes.")


def test_a_dropped_block_is_deleted(project: Program) -> None:
    """A model that left its spec goes, with --allow-delete, and leaves nothing behind."""
    project.ok("apply", "-y")
    project.write("specs/tiny.toml", "schema_version = 1\n")
    assert project.run("apply", "-y").exit == 3
    done = project.ok("apply", "-y", "--allow-delete")
    assert "3 deleted" in done.stdout
    assert project.files() == {}
    assert not (project.root / HOME).exists()
    state = json.loads((project.root / ".wanrec/state.json").read_text())
    assert state["models"] == {}
    assert state["files"] == {}


def test_lost_state_is_refused_and_rebuilt(project: Program) -> None:
    """Without state.json nothing starts afresh; rebuild needs no source."""
    spec = project.project / "specs/tiny.toml"
    spec.write_text(spec.read_text().replace("[models", "[models", 1))
    project.ok("apply", "-y")
    lineage = json.loads((project.root / ".wanrec/state.json").read_text())["lineage"]
    (project.root / ".wanrec/state.json").unlink()
    for command in (("plan",), ("apply", "-y"), ("drift",)):
        refused = project.run(*command)
        assert refused.exit == 8
        assert "STATE_MISSING" in refused.stderr + refused.stdout
    os.rename(project.project / "mirror", project.project / "gone")
    project.ok("state", "rebuild")
    assert project.ok("plan").stdout.strip() == "No changes. Disk matches the specs."
    rebuilt = json.loads((project.root / ".wanrec/state.json").read_text())
    assert rebuilt["models"].keys() == {MODEL}
    assert len(lineage) == 36


def test_a_wrong_byte_never_lands(project: Program) -> None:
    """A mirror with wrong bytes: exit 4, nothing at a final path, the plan still shows it."""
    (project.project / "mirror/tiny/config.json").write_bytes(b'{"a": 9}\n')
    failed = project.run("apply", "-y")
    assert failed.exit == 4
    assert "CHECKSUM_FAIL" in failed.stderr + failed.stdout
    assert project.files() == {}
    plan = project.ok("plan", "--format", "json").json()
    assert {a["path"]: a["bytes_to_fetch"] for a in plan["actions"]} == {
        "config.json": len(FILES["config.json"]),
        "vae/config.json": 0,
        "vae/weights.bin.txt": 0,
    }


def test_a_rebuild_knows_the_last_write_too(project: Program) -> None:
    """The backup is one write behind: what only the lost state said comes from the journal."""
    project.ok("apply", "-y")
    path = project.root / ".wanrec/state.json"
    first = json.loads(path.read_text())
    path.unlink()
    project.ok("state", "rebuild")
    assert json.loads(path.read_text())["lineage"] == first["lineage"]
    project.ok("pin", MODEL)
    path.unlink()
    project.ok("state", "rebuild")
    assert json.loads(path.read_text())["models"][MODEL]["pinned"]
    assert project.ok("plan").stdout.strip() == "No changes. Disk matches the specs."


def test_refresh_only_leaves_wrong_bytes_to_apply(project: Program) -> None:
    """--refresh-only records what still matches, names what does not, and touches no file."""
    project.ok("apply", "-y")
    flip(project.root / HOME / "vae/weights.bin.txt")
    os.utime(project.root / HOME / "config.json")
    before = project.files()
    done = project.ok("apply", "--refresh-only", "-y")
    assert done.stdout.splitlines()[-1].startswith("Apply complete! 0 created, 1 verified, 0 rep")
    assert project.files() == before
    assert project.run("drift").exit == 2
    project.ok("apply", "-y")
    assert project.files()[f"{HOME}/vae/weights.bin.txt"] == FILES["vae/weights.bin.txt"]


def test_refresh_only_keeps_the_records_of_a_dropped_block(project: Program) -> None:
    """A model that no spec names any more is refreshed, not forgotten: its delete is still due."""
    project.ok("apply", "-y")
    spec = (project.project / "specs/tiny.toml").read_text()
    project.write("specs/tiny.toml", spec.replace(MODEL, "tiny@2.0.0"))
    for path in FILES:
        os.utime(project.root / HOME / path)
    project.ok("apply", "--refresh-only", "-y")
    assert project.ok("plan", "--format", "json").json()["summary"]["delete"] == len(FILES)


def test_what_is_kept_is_not_counted_as_deleted(project: Program) -> None:
    """A file whose bytes are the user's own now survives its delete, and the line says so."""
    other = mirror(project, "other", FILES)
    project.write("specs/other.toml", spec_text({"other@1.0.0": declare(FILES, other)}))
    project.ok("apply", "-y")
    own = project.root / HOME / "config.json"
    own.chmod(0o644)
    own.write_bytes(b'{"a": 9}\n')
    (project.project / "specs/tiny.toml").unlink()
    done = project.ok("apply", "-y")
    assert ", 2 deleted. " in done.stdout.splitlines()[-1]
    assert own.read_bytes() == b'{"a": 9}\n'


def test_a_foreign_file_that_came_after_the_plan_is_not_passed_over(project: Program) -> None:
    """Each target is checked again before acting: what lies there now is refused, not skipped."""
    project.ok("plan", "--out", "p.wanplan")
    own = project.root / HOME / "config.json"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine\n")
    for _ in range(2):
        refused = project.run("apply", "p.wanplan")
        assert (refused.exit, "Error[FOREIGN_FILE]" in refused.stderr) == (3, True)
    assert own.read_bytes() == b"mine\n"
    own.unlink()
    assert "Apply complete! 3 created" in project.ok("apply", "p.wanplan").stdout
