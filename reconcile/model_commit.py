"""One model, under its lock: gather its bytes, build the next directory, swap, record.

In: the fresh actions of one model. Out: a `ModelCommit` in the journal, or a failure with the old
directory untouched. A model commits whole: one missing byte and nothing of it changes.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Executor as Pool
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import attrs

from wanrec.reconcile.actions import Action, Failure, RecordChange
from wanrec.reconcile.commit_records import (
    found_in_place,
    incomplete,
    next_record,
    not_ours,
    placements_of,
    records_of,
)
from wanrec.reconcile.disk import Root
from wanrec.reconcile.errors import WanrecError
from wanrec.reconcile.gather import Gathered, Gatherer
from wanrec.reconcile.gather_model import gather_model
from wanrec.reconcile.model import (
    ActionKind,
    DesiredModel,
    EntryKind,
    FileFact,
)
from wanrec.reconcile.plan_scope import record_after
from wanrec.reconcile.stage import (
    MOST_HELD,
    TREES,
    Modes,
    build_tree,
    move_foreign_back,
    parents_of,
    private_stage,
    purge,
    remove_empty_dirs,
    swap_in,
)
from wanrec.reconcile.stage_identity import IdentityLog, rfc3339, settled
from wanrec.reconcile.stage_origins import Origin, note_origins
from wanrec.reconcile.stage_retired import Retired, write_retired
from wanrec.state.model import FileRecord, ModelCommit, ModelRecord
from wanrec.state.run import SwapIntent
from wanrec.state.runs import Run

__all__ = ["Committed", "Committer"]

_FLUSHERS = 16
_FLUSH_BATCH = 8


@attrs.frozen(kw_only=True)
class Committed:
    """What one model's commit did: path → gathered, failures, paths deleted, warnings."""

    gathered: Mapping[str, Gathered] = attrs.field(factory=dict)
    deleted: tuple[str, ...] = ()
    forgotten: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    warnings: tuple[str, ...] = ()


