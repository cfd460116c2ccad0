"""The commands that look, show and keep the state in order, on the real program."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import subprocess
import threading

import pytest
from support.lying_server import LyingServer, Peer, Request, serve_ranges
from support.program import Program
from support.small import declare, spec_text

MODELS = {"a@1": {"config.json": b"{}", "w.txt": b"weights"}, "b@1": {"b.txt": b"bytes"}}


@pytest.fixture
def project(wanrec: Program) -> Program:
    """Two small models, not applied yet."""
    declare(wanrec, MODELS)
    return wanrec


@pytest.fixture
def applied(project: Program) -> Program:
    """The same, applied."""
    project.ok("apply", "-y")
    return project


def test_validate_counts(project: Program) -> None:
    """`validate` says what it checked, without a root."""
    text = project.ok("validate", env={"MODELS_ROOT": None}).stdout
    assert text == "Valid: 1 spec file, 2 models, 3 files.\n"
    document = project.ok("validate", "a@1", "--format", "json").json()
    assert (document["valid"], document["models"], document["files"]) == (True, ["a@1"], 2)


def test_collect_selects(project: Program) -> None:
    """`collect` lists node ids, whole or narrowed; as text and as JSON the same ones."""
    everything = project.ok("collect").stdout.split()
    assert everything == [
        "specs/models.toml::a@1::config.json",
        "specs/models.toml::a@1::w.txt",
        "specs/models.toml::b@1::b.txt",
    ]
    assert project.ok("collect", "--format", "json").json()["node_ids"] == everything
    assert project.ok("collect", "--exclude", "a@1").stdout.split() == everything[2:]
    assert project.ok("collect", "-k", "config").stdout.split() == everything[:1]


@pytest.mark.parametrize("fmt", ["text", "json", "markdown", "html"])
def test_show_is_the_saved_plan(project: Program, fmt: str) -> None:
    """`show FILE` prints exactly what `plan --out FILE` printed."""
    planned = project.ok("plan", "--out", "p", "--format", fmt).stdout
    assert project.ok("show", "p", "--format", fmt).stdout == planned


def test_show_state(applied: Program) -> None:
    """`show state` and `state show` print the same records; a plan that is not there is exit 6."""
    shown = applied.ok("show", "state", "--format", "json").json()
    assert list(shown["models"]) == ["a@1", "b@1"]
    assert applied.ok("show", "state").stdout == applied.ok("state", "show").stdout
    assert applied.run("show", "state", "--format", "html").exit == 64
    assert applied.run("show", "nothing").exit == 6


def test_graph_of_specs_and_of_a_saved_plan(project: Program) -> None:
    """The graph of a fresh plan and of the same plan saved are one text, in each form."""
    project.ok("plan", "--out", "p")
    for form in ("dot", "mermaid", "json"):
        fresh = project.ok("graph", "--format", form).stdout
        assert fresh == project.ok("graph", "p", "--format", form).stdout
        assert "config.json" in fresh
    models = project.ok("graph", "--by-model", "--format", "json").json()["nodes"]
    assert [node["id"] for node in models] == ["a@1", "b@1"]


def test_plan_exit_3_writes_no_file(applied: Program) -> None:
    """A blocked plan is printed whole, is not saved and exits 3; stdout stays one document."""
    declare(applied, {"c@1": {"c.txt": b"c"}})  # drops both models: over the delete budget
    done = applied.run("plan", "--out", "p", "--format", "json")
    assert done.exit == 3
    assert done.json()["summary"]["delete"] == 3
    assert "Error[DELETE_BUDGET]" in done.stderr
    assert not (applied.project / "p").exists()
    assert applied.run("apply", "-y").exit == 3
    assert "3 deleted" in applied.ok("apply", "-y", "--allow-delete").stdout


def test_state_list_and_show_one(applied: Program) -> None:
    """One model of the state by id or by name; a wrong one names the nearest."""
    assert applied.ok("state", "list").stdout.count("@1") == 2
    assert len(applied.ok("state", "list", "--format", "json").json()["models"]) == 2
    assert applied.ok("state", "show", "a").stdout == applied.ok("state", "show", "a@1").stdout
    assert "w.txt" in applied.ok("state", "show", "a@1").stdout
    wrong = applied.run("state", "show", "a@2")
    assert wrong.exit == 3
    assert "did you mean 'a@1'" in wrong.stderr


def test_state_rm_forgets_and_touches_nothing(applied: Program) -> None:
    """After `state rm` the files are there, are adopted again, and nothing is fetched."""
    before = applied.files()
    applied.ok("state", "rm", "a@1")
    assert applied.files() == before
    done = applied.ok("apply", "-y")
    assert "Also: 2 adopted.\nApply complete! 0 created" in done.stdout
    assert applied.files() == before


def test_state_rebuild_fetches_nothing(applied: Program) -> None:
    """A lost state comes back from backup and disk; the next plan is empty."""
    (applied.root / ".wanrec/state.json").unlink()
    (applied.project / "mirror").rename(applied.project / "gone")
    rebuilt = applied.ok("state", "rebuild", "--format", "json").json()
    assert [model["model"] for model in rebuilt["models"]] == ["a@1", "b@1"]
    assert applied.ok("plan").stdout == "No changes. Disk matches the specs.\n"


def test_status_without_specs(applied: Program) -> None:
    """A reader that has the root and no specs sees what is recorded; a selection needs specs."""
    rows = applied.ok("status", "--json").json()
    for spec in (applied.project / "specs").iterdir():
        spec.unlink()
    done = applied.run("status", "--json", "--check")
    assert done.exit == 0, done.stderr
    recorded = [row for row in rows["models"] if row["state"] == "COMPLETE"]
    assert done.json()["models"] == recorded
    assert recorded
    assert "no spec files" in done.stderr
    assert "MISSING_MANIFEST" in applied.run("status", "-k", "a").stderr


def test_locks_and_unlock(applied: Program) -> None:
    """Who holds a lock is told while it is held; a local lock is never broken."""
    go, data = threading.Event(), b"x" * 100

    def hold(request: Request, peer: Peer) -> bool:
        go.wait(300)
        return serve_ranges(data)(request, peer)

    with LyingServer() as server:
        server.on("/big.txt", hold)
        text = spec_text({"a@1": {"big.txt": data}, "b@1": MODELS["b@1"]})
        applied.write("specs/models.toml", text.replace("local://../mirror/a@1", server.url))
        process = applied.start("apply", "-y", "--format", "json")
        try:
            for line in process.stdout:
                if json.loads(line)["event"] == "action_start":
                    break
            held = applied.ok("locks", "--json").json()["locks"]
            assert {lock["pid"] for lock in held} == {process.pid}
            name = next(lock["name"] for lock in held if lock["name"].startswith("model-"))
            assert str(process.pid) in applied.ok("locks").stdout
            for word in (name, "a@1"):
                refused = applied.run("unlock", word)
                assert refused.exit == 7
                assert f"kill {process.pid}" in refused.stderr
        finally:
            go.set()
            process.communicate(timeout=300)
    assert process.returncode == 0
    assert applied.ok("locks").stdout == "No locks are held.\n"
    assert "not locked" in applied.ok("unlock", name).stderr


def test_ensure_prints_only_the_path(project: Program) -> None:
    """`ensure` brings one model and prints its path; again: the same, from the state alone."""
    place = project.root / "test/a@1"
    assert project.ok("ensure", "a@1").stdout == f"{place}\n"
    assert sorted(project.files()) == ["test/a@1/config.json", "test/a@1/w.txt"]
    (project.project / "specs/models.toml").unlink()
    document = project.ok("ensure", "a@1", "--json", "--offline").json()
    assert document["path"] == str(place)
    assert project.run("ensure", "zzz").exit == 3


def read_all(master: int) -> str:
    """What was written to a terminal until its last writer closed it."""
    chunks = []
    while True:
        select.select([master], [], [])
        try:
            data = os.read(master, 65536)
        except OSError:
            data = b""
        if not data:
            return b"".join(chunks).decode(errors="replace")
        chunks.append(data)


def test_progress_only_on_a_terminal(project: Program) -> None:
    """Bars are drawn on a terminal's stderr and gone at the end; stdout has the same words."""
    declare(project, {"a@1": {"big.txt": b"x" * 600_000}})
    master, slave = pty.openpty()
    terminal = {"TERM": "xterm-256color", "COLUMNS": "80"}
    process = project.start("apply", "-y", "--bwlimit", "400K", stderr=slave, env=terminal)
    os.close(slave)
    drawn = read_all(master)
    os.close(master)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "total" in drawn
    assert "\x1b[" in drawn
    assert "Apply complete! 1 created" in stdout
    assert "\x1b[" not in stdout


