"""Counters of runs as Prometheus text: their names, what they mean, and how they add up.

Pure. Counters are kept as name → labels as Prometheus writes them → value, which is also how they
are stored: adding is all that is ever done to them. The names are frozen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from wanrec.reconcile.render_words import escaped

__all__ = ["METRICS", "Counters", "Metric", "added", "labels", "metrics_text", "observed"]

Counters = Mapping[str, Mapping[str, float]]
"""Metric name → labels (``a="b",c="d"``; empty: none) → value."""

BUCKETS = (1, 10, 60, 300, 1800, 7200)
"""Seconds: from a small file of a mirror to a hundred gigabytes over a slow line."""


class Metric(NamedTuple):
    """One family of samples; `zero`: it has one sample without labels, which begins at 0."""

    kind: str
    help: str
    zero: bool = False


METRICS: Mapping[str, Metric] = {
    "model_downloads_total": Metric(
        "counter", "Models a source has delivered (completed) or has failed to deliver (failed)."
    ),
    "model_download_duration_seconds": Metric(
        "histogram", "From the first action of a model to its commit, when bytes were fetched."
    ),
    "model_download_bytes_total": Metric("counter", "Bytes that sources have delivered.", True),
    "model_storage_bytes_used": Metric(
        "gauge", "Bytes of the recorded files of a family, equal inodes counted once."
    ),
    "garbage_collection_runs_total": Metric("counter", "Runs of gc, dry ones not counted.", True),
    # A counter; but readers would look for a counter under a name that ends in _total.
    "garbage_collection_bytes_reclaimed": Metric("untyped", "Bytes that gc has freed.", True),
    "model_errors_total": Metric("counter", "Errors of applies, ensures and gc, by code."),
    "lock_timeouts_total": Metric("counter", "LOCK_TIMEOUT errors.", True),
    "integrity_failures_total": Metric(
        "counter", "Wrong hash, size or signature, rollback, incomplete model.", True
    ),
    "wanrec_last_apply_timestamp_seconds": Metric(
        "gauge", "End of the last apply or ensure that failed at nothing, since the epoch."
    ),
}


def labels(**values: str) -> str:
    """Return labels as Prometheus writes them, in the order given."""
    plain = ((name, escaped(value).replace("\\", "\\\\")) for name, value in values.items())
    return ",".join('{}="{}"'.format(name, text.replace('"', '\\"')) for name, text in plain)


def added(before: Counters, more: Counters) -> dict[str, dict[str, float]]:
    """Return the sums; a gauge is replaced instead. What nobody knows any more is left out."""
    sums = {name: dict(before.get(name, {})) for name in METRICS}
    for name, samples in more.items():
        for text, value in samples.items():
            old = 0 if METRICS[name].kind == "gauge" else sums[name].get(text, 0)
            sums[name][text] = old + value
    return sums


def observed(seconds: float) -> dict[str, float]:
    """One observation of a histogram, as samples that add up: buckets, sum and count."""
    inside = {labels(le=str(bound)): float(seconds <= bound) for bound in BUCKETS}
    return {**inside, labels(le="+Inf"): 1.0, "sum": seconds, "count": 1.0}


def metrics_text(counters: Counters) -> str:
    """Return all families, those without a sample too, so that a new root is no missing one."""
    return "".join(line + "\n" for name in METRICS for line in _family(name, counters))


def _family(name: str, counters: Counters) -> Iterator[str]:
    metric, samples = METRICS[name], counters.get(name, {})
    yield f"# HELP {name} {metric.help}"
    yield f"# TYPE {name} {metric.kind}"
    if metric.kind == "histogram":
        yield from _histogram(name, samples)
        return
    for text, value in sorted(samples.items() or ([("", 0.0)] if metric.zero else [])):
        yield f"{name}{{{text}}} {_number(value)}" if text else f"{name} {_number(value)}"


def _histogram(name: str, samples: Mapping[str, float]) -> Iterator[str]:
    for bound in (*map(str, BUCKETS), "+Inf"):
        text = labels(le=bound)
        yield f"{name}_bucket{{{text}}} {_number(samples.get(text, 0))}"
    for word in ("sum", "count"):
        yield f"{name}_{word} {_number(samples.get(word, 0))}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.3f}"
