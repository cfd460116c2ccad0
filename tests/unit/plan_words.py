"""Short words for tests of the planner: the one-file model, and what a plan says."""

from __future__ import annotations

import attrs
from unit.strategies import CONTENTS, World, desired, file_spec, model

from wanrec.reconcile.actions import Action, Plan
from wanrec.reconcile.errors import ErrorCode
from wanrec.reconcile.model import Desired
from wanrec.state.model import Owner

A, B, C, D = CONTENTS
CONFIG, WEIGHTS = "config.json", "model.safetensors"
PLACE = "wan22/a@1.0/config.json"
ADDRESS = "a@1.0::config.json"
OTHER = Owner(project="other", spec="specs/theirs.toml")
MINE = Owner(project="default", spec="specs/one.toml")


def one(content: bytes = A, **fields: object) -> Desired:
    """Return a desired set of one model with one file."""
    return desired(model("a", [file_spec(CONFIG, content)], **fields))


def said(plan: Plan) -> list[str]:
    """Return `ADDRESS kind/reason` of each action."""
    return [f"{a.address} {a.action}/{a.reason}" for a in plan.actions]


def blocks(plan: Plan) -> list[ErrorCode]:
    """Return the codes of the blocks in order."""
    return [block.code for block in plan.blocked]


def only(plan: Plan) -> Action:
    """Return the single action of a plan."""
    (action,) = plan.actions
    return action


def rerecorded(world: World, **fields: object) -> World:
    """Change the record of the one file."""
    files = {a: attrs.evolve(r, **fields) for a, r in world.state.files.items()}
    world.state = attrs.evolve(world.state, files=files)
    return world


def reowned(world: World, *owners: Owner, **fields: object) -> World:
    """Change who owns every model."""
    models = {
        k: attrs.evolve(m, owners=owners or m.owners, **fields)
        for k, m in world.state.models.items()
    }
    world.state = attrs.evolve(world.state, models=models)
    return world
