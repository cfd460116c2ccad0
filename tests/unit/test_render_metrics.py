"""Counters as Prometheus reads them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from wanrec.reconcile.render_metrics import METRICS, added, labels, metrics_text, observed

texts = st.text(max_size=12)


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What Prometheus' own parser reads."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_new_root_has_every_family() -> None:
    """Nothing counted yet: all families are declared, those without labels begin at zero."""
    text = metrics_text({})
    assert [line.split()[2] for line in text.splitlines() if "# TYPE" in line] == list(METRICS)
    found = samples(text)
    for name in ("garbage_collection_runs_total", "lock_timeouts_total"):
        assert found[name, ()] == 0


def test_counters_add_up_and_gauges_are_replaced() -> None:
    """Two runs: counts are summed by label, a timestamp is the last one, strangers go."""
    first = {"model_errors_total": {"a": 1.0}, "wanrec_last_apply_timestamp_seconds": {"": 5.0}}
    second = {"model_errors_total": {"a": 2.0}, "wanrec_last_apply_timestamp_seconds": {"": 9.0}}
    sums = added({**first, "unheard_of": {"": 1.0}}, second)
    assert sums["model_errors_total"] == {"a": 3.0}
    assert sums["wanrec_last_apply_timestamp_seconds"] == {"": 9.0}
    assert "unheard_of" not in sums


def test_a_histogram_is_cumulative() -> None:
    """Each observation counts in its bucket and all larger ones, in sum and in count."""
    name = "model_download_duration_seconds"
    found = samples(metrics_text(added({name: observed(0.5)}, {name: observed(61.0)})))
    buckets = [found[f"{name}_bucket", (("le", le),)] for le in ("1", "60", "300", "+Inf")]
    assert buckets == [1, 1, 2, 2]
    assert (found[f"{name}_sum", ()], found[f"{name}_count", ()]) == (61.5, 2)


@given(texts, texts)
def test_labels_survive_any_text(one: str, two: str) -> None:
    """Whatever a label holds, a sample stays one line that parses."""
    text = metrics_text({"model_errors_total": {labels(error_code=one, source=two): 1.0}})
    (line,) = (line for line in text.splitlines() if line.startswith("model_errors_total"))
    assert len(samples(line)) == 1
