"""The Python API for programs that await; see `wanrec.reconcile.aio`."""

from __future__ import annotations

from wanrec.reconcile.aio import (
    apply,
    drift,
    ensure,
    ensure_many,
    gc,
    pin,
    plan,
    status,
    unpin,
    usage,
    use,
    verify,
)

__all__ = [
    "apply",
    "drift",
    "ensure",
    "ensure_many",
    "gc",
    "pin",
    "plan",
    "status",
    "unpin",
    "usage",
    "use",
    "verify",
]
