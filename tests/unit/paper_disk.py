"""A disk and an executor made of dicts: what a plan would do, done without a file system.

`PaperDisk` holds root-relative path → `Inode`. `observe` sees it as the real observer does: a stat
of every wanted and recorded path, a hash where a file is not recorded and its size fits (or
everywhere, when deep). `PaperDisk.apply` carries out the actions of a plan one after the other and
refuses what no executor may do: to put bytes on a final path whose hash it has not seen, to wait
for an action that comes later, to delete what no record names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime

import attrs

from wanrec.reconcile.actions import Action, Plan
from wanrec.reconcile.model import (
    ActionKind,
    Desired,
    EntryKind,
    FileFact,
    Observed,
    Reason,
    Via,
)
from wanrec.reconcile.plan_scope import record_after, record_of
from wanrec.state.model import FileRecord, ModelRecord, State

SECOND = 1_000_000_000


def sha(content: bytes) -> str:
    """Return the hash of some bytes."""
    return hashlib.sha256(content).hexdigest()


@attrs.define
class Inode:
    """One file: its bytes and the identity a stat shows."""

    content: bytes
    ino: int
    mtime_ns: int
    ctime_ns: int


class PaperDisk:
    """A root directory with a clock of its own that moves one second with every touch."""

    def __init__(self) -> None:
        self.files: dict[str, Inode] = {}
        self.odd: dict[str, EntryKind] = {}
        self.clock = 1_700_000_000 * SECOND
        self.fetched = 0
        self._inodes = 0

    def tick(self) -> int:
        """Let a second pass and return the new time."""
        self.clock += SECOND
        return self.clock

    def put(self, path: str, content: bytes) -> None:
        """Write a new file."""
        self._inodes += 1
        now = self.tick()
        self.files[path] = Inode(content, self._inodes, now, now)

    def touch(self, path: str) -> None:
        """Change only the clock of a file."""
        node = self.files[path]
        node.mtime_ns = node.ctime_ns = self.tick()

    def spoil(self, path: str) -> None:
        """Change bytes under the same size; ctime tells, as on a real disk."""
        node = self.files[path]
        node.content = bytes(byte ^ 1 for byte in node.content)
        node.ctime_ns = self.tick()

    def now(self) -> str:
        """Return the time as records write it, one second on."""
        stamp = datetime.fromtimestamp(self.tick() // SECOND, tz=UTC)
        return stamp.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def fact(self, path: str, *, hashed: bool) -> FileFact | None:
        """Return what a look at one path shows."""
        if path in self.odd:
            return FileFact(kind=self.odd[path])
        node = self.files.get(path)
        if node is None:
            return None
        return FileFact(
            kind=EntryKind.FILE,
            size=len(node.content),
            mtime_ns=node.mtime_ns,
            ctime_ns=node.ctime_ns,
            ino=node.ino,
            dev=1,
            nlink=sum(other is node for other in self.files.values()),
            sha256=sha(node.content) if hashed else None,
        )

    def observe(self, desired: Desired, state: State, *, deep: bool = False) -> Observed:
        """Look at every wanted and recorded path."""
        facts: dict[str, FileFact] = {}
        for address, record in state.files.items():
            if seen := self.fact(record.path, hashed=deep):
                facts[address] = seen
        named = {record.path for record in state.files.values()}
        for model in desired.models:
            for spec in model.files:
                address, place = f"{model.key}::{spec.path}", f"{model.directory}/{spec.path}"
                named.add(place)
                if address not in state.files:
                    fits = place in self.files and spec.size == len(self.files[place].content)
                    if seen := self.fact(place, hashed=deep or fits):
                        facts[address] = seen
        return Observed(facts=facts, foreign=tuple(sorted(self.files.keys() - named)))

    def apply(
        self, plan: Plan, desired: Desired, state: State, sources: Iterable[bytes], steps: int = -1
    ) -> State:
        """Carry out a plan, or its first `steps` actions, and return the new state."""
        run = _Run(self, desired, state, {sha(content): content for content in sources}, plan)
        done: set[str] = set()
        for action in plan.actions if steps < 0 else plan.actions[:steps]:
            assert set(action.depends_on) <= done, f"{action.address} waits for a later action"
            run.carry_out(action)
            done.add(action.address)
        if 0 <= steps < len(plan.actions):
            return run.state(whole=False)
        return run.state(whole=True)


class _Run:
    def __init__(
        self,
        disk: PaperDisk,
        desired: Desired,
        state: State,
        sources: dict[str, bytes],
        plan: Plan,
    ) -> None:
        self.disk, self.old, self.sources, self.plan = disk, state, sources, plan
        self.wanted = {model.key: model for model in desired.models}
        self.files = dict(state.files)
        self.models = dict(state.models)

    def carry_out(self, action: Action) -> None:
        match action.action:
            case ActionKind.CREATE | ActionKind.REPLACE:
                self._bring(action)
            case ActionKind.ADOPT:
                if action.via is Via.LINK:
                    self._bring(action)
                else:
                    assert action.sha256 == sha(self.disk.files[self._place(action)].content)
                    self._record(action)
            case ActionKind.VERIFY:
                if sha(self.disk.files[self._place(action)].content) != action.sha256:
                    self._fetch(action)
                self._record(action)
            case ActionKind.MOVE:
                self._move(action)
            case ActionKind.DELETE:
                self.disk.files.pop(self.files.pop(action.address).path, None)
                self._let_go(action.key)
            case ActionKind.FORGET:
                del self.files[action.address]
                if action.reason is not Reason.MISSING:
                    self._let_go(action.key)

    def _place(self, action: Action) -> str:
        return f"{self.wanted[action.key].directory}/{action.path}"

    def _bring(self, action: Action) -> None:
        donor = self.files.get(action.donor or "")
        node = self.disk.files.get(donor.path) if donor is not None else None
        if action.via is Via.LINK:
            assert node is not None, f"the donor of {action.address} is not there"
            assert sha(node.content) == action.sha256
            self.disk.files[self._place(action)] = node
            node.ctime_ns = self.disk.tick()
            for address, record in self.files.items():  # one identity per inode, kept fresh
                if self.disk.files.get(record.path) is node:
                    self.files[address] = self._identity(record, node)
        else:
            self._fetch(action)
        self._record(action)

    def _move(self, action: Action) -> None:
        node = self.disk.files.pop(self.files.pop(action.donor or "").path)
        if sha(node.content) == action.sha256:
            self.disk.files[self._place(action)] = node
        else:  # it was doubtful, and now it is known to be wrong
            self._fetch(action)
        self._record(action)

    def _fetch(self, action: Action) -> None:
        content = self.sources[action.sha256 or ""]
        self.disk.fetched += len(content)
        self.disk.put(self._place(action), content)

    def _identity(self, record: FileRecord, node: Inode) -> FileRecord:
        return attrs.evolve(
            record,
            mtime_ns=node.mtime_ns,
            ctime_ns=node.ctime_ns,
            ino=node.ino,
            verified_at=self.disk.now(),
        )

    def _record(self, action: Action) -> None:
        place = self._place(action)
        node = self.disk.files[place]
        assert sha(node.content) == action.sha256, f"unhashed bytes at {place}"
        record = FileRecord(
            path=place,
            size=len(node.content),
            sha256=sha(node.content),
            mtime_ns=0,
            ctime_ns=0,
            ino=0,
            dev=1,
            verified_at="",
        )
        self.files[action.address] = self._identity(record, node)
        model = self.wanted[action.key]
        if not self.plan.options.refresh_only:
            old = self.models.get(action.key)
            self.models[action.key] = record_of(model, old, self.plan.options.project)

    def _let_go(self, key: str) -> None:
        left = any(address.startswith(f"{key}::") for address in self.files)
        if not left:
            del self.models[key]

    def state(self, *, whole: bool) -> State:
        """Return the state after the actions; record edits are written at the end."""
        project = self.plan.options.project
        for change in self.plan.records if whole else ():
            record = self.models.get(change.model)
            if record is not None:
                self.models[change.model] = record_after(record, [change], project)
        models: dict[str, ModelRecord] = {}
        for key, record in self.models.items():
            has_files = any(address.startswith(f"{key}::") for address in self.files)
            unwanted = key not in self.wanted and not has_files
            if not unwanted and (record.owners or has_files):
                models[key] = record
        return attrs.evolve(
            self.old,
            lineage=self.old.lineage or "a-lineage",
            serial=self.old.serial + 1,
            models=models,
            files=dict(sorted(self.files.items())),
        )
