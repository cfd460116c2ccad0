"""Where plug-ins meet the engine: sources, specs, plans and events pass by here.

Everything is a no-op, at the price of one look at the installed packages, when there is no
plug-in. What plug-ins say is checked here; `hooks` names who said it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from wanrec.reconcile import hooks
from wanrec.reconcile.errors import ErrorCode, WanrecError

if TYPE_CHECKING:
    from wanrec.reconcile.actions import ApplyResult, Plan
    from wanrec.reconcile.hooks import Plugins
    from wanrec.reconcile.settings import Settings
    from wanrec.reconcile.telemetry import Event, EventSink

__all__ = ["Observed", "activate", "judged", "plugin_format", "spec_reader", "transforms"]


def activate(settings: Settings) -> Plugins | None:
    """Return the plug-ins of a run; their sources can be used from here on.

    Raises:
        WanrecError: INVALID_CONFIG, naming the plug-in that is broken.
    """
    plugins = hooks.load(settings.plugins)
    if plugins is None:
        return None
    from wanrec import providers

    for name, schemes in plugins.providers():
        for scheme, target in schemes.items():
            try:
                providers.register(scheme, target)
            except ValueError as error:
                raise WanrecError(
                    ErrorCode.INVALID_CONFIG,
                    f"the plug-in {name} cannot provide {scheme}://: {error}",
                    hint=f"-p no:{name} leaves it out",
                ) from None
    return plugins


def transforms(settings: Settings) -> bool:
    """True when specs may mean something else than what their bytes say."""
    plugins = hooks.load(settings.plugins)
    return plugins is not None and bool(plugins.transforms)


def spec_reader(settings: Settings) -> Callable[[Path], bytes]:
    """Return how spec files are read: as they are, or as plug-ins transform them."""
    from wanrec.reconcile.collect import read_file
    from wanrec.reconcile.collect_find import DEFAULTS_FILE, LOCK_SUFFIX

    plugins = activate(settings)
    if plugins is None or not plugins.transforms:
        return read_file
    start = settings.project_dir

    def read(path: Path) -> bytes:
        data = read_file(path)
        if path.name.endswith(LOCK_SUFFIX) or path.name == DEFAULTS_FILE:
            return data
        name = path.relative_to(start) if path.is_relative_to(start) else path
        return _transformed(plugins, name.as_posix(), data)

    return read


def _transformed(plugins: Plugins, path: str, data: bytes) -> bytes:
    import tomllib

    import tomli_w

    try:
        document = tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return data  # the fault is told with its line by whoever parses it
    changed = plugins.transformed(path, document)
    if changed is None:
        return data
    try:
        return tomli_w.dumps(changed).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise WanrecError(
            ErrorCode.INVALID_CONFIG,
            f"what {' and '.join(plugins.transforms)} made of a spec is not TOML: {error}",
            where=path,
            hint=f"-p no:{plugins.transforms[-1]} leaves it out",
        ) from None


def judged(settings: Settings, plan: Plan) -> Plan:
    """Return the plan with the vetoes and warnings of all policies.

    Raises:
        WanrecError: INVALID_CONFIG when a policy fails: an unasked policy is no approval.
    """
    plugins = activate(settings) if plan else None
    if plugins is None:
        return plan
    from wanrec.reconcile.actions import Block
    from wanrec.reconcile.hooks_spec import Veto

    blocked, warnings = list(plan.blocked), list(plan.warnings)
    for name, verdict in plugins.verdicts(plan):
        if isinstance(verdict, Veto):
            block = Block(
                code=ErrorCode.POLICY_DENIED,
                message=f"{name}: {verdict.message}",
                address=verdict.address,
                hint=verdict.hint,
            )
            blocked += [] if block in blocked else [block]
        else:
            warning = f"{name}: {getattr(verdict, 'message', verdict)}"
            warnings += [] if warning in warnings else [warning]
    return attrs.evolve(plan, blocked=tuple(blocked), warnings=tuple(warnings))


def plugin_format(settings: Settings, command: str, word: str) -> Callable[[Any], str] | None:
    """Return what renders a format that only a plug-in knows, None when nobody knows it."""
    plugins = activate(settings)
    if plugins is None:
        return None
    for name, renderers in plugins.formats(command):
        if word in renderers:
            return partial(plugins.rendered, name, word, renderers[word])
    return None


class Observed:
    """A sink that tells plug-ins too; one that fails is named once and told nothing more."""

    def __init__(self, settings: Settings, sink: EventSink) -> None:
        self._plugins = activate(settings)
        self._sink = sink
        self._names = list(self._plugins.observers) if self._plugins else []
        self._lock = threading.Lock()
        self.warnings: list[str] = []

    def emit(self, event: Event) -> None:
        """Pass the event on."""
        self._sink.emit(event)
        if not self._names or self._plugins is None:
            return
        with self._lock:
            for name in tuple(self._names):
                try:
                    self._plugins.observe(name, event)
                except WanrecError as error:
                    self._names.remove(name)
                    self.warnings.append(error.summary)

    def warned(self, result: ApplyResult) -> ApplyResult:
        """Return the result with what went wrong in observers."""
        if not self.warnings:
            return result
        return attrs.evolve(result, warnings=(*result.warnings, *self.warnings))
