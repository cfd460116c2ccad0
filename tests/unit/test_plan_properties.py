"""The standing properties of the planner, over generated specs, states and disks."""

from __future__ import annotations

import copy
import random

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from unit.paper_disk import sha
from unit.strategies import World, desired_sets, selected, worlds

from wanrec.reconcile.actions import Plan, PlanOptions
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import ActionKind, Desired, Observed, Selection
from wanrec.reconcile.plan import make_plan
from wanrec.reconcile.planfile import decode, encode, plan_digest

FREE = {"allow_delete": True, "allow_foreign": True}


def deletes(plan: Plan) -> set[str]:
    """Addresses a plan takes away."""
    return {a.address for a in plan.actions if a.action is ActionKind.DELETE}


def contents(world: World) -> dict[str, str]:
    """Root-relative path → hash of everything on the disk."""
    return {path: sha(node.content) for path, node in world.disk.files.items()}


@given(world=worlds(), wanted=desired_sets())
def test_apply_then_plan_is_empty(world: World, wanted: Desired) -> None:
    """After a plan has been carried out, the next one does nothing and edits no record."""
    done = world.apply(wanted, deep=True, **FREE)
    assume(not done.blocked)
    again = world.plan(wanted, deep=True, **FREE)
    assert (again.actions, again.records, again.drift) == ((), (), ())
    assert again.summary == type(again.summary)()


@given(world=worlds(), wanted=desired_sets())
def test_a_shallow_apply_converges_too(world: World, wanted: Desired) -> None:
    """Without --deep, doubtful files are hashed by apply, and nothing is left to do."""
    assume(not world.apply(wanted, **FREE).blocked)
    assert not world.plan(wanted, **FREE)
    assert not world.plan(wanted, deep=True, **FREE)


@given(world=worlds(), wanted=desired_sets(), seed=st.integers(0, 1000))
def test_a_plan_is_a_function(world: World, wanted: Desired, seed: int) -> None:
    """The order of specs, files, records and facts changes no byte of the plan."""
    options = PlanOptions(allow_delete=True)
    observed = world.disk.observe(wanted, world.state)
    first = encode(make_plan(wanted, world.state, observed, options))
    shuffle = random.Random(seed).shuffle

    def shuffled(items: object) -> list:  # type: ignore[type-arg]
        mixed = list(items)  # type: ignore[call-overload]
        shuffle(mixed)
        return mixed

    other = attrs.evolve(
        wanted,
        models=tuple(
            attrs.evolve(m, files=tuple(shuffled(m.files)), requires=tuple(shuffled(m.requires)))
            for m in shuffled(wanted.models)
        ),
        sources=tuple(shuffled(wanted.sources)),
    )
    state = attrs.evolve(
        world.state,
        models=dict(shuffled(world.state.models.items())),
        files=dict(shuffled(world.state.files.items())),
    )
    seen = Observed(
        facts=dict(shuffled(observed.facts.items())), foreign=tuple(shuffled(observed.foreign))
    )
    assert encode(make_plan(other, state, seen, options)) == first


@given(world=worlds(), wanted=desired_sets(), destroy=st.booleans())
def test_nothing_foreign_is_touched(world: World, wanted: Desired, destroy: bool) -> None:
    """Only what this project's records name is deleted; foreign files keep their bytes."""
    before, records = contents(world), dict(world.state.models)
    foreign = world.disk.observe(wanted, world.state).foreign
    plan = world.apply(wanted, allow_delete=True, destroy=destroy)
    for action in plan.actions:
        if action.action in (ActionKind.DELETE, ActionKind.FORGET):
            assert [owner.project for owner in records[action.key].owners] == ["default"]
    after = contents(world)
    assert {path: after.get(path) for path in foreign} == {path: before[path] for path in foreign}


@given(world=worlds(), wanted=desired_sets())
def test_other_projects_lose_nothing(world: World, wanted: Desired) -> None:
    """Files of models that another project owns are there afterwards, with the recorded bytes."""
    plan = world.apply(wanted, allow_delete=True, deep=True)
    assume(not plan.blocked)
    planned = {action.address for action in plan.actions}
    for key, record in world.state.models.items():
        if {owner.project for owner in record.owners} == {"other"}:
            assert not any(address.startswith(f"{key}::") for address in planned)


@given(world=worlds(), wanted=desired_sets(), data=st.data())
def test_a_selection_never_deletes(world: World, wanted: Desired, data: st.DataObject) -> None:
    """Narrowing by keyword deletes and forgets nothing, and plans no unselected model."""
    keys = data.draw(st.sets(st.sampled_from([m.key for m in wanted.models])))
    plan = world.plan(selected(wanted, *keys), **FREE)
    assert plan.partial
    assert {a.key for a in plan.actions} <= keys
    kinds = {a.action for a in plan.actions}
    assert not kinds & {ActionKind.DELETE, ActionKind.FORGET}


