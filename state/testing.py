"""The contract suite of state stores, shipped so that a store outside this repository runs it too.

    class TestMyStore(StateStoreContract):
        def make_store(self, root):
            return MyStore(root)

Every call of `make_store` must return a new object for the same state, as a second process would
see it. The suite needs pytest and a real directory; it mocks nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import attrs
import pytest

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.state.clocks import InodeStep, Steps
from wanrec.state.model import FileRecord, ModelCommit, ModelRecord, Owner, ProjectRecord
from wanrec.state.run import RunHeader, SwapIntent
from wanrec.state.store import StateStore

__all__ = ["StateStoreContract", "sample_commit"]


def sample_commit(key: str = "m@1", *, generation: int = 1, digest: str = "a") -> ModelCommit:
    """A commit of one model with one file; `digest` is repeated to a sha256."""
    record = FileRecord(
        path=f"wan22/{key}/config.json",
        size=10,
        sha256=digest * 64,
        mtime_ns=1,
        ctime_ns=2,
        ino=3,
        dev=4,
        verified_at="2026-01-01T00:00:00.000000Z",
    )
    owner = Owner(project="default", spec="specs/demo.toml")
    model = ModelRecord(spec_sha256=digest * 64, owners=(owner,), generation=generation)
    return ModelCommit(key=key, model=model, files={"config.json": record})


def _code(error: pytest.ExceptionInfo[WanrecError]) -> ErrorCode:
    return error.value.code


class StateStoreContract:
    """What every store promises. Subclass it as `Test…` and give it `make_store`."""

    @abstractmethod
    def make_store(self, root: Path) -> StateStore:
        """Return a new store object for this root."""

    def committed(self, root: Path, commit: ModelCommit | None = None, **header: Any) -> None:
        """Carry one run through, as an apply would."""
        with self.make_store(root).begin_run(self.header(**header)) as run:
            run.append_commit(commit or sample_commit())
            run.fold()

    @staticmethod
    def header(**changes: Any) -> RunHeader:
        """A run's header."""
        return attrs.evolve(RunHeader(operation="apply"), **changes)

    def test_fresh_root_has_no_state(self, tmp_path: Path) -> None:
        """A root that was never managed reads as None and stays without a trace."""
        store = self.make_store(tmp_path)
        assert store.read() is None
        assert store.read_overlay().fresh
        assert store.recoverable_runs() == []
        assert list(tmp_path.iterdir()) == []

    def test_run_without_changes_leaves_no_trace(self, tmp_path: Path) -> None:
        """A run that appends nothing makes no journal, no lock and no state."""
        with self.make_store(tmp_path).begin_run(self.header()) as run:
            assert run.fold() is None
        assert list(tmp_path.iterdir()) == []

    def test_commit_is_read_back(self, tmp_path: Path) -> None:
        """What was folded is what a second store object reads, with serial 1 and identities."""
        self.committed(tmp_path)
        state = self.make_store(tmp_path).read()
        assert state is not None
        assert state.models == {"m@1": sample_commit().model}
        assert list(state.files) == ["m@1::config.json"]
        assert state.serial == 1
        assert state.lineage
        assert state.root_id

    def test_lineage_stays_and_serial_counts_content(self, tmp_path: Path) -> None:
        """A later run keeps the lineage; the serial moves with content only."""
        self.committed(tmp_path)
        first = self.make_store(tmp_path).read()
        self.committed(tmp_path, sample_commit(generation=2))
        same = self.make_store(tmp_path).read()
        self.committed(tmp_path, sample_commit(generation=3, digest="b"))
        changed = self.make_store(tmp_path).read()
        assert first and same and changed
        assert first.lineage == same.lineage == changed.lineage
        assert (first.serial, same.serial, changed.serial) == (1, 1, 2)

    def test_live_run_is_seen_with_its_commits(self, tmp_path: Path) -> None:
        """A reader sees a live run's commits and busy models before they are folded."""
        with self.make_store(tmp_path).begin_run(self.header()) as run:
            run.append_busy("other@1")
            run.append_commit(sample_commit())
            view = self.make_store(tmp_path).read_overlay()
            assert list(view.state.models) == ["m@1"]
            assert view.busy == {"other@1"}
            assert [info.run_id for info in view.live] == [run.run_id]
            assert view.dead == ()
            assert self.make_store(tmp_path).recoverable_runs() == []

    def test_dead_run_is_recovered_once(self, tmp_path: Path) -> None:
        """A run that closed without folding is handed to one recoverer, who folds it."""
        with self.make_store(tmp_path).begin_run(self.header()) as run:
            run.append_commit(sample_commit())
        store = self.make_store(tmp_path)
        assert [info.run_id for info in store.read_overlay().dead] == [run.run_id]
        (dead,) = store.recoverable_runs()
        assert self.make_store(tmp_path).recoverable_runs() == []
        dead.fold()
        state = self.make_store(tmp_path).read()
        assert state is not None
        assert list(state.models) == ["m@1"]
        assert store.recoverable_runs() == []
        assert store.run_ids() == []

    def test_released_dead_run_can_be_taken_again(self, tmp_path: Path) -> None:
        """Who releases a dead run without folding leaves it to the next."""
        with self.make_store(tmp_path).begin_run(self.header()) as run:
            run.append_commit(sample_commit())
        (dead,) = self.make_store(tmp_path).recoverable_runs()
        dead.release()
        (again,) = self.make_store(tmp_path).recoverable_runs()
        assert again.info.run_id == run.run_id
        again.release()

    def test_pending_swap_is_exposed(self, tmp_path: Path) -> None:
        """An announced exchange without its commit is what the recoverer must look at."""
        intent = SwapIntent(
            key="m@1",
            stage=".wanrec/stage/x",
            directory="wan22/m@1",
            stage_ino=7,
            two_step=True,
            retired=".wanrec/stage/old",
            commit=sample_commit(),
        )
        with self.make_store(tmp_path).begin_run(self.header()) as run:
            run.append_swap(attrs.evolve(intent, key="done@1"))
            run.append_commit(sample_commit("done@1"))
            run.append_swap(intent)
        (dead,) = self.make_store(tmp_path).recoverable_runs()
        assert dead.swaps == (intent,)
        dead.fold([intent.commit])
        state = self.make_store(tmp_path).read()
        assert state is not None
        assert list(state.models) == ["done@1", "m@1"]

    def test_clocks_of_shared_inodes_are_followed_in_any_order(self, tmp_path: Path) -> None:
        """Who links another live run's file may fold first: the record still has the last ctime."""
        settled = "2026-01-02T00:00:00.000000Z"
        step = InodeStep(ino=3, dev=4, size=10, mtime_ns=1, before_ns=2, after_ns=5)
        recorder = self.make_store(tmp_path).begin_run(self.header())
        linker = self.make_store(tmp_path).begin_run(self.header())
        recorder.append_commit(sample_commit())
        linker.append_commit(sample_commit("other@1", digest="b"))
        linker.fold(Steps(steps=(step,), settled=settled))
        recorder.fold()
        state = self.make_store(tmp_path).read()
        assert state is not None
        record = state.files["m@1::config.json"]
        assert (record.ctime_ns, record.verified_at) == (5, settled)

    def test_runs_merge(self, tmp_path: Path) -> None:
        """Two runs that end in any order lose none of each other's models."""
        first = self.make_store(tmp_path).begin_run(self.header())
        second = self.make_store(tmp_path).begin_run(self.header())
        first.append_commit(sample_commit("a@1"))
        second.append_commit(sample_commit("b@1"))
        second.fold()
        first.fold()
        first.close()
        second.close()
        state = self.make_store(tmp_path).read()
        assert state is not None
        assert list(state.models) == ["a@1", "b@1"]

    def test_older_generation_does_not_win(self, tmp_path: Path) -> None:
        """A run that folds late does not undo what a later holder of the model did."""
        early = self.make_store(tmp_path).begin_run(self.header())
        early.append_commit(sample_commit(generation=1, digest="a"))
        self.committed(tmp_path, sample_commit(generation=2, digest="b"))
        early.fold()
        early.close()
        state = self.make_store(tmp_path).read()
        assert state is not None
        assert state.models["m@1"].generation == 2
        assert state.files["m@1::config.json"].sha256 == "b" * 64

    def test_project_is_recorded(self, tmp_path: Path) -> None:
        """Where a project was applied from is kept, also when no model changed."""
        self.committed(tmp_path)
        header = self.header(project="one", directory="/projects/one")
        with self.make_store(tmp_path).begin_run(header) as run:
            run.append_busy("m@1")
            run.fold()
        state = self.make_store(tmp_path).read()
        assert state is not None
        assert state.projects == {"one": ProjectRecord(directory="/projects/one")}
        assert state.serial == 1

    def test_project_outlives_a_crash(self, tmp_path: Path) -> None:
        """Where a run that died was applied from is seen at once, and recorded by who recovers."""
        expected = {"one": ProjectRecord(directory="/projects/one")}
        header = self.header(project="one", directory="/projects/one")
        with self.make_store(tmp_path).begin_run(header) as run:
            run.append_commit(sample_commit())
        assert self.make_store(tmp_path).read_overlay().state.projects == expected
        assert self.make_store(tmp_path).salvage().projects == expected
        (dead,) = self.make_store(tmp_path).recoverable_runs()
        dead.fold()
        state = self.make_store(tmp_path).read()
        assert state is not None
        assert state.projects == expected

    def test_plan_progress_chains(self, tmp_path: Path) -> None:
        """Several folds of one saved plan keep the serial the plan was made from."""
        for index in (1, 2):
            commit = sample_commit(f"m@{index}")
            self.committed(tmp_path, commit, plan="p", base_serial=0)
        state = self.make_store(tmp_path).read()
        assert state is not None
        assert state.last_plan is not None
        assert (state.last_plan.plan, state.last_plan.base_serial) == ("p", 0)
        assert state.last_plan.serial == state.serial == 2

    def test_other_change_ends_plan_progress(self, tmp_path: Path) -> None:
        """A change by anybody else makes a half-done saved plan stale."""
        self.committed(tmp_path, sample_commit("m@1"), plan="p", base_serial=0)
        self.committed(tmp_path, sample_commit("m@2"))
        self.committed(tmp_path, sample_commit("m@3"), plan="p", base_serial=0)
        state = self.make_store(tmp_path).read()
        assert state is not None
        assert state.last_plan is None

    def test_replaced_state_is_a_conflict(self, tmp_path: Path) -> None:
        """A state that went back behind a run's back is refused, and the journal is kept."""
        self.committed(tmp_path)
        store = self.make_store(tmp_path)
        older = store.read()
        assert older is not None
        self.committed(tmp_path, sample_commit(generation=2, digest="b"))
        late = self.make_store(tmp_path)
        late.read()
        self.make_store(tmp_path).install(older)
        with late.begin_run(self.header()) as run:
            run.append_commit(sample_commit("late@1"))
            with pytest.raises(WanrecError) as error:
                run.fold()
        assert _code(error) is ErrorCode.CONCURRENT_MODIFICATION
        (dead,) = self.make_store(tmp_path).recoverable_runs()
        dead.release()

    def test_history_names_each_fold(self, tmp_path: Path) -> None:
        """Every fold leaves a line: serial, operation, models."""
        self.committed(tmp_path)
        self.committed(tmp_path, sample_commit("n@1"))
        entries = self.make_store(tmp_path).history()
        assert [(e.serial, e.operation, e.models) for e in entries] == [
            (1, "apply", ("m@1",)),
            (2, "apply", ("n@1",)),
        ]

    def test_salvage_and_install(self, tmp_path: Path) -> None:
        """What salvage remembers includes dead runs; install writes it and drops them."""
        self.committed(tmp_path)
        with self.make_store(tmp_path).begin_run(self.header()) as run:
            run.append_commit(sample_commit("dead@1"))
        store = self.make_store(tmp_path)
        before = store.read()
        assert before is not None
        saved = store.salvage()
        assert saved.lineage == before.lineage
        assert list(saved.models) == ["dead@1", "m@1"]
        state = attrs.evolve(
            before, serial=saved.serial + 1, models=saved.models, files=saved.files
        )
        store.install(state, store.recoverable_runs())
        after = self.make_store(tmp_path).read()
        assert after is not None
        assert list(after.models) == ["dead@1", "m@1"]
        assert after.serial == saved.serial + 1
        assert store.run_ids() == []
