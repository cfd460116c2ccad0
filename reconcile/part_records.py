"""Where part digests are kept: one small file for each content below `.wanrec/cache/parts/`.

Best effort in both directions: a record that cannot be written is not written, and one that is
missing, damaged or of another content is as good as none. All of them may be removed at any time.
"""

from __future__ import annotations

import contextlib

from wanrec.reconcile.disk import Root
from wanrec.reconcile.disk_paths import WANREC_DIR
from wanrec.reconcile.disk_walk import Tree
from wanrec.reconcile.errors import WanrecError
from wanrec.reconcile.facts import EntryKind
from wanrec.reconcile.part_digests import PART_BYTES, PartDigests, decode, encode

__all__ = ["PARTS", "forget", "recall", "remember"]

PARTS = f"{WANREC_DIR}/cache/parts"
_MAX_RECORD = 1 << 26


def remember(root: Tree, parts: PartDigests) -> None:
    """Keep the digests of a content, if this root may be written to."""
    if not isinstance(root, Root):
        return
    with contextlib.suppress(WanrecError, OSError):
        root.make_dirs(PARTS, 0o755)
        root.write_atomic(_place(parts.sha256), encode(parts))


def recall(root: Tree, sha256: str | None, size: int) -> PartDigests | None:
    """The digests of a content of this size, or None."""
    if sha256 is None or size <= PART_BYTES:
        return None
    try:
        if root.stat(_place(sha256)).kind is not EntryKind.FILE:
            return None
        return decode(root.read_small(_place(sha256), _MAX_RECORD), sha256, size)
    except (WanrecError, OSError):
        return None


def forget(root: Tree, sha256: str) -> None:
    """Drop a record that was found to be wrong."""
    if isinstance(root, Root):
        with contextlib.suppress(WanrecError):
            root.unlink(_place(sha256), missing_ok=True)


def _place(sha256: str) -> str:
    return f"{PARTS}/{sha256}"
