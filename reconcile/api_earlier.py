"""The names of the earlier orchestrator, on the same engine.

`ModelEnsurer`, `ModelRegistry` and `GarbageCollector` add nothing to what `wanrec.ensure`,
`wanrec.status` and `wanrec.gc` do; programs written for the earlier names run unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from wanrec.reconcile import api
from wanrec.reconcile.engine import Engine
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.select_args import SelectArgs

if TYPE_CHECKING:
    from wanrec.reconcile.actions import ModelStatus
    from wanrec.reconcile.engine_gc import GcReport
    from wanrec.reconcile.model import DesiredModel

__all__ = ["GarbageCollector", "ModelEnsurer", "ModelRegistry"]


class _OnEngine:
    """Something that works on one engine."""

    def __init__(self, engine: Engine | None = None) -> None:
        self.engine = engine or api.current_engine()

    @classmethod
    def from_config(cls, **settings: object) -> Self:
        """Make one from settings given here, the environment and the config file.

        Raises:
            WanrecError: INVALID_CONFIG.
        """
        if not settings:
            return cls()
        return cls(Engine.from_config(**settings))  # type: ignore[arg-type]  # checked by settings


class ModelEnsurer(_OnEngine):
    """Makes models present."""

    def ensure(
        self,
        model: str,
        variant: str | None = None,
        *,
        offline: bool = False,
        force: bool = False,
        progress: api.Progress | None = None,
    ) -> Path:
        """As `wanrec.ensure`."""
        return api.ensure(
            model, variant, offline=offline, force=force, progress=progress, engine=self.engine
        )

    def ensure_many(
        self,
        models: Iterable[str],
        *,
        max_concurrent: int = 4,
        offline: bool = False,
        force: bool = False,
        progress: api.Progress | None = None,
    ) -> dict[str, Path]:
        """As `wanrec.ensure_many`."""
        return api.ensure_many(
            models,
            max_concurrent=max_concurrent,
            offline=offline,
            force=force,
            progress=progress,
            engine=self.engine,
        )

    def use(self, model: str, variant: str | None = None) -> AbstractContextManager[Path]:
        """As `wanrec.use`."""
        return api.use(model, variant, engine=self.engine)

    def status(self, model: str, variant: str | None = None) -> ModelStatus:
        """As `wanrec.status`."""
        return api.status(model, variant, engine=self.engine)


class ModelRegistry(_OnEngine):
    """The models that the specs declare, by id; read anew at every question."""

    def models(self) -> tuple[DesiredModel, ...]:
        """Every model and variant, by key.

        Raises:
            WanrecError: every fault of every spec at once; MISSING_MANIFEST.
        """
        return self.engine.collect(SelectArgs()).models

    def get(self, model: str, variant: str | None = None) -> DesiredModel:
        """The declaration of one model, in its default variant unless one is given.

        Raises:
            WanrecError: MODEL_NOT_FOUND, VARIANT_NOT_FOUND.
        """
        from wanrec.reconcile.engine_ensure import declared

        return declared(self.engine, model, variant)

    def status(self) -> tuple[ModelStatus, ...]:
        """How much of each model is there; doubts are settled by hash."""
        return self.engine.status(SelectArgs())

    def path(self, model: str, variant: str | None = None) -> Path:
        """Where a model lies or would lie; nothing is touched."""
        return self.engine.path(model, variant)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(model.id for model in self.models()))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, model: object) -> bool:
        if not isinstance(model, str):
            return False
        try:
            self.get(model)
        except WanrecError as error:
            if error.code in (ErrorCode.MODEL_NOT_FOUND, ErrorCode.VARIANT_NOT_FOUND):
                return False
            raise
        return True


class GarbageCollector(_OnEngine):
    """Lets go of models that nobody needs at the moment."""

    def collect(
        self,
        *,
        dry_run: bool = False,
        max_size: int | None = None,
        max_age_s: float | None = None,
    ) -> GcReport:
        """As `wanrec.gc`."""
        return api.gc(dry_run=dry_run, max_size=max_size, max_age_s=max_age_s, engine=self.engine)

    def pin(self, model: str) -> str:
        """As `wanrec.pin`."""
        return api.pin(model, engine=self.engine)

    def unpin(self, model: str) -> str:
        """As `wanrec.unpin`."""
        return api.unpin(model, engine=self.engine)
