"""What a person or a script meets at the command line, whatever the engine does."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.program import Program, command_line
from support.small import declare

from wanrec.reconcile.cli.commands import TABLE
from wanrec.reconcile.schema import EVENT_FIELDS
from wanrec.reconcile.telemetry import EventKind


def test_help_names_every_command(wanrec: Program) -> None:
    """`--help` lists each command; each command has help of its own and exits 0."""
    text = wanrec.ok("--help").stdout
    assert all(f"  {name} " in text for name in TABLE)


@pytest.mark.parametrize("command", sorted(TABLE))
def test_each_command_has_help(wanrec: Program, command: str) -> None:
    """`wanrec COMMAND --help` says what it does and knows the global options."""
    text = wanrec.ok(command, "--help").stdout
    assert "--root DIR" in text
    assert "--log-format" in text


def test_global_options_on_both_sides(wanrec: Program, tmp_path: Path) -> None:
    """A global option may stand before or after the command; the last one wins."""
    for words in (
        ("--root", "x", "config", "--root", "y"),
        ("config", "--root", "x", "--root", "y"),
        ("--root", "y", "config"),
    ):
        shown = wanrec.ok(*words, "--format", "json").json()["settings"]["root"]
        assert shown["value"] == str(wanrec.project / "y"), words
        assert "--root" in shown["from"]


def test_quiet_and_verbose_last_wins(wanrec: Program) -> None:
    """-q silences what is not an error; a later -v takes it back."""
    wanrec.write("wanrec.toml", "")
    assert wanrec.ok("-q", "init").stderr == ""
    assert wanrec.ok("-q", "init", "-v").stderr != ""


def test_config_masks_secrets(wanrec: Program) -> None:
    """User info and query of a URL never leave through `config`."""
    mirror = "https://me:hunter2@mirror.example/x?sig=hunter2"
    for form in ("text", "json"):
        done = wanrec.ok("config", "--mirror", mirror, "--format", form)
        assert "hunter2" not in done.stdout + done.stderr
        assert "mirror.example" in done.stdout


def test_init_starts_a_project(wanrec: Program) -> None:
    """`init --root` makes root, spec and config that validate as they are; again: keeps them."""
    wanrec.ok("init", "--root", "m o'd\"els", env={"MODELS_ROOT": None})
    assert (wanrec.project / "m o'd\"els").is_dir()
    again = wanrec.ok("init", env={"MODELS_ROOT": None})
    assert "Kept specs/models.toml" in again.stderr
    assert wanrec.ok("validate", env={"MODELS_ROOT": None}).stdout.startswith("Valid: ")


def test_closed_pipe_is_quiet(wanrec: Program) -> None:
    """A reader that leaves early causes no traceback and no other exit code."""
    declare(wanrec, {"a@1": {f"{n}.txt": b"x" * n for n in range(1, 400)}})
    process = wanrec.start("plan", "--detailed-exitcode")
    process.stdout.close()
    with process.stderr as stderr:
        errors = stderr.read()
    assert (process.wait(60), errors) == (2, "")


def test_closed_stdout(wanrec: Program) -> None:
    """A stdout that was never open is no reason to fail."""
    line = " ".join(f"'{word}'" for word in [*command_line(), "config"])
    done = subprocess.run(
        ["sh", "-c", f"{line} >&-"],
        env=wanrec.environment(),
        cwd=wanrec.project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_log_format_json(wanrec: Program) -> None:
    """With --log-format json each line on stderr is a JSON object."""
    done = wanrec.run("plan", "--log-format", "json", "--root", "nowhere")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines[-1]["level"] == "error"
    assert lines[-1]["error"]["code"]


def test_no_color_off_a_terminal(wanrec: Program) -> None:
    """Nothing printed into a pipe holds an escape sequence."""
    declare(wanrec, {"a@1": {"x.txt": b"x"}})
    done = wanrec.ok("plan")
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize(("answer", "code"), [("yes\n", 0), ("no\n", 3), ("\x04", 64)])
def test_question_on_a_terminal(wanrec: Program, answer: str, code: int) -> None:
    """On a terminal apply asks, and only `yes` is a yes."""
    declare(wanrec, {"a@1": {"x.txt": b"x"}})
    master, slave = pty.openpty()
    try:
        process = wanrec.start("apply", stdin=slave)
        os.close(slave)
        os.write(master, answer.encode())
        _, errors = process.communicate(timeout=60)
    finally:
        os.close(master)
    assert process.returncode == code, errors
    assert bool(wanrec.files()) is (code == 0)
    assert "Only 'yes'" in errors


def test_json_into_follows_the_text(wanrec: Program) -> None:
    """`--json-into` writes the events to a file while people read text."""
    declare(wanrec, {"a@1": {"x.txt": b"x"}})
    done = wanrec.ok("apply", "-y", "--json-into", "events.jsonl")
    assert "Apply complete! 1 created" in done.stdout
    lines = (wanrec.project / "events.jsonl").read_text().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert events[0] == "version"
    assert events[-1] == "summary"
    assert "action_complete" in events


def test_events_follow_their_schema(wanrec: Program) -> None:
    """Every event of a real apply has each field that its schema names."""
    declare(wanrec, {"a@1": {"x.txt": b"x" * 400_000}})
    done = wanrec.ok("apply", "-y", "--format", "json", "--bwlimit", "400K")
    for line in done.stdout.splitlines():
        event = json.loads(line)
        assert EVENT_FIELDS[EventKind(event["event"])].keys() <= event.keys()


def test_state_history(wanrec: Program) -> None:
    """Each apply that changed something is a line of `state history`, with its time."""
    declare(wanrec, {"a@1": {"x.txt": b"x"}})
    wanrec.ok("apply", "-y")
    (entry,) = wanrec.ok("state", "history", "--format", "json").json()["history"]
    assert (entry["serial"], entry["operation"], entry["models"]) == (1, "apply", ["a@1"])
    assert entry["time"] in wanrec.ok("state", "history").stdout


def test_trace_file(wanrec: Program) -> None:
    """--trace-file records the spans of a run, nested below one another."""
    declare(wanrec, {"a@1": {"x.txt": b"x"}})
    wanrec.ok("apply", "-y", "--trace-file", "t.jsonl")
    text = (wanrec.project / "t.jsonl").read_text()
    names = {
        span["name"]
        for line in text.splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    }
    assert {"wanrec.plan", "wanrec.refresh", "wanrec.apply", "wanrec.lock.wait"} <= names


def test_trace_says_which_source_delivered(wanrec: Program) -> None:
    """`wanrec.attempt` of a fetch counts the sources that were tried, the last one delivering."""
    spec = declare(wanrec, {"a@1": {"x.txt": b"x"}})
    spec.write_text(spec.read_text().replace('"local://', '"local://nowhere", "local://', 1))
    wanrec.ok("apply", "-y", "--trace-file", "t.jsonl")
    text = (wanrec.project / "t.jsonl").read_text()
    (found,) = re.findall(r'"wanrec.attempt", *"value": *\{"intValue": *"?(\d+)', text)
    assert found == "2"


def test_nothing_is_recorded_yet(wanrec: Program) -> None:
    """`show state` on a root that nothing was applied to says so in words."""
    assert wanrec.ok("show", "state").stdout == "Nothing is recorded yet.\n"


def test_module_is_the_program(wanrec: Program) -> None:
    """`python -m wanrec` is the same program as the script."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "wanrec", "--version"],
        env=wanrec.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == wanrec.ok("--version").stdout


