"""The listing of a repository by huggingface_hub, bounded by our own limits.

The SDK asks a Hub that fails again and again, for half a minute or as long as a rate limit says.
It is asked in a thread of its own, and given up when nothing comes for longer than a source may be
silent. Its texts hold addresses and are never repeated: only the status, or the kind of failure.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

from wanrec.providers.base import CatalogueEntry
from wanrec.providers.wire import TICK_S
from wanrec.reconcile.errors import ErrorCode

__all__ = ["ListingError", "list_repository"]


class ListingError(Exception):
    """Why there is no listing.

    Attributes:
        code: of the contract; INVALID_CONFIG when the SDK is missing.
        why: a few words without secrets.
        status: of the Hub's answer, or None.
    """

    def __init__(self, code: ErrorCode, why: str, status: int | None = None) -> None:
        super().__init__(why)
        self.code = code
        self.why = why
        self.status = status


def list_repository(
    endpoint: str,
    repository: str,
    commit: str,
    inside: str,
    *,
    token: str | None,
    silent_s: float,
    stop: threading.Event,
) -> Iterator[CatalogueEntry]:
    """Yield the files of a commit below a folder, with paths relative to it.

    Raises:
        ListingError: the SDK is missing or failed; the Hub said nothing for `silent_s`; `stop`.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile
    except ImportError:
        raise ListingError(ErrorCode.INVALID_CONFIG, "huggingface_hub is not installed") from None
    api = HfApi(endpoint=endpoint, token=token or False)
    items = api.list_repo_tree(repository, inside or None, recursive=True, revision=commit)
    prefix = f"{inside}/" if inside else ""
    for item in _in_time(items, silent_s, stop):
        if isinstance(item, RepoFile):
            yield CatalogueEntry(
                path=item.path.removeprefix(prefix),
                size=item.size,
                sha256=item.lfs.sha256 if item.lfs else None,
                blob_id=item.blob_id,
            )


def _in_time(items: Any, silent_s: float, stop: threading.Event) -> Iterator[Any]:
    """Pass on what an iterator gives, made by another thread; nobody waits for it at the end."""
    found: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    given_up = threading.Event()

    def ask() -> None:
        try:
            for item in items:
                if given_up.is_set():
                    return
                found.put(("item", item))
            found.put(("end", None))
        except Exception as exc:  # noqa: BLE001 - the SDK's transport errors have no common base
            found.put(("failure", exc))

    threading.Thread(target=ask, name="wanrec-listing", daemon=True).start()
    try:
        while (told := _next(found, silent_s, stop))[0] == "item":
            yield told[1]
    finally:
        given_up.set()
    if told[0] == "failure":
        raise _failure(told[1])


def _next(
    found: queue.SimpleQueue[tuple[str, Any]], silent_s: float, stop: threading.Event
) -> tuple[str, Any]:
    ends = time.monotonic() + silent_s
    while time.monotonic() < ends:
        if stop.is_set():
            raise ListingError(ErrorCode.INTERRUPTED, "stopped")
        try:
            return found.get(timeout=min(TICK_S, silent_s))
        except queue.Empty:
            continue
    raise ListingError(ErrorCode.NETWORK_TIMEOUT, f"nothing came for {silent_s:g} s")


def _failure(exc: Exception) -> ListingError:
    status = getattr(getattr(exc, "response", None), "status_code", None)
    code = {
        401: ErrorCode.AUTH_FAIL,
        403: ErrorCode.AUTH_FAIL,
        404: ErrorCode.NOT_FOUND_AT_SOURCE,
        429: ErrorCode.RATE_LIMIT,
    }.get(status or 0, ErrorCode.SOURCE_UNAVAILABLE)
    if "Timeout" in type(exc).__name__:
        code = ErrorCode.NETWORK_TIMEOUT
    return ListingError(code, f"HTTP {status}" if status else type(exc).__name__, status)
