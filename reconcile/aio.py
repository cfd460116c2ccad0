"""`wanrec.aio`: the Python API for programs that await, such as ASGI servers.

Each call works in a thread of its own, so it neither blocks the event loop nor takes a place in the
loop's default executor while a model is fetched for minutes. Cancelling the awaiting task asks the
work to stop: fetches end early, what has arrived is kept for the next try, and nothing half done
is left where models lie.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import ExitStack, asynccontextmanager
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from wanrec.reconcile import api
from wanrec.reconcile.errors import WanrecError

if TYPE_CHECKING:
    from wanrec.reconcile.actions import ApplyResult, Plan
    from wanrec.reconcile.engine import Engine

__all__ = [
    "apply",
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

P = ParamSpec("P")
T = TypeVar("T")


async def ensure(
    model: str,
    variant: str | None = None,
    *,
    offline: bool = False,
    force: bool = False,
    progress: api.Progress | None = None,
    engine: Engine | None = None,
) -> Path:
    """As `wanrec.ensure`; `progress` is called from other threads than the loop's.

    Raises:
        WanrecError: what kept the model from being there.
    """
    stop = threading.Event()

    def work() -> Path:
        return (engine or api.current_engine()).ensure(
            model,
            variant,
            offline=offline,
            force=force,
            request=api.request_of(progress, stop),
        )

    return await _in_thread(work, stop)


async def ensure_many(
    models: Iterable[str],
    *,
    max_concurrent: int = 4,
    offline: bool = False,
    force: bool = False,
    progress: api.Progress | None = None,
    engine: Engine | None = None,
) -> dict[str, Path]:
    """As `wanrec.ensure_many`: all are tried before one failure is raised.

    Raises:
        WanrecError: one failed.
        ValueError: `max_concurrent` is less than 1.
    """
    if max_concurrent < 1:
        raise ValueError(f"max_concurrent must be at least 1, not {max_concurrent}")
    names = list(dict.fromkeys(models))
    turn = asyncio.Semaphore(max_concurrent)

    async def one(name: str) -> Path | WanrecError:
        async with turn:
            try:
                return await ensure(
                    name, offline=offline, force=force, progress=progress, engine=engine
                )
            except WanrecError as error:
                return error

    async with asyncio.TaskGroup() as group:
        tasks = {name: group.create_task(one(name)) for name in names}
    return api.all_or_worst({name: task.result() for name, task in tasks.items()})


async def apply(
    plan: Plan,
    *,
    parallelism: int | None = None,
    progress: api.Progress | None = None,
    engine: Engine | None = None,
) -> ApplyResult:
    """As `wanrec.apply`; cancelling ends the fetches, and what was committed stays.

    Raises:
        WanrecError: the whole run is refused or cannot begin.
    """
    stop = threading.Event()

    def work() -> ApplyResult:
        request = api.request_of(progress, stop, parallelism)
        return (engine or api.current_engine()).apply(plan, request)

    return await _in_thread(work, stop)


@asynccontextmanager
async def use(
    model: str, variant: str | None = None, *, engine: Engine | None = None
) -> AsyncIterator[Path]:
    """As `wanrec.use`, for ``async with``.

    Raises:
        WanrecError: as `ensure`; LOCK_TIMEOUT while a swap is under way.
    """
    stop = threading.Event()
    with ExitStack() as stack:

        def enter() -> Path:
            chosen = engine or api.current_engine()
            used = chosen.use(model, variant, request=api.request_of(stop=stop))
            return stack.enter_context(used)

        yield await _in_thread(enter, stop)


async def _in_thread(work: Callable[[], T], stop: threading.Event | None = None) -> T:
    """Run `work` in a new thread; a cancelled wait sets `stop` and waits for the end of it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(value)  # type: ignore[arg-type]  # there is no error, so it is a T

    def run() -> None:
        value: T | None = None
        failure: BaseException | None = None
        try:
            value = work()
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, value, failure)

    threading.Thread(target=run, name="wanrec-aio", daemon=True).start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        if stop is not None:
            stop.set()
        await asyncio.wait([done])
        done.exception()  # taken note of: the cancellation is what the caller hears of
        raise


def _awaited(function: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """The same function, awaited; what it does is short, so a cancelled wait lets it end."""

    @wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return await _in_thread(partial(function, *args, **kwargs))

    call.__doc__ = f"As `wanrec.{function.__name__}`."
    return call


drift = _awaited(api.drift)
gc = _awaited(api.gc)
pin = _awaited(api.pin)
plan = _awaited(api.plan)
status = _awaited(api.status)
unpin = _awaited(api.unpin)
usage = _awaited(api.usage)
verify = _awaited(api.verify)
