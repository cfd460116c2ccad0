"""Where spans go: a file of OTLP JSON lines, or an OTLP collector through the OpenTelemetry SDK.

Loaded only when tracing is asked for. An exporter never raises into the work that is traced: what
cannot be written is dropped, and `close()` says so.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from wanrec.reconcile.telemetry import Span, Value

__all__ = ["Exporter", "FileExporter", "exporters_for"]

_LINES_HELD = 64
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_SCOPE = {"name": "wanrec", "version": __version__}


class Exporter(ABC):
    """Told of each span twice, from any thread; asked once, at the end, to hand over the rest."""

    @abstractmethod
    def started(self, span: Span) -> None:
        """A span begins: give it whatever identity this exporter needs."""

    @abstractmethod
    def ended(self, span: Span) -> None:
        """A span is complete."""

    @abstractmethod
    def close(self) -> bool:
        """Deliver what is left. True when nothing was lost."""


def exporters_for(
    trace_file: str | None, environ: Mapping[str, str]
) -> tuple[tuple[Exporter, ...], tuple[str, ...]]:
    """The exporters that file and environment ask for, and warnings about those they cannot have.

    Raises:
        WanrecError: INVALID_CONFIG when the trace file cannot be opened.
    """
    exporters: list[Exporter] = []
    warnings: list[str] = []
    if trace_file:
        exporters.append(FileExporter(trace_file, environ.get("TRACEPARENT", "")))
    if _collector_wanted(environ):
        try:
            exporters.append(_CollectorExporter(environ.get("TRACEPARENT", "")))
        except ImportError as error:
            warnings.append(
                f"traces are asked for, but {error.name} is not installed: "
                "pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
            )
        except Exception as error:  # noqa: BLE001 - a broken collector setting stops no apply
            warnings.append(f"traces are off: {error}")
    return tuple(exporters), tuple(warnings)


def _collector_wanted(environ: Mapping[str, str]) -> bool:
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    chosen = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if chosen:
        return chosen != "none"
    return any(environ.get(name) for name in _ENDPOINTS)


def _parent_of(traceparent: str) -> tuple[str, str] | None:
    """(trace id, span id) of a W3C `traceparent`, None when it is not one."""
    parts = traceparent.strip().lower().split("-")
    if [len(part) for part in parts[:4]] != [2, 32, 16, 2]:
        return None
    try:
        numbers = [int(part, 16) for part in parts[:4]]
    except ValueError:
        return None
    return (parts[1], parts[2]) if numbers[1] and numbers[2] else None


class FileExporter(Exporter):
    """Appends one OTLP/JSON `ExportTraceServiceRequest` a line, each in a single write."""

    def __init__(self, path: str, traceparent: str = "") -> None:
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise WanrecError(
                ErrorCode.INVALID_CONFIG,
                "cannot write the trace file",
                detail=error.strerror or "",
                where=path,
                hint="give --trace-file a file in a directory that exists and is writable",
            ) from None
        self._parent = _parent_of(traceparent)
        self._trace_id = self._parent[0] if self._parent else secrets.token_hex(16)
        self._ids: dict[int, str] = {}
        self._waiting: list[dict[str, object]] = []
        self._lock = threading.Lock()
        self._lost = False

    def started(self, span: Span) -> None:
        """Give the span an id, kept while it is open."""
        self._ids[id(span)] = secrets.token_hex(8)

    def ended(self, span: Span) -> None:
        """Keep the span, and write when enough have come together or the outermost one ended."""
        document = self._document(span)
        with self._lock:
            self._waiting.append(document)
            if len(self._waiting) >= _LINES_HELD or span.parent is None:
                self._flush()

    def close(self) -> bool:
        """Write the rest."""
        with self._lock:
            self._flush()
            os.close(self._fd)
        return not self._lost

    def _document(self, span: Span) -> dict[str, object]:
        document: dict[str, object] = {
            "traceId": self._trace_id,
            "spanId": self._ids.pop(id(span), None) or secrets.token_hex(8),
            "name": span.name,
            "kind": 1,
            "startTimeUnixNano": str(span.start_ns),
            "endTimeUnixNano": str(span.end_ns),
            "attributes": _attributes(span.attributes),
            "status": {"code": 2, "message": span.error} if span.error else {},
        }
        parent = self._ids.get(id(span.parent)) if span.parent else None
        if parent is None and self._parent:
            parent = self._parent[1]
        return document if parent is None else document | {"parentSpanId": parent}

    def _flush(self) -> None:
        if not self._waiting:
            return
        scope_spans = [{"scope": _SCOPE, "spans": self._waiting}]
        resource = {"attributes": _attributes(_resource())}
        request = {"resourceSpans": [{"resource": resource, "scopeSpans": scope_spans}]}
        line = json.dumps(request, ensure_ascii=False, separators=(",", ":")) + "\n"
        self._waiting = []
        try:
            data = line.encode("utf-8", "backslashreplace")
            self._lost |= os.write(self._fd, data) != len(data)
        except OSError:
            self._lost = True


def _resource() -> dict[str, Value]:
    return {"service.name": "wanrec", "service.version": __version__, "process.pid": os.getpid()}


def _attributes(values: Mapping[str, Value]) -> list[dict[str, object]]:
    return [{"key": key, "value": _any_value(value)} for key, value in values.items()]


def _any_value(value: Value) -> dict[str, object]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}  # 64-bit integers are strings in OTLP/JSON
        case float():
            return {"doubleValue": value}
        case _:
            return {"stringValue": value}


class _CollectorExporter(Exporter):
    """Spans of the OpenTelemetry SDK, sent in the background over OTLP/HTTP."""

    def __init__(self, traceparent: str) -> None:
        _quiet_sdk()
        from opentelemetry.context import Context
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        defaults = {"service.name": "wanrec", "service.version": __version__}
        named = Resource(dict(defaults)).merge(Resource.create())
        if not os.environ.get("OTEL_SERVICE_NAME"):
            named = named.merge(Resource(dict(defaults)))
        # Its own exit hook would wait for a dead collector; `close` has a limit.
        self._provider: TracerProvider = TracerProvider(resource=named, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("wanrec", __version__)
        self._outside = TraceContextTextMapPropagator().extract(
            {"traceparent": traceparent}, context=Context()
        )

    def started(self, span: Span) -> None:
        """Start the SDK's span below the one of the parent."""
        from opentelemetry.trace import set_span_in_context

        above = span.parent.handle if span.parent else None
        context = set_span_in_context(above, self._outside) if above else self._outside  # type: ignore[arg-type]
        span.handle = self._tracer.start_span(span.name, context, start_time=span.start_ns)

    def ended(self, span: Span) -> None:
        """Hand the attributes over and end the SDK's span; it leaves in a later batch."""
        from opentelemetry.trace import Status, StatusCode

        handle = span.handle
        handle.set_attributes(span.attributes)  # type: ignore[attr-defined]
        if span.error:
            handle.set_status(Status(StatusCode.ERROR, span.error))  # type: ignore[attr-defined]
        handle.end(end_time=span.end_ns)  # type: ignore[attr-defined]

    def close(self) -> bool:
        """Send the last batch; may take as long as the collector lets it."""
        try:
            self._provider.shutdown()
        except Exception:  # noqa: BLE001 - whatever the SDK meets here, the run is over
            return False
        return True


def _quiet_sdk() -> None:
    """Keep the SDK's own complaints about a collector off the user's terminal."""
    import logging

    logger = logging.getLogger("opentelemetry")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
