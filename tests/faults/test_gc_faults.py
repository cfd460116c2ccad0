"""gc under faults: killed at its steps, on a disk without a byte left, with too little room."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from support.faults import inject, kill_at, leftovers, new_program
from support.program import Program
from support.shelf import SIZE, models_there, own, shelf, used, whole
from support.specs import declare, mirror, spec_text


def consistent(program: Program) -> None:
    """Each model is whole or gone, and state, plan and drift say the same.

    Files whose clock an unlink of a shared name has moved may have to be read again, no more.
    """
    assert program.run("drift").exit == 0
    actions = program.ok("plan", "--format", "json").json()["actions"]
    assert {action["action"] for action in actions} <= {"verify"}
    assert whole(program, models_there(program))
    assert {"r", "kept"} <= models_there(program)


def prepared(base: Path) -> Program:
    """Three models that may go and two that may not; all share a file."""
    program = new_program(base)
    shelf(program, {"a": {}, "b": {}, "c": {}, "kept": {}, "r": {"presence": "required"}})
    program.ok("pin", "kept")
    used(program, "a", "b", "c", "kept")
    return program


@pytest.mark.strace
# Of 17: a probe, four for each model (two files, its old directory, its own), three use marks.
@pytest.mark.parametrize("number", [1, 3, 4, 5, 6, 8, 13, 14, 16])
def test_killed_at_an_unlink(tmp_path: Path, number: int) -> None:
    """Killed before one of its unlinks: the next gc ends it, nothing that stays was touched."""
    program = prepared(tmp_path)
    killed = f"signal=KILL:when={number}"
    *_, fired = inject(program, "unlinkat", killed, "gc", "--max-size", "0")
    assert fired
    program.ok("gc", "--max-size", "0")
    consistent(program)
    assert models_there(program) == {"r", "kept"}
    assert not [name for name in leftovers(program) if not name.startswith("stage/tree/")]


@pytest.mark.parametrize("number", [9, 18, 27, 33, 45, 57, 65, 69, 89, 93])
def test_killed_at_any_step_then_looked_at(tmp_path: Path, number: int) -> None:
    """Killed before any step that changes the disk: a reader sees whole models or none."""
    program = prepared(tmp_path)
    code, out, err = kill_at(program, number, "gc", "--max-size", "0")
    assert code == -9, f"{out}\n{err}"
    consistent(program)
    program.ok("gc", "--max-size", "0")
    consistent(program)
    assert models_there(program) == {"r", "kept"}
    assert len(os.listdir(program.root / "wan22")) == len({"r", "kept"})


def test_a_disk_without_a_byte_left(wanrec: Program, mounted: Callable[[str], Path]) -> None:
    """Zero bytes free: gc gives up its reserve, evicts, and lays the reserve by again."""
    full = attrs.evolve(wanrec, root=mounted("size=16m"))
    shelf(full, {"a": {}, "b": {}, "r": {"presence": "required"}})
    reserve = full.root / ".wanrec/reserve"
    assert reserve.stat().st_size == 1 << 20
    filler = full.root / "filler"
    with filler.open("wb") as file, pytest.raises(OSError, match="No space"):
        while True:
            os.write(file.fileno(), b"x" * 4096)
    assert os.statvfs(full.root).f_bavail == 0
    full.ok("gc", "--max-size", "0")
    assert models_there(full) == {"r"}
    assert full.run("drift").exit == 0
    filler.unlink()
    full.ok("gc")
    assert reserve.stat().st_size == 1 << 20


def test_no_space_names_what_could_go(wanrec: Program, mounted: Callable[[str], Path]) -> None:
    """A plan that does not fit names exactly what gc would free, and that command does it."""
    small = attrs.evolve(wanrec, root=mounted("size=1m"))
    shelf(small, {"a": {}, "b": {}, "kept": {}})
    small.ok("pin", "kept")
    used(small, "a", "b", "kept")
    free = os.statvfs(small.root).f_bavail * 4096
    big = {"big.txt": b"x" * (free + SIZE // 2)}
    small.write("specs/big.toml", spec_text({"big@1": declare(big, mirror(small, "big", big))}))
    refused = small.run("apply", "-y")
    assert refused.exit == 6
    assert f"a@1 ({SIZE:,} bytes)" in refused.stderr
    assert "kept@1" not in refused.stderr
    command = re.search(r"wanrec (gc --max-size \d+)", refused.stderr)
    assert command is not None
    dry = small.ok(*command[1].split(), "--dry-run", "--json").json()
    assert [row["model"] for row in dry["models"] if row["action"] == "evict"] == ["a@1"]
    assert models_there(small) == {"a", "b", "kept"}


def test_auto_gc_makes_room(wanrec: Program, mounted: Callable[[str], Path]) -> None:
    """With auto_gc an apply that would not fit evicts the longest unused first, then applies."""
    small = attrs.evolve(wanrec, root=mounted("size=1m"))
    small.write("wanrec.toml", "auto_gc = true\n")
    shelf(small, {"a": {}, "b": {}, "kept": {}})
    small.ok("pin", "kept")
    used(small, "a", "b", "kept")
    free = os.statvfs(small.root).f_bavail * 4096
    big = {"big.txt": b"x" * (free + SIZE // 2)}
    small.write("specs/big.toml", spec_text({"big@1": declare(big, mirror(small, "big", big))}))
    small.ok("apply", "-y")
    assert models_there(small) == {"b", "kept", "big"}
    assert small.run("drift").exit == 0
    assert small.files()["wan22/kept@1/weights.txt"] == own("kept")["weights.txt"]
