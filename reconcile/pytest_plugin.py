"""pytest plug-in: with ``--wanrec`` each file of each model of a spec is a test item.

This module is loaded by every pytest run of an environment that has wanrec installed, so it
imports nothing of wanrec; what ``--wanrec`` needs is in `pytest_items`. The fixtures are there
with and without the option.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from wanrec.reconcile.engine import Engine

__all__ = ["wanrec_engine", "wanrec_model"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the plug-in."""
    group = parser.getgroup("wanrec", "model files as test items")
    group.addoption("--wanrec", action="store_true", help="Collect spec files (specs/*.toml).")
    group.addoption("--wanrec-deep", action="store_true", help="Hash every file, trusted or not.")
    group.addoption("--wanrec-root", metavar="DIR", help="The root; else as `wanrec config` says.")


def pytest_configure(config: pytest.Config) -> None:
    """Take part in collection only when asked."""
    if config.getoption("--wanrec"):
        from wanrec.reconcile.pytest_items import Collectors

        config.pluginmanager.register(Collectors(config), "wanrec-collectors")


@pytest.fixture(scope="session")
def wanrec_engine(pytestconfig: pytest.Config) -> Engine:
    """The engine of the project that pytest was started in."""
    from wanrec.reconcile.engine import Engine

    root = pytestconfig.getoption("--wanrec-root")
    return Engine.from_config(pytestconfig.invocation_params.dir, root=root)


@pytest.fixture(scope="session")
def wanrec_model(wanrec_engine: Engine) -> Callable[..., Path]:
    """A function from a model (and variant) to its verified directory, brought if need be."""

    def path_of(model: str, variant: str | None = None) -> Path:
        return wanrec_engine.ensure(model, variant)

    return path_of
