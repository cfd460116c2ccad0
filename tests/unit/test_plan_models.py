"""Models that come, go and are shared between projects."""

from __future__ import annotations

import attrs
import pytest
from unit.paper_disk import sha
from unit.plan_words import (
    ADDRESS,
    CONFIG,
    MINE,
    PLACE,
    WEIGHTS,
    A,
    B,
    C,
    blocks,
    one,
    reowned,
    said,
)
from unit.strategies import World, applied, desired, file_spec, model, selected

from wanrec.reconcile.actions import Content
from wanrec.reconcile.errors import ErrorCode
from wanrec.reconcile.model import (
    EntryKind,
    Presence,
    RemovedRule,
    Selection,
)
from wanrec.state.model import ProjectRecord


# --- models that come and go -------------------------------------------------------------------
def test_a_dropped_model_and_a_dropped_file_are_deleted() -> None:
    """What this project's specs no longer name goes."""
    wide = desired(
        model("a", [file_spec(CONFIG, A), file_spec(WEIGHTS, B)]), model("b", [file_spec("f", C)])
    )
    plan = applied(wide).plan(one())
    assert said(plan) == [
        "a@1.0::model.safetensors delete/not_in_spec",
        "b@1.0::f delete/not_in_spec",
    ]
    assert plan.actions[0].before == Content(size=len(B), sha256=sha(B))
    assert plan.summary.bytes_to_free == len(B) + len(C)


def test_a_dropped_file_that_is_gone_or_a_link_frees_nothing() -> None:
    """Its record goes; a link that somebody has put there is left in place, with a warning."""
    wide = desired(one().models[0], model("b", [file_spec("f", B), file_spec("g", C)]))
    world = applied(wide)
    del world.disk.files["wan22/b@1.0/f"]
    world.disk.odd["wan22/b@1.0/g"] = EntryKind.SYMLINK
    plan = world.plan(one())
    assert said(plan) == ["b@1.0::f delete/not_in_spec", "b@1.0::g forget/not_in_spec"]
    assert plan.summary.bytes_to_free == 0
    assert plan.actions[0].before is None
    assert "b@1.0::g is no regular file" in plan.warnings[0]


@pytest.mark.parametrize("word", ["b@1.0[x]", "b@1.0@x", "b@1.0"])
@pytest.mark.parametrize(("delete", "kind"), [(False, "forget"), (True, "delete")])
def test_removed_blocks_say_how_to_let_go(word: str, delete: bool, kind: str) -> None:
    """[[removed]] forgets or deletes, whatever form the id has."""
    world = applied(desired(one().models[0], model("b", [file_spec("f", B)], variant="x")))
    rule = RemovedRule(model=word, delete=delete, spec="specs/one.toml")
    plan = world.plan(desired(*one().models, removed=(rule,)))
    assert said(plan) == [f"b@1.0[x]::f {kind}/removed_block"]


def test_a_file_of_a_dropped_spec_only_goes_when_that_spec_is_named() -> None:
    """Naming a spec file selects what came from it, and leaves models of other files alone."""
    wide = desired(
        one().models[0],
        model("b", [file_spec("f", B)], spec="specs/two.toml"),
        model("c", [file_spec("f", C)]),
    )
    world = applied(wide)
    for specs, gone in (
        ({"specs/two.toml"}, ["b@1.0::f"]),
        ({"specs/one.toml"}, ["c@1.0::f"]),
        (None, ["b@1.0::f", "c@1.0::f"]),
    ):
        chosen = None if specs is None else frozenset(specs)
        keys = None if specs is None else frozenset(["a@1.0"])
        selection = Selection(keys=keys, specs=chosen)
        plan = world.plan(desired(*one().models, selection=selection))
        assert [a.address for a in plan.actions] == gone


def test_a_narrowed_run_says_so_and_lets_nothing_go() -> None:
    """-k, -m and node ids never delete, and neither does a selection of unknown origin."""
    wide = desired(
        model("a", [file_spec(CONFIG, A), file_spec(WEIGHTS, B)]), model("b", [file_spec("f", C)])
    )
    world = applied(wide)
    plan = world.plan(selected(one(), "a@1.0"))
    assert (plan.actions, plan.partial) == ((), True)
    assert "partial" in plan.warnings[0]
    bare = attrs.evolve(one(), selection=Selection(keys=frozenset(["a@1.0"])))
    assert not world.plan(bare)


def test_selected_addresses_narrow_a_model() -> None:
    """One address plans one file; a model that is pulled in is planned whole."""
    base = model("z", [file_spec("f", C)])
    wide = model("a", [file_spec(CONFIG, A), file_spec(WEIGHTS, B)], requires=("z@1.0",))
    selection = Selection(
        keys=frozenset(["a@1.0", "z@1.0"]),
        addresses=frozenset([ADDRESS]),
        partial=True,
        pulled_in=frozenset(["z@1.0"]),
    )
    plan = World().plan(desired(base, wide, selection=selection))
    assert [a.address for a in plan.actions] == ["z@1.0::f", ADDRESS]
    assert "z@1.0 comes along" in plan.warnings[1]


def test_destroy_needs_its_own_permission() -> None:
    """--destroy plans every delete, and is blocked without --allow-delete."""
    world = applied(one())
    plan = world.plan(one(), destroy=True)
    assert said(plan) == [f"{ADDRESS} delete/requested"]
    assert blocks(plan) == [ErrorCode.DELETE_BUDGET]
    assert blocks(world.plan(one(), destroy=True, allow_delete=True)) == []
    assert not World().plan(desired(), destroy=True)


