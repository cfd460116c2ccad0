"""Finishes what a dead run began, and clears what nobody needs any more.

In: the journals of runs whose lock could be taken (so their processes are gone). A swap that the
journal announced either happened (the staged directory's inode lies at the model's path) or it did
not; both ends are made whole, then the journal is folded into the state. Nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import attrs

from wanrec.reconcile.disk import Root
from wanrec.reconcile.model import EntryKind, FileFact
from wanrec.reconcile.stage import (
    BLOBS,
    TREES,
    IdentityLog,
    Retired,
    move_foreign_back,
    private_stage,
    purge,
    read_retired,
    remove_empty_dirs,
    rfc3339,
    settled,
    write_retired,
)
from wanrec.state.model import FileRecord, ModelCommit, State, apply_commits, files_by_model
from wanrec.state.run import SwapIntent
from wanrec.state.runs import DeadRun
from wanrec.state.store import StateStore

__all__ = [
    "finished_swaps",
    "hand_over",
    "identity_updates",
    "recover_runs",
    "release_retired",
]


def swap_happened(root: Root, intent: SwapIntent) -> bool:
    """True when the staged directory already lies at the model's path. Read-only."""
    fact = root.stat(intent.directory)
    return fact.kind is EntryKind.DIRECTORY and fact.ino == intent.stage_ino


def finished_swaps(root: Root, runs: Iterable[DeadRun]) -> list[ModelCommit]:
    """What dead runs had put in place but could not record. Read-only."""
    return [intent.commit for dead in runs for intent in dead.swaps if swap_happened(root, intent)]


def recover_runs(
    root: Root, store: StateStore, *, swap_grace_ns: int, clock: Callable[[], int]
) -> int:
    """Complete and fold the journals of dead runs; return how many there were."""
    count = 0
    runs = store.recoverable_runs()
    try:
        for dead in runs:
            count += 1
            _recover_run(root, store, dead, swap_grace_ns, clock)
    finally:
        for dead in runs:
            dead.release()
    return count


def _recover_run(
    root: Root, store: StateStore, dead: DeadRun, swap_grace_ns: int, clock: Callable[[], int]
) -> None:
    state = store.read_overlay().state
    until_ns = clock() + swap_grace_ns
    finished = [intent.commit for intent in dead.swaps if _complete(root, intent, state, until_ns)]
    after = apply_commits(state, finished)
    log = IdentityLog()
    _clear_stage(root, dead.info.run_id, log)
    dead.fold(finished, identity_updates(after, log, rfc3339(settled(clock, log.facts()))))


def _complete(root: Root, intent: SwapIntent, state: State, until_ns: int) -> bool:
    if not swap_happened(root, intent):
        staged = root.stat(intent.stage)
        absent = root.stat(intent.directory).kind is EntryKind.MISSING
        if not (intent.two_step and absent and staged.ino == intent.stage_ino):
            return False
        root.rename(intent.stage, intent.directory)
    old = f"{intent.stage}.old" if intent.two_step else intent.stage
    if root.stat(old).kind is EntryKind.DIRECTORY:
        recorded = files_by_model(state.files).get(intent.key, {})
        names = recorded.keys() | intent.commit.files.keys()
        move_foreign_back(root, old, intent.directory, names)
        facts = {path: fact for path, fact in root.walk(old).items() if path in names}
        identities = {p: (fact.size, fact.mtime_ns, fact.ino) for p, fact in facts.items()}
        write_retired(root, Retired(tree=old, until_ns=until_ns, names=identities))
    if intent.commit.model is None:
        remove_empty_dirs(root, intent.directory)
    root.fsync_dir(intent.directory.rpartition("/")[0])
    return True


def _clear_stage(root: Root, run_id: str, log: IdentityLog) -> None:
    """Drop the dead run's unfinished trees; keep its verified files for the next run."""
    kept = {retired.tree for retired in read_retired(root)}
    for name in _children(root, TREES):
        tree = f"{TREES}/{name}"
        if name.startswith(f"{run_id}-") and tree not in kept:
            purge(root, tree, lambda path, fact: True, log)
    hand_over(root, run_id)


def hand_over(root: Root, run_id: str) -> None:
    """Leave a run's verified files that found no place to whatever run comes next."""
    private = private_stage(run_id)
    for name, fact in root.walk(private).items():
        if fact.kind is EntryKind.FILE:
            root.make_dirs(BLOBS, 0o700)
            root.rename(f"{private}/{name}", f"{BLOBS}/{name}")
    remove_empty_dirs(root, private)


def _children(root: Root, folder: str) -> list[str]:
    """Names directly below a folder."""
    if root.stat(folder).kind is not EntryKind.DIRECTORY:
        return []
    names = {path.partition("/")[0] for path in root.folders(folder)}
    names |= {path.partition("/")[0] for path in root.walk(folder)}
    return sorted(name for name in names if name)


def release_retired(root: Root, log: IdentityLog, *, now_ns: int, force: bool = False) -> int:
    """Remove old directories whose grace is over (all of them with `force`); bytes freed."""
    freed = 0
    for retired in read_retired(root):
        if not force and retired.until_ns > now_ns:
            continue
        names: Mapping[str, tuple[int, int, int]] = retired.names

        def ours(path: str, fact: FileFact, names: Mapping[str, tuple[int, ...]] = names) -> bool:
            return names.get(path) == (fact.size, fact.mtime_ns, fact.ino)

        size, left = purge(root, retired.tree, ours, log)
        freed += size
        if not left:
            root.unlink(retired.note)
    return freed


def identity_updates(state: State, log: IdentityLog, now: str) -> dict[str, FileRecord]:
    """Address → record with the identity its inode has now, for inodes our own steps touched.

    `now` (RFC 3339) must be later than the last of those steps, see `stage.settled`.
    """
    if not log:
        return {}
    updates = {}
    for address, record in state.files.items():
        fact = log.after(record.ino, record.size, record.mtime_ns, record.ctime_ns)
        if fact is not None and fact.ctime_ns != record.ctime_ns:
            updates[address] = attrs.evolve(
                record, ctime_ns=fact.ctime_ns, dev=fact.dev, verified_at=now
            )
    return updates