class Committer:
    """Carries out the actions of single models; one instance a run, used from several threads.

    Args:
        root: the opened root.
        run: the journal of this run.
        log: shared by all models of the run.
        files: pool that gathers files in parallel.
        clock: nanoseconds since the epoch.
        swap_grace_ns: how long an old directory outlives its swap.
        exchange: the file system can exchange two names in one step.
        exclusive: model key → waits until no reader is inside `use`, keeps new ones out.
    """

    def __init__(
        self,
        *,
        root: Root,
        run: Run,
        log: IdentityLog,
        files: Pool,
        clock: Callable[[], int],
        modes: Modes,
        swap_grace_ns: int,
        exchange: bool,
        project: str,
        exclusive: Callable[[str], AbstractContextManager[object]],
    ) -> None:
        self._root = root
        self._run = run
        self._log = log
        self._files = files
        self._clock = clock
        self._modes = modes
        self._grace_ns = swap_grace_ns
        self._exchange = exchange
        self._project = project
        self._exclusive = exclusive
        self._trees = itertools.count(1)

    def update(
        self,
        model: DesiredModel,
        old: ModelRecord | None,
        recorded: Mapping[str, FileRecord],
        actions: Iterable[Action],
        gatherer: Gatherer,
        on_done: Callable[[Action, Gathered | WanrecError], None],
    ) -> Committed:
        """Bring one wanted model to what its actions say, whole or not at all."""
        actions = tuple(actions)
        gathered, failures = gather_model(self._files, actions, gatherer, on_done)
        fatal = [failure for failure in failures if not failure.optional]
        if fatal:
            self._keep_verified(model, old, recorded, gathered)
            self._note_origins(gathered)
            return Committed(failures=tuple(failures))
        drop = {a.path: a for a in actions if a.action is ActionKind.DELETE}
        forget = {a.path for a in actions if a.action is ActionKind.FORGET}
        moved_from = {
            a.donor.partition("::")[2]
            for a in actions
            if a.action is ActionKind.MOVE and a.donor and a.donor.startswith(f"{model.key}::")
        }
        spared = not_ours(self._root, model.directory, recorded, drop)
        warnings = [f"{model.key}::{path} is not what wanrec put there: kept" for path in spared]
        gone = drop.keys() | forget | moved_from
        kept = {path: rec for path, rec in recorded.items() if path not in gone}
        fault = incomplete(self._root, model, kept, gathered)
        if fault is not None:
            raise fault
        if drop or moved_from or any(not g.in_place for g in gathered.values()):
            # Readers keep the old directory as long as they need it; fetching went on meanwhile.
            with self._exclusive(model.key):
                self._swap(model, old, recorded, kept, gathered, frozenset(spared))
        else:
            records = self._in_place_records(model, kept, gathered)
            self._commit(model, old, records)
        return Committed(
            gathered=gathered,
            deleted=tuple(path for path in drop if path not in spared),
            forgotten=tuple(forget),
            failures=tuple(failures),
            warnings=tuple(warnings),
        )

    def drop(
        self,
        key: str,
        old: ModelRecord,
        recorded: Mapping[str, FileRecord],
        actions: Iterable[Action],
    ) -> Committed:
        """Delete or forget a whole model that nobody wants any more."""
        actions = tuple(actions)
        forget = tuple(a.path for a in actions if a.action is ActionKind.FORGET)
        drop = {a.path: a for a in actions if a.action is ActionKind.DELETE}
        commit = ModelCommit(key=key, model=None)
        if not drop:
            self._run.append_commit(commit)
            return Committed(forgotten=forget)
        spared = not_ours(self._root, old.directory, recorded, drop)
        if self._root.stat(old.directory).kind is EntryKind.DIRECTORY:
            mine = recorded.keys() - set(spared)
            with self._exclusive(key):
                self._remove(key, old.directory, commit, mine)
        self._run.append_commit(commit)
        return Committed(
            deleted=tuple(path for path in drop if path not in spared),
            forgotten=forget,
            warnings=tuple(f"{key}::{p} is not what wanrec put there: kept" for p in spared),
        )

    def _remove(self, key: str, directory: str, commit: ModelCommit, mine: Collection[str]) -> None:
        tree = self._new_tree()
        self._root.make_dirs(tree, self._modes.directory)
        retired = self._exchange_dirs(key, tree, directory, commit, mine)
        if retired is not None:
            purge(self._root, retired, lambda path, fact: path in mine, self._log)
        remove_empty_dirs(self._root, directory)

    def refresh(
        self,
        key: str,
        old: ModelRecord,
        recorded: Mapping[str, FileRecord],
        actions: Iterable[Action],
    ) -> Committed:
        """Read what is doubtful, forget what is gone; no model file is touched.

        A file with other bytes keeps its record, so that drift and plan go on saying so. Owners,
        protection and pin of the model stay, also when none of its files is left.
        """
        actions = tuple(actions)
        gone = tuple(a.path for a in actions if a.action is ActionKind.FORGET)
        doubtful = [recorded[a.path] for a in actions if a.action is ActionKind.VERIFY]
        paths = [a.path for a in actions if a.action is ActionKind.VERIFY]
        read = zip(paths, self._files.map(self._read_again, doubtful), strict=True)
        found = {path: attrs.evolve(got, path=path) for path, got in read if got is not None}
        kept = {path: record for path, record in recorded.items() if path not in gone}
        if found or gone:
            facts = {path: got.identity for path, got in found.items()}
            files = records_of(old.directory, kept, found, facts, self._stamp(facts))
            record = attrs.evolve(old, generation=old.generation + 1)
            if gone:
                record = attrs.evolve(record, spec_sha256="")
            files = {path: files.get(path, kept[path]) for path in kept}
            self._run.append_commit(ModelCommit(key=key, model=record, files=files))
        return Committed(
            gathered=found,
            forgotten=gone,
            warnings=tuple(
                f"{key}::{path} is not what was recorded: its record was left as it is"
                for path in paths
                if path not in found
            ),
        )

    def _read_again(self, record: FileRecord) -> Gathered | None:
        return found_in_place(self._root, record)

    def record_only(
        self,
        key: str,
        old: ModelRecord,
        recorded: Mapping[str, FileRecord],
        changes: Iterable[RecordChange],
    ) -> None:
        """Write an edit that concerns only the record: owners, protect, presence."""
        after = record_after(old, changes, self._project)
        kept = attrs.evolve(after, generation=old.generation + 1) if after.owners else None
        files = recorded if kept else {}
        self._run.append_commit(ModelCommit(key=key, model=kept, files=files))

    def _keep_verified(
        self,
        model: DesiredModel,
        old: ModelRecord | None,
        recorded: Mapping[str, FileRecord],
        gathered: Mapping[str, Gathered],
    ) -> None:
        """A failed model keeps its directory; what was re-verified in place is still recorded."""
        refreshed = {path: g for path, g in gathered.items() if g.in_place and path in recorded}
        if old is not None and refreshed:
            records = self._in_place_records(model, recorded, refreshed)
            kept = attrs.evolve(old, generation=old.generation + 1)
            self._run.append_commit(ModelCommit(key=model.key, model=kept, files=records))

    def _note_origins(self, gathered: Mapping[str, Gathered]) -> None:
        """What was brought waits in the stage: say who delivered it."""
        origins = {
            got.sha256: Origin(source=got.source, revision=got.revision, etag=got.etag)
            for got in gathered.values()
            if got.take and got.source
        }
        run_id = self._run.run_id
        name = f"{run_id}-{next(self._trees)}"
        note_origins(self._root, private_stage(run_id), name, origins)

    def _in_place_records(
        self,
        model: DesiredModel,
        recorded: Mapping[str, FileRecord],
        gathered: Mapping[str, Gathered],
    ) -> dict[str, FileRecord]:
        facts = {path: self._root.stat(f"{model.directory}/{path}") for path in gathered}
        return records_of(model.directory, recorded, gathered, facts, self._stamp(facts))

    def _stamp(self, facts: Mapping[str, FileFact]) -> str:
        return rfc3339(settled(self._clock, facts.values()))

    def _swap(
        self,
        model: DesiredModel,
        old: ModelRecord | None,
        recorded: Mapping[str, FileRecord],
        kept: Mapping[str, FileRecord],
        gathered: Mapping[str, Gathered],
        spared: frozenset[str],
    ) -> None:
        tree = self._new_tree()
        placements = placements_of(self._root, tree, kept, gathered)
        try:
            build_tree(self._root, tree, placements, self._modes, self._log)
            self._sync(tree, {p.path for p in placements if p.path in gathered})
        except BaseException:
            # Also the verified bytes go: after a failed flush they are not to be trusted.
            self._discard(tree)
            raise
        facts = {
            path: fact
            for path, fact in self._root.walk(tree).items()
            if fact.kind is EntryKind.FILE
        }
        records = records_of(model.directory, kept, gathered, facts, self._stamp(facts))
        commit = self._model_commit(model, old, records)
        mine = (recorded.keys() | gathered.keys()) - spared
        retired = self._exchange_dirs(model.key, tree, model.directory, commit, mine)
        # All of it before the commit: until then a crash leaves it to the recovery of the swap.
        if retired is not None:
            self._retire(retired, mine)
        if old is not None and old.directory and old.directory != model.directory:
            mine_old = recorded.keys() - spared
            purge(self._root, old.directory, lambda path, fact: path in mine_old, self._log)
        self._run.append_commit(commit)

    def _discard(self, tree: str) -> None:
        """Clear a tree that nobody has seen; what resists is left to be found as an orphan."""
        with contextlib.suppress(WanrecError):
            purge(self._root, tree, lambda path, fact: True, self._log)

    def _sync(self, tree: str, new: set[str]) -> None:
        files = sorted(f"{tree}/{path}" for path in new)
        with self._root.held(*parents_of(tree, new)[:MOST_HELD]):
            batches = [files[at : at + _FLUSH_BATCH] for at in range(0, len(files), _FLUSH_BATCH)]
            # The device orders many flushes better than few, and waiting for it takes no core.
            with ThreadPoolExecutor(min(_FLUSHERS, max(1, len(batches)))) as pool:
                for future in [pool.submit(self._flush, batch) for batch in batches]:
                    future.result()
        folders = {tree}
        for path in self._root.walk(tree):
            parent = path.rpartition("/")[0]
            while parent:
                folders.add(f"{tree}/{parent}")
                parent = parent.rpartition("/")[0]
        for folder in sorted(folders, reverse=True):
            self._root.fsync_dir(folder)

    def _flush(self, files: Iterable[str]) -> None:
        for file in files:
            self._root.fsync_file(file)

    def _exchange_dirs(
        self, key: str, tree: str, directory: str, commit: ModelCommit, mine: Iterable[str]
    ) -> str | None:
        """Journal the intent, swap, move the user's own files along; where the old one is now."""
        two_step = not self._exchange
        intent = SwapIntent(
            key=key,
            stage=tree,
            directory=directory,
            stage_ino=self._root.stat(tree).ino,
            two_step=two_step,
            retired=f"{tree}.old" if two_step else tree,
            commit=commit,
            gone=tuple(sorted(set(mine) - commit.files.keys())),
        )
        self._run.append_swap(intent)
        retired = swap_in(self._root, tree, directory, two_step=two_step)
        if retired is not None:
            move_foreign_back(self._root, retired, directory, mine)
        return retired

    def _retire(self, tree: str, mine: Iterable[str]) -> None:
        mine = frozenset(mine)
        names = {
            path: (fact.size, fact.mtime_ns, fact.ino)
            for path, fact in self._root.walk(tree).items()
            if path in mine
        }
        until = self._clock() + self._grace_ns
        write_retired(self._root, Retired(tree=tree, until_ns=until, names=names))

    def _model_commit(
        self, model: DesiredModel, old: ModelRecord | None, records: Mapping[str, FileRecord]
    ) -> ModelCommit:
        complete = all(
            (found := records.get(file.path)) is not None
            and (file.sha256 is None or found.sha256 == file.sha256)
            for file in model.files
        ) and len(records) == len(model.files)
        record = next_record(old, model, self._project, complete, rfc3339(self._clock()))
        return ModelCommit(key=model.key, model=record, files=records)

    def _commit(
        self, model: DesiredModel, old: ModelRecord | None, records: Mapping[str, FileRecord]
    ) -> None:
        self._run.append_commit(self._model_commit(model, old, records))

    def _new_tree(self) -> str:
        return f"{TREES}/{self._run.run_id}-{next(self._trees)}"
