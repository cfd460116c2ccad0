"""Runs: one that is at work, and one that died and is being brought to its end.

A run's lock is taken before its journal appears and let go after the journal is gone, so a
journal without a held lock is a dead run, always. A name is never used twice: that is why the
lock file of a run may be unlinked.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.state.atomic import fsync_dir, remove
from wanrec.state.journal import Journal, JournalWriter, read_journal
from wanrec.state.lock import HeldLock
from wanrec.state.lock_info import host_name
from wanrec.state.model import ModelCommit, State
from wanrec.state.osfault import translated
from wanrec.state.run import CommitEntry, Retirement, RunHeader, RunInfo, SwapIntent

if TYPE_CHECKING:
    from wanrec.state.clocks import Steps
    from wanrec.state.store import StateStore

__all__ = ["DeadRun", "Run", "take_dead_runs"]


class Run:
    """A run at work. `append_*` may be called from several threads, the rest from one.

    Nothing is on the disk before the first append: a run that changes nothing leaves no trace.
    """

    def __init__(self, store: StateStore, header: RunHeader) -> None:
        seconds = store.now() // 1_000_000_000
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))
        self.info = RunInfo(
            run_id=f"{stamp}-{os.urandom(6).hex()}",
            header=header,
            pid=os.getpid(),
            host=host_name(),
            started=store.timestamp(),
        )
        self._store = store
        self._mutex = threading.Lock()
        self._lock: HeldLock | None = None
        self._writer: JournalWriter | None = None
        self._commits: list[CommitEntry] = []
        self._latest: dict[str, ModelCommit] = {}
        self._open_swaps: set[str] = set()
        self._places: dict[str, str] = {}

    @property
    def run_id(self) -> str:
        """The name of this run, never used again."""
        return self.info.run_id

    @property
    def journaled(self) -> bool:
        """True once something was appended."""
        return self._writer is not None

    def append_busy(self, key: str) -> None:
        """Say that the model is being worked on; not made durable."""
        self._append("busy", key, sync=False)

    def append_swap(self, intent: SwapIntent) -> None:
        """Say, durably, that a model directory is about to be exchanged."""
        self._open_swaps.add(intent.key)
        self._append("swap", intent, sync=True)

    def append_commit(self, commit: ModelCommit) -> None:
        """Record, durably, the new truth about a model; `fold` takes it into the state."""
        entry = CommitEntry(commit=commit, at_ns=self._store.now())
        self._append("commit", entry, sync=True)
        self._open_swaps.discard(commit.key)
        self._commits.append(entry)
        self._latest[commit.key] = commit
        for record in commit.files.values():
            self._places[record.sha256] = record.path

    def latest(self, key: str) -> ModelCommit | None:
        """What this run itself last recorded of a model."""
        return self._latest.get(key)

    def place_of(self, sha256: str) -> str | None:
        """Root-relative path of a file this run recorded with these bytes, None without one."""
        return self._places.get(sha256)

    def append_retired(self, retirement: Retirement) -> None:
        """Record, durably, an old directory that waits for its readers."""
        self._append("retired", retirement, sync=True)

    def fold(
        self,
        steps: Steps | None = None,
        *,
        plan_done: bool = False,
    ) -> State | None:
        """Take all commits into the state, then drop the journal; the run goes on being usable.

        A swap that was announced and failed before its commit may have happened: then nothing is
        folded, and whoever recovers this run after its end finds out from the whole journal.

        Args:
            steps: see `StateStore.fold`.
            plan_done: nothing of the header's saved plan is left to do.

        Returns:
            The state now stored; None when there is none and nothing was to be recorded.

        Raises:
            WanrecError: as `StateStore.fold`; the journal is kept for the next run to recover.
        """
        if self._open_swaps:
            return self._store.read()
        projects = self.info.header.projects if self.journaled else {}
        if not (self._commits or steps or plan_done):
            current = self._store.read()
            known = current.projects if current else {}
            if all(known.get(name) == record for name, record in projects.items()):
                self._drop()
                return current
        commits = [entry.commit for entry in self._commits]
        state = self._store.fold(
            self.info,
            commits,
            projects,
            journaled=self.journaled,
            steps=steps,
            plan_done=plan_done,
        )
        self._drop()
        return state

    def close(self) -> None:
        """Let go of the run; a journal that was not folded stays for recovery."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def probe_lock(self) -> None:
        """Prove that other processes are kept out of what this one holds.

        Raises:
            WanrecError: LOCK_UNRELIABLE.
        """
        self._open()
        assert self._lock is not None
        self._lock.probe()

    def _append(self, kind: str, body: object, *, sync: bool) -> None:
        self._open().append(kind, body, sync=sync)

    def _open(self) -> JournalWriter:
        with self._mutex:
            if self._writer is None:
                store = self._store
                store.prepare()
                name, operation = f"run-{self.run_id}", self.info.header.operation
                lock = store.locks.acquire(name, 0.0, operation, run=self.run_id)
                try:
                    self._writer = JournalWriter(store.journal_path(self.run_id), self.info)
                except BaseException:
                    lock.release(unlink=True)
                    raise
                self._lock = lock
            return self._writer

    def _drop(self) -> None:
        """Remove journal, then lock file."""
        writer, lock = self._writer, self._lock
        if writer is None or lock is None:
            return
        self._writer = self._lock = None
        self._commits = []
        writer.close()
        _drop_journal(writer.path, lock)
        # What is appended after this goes under a new name: run locks are named once.
        self.info = Run(self._store, self.info.header).info


