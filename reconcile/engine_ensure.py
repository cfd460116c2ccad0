"""`path` and `ensure`: from a model's name to its directory.

A model that is recorded and whole by its stats is answered from the state alone: no spec, no
lock, no write but the touch of its use mark. Anything else goes through an ordinary apply of just
this model and what it requires.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile.engine_view import view_of
from wanrec.reconcile.errors import ErrorCode, WanrecError, worst_exit
from wanrec.reconcile.model import model_key, split_key
from wanrec.reconcile.names import nearest
from wanrec.state.model import State, lock_name

if TYPE_CHECKING:
    import threading

    from wanrec.reconcile.actions import ApplyResult
    from wanrec.reconcile.engine_requests import ApplyRequest, PlanRequest
    from wanrec.reconcile.model import Desired, DesiredModel
    from wanrec.reconcile.workbench import Workbench
    from wanrec.state.lock import HeldLock, LockRegistry

__all__ = ["declaration", "declared", "ensure", "ensure_in_use", "locate", "recorded_key"]

# Without specs, or on a root that cannot be written, there is no way to bring or record anything.
_NOTHING_TO_WRITE_WITH = (
    ErrorCode.MODEL_NOT_FOUND,
    ErrorCode.READ_ONLY,
    ErrorCode.PERMISSION_DENIED,
)

_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.1
"""Between two looks at whether somebody else is still bringing a model."""

_TRIES = 3
"""Plans that `ensure` makes at most when gc is faster than it."""


def recorded_key(state: State, model: str, variant: str | None) -> str | None:
    """The state's key for ``ID``, ``NAME``, ``ID[VARIANT]`` or ``ID@VARIANT``; None if unknown.

    Without a variant the default one is meant, also when others are all that is there. A NAME of
    several recorded models, or one whose default nobody recorded, is left to the specs to decide.
    """
    if model.count("@") > 1 and variant is None:
        model, _, variant = model.rpartition("@")
    wanted = model_key(model, variant) if variant is not None else model
    if wanted in state.models:
        return wanted
    found: dict[str, list[str]] = {}
    for key in state.models:
        model_id = split_key(key)[0]
        if model in (model_id, model_id.partition("@")[0]):
            found.setdefault(model_id, []).append(key)
    if len(found) != 1:
        return None
    ((model_id, keys),) = found.items()
    if variant is None and keys != [model_id]:
        defaults = {state.models[key].default_variant for key in keys} - {None}
        variant = defaults.pop() if len(defaults) == 1 else None
    wanted = model_key(model_id, variant)
    return wanted if wanted in state.models else None


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
    return declared(engine, model, variant, state).directory


def declared(
    engine: Workbench, model: str, variant: str | None, state: State | None = None
) -> DesiredModel:
    """What the specs say of one model, in its default variant unless one is given.

    Raises:
        WanrecError: MODEL_NOT_FOUND, VARIANT_NOT_FOUND; of specs.
    """
    desired, key = declaration(engine, model, variant, state)
    return next(wanted for wanted in desired.models if wanted.key == key)


def ensure(
    engine: Workbench,
    model: str,
    variant: str | None,
    request: ApplyRequest,
    *,
    offline: bool = False,
    force: bool = False,
) -> Path:
    """Return the absolute path of a whole, verified model.

    Args:
        engine: whose settings and root.
        model: ``NAME``, ``ID``, ``ID@VARIANT`` or ``ID[VARIANT]``.
        variant: for names without one.
        request: how missing bytes are brought.
        offline: use no network.
        force: hash every file instead of believing stats; what differs is brought again.

    Raises:
        WanrecError: what kept it from being there.
    """
    return engine.root / _ensured(engine, model, variant, request, offline, force)[1]


def _ensured(
    engine: Workbench,
    model: str,
    variant: str | None,
    request: ApplyRequest,
    offline: bool,
    force: bool,
) -> tuple[str, str]:
    """Make a model whole; its key and its directory relative to the root."""
    with engine.opened() as (root, store):
        seen = engine.present.look(root, store)
        known = recorded_key(seen.state, model, variant)
        if known is not None and not force and engine.present.is_whole(root, seen, known):
            _mark_used(engine.root, known)
            return known, seen.state.models[known].directory
    try:
        desired, key = declaration(engine, model, variant, seen.state)
        _bring_once(engine, desired, key, offline, force, request)
    except WanrecError as error:
        if known is None or error.code not in _NOTHING_TO_WRITE_WITH:
            raise
        with engine.opened() as (root, _):
            now = engine.now()
            if not engine.present.is_whole_by_hash(root, seen, known, now, everything=force):
                raise _not_whole(known, error) from error
        return known, seen.state.models[known].directory
    _mark_used(engine.root, key)
    return key, next(m.directory for m in desired.models if m.key == key)


def _not_whole(key: str, error: WanrecError) -> WanrecError:
    """The error about a recorded model that is damaged where nobody says how to mend it."""
    if error.code is not ErrorCode.MODEL_NOT_FOUND:
        return error
    return WanrecError(
        error.code,
        f"{key} is recorded but not whole, and no spec here says where to bring it from",
        detail=error.summary,
        address=key,
        hint="wanrec drift says what is wrong; wanrec ensure, where its spec is, mends it",
    )


def ensure_in_use(
    engine: Workbench, model: str, variant: str | None, request: ApplyRequest
) -> tuple[Path, HeldLock | None]:
    """Ensure a model and hold its readers' lock; it is whole while the lock is held.

    The lock is None where none can be made: a read-only root, where nobody can swap either.

    Raises:
        WanrecError: as `ensure`; LOCK_TIMEOUT while a swap is under way.
    """
    while True:
        key, directory = _ensured(engine, model, variant, request, False, False)
        with engine.opened() as (root, store):
            timeout_s = engine.settings.lock_timeout
            held = store.locks.use(lock_name(key), timeout_s, stop=request.stop)
            if held is None:
                return engine.root / directory, None
            # Between the look and the lock somebody may have evicted or swapped it.
            seen = engine.present.look(root, store)
            if engine.present.is_whole_by_hash(root, seen, key, engine.now(), everything=False):
                return engine.root / seen.state.models[key].directory, held
            held.release()


def declaration(
    engine: Workbench, model: str, variant: str | None, state: State | None = None
) -> tuple[Desired, str]:
    """Resolve a model through the specs: the whole desired set, and the model's key.

    Raises:
        WanrecError: MODEL_NOT_FOUND, VARIANT_NOT_FOUND; of specs.
    """
    from wanrec.reconcile.desired import SelectArgs

    word = model_key(model, variant) if variant is not None else model
    try:
        desired = engine.collect(SelectArgs(words=(word,), of_models="::" not in word))
    except WanrecError as error:
        if error.code is not ErrorCode.MISSING_MANIFEST:
            raise
        close = nearest(model, [split_key(key)[0] for key in (state.models if state else ())])
        raise WanrecError(
            ErrorCode.MODEL_NOT_FOUND,
            f"neither the state nor any spec knows {word!r}",
            detail="there is no spec file here",
            hint=f"did you mean {close}?" if close else "wanrec status; wanrec init",
        ) from error
    selected = (desired.selection.keys or frozenset()) - desired.selection.pulled_in
    chosen = [wanted for wanted in desired.models if wanted.key in selected]
    ids = sorted({wanted.id for wanted in chosen})
    if len(ids) > 1:
        raise WanrecError(
            ErrorCode.MODEL_NOT_FOUND,
            f"{word!r} is not one model but {len(ids)}",
            hint=f"name one, for example {ids[0]}",
        )
    meant = [wanted.key for wanted in chosen if wanted.variant == wanted.default_variant]
    return desired, (meant or sorted(selected))[0]


def _bring_once(
    engine: Workbench,
    desired: Desired,
    key: str,
    offline: bool,
    force: bool,
    request: ApplyRequest,
) -> None:
    """Bring the model, or wait for whoever is at it: the others need only look, not plan."""
    asked = request.lock_timeout
    deadline = time.monotonic() + (engine.settings.lock_timeout if asked is None else asked)
    name = f"ensure-{lock_name(key)}"
    with engine.opened() as (root, store):

        def there() -> bool:
            return not force and engine.present.is_whole(
                root, engine.present.look(root, store), key
            )

        while (turn := store.locks.try_acquire(name, "ensure")) is None:
            _await_release(store.locks, name, deadline, request.stop)
            if there():
                return
        with turn:
            if not there():
                _bring(engine, desired, key, offline, force, request)


def _await_release(locks: LockRegistry, name: str, deadline: float, stop: threading.Event) -> None:
    """Wait without taking the lock: any number of waiters see its end at the same moment.

    Raises:
        WanrecError: LOCK_TIMEOUT, naming the holder; INTERRUPTED.
    """
    pause_s = _FIRST_PAUSE_S
    while locks.is_held(name):
        if stop.is_set() or time.monotonic() >= deadline:
            locks.acquire(name, 0.0, "ensure", stop=stop).release()  # or says why it cannot
            return
        stop.wait(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _bring(
    engine: Workbench,
    desired: Desired,
    key: str,
    offline: bool,
    force: bool,
    request: ApplyRequest,
) -> None:
    from wanrec.reconcile.engine_requests import PlanRequest

    if offline:
        request = attrs.evolve(request, offline=True)
    needed = frozenset({key}) | desired.selection.pulled_in
    wanted = PlanRequest(ensure=needed, deep=force)
    result = _applied(engine, key, wanted, request, _TRIES)
    fatal = [failure.error for failure in result.failures if not failure.optional]
    if fatal:
        worst = worst_exit(error.code for error in fatal)
        raise next(error for error in fatal if error.exit_code is worst)
    if request.stop.is_set():
        raise WanrecError(
            ErrorCode.INTERRUPTED, f"stopped before {key} was there", hint=f"wanrec ensure {key}"
        )


def _applied(
    engine: Workbench, key: str, wanted: PlanRequest, request: ApplyRequest, tries: int
) -> ApplyResult:
    """Plan and apply; anew when what the model requires was evicted between the two."""
    from wanrec.reconcile.desired import SelectArgs
    from wanrec.reconcile.engine_apply import ApplySession
    from wanrec.reconcile.engine_metrics import counted

    plan = engine.plan(SelectArgs(words=(key,)), wanted)
    try:
        return counted(
            engine, request, lambda told: ApplySession(engine, told, "ensure").apply(plan)
        )
    except WanrecError as error:
        if error.code is not ErrorCode.CONCURRENT_MODIFICATION or tries <= 1:
            raise
    return _applied(engine, key, wanted, request, tries - 1)


def _mark_used(root: Path, key: str) -> None:
    """Best effort: the mtime of a mark is the model's last use; a read-only root has none."""
    mark = root / ".wanrec" / "used" / key
    with contextlib.suppress(OSError):
        try:
            os.utime(mark)
        except FileNotFoundError:
            mark.parent.mkdir(exist_ok=True)
            mark.touch()
