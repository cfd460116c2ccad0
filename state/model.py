"""What the state remembers: values only, and the pure rules for changing them.

The file format (names, meaning) is the contract's, section 5; `state.codec` turns these values
into bytes and back. Keys of `State.models` are model keys, keys of `State.files` are addresses;
`FileRecord.path` is relative to the root, so that a state explains a disk without any spec.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from wanrec.reconcile.facts import Assurance, Presence

__all__ = [
    "STATE_FORMAT_VERSION",
    "FileRecord",
    "ModelCommit",
    "ModelRecord",
    "Owner",
    "PlanProgress",
    "ProjectRecord",
    "State",
    "apply_commits",
    "apply_identities",
    "files_by_model",
    "fold_run",
    "lock_name",
    "reach_name",
]

STATE_FORMAT_VERSION = 1


@attrs.frozen(kw_only=True)
class FileRecord:
    """One file wanrec put (or found) under the root.

    Attributes:
        path: POSIX path relative to the root.
        mtime_ns, ctime_ns, ino, dev: stat identity right after wanrec's own last touch.
        verified_at: RFC 3339 UTC with microseconds; the moment the hash was last known good.
        source: who delivered it, free of user info and query.
    """

    path: str
    size: int
    sha256: str
    mtime_ns: int
    ctime_ns: int
    ino: int
    dev: int
    verified_at: str
    assurance: Assurance = Assurance.VERIFIED
    source: str | None = None
    revision: str | None = None
    etag: str | None = None

    def same_content(self, other: FileRecord) -> bool:
        """True when only stat identity or `verified_at` differ: no new serial is due."""
        return (self.path, self.size, self.sha256, self.assurance, self.source) == (
            other.path,
            other.size,
            other.sha256,
            other.assurance,
            other.source,
        ) and (self.revision, self.etag) == (other.revision, other.etag)


@attrs.frozen(kw_only=True, order=True)
class Owner:
    """A project that wants a model, and the spec file it says so in."""

    project: str
    spec: str


@attrs.frozen(kw_only=True)
class ModelRecord:
    """One model on the disk. `generation` counts its commits and orders journals.

    `spec_sha256` is `DesiredModel.spec_sha256` as of the last apply; `directory` is relative to
    the root; `requires` are model keys (gc must not evict a requirement); `default_variant` is the
    one that NAME or ID alone mean, None where there are no variants or nobody recorded it yet.
    """

    spec_sha256: str
    owners: tuple[Owner, ...] = ()
    protect: bool = False
    pinned: bool = False
    presence: Presence = Presence.REQUIRED
    applied_at: str = ""
    directory: str = ""
    generation: int = 1
    requires: tuple[str, ...] = ()
    default_variant: str | None = None


@attrs.frozen(kw_only=True)
class ProjectRecord:
    """Where a project was last applied from (guards the project name `default`)."""

    directory: str


@attrs.frozen(kw_only=True)
class PlanProgress:
    """The saved plan that the last content change belongs to.

    A state whose serial equals `serial` and whose `plan` is P differs from the state P was made
    from (`base_serial`) only by what P itself did: P may go on, unless it is `done`.
    """

    plan: str
    base_serial: int
    serial: int
    done: bool = False


@attrs.frozen(kw_only=True)
class State:
    """The whole state, frozen.

    Attributes:
        folded: runs whose journals are already part of it.
        extra: fields another wanrec wrote and this one does not know, kept as they came:
            (table, key) → field → value, with ("", "") for the file itself. None: there are none.
    """

    format_version: int = STATE_FORMAT_VERSION
    wanrec_version: str = ""
    lineage: str = ""
    serial: int = 0
    root_id: str = ""
    models: Mapping[str, ModelRecord] = attrs.field(factory=dict)
    files: Mapping[str, FileRecord] = attrs.field(factory=dict)
    projects: Mapping[str, ProjectRecord] = attrs.field(factory=dict)
    last_plan: PlanProgress | None = None
    folded: tuple[str, ...] = ()
    extra: Mapping[tuple[str, str], Mapping[str, object]] | None = None


@attrs.frozen(kw_only=True)
class ModelCommit:
    """The new truth about one model; replaces its record and the records of all its files.

    Attributes:
        key: model key.
        model: the new record, or None when the model is gone or forgotten.
        files: path inside the model → record (empty when gone).
    """

    key: str
    model: ModelRecord | None
    files: Mapping[str, FileRecord] = attrs.field(factory=dict)


def lock_name(key: str) -> str:
    """The name of a model's lock: readable, and safe as a file name."""
    return "model-" + key.replace("[", "@").rstrip("]")


