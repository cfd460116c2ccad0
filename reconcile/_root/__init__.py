"""wanrec: declare model files, plan, apply, detect drift.

The public names load on first use, so that ``import wanrec`` costs nothing but this file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wanrec.reconcile.api import ModelEnsurer, ensure, get_wan_paths, status, use
    from wanrec.reconcile.engine import Engine
    from wanrec.reconcile.errors import WanrecError
    from wanrec.reconcile.version import __version__

__all__ = [
    "Engine",
    "ModelEnsurer",
    "WanrecError",
    "__version__",
    "ensure",
    "get_wan_paths",
    "status",
    "use",
]

_HOME = {
    "Engine": "wanrec.reconcile.engine",
    "ModelEnsurer": "wanrec.reconcile.api",
    "WanrecError": "wanrec.reconcile.errors",
    "__version__": "wanrec.reconcile.version",
    "ensure": "wanrec.reconcile.api",
    "get_wan_paths": "wanrec.reconcile.api",
    "status": "wanrec.reconcile.api",
    "use": "wanrec.reconcile.api",
}


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
