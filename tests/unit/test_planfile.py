"""Plan files: form, binding, refusals, and resumption."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from unit.strategies import CONTENTS, World, applied, desired, file_spec, model

from wanrec.reconcile.actions import Plan, PlanOptions
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.planfile import (
    PlanFile,
    Resume,
    _digest,
    _written,
    action_to_dict,
    check_resumable,
    decode,
    encode,
    looks_like_plan,
    plan_digest,
    plan_to_dict,
)
from wanrec.state.model import ModelRecord, PlanProgress, State

SECRET = "https://user:hunter2@host/x?X-Amz-Signature=abc#frag"


@pytest.fixture
def plan() -> Plan:
    """A plan with an action, made in a directory with a telling name."""
    wanted = desired(model("a", [file_spec("config.json", CONTENTS[0])], sources=(SECRET,)))
    return World().plan(wanted, project_directory="/home/alice/work", wanrec_version="1.2.3")


def forged(document: dict[str, Any]) -> bytes:
    """Return a document with a digest that fits."""
    return _written({**document, "digest": _digest(document)})


def refusal(data: bytes) -> WanrecError:
    """Return the error that decoding raises."""
    with pytest.raises(WanrecError) as caught:
        decode(data, "plan.wanrec")
    assert caught.value.where == "plan.wanrec"
    return caught.value


NAMES = (
    "format_version wanrec_version project lineage serial specs options selection partial"
    " actions records foreign drift warnings blocked summary"
)
SUMMARY = "create verify replace delete adopt move forget bytes_to_fetch bytes_to_free bytes_saved"
ACTION = (
    "address model variant path action reason size sha256 before after sources via"
    " bytes_to_fetch depends_on donor optional"
)


def test_the_document_has_the_names_of_the_contract(plan: Plan) -> None:
    """Every name of the contract is there, in a stable order."""
    document = plan_to_dict(plan)
    assert list(document) == NAMES.split()
    assert list(document["summary"]) == SUMMARY.split()
    assert list(action_to_dict(plan.actions[0])) == ACTION.split()


def test_a_file_is_safe_to_publish(plan: Plan) -> None:
    """No user info, query, or directory of the machine gets into the file."""
    text = encode(plan).decode()
    assert '"https://host/x"' in text
    for secret in ("hunter2", "user", "Signature", "frag", "alice"):
        assert secret not in text


def test_a_file_reads_back_as_the_same_plan(plan: Plan) -> None:
    """All but the project directory survives; the id is the digest of the content."""
    read = decode(encode(plan), "p")
    options = attrs.evolve(plan.options, project_directory="")
    assert read.plan == attrs.evolve(plan, options=options)
    assert read.plan_id == plan_digest(plan) == json.loads(encode(plan))["digest"]
    assert encode(read.plan) == encode(plan)


def test_options_and_selection_travel_in_the_file(plan: Plan) -> None:
    """What the plan was allowed to do is what its apply may do."""
    options = PlanOptions(
        project="video",
        deep=True,
        replace=frozenset(["b", "a"]),
        allow_delete=True,
        verified_before="2026-01-01T00:00:00Z",
    )
    sent = attrs.evolve(plan, options=options, selection=("specs/a.toml",), partial=True)
    assert decode(encode(sent), "p").plan == sent


def test_an_edit_is_corrupt(plan: Plan) -> None:
    """A changed hash does not fit the digest."""
    good = encode(plan)
    assert refusal(good.replace(b'"serial": 0', b'"serial": 1')).code is ErrorCode.PLAN_CORRUPT


def test_an_edit_of_blanks_is_corrupt(plan: Plan) -> None:
    """A saved plan is the bytes that were reviewed: not one blank or line end more or less."""
    good = encode(plan)
    decode(good, "p")
    compact = json.dumps(json.loads(good)).encode()
    for edited in (good + b"\n", b" " + good, good.replace(b"\n", b"\r\n"), compact):
        assert refusal(edited).code is ErrorCode.PLAN_CORRUPT


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"format_version": "1"}',
        b'{"format_version": true}',
        b'{"format_version": 0}',
        b'{"format_version": 1}',
        b'{"format_version": NaN}',
        b'{"format_version": 1, "format_version": 1}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_plan_is_corrupt(data: bytes) -> None:
    """Empty, torn, of another shape, or with a key twice: PLAN_CORRUPT, no traceback."""
    assert refusal(data).code is ErrorCode.PLAN_CORRUPT


def test_every_torn_end_is_corrupt(plan: Plan) -> None:
    """A file cut anywhere before its last brace is refused."""
    good = encode(plan)
    for length in range(0, len(good) - 2, 37):
        assert refusal(good[:length]).code is ErrorCode.PLAN_CORRUPT


def test_a_huge_file_is_not_parsed(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size is looked at before the content."""
    monkeypatch.setattr("wanrec.reconcile.planfile._MAX_PLAN_BYTES", 10)
    assert "larger" in refusal(encode(plan)).detail


