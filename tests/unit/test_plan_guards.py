"""What blocks a plan, and what a plan says besides its actions."""

from __future__ import annotations

import attrs
import pytest
from unit.paper_disk import sha
from unit.plan_words import (
    ADDRESS,
    CONFIG,
    MINE,
    OTHER,
    PLACE,
    WEIGHTS,
    A,
    B,
    C,
    blocks,
    one,
    said,
)
from unit.strategies import World, applied, desired, file_spec, model

from wanrec.reconcile.actions import PlanOptions, RecordChange
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import (
    Desired,
    Observed,
    Presence,
    RemovedRule,
    Selection,
)
from wanrec.reconcile.plan import make_plan
from wanrec.reconcile.plan_scope import record_after
from wanrec.state.model import FileRecord, ModelRecord, Owner


# --- protection and budgets --------------------------------------------------------------------
@pytest.mark.parametrize(
    "wanted",
    [
        desired(model("b", [file_spec("f", B)])),
        desired(model("a", [file_spec(WEIGHTS, B)])),
        desired(
            model("b", [file_spec("f", B)]), model("a", [file_spec(WEIGHTS, B)], protect=False)
        ),
    ],
)
def test_a_protected_model_is_not_deleted(wanted: Desired) -> None:
    """The record protects, whatever the spec says now; the plan is shown whole."""
    wide = model("a", [file_spec(CONFIG, A), file_spec(WEIGHTS, B)], protect=True)
    world = applied(desired(wide, model("b", [file_spec("f", B)])))
    plan = world.plan(wanted)
    assert blocks(plan) == [ErrorCode.PROTECTED]
    assert plan.summary.delete > 0


def test_the_ways_out_of_protection() -> None:
    """Protect = false first, or forget; and a protected model may be updated."""
    world = applied(desired(*one(protect=True).models, model("b", [file_spec("f", B)])))
    rest = desired(model("b", [file_spec("f", B)]))
    rule = RemovedRule(model="a@1.0", delete=False, spec="s")
    assert blocks(world.plan(attrs.evolve(rest, removed=(rule,)))) == []
    assert blocks(world.plan(desired(*one(C, protect=True).models, *rest.models))) == []
    lifted = world.apply(desired(*one().models, *rest.models))
    assert [(c.field, c.before, c.after) for c in lifted.records] == [("protect", "true", "false")]
    assert blocks(world.plan(rest)) == []


@pytest.mark.parametrize(
    ("limit", "dropped", "blocked"),
    [
        (0.5, 2, False),
        (0.5, 3, True),
        (0.0, 1, True),
        (1.0, 4, False),
        (1, 1, False),
        (1, 2, True),
        (0, 1, True),
    ],
)
def test_the_delete_budget(limit: float, dropped: int, blocked: bool) -> None:
    """A float is a share, an integer a count, of this project's models; more needs permission."""
    kept = [model(f"m{i}", [file_spec("f", A)]) for i in range(4)]
    world = applied(desired(*kept, model("x", [file_spec("f", A)])))
    world.state = attrs.evolve(
        world.state,
        models={
            k: attrs.evolve(m, owners=(OTHER,)) if k == "x@1.0" else m
            for k, m in world.state.models.items()
        },
    )
    policy = attrs.evolve(kept[0].policy, max_delete=limit)
    left = desired(*kept[dropped:], model("new", [file_spec("f", B)]), policy=policy)
    plan = world.plan(left)
    assert blocks(plan) == ([ErrorCode.DELETE_BUDGET] if blocked else [])
    assert plan.summary.delete == dropped
    assert blocks(world.plan(left, allow_delete=True)) == []


def test_a_new_version_does_not_count() -> None:
    """Deletes whose NAME is created in the same plan are an update."""
    policy = attrs.evolve(one().models[0].policy, max_delete=0)
    wanted = desired(model("a", [file_spec(CONFIG, B)], version="2.0"), policy=policy)
    plan = applied(one()).plan(wanted)
    assert (plan.summary.create, plan.summary.delete, blocks(plan)) == (1, 1, [])


def test_an_empty_spec_set_is_refused() -> None:
    """Nothing loaded: an error without records, a block with them, allowed on request."""
    with pytest.raises(WanrecError) as caught:
        World().plan(desired())
    assert caught.value.code is ErrorCode.NOTHING_SELECTED
    world = applied(one())
    assert blocks(world.plan(desired())) == [ErrorCode.NOTHING_SELECTED]
    assert blocks(world.plan(desired(), allow_delete=True)) == []
    assert blocks(world.plan(desired(), refresh_only=True)) == []
    elsewhere = Selection(specs=frozenset(["specs/two.toml"]))
    assert blocks(world.plan(desired(selection=elsewhere))) == []


def test_blocks_have_one_order() -> None:
    """The most telling refusal comes first, whatever was found first."""
    world = applied(
        desired(
            model("p", [file_spec("f", A)], protect=True),
            model("q", [file_spec("f", A)]),
        )
    )
    world.disk.put(PLACE, b"foreign")
    policy = attrs.evolve(one().models[0].policy, max_delete=0)
    plan = world.plan(attrs.evolve(one(), policy=policy))
    assert blocks(plan) == [
        ErrorCode.PROTECTED,
        ErrorCode.FOREIGN_FILE,
        ErrorCode.DELETE_BUDGET,
    ]


