"""Finishes what a dead run began, and clears what nobody needs any more.

In: the journals of runs whose lock could be taken (so their processes are gone). A swap that the
journal announced either happened (the staged directory's inode lies at the model's path) or it did
not; both ends are made whole, then the journal is folded into the state. Nothing is fetched.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping

from wanrec.providers.parts import PARTIAL_DIR
from wanrec.reconcile.disk import Root
from wanrec.reconcile.model import EntryKind, FileFact
from wanrec.reconcile.stage import (
    BLOBS,
    TREES,
    move_foreign_back,
    private_stage,
    purge,
    remove_empty_dirs,
)
from wanrec.reconcile.stage_identity import IdentityLog
from wanrec.reconcile.stage_origins import sweep_origins
from wanrec.reconcile.stage_retired import Retired, read_retired, write_retired
from wanrec.state.model import (
    ModelCommit,
    State,
    files_by_model,
    lock_name,
)
from wanrec.state.run import SwapIntent
from wanrec.state.runs import DeadRun
from wanrec.state.store import StateStore

__all__ = [
    "due_retired",
    "end_swaps",
    "hand_over",
    "recover_runs",
    "release_retired",
    "swap_happened",
]


def swap_happened(root: Root, intent: SwapIntent) -> bool:
    """True when what a run announced is what lies at the model's path now. Read-only.

    A model that goes is exchanged for an empty directory, which is removed then: nothing at its
    path, and the staged directory no longer where it was, says the same.
    """
    there = root.stat(intent.directory)
    if there.kind is EntryKind.DIRECTORY:
        return there.ino == intent.stage_ino
    removed = intent.commit.model is None and there.kind is EntryKind.MISSING
    return removed and root.stat(intent.stage).ino != intent.stage_ino


def end_swaps(root: Root, runs: Iterable[DeadRun], *, until_ns: int) -> list[ModelCommit]:
    """Finish the swaps of dead runs on the disk; return what those runs could not record.

    For who makes the state anew: the journals stay until that is written.
    """
    log = IdentityLog()
    finished = []
    for dead in runs:
        for intent in dead.swaps:
            if _complete(root, intent, State(), until_ns, log):
                finished.append(intent.commit)
        _clear_stage(root, dead.info.run_id, log)
    return finished


def recover_runs(
    root: Root, store: StateStore, *, swap_grace_ns: int, clock: Callable[[], int]
) -> int:
    """Complete and fold the journals of dead runs; return how many.

    A run whose model somebody works on right now is left to the next command: who holds the
    model's lock sees the swap in the journal.
    """
    count = 0
    runs = store.recoverable_runs()
    try:
        for dead in runs:
            with contextlib.ExitStack() as held:
                if _lock_models(store, dead, held):
                    _recover_run(root, store, dead, swap_grace_ns, clock)
                    count += 1
    finally:
        for dead in runs:
            dead.release()
    return count


def _lock_models(store: StateStore, dead: DeadRun, held: contextlib.ExitStack) -> bool:
    for key in sorted({intent.key for intent in dead.swaps}):
        lock = store.locks.try_acquire(lock_name(key), "recover", run=dead.info.run_id)
        if lock is None:
            return False
        held.enter_context(lock)
    return True


def _recover_run(
    root: Root, store: StateStore, dead: DeadRun, swap_grace_ns: int, clock: Callable[[], int]
) -> None:
    view = store.read_overlay()
    until_ns = clock() + swap_grace_ns
    log = IdentityLog()
    finished = [
        intent.commit for intent in dead.swaps if _complete(root, intent, view.state, until_ns, log)
    ]
    _clear_stage(root, dead.info.run_id, log)
    others = {run.pid for run in view.live if run.run_id != dead.info.run_id}
    if dead.info.pid not in {os.getpid(), *others}:
        _clear_partial(root, dead.info.pid)
    dead.fold(finished, log.steps(clock))


def _complete(
    root: Root, intent: SwapIntent, state: State, until_ns: int, log: IdentityLog
) -> bool:
    """Finish one announced swap; True when its commit is the truth about the model now."""
    staged = root.stat(intent.stage)
    if staged.ino == intent.stage_ino:
        absent = root.stat(intent.directory).kind is EntryKind.MISSING
        if not (intent.two_step and absent):
            return False
        root.rename(intent.stage, intent.directory)
    happened = swap_happened(root, intent)
    old = f"{intent.stage}.old" if intent.two_step else intent.stage
    if root.stat(old).kind is EntryKind.DIRECTORY:
        _put_aside(root, old, intent, until_ns, log)
    if happened:
        _end_old_place(root, intent, state, log)
        root.fsync_dir(intent.directory.rpartition("/")[0])
    return happened


def _put_aside(root: Root, old: str, intent: SwapIntent, until_ns: int, log: IdentityLog) -> None:
    """Give the user's files back to the model; the rest goes, or waits for its readers."""
    names = intent.commit.files.keys() | set(intent.gone)
    move_foreign_back(root, old, intent.directory, names)
    if intent.commit.model is None:
        purge(root, old, lambda path, fact: path in names, log)
        return
    facts = {path: fact for path, fact in root.walk(old).items() if path in names}
    identities = {path: (f.size, f.mtime_ns, f.ino) for path, f in facts.items()}
    write_retired(root, Retired(tree=old, until_ns=until_ns, names=identities))


