"""The node ids of everything, as an earlier run listed them for the same files and settings.

Every file that the specs are made of is read and hashed again; what is spared is to parse and join
them. A listing is kept only when nothing narrows it, no spec has a fault and no plug-in takes part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from wanrec.reconcile.engine_hooks import activate
from wanrec.reconcile.engine_specs import source_digests
from wanrec.reconcile.errors import WanrecError
from wanrec.reconcile.settings import Settings
from wanrec.reconcile.user_cache import UserCache

if TYPE_CHECKING:
    from wanrec.reconcile.model import Desired

__all__ = ["keep", "recall"]

_WORTH_IDS = 256
"""Fewer are listed in the time a cache takes to be read."""


def recall(settings: Settings) -> list[str] | None:
    """Return the kept listing if it is still right, None when it has to be made.

    Raises:
        WanrecError: INVALID_CONFIG, naming the plug-in that is broken.
    """
    cache = _cache(settings)
    kept = None if cache is None else cache.read()
    if not isinstance(kept, list) or len(kept) != 2:
        return None
    try:
        sources = source_digests(settings)
    except WanrecError:
        return None  # told by whoever looks properly
    made_of, ids = kept
    if sources is None or made_of != _digest(sources) or not _are_ids(ids):
        return None
    return list(ids)


def keep(settings: Settings, desired: Desired, ids: Sequence[str]) -> None:
    """Keep a listing of everything that was made without a fault, if it is worth it."""
    cache = _cache(settings) if len(ids) >= _WORTH_IDS else None
    if cache is not None:
        sources = {source.path: source.sha256 for source in desired.sources}
        cache.write([_digest(sources), list(ids)])


def _cache(settings: Settings) -> UserCache | None:
    """Return where the listing lies, None when it depends on more than files and settings."""
    if settings.cache_dir is None or settings.manifest or activate(settings) is not None:
        return None
    facts = (settings.spec_paths, settings.marks, settings.mirror, settings.allow_http)
    return UserCache(settings.cache_dir, repr(("listing", str(settings.project_dir), *facts)))


def _digest(sources: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(sources.items())).encode()).hexdigest()


def _are_ids(ids: object) -> bool:
    return isinstance(ids, list) and all(isinstance(one, str) for one in ids)
