"""The exit-code table of the contract, on the real program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.program import Program
from support.small import declare

MODEL = {"a@1": {"config.json": b"{}", "weights/w.txt": b"weights"}}


@pytest.fixture
def project(wanrec: Program) -> Program:
    """A project of one model with two files, not applied yet."""
    declare(wanrec, MODEL)
    return wanrec


@pytest.fixture
def applied(project: Program) -> Program:
    """The same, applied."""
    project.ok("apply", "-y")
    return project


def weight(program: Program) -> Path:
    """The installed file that the tests tamper with."""
    return program.root / "test/a@1/weights/w.txt"


def test_0_nothing_to_report(applied: Program) -> None:
    """A converged root: plan, drift and apply exit 0 with the frozen line."""
    for command in (("plan", "--detailed-exitcode"), ("apply", "-y"), ("apply",)):
        assert applied.ok(*command).stdout == "No changes. Disk matches the specs.\n"
    assert applied.run("drift").exit == 0


def test_2_differences(applied: Program) -> None:
    """A missing file: drift and `plan --detailed-exitcode` exit 2, plain plan exits 0."""
    weight(applied).unlink()
    assert applied.run("drift").exit == 2
    assert applied.run("plan", "--detailed-exitcode").exit == 2
    assert applied.run("plan").exit == 0
    assert applied.run("status", "--check").exit == 2


def test_2_a_doubtful_file_of_the_right_size(applied: Program) -> None:
    """`status` hashes what stats leave in doubt: other bytes are CORRUPT, a touch is nothing."""
    file, good = weight(applied), weight(applied).read_bytes()
    file.chmod(0o644)
    os.utime(file, (1, 1))
    assert applied.run("status", "--check").exit == 0
    file.write_bytes(bytes(len(good)))
    assert "CORRUPT" in applied.ok("status").stdout
    assert applied.run("status", "--check").exit == 2
    assert "CORRUPT" not in applied.ok("status", env={"WANREC_REHASH_BUDGET": "0"}).stdout


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ("schema_version = 1\nmodles = 1\n", "INVALID_MANIFEST"),
        ("schema_version = 99\n", "SCHEMA_VERSION_MISMATCH"),
        ("not toml", "INVALID_MANIFEST"),
    ],
)
def test_3_refused_specs(wanrec: Program, spec: str, code: str) -> None:
    """A spec that is not right exits 3 with its code, in text and as a JSON document."""
    wanrec.write("specs/models.toml", spec)
    text = wanrec.run("validate")
    assert (text.exit, text.stdout) == (3, "")
    assert text.stderr.startswith(f"Error[{code}]: ")
    document = wanrec.run("validate", "--format", "json")
    assert document.exit == 3
    assert document.json()["error"]["code"] == code


def test_3_no_root(project: Program) -> None:
    """Without a root, or with one that is not there, the error shows what to type."""
    unset = project.run("plan", env={"MODELS_ROOT": None})
    assert unset.exit == 3
    assert "INVALID_CONFIG" in unset.stderr
    assert "--root" in unset.stderr
    assert project.run("plan", "--root", "nowhere").exit == 3


def test_3_unknown_model(project: Program) -> None:
    """A word that names nothing exits 3 and names the nearest model."""
    done = project.run("plan", "b@1")
    assert done.exit == 3
    assert "MODEL_NOT_FOUND" in done.stderr


def test_4_wrong_bytes(project: Program) -> None:
    """A source that delivers other bytes: exit 4 or 9, nothing under the final path."""
    (project.project / "mirror/a@1/weights/w.txt").write_bytes(b"WEIGHTS")
    done = project.run("apply", "-y")
    assert done.exit == 4
    assert "Error[CHECKSUM_FAIL]" in done.stderr
    assert done.stdout.endswith("Apply failed: nothing was changed, 1 failed.\n")
    assert not weight(project).exists()


def test_5_source_gone(project: Program) -> None:
    """A source that does not have the file exits 5."""
    (project.project / "mirror/a@1/weights/w.txt").unlink()
    assert project.run("apply", "-y").exit == 5


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_6_output_lost(applied: Program) -> None:
    """A full disk behind stdout is not a success."""
    with open("/dev/full", "w") as full:
        done = applied.run("plan", stdout=full)
    assert done.exit == 6
    assert "NO_SPACE" in done.stderr


def test_8_state_missing(applied: Program) -> None:
    """A root whose state is gone is never a fresh start."""
    (applied.root / ".wanrec/state.json").unlink()
    for command in (("plan",), ("apply", "-y"), ("drift",)):
        done = applied.run(*command)
        assert done.exit == 8, command
        assert "STATE_MISSING" in done.stderr


def test_8_edited_plan(project: Program) -> None:
    """A plan file that was changed is refused."""
    project.ok("plan", "--out", "p")
    path = project.project / "p"
    path.write_bytes(path.read_bytes().replace(b"w.txt", b"v.txt"))
    done = project.run("apply", "p")
    assert done.exit == 8
    assert "PLAN_CORRUPT" in done.stderr


@pytest.mark.parametrize("damage", [b"", b'"serial": 0,\n  "specs": {}\n}\n'])
def test_8_emptied_or_torn_plan(project: Program, damage: bytes) -> None:
    """A plan file that lost its beginning is a corrupt plan, not a bad spec."""
    project.write("p", damage)
    done = project.run("apply", "p", "--format", "json")
    assert done.exit == 8
    (failed,) = json.loads(done.stdout.splitlines()[-1])["failed"]
    assert (failed["code"], failed["exit"], failed["retryable"]) == ("PLAN_CORRUPT", 8, False)


def test_6_files_of_the_user(project: Program) -> None:
    """A file the user named that cannot be read or written is named, with what helps."""
    for words, hint in (
        (("show", "gone.wanplan"), "check the name"),
        (("apply", "gone.wanplan"), "check the name"),
        (("apply", "-y", "--json-into", "none/x"), "mkdir -p none"),
        (("plan", "--format", "json", "--out", "none/x"), "mkdir -p none"),
    ):
        done = project.run(*words)
        assert (done.exit, hint in done.stderr) == (6, True), done.stderr
    assert done.json()["error"]["code"] == "FILESYSTEM_ERROR"
    assert project.files() == {}


def test_3_everything_that_blocks_is_listed(project: Program) -> None:
    """The summary of a refused apply lists each reason in `failed[]`."""
    for path in ("config.json", "weights/w.txt"):
        place = project.root / "test/a@1" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("mine")
    done = project.run("apply", "-y", "--format", "json")
    assert done.exit == 3
    summary = json.loads(done.stdout.splitlines()[-1])
    assert [(f["address"], f["code"]) for f in summary["failed"]] == [
        ("a@1::config.json", "FOREIGN_FILE"),
        ("a@1::weights/w.txt", "FOREIGN_FILE"),
    ]
    assert "1 more reason shown with the plan" in done.stderr


def test_9_in_part(wanrec: Program) -> None:
    """One model arrives and one cannot: exit 9, and the JSON summary lists what failed."""
    declare(wanrec, {**MODEL, "b@1": {"b.txt": b"b"}})
    (wanrec.project / "mirror/b@1/b.txt").unlink()
    done = wanrec.run("apply", "-y", "--format", "json")
    assert done.exit == 9
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [events[0]["event"], events[1]["event"]] == ["version", "plan"]
    summary = events[-1]
    assert summary["event"] == "summary"
    assert {entry["address"].partition("::")[0] for entry in summary["failed"]} == {"b@1"}


def test_fail_fast_begins_nothing_more(wanrec: Program) -> None:
    """After a first failure `--fail-fast` begins no other model, however many wait for a thread."""
    declare(wanrec, {f"m{n}@1": {"a.txt": b"%d" % n} for n in range(6)})
    (wanrec.project / "mirror/m0@1/a.txt").unlink()
    done = wanrec.run("apply", "-y", "--fail-fast", "--parallelism", "1", "--format", "json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    begun = [event["address"] for event in events if event["event"] == "action_start"]
    assert (done.exit, begun) == (5, ["m0@1::a.txt"])
    assert len(events[-1]["warnings"]) == 5
    assert wanrec.run("apply", "-y").exit == 9


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("plann",),
        ("plan", "--foo"),
        ("plan", "--format", "yaml"),
        ("plan", "--state-only", "--out", "p"),
        ("plan", "--state-only", "--deep"),
        ("plan", "--destroy", "--refresh-only"),
        ("apply", "-y", "--destroy", "--allow-delete", "--refresh-only"),
        ("apply", "-y", "--destroy", "--replace", "a@1::config.json"),
        ("ensure",),
        ("show",),
        ("schema", "nonsense"),
        ("apply", "--parallelism", "none"),
        ("drift", "--max-age", "soon"),
        ("drift", "--rehash-budget", "lots"),
        ("plan", "-k", "a and"),
        ("--root",),
    ],
)
def test_64_usage(project: Program, words: tuple[str, ...]) -> None:
    """Whatever the option parser thinks, wrong usage is 64, on stderr only."""
    done = project.run(*words)
    assert (done.exit, done.stdout) == (64, "")
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_64_unanswerable(project: Program) -> None:
    """Apply with something to do, no -y and no terminal: the plan is shown, nothing is done."""
    done = project.run("apply")
    assert done.exit == 64
    assert "Plan: 2 to create" in done.stdout
    assert "a question that nobody could answer" in done.stderr
    assert project.files() == {}


def test_64_planning_options_of_a_saved_plan(project: Program) -> None:
    """A saved plan is carried out as it is."""
    project.ok("plan", "--out", "p")
    assert project.run("apply", "p", "--deep").exit == 64
    assert project.run("apply", "p", "a@1").exit == 64
    assert "Apply complete!" in project.ok("apply", "p").stdout
    assert project.ok("apply", "p").stdout.endswith("Already applied.\n")


def test_3_source_is_a_pipe(project: Program) -> None:
    """A source that is not a file is refused; nobody waits for a writer that never comes."""
    source = project.project / "mirror/a@1/weights/w.txt"
    source.unlink()
    os.mkfifo(source)
    done = project.run("apply", "-y")
    assert (done.exit, project.files()) == (3, {})


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals(project: Program, number: signal.Signals, code: int) -> None:
    """The first signal stops a slow apply cleanly: its own exit code, and the next one finishes."""
    declare(project, {"a@1": {"big.bin.txt": b"x" * 3_000_000}})
    process = project.start("apply", "-y", "--bwlimit", "200K", "--format", "json")
    for line in process.stdout:
        if json.loads(line)["event"] == "action_start":
            break
    process.send_signal(number)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert json.loads(rest.splitlines()[-1])["event"] == "summary"
    assert project.files() == {}
    assert "Apply complete!" in project.ok("apply", "-y").stdout


def test_1_defect(project: Program) -> None:
    """A defect: exit 1, one line for the user, the traceback in the log of the user's home."""
    code = (
        "import sys, wanrec.reconcile.engine as e\n"
        "e.Engine.plan = lambda *a, **k: 1 // 0\n"
        "from wanrec.reconcile.cli import main; sys.exit(main(['plan']))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=project.environment(),
        cwd=project.project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "ZeroDivisionError" in done.stderr
    logs = list(project.home.rglob("defects.log"))
    assert len(logs) == 1
    assert "Traceback" in logs[0].read_text()


def test_a_file_that_waited_keeps_its_deliverer(project: Program) -> None:
    """What one run verified and the next put in place is recorded with its real source."""
    source = project.project / "mirror/a@1/weights/w.txt"
    source.rename(source.with_suffix(".away"))
    assert project.run("apply", "-y").exit == 5
    blobs = project.root / ".wanrec/stage/blob"
    assert len(list(blobs.iterdir())) == 2  # the file, and who delivered it
    source.with_suffix(".away").rename(source)
    (project.project / "mirror/a@1/config.json").unlink()
    project.ok("apply", "-y")
    files = json.loads((project.root / ".wanrec/state.json").read_bytes())["files"]
    assert {record["source"] for record in files.values()} == {"local://../mirror/a@1"}
    assert list(blobs.iterdir()) == []
