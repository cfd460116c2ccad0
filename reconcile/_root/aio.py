"""The Python API for programs that await; see `wanrec.reconcile.aio`."""

from __future__ import annotations

from wanrec.reconcile.aio import (
    ensure,
    ensure_many,
    status,
    use,
)

__all__ = [
    "ensure",
    "ensure_many",
    "status",
    "use",
]
