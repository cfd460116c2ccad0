"""Who delivered the verified files that wait in the stage, for the run that puts them in place.

A model that fails leaves its verified files to the next run; one note a model says where each came
from. Best effort: a run that is killed leaves no note, and its files' source is then not known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import attrs

from wanrec.reconcile.disk import Root
from wanrec.reconcile.errors import WanrecError
from wanrec.reconcile.facts import EntryKind
from wanrec.reconcile.stage import BLOBS

__all__ = ["Origin", "note_origins", "read_origins", "sweep_origins"]

_SUFFIX = ".from"


@attrs.frozen(kw_only=True)
class Origin:
    """Who delivered some bytes: the source URL without secrets, its revision, its ETag."""

    source: str | None = None
    revision: str | None = None
    etag: str | None = None


def note_origins(root: Root, folder: str, name: str, origins: Mapping[str, Origin]) -> None:
    """Write down who delivered these contents, by sha256, beside them."""
    if not origins:
        return
    document = {sha256: attrs.asdict(origin) for sha256, origin in sorted(origins.items())}
    try:
        root.write_atomic(f"{folder}/{name}{_SUFFIX}", json.dumps(document).encode(), 0o600)
    except WanrecError:  # the bytes are worth more than knowing who sent them
        return


def read_origins(root: Root) -> dict[str, Origin]:
    """What is known of the files in the shared stage; notes that cannot be read say nothing."""
    found: dict[str, Origin] = {}
    for note in _notes(root):
        for sha256, fields in _read(root, note).items():
            known = {k: v for k, v in fields.items() if v is None or isinstance(v, str)}
            if known.keys() == {"source", "revision", "etag"}:
                found[sha256] = Origin(**known)
    return found


def sweep_origins(root: Root) -> None:
    """Remove the notes whose files have all found their place."""
    notes = _notes(root)
    if not notes:
        return
    waiting = root.walk(BLOBS).keys()
    for note in notes:
        if waiting.isdisjoint(_read(root, note)):
            root.unlink(note, missing_ok=True)


def _notes(root: Root) -> list[str]:
    if root.stat(BLOBS).kind is not EntryKind.DIRECTORY:
        return []
    return sorted(f"{BLOBS}/{name}" for name in root.walk(BLOBS) if name.endswith(_SUFFIX))


def _read(root: Root, note: str) -> dict[str, dict[str, object]]:
    try:
        document = json.loads(root.read_small(note))
    except (WanrecError, ValueError):
        return {}
    if not isinstance(document, dict):
        return {}
    return {sha256: value for sha256, value in document.items() if isinstance(value, dict)}
