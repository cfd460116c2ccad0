"""The Python API of the contract, section 7: few functions over one engine.

`ensure`, `status` and `get_wan_paths` make an engine from the configuration at each call; a
program that calls often keeps an `Engine`. Every error is a `WanrecError`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wanrec.reconcile.engine import Engine

if TYPE_CHECKING:
    from wanrec.reconcile.actions import ModelStatus

__all__ = ["ModelEnsurer", "ensure", "get_wan_paths", "status", "use"]


def ensure(model: str, variant: str | None = None, *, offline: bool = False) -> Path:
    """Return the absolute path of a whole, verified model; bring it when it is not there.

    Raises:
        WanrecError: what kept the model from being there.
    """
    return Engine.from_config().ensure(model, variant, offline=offline)


def status(model: str, variant: str | None = None) -> ModelStatus:
    """Return how much of a model is there; stat only.

    Raises:
        WanrecError: MODEL_NOT_FOUND, VARIANT_NOT_FOUND; of specs, state or root.
    """
    from wanrec.reconcile.desired import SelectArgs
    from wanrec.reconcile.model import model_key

    word = model if variant is None else model_key(model, variant)
    return Engine.from_config().status(SelectArgs(words=(word,)))[0]


def get_wan_paths(model: str, variant: str | None = None) -> Path:
    """Return the model's directory, whole and verified: the pipeline loader's entry."""
    return ensure(model, variant)


@contextmanager
def use(model: str, variant: str | None = None) -> Iterator[Path]:
    """Ensure a model and keep it from being swapped or evicted inside the block.

    The shared lock is the kernel's: it is gone when the process is.
    """
    engine = Engine.from_config()
    with engine.use(model, variant) as path:
        yield path


class ModelEnsurer:
    """The earlier orchestrator's name for the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def from_config(cls) -> ModelEnsurer:
        """Make one from the configuration, as `Engine.from_config`."""
        return cls(Engine.from_config())

    def ensure(self, model: str, variant: str | None = None) -> Path:
        """As the function `ensure`."""
        return self._engine.ensure(model, variant)