@given(world=worlds(), wanted=desired_sets(), spec=st.sampled_from(["specs/one.toml", "-"]))
def test_naming_a_spec_never_widens_deletes(world: World, wanted: Desired, spec: str) -> None:
    """A run about one spec file deletes a part of what the whole run would delete."""
    keys = frozenset(m.key for m in wanted.models if m.spec == spec)
    narrow = attrs.evolve(wanted, selection=Selection(keys=keys, specs=frozenset([spec])))
    assert deletes(world.plan(narrow, **FREE)) <= deletes(world.plan(wanted, **FREE))


@given(world=worlds(), wanted=desired_sets(), data=st.data())
def test_stopping_anywhere_ends_the_same(
    world: World, wanted: Desired, data: st.DataObject
) -> None:
    """A run that stops after any action and is started again leaves the same files."""
    twin = copy.deepcopy(world)
    plan = world.plan(wanted, **FREE)
    assume(plan.actions and not plan.blocked)
    world.apply(wanted, **FREE)
    twin.apply(wanted, data.draw(st.integers(0, len(plan.actions) - 1)), **FREE)
    twin.apply(wanted, **FREE)
    assert contents(twin) == contents(world)
    assert twin.state.files.keys() == world.state.files.keys()


@given(world=worlds(), wanted=desired_sets(), first=st.booleans())
def test_order_and_counts_hold(world: World, wanted: Desired, first: bool) -> None:
    """Nobody waits for a later action, addresses are unique, deletes stand together at one end."""
    plan = world.plan(wanted, delete_first=first, **FREE)
    places = {action.address: index for index, action in enumerate(plan.actions)}
    assert len(places) == len(plan.actions)
    for index, action in enumerate(plan.actions):
        assert all(places[address] < index for address in action.depends_on)
    gone = [a.action is ActionKind.DELETE for a in plan.actions if a.action != ActionKind.FORGET]
    assert gone == sorted(gone, reverse=first)
    assert plan.summary.bytes_to_fetch == sum(a.bytes_to_fetch for a in plan.actions)


@given(world=worlds(), wanted=desired_sets())
def test_equal_bytes_are_fetched_once(world: World, wanted: Desired) -> None:
    """A plan fetches no content twice, and an apply fetches what the plan said, plus repairs."""
    plan = world.plan(wanted, deep=True, **FREE)
    fetched = [a.sha256 for a in plan.actions if a.bytes_to_fetch]
    assert len(fetched) == len(set(fetched))
    if not plan.blocked:
        before = world.disk.fetched
        world.apply(wanted, deep=True, **FREE)
        assert world.disk.fetched - before == plan.summary.bytes_to_fetch


@given(world=worlds(), wanted=desired_sets())
def test_refresh_only_touches_no_file(world: World, wanted: Desired) -> None:
    """--refresh-only plans verify and forget, nothing else, and edits no record field."""
    plan = world.plan(wanted, refresh_only=True)
    assert {a.action for a in plan.actions} <= {ActionKind.VERIFY, ActionKind.FORGET}
    assert not plan.records


@given(world=worlds(), wanted=desired_sets())
def test_state_only_needs_no_disk(world: World, wanted: Desired) -> None:
    """--state-only says the same whatever lies on the disk."""
    options = PlanOptions(state_only=True)
    seen = make_plan(wanted, world.state, world.disk.observe(wanted, world.state), options)
    assert seen == make_plan(wanted, world.state, Observed(), options)


@given(world=worlds(), wanted=desired_sets())
def test_destroy_ends_with_nothing_owned(world: World, wanted: Desired) -> None:
    """--destroy leaves no model of this project, and a second one has nothing to do."""
    assume(not world.apply(wanted, destroy=True, allow_delete=True).blocked)
    owners = {o.project for record in world.state.models.values() for o in record.owners}
    assert "default" not in owners
    assert not world.plan(wanted, destroy=True, allow_delete=True)


@given(world=worlds(), wanted=desired_sets())
def test_a_plan_survives_its_file(world: World, wanted: Desired) -> None:
    """Encoding and decoding give the same plan, and the id is that of the content."""
    plan = world.plan(wanted)
    read = decode(encode(plan), "p")
    assert read.plan == plan
    assert read.plan_id == plan_digest(plan)


@given(world=worlds(), wanted=desired_sets(), data=st.data())
def test_any_edit_of_a_plan_file_is_refused(
    world: World, wanted: Desired, data: st.DataObject
) -> None:
    """One changed byte anywhere is PLAN_CORRUPT (or a newer format), never another plan."""
    plan = world.plan(wanted)
    good = encode(plan)
    place = data.draw(st.integers(0, len(good) - 1))
    bad = good[:place] + bytes([data.draw(st.integers(0, 255))]) + good[place + 1 :]
    try:
        read = decode(bad, "p")
    except WanrecError as error:
        assert error.code in (ErrorCode.PLAN_CORRUPT, ErrorCode.PLAN_NEWER)
    else:
        assert read.plan == plan  # white space moved, or the same byte again


def test_the_world_itself_refuses_cheating() -> None:
    """The paper executor does assert: bytes without a source are not brought."""
    world = World()
    with pytest.raises(WanrecError):
        world.plan(Desired())
