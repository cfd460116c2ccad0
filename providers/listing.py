"""What a source says it has, checked before anybody believes it.

A listing comes from a stranger: names that no disk may hold, files named twice, sizes and digests
that are none, and listings without end are refused. Pure; the caller says how an error is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.names import check_path

if TYPE_CHECKING:
    from wanrec.providers.base import CatalogueEntry

__all__ = ["checked_listing"]

_MAX_SIZE = 2**63 - 1
_is_sha256 = re.compile(r"[0-9a-f]{64}").fullmatch


def checked_listing(
    entries: Iterable[CatalogueEntry], most: int, error: Callable[..., WanrecError]
) -> list[CatalogueEntry]:
    """Return the entries sorted by path.

    Args:
        entries: as the source gives them.
        most: so many may there be.
        error: makes an error of a code, a summary and a `hint` that names the source.

    Raises:
        WanrecError: UNSAFE_PATH, PATH_TOO_LONG; INVALID_MANIFEST for what is not credible.
    """
    seen: dict[str, CatalogueEntry] = {}
    for entry in entries:
        fault = check_path(entry.path)
        if fault is not None:
            raise error(fault.code, f"the listing names a file that is refused: {fault.message}")
        why = _not_credible(entry, seen)
        if why is not None:
            summary = f"the listing is not credible at {entry.path!r}: {why}"
            raise error(ErrorCode.INVALID_MANIFEST, summary)
        seen[entry.path] = entry
        if len(seen) > most:
            raise error(
                ErrorCode.INVALID_MANIFEST,
                f"the listing has more than {most} files",
                hint="name a folder of the source in its URL, or list the files in the spec",
            )
    return [seen[path] for path in sorted(seen)]


def _not_credible(entry: CatalogueEntry, seen: Mapping[str, object]) -> str | None:
    if entry.path in seen:
        return "it is listed twice"
    if not 0 <= entry.size <= _MAX_SIZE:
        return f"{entry.size} bytes"
    if entry.sha256 is not None and not _is_sha256(entry.sha256):
        return "a sha256 that is none"
    return None
