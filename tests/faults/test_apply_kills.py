"""kill -9 before every step of an apply that changes the disk.

Each kill happens just before a system call. Calls that only read change nothing and need no kill
point of their own. strace counts in each thread by itself and for each call by itself, so a late
call of one thread can hide behind an early one of another; "step" counts all of them as one.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from support.faults import (
    MODEL,
    NEW,
    OWN,
    QUIET,
    SCENES,
    Scene,
    disturbed,
    end_state,
    kill_at,
    leftovers,
    models_on_disk,
    new_program,
    want,
)
from support.program import Program, command_line

from wanrec.reconcile.desired import SelectArgs
from wanrec.reconcile.engine import ApplyRequest, DriftRequest, Engine, PlanRequest
from wanrec.reconcile.model import ActionKind
from wanrec.reconcile.telemetry import Event, EventKind
from wanrec.state import codec

pytestmark = pytest.mark.strace

SWAP = "renameat2@.wanrec/stage/tree"
CALLS = (
    "step",
    SWAP,
    *("rename", "renameat", "renameat2", "linkat", "unlink", "unlinkat", "fsync", "fdatasync"),
    *("mkdir", "mkdirat", "write", "fchmod"),
)
# Steps in which most can go wrong: landing, placing, swapping, giving the user's files back,
# noting the old directory, journaling, the state itself, the journal's end.
SAMPLE = [
    *(("first", "step", number) for number in (45, 53, 70, 73, 95)),
    *(("upgrade", "step", number) for number in (53, 60, 65, 74, 76, 93)),
    *(("delete", "step", number) for number in (41, 46, 51)),
    ("share", "step", 111),
    *(("first", SWAP, 1), ("upgrade", SWAP, 1), ("upgrade", "fdatasync", 3)),
]


@functools.cache
def undisturbed(name: str, base: Path) -> dict[str, object]:
    """The end state of a scene that nobody disturbed."""
    program = new_program(base / f"{name}-undisturbed")
    SCENES[name].prepare(program)
    program.ok(*SCENES[name].args)
    assert leftovers(program) == []
    return end_state(program)


def engine_of(program: Program) -> Engine:
    """An engine that sees the project as the program does."""
    return Engine.from_config(cwd=program.project, environ=program.environment())


def check_disk(scene: Scene, program: Program) -> None:
    """Right after the kill: each model is old or new as a whole, the state is not torn."""
    state = program.root / ".wanrec/state.json"
    if state.exists():
        codec.decode(state.read_bytes(), "state.json")
    found = models_on_disk(program)
    for model in {*found, *scene.before, *scene.after}:
        files = dict(found.get(model, {}))
        files.pop(OWN[0], None)
        assert files in (scene.before.get(model, {}), scene.after.get(model, {})), model
    if scene.own:
        assert any(path.read_bytes() == OWN[1] for path in program.root.rglob(OWN[0]))


def check_words(scene: Scene, program: Program) -> None:
    """Before anything is repaired: drift calls nothing different, plan wants only what is due."""
    engine = engine_of(program)
    report = engine.drift(DriftRequest())
    assert report.items == ()
    assert report.unreadable == ()
    plan = engine.plan(SelectArgs(), PlanRequest(allow_delete=True))
    assert plan.blocked == ()
    found = models_on_disk(program)
    for action in plan.actions:
        if action.action is ActionKind.VERIFY:
            continue
        files = dict(found.get(action.model, {}))
        files.pop(OWN[0], None)
        assert files != scene.after.get(action.model, {}) or action.action in (
            ActionKind.ADOPT,
            ActionKind.DELETE,
        ), action


def check_recovery(scene: Scene, program: Program, expected: dict[str, object]) -> None:
    """One more apply, and everything is as if nobody had been killed."""
    program.ok(*scene.args)
    assert end_state(program) == expected
    assert leftovers(program) == []
    engine = engine_of(program)
    assert engine.drift(DriftRequest(deep=True)).items == ()
    plan = engine.plan(SelectArgs(), PlanRequest())
    assert (plan.actions, plan.records) == ((), ())


def _word(call: str) -> str:
    """A call as a part of a folder's name."""
    return call.replace("/", "-")


