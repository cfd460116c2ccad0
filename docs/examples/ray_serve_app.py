"""Ray Serve: replicas that share one copy of a model on each node.

    MODELS_ROOT=/srv/models serve run ray_serve_app:app

Every node needs the specs and a root of its own (or a shared read-only one). Replicas of a node
that start together bring the model once; `use` keeps it from being evicted while a replica lives.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import wanrec


class Generator:
    """One replica. Holds its model until the replica ends, also when it is killed."""

    def __init__(self, model: str) -> None:
        self._held = ExitStack()
        self.path: Path = self._held.enter_context(wanrec.use(model))
        self.model = model

    def check_health(self) -> None:
        """Called by Ray: an error replaces the replica."""
        state = wanrec.status(self.model).state
        if state != "COMPLETE":
            raise RuntimeError(f"{self.model} is {state}")

    async def __call__(self, request: Any) -> list[str]:
        """Stands for inference: the names of the files."""
        return sorted(file.name for file in self.path.rglob("*") if file.is_file())


def build(model: str) -> Any:
    """The Serve application of a model."""
    from ray import serve

    return serve.deployment(Generator).options(num_replicas=2).bind(model)


def __getattr__(name: str) -> Any:
    if name == "app":  # `serve run ray_serve_app:app`; importing this file needs no Ray
        return build(os.environ.get("MODEL", "t2v-A14B@2.2.0"))
    raise AttributeError(name)
