"""The first attempt at a small file: one request, and nothing prepared for a second one.

A model may be thousands of small files, and what resume, retries, caps and progress need costs
more than their bytes. Where none of that is asked for a file is brought in one answer; whoever
calls goes on the careful way after a fault of the source, which then counts as an attempt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from wanrec.providers.base import Provider
from wanrec.providers.fetching import Fetched, FetchRequest, check_sha256
from wanrec.providers.limits import Limits
from wanrec.providers.located import Whole
from wanrec.reconcile.model import Via

__all__ = ["is_apt", "landed"]


def is_apt(request: FetchRequest, provider: Provider, limits: Limits) -> bool:
    """True for a small file of known content with no cap, no deadline and no help of ours."""
    size = request.size
    return (
        size is not None
        and size <= limits.quick_file
        and request.sha256 is not None
        and request.salvage is None
        and limits.bwlimit is None
        and limits.file_deadline_s is None
        and not provider.gives_local_paths
    )


def landed(
    request: FetchRequest, provider: Provider, whole: Whole, put: Callable[[memoryview, str], str]
) -> Fetched:
    """Check what came and put it where verified bytes lie.

    Args:
        put: writes bytes under their sha256 and returns where.

    Raises:
        WanrecError: CHECKSUM_FAIL, on the source's account; whatever `put` raises.
    """
    sha256 = hashlib.sha256(whole.content).hexdigest()
    check_sha256(request, provider, sha256)
    size = len(whole.content)
    return Fetched(
        sha256=sha256,
        size=size,
        source=provider.name,
        revision=whole.revision,
        etag=whole.etag,
        bytes_fetched=size,
        via=Via.FETCH,
        staged=put(whole.content, sha256),
        content=whole.content,
    )
