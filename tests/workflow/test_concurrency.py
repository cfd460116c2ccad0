"""Several applies at once on one root, and saved plans that are interrupted: real processes."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.faults import MODEL, NEW, OLD, inject, kill_at, leftovers, models_on_disk, want
from support.program import Program, command_line
from support.specs import declare, mirror, spec_text

from wanrec.state.file import FileStore

FILES = {f"part-{n}.txt": bytes([97 + n]) * 150_000 for n in range(6)}
TOTAL = sum(map(len, FILES.values()))


def together(programs: list[Program], *args: str) -> list[tuple[int, str, str]]:
    """Run them all at the same time; exit code and streams of each."""
    running = [program.start(*args) for program in programs]
    ended = []
    for process in running:
        out, err = process.communicate(timeout=120)
        ended.append((process.returncode, out, err))
    return ended


def delivered(events: str) -> int:
    """Bytes that came from a source, by the NDJSON events of one run."""
    lines = [json.loads(line) for line in events.splitlines()]
    return sum(line.get("bytes", 0) for line in lines if "action_complete" in line.values())


def state_of(program: Program) -> dict[str, Any]:
    """The state file."""
    loaded: dict[str, Any] = json.loads((program.root / ".wanrec/state.json").read_bytes())
    return loaded


def test_eight_applies_of_one_spec_copy_each_byte_once(wanrec: Program) -> None:
    """Eight at once on a fresh root: all exit 0, each byte delivered once, one consistent state."""
    want(wanrec, tiny=FILES)
    ended = together([wanrec] * 8, "apply", "-y", "--format", "json")
    assert [code for code, _, _ in ended] == [0] * 8, "\n".join(err for _, _, err in ended)
    assert sum(delivered(out) for _, out, _ in ended) == TOTAL
    assert models_on_disk(wanrec) == {MODEL: FILES}
    assert state_of(wanrec)["files"].keys() == {f"{MODEL}::{path}" for path in FILES}
    assert state_of(wanrec)["serial"] == 1
    assert leftovers(wanrec) == []
    wanrec.ok("drift", "--deep")
    assert wanrec.ok("plan").stdout.startswith("No changes.")


def test_eight_upgrades_after_a_grace_that_is_over(wanrec: Program) -> None:
    """Eight at once that would all clear the same old directory: none trips over another."""
    for version in (b"1", b"2", b"3"):
        want(wanrec, tiny={"a.txt": version, "w.txt": b"w" * 9000})
        env: dict[str, str | None] = {"WANREC_SWAP_GRACE": "0"}
        running = [wanrec.start("apply", "-y", env=env) for _ in range(8)]
        for process in running:
            _, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
    wanrec.ok("apply", "-y", env={"WANREC_SWAP_GRACE": "0"})
    assert models_on_disk(wanrec) == {MODEL: {"a.txt": b"3", "w.txt": b"w" * 9000}}
    assert leftovers(wanrec) == []
    assert list((wanrec.root / ".wanrec/stage/tree").iterdir()) == []


def project_of(wanrec: Program, name: str, **models: dict[str, bytes]) -> Program:
    """Another project on the same root."""
    other = Program(project=wanrec.project.parent / name, root=wanrec.root, home=wanrec.home)
    other.project.mkdir()
    tables = {
        f"{model}@1.0.0": declare(files, mirror(other, model, files))
        for model, files in models.items()
    }
    other.write("specs/models.toml", spec_text(tables))
    other.write("wanrec.toml", f'project = "{name}"\n')
    return other


def test_two_projects_at_once_on_one_root(wanrec: Program) -> None:
    """Different projects together: both exit 0, own models and the shared one whole and owned."""
    red = project_of(wanrec, "red", tiny=FILES, both=NEW)
    blue = project_of(wanrec, "blue", other=OLD, both=NEW)
    for code, _, err in together([red, blue], "apply", "-y"):
        assert code == 0, err
    assert models_on_disk(wanrec) == {MODEL: FILES, "other@1.0.0": OLD, "both@1.0.0": NEW}
    owners = state_of(wanrec)["models"]["both@1.0.0"]["owners"]
    assert {owner["project"] for owner in owners} == {"red", "blue"}
    for program in (red, blue):
        assert program.ok("plan").stdout.startswith("No changes.")
        program.ok("drift", "--deep")
    assert leftovers(wanrec) == []


@contextmanager
def model_lock(program: Program, model: str) -> Iterator[None]:
    """Another process that holds a model's lock inside the block."""
    code = (
        "import pathlib,sys\nfrom wanrec.state.lock import LockRegistry\n"
        "with LockRegistry(pathlib.Path(sys.argv[1])).acquire(sys.argv[2], 5, 'apply'):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    python = Path(command_line()[0]).with_name("python")
    command = [str(python), "-c", code, str(program.root / ".wanrec/locks"), f"model-{model}"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.stdin.close()


def until_committed(program: Program, key: str) -> None:
    """Wait until a run that is still at work has recorded the model."""
    deadline = time.monotonic() + 60
    while key not in FileStore(program.root).read_overlay().state.models:
        assert time.monotonic() < deadline, f"{key} was never recorded"
        time.sleep(0.02)


def test_linked_by_another_run_while_at_work(wanrec: Program) -> None:
    """A file that another run links before this one ends: recorded with its last clock, trusted."""
    red = project_of(wanrec, "red", tiny=FILES, both=NEW)
    blue = project_of(wanrec, "blue", other=OLD)
    (wanrec.root / ".wanrec/locks").mkdir(parents=True)
    shared = [wanrec.root / f"wan22/{model}@1.0.0/vae/weights.txt" for model in ("both", "other")]
    with model_lock(wanrec, MODEL):
        running = red.start("apply", "-y")
        until_committed(wanrec, "both@1.0.0")
        blue.ok("apply", "-y")
        assert shared[0].samefile(shared[1])
    _, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    for program in (red, blue):
        assert program.ok("plan").stdout.startswith("No changes.")


def test_other_models_do_not_wait_for_a_busy_one(wanrec: Program) -> None:
    """While one model is locked, another is applied at once; the locked one names its holder."""
    (wanrec.root / ".wanrec/locks").mkdir(parents=True)
    want(wanrec, tiny=NEW, twin=OLD)
    with model_lock(wanrec, MODEL):
        wanrec.ok("apply", "-y", "twin", "--lock-timeout", "0")
        refused = wanrec.run("apply", "-y", MODEL, "--lock-timeout", "0")
        assert refused.exit == 7
        assert "LOCK_TIMEOUT" in refused.stderr
    assert models_on_disk(wanrec) == {"twin@1.0.0": OLD}
    wanrec.ok("apply", "-y", "--lock-timeout", "0")


def snapshot(root: Path) -> dict[str, tuple[int, int, int]]:
    """Inode, size and mtime of everything under the root."""
    return {
        str(path.relative_to(root)): (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        for path in sorted(root.rglob("*"))
        for stat in [path.lstat()]
    }


@pytest.fixture
def planned(wanrec: Program) -> Program:
    """A project with two applied models and a saved plan `p` that upgrades both."""
    want(wanrec, tiny=OLD, twin=OLD | {"x.json": b"1"})
    wanrec.ok("apply", "-y")
    want(wanrec, tiny=NEW, twin=NEW | {"x.json": b"2"})
    wanrec.ok("plan", "--out", "p")
    return wanrec


AFTER = {MODEL: NEW, "twin@1.0.0": NEW | {"x.json": b"2"}}


@pytest.mark.parametrize("number", [12, 25, 40, 55, 70, 85, 100])
def test_a_killed_saved_plan_goes_on_and_knows_when_it_is_done(
    planned: Program, number: int
) -> None:
    """`apply p` killed half-way: again, and it finishes; once more, and it touches nothing."""
    code, out, err = kill_at(planned, number, "apply", "p", "--parallelism", "1")
    assert code == -9, f"{out}\n{err}"
    planned.ok("apply", "p")
    assert models_on_disk(planned) == AFTER
    before = snapshot(planned.root)
    done = planned.ok("apply", "p")
    assert done.stdout.splitlines()[-1] == "Already applied."
    assert snapshot(planned.root) == before
    assert leftovers(planned) == []
    planned.ok("drift", "--deep")


@pytest.mark.strace
def test_a_saved_plan_killed_at_its_swap_goes_on(planned: Program) -> None:
    """The same with strace, just before a directory is exchanged."""
    trees = planned.root / ".wanrec/stage/tree"
    code, out, err, _ = inject(
        planned, "renameat2", "signal=KILL:when=1", "apply", "p", paths=[trees]
    )
    assert code in (-9, 137), f"{out}\n{err}"
    planned.ok("apply", "p")
    assert models_on_disk(planned) == AFTER
    assert planned.ok("apply", "p").stdout.splitlines()[-1] == "Already applied."


def test_another_apply_makes_a_saved_plan_stale(planned: Program) -> None:
    """The state moved on for another reason: exit 8 PLAN_STALE, nothing done."""
    spec = planned.project / "specs/models.toml"
    wanted = spec.read_bytes()
    want(planned, tiny=OLD, twin=OLD | {"x.json": b"3"})
    planned.ok("apply", "-y")
    spec.write_bytes(wanted)
    for path, data in (NEW | {"x.json": b"2"}).items():
        planned.write(f"mirror/twin/{path}", data)
    before = planned.files()
    refused = planned.run("apply", "p")
    assert refused.exit == 8
    assert "PLAN_STALE" in refused.stderr
    assert planned.files() == before


def test_an_edited_plan_is_refused(planned: Program) -> None:
    """One word changed in the plan file: exit 8 PLAN_CORRUPT, nothing done."""
    plan = planned.project / "p"
    data = plan.read_bytes()
    edited = data.replace(b'"delete"', b'"forget"', 1)
    assert edited != data
    plan.write_bytes(edited)
    before = snapshot(planned.root)
    refused = planned.run("apply", "p")
    assert refused.exit == 8
    assert "PLAN_CORRUPT" in refused.stderr
    assert snapshot(planned.root) == before
    assert os.path.exists(plan)