# --- presence and variants ---------------------------------------------------------------------
def test_on_demand_models_come_by_ensure_only() -> None:
    """Absent: nothing, even when named; ensured: created, kept; removed by hand: absent again."""
    wanted = one(presence=Presence.ON_DEMAND)
    assert not World().plan(wanted)
    assert not World().plan(selected(wanted, "a@1.0"))
    world = applied(wanted, ensure=frozenset(["a@1.0"]))
    assert world.state.models["a@1.0"].presence is Presence.ON_DEMAND
    assert not world.plan(wanted)
    del world.disk.files[PLACE]
    assert not world.plan(wanted)
    assert world.plan(wanted, ensure=frozenset(["a@1.0"]))


def test_ensure_brings_what_is_required() -> None:
    """An on-demand requirement of an ensured model is wanted, too."""
    base = model("z", [file_spec("f", B)], presence=Presence.ON_DEMAND)
    top = model("a", [file_spec(CONFIG, A)], presence=Presence.ON_DEMAND, requires=("z@1.0", "?@1"))
    plan = World().plan(desired(base, top), ensure=frozenset(["a@1.0"]))
    assert [a.address for a in plan.actions] == ["z@1.0::f", ADDRESS]


def test_another_default_variant_creates_and_deletes() -> None:
    """The new default is created; the old one goes, uncounted by the budget, after it."""
    old, new = [model("a", [file_spec("f", c)], variant=v) for v, c in (("x", A), ("y", B))]
    before = desired(old, attrs.evolve(new, installed=False))
    after = desired(attrs.evolve(old, installed=False), new)
    plan = applied(before).plan(
        attrs.evolve(after, policy=attrs.evolve(after.policy, max_delete=0))
    )
    assert said(plan) == ["a@1.0[y]::f create/missing", "a@1.0[x]::f delete/not_in_spec"]
    assert (blocks(plan), plan.actions[1].depends_on) == ([], ("a@1.0[y]::f",))


def test_an_ensured_variant_is_kept() -> None:
    """A variant outside install stays once it was ensured, as long as the spec lists it."""
    wanted = desired(
        model("a", [file_spec("f", A)], variant="x"),
        model("a", [file_spec("f", B)], variant="y", installed=False),
    )
    world = applied(wanted, ensure=frozenset(["a@1.0[y]"]))
    assert len(world.state.files) == 2
    assert not world.plan(wanted)
    assert said(world.plan(desired(wanted.models[0]))) == ["a@1.0[y]::f delete/not_in_spec"]


# --- projects ----------------------------------------------------------------------------------
def test_other_projects_are_never_planned() -> None:
    """Models that only another project owns do not appear."""
    world = applied(desired(model("b", [file_spec("f", B)])), project="other")
    del world.disk.files["wan22/b@1.0/f"]
    assert [a.key for a in world.plan(one()).actions] == ["a@1.0"]


def test_ownership_is_joined_and_left() -> None:
    """The same model wanted by two: records change, files only go with the last owner."""
    world = applied(one(), project="other")
    plan = world.apply(one())
    assert [(c.field, c.before, c.after) for c in plan.records] == [
        ("owners", None, "specs/one.toml")
    ]
    assert (plan.actions, len(world.state.models["a@1.0"].owners)) == ((), 2)
    empty = desired(model("b", [file_spec("f", B)]))
    left = world.apply(empty)
    assert [(c.model, c.before, c.after) for c in left.records] == [
        ("a@1.0", "specs/one.toml", None)
    ]
    assert left.summary.delete == 0
    gone = world.plan(empty, project="other", allow_delete=True)
    assert said(gone)[-1] == f"{ADDRESS} delete/not_in_spec"


def test_other_bytes_under_the_same_id_collide() -> None:
    """Two projects want one id with different bytes: NAME_COLLISION, and nothing is planned."""
    plan = applied(one(A), project="other").plan(one(B))
    assert (blocks(plan), plan.actions) == ([ErrorCode.NAME_COLLISION], ())
    assert plan.blocked[0].address == ADDRESS


def test_a_shared_model_keeps_the_files_of_both() -> None:
    """A file that only the other owner's spec has is not deleted, and nobody flips the record."""
    wide = model("a", [file_spec(CONFIG, A), file_spec(WEIGHTS, B)], protect=True, requires=("z",))
    world = applied(desired(wide), project="other")
    world.apply(one())
    record = world.state.models["a@1.0"]
    assert (record.protect, record.requires) == (True, ("z",))
    assert not world.plan(one()).records
    assert not world.plan(desired(wide), project="other").records


def test_default_from_another_directory_may_not_delete() -> None:
    """PROJECT_UNNAMED until the project has a name; without deletes nothing is said."""
    world = applied(desired(*one().models, model("b", [file_spec("f", B)])))
    known = {"default": ProjectRecord(directory="/one"), "video": ProjectRecord(directory="/one")}
    world.state = attrs.evolve(world.state, projects=known)
    plan = world.plan(one(), project_directory="/two")
    assert blocks(plan) == [ErrorCode.PROJECT_UNNAMED]
    assert "/one" not in plan.blocked[0].message
    assert blocks(world.plan(one(), project_directory="/one")) == []
    reowned(world, attrs.evolve(MINE, project="video"))
    assert blocks(world.plan(one(), project_directory="/two", project="video")) == []
