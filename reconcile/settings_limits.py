"""From the settings to the limits of moving bytes; nothing else decides how long a source has."""

from __future__ import annotations

from wanrec.providers.limits import Limits
from wanrec.reconcile.settings import Settings

__all__ = ["transfer_limits"]


def transfer_limits(settings: Settings, bwlimit: int | None = None) -> Limits:
    """The limits of a run; `bwlimit` is what was asked for this once."""
    return Limits(
        bwlimit=settings.bwlimit if bwlimit is None else bwlimit,
        connect_timeout_s=settings.connect_timeout,
        stall_window_s=settings.stall_timeout,
        file_deadline_s=settings.file_timeout,
        retries=settings.retries,
    )
