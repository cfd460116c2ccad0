"""Finds, loads and asks plug-ins; knows their names and where they are from, not what they mean.

In come the words of the setting `plugins` (``MODULE`` loads one, ``no:NAME`` leaves one out,
``no:auto`` looks for no installed ones). Out come `Plugins`, or None when there are none: then
pluggy is not even imported. Installed plug-ins are found by reading the ``entry_points.txt`` files
of `sys.path` that mention the group: about a millisecond, where `importlib.metadata` takes ten.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from wanrec.reconcile.errors import ErrorCode, WanrecError

if TYPE_CHECKING:
    import pluggy

__all__ = ["GROUP", "Found", "Plugins", "find", "load", "trace_to"]

GROUP = "wanrec"
NO_AUTO = "no:auto"
_HEADER = f"[{GROUP}]".encode()
_MAX_BYTES = 1 << 20
_MAX_SAID = 300
_FAILURES = (Exception, SystemExit)
"""What foreign code may raise; one that calls `sys.exit` has failed too, and is named."""
_trace: list[Callable[[str], object]] = []
_loaded: dict[tuple[str, ...], Plugins | None] = {}


class Found(NamedTuple):
    """One plug-in before it is loaded: its name, ``module[:attribute]`` and where it is from."""

    name: str
    target: str
    origin: str


class Row(NamedTuple):
    """One plug-in for people: what `plugins` lists. `problem` is empty when it was loaded."""

    name: str
    origin: str
    file: str
    hooks: tuple[str, ...]
    problem: str = ""


def trace_to(write: Callable[[str], object]) -> None:
    """Tell `write` each hook call of plug-ins that are loaded from now on."""
    _trace[:] = [write]


def find(words: Iterable[str]) -> tuple[Found, ...]:
    """Return the plug-ins to load, by name; nothing is imported.

    Args:
        words: ``MODULE``, ``no:NAME`` or ``no:auto``; the last word about a name wins.
    """
    found: dict[str, Found] = {}
    words = tuple(words)
    if NO_AUTO not in words:
        found = {plugin.name: plugin for plugin in _installed()}
    for word in words:
        if word.startswith("no:"):
            found.pop(word.removeprefix("no:"), None)
        elif word not in found:
            found[word] = Found(word, word, "named")
    return tuple(found[name] for name in sorted(found))


def load(words: Iterable[str]) -> Plugins | None:
    """Return the loaded plug-ins of these words, None when there are none. Loads each set once.

    Raises:
        WanrecError: INVALID_CONFIG, naming the plug-in that cannot be loaded.
    """
    key = tuple(words)
    if key not in _loaded:
        found = find(key)
        _loaded[key] = Plugins(found) if found else None
    return _loaded[key]


class Plugins:
    """Loaded plug-ins, and one method for each hook."""

    def __init__(self, found: Iterable[Found], *, strict: bool = True) -> None:
        import pluggy

        from wanrec.reconcile import hooks_spec

        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hooks_spec)
        self.rows: list[Row] = []
        for plugin in found:
            self._take(plugin, strict)
        if _trace:
            self._manager.trace.root.setwriter(_trace[0])
            self._manager.enable_tracing()

    def providers(self) -> Iterator[tuple[str, Mapping[str, str]]]:
        """Yield (plug-in, scheme → ``module:Class``)."""
        yield from self._each("wanrec_providers", dict)

    def formats(self, command: str) -> Iterator[tuple[str, Mapping[str, Callable[[Any], str]]]]:
        """Yield (plug-in, word → renderer) for ``plan`` or ``drift``."""
        yield from self._each(f"wanrec_{command}_formats", dict)

    def verdicts(self, plan: object) -> Iterator[tuple[str, object]]:
        """Yield (plug-in, `Veto` or `Warn`) for a plan."""
        from wanrec.reconcile.hooks_spec import Veto, Warn

        for name, answer in self._each("wanrec_check_plan", plan=plan):
            many = [answer] if isinstance(answer, Veto | Warn) else answer
            if isinstance(many, str) or not isinstance(many, Iterable):
                raise _answered(name, "wanrec_check_plan", answer)
            for verdict in _told(name, "wanrec_check_plan", partial(tuple, many)):
                if not isinstance(verdict, Veto | Warn):
                    raise _answered(name, "wanrec_check_plan", verdict)
                yield name, verdict

    def rendered(self, name: str, word: str, render: Callable[[Any], object], value: object) -> str:
        """Return what a plug-in's renderer makes of a plan or report.

        Raises:
            WanrecError: INVALID_CONFIG, naming the plug-in, when it fails or makes no text.
        """
        text = _told(name, f"the format {word}", lambda: render(value))
        if not isinstance(text, str):
            raise _answered(name, f"the format {word}", text)
        return text

    def transformed(self, path: str, document: dict[str, Any]) -> dict[str, Any] | None:
        """Return what all transformations in turn make of a spec, None for no change."""
        from copy import deepcopy

        current, changed = document, False
        for name in self._names("wanrec_transform_spec"):
            answer = self._ask(name, "wanrec_transform_spec", path=path, document=deepcopy(current))
            if answer is None:
                continue
            if not isinstance(answer, dict):
                raise _answered(name, "wanrec_transform_spec", answer)
            current, changed = answer, True
        return current if changed else None

    @property
    def observers(self) -> tuple[str, ...]:
        """The plug-ins that want events."""
        return self._names("wanrec_event")

    def observe(self, name: str, event: object) -> None:
        """Tell one observer an event.

        Raises:
            WanrecError: INVALID_CONFIG, naming the plug-in, when it fails.
        """
        self._ask(name, "wanrec_event", event=event)

    @property
    def transforms(self) -> tuple[str, ...]:
        """The plug-ins that may change specs."""
        return self._names("wanrec_transform_spec")

    def _take(self, plugin: Found, strict: bool) -> None:
        try:
            thing = _import(plugin.target)
            self._manager.register(thing, plugin.name)
            self._manager.check_pending()
        except _FAILURES as error:  # it is named and refused
            problem = _said(error)
            if strict:
                raise WanrecError(
                    ErrorCode.INVALID_CONFIG,
                    f"the plug-in {plugin.name} cannot be loaded: {problem}",
                    where=plugin.origin,
                    hint=f"-p no:{plugin.name} leaves it out",
                ) from error
            self.rows.append(Row(plugin.name, plugin.origin, "", (), problem))
            return
        callers = self._manager.get_hookcallers(thing) or []
        file = getattr(thing, "__file__", None) or getattr(
            sys.modules.get(type(thing).__module__), "__file__", ""
        )
        hooks = tuple(sorted(caller.name for caller in callers))
        self.rows.append(Row(plugin.name, plugin.origin, file or "", hooks))

    def _names(self, hook: str) -> tuple[str, ...]:
        return tuple(row.name for row in self.rows if hook in row.hooks)

    def _each(self, hook: str, kind: type | None = None, **given: object) -> Iterator[Any]:
        for name in self._names(hook):
            answer = self._ask(name, hook, **given)
            if answer is None:
                continue
            if kind is not None and not isinstance(answer, Mapping):
                raise _answered(name, hook, answer)
            yield name, answer

    def _ask(self, name: str, hook: str, **given: object) -> Any:
        manager: pluggy.PluginManager = self._manager
        others = [thing for other, thing in manager.list_name_plugin() if other != name]
        caller = manager.subset_hook_caller(hook, others)
        answers = _told(name, hook, lambda: caller(**given))
        return answers[0] if answers else None


def _told(name: str, what: str, ask: Callable[[], Any]) -> Any:
    """Return what a plug-in answers, or raise the error that names it."""
    try:
        return ask()
    except WanrecError:
        raise
    except _FAILURES as error:
        raise WanrecError(
            ErrorCode.INVALID_CONFIG,
            f"the plug-in {name} failed in {what}: {_said(error)}",
            hint=f"-p no:{name} leaves it out",
        ) from error


def _answered(name: str, hook: str, answer: object) -> WanrecError:
    return WanrecError(
        ErrorCode.INVALID_CONFIG,
        f"the plug-in {name} answered {hook} with {type(answer).__name__}",
        hint=f"-p no:{name} leaves it out",
    )


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())[:_MAX_SAID]
    return f"{type(error).__name__}: {text}".rstrip(": ")


def _import(target: str) -> object:
    import importlib

    module, _, attribute = target.partition(":")
    if not attribute and "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # as `pytest -p` finds a module beside the project
    thing: object = importlib.import_module(module)
    for part in attribute.split(".") if attribute else ():
        thing = getattr(thing, part)
    if isinstance(thing, type) and not isinstance(thing, ModuleType):
        thing = thing()
    return thing


def _installed() -> Iterator[Found]:
    seen: set[str] = set()
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if name.endswith((".dist-info", ".egg-info")) and name not in seen:
                seen.add(name)
                yield from _of_distribution(folder, name)


def _of_distribution(folder: str, name: str) -> Iterator[Found]:
    try:
        with open(os.path.join(folder, name, "entry_points.txt"), "rb") as file:
            data = file.read(_MAX_BYTES)
    except OSError:
        return
    if _HEADER not in data:
        return
    section = ""
    for line in data.decode("utf-8", "replace").splitlines():
        text = line.strip()
        if text.startswith("["):
            section = text.strip("[]")
        elif section == GROUP and "=" in text and not text.startswith("#"):
            label, _, target = text.partition("=")
            origin = name.rpartition(".")[0].replace("-", " ", 1)
            yield Found(label.strip(), target.partition("[")[0].strip(), origin)
