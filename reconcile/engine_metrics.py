"""Counts what applies, ensures and gc do, for a file that Prometheus' textfile collector reads.

Only with the setting `metrics_file`. Counters outlive a process: they are added up in
`.wanrec/cache/metrics.json` under a lock of their own, and the file is written anew, in one step,
after each run that changed or tried something; asking for a model that is there is no run. A cache
that was lost begins at zero, which Prometheus takes for what it is. Nothing here stops a run: a
file that cannot be written is a warning.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile.disk import Root
from wanrec.reconcile.disk_paths import WANREC_DIR
from wanrec.reconcile.engine_files import write_output
from wanrec.reconcile.engine_view import view_of
from wanrec.reconcile.errors import ErrorCode, ExitCode, WanrecError
from wanrec.reconcile.facts import EntryKind
from wanrec.reconcile.lifecycle_usage import measure
from wanrec.reconcile.model import split_key
from wanrec.reconcile.render_metrics import Counters, added, labels, metrics_text, observed
from wanrec.reconcile.telemetry import Event, EventKind, EventSink
from wanrec.state.model import State
from wanrec.state.store import StateStore

if TYPE_CHECKING:
    from wanrec.reconcile.actions import ApplyResult
    from wanrec.reconcile.engine_requests import ApplyRequest
    from wanrec.reconcile.workbench import Workbench

__all__ = ["Counting", "count_gc", "counted"]

FOLDER = f"{WANREC_DIR}/cache"
PLACE = f"{FOLDER}/metrics.json"
_MAX_BYTES = 1 << 24
_LOCK_WAIT_S = 10.0


class Counting:
    """A sink that passes events on and counts them. Called from any thread."""

    def __init__(self, sink: EventSink) -> None:
        self._sink = sink
        self._lock = threading.Lock()
        self._begun: dict[str, float] = {}
        self._delivered: dict[tuple[str, str], float] = {}
        self.counters: dict[str, dict[str, float]] = {}

    def emit(self, event: Event) -> None:
        """Pass the event on, then count it."""
        self._sink.emit(event)
        fields = {name: str(value or "") for name, value in event.fields.items()}
        key, source = fields.get("address", "").partition("::")[0], fields.get("source", "")
        with self._lock:
            match event.kind:
                case EventKind.ACTION_START:
                    self._begun.setdefault(key, time.monotonic())
                case EventKind.ACTION_COMPLETE if event.fields.get("bytes"):
                    self._delivered[key, source] = time.monotonic()
                case EventKind.ACTION_FAILOVER:
                    self._failed(key, source, fields.get("code", ""))
                case EventKind.ACTION_ERROR:
                    self._failed(key, source, fields.get("code", ""))

    def raised(self, error: WanrecError) -> None:
        """Count an error that ended the whole run."""
        with self._lock:
            key = (error.address or "").partition("::")[0]
            self._failed(key, error.source or "", error.code.value)

    def ended(self, result: ApplyResult, now_ns: int, stopped: bool) -> None:
        """Count what the run has brought."""
        took: dict[str, float] = {}
        for (key, source), at in self._delivered.items():
            self.add("model_downloads_total", 1, _download(key, source, "completed"))
            took[key] = max(took.get(key, 0), at - self._begun.get(key, at))
        for seconds in took.values():
            for text, value in observed(seconds).items():
                self.add("model_download_duration_seconds", value, text)
        self.add("model_download_bytes_total", result.bytes_fetched)
        failed = any(not failure.optional for failure in result.failures)
        if not failed and not stopped:
            self.add("wanrec_last_apply_timestamp_seconds", now_ns // 10**9)

    def add(self, name: str, value: float, text: str = "") -> None:
        """Add to one sample."""
        samples = self.counters.setdefault(name, {})
        samples[text] = samples.get(text, 0) + value

    def _failed(self, key: str, source: str, code: str) -> None:
        model = split_key(key)[0] if key else ""
        self.add("model_errors_total", 1, labels(error_code=code, model_id=model, source=source))
        exit_code = _exit_of(code)
        if source and exit_code in (ExitCode.SOURCE, ExitCode.INTEGRITY):
            self.add("model_downloads_total", 1, _download(key, source, "failed"))
        if code == ErrorCode.LOCK_TIMEOUT:
            self.add("lock_timeouts_total", 1)
        if exit_code is ExitCode.INTEGRITY:
            self.add("integrity_failures_total", 1)


def _download(key: str, source: str, status: str) -> str:
    model, variant = split_key(key)
    return labels(model_id=model, variant=variant or "", source=source, status=status)


def _exit_of(code: str) -> ExitCode | None:
    try:
        return ErrorCode(code).exit_code
    except ValueError:
        return None


def counted(
    engine: Workbench, request: ApplyRequest, work: Callable[[ApplyRequest], ApplyResult]
) -> ApplyResult:
    """Do the work of one apply, counted where the settings name a file for it.

    Raises:
        WanrecError: what the work raised.
    """
    if engine.settings.metrics_file is None:
        return work(request)
    counting = Counting(request.sink)
    try:
        result = work(attrs.evolve(request, sink=counting))
    except WanrecError as error:
        counting.raised(error)
        _published(engine, counting.counters)
        raise
    counting.ended(result, engine.now(), request.stop.is_set())
    problem = _published(engine, counting.counters)
    if problem:
        result = attrs.evolve(result, warnings=(*result.warnings, problem))
    return result


def count_gc(engine: Workbench, root: Root, store: StateStore, freed: int) -> str:
    """Count a run of gc; what kept the file from being written, or nothing."""
    if engine.settings.metrics_file is None:
        return ""
    runs, bytes_freed = {"": 1.0}, {"": float(freed)}
    counters = {
        "garbage_collection_runs_total": runs,
        "garbage_collection_bytes_reclaimed": bytes_freed,
    }
    return _publish(engine, root, store, counters)


def _published(engine: Workbench, counters: Counters) -> str:
    try:
        with engine.opened() as (root, store):
            return _publish(engine, root, store, counters)
    except WanrecError as error:
        return _problem(error)


def _publish(engine: Workbench, root: Root, store: StateStore, counters: Counters) -> str:
    file = engine.settings.metrics_file
    assert file is not None
    try:
        with store.locks.acquire("metrics", _LOCK_WAIT_S, "metrics"):
            sums = added(_kept(root), counters)
            root.make_dirs(FOLDER)
            root.write_atomic(PLACE, json.dumps(sums).encode())
            storage = _storage(root, view_of(root, store).state)
            text = metrics_text({**sums, "model_storage_bytes_used": storage})
            write_output(file, text.encode())
    except WanrecError as error:
        return _problem(error)
    return ""


def _problem(error: WanrecError) -> str:
    return f"metrics_file was not written: {error.summary}"


def _kept(root: Root) -> Counters:
    """The sums so far; what is damaged begins anew."""
    try:
        if root.stat(PLACE).kind is not EntryKind.FILE:
            return {}
        found = json.loads(root.read_small(PLACE, _MAX_BYTES))
        return {
            str(name): {str(text): float(value) for text, value in samples.items()}
            for name, samples in found.items()
        }
    except (WanrecError, ValueError, TypeError, AttributeError):
        return {}


def _storage(root: Root, state: State) -> dict[str, float]:
    sizes: dict[str, dict[object, int]] = {}
    for file in measure(root, state):
        sizes.setdefault(file.family, {})[file.inode] = file.size
    return {labels(model_family=name): float(sum(s.values())) for name, s in sizes.items()}
