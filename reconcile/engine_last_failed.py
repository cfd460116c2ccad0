"""`--last-failed`: what the last apply failed at, kept as addresses in the cache folder.

On the command line the option is one more word, so that every command that selects knows it; here
the word becomes the addresses. Keeping them is best effort: a root that cannot be written to has
no last failures.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile.disk_paths import WANREC_DIR
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.select_args import SelectArgs

if TYPE_CHECKING:
    from wanrec.reconcile.actions import ApplyResult
    from wanrec.reconcile.disk import Root
    from wanrec.reconcile.settings import Settings

__all__ = ["WORD", "expanded", "note_failures"]

WORD = "--last-failed"
_FOLDER = f"{WANREC_DIR}/cache"
_PLACE = f"{_FOLDER}/last-failed.json"


def note_failures(root: Root, result: ApplyResult) -> None:
    """Keep what failed; a run without failures clears what an earlier one left."""
    addresses = sorted({f.address for f in result.failures if "@" in f.address})
    with contextlib.suppress(WanrecError):
        if addresses:
            root.make_dirs(_FOLDER)
            root.write_atomic(_PLACE, json.dumps(addresses).encode())
        else:
            root.unlink(_PLACE, missing_ok=True)


def expanded(settings: Settings, select: SelectArgs) -> SelectArgs:
    """Return the selection with the addresses in the place of the word.

    Raises:
        WanrecError: NOTHING_SELECTED when the last apply did not fail at anything.
    """
    if WORD not in select.words:
        return select
    failed = _read(settings.require_root())
    if not failed:
        raise WanrecError(
            ErrorCode.NOTHING_SELECTED,
            "the last apply did not fail at anything",
            hint="leave --last-failed out to select everything",
        )
    words = [word for word in select.words if word != WORD]
    return attrs.evolve(select, words=(*words, *failed))


def _read(root: Path) -> tuple[str, ...]:
    try:
        found = json.loads((root / _PLACE).read_bytes())
    except (OSError, ValueError):
        return ()
    return tuple(word for word in found if isinstance(word, str)) if type(found) is list else ()