# --- records, refresh, state-only --------------------------------------------------------------
def test_edits_of_records_are_no_actions() -> None:
    """Protect, presence, spec file and requirements change only what the state says."""
    world = applied(one())
    edited = one(
        protect=True, presence=Presence.ON_DEMAND, spec="specs/two.toml", spec_sha256="new"
    )
    edited = desired(attrs.evolve(edited.models[0], requires=("b@1.0", "c@1.0")))
    plan = world.apply(edited)
    assert not plan
    assert [c.field for c in plan.records] == [
        "owners",
        "presence",
        "protect",
        "requires",
        "spec_sha256",
    ]
    record = world.state.models["a@1.0"]
    assert (record.protect, record.presence) == (True, Presence.ON_DEMAND)
    assert record.owners == (Owner(project="default", spec="specs/two.toml"),)
    assert (record.requires, record.spec_sha256) == (("b@1.0", "c@1.0"), "new")
    assert world.plan(edited).records == ()


def test_record_edits_are_undone_and_unknown_ones_refused() -> None:
    """record_after also lets requirements go, and knows its fields."""
    record = ModelRecord(spec_sha256="", requires=("b@1.0",))
    change = RecordChange(model="a", field="requires", before="b@1.0", after="")
    assert record_after(record, [change], "default").requires == ()
    with pytest.raises(ValueError, match="no record"):
        record_after(record, [attrs.evolve(change, field="colour")], "default")


def test_a_model_without_files_leaves_by_its_record() -> None:
    """No file to delete: the ownership goes, and with it the record."""
    world = applied(one())
    world.state = attrs.evolve(
        world.state,
        models={**world.state.models, "e@1": ModelRecord(spec_sha256="", owners=(MINE,))},
    )
    plan = world.apply(one())
    assert [(c.model, c.after) for c in plan.records] == [("e@1", None)]
    assert "e@1" not in world.state.models


def test_refresh_only() -> None:
    """Doubtful is hashed, absent is forgotten, wrong sizes are left for drift."""
    wide = desired(
        model("a", [file_spec(p, A) for p in ("1", "2", "3")]), model("b", [file_spec("f", B)])
    )
    world = applied(wide)
    assert not world.plan(wide, refresh_only=True)
    world.disk.touch("wan22/b@1.0/f")
    del world.disk.files["wan22/a@1.0/2"]
    world.disk.put("wan22/a@1.0/3", b"x")
    plan = world.plan(wide, refresh_only=True, deep=True)
    rows = dict(row.split(" ") for row in said(plan))
    assert rows["b@1.0::f"] == "verify/stat_changed"
    assert rows["a@1.0::2"] == "forget/missing"
    assert "a@1.0::3" not in rows
    assert {item.kind for item in plan.drift} == {"missing", "size"}


def test_refresh_only_hashes_what_has_expired_and_records_no_wrong_bytes() -> None:
    """verified_before counts here too; bytes known to be wrong are not verified."""
    world = applied(one())
    late = world.plan(one(), refresh_only=True, verified_before="2099-01-01T00:00:00Z")
    assert said(late) == [f"{ADDRESS} verify/verify_expired"]
    world.disk.spoil(PLACE)
    assert not world.plan(one(), refresh_only=True, deep=True)
    assert said(world.plan(one(), refresh_only=True)) == [f"{ADDRESS} verify/stat_changed"]


def test_refresh_only_looks_at_what_the_run_is_about() -> None:
    """Other projects, other specs and unselected files are left alone."""
    wide = desired(
        model("a", [file_spec(CONFIG, A), file_spec(WEIGHTS, B)]),
        model("b", [file_spec("f", C)], spec="specs/two.toml"),
    )
    world = applied(wide)
    for path in world.disk.files:
        world.disk.touch(path)

    def planned(selection: Selection, **options: object) -> list[str]:
        chosen = attrs.evolve(wide, selection=selection)
        return [a.address for a in world.plan(chosen, refresh_only=True, **options).actions]

    narrow = Selection(keys=frozenset(["a@1.0"]), addresses=frozenset([ADDRESS]), partial=True)
    assert planned(narrow) == [ADDRESS]
    assert planned(Selection(specs=frozenset(["specs/two.toml"]), keys=frozenset())) == []
    assert planned(Selection(specs=frozenset(["specs/two.toml"]), keys=frozenset(["b@1.0"]))) == [
        "b@1.0::f"
    ]
    assert planned(Selection(), project="other") == []


def test_state_only_sees_no_disk() -> None:
    """Spec against state: a file removed from the disk is not missed, a new one is created."""
    world = applied(one())
    world.disk.files.clear()
    assert not world.plan(one(), state_only=True)
    both = desired(one().models[0], model("b", [file_spec("f", A), file_spec("g", B)]))
    plan = world.plan(both, state_only=True)
    assert said(plan) == ["b@1.0::f adopt/found_by_hash", "b@1.0::g create/missing"]
    assert world.plan(desired(both.models[1]), state_only=True).summary.delete == 1


def test_busy_models_are_named() -> None:
    """A plan about a model that another run works on says so."""
    plan = make_plan(one(), World().state, Observed(busy=frozenset(["a@1.0"])), PlanOptions())
    assert "a@1.0 is being worked on" in plan.warnings[0]


def test_a_plan_knows_what_it_was_made_from() -> None:
    """Lineage, serial and the digests of the specs are in it; a fresh state has no lineage."""
    assert World().plan(one()).lineage is None
    plan = applied(one()).plan(one())
    assert (plan.lineage, plan.serial) == ("a-lineage", 1)
    assert plan.specs["specs/one.toml"] == sha(b"specs/one.toml")
    assert not plan


def test_the_same_record_is_not_shared_by_accident() -> None:
    """A record under another path than the spec's is another file."""
    record = FileRecord(
        path="elsewhere",
        size=1,
        sha256="0" * 64,
        mtime_ns=0,
        ctime_ns=0,
        ino=0,
        dev=0,
        verified_at="",
    )
    world = applied(one())
    world.state = attrs.evolve(world.state, files={**world.state.files, "q@9::x": record})
    assert not world.plan(one())
