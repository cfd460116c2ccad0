"""The drift report for monitoring and CI."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import attrs
import pytest
from hypothesis import given
from support.render_samples import HOSTILE, clean_drift, every_drift, reports, sample_item
from syrupy.assertion import SnapshotAssertion

from wanrec.reconcile.actions import DriftItem, DriftReport
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.render import DriftFormat, nagios_exit, render_drift, render_drift_error
from wanrec.reconcile.render_monitoring import drift_monitoring, error_monitoring

FORMS = [f for f in DriftFormat if f not in (DriftFormat.TEXT, DriftFormat.JSON)]
AT = 1_764_000_000_123_456_789
SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*)\})? (\d+)')
FAILED = WanrecError(ErrorCode.STATE_MISSING, "no state|at 100%\nhere")
ALWAYS = {
    "wanrec_drift_success",
    "wanrec_drift_unreadable_files",
    "wanrec_drift_suspect_files",
    "wanrec_drift_last_run_timestamp_seconds",
}


def metrics(text: str) -> dict[str, int]:
    """Samples of the exposition format; fails on a line that is neither comment nor sample."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("# "):
            match = SAMPLE.fullmatch(line)
            assert match is not None, line
            found[line.rpartition(" ")[0]] = int(match[3])
    return found


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: DriftFormat, snapshot: SnapshotAssertion) -> None:
    """Every kind of finding has its place in every form."""
    assert render_drift(every_drift(), form, at_ns=AT) == snapshot


@pytest.mark.parametrize("form", FORMS)
def test_clean_forms(form: DriftFormat, snapshot: SnapshotAssertion) -> None:
    """A clean report is told in every form, with zeros for known models."""
    assert render_drift(clean_drift(), form, at_ns=AT) == snapshot


@pytest.mark.parametrize("form", FORMS)
def test_failed_forms(form: DriftFormat, snapshot: SnapshotAssertion) -> None:
    """A check that failed says so in every form."""
    assert render_drift_error(FAILED, form, at_ns=AT) == snapshot


def test_variants_count_together() -> None:
    """The label model_id is the model's id; its variants are summed."""
    other = attrs.evolve(sample_item(), address="t2v-A14B@2.2.0[fp16]::vae/content.json")
    report = DriftReport(checked=2, items=(sample_item(), other))
    found = metrics(render_drift(report, DriftFormat.PROMETHEUS, at_ns=AT))
    assert found['wanrec_drift_files{model_id="t2v-A14B@2.2.0",kind="content"}'] == 2


def test_the_time_is_the_argument() -> None:
    """The timestamp is the moment handed in, in seconds."""
    found = metrics(render_drift(clean_drift(), DriftFormat.PROMETHEUS, at_ns=AT))
    assert found["wanrec_drift_last_run_timestamp_seconds"] == 1_764_000_000


@given(reports)
def test_prometheus_is_well_formed(report: DriftReport) -> None:
    """Every line parses, the promised metrics are there, the sum is the number of findings."""
    text = render_drift(report, DriftFormat.PROMETHEUS, at_ns=AT)
    found = metrics(text)
    assert found.keys() >= ALWAYS
    files = [n for name, n in found.items() if name.startswith("wanrec_drift_files{")]
    assert sum(files) == len(report.items)
    assert text.endswith("\n")


def test_a_failed_check_keeps_the_metrics() -> None:
    """A check that failed still writes the promised metrics, success 0."""
    found = metrics(render_drift_error(FAILED, DriftFormat.PROMETHEUS, at_ns=AT))
    assert found.keys() == ALWAYS
    assert found["wanrec_drift_success"] == 0


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"suspects": ("a@1::x",)}, 1),
        ({"busy": ("a@1",)}, 1),
        ({"suspects": ("a@1::x",), "items": (sample_item(),)}, 2),
        ({"items": (sample_item(),), "unreadable": (("x", "EIO"),)}, 3),
        ({"unreadable": (("x", "EIO"),)}, 3),
    ],
)
def test_nagios_codes(changes: dict[str, object], code: int) -> None:
    """Nagios gets its own exit codes, and the status line agrees with them."""
    report = attrs.evolve(clean_drift(), **changes)
    word = ("OK", "WARNING", "CRITICAL", "UNKNOWN")[code]
    assert nagios_exit(report) == code
    assert render_drift(report, DriftFormat.NAGIOS).startswith(f"WANREC {word} - ")


