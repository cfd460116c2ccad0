"""The order of a plan, and the edges between its actions. Pure; networkx is loaded by calls only.

Goes in: actions in any order and ``model key → required keys`` of the wanted models. Comes out:
the same actions in execution order, dependencies filled in, waves, and cycles by name. Order:
a model after the models it requires, ties by key; inside a model small index and config files
before weights, ties by address; deletes and forgets last over the whole plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile.actions import Action
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import ActionKind

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["action_graph", "execution_order", "find_cycle", "waves", "with_dependencies"]

Requires = Mapping[str, Sequence[str]]

_ENDINGS = (ActionKind.DELETE, ActionKind.FORGET)
_SMALL = 1 << 20
_CONFIG_SUFFIXES = (".json", ".txt")
_WEIGHT_SUFFIXES = (
    ".safetensors",
    ".gguf",
    ".onnx",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".pkl",
    ".h5",
    ".msgpack",
)


def execution_order(
    actions: Iterable[Action], requires: Requires, *, delete_first: bool = False
) -> tuple[Action, ...]:
    """Return the actions in execution order.

    Raises:
        WanrecError: INVALID_MANIFEST when models require one another in a circle.
    """
    chosen = tuple(actions)
    rank = _model_ranks({action.key for action in chosen}, requires)
    delete_phase = 0 if delete_first else 2

    def place(action: Action) -> tuple[int, int, int, str]:
        if action.action is ActionKind.DELETE:
            return (delete_phase, 0, 0, action.address)
        if action.action is ActionKind.FORGET:
            return (2, 0, 0, action.address)
        return (1, rank[action.key], _weight(action), action.address)

    return tuple(sorted(chosen, key=place))


def _weight(action: Action) -> int:
    """0 for an index or config file, 1 for weights: what is small fails early and cheaply."""
    name = action.path.lower()
    if name.endswith(_CONFIG_SUFFIXES):
        return 0
    small = action.size is not None and action.size < _SMALL
    return 0 if small and not name.endswith(_WEIGHT_SUFFIXES) else 1


def _model_ranks(keys: set[str], requires: Requires) -> dict[str, int]:
    if not any(requires.get(key) for key in keys):
        # The library takes longer to load than most applies take to copy a small model.
        return {key: index for index, key in enumerate(sorted(keys))}
    import networkx as nx

    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(sorted(keys))
    todo, seen = sorted(keys), set(keys)
    while todo:  # models without actions stay in between, so that order passes through them
        key = todo.pop()
        for needed in requires.get(key, ()):
            graph.add_edge(needed, key)
            if needed not in seen:
                seen.add(needed)
                todo.append(needed)
    try:
        ordered = list(nx.lexicographical_topological_sort(graph))
    except nx.NetworkXUnfeasible:
        cycle = find_cycle(
            (key, needed) for key in sorted(seen) for needed in requires.get(key, ())
        )
        raise WanrecError(
            ErrorCode.INVALID_MANIFEST,
            "models require one another in a circle",
            detail=" -> ".join(cycle or ()),
            hint="remove one of these `requires`",
        ) from None
    return {key: index for index, key in enumerate(ordered)}


def find_cycle(edges: Iterable[tuple[str, str]]) -> tuple[str, ...] | None:
    """Return one circle ``(a, b, …, a)`` that follows the edges, None when there is none.

    The same edges give the same circle; it starts at its smallest name.
    """
    import networkx as nx

    graph: nx.DiGraph[str] = nx.DiGraph(sorted(edges))
    try:
        steps = nx.find_cycle(graph)
    except nx.NetworkXNoCycle:
        return None
    names = [step[0] for step in steps]
    start = names.index(min(names))
    return (*names[start:], *names[:start], names[start])


def with_dependencies(ordered: Sequence[Action], requires: Requires) -> tuple[Action, ...]:
    """Fill in `depends_on` of actions that are in execution order.

    An action that brings or checks bytes waits for the last such action of each model its own
    model requires (a model commits whole, so its last action stands for all). A delete of a model
    that is not wanted any more (not in `requires`) waits for the last action of every model of the
    same NAME, so that a failing source leaves the old one. What comes later in the order (a delete
    under `delete_first`) is never waited for. Dependencies that an action already has are kept.
    """
    last: dict[str, tuple[int, str]] = {}
    same_name: dict[str, set[str]] = {}
    for index, action in enumerate(ordered):
        if action.action not in _ENDINGS:
            last[action.key] = (index, action.address)
            same_name.setdefault(_name(action.key), set()).add(action.key)
    nearest = _nearest_acting(requires, last.keys())
    done = []
    for index, action in enumerate(ordered):
        keys: Set[str]
        if action.action not in _ENDINGS:
            keys = nearest.get(action.key, frozenset())
        elif action.key not in requires:
            keys = same_name.get(_name(action.key), set()) - {action.key}
        else:
            keys = frozenset()
        done.append(_waiting_for(action, (last[key][1] for key in keys if last[key][0] < index)))
    return tuple(done)


def _waiting_for(action: Action, addresses: Iterable[str]) -> Action:
    wait = {*action.depends_on, *addresses}
    if len(wait) == len(action.depends_on):
        return action
    return attrs.evolve(action, depends_on=tuple(sorted(wait)))


def _name(key: str) -> str:
    return key.partition("@")[0]


def _nearest_acting(requires: Requires, acting: Iterable[str]) -> dict[str, frozenset[str]]:
    """Return for each acting model the acting models it requires, through idle ones."""
    busy = frozenset(acting)
    result = {}
    for key in busy:
        todo, seen, hits = list(requires.get(key, ())), {key}, set()
        while todo:
            needed = todo.pop()
            if needed in seen:
                continue
            seen.add(needed)
            if needed in busy:
                hits.add(needed)
            else:
                todo.extend(requires.get(needed, ()))
        result[key] = frozenset(hits)
    return result


def action_graph(actions: Iterable[Action]) -> nx.DiGraph[str]:
    """Return addresses as nodes and ``what comes first → what waits`` as edges."""
    import networkx as nx

    chosen = tuple(actions)
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(action.address for action in chosen)
    for action in chosen:
        graph.add_edges_from(
            (first, action.address) for first in action.depends_on if first in graph
        )
    return graph


def waves(actions: Iterable[Action]) -> tuple[tuple[str, ...], ...]:
    """Return addresses in waves: all of one wave may run at the same time.

    Raises:
        WanrecError: PLAN_CORRUPT when the actions wait for one another.
    """
    import networkx as nx

    graph = action_graph(actions)
    try:
        return tuple(tuple(sorted(wave)) for wave in nx.topological_generations(graph))
    except nx.NetworkXUnfeasible:
        cycle = find_cycle(graph.edges) or ()
        raise WanrecError(
            ErrorCode.PLAN_CORRUPT,
            "the actions of this plan wait for one another",
            detail=" -> ".join(cycle),
        ) from None
