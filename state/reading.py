"""What a kept state says, with its running and dead runs; read without a lock, writing nothing.

Journals are read before the state, so a run that folds in between is seen twice rather than
never, and seeing a commit twice changes nothing. Journals, locks and the root's identity always
lie under the root, wherever the state itself is kept.

The codec and the records are loaded when a state is read: who only asks for a stamp needs neither.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.state.atomic import read_regular

if TYPE_CHECKING:
    from wanrec.state.journal import Journal
    from wanrec.state.lock import LockRegistry, StopFlag
    from wanrec.state.model import State
    from wanrec.state.run import HistoryEntry, RunInfo, Salvage, SwapIntent

__all__ = ["StateReader", "StateView"]

WANREC_DIR = ".wanrec"
_HISTORY = "history.log"
_FOLDED = "folded"
_STEPS = "steps"
_SUFFIX = ".jsonl"


@attrs.frozen(kw_only=True)
class StateView:
    """The state with every journaled commit taken over.

    Attributes:
        state: an empty one on a fresh root.
        fresh: nothing was ever recorded for this root.
        busy: keys of models that live runs have begun to work on.
        pending: swaps that were announced and not yet recorded, of live and dead runs: whether
            they happened is seen on the disk.
        live: runs whose process is there.
        dead: runs that ended without folding; the next apply recovers them.
    """

    state: State
    fresh: bool = False
    busy: frozenset[str] = frozenset()
    pending: tuple[SwapIntent, ...] = ()
    live: tuple[RunInfo, ...] = ()
    dead: tuple[RunInfo, ...] = ()


class StateReader(ABC):
    """A state of one root as it can be looked at; `StateStore` changes it too."""

    def __init__(
        self,
        root: Path,
        *,
        version: str = "",
        now: Callable[[], int] = time.time_ns,
        lock_timeout_s: float = 600.0,
        stop: StopFlag | None = None,
    ) -> None:
        """Nothing is read or written yet.

        Args:
            root: the models root.
            version: of this wanrec; written into what it writes.
            now: nanoseconds since the epoch.
            lock_timeout_s: how long a fold waits for the `state` lock.
            stop: ends a wait for a lock early.
        """
        self.root = root
        self.version = version
        self.now = now
        self.lock_timeout_s = lock_timeout_s
        self.stop = stop
        self._base = os.path.join(os.path.realpath(root), WANREC_DIR)
        self._journals = os.path.join(self._base, "journal")
        self._locks: LockRegistry | None = None
        self._seen: tuple[str, int] | None = None

    # What a subclass knows.

    @property
    @abstractmethod
    def where(self) -> str:
        """The place of the state, for people."""

    @property
    @abstractmethod
    def inside_root(self) -> bool:
        """True when the state lies in this root's own wanrec directory."""

    @abstractmethod
    def _read_bytes(self) -> bytes | None:
        """The state's bytes, None when there is none."""

    @abstractmethod
    def _read_backup(self) -> bytes | None:
        """The previous state's bytes, None when there are none."""

    @abstractmethod
    def _stamp(self) -> object:
        """What changes whenever somebody writes the state; cheap, equal while nobody did."""

    # What everybody may call.

    @property
    def locks(self) -> LockRegistry:
        """The locks of this root (loaded on first use: readers take none)."""
        if self._locks is None:
            from wanrec.state.lock import LockRegistry

            self._locks = LockRegistry(Path(self._base, "locks"), timestamp=self.timestamp)
        return self._locks

    def timestamp(self) -> str:
        """The time as RFC 3339 UTC in seconds."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.now() // 1_000_000_000))

    def read(self) -> State | None:
        """Return the state without journals, None for a root that never had one.

        Raises:
            WanrecError: STATE_MISSING, STATE_CORRUPT, STATE_NEWER, STATE_FOREIGN; the file is
                left as it is.
        """
        from wanrec.state import codec

        root_id = self._root_id()
        data = self._read_bytes()
        if data is None:
            if root_id is None:
                return None
            raise _missing(self.where)
        state = codec.decode(data, self.where)
        if not self._belongs(state, root_id):
            raise _foreign(self.where, state.root_id, root_id)
        self._seen = (state.lineage, state.serial)
        return state

    def read_overlay(self) -> StateView:
        """Return the state as running and dead runs have left it; takes no lock.

        Raises:
            WanrecError: as `read`.
        """
        from wanrec.state.model import State, apply_commits

        journals = [(journal, self._is_live(journal)) for journal in self._all_journals()]
        stored = self.read()
        state = stored or State()
        entries = sorted(
            (
                entry
                for journal, _ in journals
                if journal.info.run_id not in state.folded
                for entry in journal.commits
            ),
            key=lambda entry: entry.at_ns,
        )
        projects = dict(state.projects)
        for journal, _ in journals:
            if journal.commits and journal.info.run_id not in state.folded:
                projects |= journal.info.header.projects
        if projects != state.projects:
            state = attrs.evolve(state, projects=projects)
        return StateView(
            state=apply_commits(state, [entry.commit for entry in entries]),
            fresh=stored is None,
            busy=frozenset().union(*(journal.busy for journal, live in journals if live)),
            pending=tuple(
                intent
                for journal, _ in journals
                if journal.info.run_id not in state.folded
                for intent in journal.swaps
            ),
            live=tuple(journal.info for journal, live in journals if live),
            dead=tuple(journal.info for journal, live in journals if not live),
        )

    def stamp(self, own_run: str) -> object:
        """Equal to an earlier stamp while no other run has journaled or folded anything since."""
        sizes = []
        for run_id in self.run_ids():
            if run_id != own_run:
                try:
                    sizes.append((run_id, os.stat(self.journal_path(run_id)).st_size))
                except FileNotFoundError:
                    sizes.append((run_id, -1))
        return self._stamp(), tuple(sizes)

    def history(self) -> list[HistoryEntry]:
        """Return the recorded folds, oldest first; best effort."""
        import msgspec

        from wanrec.state.run import HistoryEntry

        found: list[HistoryEntry] = []
        for line in (read_regular(self._history_path) or b"").splitlines():
            try:
                found.append(msgspec.json.decode(line, type=HistoryEntry))
            except (msgspec.MsgspecError, ValueError):
                continue
        return found

    def salvage(self) -> Salvage:
        """Return what can still be remembered of a lost or damaged state.

        Raises:
            WanrecError: STATE_NEWER: a newer wanrec's state is not ours to rebuild.
        """
        from wanrec.state.salvage import salvage

        sources = [(self.where, self._read_bytes()), ("backup", self._read_backup())]
        journals = list(self._all_journals())
        past = salvage(sources, [*self._last_folded(), *journals], self._root_id())
        notes = [entry for entry in self.history() if entry.lineage]
        return attrs.evolve(
            past,
            lineage=past.lineage or (notes[-1].lineage if notes else None),
            serial=max([past.serial, *(entry.serial for entry in notes)]),
        )

    def _last_folded(self) -> list[Journal]:
        from wanrec.state.journal import read_journal

        kept = read_journal(self._folded_path)
        return [] if kept is None else [kept]

    def journal_path(self, run_id: str) -> str:
        """Where the journal of a run lies."""
        return os.path.join(self._journals, run_id + _SUFFIX)

    def run_ids(self) -> list[str]:
        """Ids of the runs that have a journal, oldest first."""
        try:
            names = os.listdir(self._journals)
        except FileNotFoundError:
            return []
        return sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))

    @property
    def _history_path(self) -> str:
        return os.path.join(self._journals, _HISTORY)

    @property
    def _folded_path(self) -> str:
        return os.path.join(self._journals, _FOLDED)

    @property
    def _steps_path(self) -> str:
        return os.path.join(self._journals, _STEPS)

    def _all_journals(self) -> list[Journal]:
        run_ids = self.run_ids()
        if not run_ids:
            return []
        from wanrec.state.journal import read_journal

        found = (read_journal(self.journal_path(run_id)) for run_id in run_ids)
        return [journal for journal in found if journal is not None]

    def _is_live(self, journal: Journal) -> bool:
        return self.locks.is_held(f"run-{journal.info.run_id}")

    def _root_id(self) -> str | None:
        data = read_regular(os.path.join(self._base, "root_id"))
        return None if data is None else data.decode("ascii", "replace").strip()

    def _belongs(self, state: State, root_id: str | None) -> bool:
        if root_id is not None:
            return state.root_id == root_id
        if self.inside_root:
            return True
        # A first write may be under way, or may have ended since the caller looked.
        pending = read_regular(os.path.join(self._base, "root_id.new")) or b""
        named = self._root_id() or pending.decode("ascii", "replace").strip()
        return named == state.root_id != ""


def _missing(where: str) -> WanrecError:
    return WanrecError(
        ErrorCode.STATE_MISSING,
        "this root has been managed before, but its state is gone",
        where=where,
        detail="starting afresh would forget owners, protection and pins",
        hint="wanrec state rebuild",
    )


def _foreign(where: str, theirs: str, ours: str | None) -> WanrecError:
    return WanrecError(
        ErrorCode.STATE_FOREIGN,
        "the state belongs to another root",
        where=where,
        detail=f"the state is of root {theirs or '(none)'}, this root is {ours or '(new)'}",
        hint="give the --root and --state that belong together, or wanrec state rebuild",
    )
