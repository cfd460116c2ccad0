"""wanrec: declare model files, plan, apply, detect drift.

The public names load on first use, so that ``import wanrec`` costs nothing but this file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wanrec import aio, pipelines
    from wanrec.reconcile.api import (
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
    from wanrec.reconcile.api_earlier import GarbageCollector, ModelEnsurer, ModelRegistry
    from wanrec.reconcile.engine import Engine
    from wanrec.reconcile.errors import WanrecError
    from wanrec.reconcile.hooks_spec import hookimpl
    from wanrec.reconcile.pipelines import get_wan_paths
    from wanrec.reconcile.version import __version__

__all__ = [
    "Engine",
    "GarbageCollector",
    "ModelEnsurer",
    "ModelRegistry",
    "WanrecError",
    "__version__",
    "aio",
    "apply",
    "drift",
    "ensure",
    "ensure_many",
    "gc",
    "get_wan_paths",
    "hookimpl",
    "pin",
    "pipelines",
    "plan",
    "status",
    "unpin",
    "usage",
    "use",
    "verify",
]

_HOME = {
    "Engine": "wanrec.reconcile.engine",
    "GarbageCollector": "wanrec.reconcile.api_earlier",
    "ModelEnsurer": "wanrec.reconcile.api_earlier",
    "ModelRegistry": "wanrec.reconcile.api_earlier",
    "WanrecError": "wanrec.reconcile.errors",
    "__version__": "wanrec.reconcile.version",
    "apply": "wanrec.reconcile.api",
    "drift": "wanrec.reconcile.api",
    "ensure": "wanrec.reconcile.api",
    "ensure_many": "wanrec.reconcile.api",
    "gc": "wanrec.reconcile.api",
    "get_wan_paths": "wanrec.reconcile.pipelines",
    "hookimpl": "wanrec.reconcile.hooks_spec",
    "pin": "wanrec.reconcile.api",
    "plan": "wanrec.reconcile.api",
    "status": "wanrec.reconcile.api",
    "unpin": "wanrec.reconcile.api",
    "usage": "wanrec.reconcile.api",
    "use": "wanrec.reconcile.api",
    "verify": "wanrec.reconcile.api",
}
_MODULES = ("aio", "pipelines")


def __getattr__(name: str) -> object:
    import importlib

    if name in _MODULES:
        return importlib.import_module(f"wanrec.{name}")
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
