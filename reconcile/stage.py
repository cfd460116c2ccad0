"""Builds a model's next directory aside, puts it in place in one step, clears the old one later.

In: an opened root, what the next directory holds and where each file's bytes are. Out: a directory
that is either the old one or the new one at every instant. Nothing here decides what belongs into
a model, and nothing here removes a name that wanrec did not record.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import attrs

from wanrec.reconcile import content
from wanrec.reconcile.disk import Root, fact_of
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.facts import EntryKind, FileFact, Via
from wanrec.reconcile.stage_identity import IdentityLog, same_identity

__all__ = [
    "BLOBS",
    "MOST_HELD",
    "STAGE",
    "TREES",
    "Modes",
    "Placement",
    "build_tree",
    "move_foreign_back",
    "parents_of",
    "private_stage",
    "purge",
    "remove_empty_dirs",
    "swap_in",
]

STAGE = ".wanrec/stage"
BLOBS = f"{STAGE}/blob"
TREES = f"{STAGE}/tree"

MOST_HELD = 64
"""Folders of one tree that are held open at once; the others are opened for each file."""


def private_stage(run_id: str) -> str:
    """Where one run keeps its verified files: nobody else may take them while it lives."""
    return f"{STAGE}/{run_id}"


@attrs.frozen(kw_only=True)
class Modes:
    """Permission bits of model files and directories; how equal bytes are shared.

    `links`: they become one inode. `clones`: one set of blocks, where the file system can.
    """

    file: int = 0o444
    directory: int = 0o755
    links: bool = True
    clones: bool = True


@attrs.frozen(kw_only=True)
class Placement:
    """One file of the next directory.

    Attributes:
        path: where it goes, relative to the model directory.
        origin: root-relative path of the bytes, verified by the caller.
        take: True when the origin is a private staged file that may be moved instead of linked.
        identity: what a stat of the origin must still say, so that no byte changed since it
            was verified; None when the caller can't say (a file outside this run's selection).
        sha256: of the bytes, to tell a moved clock from a changed file.
        shared: the bytes stay where they are, too, as a file of their own.
    """

    path: str
    origin: str
    take: bool
    identity: FileFact | None
    sha256: str | None = None
    shared: bool = False


def build_tree(
    root: Root, tree: str, placements: Iterable[Placement], modes: Modes, log: IdentityLog
) -> dict[str, Via]:
    """Fill the private directory `tree`; return path → how the bytes came there.

    Raises:
        WanrecError: CONCURRENT_MODIFICATION when a file changed since it was verified; whatever
            the disk says otherwise.
    """
    ways: dict[str, Via] = {}
    placements = tuple(placements)
    parents = parents_of(tree, (placement.path for placement in placements))
    for parent in (tree, *parents):
        root.make_dirs(parent, modes.directory)
    with root.held(*parents[:MOST_HELD]):
        for placement in placements:
            ways[placement.path] = _place_logged(root, placement, tree, modes, log)
    return ways


def parents_of(tree: str, paths: Iterable[str]) -> list[str]:
    """The folders that files at these paths below `tree` lie in, sorted."""
    return sorted({f"{tree}/{path}".rpartition("/")[0] for path in paths})


def _place_logged(
    root: Root, placement: Placement, tree: str, modes: Modes, log: IdentityLog
) -> Via:
    target = f"{tree}/{placement.path}"
    with log.guard:
        before = root.stat(placement.origin)
        _confirm(root, placement, before, log)
        via = _place(root, placement, target, modes, before)
        if not placement.take:
            after = root.stat(target)
            if after.ino == before.ino:
                log.touched(before, after)
    return via


def _confirm(root: Root, placement: Placement, before: FileFact, log: IdentityLog) -> None:
    """Make sure that no byte changed since the caller verified the origin.

    Another model that shares the inode may have been linked meanwhile: by this run, which the log
    knows, or by another one, and then only the hash decides.
    """
    seen = placement.identity
    if seen is None or same_identity(before, seen):
        return
    now = log.after(seen.ino, seen.size, seen.mtime_ns, seen.ctime_ns)
    if now is not None and same_identity(before, now):
        return
    untouched = (before.kind, before.ino, before.size) == (EntryKind.FILE, seen.ino, seen.size)
    if not (untouched and _hash(root, placement.origin, before.size) == placement.sha256):
        raise _changed(placement)


def _changed(placement: Placement) -> WanrecError:
    return WanrecError(
        ErrorCode.CONCURRENT_MODIFICATION,
        f"{placement.origin} changed after it was verified",
        where=placement.origin,
        hint="wanrec apply",
    )


def _hash(root: Root, rel: str, size: int) -> str:
    fd = root.open_read(rel)
    try:
        return content.hash_fd(fd, size)[0]
    finally:
        os.close(fd)


def _place(root: Root, placement: Placement, target: str, modes: Modes, before: FileFact) -> Via:
    if placement.take:
        if before.nlink == 1:  # other names: adopted by a hard link
            root.chmod(placement.origin, modes.file)
        root.rename(placement.origin, target)
        return Via.FETCH
    if (modes.links or not placement.shared) and root.link(placement.origin, target):
        return Via.LINK
    clone = modes.clones or not placement.shared
    via = root.clone_or_copy(placement.origin, target, clone=clone)
    root.chmod(target, modes.file)
    # What was verified is the origin; it may have changed while it was copied.
    if placement.sha256 and _hash(root, target, root.stat(target).size) != placement.sha256:
        raise _changed(placement)
    return via


def swap_in(root: Root, tree: str, directory: str, *, two_step: bool) -> str | None:
    """Put `tree` at `directory`; return where the old directory now is, or None without one.

    One rename when nothing is there, else one exchange; with `two_step` (no exchange on this
    file system) two renames, which the journal's intent repairs after a crash in between.
    """
    parent = directory.rpartition("/")[0]
    old: str | None = None
    if parent:
        _make_lasting(root, parent)
    if root.stat(directory).kind is EntryKind.MISSING and root.rename_noreplace(tree, directory):
        pass
    elif two_step:
        old = f"{tree}.old"
        root.rename(directory, old)
        root.rename(tree, directory)
    elif root.exchange(tree, directory):
        old = tree
    else:
        raise WanrecError(
            ErrorCode.FILESYSTEM_ERROR,
            f"{directory} cannot be exchanged in one step on this file system",
            where=directory,
            hint="wanrec doctor",
        )
    root.fsync_dir(parent)
    root.fsync_dir(tree.rpartition("/")[0])
    return old


def _make_lasting(root: Root, folder: str) -> None:
    """Make the folders above a model; what is new survives a power cut like the model itself."""
    if root.stat(folder).kind is EntryKind.DIRECTORY:
        return
    root.make_dirs(folder, 0o755)
    above = folder
    while above:
        above = above.rpartition("/")[0]
        root.fsync_dir(above)


def move_foreign_back(root: Root, old: str, directory: str, recorded: Iterable[str]) -> list[str]:
    """Move entries that no record names from the old directory into the new one.

    Returns their paths relative to the model directory. An entry whose name the new directory
    already uses stays where it is (its replacement was the user's own choice).
    """
    known = frozenset(recorded)
    moved = []
    for path in sorted(root.walk(old)):
        if path in known:
            continue
        target = f"{directory}/{path}"
        if root.stat(target).kind is not EntryKind.MISSING:
            continue
        parent = target.rpartition("/")[0]
        root.make_dirs(parent, 0o755)
        root.rename(f"{old}/{path}", target)
        moved.append(path)
    return moved


def purge(
    root: Root,
    tree: str,
    may_unlink: Callable[[str, FileFact], bool],
    log: IdentityLog,
) -> tuple[int, list[str]]:
    """Unlink what `may_unlink` names below `tree`, then the directories that became empty.

    Returns (bytes whose last name went, paths left alone).
    """
    freed, left = 0, []
    for path, before in sorted(root.walk(tree).items()):
        name = f"{tree}/{path}"
        if before.kind is EntryKind.DIRECTORY:
            continue
        if not may_unlink(path, before):
            left.append(path)
            continue
        freed += _unlink_logged(root, name, before, log)
    remove_empty_dirs(root, tree)
    return freed, left


def remove_empty_dirs(root: Root, directory: str) -> None:
    """Remove the folders below `directory`, and itself, as far as they are empty."""
    if root.stat(directory).kind is not EntryKind.DIRECTORY:
        return
    for path in reversed(root.folders(directory)):
        root.rmdir(f"{directory}/{path}")
    root.rmdir(directory)


def _unlink_logged(root: Root, name: str, before: FileFact, log: IdentityLog) -> int:
    if before.kind is not EntryKind.FILE or before.nlink <= 1:
        root.unlink(name)
        return before.size
    fd = root.open_read(name)
    try:
        with log.guard:
            before = fact_of(os.fstat(fd))
            root.unlink(name)
            log.touched(before, fact_of(os.fstat(fd)))
    finally:
        os.close(fd)
    return 0
