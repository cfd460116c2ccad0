"""The drift report as text and JSON."""

from __future__ import annotations

import json

import attrs
from hypothesis import given
from support.render_samples import clean_drift, every_drift, reports, sample_item
from syrupy.assertion import SnapshotAssertion

from wanrec.reconcile.actions import Content, DriftItem, DriftKind, DriftReport
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.render import DriftFormat, render_drift, render_drift_error


def test_text(snapshot: SnapshotAssertion) -> None:
    """One line per finding, the verdict last."""
    assert render_drift(every_drift()) == snapshot


def test_json(snapshot: SnapshotAssertion) -> None:
    """The contract's keys in the contract's order, integers for bytes."""
    assert render_drift(every_drift(), DriftFormat.JSON) == snapshot


def test_json_keys_in_order() -> None:
    """The keys of the document and of an item are those of the contract, in its order."""
    document = json.loads(render_drift(every_drift(), DriftFormat.JSON))
    keys = "format_version drifted checked items suspects busy unreadable foreign"
    assert list(document) == keys.split()
    keys = "address model path kind expected found"
    assert list(document["items"][0])[:6] == keys.split()


def test_clean() -> None:
    """A clean disk is one line."""
    assert render_drift(clean_drift()) == "No drift. 60 files match the state.\n"


def test_one_unreadable_file_is_not_clean() -> None:
    """What could not be judged is never called clean."""
    report = attrs.evolve(clean_drift(), unreadable=(("a@1::x", "EACCES"),))
    assert render_drift(report).splitlines() == [
        "! a@1::x  unreadable: EACCES",
        "Drift: 0 differ, 0 suspect, 1 unreadable; 60 files checked.",
    ]


def test_many_foreign_files_are_counted() -> None:
    """Text names the first foreign entries and counts the rest; JSON has them all."""
    report = attrs.evolve(clean_drift(), foreign=tuple(f"f{i}" for i in range(25)))
    assert "  … and 5 more foreign\n" in render_drift(report)
    assert len(json.loads(render_drift(report, DriftFormat.JSON))["foreign"]) == 25


def test_unknown_contents_have_words() -> None:
    """A finding without sizes and digests still reads."""
    item = DriftItem(
        address="a@1::x", model="a@1", path="x", kind=DriftKind.CONTENT,
        expected=Content(), found=None,
    )  # fmt: skip
    line = render_drift(DriftReport(checked=1, items=(item,))).splitlines()[0]
    assert line == "~ a@1::x  content  expected unknown  found nothing"


def test_colour() -> None:
    """Colour marks the symbol and the verdict only."""
    text = render_drift(DriftReport(checked=1, items=(sample_item(),)), color=True)
    assert text.startswith("\x1b[33m~\x1b[0m t2v-A14B@2.2.0[bf16]::vae/content.json  content")


@given(reports)
def test_text_is_complete_and_safe(report: DriftReport) -> None:
    """Every finding has a line, no line can harm a terminal, the verdict is last."""
    lines = render_drift(report).split("\n")
    assert all(line.isprintable() for line in lines)
    assert lines[-2].startswith(("Drift: ", "No drift. "))
    assert sum(line.startswith("~ ") for line in lines) >= len(report.items)
    assert lines[-2].startswith("No drift.") <= (not report.items)


@given(reports)
def test_json_round_trips(report: DriftReport) -> None:
    """The document is ASCII and says what the report says."""
    text = render_drift(report, DriftFormat.JSON)
    document = json.loads(text)
    assert text.isascii()
    assert [item["address"] for item in document["items"]] == [i.address for i in report.items]
    assert document["drifted"] == report.drifted


def test_a_failed_check() -> None:
    """A check that failed leaves text to the error printer; JSON carries the error."""
    error = WanrecError(ErrorCode.STATE_MISSING, "no state")
    assert render_drift_error(error, DriftFormat.TEXT) == ""
    document = json.loads(render_drift_error(error, DriftFormat.JSON))
    assert (document["format_version"], document["error"]["code"]) == (1, "STATE_MISSING")