def test_drift_output_is_atomic_and_complete(wanrec: Program) -> None:
    """`drift --output` replaces a file by the whole report, an error included."""
    declare(wanrec, {"a@1": {"x.txt": b"x"}})
    wanrec.ok("apply", "-y")
    wanrec.ok("drift", "--format", "prometheus", "--output", "m.prom")
    assert "wanrec_drift_success 1" in (wanrec.project / "m.prom").read_text()
    (wanrec.root / ".wanrec/state.json").unlink()
    assert wanrec.run("drift", "--format", "prometheus", "--output", "m.prom").exit == 8
    assert "wanrec_drift_success 0" in (wanrec.project / "m.prom").read_text()


def test_earlier_names(wanrec: Program) -> None:
    """`models ensure` and `models status` do what `ensure` and `status` do."""
    declare(wanrec, {"a@1": {"x.txt": b"x"}, "b@1": {"y.txt": b"y"}})
    assert wanrec.run("models", "ensure").exit == 64
    one = wanrec.ok("models", "ensure", "--only", "a@1").stdout
    assert one == wanrec.ok("path", "a@1").stdout
    assert len(wanrec.ok("models", "ensure", "--all").stdout.splitlines()) == 2
    rows = wanrec.ok("models", "status", "--json").json()["models"]
    assert {row["state"] for row in rows} == {"COMPLETE"}


@pytest.mark.parametrize("kind", ["manifest", "lock", "state", "plan", "events"])
def test_schema_is_json_schema(wanrec: Program, kind: str) -> None:
    """`schema KIND` prints one JSON Schema document."""
    assert "json-schema.org" in wanrec.ok("schema", kind).json()["$schema"]


def test_doctor_on_a_good_root(wanrec: Program) -> None:
    """A root on a local disk is fit; a missing one is a failed finding with its fix."""
    found = wanrec.ok("doctor", "--json").json()["findings"]
    assert all(finding["verdict"] != "fail" for finding in found)
    missing = wanrec.run("doctor", "--root", "nowhere")
    assert missing.exit == 3
    assert "fix: " in missing.stdout
