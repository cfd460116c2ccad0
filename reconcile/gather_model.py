"""All files of one model at once: small ones in batches, twins from the file they equal.

In: the actions of one model. Out: path → where its verified bytes lie, and what failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor as Pool

import attrs

from wanrec.reconcile.actions import Action, Failure
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.gather import Gathered, Gatherer
from wanrec.reconcile.model import ActionKind

__all__ = ["gather_model"]

_SMALL = 256 * 1024
_BATCH = 8


def gather_model(
    files: Pool,
    actions: tuple[Action, ...],
    gatherer: Gatherer,
    on_done: Callable[[Action, Gathered | WanrecError], None],
) -> tuple[dict[str, Gathered], list[Failure]]:
    """Gather every file of one model's actions, in parallel; failures are values.

    Args:
        files: the pool of the run.
        actions: of one model; deletes and forgets are passed over.
        gatherer: brings single files.
        on_done: told of each file as it is settled, in the order of the actions.
    """
    wanted = [a for a in actions if a.action not in (ActionKind.DELETE, ActionKind.FORGET)]
    inside = {a.address for a in wanted}
    # A file whose donor is part of this same commit takes its bytes from the staged donor.
    first = [a for a in wanted if a.donor not in inside or a.action is ActionKind.MOVE]
    gathered: dict[str, Gathered] = {}
    failures: list[Failure] = []

    def settle(action: Action, result: Gathered | WanrecError) -> None:
        on_done(action, result)
        if isinstance(result, WanrecError):
            failures.append(Failure(address=action.address, error=result, optional=action.optional))
        else:
            gathered[action.path] = result

    for batch, future in [
        (batch, files.submit(_attempt_all, gatherer, batch)) for batch in _batches(first)
    ]:
        for action, result in zip(batch, future.result(), strict=True):
            settle(action, result)
    by_sha = {g.sha256: g for g in gathered.values()}
    begun = {action.address for action in first}
    for action in wanted:
        if action.address in begun:
            continue
        donor = by_sha.get(action.sha256 or "")
        if donor is None:
            settle(action, _attempt(gatherer, attrs.evolve(action, donor=None)))
        else:
            settle(
                action,
                attrs.evolve(donor, path=action.path, in_place=False, take=False, bytes_fetched=0),
            )
    return gathered, failures


def _batches(actions: list[Action]) -> Iterator[list[Action]]:
    """Small files a few at a time, because handing one over costs as much as bringing it."""
    batch: list[Action] = []
    for action in actions:
        if action.size is None or action.size > _SMALL:
            yield [action]
            continue
        batch.append(action)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _attempt_all(gatherer: Gatherer, actions: Iterable[Action]) -> list[Gathered | WanrecError]:
    return [_attempt(gatherer, action) for action in actions]


def _attempt(gatherer: Gatherer, action: Action) -> Gathered | WanrecError:
    try:
        return gatherer.gather(action)
    except WanrecError as error:
        return error
    except OSError as error:
        return WanrecError(
            ErrorCode.FILESYSTEM_ERROR, str(error), address=action.address, detail=repr(error)
        )