def reach_name(key: str) -> str:
    """The name of the lock that a run shares on a model it builds upon, against gc."""
    return f"gc-{lock_name(key)}"


def files_by_model(files: Mapping[str, FileRecord]) -> dict[str, dict[str, FileRecord]]:
    """Group address → record into key → {path inside the model → record}."""
    grouped: dict[str, dict[str, FileRecord]] = {}
    last_key, bucket = None, {}
    for address, record in files.items():
        key, _, path = address.partition("::")
        if key != last_key:
            bucket = grouped.setdefault(key, {})
            last_key = key
        bucket[path] = record
    return grouped


def apply_commits(state: State, commits: Iterable[ModelCommit]) -> State:
    """Return the state with the commits taken over, oldest first.

    A commit of an older or equal generation than the one recorded is stale and ignored, so
    replaying a journal twice changes nothing. `serial` grows by one when any content changed
    (identities and `verified_at` are not content).
    """
    commits = tuple(commits)
    if not commits:
        return state
    models = dict(state.models)
    by_model: dict[str, Mapping[str, FileRecord]] = dict(files_by_model(state.files))
    content_changed = touched = False
    for commit in commits:
        old = models.get(commit.key)
        if old is not None and commit.model and commit.model.generation <= old.generation:
            continue
        touched = True
        old_files = by_model.get(commit.key, {})
        content_changed |= _content_differs(old, old_files, commit)
        models.pop(commit.key, None)
        by_model.pop(commit.key, None)
        if commit.model is not None:
            models[commit.key] = commit.model
            by_model[commit.key] = commit.files
    if not touched:
        return state
    files = {
        f"{key}::{path}": record
        for key, records in sorted(by_model.items())
        for path, record in sorted(records.items())
    }
    return attrs.evolve(
        state,
        models=dict(sorted(models.items())),
        files=files,
        serial=state.serial + content_changed,
    )


def apply_identities(state: State, updates: Mapping[str, FileRecord]) -> State:
    """Return the state with new stat identities for inodes that wanrec itself touched.

    Linking or unlinking one name moves the ctime of every other name of that inode. An update
    counts only while the record still speaks of the same bytes on the same inode.
    """
    files = dict(state.files)
    changed = False
    for address, update in updates.items():
        old = files.get(address)
        if old is None or (old.sha256, old.size, old.ino) != (
            update.sha256,
            update.size,
            update.ino,
        ):
            continue
        files[address] = attrs.evolve(
            old,
            mtime_ns=update.mtime_ns,
            ctime_ns=update.ctime_ns,
            dev=update.dev,
            verified_at=max(old.verified_at, update.verified_at),
        )
        changed = True
    return attrs.evolve(state, files=files) if changed else state


def _content_differs(
    old: ModelRecord | None, old_files: Mapping[str, FileRecord], commit: ModelCommit
) -> bool:
    if old is None or commit.model is None:
        return old is not None or commit.model is not None
    if attrs.evolve(old, applied_at="", generation=0) != attrs.evolve(
        commit.model, applied_at="", generation=0
    ):
        return True
    if old_files.keys() != commit.files.keys():
        return True
    return any(not old_files[path].same_content(new) for path, new in commit.files.items())


def fold_run(
    state: State,
    commits: Iterable[ModelCommit],
    *,
    plan: str | None,
    base_serial: int,
    projects: Mapping[str, ProjectRecord],
    plan_done: bool = False,
) -> State:
    """Return the state after one run: its commits, its project records, its plan's progress.

    The run's saved plan stays resumable only when nothing but this plan changed the content
    since the state the plan was made from; any other change of content ends it.
    """
    after = apply_commits(state, commits)
    if any(state.projects.get(name) != record for name, record in projects.items()):
        after = attrs.evolve(after, projects=dict(sorted({**state.projects, **projects}.items())))
    if after.serial == state.serial and not plan_done:
        return after
    progress = _progress(state, plan, base_serial, after.serial)
    if progress is not None and plan_done:
        progress = attrs.evolve(progress, done=True)
    return attrs.evolve(after, last_plan=progress)


def _progress(
    before: State, plan: str | None, base_serial: int, serial: int
) -> PlanProgress | None:
    if plan is None:
        return None
    last = before.last_plan
    if last is not None and last.plan == plan and last.serial == before.serial:
        return PlanProgress(plan=plan, base_serial=last.base_serial, serial=serial)
    if before.serial == base_serial:
        return PlanProgress(plan=plan, base_serial=base_serial, serial=serial)
    return None