class DeadRun:
    """A run whose process is gone; whoever has this object holds its lock."""

    def __init__(self, store: StateStore, journal: Journal, lock: HeldLock) -> None:
        self.journal = journal
        self._store = store
        self._lock = lock

    @property
    def info(self) -> RunInfo:
        """Who it was."""
        return self.journal.info

    @property
    def commits(self) -> tuple[CommitEntry, ...]:
        """What it had recorded."""
        return self.journal.commits

    @property
    def swaps(self) -> tuple[SwapIntent, ...]:
        """Exchanges it had announced and not recorded: finish them or find them not begun."""
        return self.journal.swaps

    @property
    def retired(self) -> tuple[Retirement, ...]:
        """Old directories it had put aside."""
        return self.journal.retired

    def fold(
        self,
        extra_commits: Iterable[ModelCommit] = (),
        steps: Steps | None = None,
    ) -> State | None:
        """Take its commits and the recovered ones into the state, drop journal and lock.

        Raises:
            WanrecError: as `StateStore.fold`; journal and lock are kept, call `release`.
        """
        commits = [entry.commit for entry in self.commits] + list(extra_commits)
        projects = self.info.header.projects
        if commits or steps:
            state: State | None = self._store.fold(
                self.info, commits, projects, journaled=True, steps=steps
            )
        else:
            state = self._store.read()
        self.drop()
        return state

    def drop(self) -> None:
        """Remove journal and lock: all of it is in the state."""
        _drop_journal(self._store.journal_path(self.info.run_id), self._lock)

    def release(self) -> None:
        """Leave the run to somebody else; does nothing after `fold` or `drop`."""
        self._lock.release()


def take_dead_runs(store: StateStore) -> list[DeadRun]:
    """See `StateStore.recoverable_runs`."""
    dead: list[DeadRun] = []
    try:
        for run_id in store.run_ids():
            found = _take(store, run_id)
            if found is not None:
                dead.append(found)
        _sweep_locks(store)
    except BaseException:
        for run in dead:
            run.release()
        raise
    return sorted(dead, key=lambda run: run.info.run_id)


def _take(store: StateStore, run_id: str) -> DeadRun | None:
    path = store.journal_path(run_id)
    lock = store.locks.try_acquire(f"run-{run_id}", "recover", run=run_id)
    if lock is None:
        return None
    try:
        if not os.path.lexists(path):  # it folded, or was recovered, before we had the lock
            lock.release(unlink=True)
            return None
        journal = read_journal(path)
        if journal is None:
            _drop_journal(path, lock)
            return None
    except BaseException:
        lock.release()
        raise
    return DeadRun(store, journal, lock)


def _sweep_locks(store: StateStore) -> None:
    """Unlink lock files of runs that died between journal and lock file, or before any."""
    directory = store.locks.directory
    for name in os.listdir(directory) if directory.is_dir() else ():
        run_id = name.removeprefix("run-").removesuffix(".lock")
        if name != f"run-{run_id}.lock" or os.path.lexists(store.journal_path(run_id)):
            continue
        try:
            lock = store.locks.try_acquire(f"run-{run_id}", "recover", create=False)
        except WanrecError as exc:
            if exc.code is ErrorCode.FILESYSTEM_ERROR:  # gone meanwhile
                continue
            raise
        if lock is not None:
            lock.release(unlink=not os.path.lexists(store.journal_path(run_id)))


def _drop_journal(path: str, lock: HeldLock) -> None:
    with translated(path):
        remove(path)
        fsync_dir(os.path.dirname(path))
    lock.release(unlink=True)
