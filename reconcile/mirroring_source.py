"""What ``--mirror URL`` means for the models of one run.

A URL with a placeholder is filled in for each model. A plain one may be a place that `wanrec
mirror` wrote, where each model lies in its own directory, or a folder with the files of a model.
Its SHA256SUMS says which; it is asked for once, when the first file is to be fetched.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from wanrec.providers import provider_for
from wanrec.providers.base import Session
from wanrec.reconcile.desired_expand import source_for
from wanrec.reconcile.errors import WanrecError
from wanrec.reconcile.mirroring_sums import SUMS, parse_sums

if TYPE_CHECKING:
    from wanrec.providers.base import Provider, ProviderContext
    from wanrec.reconcile.model import DesiredModel

__all__ = ["MirrorSource"]

_MOST_BYTES = 32 << 20
_BUFFER = 1 << 20
_has_placeholder = re.compile(r"\{[a-z]+\}").search


class MirrorSource:
    """The mirror of one run, asked for the sources of each model. Thread-safe.

    Whatever keeps SHA256SUMS from being read is not told here: fetching will meet it again.

    Args:
        url: of ``--mirror``; None: there is none.
        contexts: spec → how its source URLs are resolved.
        stop: ends the work early.
    """

    def __init__(
        self,
        url: str | None,
        contexts: Mapping[str, ProviderContext],
        stop: threading.Event | None = None,
    ) -> None:
        self._url = url
        self._contexts = contexts
        self._stop = stop
        self._lock = threading.Lock()
        self._folders: dict[str, frozenset[str]] = {}

    def __call__(self, model: DesiredModel) -> tuple[str, ...]:
        """The sources to try before the model's own."""
        if not self._url:
            return ()
        template = self._url
        if not _has_placeholder(template) and model.directory in self._laid_out(model.spec):
            place, mark, query = template.partition("?")
            template = f"{place.rstrip('/')}/{{directory}}{mark}{query}"
        return (source_for(template, model),)

    def _laid_out(self, spec: str) -> frozenset[str]:
        """Every folder that SHA256SUMS names a file in; a relative URL starts at the spec."""
        with self._lock:
            if spec not in self._folders:
                self._folders[spec] = self._asked(self._contexts[spec])
            return self._folders[spec]

    def _asked(self, context: ProviderContext) -> frozenset[str]:
        session = Session(self._stop)
        found: set[str] = set()
        with contextlib.suppress(WanrecError), contextlib.closing(session):
            provider = provider_for(self._url or "", context)
            provider.session = session
            for name in parse_sums(_read(provider)):
                parts = name.split("/")
                found |= {"/".join(parts[:end]) for end in range(1, len(parts))}
        return frozenset(found)


def _read(provider: Provider) -> bytes:
    data, buffer = bytearray(), memoryview(bytearray(_BUFFER))
    with provider.open_range(provider.locate(SUMS), 0, None) as body:
        while len(data) < _MOST_BYTES and (count := body.readinto(buffer)):
            data += buffer[:count]
    return bytes(data)
