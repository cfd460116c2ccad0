"""Is a recorded model whole? Answered by stats alone, from a state that is decoded once.

An engine keeps one `PresentModels`. The decoded state is used again while the root, the state file
and every journal are, by their stats, the ones that were read; a state that was written a moment
ago is read again, because a second write in the same clock tick would look the same. Files are
looked at anew in every call, by the one trust rule.

Nothing here writes. Nothing is locked either: what is kept is replaced whole, so threads may share
an engine, and a forked child starts from a good copy.
"""

from __future__ import annotations

import os
import stat as stat_
import time

import attrs

from wanrec.reconcile.disk import Root
from wanrec.reconcile.engine_view import view_of
from wanrec.reconcile.errors import WanrecError
from wanrec.reconcile.trust import is_trusted
from wanrec.state.model import FileRecord, State
from wanrec.state.store import StateStore

__all__ = ["PresentModels", "Seen"]

SETTLE_S = 0.1
"""Longer than the tick of the clock that stamps files on the file systems in use."""

Folders = tuple[tuple[str, tuple[tuple[str, FileRecord], ...]], ...]


class Seen:
    """A state as it was read, and what was worked out from it. Treated as frozen."""

    __slots__ = ("_folders", "settled", "since", "stamp", "state")

    def __init__(self, stamp: object, since: float, settled: bool, state: State) -> None:
        self.stamp = stamp
        self.since = since
        self.settled = settled
        self.state = state
        self._folders: dict[str, Folders] = {}

    def folders(self, key: str) -> Folders:
        """The recorded files of a model: folder → names and records."""
        found = self._folders.get(key)
        if found is None:
            found = self._folders[key] = _by_folder(self.state, key)
        return found

    def with_required(self, key: str) -> list[str] | None:
        """The model and all that it requires; None when one of them is not recorded whole."""
        keys, todo = [], [key]
        while todo:
            name = todo.pop()
            record = self.state.models.get(name)
            if record is None or not record.spec_sha256:
                return None
            keys.append(name)
            todo.extend(other for other in record.requires if other not in keys)
        return keys


class PresentModels:
    """What one engine remembers between calls."""

    def __init__(self) -> None:
        self._seen: Seen | None = None
        self._hashed: dict[str, FileRecord] = {}

    def look(self, root: Root, store: StateStore) -> Seen:
        """The state as of now, decoded again only when anything that decides it has changed.

        Raises:
            WanrecError: STATE_MISSING, STATE_CORRUPT, STATE_NEWER, STATE_FOREIGN.
        """
        there = os.stat(root.path)
        stamp = (there.st_dev, there.st_ino, store.stamp(""))
        now = time.monotonic()
        last = self._seen
        same = last is not None and last.stamp == stamp
        if last is not None and same and last.settled:
            return last
        view = view_of(root, store)
        since = last.since if last is not None and same else now
        settled = same and now - since >= SETTLE_S and not view.pending
        self._seen = seen = Seen(stamp, since, settled, view.state)
        return seen

    def is_whole(self, root: Root, seen: Seen, key: str) -> bool:
        """True when every recorded file of the model, and of what it requires, is trusted."""
        keys = seen.with_required(key)
        return keys is not None and all(self._doubts(root, seen, name) == [] for name in keys)

    def is_whole_by_hash(
        self, root: Root, seen: Seen, key: str, now_ns: int, *, everything: bool
    ) -> bool:
        """As `is_whole`, hashing what its stats leave in doubt; for where nothing may be written.

        What was hashed is remembered for the life of this object.
        """
        for name in seen.with_required(key) or [""]:
            doubts = self._doubts(root, seen, name) if name else None
            if doubts is None:
                return False
            if everything:
                doubts = [record for _, files in seen.folders(name) for _, record in files]
            if not all(self._hash(root, record, now_ns) for record in doubts):
                return False
        return True

    def _doubts(self, root: Root, seen: Seen, key: str) -> list[FileRecord] | None:
        """Records that only a hash can confirm; None when a file is surely not as recorded."""
        doubts: list[FileRecord] = []
        for folder, files in seen.folders(key):
            try:
                with root.folder(folder) as (fd, prefix):
                    for name, record in files:
                        st = os.stat(prefix + name, dir_fd=fd, follow_symlinks=False)
                        if not stat_.S_ISREG(st.st_mode) or st.st_size != record.size:
                            return None
                        if not self._believed(record, st):
                            doubts.append(record)
            except (OSError, WanrecError):
                return None
        return doubts

    def _believed(self, record: FileRecord, st: os.stat_result) -> bool:
        facts = (st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino)
        if is_trusted(record, *facts):
            return True
        own = self._hashed.get(record.path)
        return own is not None and own.sha256 == record.sha256 and is_trusted(own, *facts)

    def _hash(self, root: Root, record: FileRecord, now_ns: int) -> bool:
        from wanrec.reconcile.content import hash_fd
        from wanrec.reconcile.stage_identity import rfc3339

        try:
            fd = root.open_read(record.path)
        except WanrecError:
            return False
        try:
            before = os.fstat(fd)
            digest, _ = hash_fd(fd, before.st_size)
            after = os.fstat(fd)
        finally:
            os.close(fd)
        steady = (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)
        if digest != record.sha256 or not steady:
            return False
        self._hashed[record.path] = attrs.evolve(
            record,
            mtime_ns=after.st_mtime_ns,
            ctime_ns=after.st_ctime_ns,
            ino=after.st_ino,
            verified_at=rfc3339(now_ns),
        )
        return True


def _by_folder(state: State, key: str) -> Folders:
    prefix = f"{key}::"
    grouped: dict[str, list[tuple[str, FileRecord]]] = {}
    for address, record in state.files.items():
        if address.startswith(prefix):
            folder, _, name = record.path.rpartition("/")
            grouped.setdefault(folder, []).append((name, record))
    return tuple((folder, tuple(files)) for folder, files in grouped.items())
