"""What commands ask of the engine: frozen values with the defaults of the command line."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile.telemetry import EventSink, Silent

if TYPE_CHECKING:
    from wanrec.reconcile.select_args import SelectArgs

__all__ = ["ApplyRequest", "DriftRequest", "PlanRequest"]


@attrs.frozen(kw_only=True)
class PlanRequest:
    """What a plan is asked to be, besides which models it is about."""

    deep: bool = False
    refresh_only: bool = False
    state_only: bool = False
    replace: tuple[str, ...] = ()
    destroy: bool = False
    allow_delete: bool = False
    allow_foreign: bool = False
    delete_first: bool = False
    create_root: bool = False
    ensure: frozenset[str] = frozenset()


@attrs.frozen(kw_only=True)
class ApplyRequest:
    """How an apply is carried out. None: as the settings say."""

    parallelism: int | None = None
    lock_timeout: float | None = None
    bwlimit: int | None = None
    fail_fast: bool = False
    offline: bool | None = None
    no_failover: bool | None = None
    sink: EventSink = attrs.field(factory=Silent)
    stop: threading.Event = attrs.field(factory=threading.Event)


@attrs.frozen(kw_only=True)
class DriftRequest:
    """What a drift run looks at. None: as the settings say; `select` None: everything."""

    select: SelectArgs | None = None
    deep: bool = False
    rehash_budget: int | None = None
    ignore: str | None = None
    max_age_s: float | None = None
    budget_s: float | None = None
    """With `deep`: hash for so long, oldest first; the next run goes on there."""
    record_parts: bool = False
    """With `deep`: note the parts of big files in the cache; else a drift run writes nothing."""
