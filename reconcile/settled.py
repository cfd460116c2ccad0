"""A note that nothing was to be done: the next run needs only look whether that still holds.

A plan is a function of specs, state and disk. One that came out empty leaves a note below
`.wanrec/cache/`: digests of the specs, the stamp of the state, and what a stat must say of every
recorded file. While all of it still holds, the next plan is empty again, and so is a drift check,
and 100,000 records need not be decoded to say so. Whatever differs in any way means: look
properly. The note can only ever say "as before"; it is never a source of what is wanted, of a
hash, or of a reason to act, and whoever could forge it could forge the state beside it.

Writing it is best effort: a root that cannot be written to is looked at properly every time.
"""

from __future__ import annotations

import os
import stat as stat_
from binascii import crc32
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from wanrec.reconcile.disk import Root
from wanrec.reconcile.disk_paths import WANREC_DIR
from wanrec.reconcile.disk_scan import NOBODYS
from wanrec.reconcile.disk_walk import Tree
from wanrec.reconcile.errors import WanrecError

if TYPE_CHECKING:
    from wanrec.state.model import State
    from wanrec.state.store import StateStore

__all__ = ["Note", "key_of", "recall", "remember"]

_CACHE = f"{WANREC_DIR}/cache"
_MAX_BYTES = 1 << 30
_FORMAT = 2


class Folder(NamedTuple):
    """One folder: how many names it has, its files by name and, side by side, their identity."""

    path: str
    entries: int
    names: list[str]
    sizes: list[int]
    mtimes_ns: list[int]
    ctimes_ns: list[int]
    inodes: list[int]


class Note(NamedTuple):
    """What was true when nothing was to be done.

    Attributes:
        key: wanrec version, project and state, see `key_of`.
        sources: spec, lock and defaults files → sha256.
        lineage, serial: of the state.
        models: every recorded model key, sorted.
        folders: every folder of these models.
        above: the root and each folder these models lie in → the names that lead to one.
    """

    format_version: int
    key: str
    sources: dict[str, str]
    lineage: str
    serial: int
    models: list[str]
    folders: list[Folder]
    above: dict[str, list[str]]

    @property
    def files(self) -> int:
        """How many files are recorded."""
        return sum(len(folder.names) for folder in self.folders)


def key_of(root: Tree, store: StateStore, *facts: object) -> str | None:
    """Name the state and all `facts` a note depends on; None while a run is under way or dead."""
    if store.run_ids():
        return None
    mark = root.stat(f"{WANREC_DIR}/root_id")
    return repr((store.where, store.stamp(""), mark.ino, mark.mtime_ns, *facts))


def recall(
    root: Tree, key: str, project: str, sources: Mapping[str, str] | None = None
) -> Note | None:
    """Return the note when it is for this key and the disk is still as it says.

    Args:
        root: open for reading.
        key: of the present, from `key_of`.
        project: names the note.
        sources: digests of the specs, which must be those of the note; None: do not matter.
    """
    note = _read(root, project)
    if note is None or note.format_version != _FORMAT or note.key != key:
        return None
    if sources is not None and note.sources != sources:
        return None
    if not all(_nothing_beside(root, *place) for place in note.above.items()):
        return None
    return note if all(_as_noted(root, folder) for folder in note.folders) else None


def remember(
    root: Root,
    key: str,
    project: str,
    sources: Mapping[str, str],
    state: State,
    own: Collection[str] = (),
) -> None:
    """Leave a note, if every record can be believed by its stat; what cannot be written is not.

    `own`: what else of ours lies beside the models.
    """
    folders = _folders(state)
    if folders is None:
        return
    import json

    note = Note(
        format_version=_FORMAT,
        key=key,
        sources=dict(sources),
        lineage=state.lineage,
        serial=state.serial,
        models=sorted(state.models),
        folders=folders,
        above=_leading(state, own),
    )
    try:
        root.make_dirs(_CACHE)
        root.write_atomic(_place(project), json.dumps(note, separators=(",", ":")).encode())
    except WanrecError:
        return


def _place(project: str) -> str:
    return f"{_CACHE}/settled-{crc32(project.encode('utf-8', 'surrogateescape')):08x}"


