"""Spans and events: what a run tells people and machines about itself while it works.

`span()` costs a dictionary look-up until `configure()` has been given somewhere to send to: a trace
file, or an OTLP collector named by the environment. What goes wrong with either never reaches the
work that is traced. Nothing here decides, retries or formats for people; values named `source` lose
user info and query before they are stored.
"""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from wanrec.reconcile.telemetry_export import Exporter

__all__ = [
    "Event",
    "EventKind",
    "EventSink",
    "Silent",
    "Span",
    "configure",
    "emit",
    "patience",
    "shutdown",
    "span",
]

# A dead collector may cost 2 s in all; loading the SDK is part of that.
_COST_S = 1.8
_LEAST_S = 1.0
Value = str | int | float | bool


class EventKind(enum.StrEnum):
    """The events of an apply; values are the words of the NDJSON form."""

    VERSION = "version"
    PLAN = "plan"
    ACTION_START = "action_start"
    ACTION_PROGRESS = "action_progress"
    ACTION_RETRY = "action_retry"
    ACTION_FAILOVER = "action_failover"
    ACTION_COMPLETE = "action_complete"
    ACTION_ERROR = "action_error"
    SUMMARY = "summary"


@attrs.frozen(eq=False)
class Event:
    """One thing that happened. `fields` hold plain JSON values; `address` is the usual key."""

    kind: EventKind
    fields: Mapping[str, object] = attrs.field(factory=dict)


class EventSink(Protocol):
    """Whoever wants to know. Called from any thread; must be quick and must not raise."""

    def emit(self, event: Event) -> None:
        """Take note of one event."""


class Silent:
    """The sink of those who do not want to know."""

    def emit(self, event: Event) -> None:
        """Do nothing."""


def emit(sink: EventSink, kind: EventKind, **fields: object) -> None:
    """Tell `sink` one event."""
    sink.emit(Event(kind, fields))


class Span:
    """One timed piece of work. Ids are those of W3C trace context."""

    __slots__ = ("attributes", "end_ns", "error", "handle", "name", "parent", "start_ns")

    def __init__(self, name: str, parent: Span | None, attributes: Mapping[str, object]) -> None:
        self.name = name if name.startswith("wanrec.") else f"wanrec.{name}"
        self.parent = parent
        self.attributes: dict[str, Value] = {}
        self.error: str | None = None
        self.start_ns = time.time_ns()
        self.end_ns = 0
        self.handle: object = None
        self.set(**attributes)

    def set(self, **attributes: object) -> None:
        """Add attributes: `bytes=3` is short for `wanrec.bytes`; None says nothing."""
        for name, value in attributes.items():
            if value is None:
                continue
            key = name if "." in name else f"wanrec.{name}"
            plain = value if isinstance(value, (bool, int, float)) else str(value)
            secret = key == "wanrec.source" and isinstance(plain, str)
            self.attributes[key] = _redacted(str(plain)) if secret else plain

    def fail(self, error: BaseException) -> None:
        """Mark the work as failed: `error.type` is the error code, else the exception's class."""
        self.error = str(getattr(error, "code", None) or type(error).__name__)
        self.attributes["error.type"] = self.error


class _Unrecorded(Span):
    """The span of a run that nobody traces."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("none", None, {})

    def set(self, **attributes: object) -> None:
        """Forget it."""

    def fail(self, error: BaseException) -> None:
        """Forget it."""


_NOT_TRACED = nullcontext(_Unrecorded())
"""One for all: it keeps nothing of the blocks that pass through it."""
_current: ContextVar[Span | None] = ContextVar("wanrec_span", default=None)


class _Tracer:
    """Where spans go. `outermost` adopts the spans of worker threads, which have no parent."""

    def __init__(self) -> None:
        self.exporters: tuple[Exporter, ...] = ()
        self.outermost: Span | None = None
        self.loading_s = 0.0


_tracer = _Tracer()


def span(name: str, **attributes: object) -> AbstractContextManager[Span]:
    """Time the block as a span below the current one; an exception marks it and passes on."""
    exporters = _tracer.exporters
    return _recorded(exporters, name, attributes) if exporters else _NOT_TRACED


@contextmanager
def _recorded(
    exporters: Iterable[Exporter], name: str, attributes: Mapping[str, object]
) -> Iterator[Span]:
    parent = _current.get() or _tracer.outermost
    current = Span(name, parent, attributes)
    for exporter in exporters:
        exporter.started(current)
    if parent is None:
        _tracer.outermost = current
    token = _current.set(current)
    try:
        yield current
    except BaseException as error:
        current.fail(error)
        raise
    finally:
        _current.reset(token)
        if _tracer.outermost is current:
            _tracer.outermost = None
        current.end_ns = time.time_ns()
        for exporter in exporters:
            exporter.ended(current)


def configure(trace_file: str | None, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Start tracing if a file or the environment asks for it; later calls add nothing twice.

    Returns:
        Warnings for the user: a wish that cannot be met, such as a missing SDK.

    Raises:
        WanrecError: INVALID_CONFIG when the trace file cannot be opened.
    """
    if not trace_file and not any(name.startswith("OTEL_") for name in environ):
        return ()
    began = time.monotonic()
    from wanrec.reconcile.telemetry_export import exporters_for

    _tracer.exporters, warnings = exporters_for(trace_file, environ)
    _tracer.loading_s = time.monotonic() - began
    return warnings


def patience(loading_s: float) -> float:
    """Seconds a collector gets for the last spans, after so many were spent on loading the SDK."""
    return max(_COST_S - loading_s, _LEAST_S)


def shutdown(timeout: float | None = None) -> bool:
    """Hand over what is left, for at most `timeout` seconds; False when that was not enough.

    Args:
        timeout: None: what `patience` leaves.
    """
    exporters, _tracer.exporters = _tracer.exporters, ()
    if not exporters:
        return True
    delivered: list[bool] = []

    def close() -> None:
        results = [exporter.close() for exporter in exporters]
        delivered.append(all(results))

    # A daemon: a collector that accepts and never answers must not keep the process alive.
    closing = threading.Thread(target=close, name="wanrec-telemetry", daemon=True)
    closing.start()
    closing.join(patience(_tracer.loading_s) if timeout is None else timeout)
    return delivered == [True]


def _redacted(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    place, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}"
