"""One run of `adopt` between a folder and the root: what is wanted is found, then brought in.

Digests of files that were read are remembered under the root. Obstacles in the folder end the run
before anything is written, unless the user chose to pass over them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from wanrec.reconcile.adopting_scan import Candidate, Obstacle, find_content, refusal, scan
from wanrec.reconcile.adopting_take import take_in
from wanrec.reconcile.errors import ErrorCode, WanrecError

if TYPE_CHECKING:
    from wanrec.reconcile.adopting import AdoptRequest
    from wanrec.reconcile.disk import Root
    from wanrec.reconcile.workbench import Workbench

__all__ = ["Search"]

_CACHE = ".wanrec/cache/adopt.json"
_KEEP_GOING = "put it right, name a folder below, or pass over it with --keep-going"


class Search:
    """The folder and the root of one run.

    Args:
        bench: settings and root.
        request: see `AdoptRequest`.
    """

    def __init__(self, bench: Workbench, request: AdoptRequest) -> None:
        self._bench = bench
        self._request = request
        self._obstacles: list[Obstacle] = []

    def found(self, wanted: Mapping[str, int]) -> dict[str, Candidate]:
        """Look for content; digests are remembered under the root.

        Raises:
            WanrecError: for every obstacle at once, unless the request passes over them.
        """
        request, root_path = self._request, self._bench.root
        inside = request.folder.resolve().is_relative_to(root_path.resolve())
        candidates = scan(
            os.path.abspath(request.folder),
            frozenset(wanted.values()),
            self._tell,
            None if inside else str(root_path),
        )
        self._refuse()
        with self._bench.opened() as (root, _):
            known = _remembered(root)
            before = dict(known)
            try:
                found = find_content(
                    candidates,
                    wanted,
                    known,
                    threads=self._bench.settings.parallelism,
                    stop=request.stop,
                    tell=self._tell,
                    progress=request.progress,
                    copies=request.copies,
                )
                self._refuse()
            finally:
                if known != before and not request.dry_run and not self._obstacles:
                    _remember(root, known)
        return found

    def _tell(self, obstacle: Obstacle) -> None:
        if self._request.keep_going:
            self._request.warn(f"passed over {obstacle}")
        else:
            self._obstacles.append(obstacle)

    def _refuse(self) -> None:
        if self._obstacles:
            raise refusal(self._obstacles, _KEEP_GOING)

    def stage(self, found: Mapping[str, Candidate]) -> list[str]:
        """Bring files in; returns outside paths to be removed when all is done."""
        left = []
        with self._bench.opened() as (root, _):
            for sha256, one in sorted(found.items(), key=lambda item: item[1].place):
                if self._request.stop.is_set():
                    raise WanrecError(ErrorCode.INTERRUPTED, "stopped; what was brought in is kept")
                place = take_in(root, one, sha256, self._request.link)
                if place is not None:
                    left.append(place)
        return left


def _remembered(root: Root) -> dict[str, str]:
    try:
        with os.fdopen(root.open_read(_CACHE), "rb") as file:
            known = json.load(file)
    except (WanrecError, ValueError):
        return {}
    plain = isinstance(known, dict) and all(isinstance(v, str) for v in known.values())
    return known if plain else {}


def _remember(root: Root, known: Mapping[str, str]) -> None:
    root.make_dirs(_CACHE.rpartition("/")[0], 0o755)
    root.write_atomic(_CACHE, json.dumps(known, sort_keys=True, indent=0).encode(), 0o644)
