"""The Python API: functions over one engine that is kept for as long as nothing around it changes.

`ensure`, `use`, `status` and the rest take the engine of the working directory, the environment
and the config file, as the command line does. It is made once and made again when one of these
changes, so a server may call these functions in every request. They may be called from any thread;
a forked child (a gunicorn worker, a DataLoader worker) goes on with the parent's engine, which
holds no lock, no thread and no open file between calls.

A program that wants other settings makes an `Engine` itself. Every error is a `WanrecError`.
Versions that await are in `wanrec.aio`; what a pipeline needs is in `wanrec.pipelines`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from wanrec.reconcile.engine import Engine
from wanrec.reconcile.engine_requests import ApplyRequest, DriftRequest, PlanRequest
from wanrec.reconcile.errors import ErrorCode, WanrecError, worst_exit
from wanrec.reconcile.model import model_key
from wanrec.reconcile.select_args import SelectArgs
from wanrec.reconcile.telemetry import Event

if TYPE_CHECKING:
    import threading

    from wanrec.reconcile.actions import ApplyResult, DriftReport, ModelStatus, Plan
    from wanrec.reconcile.engine_gc import GcReport
    from wanrec.reconcile.lifecycle_usage import Usage
    from wanrec.reconcile.verifying import Verified

__all__ = [
    "Progress",
    "apply",
    "current_engine",
    "drift",
    "ensure",
    "ensure_many",
    "gc",
    "pin",
    "plan",
    "status",
    "unpin",
    "usage",
    "use",
    "verify",
]

Progress = Callable[[Event], object]
"""Called with every event of an apply, from any of its threads; what it raises is dropped."""

_CONFIG_FILES = ("wanrec.toml", "pyproject.toml")
_kept: tuple[object, Engine] | None = None


def current_engine() -> Engine:
    """Return the engine of the working directory, the environment and the config file.

    The same one as long as these are the same: asking costs a few stats.

    Raises:
        WanrecError: INVALID_CONFIG.
    """
    global _kept
    around = _surroundings()
    kept = _kept
    if kept is not None and kept[0] == around:
        return kept[1]
    engine = Engine.from_config()
    _kept = (around, engine)  # in one step: threads and forked children see the old or the new
    return engine


def _surroundings() -> object:
    """What decides the settings: equal while none of it has changed."""
    try:
        here = os.getcwd()
    except OSError as error:
        raise WanrecError(
            ErrorCode.INVALID_CONFIG, f"the working directory cannot be read: {error.strerror}"
        ) from error
    places = [os.environ.get("WANREC_CONFIG", "")]
    folder = here
    while True:
        places += [os.path.join(folder, name) for name in _CONFIG_FILES]
        parent = os.path.dirname(folder)
        if parent == folder:
            break
        folder = parent
    return here, dict(os.environ), [stamp for place in places if (stamp := _stamp(place))]


def _stamp(place: str) -> tuple[str, int, int, int] | None:
    try:
        found = os.stat(place)
    except OSError:
        return None
    return place, found.st_ino, found.st_size, found.st_mtime_ns


class _Listener:
    """An event sink around a callback."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def emit(self, event: Event) -> None:
        # Somebody else's defect must not stop an apply.
        with contextlib.suppress(Exception):
            self._progress(event)


def request_of(
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    parallelism: int | None = None,
) -> ApplyRequest:
    """The request for an apply that reports to `progress` and ends early once `stop` is set."""
    more: dict[str, object] = {}
    if progress is not None:
        more["sink"] = _Listener(progress)
    if stop is not None:
        more["stop"] = stop
    return ApplyRequest(parallelism=parallelism, **more)  # type: ignore[arg-type]  # see above


