"""The good parts of a damaged file, taken over into the part that a fetch fills.

A file on our disk is known to be damaged, and digests of its parts tell where. What still matches
is copied, what does not is left for the source. Only the sha256 of the whole decides in the end:
when it does not hold, the caller starts over without any of this.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import attrs

from wanrec.providers.hashing import read_at, write_at
from wanrec.providers.limits import MIB
from wanrec.reconcile.buffers import page_aligned
from wanrec.reconcile.errors import WanrecError
from wanrec.reconcile.part_digests import PartDigests, digest_part

__all__ = ["Salvage"]


@attrs.frozen(kw_only=True)
class Salvage:
    """A damaged file and what its parts should be.

    Attributes:
        open: opens it for reading; the descriptor is closed here.
        parts: digests of the wanted content.
    """

    open: Callable[[], int]
    parts: PartDigests

    def refill(
        self,
        target: int,
        gaps: Iterable[tuple[int, int]],
        kept: Callable[[int, int], None],
        check: Callable[[], None],
    ) -> None:
        """Copy the good parts that lie wholly inside `gaps` to the same offsets of `target`.

        Args:
            target: descriptor of the private part; bad bytes may be left where nothing was kept.
            gaps: what the part still lacks.
            kept: called with start and stop of every part that is right in `target` now.
            check: raises when the run is to stop.

        Raises:
            OSError: writing failed. A damaged file that cannot be read just gives nothing.
        """
        wanted = list(gaps)
        try:
            source = self.open()
        except (OSError, WanrecError):
            return
        try:
            for number, digest in enumerate(self.parts.digests):
                start, stop = self.parts.span(number)
                if any(low <= start and stop <= high for low, high in wanted):
                    check()
                    if self._copy(source, target, (start, stop)) == digest:
                        kept(start, stop)
        finally:
            os.close(source)

    def _copy(self, source: int, target: int, span: tuple[int, int]) -> bytes:
        def read(view: memoryview, at: int) -> int:
            try:
                return read_at(source, view, at)
            except OSError:  # a sector that is gone: this part is not to be had here
                return 0

        def copy(chunk: memoryview, at: int) -> None:
            write_at(target, chunk, at)

        return digest_part(read, span, page_aligned(MIB), copy)
