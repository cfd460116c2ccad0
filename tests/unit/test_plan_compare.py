"""How two plans differ, and how that and a plan read as annotations, to the letter."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from support.render_samples import action, contract_plan, every_kind, fetched, plans
from syrupy.assertion import SnapshotAssertion

from wanrec.reconcile.actions import Block, Plan, RecordChange
from wanrec.reconcile.collect_origins import model_origins
from wanrec.reconcile.errors import ErrorCode
from wanrec.reconcile.model import ActionKind, Reason
from wanrec.reconcile.plan_compare import compare
from wanrec.reconcile.render_compare import compare_json, compare_text
from wanrec.reconcile.render_github import ANNOTATIONS, plan_github


def changed() -> Plan:
    """The contract's plan with one action more, one less, one of other bytes, one record."""
    first, *rest = contract_plan().actions
    other = attrs.evolve(rest[0], after=None, before=None)
    added = fetched("vae/added.bin", 4096, "ab" * 32)
    record = RecordChange(model="old@1", field="protect", before="false", after="true")
    return attrs.evolve(contract_plan(), actions=(first, other, added), records=(record,))


def proper(plan: Plan) -> Plan:
    """The plan with one action a file and one change a field, as every real plan has."""
    steps = {one.address: one for one in plan.actions}
    records = {(one.model, one.field): one for one in plan.records}
    return attrs.evolve(plan, actions=tuple(steps.values()), records=tuple(records.values()))


@pytest.mark.parametrize("color", [False, True])
def test_differences_in_words(color: bool, snapshot: SnapshotAssertion) -> None:
    """What is new, gone and changed is told with both sides, then counted."""
    assert compare_text(compare(contract_plan(), changed()), color) == snapshot


def test_differences_for_programs(snapshot: SnapshotAssertion) -> None:
    """One document with the actions of both plans as plan files write them."""
    told = compare_json(compare(contract_plan(), changed()))
    assert json.loads(told)["equal"] is False
    assert told == snapshot


@given(plans.map(proper))
def test_a_plan_is_itself(plan: Plan) -> None:
    """No plan differs from itself, nor from itself in another order and for other reasons."""
    steps = [attrs.evolve(one, reason=Reason.REQUESTED, bytes_to_fetch=0) for one in plan.actions]
    again = attrs.evolve(plan, actions=tuple(reversed(steps)))
    assert compare(plan, again) == ()
    assert compare_text(()) == "The plan is the reviewed one.\n"
    assert json.loads(compare_json(()))["equal"] is True


@given(plans.map(proper), plans.map(proper))
def test_differences_have_two_sides(reviewed: Plan, now: Plan) -> None:
    """Seen from the other plan the same addresses differ, with the sides exchanged."""
    there = {one.address: (one.reviewed, one.now) for one in compare(reviewed, now)}
    back = {one.address: (one.now, one.reviewed) for one in compare(now, reviewed)}
    assert there == back


def test_annotations_of_every_kind(snapshot: SnapshotAssertion) -> None:
    """Blocks are errors, what can hurt is a warning, the frozen line is a notice."""
    assert plan_github(every_kind()) == snapshot


def test_annotations_are_limited() -> None:
    """GitHub drops what is too much without a word: the last annotation says how much that is."""
    deletes = [action(ActionKind.DELETE, f"{number:03d}.bin") for number in range(50)]
    blocks = [Block(code=ErrorCode.PROTECTED, message=f"{number}") for number in range(11)]
    plan = attrs.evolve(contract_plan(), actions=tuple(deletes), blocked=tuple(blocks))
    lines = plan_github(plan).splitlines()
    for kind, all_of_it in (("error", 11), ("warning", 50)):
        shown = [line for line in lines if line.startswith(f"::{kind} ")]
        assert len(shown) == ANNOTATIONS
        assert f"{all_of_it - ANNOTATIONS + 1} more" in shown[-1]


def test_defaults_come_from_the_nearest_file(tmp_path: Path) -> None:
    """A key is told with the file that gives it; what the model has itself is not told."""
    texts = {
        "specs/defaults.toml": 'family = "far"\n[defaults]\nprotect = true\nmarks = ["all"]\n',
        "specs/video/defaults.toml": '[defaults]\nmarks = ["video"]\n',
        "specs/video/a.toml": 'family = "own"\n[defaults]\nfps = 24\n'
        '[models."a@1"]\nprotect = false\n[models."b@1"]\n',
    }
    read = {tmp_path / name: text.encode() for name, text in texts.items()}

    def open_one(path: Path) -> bytes:
        if path not in read:
            raise FileNotFoundError(path)
        return read[path]

    assert model_origins(tmp_path, "specs/video/a.toml", open_one) == {
        "a@1": (
            'family = "own"  from specs/video/a.toml',
            "fps = 24  from specs/video/a.toml [defaults]",
            'marks = ["video"]  from specs/video/defaults.toml',
        ),
        "b@1": (
            'family = "own"  from specs/video/a.toml',
            "fps = 24  from specs/video/a.toml [defaults]",
            'marks = ["video"]  from specs/video/defaults.toml',
            "protect = true  from specs/defaults.toml",
        ),
    }