def test_nagios_without_a_report() -> None:
    """A check that failed is UNKNOWN."""
    assert nagios_exit(None) == 3


@given(reports)
def test_nagios_has_one_bar(report: DriftReport) -> None:
    """Only the first line has performance data, whatever the names hold."""
    first, *rest = render_drift(report, DriftFormat.NAGIOS).splitlines()
    assert first.count("|") == 1
    assert "|" not in "".join(rest)


@given(reports)
def test_junit_is_well_formed(report: DriftReport) -> None:
    """The XML parses and its counts are the numbers of its elements."""
    root = ET.fromstring(render_drift(report, DriftFormat.JUNIT).encode())
    for suite in [root, *root]:
        assert int(suite.get("tests", "")) == len(list(suite.iter("testcase")))
        assert int(suite.get("failures", "")) == len(list(suite.iter("failure")))
        assert int(suite.get("errors", "")) == len(list(suite.iter("error")))
        assert int(suite.get("skipped", "")) == len(list(suite.iter("skipped")))
    assert int(root.get("failures", "")) == len(report.items)
    assert int(root.get("errors", "")) == len(report.unreadable)


@given(reports)
def test_tap_counts(report: DriftReport) -> None:
    """The plan line promises as many results as follow, numbered in order."""
    lines = render_drift(report, DriftFormat.TAP).splitlines()
    results = [line for line in lines if re.match(r"(not )?ok ", line)]
    assert lines[:2] == ["TAP version 13", f"1..{len(results)}"]
    assert [int(re.search(r"\d+", line)[0]) for line in results] == list(  # type: ignore[index]
        range(1, len(results) + 1)
    )
    failed = sum(line.startswith("not ok") for line in results)
    assert failed == len(report.items) + len(report.unreadable)


@given(reports)
def test_github_has_one_command_per_line(report: DriftReport) -> None:
    """Each annotation is one workflow command; no name can start another."""
    lines = render_drift(report, DriftFormat.GITHUB).splitlines()
    assert all(re.match(r"::(error|warning|notice) title=[\w ]+::", line) for line in lines)
    errors = sum(line.startswith("::error") for line in lines)
    assert errors == len(report.items) + len(report.unreadable)


def test_hostile_names_in_every_form() -> None:
    """No form passes a control character on."""
    item = attrs.evolve(sample_item(), address=f"{HOSTILE}::{HOSTILE}")
    report = DriftReport(checked=1, items=(item,), models=(HOSTILE,))
    for form in FORMS:
        text = render_drift(report, form, at_ns=AT)
        assert all(line.isprintable() for line in text.split("\n"))


def test_unknown_form() -> None:
    """A form nobody wrote is a programming error, not silence."""
    with pytest.raises(ValueError, match="not a monitoring form"):
        drift_monitoring(clean_drift(), "carrier-pigeon", AT)
    with pytest.raises(ValueError, match="not a monitoring form"):
        error_monitoring(FAILED, "carrier-pigeon", AT)


def test_an_item_of_an_unlisted_model_is_counted() -> None:
    """A finding counts also when its model was not announced."""
    item = DriftItem(
        address="new@1::x", model="new@1", path="x", kind=sample_item().kind,
        expected=None, found=None,
    )  # fmt: skip
    found = metrics(render_drift(DriftReport(checked=1, items=(item,)), DriftFormat.PROMETHEUS))
    assert found['wanrec_drift_files{model_id="new@1",kind="missing"}'] == 0
    assert found['wanrec_drift_files{model_id="new@1",kind="content"}'] == 1
