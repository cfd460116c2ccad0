"""The plan's graph as DOT, Mermaid and JSON."""

from __future__ import annotations

import json
import re

import attrs
import pytest
from hypothesis import given
from support.render_samples import HOSTILE, action, every_kind, plans
from syrupy.assertion import SnapshotAssertion

from wanrec.reconcile.actions import Plan
from wanrec.reconcile.model import ActionKind
from wanrec.reconcile.render import GraphFormat, render_graph

FORMS = list(GraphFormat)
CHAIN = Plan(
    lineage=None,
    serial=0,
    specs={},
    actions=(
        action(ActionKind.CREATE, "x", model="a@1", variant=None),
        action(ActionKind.CREATE, "y", model="a@1", variant=None, depends_on=("a@1::x",)),
        action(
            ActionKind.CREATE, "z", model="b@1", variant=None,
            depends_on=("a@1::y", "a@1::x", "there@1::already"),
        ),
    ),
)  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("by_model", [False, True])
def test_chain(form: GraphFormat, by_model: bool, snapshot: SnapshotAssertion) -> None:
    """An edge runs from what is done first; what is not in the plan has no node."""
    assert render_graph(CHAIN, form, by_model=by_model) == snapshot


@given(plans)
def test_edges_join_nodes(plan: Plan) -> None:
    """Every edge joins two nodes, and every action is in exactly one node."""
    first = plan.actions[0].address if plan.actions else ""
    actions = tuple(attrs.evolve(each, depends_on=(first,)) for each in plan.actions)
    for by_model in (False, True):
        text = render_graph(
            attrs.evolve(plan, actions=actions), GraphFormat.JSON, by_model=by_model
        )
        document = json.loads(text)
        names = {node["id"] for node in document["nodes"]}
        assert all({edge["from"], edge["to"]} <= names for edge in document["edges"])
        assert all(edge["from"] != edge["to"] for edge in document["edges"])
        assert sum(sum(node["actions"].values()) for node in document["nodes"]) == len(actions)


@pytest.mark.parametrize("form", [GraphFormat.DOT, GraphFormat.MERMAID])
def test_hostile_names_stay_inside_their_quotes(form: GraphFormat) -> None:
    """No name ends its own quotes or breaks the line."""
    plan = attrs.evolve(every_kind(), actions=(action(ActionKind.CREATE, HOSTILE + '"];\\'),))
    lines = render_graph(plan, form).split("\n")
    assert all(line.isprintable() for line in lines)
    node = next(line for line in lines if "gpj" in line)
    quoted = r'"(?:[^"\\]|\\.)*"'
    dot = rf"  {quoted} \[label={quoted}\];"
    assert re.fullmatch(dot if form is GraphFormat.DOT else r'  n0\["[^"<>`]*"\]', node)


def test_an_empty_plan_is_a_graph() -> None:
    """A plan without actions still gives a drawable graph."""
    plan = attrs.evolve(CHAIN, actions=())
    assert render_graph(plan, GraphFormat.MERMAID) == "flowchart LR\n"
    assert render_graph(plan, GraphFormat.DOT).splitlines()[-1] == "}"
