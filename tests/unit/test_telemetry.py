"""Spans cost nothing until asked for, say what happened, and never hold a run up."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.lying_server import closed_port

from wanrec.reconcile import telemetry
from wanrec.reconcile.errors import ErrorCode, WanrecError


@pytest.fixture(autouse=True)
def _untraced() -> Iterator[None]:
    yield
    telemetry.shutdown()


def spans(path: Path) -> dict[str, dict[str, Any]]:
    """Name → span of every line of a trace file."""
    found = {}
    for line in path.read_text().splitlines():
        for resource in json.loads(line)["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                found |= {span["name"]: span for span in scope["spans"]}
    return found


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    """Key → the one value of its OTLP `AnyValue`."""
    return {pair["key"]: next(iter(pair["value"].values())) for pair in span["attributes"]}


def test_off_by_default(tmp_path: Path) -> None:
    """Without a file and without OTEL_* a span records nothing and shutdown has nothing to do."""
    assert telemetry.configure(None, {"PATH": "/bin"}) == ()
    with telemetry.span("wanrec.plan", model="a@1") as span:
        span.set(bytes=3)
    assert span.attributes == {}
    assert telemetry.shutdown()


def test_tree_of_spans(tmp_path: Path) -> None:
    """Spans of one thread nest; those of a worker thread hang below the outermost one."""
    trace = tmp_path / "trace.jsonl"
    telemetry.configure(str(trace), {})
    with telemetry.span("wanrec.apply"), telemetry.span("action", model="a@1", variant=None):
        worker = threading.Thread(target=_one_span, args=("verify",))
        worker.start()
        worker.join()
    assert telemetry.shutdown()
    found = spans(trace)
    top = found["wanrec.apply"]
    assert "parentSpanId" not in top
    assert found["wanrec.action"]["parentSpanId"] == top["spanId"]
    assert found["wanrec.verify"]["parentSpanId"] == top["spanId"]
    assert {span["traceId"] for span in found.values()} == {top["traceId"]}
    assert attributes(found["wanrec.action"]) == {"wanrec.model": "a@1"}
    assert int(top["startTimeUnixNano"]) <= int(top["endTimeUnixNano"])


def _one_span(name: str) -> None:
    with telemetry.span(name):
        pass


def test_failed_span_names_the_code(tmp_path: Path) -> None:
    """An exception passes through and leaves its error code in `error.type`."""
    trace = tmp_path / "trace.jsonl"
    telemetry.configure(str(trace), {})
    with pytest.raises(WanrecError), telemetry.span("fetch"):
        raise WanrecError(ErrorCode.CHECKSUM_FAIL, "no")
    telemetry.shutdown()
    span = spans(trace)["wanrec.fetch"]
    assert attributes(span)["error.type"] == "CHECKSUM_FAIL"
    assert span["status"]["code"] == 2


def test_sources_lose_their_secrets(tmp_path: Path) -> None:
    """A source attribute holds neither user info nor query."""
    trace = tmp_path / "trace.jsonl"
    telemetry.configure(str(trace), {})
    with telemetry.span("fetch", source="https://me:secret@host/a/b?X-Sig=secret"):
        pass
    telemetry.shutdown()
    assert attributes(spans(trace)["wanrec.fetch"])["wanrec.source"] == "https://host/a/b"
    assert "secret" not in trace.read_text()


def test_traceparent_is_the_parent(tmp_path: Path) -> None:
    """A run started inside a traced pipeline continues that pipeline's trace."""
    trace = tmp_path / "trace.jsonl"
    telemetry.configure(str(trace), {"TRACEPARENT": f"00-{'ab' * 16}-{'cd' * 8}-01"})
    _one_span("plan")
    telemetry.shutdown()
    span = spans(trace)["wanrec.plan"]
    assert (span["traceId"], span["parentSpanId"]) == ("ab" * 16, "cd" * 8)


