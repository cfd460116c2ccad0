"""A deep check in portions: hash for so long, oldest first, and go on there the next time.

What a portion verified is kept below `.wanrec/cache/`, beside the state that drift never writes.
The file is advice on the order only: it is written as far as it can be, a lost or broken one means
starting over, and no file counts as whole because of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping

from wanrec.reconcile.disk import Root
from wanrec.reconcile.disk_paths import WANREC_DIR
from wanrec.reconcile.errors import WanrecError
from wanrec.reconcile.trust import verified_ns
from wanrec.state.model import FileRecord

__all__ = ["Pace"]

_FOLDER = f"{WANREC_DIR}/cache"
_PLACE = f"{_FOLDER}/deep-check.json"
_FORMAT = 1
_MAX_BYTES = 1 << 28


class Pace:
    """One portion of a deep check.

    Args:
        seconds: begin no further file after so long; one file is always read.
        now_ns: the present.
        progress: address → (sha256, when it was last read whole), from earlier portions.
        wrong: addresses that an earlier portion found to differ; they are read each time.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        seconds: float,
        now_ns: int,
        progress: Mapping[str, tuple[str, int]] | None = None,
        wrong: Iterable[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._end = clock() + seconds
        self._now_ns = now_ns
        self._begun = False
        self.progress = dict(progress or {})
        self.wrong = frozenset(wrong)

    @classmethod
    def load(cls, root: Root, seconds: float, now_ns: int) -> Pace:
        """Go on where the last portion ended."""
        return cls(seconds, now_ns, *_read(root))

    def last(self, address: str, record: FileRecord) -> int:
        """When these bytes were last read and right, nanoseconds since the epoch."""
        sha256, at = self.progress.get(address, ("", 0))
        return max(verified_ns(record.verified_at), at if sha256 == record.sha256 else 0)

    def more(self) -> bool:
        """True while another file may be begun."""
        first, self._begun = not self._begun, True
        return first or self._clock() < self._end

    def note(
        self, right: Iterable[tuple[str, FileRecord]], wrong: Iterable[tuple[object, ...]]
    ) -> None:
        """Note what this portion read: files that are as recorded, and findings by address."""
        for address, record in right:
            self.progress[address] = (record.sha256, self._now_ns)
        self.wrong = frozenset(str(finding[0]) for finding in wrong)

    def save(self, root: Root, known: Mapping[str, FileRecord]) -> None:
        """Keep the progress on files the state knows; what cannot be written is not."""
        files = {name: entry for name, entry in self.progress.items() if name in known}
        wrong = sorted(self.wrong.intersection(known))
        document = {"format_version": _FORMAT, "files": files, "wrong": wrong}
        data = json.dumps(document).encode()
        with contextlib.suppress(WanrecError):
            root.make_dirs(_FOLDER)
            root.write_atomic(_PLACE, data)


def _read(root: Root) -> tuple[dict[str, tuple[str, int]], tuple[str, ...]]:
    try:
        fd = root.open_read(_PLACE)
    except WanrecError:
        return {}, ()
    try:
        with os.fdopen(fd, "rb") as file:
            document = json.loads(file.read(_MAX_BYTES))
        if document["format_version"] != _FORMAT:
            return {}, ()
        files = {
            str(address): (str(sha256), int(at))
            for address, (sha256, at) in document["files"].items()
        }
        return files, tuple(map(str, document["wrong"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}, ()
