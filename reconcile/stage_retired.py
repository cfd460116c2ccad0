"""Remembers the old directories that wait until their readers are done.

One note a directory, written durably beside it: which names in it wanrec may unlink, and from
when. Nothing here removes anything.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

import attrs

from wanrec.reconcile.disk import Root
from wanrec.reconcile.disk_walk import Tree
from wanrec.reconcile.stage import STAGE

__all__ = ["RETIRED", "Retired", "read_retired", "waiting_names", "write_retired"]

RETIRED = f"{STAGE}/retired"


@attrs.frozen(kw_only=True)
class Retired:
    """An old directory that waits until its readers are done.

    Attributes:
        tree: where it lies, root-relative.
        until_ns: may be removed from then on (nanoseconds since the epoch).
        names: path inside it → [size, mtime_ns, ino] of the files wanrec may unlink.
    """

    tree: str
    until_ns: int
    names: Mapping[str, tuple[int, int, int]]

    @property
    def note(self) -> str:
        """The file that remembers this."""
        return f"{RETIRED}/{self.tree.rpartition('/')[2]}.json"


def write_retired(root: Root, retired: Retired) -> None:
    """Remember a retired directory durably, beside it."""
    document = {
        "tree": retired.tree,
        "until_ns": retired.until_ns,
        "names": {path: list(identity) for path, identity in sorted(retired.names.items())},
    }
    root.make_dirs(RETIRED, 0o755)
    # Drafted beside the tree and named like it: recovery clears both by the run's name.
    draft = f"{retired.tree}.note"
    root.write_atomic(retired.note, json.dumps(document).encode(), 0o644, draft=draft)


def read_retired(root: Tree) -> list[Retired]:
    """All retired directories, oldest first; a note that cannot be read is passed over."""
    found = []
    for name in sorted(root.walk(RETIRED)):
        if not name.endswith(".json"):
            continue
        try:
            document = json.loads(root.read_small(f"{RETIRED}/{name}"))
            names = {path: tuple(identity) for path, identity in document["names"].items()}
            found.append(Retired(tree=document["tree"], until_ns=document["until_ns"], names=names))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return sorted(found, key=lambda retired: retired.until_ns)


def waiting_names(root: Tree) -> Mapping[int, int]:
    """Inode → how many of its names go when all directories that wait are removed."""
    return Counter(ino for retired in read_retired(root) for _, _, ino in retired.names.values())