@pytest.mark.parametrize("bad", ["", "00-zz-1-01", f"00-{'0' * 32}-{'cd' * 8}-01", "nonsense"])
def test_bad_traceparent_is_ignored(tmp_path: Path, bad: str) -> None:
    """Rubbish in TRACEPARENT starts a trace of its own."""
    trace = tmp_path / "trace.jsonl"
    telemetry.configure(str(trace), {"TRACEPARENT": bad})
    _one_span("plan")
    telemetry.shutdown()
    assert "parentSpanId" not in spans(trace)["wanrec.plan"]


def test_unwritable_trace_file_is_refused(tmp_path: Path) -> None:
    """A trace file in a missing folder is a configuration error before any work."""
    with pytest.raises(WanrecError) as caught:
        telemetry.configure(str(tmp_path / "no" / "trace.jsonl"), {})
    assert caught.value.code is ErrorCode.INVALID_CONFIG


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_full_disk_only_loses_spans() -> None:
    """A trace file that cannot grow loses spans, says so, and raises nothing."""
    telemetry.configure("/dev/full", {})
    _one_span("plan")
    assert not telemetry.shutdown()


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        {"OTEL_SERVICE_NAME": "x"},
    ],
)
def test_switched_off_by_environment(environ: dict[str, str]) -> None:
    """The standard variables that turn traces off do so."""
    assert telemetry.configure(None, environ) == ()
    with telemetry.span("plan") as span:
        span.set(bytes=1)
    assert span.attributes == {}


LESS_THAN_ITS_OWN_S = 9
"""The exporter alone would wait ten seconds; two are promised, and a busy machine adds to them."""

TRACED = """
import os, sys, time
from wanrec.reconcile import telemetry
print(telemetry.configure(None, os.environ))
with telemetry.span("wanrec.apply"), telemetry.span("wanrec.action", model="a@1"):
    pass
began = time.monotonic()
telemetry.shutdown()
sys.stdout.write(f"{time.monotonic() - began}")
sys.exit(7)
"""


def traced(endpoint: str, **more: str) -> tuple[float, float, subprocess.CompletedProcess[str]]:
    """Run a traced program: seconds inside shutdown, seconds in all, and what came of it."""
    environ = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **more}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-P", "-c", TRACED],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    return float(done.stdout.splitlines()[-1]), time.monotonic() - began, done


def test_hung_collector_costs_two_seconds() -> None:
    """A collector that accepts and never answers: two seconds, the same exit code, no noise."""
    pytest.importorskip("opentelemetry.sdk", reason="the otel extra is optional")
    with socket.create_server(("127.0.0.1", 0)) as server:
        inside, _, done = traced(f"http://127.0.0.1:{server.getsockname()[1]}")
    assert (done.returncode, done.stderr) == (7, "")
    assert inside < LESS_THAN_ITS_OWN_S


def test_loading_the_sdk_is_part_of_the_cost() -> None:
    """Two seconds are for loading and waiting together; a collector always gets one of them."""
    assert telemetry.patience(0.5) + 0.5 < 2
    assert telemetry.patience(0.0) < 2
    assert telemetry.patience(60.0) == 1


def test_dead_collector_changes_nothing() -> None:
    """Nobody listens: at most two seconds, the same exit code, no noise."""
    pytest.importorskip("opentelemetry.sdk", reason="the otel extra is optional")
    with closed_port() as port:
        inside, _, done = traced(f"http://127.0.0.1:{port}")
    assert (done.returncode, done.stderr) == (7, "")
    assert inside < LESS_THAN_ITS_OWN_S


def test_collector_receives_spans() -> None:
    """A real collector endpoint gets the spans over OTLP/HTTP."""
    pytest.importorskip("opentelemetry.sdk", reason="the otel extra is optional")
    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        _, _, done = traced(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert done.returncode == 7
    assert b"wanrec.apply" in b"".join(bodies)
    assert b"wanrec.model" in b"".join(bodies)


def test_missing_sdk_is_a_warning() -> None:
    """Without the SDK a collector in the environment costs one warning, never an error."""
    program = f"import sys; sys.modules['opentelemetry'] = None\n{TRACED}"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7
    assert "pip install opentelemetry-sdk" in done.stdout