def _read(root: Tree, project: str) -> Note | None:
    """Return the note; one that is damaged is none."""
    import json

    place = _place(project)
    try:
        if not 0 < root.stat(place).size < _MAX_BYTES:
            return None
        with open(root.open_read(place), "rb") as file:
            note = Note(*json.loads(file.read()))
        if not isinstance(note.above, dict):
            return None
        return note._replace(folders=[Folder(*row) for row in note.folders])
    except (WanrecError, OSError, ValueError, TypeError, RecursionError):
        return None


def _as_noted(root: Tree, folder: Folder) -> bool:
    """The hot loop of a run without changes.

    As many names as noted, and each noted one is there (folders are looked at by themselves): so
    there is no other name.
    """
    stat, regular = os.stat, stat_.S_IFREG
    rows = zip(
        folder.names,
        folder.sizes,
        folder.mtimes_ns,
        folder.ctimes_ns,
        folder.inodes,
        strict=True,
    )
    try:
        with root.folder(folder.path) as (fd, prefix):
            if len(os.listdir(prefix if fd is None else fd)) != folder.entries:
                return False
            for name, size, mtime_ns, ctime_ns, ino in rows:
                st = stat(prefix + name, dir_fd=fd, follow_symlinks=False)
                if (
                    st.st_ino != ino
                    or st.st_size != size
                    or st.st_mtime_ns != mtime_ns
                    or st.st_ctime_ns != ctime_ns
                    or st.st_mode & 0o170000 != regular
                ):
                    return False
    except (OSError, WanrecError, ValueError, TypeError, AttributeError):
        return False  # gone, unreadable, or a note that somebody has damaged
    return True


def _nothing_beside(root: Tree, folder: str, leading: Collection[str]) -> bool:
    """True when a folder above model directories has no name but those that lead to one."""
    try:
        with root.folder(folder) as (fd, prefix):
            listed = os.listdir(prefix if fd is None else fd)
        return NOBODYS.union(leading).issuperset(listed)
    except (OSError, WanrecError, ValueError, TypeError):
        return False


def _leading(state: State, own: Collection[str]) -> dict[str, list[str]]:
    """Return the folders above the recorded models and the names in each that lead to one."""
    from wanrec.reconcile.disk_scan import above

    tops = {model.directory for model in state.models.values()}
    names: dict[str, list[str]] = {folder: [] for folder in sorted(above(tops) | {""})}
    for path in sorted(tops.union(own, names) - {""}):
        folder, _, name = path.rpartition("/")
        if folder in names:
            names[folder].append(name)
    return names


def _folders(state: State) -> list[Folder] | None:
    """Return what must be there, None when a record cannot be believed or lies elsewhere."""
    from wanrec.reconcile.disk_scan import with_parents
    from wanrec.reconcile.trust import is_trusted

    tops = frozenset(model.directory for model in state.models.values())
    if "" in tops:
        return None
    places: dict[str, Folder] = {}
    for record in state.files.values():
        if not is_trusted(record, record.size, record.mtime_ns, record.ctime_ns, record.ino):
            return None
        path, _, name = record.path.rpartition("/")
        folder = places.get(path)
        if folder is None:
            folder = places[path] = Folder(path, 0, [], [], [], [], [])
        folder.names.append(name)
        folder.sizes.append(record.size)
        folder.mtimes_ns.append(record.mtime_ns)
        folder.ctimes_ns.append(record.ctime_ns)
        folder.inodes.append(record.ino)
    own = with_parents(places, tops) | tops
    if not own.issuperset(places):
        return None
    return _counted(places, own)


def _counted(places: Mapping[str, Folder], own: Iterable[str]) -> list[Folder]:
    """Complete the folders, each with the number of its files and sub-folders."""
    folders = dict.fromkeys(own, 0)
    for path in folders:
        parent = path.rpartition("/")[0]
        if parent in folders:
            folders[parent] += 1
    empty = Folder("", 0, [], [], [], [], [])
    return [
        (folder := places.get(path, empty))._replace(path=path, entries=below + len(folder.names))
        for path, below in sorted(folders.items())
    ]
