"""What an apply did, as text and JSON."""

from __future__ import annotations

import json

import attrs
import pytest
from support.render_samples import HOSTILE
from syrupy.assertion import SnapshotAssertion

from wanrec.reconcile.actions import ApplyResult, Failure
from wanrec.reconcile.errors import ErrorCode, Fault, FaultGroup, WanrecError
from wanrec.reconcile.model import Assurance
from wanrec.reconcile.render import render_apply, render_error

WHOLE = ApplyResult(created=2, verified=1, replaced=1, deleted=3, bytes_fetched=1_288_490_244)
WRONG = WanrecError(
    ErrorCode.CHECKSUM_FAIL,
    "vae/config.json is not what the spec says",
    detail="expected sha256:0d1c…\ngot sha256:ffff…",
    source="s3://ai-models/wan22",
    hint="wanrec lock --check",
)
PARTIAL = attrs.evolve(
    WHOLE,
    failures=(
        Failure(address="a@1::vae/config.json", error=WRONG),
        Failure(
            address="a@1::readme.md",
            error=WanrecError(ErrorCode.NOT_FOUND_AT_SOURCE, "gone"),
            optional=True,
        ),
    ),
    warnings=("s3://ai-models failed, went on with hf://Wan-AI",),
    delivered={
        "b@1::y": ("link", 0, Assurance.VERIFIED),
        "a@1::x": ("s3://ai-models/wan22", 724, Assurance.VERIFIED),
    },
)


def test_complete() -> None:
    """A whole apply is the frozen line."""
    assert render_apply(WHOLE) == (
        "Apply complete! 2 created, 1 verified, 1 replaced, 3 deleted. 1.2 GiB fetched.\n"
    )


def test_other_counts_come_before() -> None:
    """Adopted, moved and forgotten files have a line of their own: the frozen one stays last."""
    result = attrs.evolve(WHOLE, adopted=4, moved=5, forgotten=6, records_changed=1)
    assert render_apply(result) == (
        "Also: 4 adopted, 5 moved, 6 forgotten, 1 record updated.\n"
        "Apply complete! 2 created, 1 verified, 1 replaced, 3 deleted. 1.2 GiB fetched.\n"
    )


def test_already_applied() -> None:
    """A plan file that is wholly done says so."""
    assert render_apply(ApplyResult(already_applied=True)) == "Already applied.\n"


def test_partial(snapshot: SnapshotAssertion) -> None:
    """Failures are whole error blocks, optional ones warn, the last line says it was in part."""
    assert render_apply(PARTIAL) == snapshot
    assert render_apply(PARTIAL, color=True) == snapshot


def test_nothing_done() -> None:
    """An apply that only failed does not say that it finished."""
    failure = Failure(address="a@1", error=WRONG)
    assert render_apply(ApplyResult(failures=(failure,))).endswith(
        "\nApply failed: nothing was changed, 1 failed.\n"
    )


def test_optional_failures_leave_it_complete() -> None:
    """A failed optional file warns and no more."""
    result = attrs.evolve(WHOLE, failures=PARTIAL.failures[1:])
    assert "Apply complete!" in render_apply(result)
    assert render_apply(result).count("readme.md") == 1
    document = json.loads(render_apply(result, as_json=True))
    assert document["outcome"] == "complete"
    assert [text for text in document["warnings"] if "readme.md" in text]


def test_json(snapshot: SnapshotAssertion) -> None:
    """The summary has counts, failures with their codes, and who delivered what."""
    assert render_apply(PARTIAL, as_json=True) == snapshot


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (WHOLE, "complete"),
        (PARTIAL, "partial"),
        (ApplyResult(failures=PARTIAL.failures), "failed"),
        (ApplyResult(already_applied=True), "already_applied"),
    ],
)
def test_outcomes(result: ApplyResult, outcome: str) -> None:
    """The JSON names the outcome in one word."""
    assert json.loads(render_apply(result, as_json=True))["outcome"] == outcome


def test_error_block() -> None:
    """An error tells what, where, why and what helps, in that order."""
    assert render_error(WRONG, address="a@1::vae/config.json").splitlines() == [
        "Error[CHECKSUM_FAIL]: vae/config.json is not what the spec says",
        "  where:  a@1::vae/config.json",
        "  source: s3://ai-models/wan22",
        "  why:    expected sha256:0d1c…",
        "          got sha256:ffff…",
        "  help:   wanrec lock --check",
    ]


def test_error_keeps_its_own_place() -> None:
    """The place an error names wins over the action it happened to."""
    error = WanrecError(ErrorCode.IN_USE, "busy", where="/models/a")
    assert "a@1::x" not in render_error(error, address="a@1::x")


def test_errors_are_safe_to_print() -> None:
    """No control character of a name gets through an error."""
    group = FaultGroup([Fault("a.toml", 3, HOSTILE), Fault("b.toml", None, "x", at="y")])
    assert all(line.isprintable() for line in render_error(group).split("\n"))


def test_error_json() -> None:
    """The JSON form has the contract's fields."""
    document = json.loads(render_error(WRONG, as_json=True))
    assert document["format_version"] == 1
    fields = "code exit summary detail address source hint"
    assert document["error"].keys() >= set(fields.split())
