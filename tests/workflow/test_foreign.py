"""What wanrec does not know below a root: named by plan and drift, touched by nothing."""

from __future__ import annotations

import pytest
from support.program import Program
from support.small import declare, spec_text

A, B, C = {"a.txt": b"a"}, {"b.txt": b"b"}, {"c.txt": b"c"}
STRAYS = {"stray.bin": b"1", "test/stray.bin": b"2", "test/old@1/deep/x": b"3", "data/y": b"4"}
SHOWN = ["data/", "stray.bin", "test/old@1/", "test/stray.bin"]


def foreign(program: Program, *args: str) -> list[str]:
    """`foreign[]` of the JSON that a command prints."""
    found: list[str] = program.ok(*args, "--format", "json").json()["foreign"]
    return found


@pytest.fixture
def applied(wanrec: Program) -> Program:
    """A root with three applied models."""
    declare(wanrec, {"a@1": A, "b@1": B, "c@1": C})
    wanrec.ok("apply", "-y")
    return wanrec


def test_strangers_beside_models_are_named_and_left(applied: Program) -> None:
    """Plan and drift list files and whole folders; they are no change, no drift, and stay."""
    assert foreign(applied, "plan") == foreign(applied, "drift") == []
    for path, data in STRAYS.items():
        place = applied.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    for args in (("plan",), ("plan", "specs/models.toml"), ("plan", "a@1"), ("drift",)):
        assert foreign(applied, *args) == SHOWN
    text = applied.ok("plan", "--detailed-exitcode").stdout
    assert text.startswith("No changes. Disk matches the specs.")
    assert "Foreign, never touched (2 files, 2 folders):\n  data/\n" in text
    assert "test/old@1/" in applied.ok("plan", "--format", "markdown").stdout
    assert "  test/old@1/  foreign\n" in applied.ok("drift").stdout
    applied.ok("apply", "--destroy", "--allow-delete", "-y")
    for path, data in STRAYS.items():
        assert (applied.root / path).read_bytes() == data


def test_forgotten_model_is_foreign(applied: Program) -> None:
    """After `[[removed]] delete = false` and after `state rm` the files are named as one folder."""
    head = '[[removed]]\nmodel = "b@1"\ndelete = false\n'
    applied.write("specs/models.toml", spec_text({"a@1": A, "c@1": C}) + head)
    applied.ok("apply", "-y")
    assert foreign(applied, "plan") == foreign(applied, "drift") == ["test/b@1/"]
    applied.write("specs/models.toml", spec_text({"b@1": B, "c@1": C}))
    applied.ok("state", "rm", "a@1")
    assert foreign(applied, "plan") == ["test/a@1/"]
    assert foreign(applied, "drift") == ["test/a@1/", "test/b@1/"]


def test_models_of_other_projects_are_not_foreign(applied: Program) -> None:
    """A model that only another project wants is known by the state, whoever asks."""
    applied.write("specs/models.toml", spec_text({"a@1": A}))
    asked = foreign(applied, "plan", "--config", _other(applied))
    assert asked == []


def test_own_state_file_is_not_foreign(wanrec: Program) -> None:
    """A state that `--state` keeps in the root is wanrec's, and so is its backup."""
    declare(wanrec, {"a@1": A})
    state = ("--state", str(wanrec.root / "s.json"))
    wanrec.ok("apply", "-y", *state)
    declare(wanrec, {"a@1": A, "b@1": B})
    wanrec.ok("apply", "-y", *state)
    assert (wanrec.root / "s.json.backup").exists()
    assert foreign(wanrec, "plan", *state) == foreign(wanrec, "drift", *state) == []


def test_last_model_of_a_family_leaves_nothing_to_name(applied: Program) -> None:
    """The empty folder of a family whose models are all gone is not called foreign."""
    applied.write("specs/models.toml", spec_text({"d@1": A}).replace('"test"', '"next"'))
    applied.write("mirror/d@1/a.txt", A["a.txt"])
    applied.ok("apply", "-y", "--allow-delete")
    assert foreign(applied, "plan") == foreign(applied, "drift") == []


def _other(program: Program) -> str:
    return str(program.write("other.toml", 'project = "other"\n'))