def test_quiet_draws_nothing(project: Program) -> None:
    """-q on a terminal: no bars, no words, but the data on stdout."""
    master, slave = pty.openpty()
    process = project.start("-q", "apply", "-y", stderr=slave, env={"TERM": "xterm-256color"})
    os.close(slave)
    assert read_all(master) == ""
    os.close(master)
    stdout, _ = process.communicate(timeout=60)
    assert (process.returncode, "Apply complete!" in stdout) == (0, True)


def test_dead_collector_changes_no_exit_code(project: Program) -> None:
    """OTEL_* naming a collector that never answers: the apply succeeds, the exit code is 0."""
    pytest.importorskip("opentelemetry.sdk", reason="the otel extra is optional")
    with socket.create_server(("127.0.0.1", 0)) as hung:
        endpoint = f"http://127.0.0.1:{hung.getsockname()[1]}"
        done = project.run("apply", "-y", env={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
    assert done.exit == 0
    assert "Apply complete!" in done.stdout
    assert "Traceback" not in done.stderr


def test_nohup_stays_in_force(project: Program) -> None:
    """A program started with SIGHUP ignored goes on when its terminal goes away."""
    declare(project, {"a@1": {"big.txt": b"x" * 400_000}})
    process = project.start(
        "apply",
        "-y",
        "--bwlimit",
        "400K",
        "--format",
        "json",
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    for line in process.stdout:
        if json.loads(line)["event"] == "action_start":
            break
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_second_signal_leaves_at_once(project: Program) -> None:
    """Two signals: the program is gone with the signal's code; the next apply finishes the work."""
    declare(project, {"a@1": {"big.txt": b"x" * 4_000_000}})
    process = project.start("apply", "-y", "--bwlimit", "200K", "--format", "json")
    for line in process.stdout:
        if json.loads(line)["event"] == "action_start":
            break
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode in (130, 143)
    assert project.ok("apply", "-y").exit == 0


def test_completion_script(project: Program) -> None:
    """The shell can ask for completions."""
    done: subprocess.Popen[str] = project.start(env={"_WANREC_COMPLETE": "bash_source"})
    stdout, _ = done.communicate(timeout=60)
    assert "_wanrec_completion" in stdout