def test_a_newer_format_says_so(plan: Plan) -> None:
    """A newer format is not called corrupt, and nothing else of it is read."""
    assert refusal(b'{"format_version": 2}').code is ErrorCode.PLAN_NEWER


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("serial", "0"),
        ("serial", None),
        ("actions", [{"address": "a"}]),
        ("actions", 5),
        ("options", None),
        ("options", {"deep": "yes"}),
        ("project", 3),
        ("blocked", [{"code": "NO_SUCH_CODE", "message": "m"}]),
    ],
)
def test_a_fitting_digest_does_not_excuse_wrong_types(plan: Plan, name: str, value: object) -> None:
    """A forged file with its own digest still has to be a plan."""
    document = {**plan_to_dict(plan), name: value}
    assert refusal(forged(document)).code is ErrorCode.PLAN_CORRUPT


@pytest.mark.parametrize(
    "change",
    [
        {"path": "../../etc/passwd", "address": "a@1.0::../../etc/passwd"},
        {"path": "/etc/passwd", "address": "a@1.0::/etc/passwd"},
        {"address": "b@1.0::config.json"},
    ],
)
def test_a_forged_path_is_refused(plan: Plan, change: dict[str, str]) -> None:
    """No path of a plan file leaves the model directory, and addresses mean what they say."""
    document = plan_to_dict(plan)
    document["actions"][0].update(change)
    assert refusal(forged(document)).code is ErrorCode.PLAN_CORRUPT


def test_a_plan_is_told_by_its_first_byte(plan: Plan) -> None:
    """JSON starts with a brace; a spec file never does."""
    assert looks_like_plan(encode(plan)[:10])
    assert looks_like_plan(b"\xef\xbb\xbf \n{")
    assert not looks_like_plan(b"schema_version = 1")
    assert not looks_like_plan(b"# later\n", "models.toml")


@pytest.mark.parametrize("rest", [b"", b" \n", b'"serial": 0,\n"specs": {}}', b"\x00\xff"])
def test_what_was_a_plan_is_told_from_a_spec(rest: bytes) -> None:
    """An emptied or torn plan is no spec: nothing of a spec stands in it."""
    assert looks_like_plan(rest, "reviewed.wanplan")
    assert not looks_like_plan(rest, "models.toml")


PLAN_ID = "f" * 64
LATER = Plan(lineage="L", serial=4, specs={})
FIRST = Plan(lineage=None, serial=0, specs={})


def progress(plan: str = PLAN_ID, base: int = 4, serial: int = 6) -> PlanProgress:
    """Return what a state remembers of the last plan."""
    return PlanProgress(plan=plan, base_serial=base, serial=serial)


@pytest.mark.parametrize(
    ("plan", "state", "answer"),
    [
        (FIRST, None, Resume.FRESH),
        (FIRST, State(lineage="L", serial=0), Resume.FRESH),
        (FIRST, State(lineage="L", serial=6, last_plan=progress(base=0)), Resume.CONTINUES),
        (FIRST, State(lineage="L", serial=6, last_plan=progress("other", 0)), Resume.STALE),
        (FIRST, State(lineage="L", serial=1), Resume.STALE),
        (FIRST, State(lineage="L", models={"a@1": ModelRecord(spec_sha256="")}), Resume.STALE),
        (LATER, None, Resume.FOREIGN),
        (LATER, State(lineage="M", serial=4), Resume.FOREIGN),
        (LATER, State(lineage="M", serial=6, last_plan=progress()), Resume.FOREIGN),
        (LATER, State(lineage="L", serial=4), Resume.FRESH),
        (LATER, State(lineage="L", serial=5), Resume.STALE),
        (LATER, State(lineage="L", serial=3), Resume.STALE),
        (LATER, State(lineage="L", serial=6, last_plan=progress()), Resume.CONTINUES),
        (LATER, State(lineage="L", serial=7, last_plan=progress()), Resume.STALE),
        (LATER, State(lineage="L", serial=6, last_plan=progress(base=5)), Resume.STALE),
        (LATER, State(lineage="L", serial=6, last_plan=progress("other")), Resume.STALE),
    ],
)
def test_a_saved_plan_meets_a_state(plan: Plan, state: State | None, answer: Resume) -> None:
    """Only the state it was made from, or one that it changed alone, lets a plan go on."""
    assert check_resumable(PlanFile(plan=plan, plan_id=PLAN_ID), state) is answer


def test_drift_and_blocks_are_in_the_file() -> None:
    """A plan that says what differs and why it is refused keeps both through its file."""
    wanted = desired(model("a", [file_spec("config.json", CONTENTS[0])]))
    world = applied(wanted)
    world.disk.spoil("wan22/a@1.0/config.json")
    world.disk.put("wan22/a@1.0/new.json", b"foreign")
    more = [file_spec("config.json", CONTENTS[0]), file_spec("new.json", CONTENTS[1])]
    plan = world.plan(desired(model("a", more)), deep=True)
    assert plan.drift
    assert plan.blocked
    assert decode(encode(plan), "p").plan == plan
