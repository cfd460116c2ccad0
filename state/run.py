"""Values of a run: who it is, what it is about to swap, what it has committed.

They are written to the run's journal as they are (`state.journal`) and read back by whoever
recovers a run that died.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from wanrec.state.model import FileRecord, ModelCommit, ModelRecord, ProjectRecord

__all__ = [
    "CommitEntry",
    "HistoryEntry",
    "Retirement",
    "RunHeader",
    "RunInfo",
    "Salvage",
    "SwapIntent",
]


@attrs.frozen(kw_only=True)
class RunHeader:
    """What a run sets out to do.

    Attributes:
        operation: the command's name, for people.
        project: on whose behalf; project records of the run are filed under this name.
        plan: id of the saved plan it carries out, or None.
        base_serial: serial of the state that its plan was made from.
        directory: where the project is applied from; empty when that is not to be recorded.
    """

    operation: str
    project: str = "default"
    plan: str | None = None
    base_serial: int = 0
    directory: str = ""

    @property
    def projects(self) -> dict[str, ProjectRecord]:
        """What the state is to remember of the project, by its name."""
        return {self.project: ProjectRecord(directory=self.directory)} if self.directory else {}


@attrs.frozen(kw_only=True)
class RunInfo:
    """A run as others see it. `started` is RFC 3339 UTC."""

    run_id: str
    header: RunHeader
    pid: int
    host: str
    started: str


@attrs.frozen(kw_only=True)
class SwapIntent:
    """A model directory is about to be replaced; enough to finish or to notice it was finished.

    Attributes:
        key: model key.
        stage: root-relative path of the new tree.
        directory: root-relative path of the model directory.
        stage_ino: inode of the new tree's top directory: where it lies tells how far it got.
        two_step: the file system cannot exchange; old away, then new in.
        retired: root-relative path the old directory goes to, None when there is none.
        commit: what to record once the new tree is in place.
        gone: paths of the old directory that are wanrec's and not in the commit; whatever else
            lies there and is not in the commit either is the user's own.
    """

    key: str
    stage: str
    directory: str
    stage_ino: int
    two_step: bool
    retired: str | None
    commit: ModelCommit
    gone: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Retirement:
    """An old model directory that waits for its readers. `names` are relative to the root."""

    path: str
    until: str
    names: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class CommitEntry:
    """A commit with the moment it was journaled, which orders commits of several runs."""

    commit: ModelCommit
    at_ns: int


@attrs.frozen(kw_only=True)
class HistoryEntry:
    """One fold, for `state history`. `models` are the keys of the models that were committed."""

    serial: int
    wanrec_version: str
    at: str
    run: str = ""
    operation: str = ""
    project: str = ""
    models: tuple[str, ...] = ()
    lineage: str = ""


@attrs.frozen(kw_only=True)
class Salvage:
    """What is left of a lost or damaged state. Records are memories, not facts: hash the disk.

    Attributes:
        lineage: of the newest readable source, None when there is none.
        serial: the highest serial seen.
        origins: names of the files it was read from.
    """

    lineage: str | None
    serial: int
    models: Mapping[str, ModelRecord]
    files: Mapping[str, FileRecord]
    projects: Mapping[str, ProjectRecord]
    origins: tuple[str, ...] = ()
