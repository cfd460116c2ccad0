"""Order, dependencies, waves and circles of actions."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanrec.reconcile.actions import Action
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.graph import (
    action_graph,
    execution_order,
    find_cycle,
    waves,
    with_dependencies,
)
from wanrec.reconcile.model import ActionKind, Reason, split_key

BIG = 1 << 30


def step(
    key: str, path: str, kind: ActionKind = ActionKind.CREATE, size: int | None = BIG
) -> Action:
    """Return an action of which only place, kind and size matter."""
    model, variant = split_key(key)
    return Action(
        address=f"{key}::{path}",
        model=model,
        variant=variant,
        path=path,
        action=kind,
        reason=Reason.MISSING,
        size=size,
    )


def addresses(actions: tuple[Action, ...]) -> list[str]:
    """Return the addresses in order."""
    return [action.address for action in actions]


def test_requirements_come_first_through_idle_models() -> None:
    """A needs b, b needs c: c comes before a, although b does nothing."""
    actions = [step("a@1", "w.safetensors"), step("c@1", "w.safetensors")]
    requires = {"a@1": ("b@1",), "b@1": ("c@1",), "c@1": ()}
    ordered = with_dependencies(execution_order(actions, requires), requires)
    assert addresses(ordered) == ["c@1::w.safetensors", "a@1::w.safetensors"]
    assert ordered[1].depends_on == ("c@1::w.safetensors",)


@pytest.mark.parametrize(
    ("path", "size", "early"),
    [
        ("config.json", BIG, True),
        ("merges.txt", None, True),
        ("spiece.model", 1000, True),
        ("README", (1 << 20) - 1, True),
        ("README", 1 << 20, False),
        ("README", None, False),
        ("tiny.safetensors", 10, False),
        ("TINY.BIN", 10, False),
        ("model.gguf", BIG, False),
    ],
)
def test_small_files_come_before_weights(path: str, size: int | None, early: bool) -> None:
    """What is small and no weight fails early and cheaply."""
    weight = step("a@1", "A.safetensors")
    other = step("a@1", path, size=size)
    ordered = execution_order([weight, other], {})
    assert (ordered[0] is other) is early


def test_ties_are_broken_by_address_and_models_stay_together() -> None:
    """Without requirements the order is by model key, then by address."""
    actions = [step(k, p) for k in ("b@1", "a@1") for p in ("y.bin", "x.bin")]
    assert addresses(execution_order(actions, {})) == [
        "a@1::x.bin",
        "a@1::y.bin",
        "b@1::x.bin",
        "b@1::y.bin",
    ]


@pytest.mark.parametrize("first", [False, True])
def test_deletes_stand_at_one_end(first: bool) -> None:
    """Deletes are last over the whole plan, or first on request; forgets are always last."""
    actions = [
        step("a@1", "f", ActionKind.FORGET),
        step("a@1", "d", ActionKind.DELETE),
        step("z@1", "c"),
    ]
    ordered = addresses(execution_order(actions, {}, delete_first=first))
    create, delete = "z@1::c", "a@1::d"
    assert ordered[:2] == ([delete, create] if first else [create, delete])
    assert ordered[2] == "a@1::f"


def test_the_old_version_waits_for_the_new_one() -> None:
    """A dropped model is deleted only after its successor of the same NAME has arrived."""
    actions = [
        step("t2v@1.0", "w.bin", ActionKind.DELETE),
        step("t2v@2.0", "w.bin"),
        step("vae@1.0", "w.bin"),
    ]
    requires = {"t2v@2.0": (), "vae@1.0": ()}
    ordered = with_dependencies(execution_order(actions, requires), requires)
    assert ordered[-1].depends_on == ("t2v@2.0::w.bin",)
    first = execution_order(actions, requires, delete_first=True)
    assert with_dependencies(first, requires)[0].depends_on == ()


def test_a_file_dropped_from_a_wanted_model_waits_for_nobody_else() -> None:
    """Narrowing one model does not tie it to another variant of its name."""
    actions = [step("a@1[x]", "old.bin", ActionKind.DELETE), step("a@1[y]", "w.bin")]
    requires = {"a@1[x]": (), "a@1[y]": ()}
    ordered = with_dependencies(execution_order(actions, requires), requires)
    assert ordered[-1].depends_on == ()


def test_dependencies_that_are_there_are_kept() -> None:
    """A donor stays a dependency beside the requirement."""
    actions = (
        step("a@1", "w.bin"),
        attrs.evolve(step("b@1", "w.bin"), depends_on=("donor@1::x",)),
    )
    done = with_dependencies(actions, {"b@1": ("a@1",)})
    assert done[1].depends_on == ("a@1::w.bin", "donor@1::x")
    assert done[0] is actions[0]


def test_requirements_in_a_circle_are_named() -> None:
    """Two models that need one another cannot be ordered, and the message names them."""
    with pytest.raises(WanrecError) as caught:
        execution_order([step("a@1", "f")], {"a@1": ("b@1",), "b@1": ("a@1",)})
    assert caught.value.code is ErrorCode.INVALID_MANIFEST
    assert caught.value.detail == "a@1 -> b@1 -> a@1"


@pytest.mark.parametrize(
    ("edges", "cycle"),
    [
        ([], None),
        ([("a", "b"), ("b", "c")], None),
        ([("a", "a")], ("a", "a")),
        ([("c", "b"), ("b", "c"), ("a", "c")], ("b", "c", "b")),
        ([("x", "y"), ("y", "z"), ("z", "x")], ("x", "y", "z", "x")),
    ],
)
def test_circles_start_at_their_smallest_name(
    edges: list[tuple[str, str]], cycle: tuple[str, ...] | None
) -> None:
    """The same edges, in any order, give the same circle."""
    assert find_cycle(edges) == cycle
    assert find_cycle(reversed(edges)) == cycle


def test_waves_hold_what_may_run_together() -> None:
    """Each action is in the first wave in which all it waits for is done."""
    a, b = step("a@1", "f"), step("b@1", "f")
    c = attrs.evolve(step("c@1", "f"), depends_on=(a.address, "not in this plan"))
    assert waves([c, b, a]) == (("a@1::f", "b@1::f"), ("c@1::f",))
    assert sorted(action_graph([a, c]).edges) == [("a@1::f", "c@1::f")]
    assert waves([]) == ()


def test_actions_that_wait_for_one_another_are_refused() -> None:
    """A circle of actions can only come from a forged plan."""
    a = attrs.evolve(step("a@1", "f"), depends_on=("b@1::f",))
    b = attrs.evolve(step("b@1", "f"), depends_on=("a@1::f",))
    with pytest.raises(WanrecError) as caught:
        waves([a, b])
    assert caught.value.code is ErrorCode.PLAN_CORRUPT


@given(
    pairs=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=20),
    kinds=st.lists(st.sampled_from(sorted(ActionKind)), min_size=9, max_size=9),
)
def test_the_order_respects_every_requirement(
    pairs: list[tuple[int, int]], kinds: list[ActionKind]
) -> None:
    """Whatever requires whatever: no action stands before one it waits for."""
    requires: dict[str, list[str]] = {f"m{i}@1": [] for i in range(9)}
    for one, two in pairs:
        if one < two:
            requires[f"m{one}@1"].append(f"m{two}@1")
    actions = [step(f"m{i}@1", "w.bin", kind) for i, kind in enumerate(kinds)]
    ordered = with_dependencies(execution_order(actions, requires), requires)
    places = {address: index for index, address in enumerate(addresses(ordered))}
    assert len(places) == len(actions)
    for action in ordered:
        assert all(places[needed] < places[action.address] for needed in action.depends_on)
