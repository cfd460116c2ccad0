"""The seam to a kept state: change it run by run.

`StateStore` holds the rules that every place shares; a subclass only knows how to get and put
the bytes. A state is changed in one way only: a `Run` journals what it did and folds that in under
the short `state` lock, which is held for one read and one write. Reading is `StateReader`.
"""

from __future__ import annotations

import contextlib
import os
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.state.atomic import (
    ensure_dirs,
    fsync_dir,
    read_regular,
    remove,
    sweep_temporaries,
    write_atomic,
)
from wanrec.state.osfault import translated
from wanrec.state.reading import StateReader

if TYPE_CHECKING:
    from wanrec.state.clocks import Steps
    from wanrec.state.model import ModelCommit, ProjectRecord, State
    from wanrec.state.run import RunHeader, RunInfo
    from wanrec.state.runs import DeadRun, Run

__all__ = ["StateStore"]


class StateStore(StateReader):
    """A state of one root. Not shared between threads, except for what `Run` says."""

    @abstractmethod
    def _write_bytes(self, data: bytes, *, keep_previous: bool) -> None:
        """Replace the state in one step; old or new at any instant, the old one kept."""

    def begin_run(self, header: RunHeader) -> Run:
        """Return a run that has written nothing yet: its first append makes journal and lock."""
        from wanrec.state.runs import Run

        return Run(self, header)

    def recoverable_runs(self) -> list[DeadRun]:
        """Return the dead runs, oldest first, each with its run lock taken.

        Who gets one must end with its `fold` or `release`. Journals without a whole first line
        and lock files of runs that are gone are removed in passing.

        Raises:
            WanrecError: as the disk and `LockRegistry.acquire` say.
        """
        if not self.run_ids() and not os.path.isdir(os.path.join(self._base, "locks")):
            return []
        from wanrec.state.runs import take_dead_runs

        return take_dead_runs(self)

    def install(self, state: State, dead: Sequence[DeadRun] = ()) -> State:
        """Write a rebuilt state in place of whatever is there, and drop the runs it contains.

        A damaged state does not take the place of a good `.backup`.

        Raises:
            WanrecError: as `fold`.
        """
        from wanrec.state import codec

        with self.locks.acquire(
            "state", self.lock_timeout_s, "state rebuild", stop=self.stop
        ) as held:
            data = self._read_bytes()
            try:
                readable = data is not None and codec.decode(data, self.where) is not None
            except WanrecError as exc:
                if exc.code is ErrorCode.STATE_NEWER:
                    raise
                readable = False
            folded = tuple(sorted({*state.folded, *(run.info.run_id for run in dead)}))
            held.check()
            written = self._save(attrs.evolve(state, folded=folded), keep_previous=readable)
        for run in dead:
            run.drop()
        return written

    # For `Run` and `DeadRun`.

    def prepare(self) -> None:
        """Make the directories a run writes to."""
        ensure_dirs(self._base, ("journal", "locks"))

    def fold(
        self,
        info: RunInfo,
        commits: Iterable[ModelCommit],
        projects: dict[str, ProjectRecord],
        *,
        journaled: bool,
        steps: Steps | None = None,
        plan_done: bool = False,
    ) -> State:
        """Take a run's commits over under the `state` lock; writes only if something changed.

        Records move along with `steps`, what the run's own links and unlinks did to inodes, and
        with those of runs that worked at the same time and folded before.

        Raises:
            WanrecError: LOCK_TIMEOUT, LOCK_UNRELIABLE; CONCURRENT_MODIFICATION when the state
                was replaced by another lineage or an older one; as `read`; NO_SPACE and other
                local errors. The journal is then still there.
        """
        from wanrec.state.clocks import Steps, follow
        from wanrec.state.model import State, fold_run

        header = info.header
        new = tuple(commits)
        self.prepare()
        with self.locks.acquire(
            "state", self.lock_timeout_s, header.operation, run=info.run_id, stop=self.stop
        ) as held:
            before = self._read_unchanged_lineage() or State()
            if info.run_id in before.folded:
                self._name_root()
                return before
            after = fold_run(
                before,
                new,
                plan=header.plan,
                base_serial=header.base_serial,
                projects=projects,
                plan_done=plan_done and header.plan is not None,
            )
            journals = set(self.run_ids())
            known = self._kept_steps() | (steps or Steps())
            after = follow(after, known)
            self._keep_steps(known if journals - {info.run_id} else None)
            if after is before:
                return before
            folded = [run for run in before.folded if run in journals]
            folded += [info.run_id] if journaled else []
            held.check()
            written = self._save(attrs.evolve(after, folded=tuple(folded)), keep_previous=True)
            if journaled:
                from wanrec.state.journal import keep_journal

                # The backup does not know of this write, and of the first there is no backup.
                keep_journal(self.journal_path(info.run_id), self._folded_path)
            self._note(info, written, sorted({commit.key for commit in new}))
        return written

    def _kept_steps(self) -> Steps:
        import msgspec

        from wanrec.state.clocks import Steps

        data = read_regular(self._steps_path)
        try:
            return msgspec.json.decode(data, type=Steps) if data else Steps()
        except msgspec.MsgspecError:  # what it would have told costs a hash
            return Steps()

    def _keep_steps(self, steps: Steps | None) -> None:
        """Leave them to the runs that are still at work; None: there are none."""
        import msgspec

        if not steps:
            remove(self._steps_path)
            return
        sweep_temporaries(self._steps_path)
        with contextlib.suppress(WanrecError):  # the state matters more than a hash
            write_atomic(self._steps_path, msgspec.json.encode(steps))

    def _read_unchanged_lineage(self) -> State | None:
        seen = self._seen
        state = self.read()
        if seen is None:
            return state
        if state is None or state.lineage != seen[0] or state.serial < seen[1]:
            now = (state.lineage, state.serial) if state else ("none", 0)
            raise WanrecError(
                ErrorCode.CONCURRENT_MODIFICATION,
                "the state was replaced while this run was working",
                where=self.where,
                detail=f"lineage {seen[0]} serial {seen[1]}, now {now[0]} serial {now[1]}",
                hint="run the command again; wanrec state history shows what happened",
            )
        return state

    def _save(self, state: State, *, keep_previous: bool) -> State:
        """Write the state; gives it the identities it lacks. The caller holds `state`."""
        import uuid

        from wanrec.state import codec

        self.prepare()
        root_id = self._root_id()
        state = attrs.evolve(
            state,
            wanrec_version=self.version,
            lineage=state.lineage or str(uuid.uuid4()),
            root_id=root_id or state.root_id or str(uuid.uuid4()),
        )
        pending = os.path.join(self._base, "root_id.new")
        if root_id is None:
            # The root becomes ours only once its state is there: a crash in between must not
            # look like a lost state.
            sweep_temporaries(pending)
            write_atomic(pending, state.root_id.encode() + b"\n")
        self._write_bytes(codec.encode(state), keep_previous=keep_previous)
        if root_id is None:
            self._name_root()
        self._seen = (state.lineage, state.serial)
        return state

    def _name_root(self) -> None:
        """Make the root ours, if the state is there and a crash came before this last step."""
        pending = os.path.join(self._base, "root_id.new")
        if self._root_id() is None and os.path.lexists(pending):
            with translated(pending):
                os.replace(pending, os.path.join(self._base, "root_id"))
                fsync_dir(self._base)

    def _note(self, info: RunInfo, state: State, keys: list[str]) -> None:
        import msgspec

        from wanrec.state.run import HistoryEntry

        entry = HistoryEntry(
            serial=state.serial,
            wanrec_version=self.version,
            at=self.timestamp(),
            run=info.run_id,
            operation=info.header.operation,
            project=info.header.project,
            models=tuple(keys),
            lineage=state.lineage,
        )
        try:
            with open(self._history_path, "ab") as file:
                file.write(msgspec.json.encode(entry) + b"\n")
        except OSError:  # the state is written; a line of history is not worth failing for
            return
