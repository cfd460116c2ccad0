"""Who goes and who stays, decided on paper."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanrec.reconcile.lifecycle import (
    Candidate,
    Decision,
    Keep,
    Limits,
    Remove,
    Shield,
    decide,
    shield_of,
)


def model(key: str, used: int, size: int = 10, **more: object) -> Candidate:
    """A model with one inode of its own."""
    inodes = {(1, hash(key)): size}
    fields: dict[str, object] = {"family": "f", "inodes": inodes, "apparent": size, **more}
    return Candidate(key=key, last_used_ns=used, **fields)  # type: ignore[arg-type]


def gone(decisions: tuple[Decision, ...]) -> list[str]:
    """Keys that go, in order."""
    return [row.key for row in decisions if row.removes]


def reasons(decisions: tuple[Decision, ...]) -> dict[str, str]:
    """Key → reason."""
    return {row.key: row.reason.value for row in decisions}


def test_no_limit_removes_nothing() -> None:
    """Without a limit every model stays."""
    assert gone(decide([model("a", 1), model("b", 2)], Limits())) == []


def test_longest_unused_goes_first() -> None:
    """A quota takes the longest unused models, and no more of them than it needs."""
    rows = decide([model("a", 3), model("b", 1), model("c", 2)], Limits(max_size=15))
    assert gone(rows) == ["b", "c"]


def test_family_quota_leaves_other_families_alone() -> None:
    """A family over its quota pays itself, though others were unused for longer."""
    models = [model("a", 1, family="x"), model("b", 2), model("c", 3)]
    rows = decide(models, Limits(quotas={"f": 10}))
    assert gone(rows) == ["b"]
    assert reasons(rows)["b"] == Remove.FAMILY_QUOTA


def test_expired_goes_whatever_the_room() -> None:
    """An age limit takes what was not used since."""
    assert gone(decide([model("a", 1), model("b", 9)], Limits(unused_since_ns=5))) == ["a"]


def test_requirement_goes_after_whoever_requires_it() -> None:
    """A requirement counts as used when its requirers were, and never goes before them."""
    models = [model("base", 1), model("lora", 8, requires=("base",)), model("c", 5)]
    assert gone(decide(models, Limits(max_size=25))) == ["c"]
    assert gone(decide(models, Limits(max_size=0))) == ["c", "lora", "base"]
    kept = decide([*models[:2], model("c", 5)], Limits(unused_since_ns=6))
    assert reasons(kept)["base"] == Keep.REQUIREMENT


def test_requirement_of_a_pinned_model_stays() -> None:
    """What a model that stays requires stays, too, and the report names who requires it."""
    pinned = model("p", 1, requires=("base",), shield=Keep.PINNED)
    rows = decide([model("base", 1), pinned], Limits(max_size=0))
    assert gone(rows) == []
    assert {row.key: row.detail for row in rows}["base"] == "required by p"


def test_shared_bytes_free_nothing() -> None:
    """A model whose inodes all belong to a model that stays is not sacrificed for room."""
    shared = {(1, 1): 10}
    models = [
        model("r", 1, inodes=shared, shield=Keep.REQUIRED),
        model("a", 1, inodes=shared),
        model("b", 2),
    ]
    rows = decide(models, Limits(max_size=10))
    assert gone(rows) == ["b"]
    assert reasons(rows)["a"] == Keep.FREES_NOTHING


def test_shared_bytes_come_free_with_the_last_name() -> None:
    """Equal bytes are counted once; they come free when the last model that has them goes."""
    shared = {(1, 1): 10}
    rows = decide([model("a", 1, inodes=shared), model("b", 2, inodes=shared)], Limits(max_size=9))
    assert [(row.key, row.frees) for row in rows] == [("a", 0), ("b", 10)]


def test_names_outside_give_no_room() -> None:
    """Bytes that have a name elsewhere do not come free, so they are not evicted for room."""
    models = [model("a", 1, inodes={(1, 1): 10}), model("b", 2, inodes={(1, 2): 10})]
    rows = decide(models, Limits(room=5), outside=frozenset({(1, 1)}))
    assert gone(rows) == ["b"]


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        (Shield(), None),
        (Shield(pinned=True, required=True), Keep.PINNED),
        (Shield(protect=True), Keep.PROTECTED),
        (Shield(required=True), Keep.REQUIRED),
        (Shield(required=True, orphan=True), None),
        (Shield(required=True, orphan=True, in_use=True), Keep.IN_USE),
        (Shield(busy=True), Keep.BUSY),
    ],
)
def test_shields(about: Shield, expected: Keep | None) -> None:
    """Each reason to stay holds by itself; an orphan's presence binds nobody."""
    assert shield_of(about) is expected


names = st.sampled_from("abcdefgh")
some_models = st.dictionaries(
    names,
    st.tuples(
        st.integers(0, 9),
        st.sets(st.integers(0, 5)),
        st.sampled_from([None, Keep.PINNED]),
        st.sets(names, max_size=2),
        st.booleans(),
    ),
)


@given(some_models, st.integers(0, 60), st.integers(0, 9))
def test_nothing_needed_ever_goes(
    table: dict[str, tuple[int, set[int], Keep | None, set[str], bool]], size: int, since: int
) -> None:
    """Whatever the limits: no shielded model goes, nor anything that a kept model requires."""
    models = [
        Candidate(
            key=key,
            family="f",
            last_used_ns=used,
            inodes={(1, inode): 10 for inode in inodes},
            shield=shield,
            requires=tuple(sorted(requires)),
            orphan=orphan,
        )
        for key, (used, inodes, shield, requires, orphan) in table.items()
    ]
    rows = decide(models, Limits(max_size=size, unused_since_ns=since))
    left = {row.key for row in rows if not row.removes}
    assert sorted(row.key for row in rows) == sorted(table)
    for candidate in models:
        if candidate.shield is not None:
            assert candidate.key in left
        if candidate.key in left:
            assert not (set(candidate.requires) & table.keys()) - left
    freed = sum(row.frees for row in rows)
    before = 10 * len({inode for c in models for inode in c.inodes})
    after = 10 * len({inode for c in models if c.key in left for inode in c.inodes})
    assert freed == before - after
