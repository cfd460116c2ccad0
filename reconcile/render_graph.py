"""The plan's graph as DOT, Mermaid or JSON. Pure text: the edges are those the plan carries.

An edge runs from what is done first to what waits for it. Nodes are files, or models; names come
from specs and disks, so they stand quoted and escaped, and Mermaid gets numbered nodes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

from wanrec.reconcile.actions import Action, Plan
from wanrec.reconcile.render_words import escaped, plural

__all__ = ["graph_dot", "graph_json", "graph_mermaid"]

GRAPH_FORMAT_VERSION = 1


class _Node(NamedTuple):
    """A file or a model: its name, what is done, and how many bytes are fetched for it."""

    name: str
    actions: tuple[Action, ...]

    @property
    def label(self) -> str:
        first, *others = self.actions
        what = plural(len(self.actions), "action") if others else f"{first.action}"
        return f"{escaped(self.name)} ({what})"


class _Graph(NamedTuple):
    nodes: list[_Node]
    edges: list[tuple[str, str]]


def graph_dot(plan: Plan, by_model: bool = False) -> str:
    """Return the graph for Graphviz."""
    graph = _graph(plan, by_model)
    lines = ["digraph wanrec {", "  rankdir=LR;", "  node [shape=box];"]
    lines += [f"  {_dot(node.name)} [label={_dot(node.label)}];" for node in graph.nodes]
    lines += [f"  {_dot(first)} -> {_dot(then)};" for first, then in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


def graph_mermaid(plan: Plan, by_model: bool = False) -> str:
    """Return the graph for Mermaid, as GitHub and GitLab draw it in a comment."""
    graph = _graph(plan, by_model)
    number = {node.name: f"n{place}" for place, node in enumerate(graph.nodes)}
    lines = ["flowchart LR"]
    lines += [f'  {number[node.name]}["{_mermaid(node.label)}"]' for node in graph.nodes]
    lines += [f"  {number[first]} --> {number[then]}" for first, then in graph.edges]
    return "\n".join(lines) + "\n"


def graph_json(plan: Plan, by_model: bool = False) -> str:
    """Return the graph as nodes and edges (`from` is done before `to`)."""
    graph = _graph(plan, by_model)
    document = {
        "format_version": GRAPH_FORMAT_VERSION,
        "nodes": [_node_dict(node) for node in graph.nodes],
        "edges": [{"from": first, "to": then} for first, then in graph.edges],
    }
    return json.dumps(document, indent=2) + "\n"


def _graph(plan: Plan, by_model: bool) -> _Graph:
    members: dict[str, list[Action]] = {}
    for action in plan.actions:
        members.setdefault(_name(action.address, by_model), []).append(action)
    nodes = [_Node(name, tuple(actions)) for name, actions in members.items()]
    edges = dict.fromkeys(
        edge for edge in _edges(plan.actions, by_model) if edge[0] in members and edge[0] != edge[1]
    )
    return _Graph(nodes, sorted(edges))


def _edges(actions: Iterable[Action], by_model: bool) -> Iterable[tuple[str, str]]:
    for action in actions:
        for needed in action.depends_on:
            yield _name(needed, by_model), _name(action.address, by_model)


def _name(address: str, by_model: bool) -> str:
    return address.partition("::")[0] if by_model else address


def _node_dict(node: _Node) -> dict[str, object]:
    kinds: dict[str, int] = {}
    for action in node.actions:
        kinds[action.action.value] = kinds.get(action.action.value, 0) + 1
    return {
        "id": node.name,
        "model": node.actions[0].key,
        "actions": dict(sorted(kinds.items())),
        "bytes_to_fetch": sum(action.bytes_to_fetch for action in node.actions),
    }


def _dot(text: str) -> str:
    safe = escaped(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{safe}"'


def _mermaid(text: str) -> str:
    safe = text.replace("#", "#35;").replace('"', "#quot;")
    return safe.replace("<", "#lt;").replace(">", "#gt;").replace("`", "#96;")