def kill_and_recover(name: str, call: str, number: int, base: Path, shared: Path) -> bool:
    """Try one kill point; False when there is none of this number."""
    scene = SCENES[name]
    program, killed = disturbed(scene, base / f"{name}-{_word(call)}-{number}", call, number)
    check_disk(scene, program)
    check_words(scene, program)
    check_recovery(scene, program, undisturbed(name, shared))
    return killed


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the undisturbed runs live."""
    return tmp_path_factory.mktemp("undisturbed")


@pytest.mark.parametrize(("name", "call", "number"), SAMPLE)
def test_killed_at_a_chosen_step(
    tmp_path: Path, shared: Path, name: str, call: str, number: int
) -> None:
    """Old or new after the kill, never a mix; one more apply makes it as if nothing happened."""
    assert kill_and_recover(name, call, number, tmp_path, shared), "no such kill point"


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", SCENES)
def test_killed_at_every_step(tmp_path: Path, shared: Path, name: str, call: str) -> None:
    """The same for every call of every kind, until none is left to be killed at."""
    number = 1
    while kill_and_recover(name, call, number, tmp_path, shared):
        shutil.rmtree(tmp_path / f"{name}-{_word(call)}-{number}")
        number += 1
        assert number < 250


@pytest.mark.parametrize("number", [56, 59, 61, 64])
def test_killed_where_directories_cannot_be_exchanged(
    tmp_path: Path, shared: Path, number: int
) -> None:
    """Two renames instead of one exchange: never a mix, repaired by the next run."""
    scene = SCENES["upgrade"]
    program = new_program(tmp_path / "two-step")
    scene.prepare(program)
    code, out, err = kill_at(program, number, *scene.args, exchange=False)
    assert code == -signal.SIGKILL, f"{out}\n{err}"
    files = models_on_disk(program).get(MODEL, {})
    files.pop(OWN[0], None)
    assert files in ({}, scene.before[MODEL], scene.after[MODEL])
    check_recovery(scene, program, undisturbed("upgrade", shared))


@pytest.mark.parametrize("number", [61, 65, 70, 75, 80])
def test_killed_and_then_the_state_is_lost(tmp_path: Path, shared: Path, number: int) -> None:
    """A rebuild ends what the dead run began: the user's files come back, nothing is fetched."""
    scene = SCENES["upgrade"]
    program, killed = disturbed(scene, tmp_path / "lost", "step", number)
    assert killed
    (program.root / ".wanrec/state.json").unlink()
    os.rename(program.project / "mirror", program.project / "gone")
    program.ok("state", "rebuild")
    files = models_on_disk(program)[MODEL]
    assert files.pop(OWN[0]) == OWN[1]
    assert files in (scene.before[MODEL], scene.after[MODEL])
    assert program.run("drift", "--deep").exit == 0
    if files == scene.after[MODEL]:
        assert leftovers(program) == []
        assert program.ok("plan").stdout.startswith("No changes.")


class PlanSeen:
    """An event sink that tells when an apply is past its preparations."""

    def __init__(self) -> None:
        self.reached = threading.Event()

    def emit(self, event: Event) -> None:
        """Listen for the plan's event."""
        if event.kind is EventKind.PLAN:
            self.reached.set()


def test_killed_while_another_apply_waits(wanrec: Program) -> None:
    """A run dies between its swap and the user's files, another swaps on: the files come back."""
    SCENES["upgrade"].prepare(wanrec)
    home = wanrec.root / "wan22" / MODEL
    before = home.stat().st_ino
    slow = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=renameat", "-P", str(home)]
    slow += ["-e", "inject=renameat:delay_enter=600000000", *command_line(), "apply", "-y"]
    process = subprocess.Popen(
        slow, cwd=wanrec.project, env=wanrec.environment(**QUIET), start_new_session=True
    )
    try:
        while home.stat().st_ino == before:  # until it has swapped, and is held up after that
            assert process.poll() is None
            time.sleep(0.01)  # between two looks; nothing tells when an exchange has happened
        newest = NEW | {"config.json": b"{}"}
        want(wanrec, tiny=newest)
        engine, sink = engine_of(wanrec), PlanSeen()
        plan = engine.plan(SelectArgs())
        waiting = threading.Thread(target=engine.apply, args=(plan, ApplyRequest(sink=sink)))
        waiting.start()
        assert sink.reached.wait(300)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    waiting.join(300)
    assert models_on_disk(wanrec) == {MODEL: newest}
    wanrec.ok("apply", "-y")
    assert models_on_disk(wanrec) == {MODEL: newest | dict([OWN])}
    assert leftovers(wanrec) == []
    wanrec.ok("drift", "--deep")
