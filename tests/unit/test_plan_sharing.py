"""Bytes that a plan need not fetch, and bytes it gives back."""

from __future__ import annotations

import pytest
from unit.paper_disk import sha
from unit.plan_words import (
    ADDRESS,
    PLACE,
    A,
    one,
    only,
    rerecorded,
    said,
)
from unit.strategies import World, applied, desired, file_spec, model

from wanrec.reconcile.actions import PlanOptions
from wanrec.reconcile.model import (
    Assurance,
    EntryKind,
    FileFact,
    Observed,
    Via,
)
from wanrec.reconcile.plan import make_plan


def test_equal_bytes_of_one_plan_are_fetched_once() -> None:
    """The first in execution order is created, the others adopt it and wait for it."""
    pair = desired(model("b", [file_spec("x.bin", A)]), model("a", [file_spec("y.bin", A)]))
    plan = World().plan(pair)
    assert said(plan) == ["a@1.0::y.bin create/missing", "b@1.0::x.bin adopt/found_by_hash"]
    link = plan.actions[1]
    assert (link.via, link.donor, link.bytes_to_fetch) == (Via.LINK, "a@1.0::y.bin", 0)
    assert link.depends_on == ("a@1.0::y.bin",)
    assert (plan.summary.bytes_to_fetch, plan.summary.bytes_saved) == (len(A), len(A))


def test_bytes_under_the_root_are_linked() -> None:
    """A recorded, trusted file of another model is a donor; a doubtful one is verified first."""
    both = desired(one().models[0], model("b", [file_spec("x.bin", A)]))
    world = applied(one())
    action = only(world.plan(both))
    assert (action.action, action.donor, action.depends_on) == ("adopt", ADDRESS, ())
    world.disk.touch(PLACE)
    plan = world.plan(both)
    assert said(plan) == [f"{ADDRESS} verify/stat_changed", "b@1.0::x.bin adopt/found_by_hash"]
    assert plan.actions[1].depends_on == (ADDRESS,)


@pytest.mark.parametrize("first", [False, True])
def test_a_dropped_file_still_gives_its_bytes(first: bool) -> None:
    """Deletes are last, so what goes may be linked before; not so with --delete-first."""
    wanted = desired(model("b", [file_spec("x.bin", A)]))
    plan = applied(one()).plan(wanted, delete_first=first)
    kinds = [a.action for a in plan.actions]
    assert kinds == (["delete", "create"] if first else ["adopt", "delete"])
    assert plan.summary.bytes_to_free == (len(A) if first else 0)


def test_a_bad_donor_is_none() -> None:
    """Assumed, doubtful (of another project) and --deep-condemned files give nothing."""
    other = applied(one(), project="other")
    wanted = desired(model("b", [file_spec("x.bin", A)]))
    assert only(other.plan(wanted)).donor == ADDRESS
    assumed = rerecorded(applied(one(), project="other"), assurance=Assurance.ASSUMED)
    assert only(assumed.plan(wanted)).donor is None
    record = other.state.files[ADDRESS]
    lying = FileFact(
        kind=EntryKind.FILE,
        size=record.size,
        mtime_ns=record.mtime_ns,
        ctime_ns=record.ctime_ns,
        ino=record.ino,
        sha256="0" * 64,
    )
    seen = Observed(facts={ADDRESS: lying})
    assert only(make_plan(wanted, other.state, seen, PlanOptions())).donor is None
    other.disk.touch(PLACE)
    assert only(other.plan(wanted)).donor is None


def test_a_damaged_shared_file_is_fetched_once() -> None:
    """Two names of one damaged inode: one replace fetches, the other links to it."""
    pair = desired(model("a", [file_spec("x.bin", A)]), model("b", [file_spec("x.bin", A)]))
    world = applied(pair)
    world.disk.spoil("wan22/a@1.0/x.bin")
    plan = world.plan(pair, deep=True)
    assert said(plan) == ["a@1.0::x.bin replace/corrupt", "b@1.0::x.bin replace/corrupt"]
    assert [a.donor for a in plan.actions] == [None, "a@1.0::x.bin"]
    assert plan.summary.bytes_to_fetch == len(A)


@pytest.mark.parametrize(
    ("staged", "partial", "left"),
    [({}, {}, 20), ({sha(A): 20}, {}, 0), ({sha(A): 7}, {}, 20), ({}, {sha(A): 5}, 15)],
)
def test_the_stage_counts(staged: dict[str, int], partial: dict[str, int], left: int) -> None:
    """Bytes that an earlier run has fetched are not fetched again."""
    seen = Observed(staged=staged, partial=partial)
    assert make_plan(one(), World().state, seen, PlanOptions()).summary.bytes_to_fetch == left


def test_freed_bytes_are_counted_per_inode() -> None:
    """Two names of one inode free its bytes once, and only when both go."""
    pair = desired(model("a", [file_spec("x.bin", A)]), model("b", [file_spec("x.bin", A)]))
    world = applied(pair)
    gone = world.plan(pair, destroy=True, allow_delete=True)
    assert (gone.summary.delete, gone.summary.bytes_to_free) == (2, len(A))
    half = world.plan(desired(pair.models[0]))
    assert (half.summary.delete, half.summary.bytes_to_free) == (1, 0)
    assert world.plan(desired(pair.models[0]), state_only=True).summary.bytes_to_free == len(A)