def _end_old_place(root: Root, intent: SwapIntent, state: State, log: IdentityLog) -> None:
    if intent.commit.model is None:
        remove_empty_dirs(root, intent.directory)
        return
    before = state.models.get(intent.key)
    if before is not None and before.directory not in ("", intent.directory):
        names = files_by_model(state.files).get(intent.key, {})
        purge(root, before.directory, lambda path, fact: path in names, log)


def _clear_stage(root: Root, run_id: str, log: IdentityLog) -> None:
    """Drop the dead run's unfinished trees; keep its verified files for the next run."""
    kept = {retired.tree for retired in read_retired(root)}
    for name in _children(root, TREES):
        tree = f"{TREES}/{name}"
        if not name.startswith(f"{run_id}-") or tree in kept:
            continue
        if root.stat(tree).kind is EntryKind.DIRECTORY:
            purge(root, tree, lambda path, fact: True, log)
        else:
            root.unlink(tree, missing_ok=True)
    hand_over(root, run_id)


def _clear_partial(root: Root, pid: int) -> None:
    """Drop the dead process's parts that no later run can resume."""
    names = set(_children(root, PARTIAL_DIR))
    for name in sorted(names):
        stem, _, kind = name.rpartition(".")
        twin = f"{stem}.{'ranges' if kind == 'part' else 'part'}"
        if stem.split("-")[1:2] == [str(pid)] and twin not in names:
            root.unlink(f"{PARTIAL_DIR}/{name}", missing_ok=True)


def hand_over(root: Root, run_id: str) -> None:
    """Leave a run's verified files that found no place to whatever run comes next."""
    private = private_stage(run_id)
    for name, fact in root.walk(private).items():
        if fact.kind is EntryKind.FILE:
            root.make_dirs(BLOBS, 0o700)
            root.rename(f"{private}/{name}", f"{BLOBS}/{name}")
    remove_empty_dirs(root, private)
    sweep_origins(root)


def _children(root: Root, folder: str) -> list[str]:
    """Names directly below a folder."""
    if root.stat(folder).kind is not EntryKind.DIRECTORY:
        return []
    names = {path.partition("/")[0] for path in root.folders(folder)}
    names |= {path.partition("/")[0] for path in root.walk(folder)}
    return sorted(name for name in names if name)


def due_retired(root: Root, now_ns: int, *, force: bool = False) -> list[Retired]:
    """The old directories whose grace is over, all of them with `force`."""
    return [retired for retired in read_retired(root) if force or retired.until_ns <= now_ns]


def release_retired(root: Root, log: IdentityLog, *, now_ns: int, force: bool = False) -> int:
    """Remove old directories whose grace is over (all of them with `force`); bytes freed."""
    freed = 0
    for retired in due_retired(root, now_ns, force=force):
        names: Mapping[str, tuple[int, int, int]] = retired.names

        def ours(path: str, fact: FileFact, names: Mapping[str, tuple[int, ...]] = names) -> bool:
            return names.get(path) == (fact.size, fact.mtime_ns, fact.ino)

        size, left = purge(root, retired.tree, ours, log)
        freed += size
        if not left:
            root.unlink(retired.note)
    return freed
