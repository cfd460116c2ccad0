"""What the state alone says of a model: for readers that have no specs.

A recorded model is put in the words of a declaration, so that `status` judges it by the same rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wanrec.reconcile.engine_ensure import recorded_key
from wanrec.reconcile.engine_requests import PlanRequest
from wanrec.reconcile.engine_view import observe_models, view_of
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import Desired, DesiredModel, FileSpec, Selection, split_key
from wanrec.reconcile.status import model_status

if TYPE_CHECKING:
    from wanrec.reconcile.actions import ModelStatus
    from wanrec.reconcile.disk import Root
    from wanrec.reconcile.engine_view import View
    from wanrec.reconcile.workbench import Workbench
    from wanrec.state.model import FileRecord, State

__all__ = ["recorded_model", "recorded_status", "recorded_statuses"]


def recorded_model(state: State, key: str) -> DesiredModel:
    """A model as it was last applied; its sources and facts are not recorded."""
    record = state.models[key]
    model_id, variant = split_key(key)
    name, _, version = model_id.partition("@")
    prefix = f"{key}::"
    files = tuple(
        _file(address.removeprefix(prefix), found)
        for address, found in state.files.items()
        if address.startswith(prefix)
    )
    return DesiredModel(
        key=key,
        id=model_id,
        name=name,
        version=version,
        variant=variant,
        family=record.directory.partition("/")[0],
        directory=record.directory,
        files=files,
        sources=(),
        presence=record.presence,
        protect=record.protect,
        requires=record.requires,
        default_variant=record.default_variant,
        spec_sha256=record.spec_sha256,
    )


def _file(path: str, record: FileRecord) -> FileSpec:
    folder, inside, _ = path.partition("/")
    component = folder if inside else None
    return FileSpec(path=path, size=record.size, sha256=record.sha256, component=component)


def recorded_status(engine: Workbench, model: str, variant: str | None = None) -> ModelStatus:
    """How much of a recorded model is there, without any spec; doubts are settled by hash.

    Raises:
        WanrecError: MODEL_NOT_FOUND; of state or root.
    """
    with engine.opened() as (root, store):
        view = view_of(root, store)
        key = recorded_key(view.state, model, variant)
        if key is None:
            raise WanrecError(
                ErrorCode.MODEL_NOT_FOUND, f"neither the state nor any spec knows {model!r}"
            )
        return _rows(engine, root, view, (key,))[0]


def recorded_statuses(engine: Workbench) -> tuple[ModelStatus, ...]:
    """How much of each recorded model is there, without any spec; doubts are settled by hash.

    Raises:
        WanrecError: of state or root.
    """
    with engine.opened() as (root, store):
        view = view_of(root, store)
        return _rows(engine, root, view, sorted(view.state.models))


def _rows(
    engine: Workbench, root: Root, view: View, keys: Sequence[str]
) -> tuple[ModelStatus, ...]:
    wanted = tuple(recorded_model(view.state, key) for key in keys)
    desired = Desired(models=wanted, selection=Selection(keys=frozenset(keys), partial=True))
    options, budget = engine.options(PlanRequest()), engine.settings.rehash_budget
    observed = observe_models(root, view, desired, options, rehash_budget=budget)
    return model_status(desired, view.state, observed)
