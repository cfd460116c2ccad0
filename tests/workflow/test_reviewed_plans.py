"""Plans people review: compared with now, expected by a pipeline, annotated on a pull request."""

from __future__ import annotations

import pytest
from support.program import Program
from support.small import declare

A = {"a@1": {"x.txt": b"x", "y.txt": b"yy"}}


@pytest.fixture
def reviewed(wanrec: Program) -> Program:
    """A project with a saved plan of two creates."""
    declare(wanrec, A)
    wanrec.ok("plan", "--out", "r.wanplan")
    return wanrec


def test_expect_applies_what_was_reviewed(reviewed: Program) -> None:
    """`apply --expect` plans anew, asks nothing, and does what was reviewed."""
    done = reviewed.ok("apply", "--expect", "r.wanplan")
    assert "Apply complete! 2 created" in done.stdout


def test_expect_refuses_after_an_edit(reviewed: Program) -> None:
    """A reviewed plan, then a spec edit: exit 8, the difference printed, nothing done."""
    declare(reviewed, {"a@1": {"x.txt": b"changed", "z.txt": b"z"}})
    done = reviewed.run("apply", "--expect", "r.wanplan")
    assert done.exit == 8
    assert "Error[PLAN_STALE]" in done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert "~ a@1::x.txt" in lines
    assert "- a@1::y.txt" in lines
    assert "+ a@1::z.txt" in lines
    assert "3 differences: 1 new, 1 gone, 1 changed." in lines
    assert reviewed.files() == {}


def test_expect_in_json(reviewed: Program) -> None:
    """With --format json the difference is part of the error in the last event."""
    declare(reviewed, {"a@1": {"x.txt": b"changed"}})
    done = reviewed.run("apply", "--expect", "r.wanplan", "--format", "json")
    assert done.exit == 8
    assert "PLAN_STALE" in done.stdout.splitlines()[-1]
    assert "a@1::y.txt" in done.stdout.splitlines()[-1]


def test_expect_survives_other_changes_of_the_state(reviewed: Program) -> None:
    """Unlike a saved plan, an expected one does not mind that the state has moved on."""
    declare(reviewed, {**A, "b@1": {"b.txt": b"b"}})
    reviewed.ok("apply", "-y", "b@1")
    assert reviewed.run("apply", "r.wanplan").exit == 8
    reviewed.ok("apply", "--expect", "r.wanplan")
    assert "No changes." in reviewed.ok("plan").stdout


def test_expect_of_another_root_is_foreign(reviewed: Program) -> None:
    """A plan that was reviewed for another root is refused as such."""
    reviewed.ok("apply", "-y")
    declare(reviewed, {"a@1": {"x.txt": b"new"}})
    reviewed.ok("plan", "--out", "second.wanplan")
    other = reviewed.project.parent / "other"
    other.mkdir()
    reviewed.ok("apply", "-y", "--root", str(other))
    done = reviewed.run("apply", "--expect", "second.wanplan", "--root", str(other))
    assert done.exit == 8
    assert "PLAN_FOREIGN" in done.stderr


def test_expect_beside_a_saved_plan_is_usage(reviewed: Program) -> None:
    """A saved plan is carried out as it is; --expect beside it is a usage error."""
    assert reviewed.run("apply", "r.wanplan", "--expect", "r.wanplan").exit == 64


def test_compare(reviewed: Program) -> None:
    """`plan --compare` says how reviewed and now differ; 2 with --detailed-exitcode."""
    same = reviewed.ok("plan", "--compare", "r.wanplan", "--detailed-exitcode")
    assert same.stdout == "The plan is the reviewed one.\n"
    declare(reviewed, {"a@1": {"x.txt": b"x", "y.txt": b"zzz"}})
    assert "~ a@1::y.txt" in reviewed.ok("plan", "--compare", "r.wanplan").stdout
    done = reviewed.run("plan", "--compare", "r.wanplan", "--detailed-exitcode", "--format", "json")
    assert done.exit == 2
    document = done.json()
    assert document["equal"] is False
    assert [d["address"] for d in document["differences"]] == ["a@1::y.txt"]
    assert document["differences"][0]["reviewed"]["size"] == 2
    assert document["differences"][0]["now"]["size"] == 3


def test_github_annotations(reviewed: Program) -> None:
    """Deletes and replaces are warnings, the frozen line a notice; at most ten of a kind."""
    notice = (
        "::notice title=wanrec plan::Plan: 2 to create, 0 to verify, 0 to replace, 0 to delete."
    )
    assert reviewed.ok("plan", "--format", "github").stdout.startswith(notice)
    many = {f"f{number:02}.txt": b"f" for number in range(30)}
    declare(reviewed, {"a@1": many})
    reviewed.ok("apply", "-y")
    declare(reviewed, {"a@1": {"f00.txt": b"f", "100%.txt": b"%"}})
    lines = reviewed.ok("plan", "--format", "github").stdout.splitlines()
    warnings = [line for line in lines if line.startswith("::warning")]
    assert len(warnings) == 10
    assert "delete a@1::f01.txt (1 B now): not in spec" in warnings[0]
    assert "… and 20 more" in warnings[-1]


def test_a_blocked_plan_is_an_error_annotation(reviewed: Program) -> None:
    """What keeps a plan from being applied is an error on the pull request."""
    (reviewed.root / "test/a@1").mkdir(parents=True)
    (reviewed.root / "test/a@1/x.txt").write_text("mine")
    done = reviewed.run("plan", "--format", "github")
    assert done.exit == 3
    assert done.stdout.startswith("::error title=wanrec%3A blocked::FOREIGN_FILE: ")