def ensure(
    model: str,
    variant: str | None = None,
    *,
    offline: bool = False,
    force: bool = False,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> Path:
    """Return the absolute path of a whole, verified model; bring it when it is not there.

    A model that is there costs stats only, well under a millisecond for fifty files: no lock, no
    network, no spec, nothing written but the time of its last use. Processes that ask for the same
    absent model at once wait for one of them to bring it.

    Args:
        model: ``NAME@VERSION``, ``NAME``, ``ID@VARIANT`` or ``ID[VARIANT]``.
        variant: which variant; else the default one. One that is not installed becomes on-demand.
        offline: use local sources only.
        force: hash every file instead of believing its stats, and bring again what differs.
        progress: called with each `Event` while files are brought.
        engine: instead of `current_engine()`.

    Raises:
        WanrecError: what kept the model from being there.
    """
    engine = engine or current_engine()
    return engine.ensure(model, variant, offline=offline, force=force, request=request_of(progress))


def ensure_many(
    models: Iterable[str],
    *,
    max_concurrent: int = 4,
    offline: bool = False,
    force: bool = False,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> dict[str, Path]:
    """Ensure several models at the same time; each name as it was given → its path.

    Args:
        models: as for `ensure`; a variant is written into the name. Names that repeat count once.
        max_concurrent: how many are brought at a time.
        offline: use local sources only.
        force: as for `ensure`.
        progress: as for `ensure`, for all of them.
        engine: instead of `current_engine()`.

    Raises:
        WanrecError: one failed; all others have been tried. With several failures it is the one
            with the worst exit code, and its notes name the others.
        ValueError: `max_concurrent` is less than 1.
    """
    if max_concurrent < 1:
        raise ValueError(f"max_concurrent must be at least 1, not {max_concurrent}")
    from concurrent.futures import ThreadPoolExecutor

    chosen = engine or current_engine()
    names = list(dict.fromkeys(models))

    def one(name: str) -> Path | WanrecError:
        try:
            return ensure(name, offline=offline, force=force, progress=progress, engine=chosen)
        except WanrecError as error:
            return error

    with ThreadPoolExecutor(min(max_concurrent, len(names) or 1), "wanrec-ensure") as pool:
        return all_or_worst(dict(zip(names, pool.map(one, names), strict=True)))


def all_or_worst(answers: Mapping[str, Path | WanrecError]) -> dict[str, Path]:
    """Return the paths when there is nothing but paths.

    Raises:
        WanrecError: the failure with the worst exit code; its notes name the others.
    """
    failures = {name: got for name, got in answers.items() if isinstance(got, WanrecError)}
    if not failures:
        return {name: got for name, got in answers.items() if isinstance(got, Path)}
    exit_code = worst_exit(error.code for error in failures.values())
    worst = next(error for error in failures.values() if error.exit_code is exit_code)
    for name, error in failures.items():
        if error is not worst:
            worst.add_note(f"{name}: {error}")
    raise worst


@contextmanager
def use(model: str, variant: str | None = None, *, engine: Engine | None = None) -> Iterator[Path]:
    """Ensure a model and keep it from being swapped or evicted inside the block.

    The shared lock is the kernel's: it is gone when the process is.

    Raises:
        WanrecError: as `ensure`; LOCK_TIMEOUT while a swap is under way.
    """
    with (engine or current_engine()).use(model, variant) as path:
        yield path


def status(model: str, variant: str | None = None, *, engine: Engine | None = None) -> ModelStatus:
    """Return how much of a model is there; hashes decide doubts. Without specs the state answers.

    The answer has `state` (one of NOT_PRESENT, PARTIAL, VERIFYING, COMPLETE, CORRUPT),
    `bytes_needed`, `missing_files`, `last_verified`, and what `wanrec status --json` shows besides.

    Raises:
        WanrecError: MODEL_NOT_FOUND, VARIANT_NOT_FOUND; of specs, state or root.
    """
    engine = engine or current_engine()
    word = model if variant is None else model_key(model, variant)
    try:
        rows = engine.status(SelectArgs(words=(word,), of_models="::" not in word))
        if variant is not None or "[" not in rows[0].model:
            return rows[0]
        # A word without a variant means the default one, as in `ensure`, installed or not.
        from wanrec.reconcile.engine_ensure import declared

        key = declared(engine, model, variant).key
        found = [row for row in rows if row.model == key]
        return (found or engine.status(SelectArgs(words=(key,))))[0]
    except WanrecError as error:
        if error.code is not ErrorCode.MISSING_MANIFEST:
            raise
    from wanrec.reconcile.engine_recorded import recorded_status

    return recorded_status(engine, model, variant)


def plan(
    *words: str,
    keyword: str | None = None,
    marks: str | None = None,
    exclude: str | None = None,
    request: PlanRequest | None = None,
    engine: Engine | None = None,
) -> Plan:
    """Compare specs, state and disk; changes nothing. Falsy when nothing is to do.

    Args:
        words: spec files, node ids, models or addresses; none: everything.
        keyword: as ``-k``.
        marks: as ``-m``.
        exclude: as ``--exclude``.
        request: what the plan is to be besides, for example ``PlanRequest(deep=True)``.
        engine: instead of `current_engine()`.

    Raises:
        WanrecError: of specs, state or root.
    """
    select = SelectArgs(words=words, keyword=keyword, marks=marks, exclude=exclude)
    return (engine or current_engine()).plan(select, request)


def apply(
    plan: Plan,
    *,
    parallelism: int | None = None,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> ApplyResult:
    """Carry out a plan made a moment ago.

    Failures of single models are in the result (`failures`), not raised.

    Raises:
        WanrecError: the whole run is refused or cannot begin.
    """
    request = request_of(progress, parallelism=parallelism)
    return (engine or current_engine()).apply(plan, request)


def drift(
    *words: str,
    deep: bool = False,
    request: DriftRequest | None = None,
    engine: Engine | None = None,
) -> DriftReport:
    """Compare state and disk: writes nothing, takes no lock, uses no network.

    Args:
        words: models or addresses; none: everything that is recorded.
        deep: hash every file.
        request: all options at once, instead of `words` and `deep`.
        engine: instead of `current_engine()`.

    Raises:
        WanrecError: STATE_MISSING and its kin; INVALID_CONFIG.
    """
    if request is None:
        select = SelectArgs(words=words) if words else None
        request = DriftRequest(select=select, deep=deep)
    return (engine or current_engine()).drift(request)


def verify(word: str | None = None, *, engine: Engine | None = None) -> Verified:
    """Hash what a folder or a model holds against the specs; needs no state, changes nothing.

    Args:
        word: a model, or a folder: the root, one model's directory, a mirror; None: the root.
        engine: instead of `current_engine()`.

    Raises:
        WanrecError: of the specs; MODEL_NOT_FOUND. What is wrong with files is in `findings`.
    """
    return (engine or current_engine()).verify(word)


def gc(
    *,
    dry_run: bool = False,
    max_size: int | None = None,
    max_age_s: float | None = None,
    engine: Engine | None = None,
) -> GcReport:
    """Evict on-demand models until the limits hold, and clear what nothing reaches.

    Pinned, protected, required and used models stay. The report says why each one stays or goes.

    Args:
        dry_run: only say what would go.
        max_size: bytes all models may take; None: as the settings say.
        max_age_s: seconds without use after which a model goes; None: as the settings say.
        engine: instead of `current_engine()`.

    Raises:
        WanrecError: STATE_MISSING and its kin; LOCK_UNRELIABLE; disk errors.
        ValueError: a limit is negative.
    """
    from wanrec.reconcile.engine_gc import GcRequest

    for name, limit in (("max_size", max_size), ("max_age_s", max_age_s)):
        if limit is not None and limit < 0:
            raise ValueError(f"{name} must not be negative, but is {limit}")

    request = GcRequest(dry_run=dry_run, max_size=max_size, max_age_s=max_age_s)
    return (engine or current_engine()).gc(request)


def pin(model: str, *, engine: Engine | None = None) -> str:
    """Keep a model from being evicted; returns its key.

    Raises:
        WanrecError: MODEL_NOT_FOUND; LOCK_TIMEOUT while the model is worked on.
    """
    return (engine or current_engine()).pin(model)


def unpin(model: str, *, engine: Engine | None = None) -> str:
    """Let `gc` have a model again; returns its key.

    Raises:
        WanrecError: as `pin`.
    """
    return (engine or current_engine()).pin(model, pinned=False)


def usage(*, engine: Engine | None = None) -> Usage:
    """Return what the models take on the disk, per family, model and component; stats only.

    Raises:
        WanrecError: of state or root.
    """
    return (engine or current_engine()).usage()
