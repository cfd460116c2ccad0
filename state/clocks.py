"""What wanrec's own links and unlinks did to the clocks of shared inodes. Pure.

Every link and unlink of one name moves the ctime of the inode, and so of all its other names. Runs
that work at the same time share inodes too: whoever folds first does not know the records of the
others yet, so its steps stay in `.wanrec/journal/steps` until no other run is left. Losing them
costs a hash of each such file, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from wanrec.state.model import FileRecord, State, apply_identities

__all__ = ["InodeStep", "Steps", "follow"]


@attrs.frozen(kw_only=True)
class InodeStep:
    """One link or unlink: size, mtime and bytes of the inode are the same before and after.

    Attributes:
        ino: number of the inode; `dev` is its device.
        size: bytes.
        mtime_ns: nanoseconds since the epoch, as `before_ns` and `after_ns`.
        before_ns: ctime before the step.
        after_ns: ctime after it.
    """

    ino: int
    dev: int
    size: int
    mtime_ns: int
    before_ns: int
    after_ns: int


@attrs.frozen(kw_only=True)
class Steps:
    """Steps of one or of several runs, in no order; false when there are none.

    Attributes:
        settled: RFC 3339; a time later than every step, by more than a tick of the file system's
            clock.
    """

    steps: tuple[InodeStep, ...] = ()
    settled: str = ""

    def __bool__(self) -> bool:
        return bool(self.steps)

    def __or__(self, other: Steps) -> Steps:
        return Steps(
            steps=tuple(dict.fromkeys((*self.steps, *other.steps))),
            settled=max(self.settled, other.settled),
        )


def follow(state: State, steps: Steps) -> State:
    """Return the state with each record moved along the steps that begin where it stands.

    A change that is not ours breaks the chain: the record then stays behind what the disk says,
    and only a hash makes it trusted again.
    """
    if not steps:
        return state
    onward: dict[tuple[int, int, int], dict[int, list[InodeStep]]] = {}
    for step in steps.steps:
        chain = onward.setdefault((step.ino, step.size, step.mtime_ns), {})
        chain.setdefault(step.before_ns, []).append(step)
    updates = _updates(state.files, onward, steps.settled)
    return apply_identities(state, updates) if updates else state


def _updates(
    files: Mapping[str, FileRecord],
    onward: Mapping[tuple[int, int, int], Mapping[int, Iterable[InodeStep]]],
    settled: str,
) -> dict[str, FileRecord]:
    updates = {}
    for address, record in files.items():
        chain = onward.get((record.ino, record.size, record.mtime_ns))
        last = _last(chain, record.ctime_ns) if chain else None
        if last is not None:
            updates[address] = attrs.evolve(
                record, ctime_ns=last.after_ns, dev=last.dev, verified_at=settled
            )
    return updates


def _last(chain: Mapping[int, Iterable[InodeStep]], ctime_ns: int) -> InodeStep | None:
    """The step that ends latest of all that can be reached; None when none begins here."""
    found: InodeStep | None = None
    seen, todo = set[int](), [ctime_ns]
    while todo:
        at = todo.pop()
        for step in chain.get(at, ()) if at not in seen else ():
            todo.append(step.after_ns)
            if found is None or step.after_ns > found.after_ns:
                found = step
        seen.add(at)
    return found
