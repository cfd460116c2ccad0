"""`wanrec.aio`: the Python API for programs that await, such as ASGI servers.

Each call works in a thread of its own, so it neither blocks the event loop nor takes a place in the
loop's default executor while a model is fetched for minutes. Cancelling the awaiting task asks the
work to stop: fetches end early, what has arrived is kept for the next try, and nothing half done
is left where models lie.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from wanrec.reconcile import api
from wanrec.reconcile.errors import WanrecError

if TYPE_CHECKING:
    from wanrec.reconcile.actions import ModelStatus
    from wanrec.reconcile.engine import Engine

__all__ = ["ensure", "ensure_many", "status", "use"]

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


async def status(
    model: str, variant: str | None = None, *, engine: Engine | None = None
) -> ModelStatus:
    """As `wanrec.status`.

    Raises:
        WanrecError: MODEL_NOT_FOUND, VARIANT_NOT_FOUND; of specs, state or root.
    """
    return await _in_thread(partial(api.status, model, variant, engine=engine))


@asynccontextmanager
async def use(
    model: str, variant: str | None = None, *, engine: Engine | None = None
) -> AsyncIterator[Path]:
    """As `wanrec.use`, for ``async with``.

    Raises:
        WanrecError: as `ensure`; LOCK_TIMEOUT while a swap is under way.
    """
    with ExitStack() as stack:

        def enter() -> Path:
            return stack.enter_context(api.use(model, variant, engine=engine))

        yield await _in_thread(enter)


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
