"""`path` and `ensure`: from a model's name to its directory.

A model that is recorded and whole by its stats is answered from the state alone: no spec, no
lock, no write but the touch of its use mark. Anything else goes through an ordinary apply of just
this model and what it requires.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile.disk import Root
from wanrec.reconcile.engine_view import view_of
from wanrec.reconcile.errors import ErrorCode, WanrecError, worst_exit
from wanrec.reconcile.model import EntryKind, model_key, split_key
from wanrec.reconcile.names import nearest
from wanrec.reconcile.trust import is_trusted
from wanrec.state.model import FileRecord, State

if TYPE_CHECKING:
    from wanrec.reconcile.engine_requests import ApplyRequest
    from wanrec.reconcile.model import Desired
    from wanrec.reconcile.workbench import Workbench

__all__ = ["ensure", "locate", "recorded_key"]


def recorded_key(state: State, model: str, variant: str | None) -> str | None:
    """The state's key for ``ID``, ``NAME``, ``ID[VARIANT]`` or ``ID@VARIANT``; None if unknown.

    A NAME or ID that several recorded models answer to is left to the specs to decide.
    """
    if model.count("@") > 1 and variant is None:
        model, _, variant = model.rpartition("@")
    wanted = model_key(model, variant) if variant is not None else model
    if wanted in state.models:
        return wanted
    found = [
        key
        for key in state.models
        if (variant is None or split_key(key)[1] == variant)
        and model in (split_key(key)[0], split_key(key)[0].partition("@")[0])
    ]
    return found[0] if len(found) == 1 else None


def locate(engine: Workbench, model: str, variant: str | None) -> str:
    """The model's directory relative to the root; nothing is touched.

    Raises:
        WanrecError: MODEL_NOT_FOUND, VARIANT_NOT_FOUND.
    """
    state = State()
    with contextlib.suppress(WanrecError), engine.opened() as (root, store):
        state = view_of(root, store).state
    key = recorded_key(state, model, variant)
    if key is not None:
        return state.models[key].directory
    desired, key = _declared(engine, model, variant, state)
    return next(wanted.directory for wanted in desired.models if wanted.key == key)


def ensure(
    engine: Workbench, model: str, variant: str | None, offline: bool, request: ApplyRequest
) -> Path:
    """Return the absolute path of a whole, verified model.

    Raises:
        WanrecError: what kept it from being there.
    """
    with engine.opened() as (root, store):
        state = view_of(root, store).state
        key = recorded_key(state, model, variant)
        if key is not None and is_whole(root, state, key):
            _mark_used(engine.root, key)
            return engine.root / state.models[key].directory
    desired, key = _declared(engine, model, variant, state)
    _bring(engine, desired, key, offline, request)
    _mark_used(engine.root, key)
    return engine.root / next(m.directory for m in desired.models if m.key == key)


def is_whole(root: Root, state: State, key: str) -> bool:
    """True when every recorded file is trusted by its stat; stats only.

    A record without `spec_sha256` is of a model that is not complete.
    """
    if not state.models[key].spec_sha256:
        return False
    prefix = f"{key}::"
    return all(
        _trusted(root, record)
        for address, record in state.files.items()
        if address.startswith(prefix)
    )


def _trusted(root: Root, record: FileRecord) -> bool:
    fact = root.stat(record.path)
    return fact.kind is EntryKind.FILE and is_trusted(
        record, fact.size, fact.mtime_ns, fact.ctime_ns, fact.ino
    )


def _declared(
    engine: Workbench, model: str, variant: str | None, state: State
) -> tuple[Desired, str]:
    """Resolve a model through the specs: the whole desired set, and the model's key."""
    from wanrec.reconcile.desired import SelectArgs

    word = model_key(model, variant) if variant is not None else model
    try:
        desired = engine.collect(SelectArgs(words=(word,)))
    except WanrecError as error:
        if error.code is not ErrorCode.MISSING_MANIFEST:
            raise
        close = nearest(model, [split_key(key)[0] for key in state.models])
        raise WanrecError(
            ErrorCode.MODEL_NOT_FOUND,
            f"neither the state nor any spec knows {word!r}",
            detail="there is no spec file here",
            hint=f"did you mean {close}?" if close else "wanrec status; wanrec init",
        ) from error
    selected = (desired.selection.keys or frozenset()) - desired.selection.pulled_in
    installed = sorted(m.key for m in desired.models if m.key in selected and m.installed)
    return desired, (installed or sorted(selected))[0]


def _bring(
    engine: Workbench, desired: Desired, key: str, offline: bool, request: ApplyRequest
) -> None:
    from wanrec.reconcile.desired import SelectArgs
    from wanrec.reconcile.engine_apply import ApplySession
    from wanrec.reconcile.engine_requests import PlanRequest

    if offline:
        request = attrs.evolve(request, offline=True)
    needed = frozenset({key}) | desired.selection.pulled_in
    plan = engine.plan(SelectArgs(words=(key,)), PlanRequest(ensure=needed))
    result = ApplySession(engine, request, "ensure").apply(plan)
    fatal = [failure.error for failure in result.failures if not failure.optional]
    if fatal:
        worst = worst_exit(error.code for error in fatal)
        raise next(error for error in fatal if error.exit_code is worst)


def _mark_used(root: Path, key: str) -> None:
    """Best effort: the mtime of a mark is the model's last use; a read-only root has none."""
    mark = root / ".wanrec" / "used" / key
    with contextlib.suppress(OSError):
        try:
            os.utime(mark)
        except FileNotFoundError:
            mark.parent.mkdir(exist_ok=True)
            mark.touch()
