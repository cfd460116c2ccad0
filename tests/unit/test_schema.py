"""JSON Schemas: fresh in specs/, and in agreement with what wanrec reads and writes."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.json_schema import problems
from unit.test_manifest import CONTRACT, FILE_FAULTS, MODEL, MODEL_FAULTS

from wanrec.reconcile.actions import Action, Content, Plan
from wanrec.reconcile.lockfile import LockedFile, LockedModel, LockFile, dump_lock
from wanrec.reconcile.manifest_schema import FILE_KEYS, MODEL_KEYS, TOP_KEYS
from wanrec.reconcile.model import ActionKind, Reason, Via
from wanrec.reconcile.planfile import encode, plan_to_dict
from wanrec.reconcile.schema import EVENT_FIELDS, SCHEMA_KINDS, schema_for, schema_text
from wanrec.reconcile.telemetry import EventKind
from wanrec.state import codec
from wanrec.state.model import FileRecord, ModelRecord, Owner, ProjectRecord, State

SHA = "a" * 64


def check(value: object, kind: str) -> list[str]:
    """What a document does against one of our schemas."""
    schema = schema_for(kind)
    return problems(value, schema, schema)


@pytest.mark.parametrize("kind", SCHEMA_KINDS)
def test_shipped_copy_is_fresh(kind: str, checkout: Path) -> None:
    """specs/KIND.schema.json is what `wanrec schema KIND` prints."""
    shipped = (checkout / f"specs/{kind}.schema.json").read_text(encoding="utf-8")
    assert shipped == schema_text(kind)


@pytest.mark.parametrize("kind", SCHEMA_KINDS)
def test_every_reference_leads_somewhere(kind: str) -> None:
    """No schema points at a definition that it does not have."""
    schema = schema_for(kind)
    names = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema)))
    assert names <= set(schema.get("$defs", {}))


def test_unknown_kind() -> None:
    """There are five kinds and no more."""
    with pytest.raises(KeyError):
        schema_for("models")


def test_manifest_schema_has_every_key_with_its_documentation() -> None:
    """The tables and the schema name the same keys."""
    schema = schema_for("manifest")
    assert schema["properties"].keys() == TOP_KEYS.keys()
    assert schema["$defs"]["model"]["properties"].keys() == MODEL_KEYS.keys()
    assert schema["$defs"]["file"]["properties"].keys() == FILE_KEYS.keys()
    for table in schema["$defs"].values():
        assert all(key["description"] for key in table["properties"].values())


def test_valid_specs_pass_the_manifest_schema(checkout: Path) -> None:
    """What the validator accepts, the schema accepts."""
    demo = (checkout / "specs/demo.toml").read_text(encoding="utf-8")
    for text in (CONTRACT, MODEL, demo, "schema_version = 1"):
        assert check(tomllib.loads(text), "manifest") == []


WORD_RULES = (
    "a list of strings",
    "true or false",
    "at least",
    "at most",
    "did you mean",
    "a string",
)


@pytest.mark.parametrize(
    "text",
    [MODEL + text for text, why in MODEL_FAULTS.items() if why and why.startswith(WORD_RULES)]
    + [
        MODEL + "[[models.'a@1'.files]]\n" + text
        for text, (why, _) in FILE_FAULTS.items()
        if why.startswith(("at least", "at most", "an integer", "64 hex", '"path"'))
    ],
)
def test_faults_of_shape_fail_the_manifest_schema(text: str) -> None:
    """A wrong type, limit or key is refused by the schema too (an editor shows it)."""
    document = tomllib.loads(text)
    if "install = 'al'" not in text:  # which words there are is not a matter of shape
        assert check(document, "manifest") or "/" in text


def test_lock_file_passes_its_schema() -> None:
    """What `wanrec lock` writes fits the lock schema."""
    file = LockedFile(path="vae/x.json", size=3, sha256=SHA, etag="e", variant="fp16")
    model = LockedModel(spec_sha256=SHA, revisions={"hf://a/b": "c"}, files=(file,))
    text = dump_lock(LockFile(path="x.lock.toml", models={"a@1": model}))
    assert check(tomllib.loads(text), "lock") == []
    assert check({"schema_version": 2}, "lock")
    assert check({"schema_version": 1, "what": 1}, "lock")


def test_state_passes_its_schema() -> None:
    """What the codec writes fits the state schema, every field of every record included."""
    file = FileRecord(
        path="wan22/a@1/x",
        size=3,
        sha256=SHA,
        mtime_ns=1,
        ctime_ns=1,
        ino=1,
        dev=1,
        verified_at="2026-01-01T00:00:00.000000Z",
    )
    model = ModelRecord(spec_sha256=SHA, owners=(Owner(project="p", spec="s"),))
    state = State(
        lineage="l",
        root_id="r",
        models={"a@1": model},
        files={"a@1::x": file},
        projects={"p": ProjectRecord(directory="d")},
    )
    document = json.loads(codec.encode(state))
    assert check(document, "state") == []
    assert document.keys() == schema_for("state")["properties"].keys()
    definition = schema_for("state")["$defs"]["FileRecord"]
    assert definition["properties"].keys() == {field.name for field in attrs.fields(FileRecord)}
    assert check(document | {"files": {"a": {"size": "3"}}}, "state")


def test_plan_passes_its_schema() -> None:
    """What `plan --format json` prints and what a plan file holds fit the plan schema."""
    action = Action(
        address="a@1::x",
        model="a@1",
        variant=None,
        path="x",
        action=ActionKind.CREATE,
        reason=Reason.MISSING,
        size=3,
        sha256=SHA,
        after=Content(size=3, sha256=SHA),
        sources=("local://x",),
        via=Via.FETCH,
        bytes_to_fetch=3,
    )
    plan = Plan(lineage=None, serial=0, specs={"specs/x.toml": SHA}, actions=(action,))
    document = plan_to_dict(plan)
    schema = schema_for("plan")
    assert check(document, "plan") == []
    assert check(json.loads(encode(plan)), "plan") == []
    assert {*document, "digest"} == set(schema["properties"])
    assert document["options"].keys() == schema["$defs"]["PlanOptions"]["properties"].keys()
    assert document["actions"][0].keys() == schema["$defs"]["Action"]["properties"].keys()
    assert check(document | {"actions": [{"address": "x"}]}, "plan")


def test_every_event_is_in_the_schema() -> None:
    """Each kind of event has its fields, and a line of a wrong shape is refused."""
    assert EVENT_FIELDS.keys() == set(EventKind)
    line = {"event": "action_complete", "time": "2026-01-01T00:00:00Z", "address": "a@1::x"}
    assert check(line, "events") == []
    assert check(line | {"address": 3}, "events")
    assert check(line | {"event": "other"}, "events")
    failed = {"event": "summary", "time": "t", "failed": [{"address": "a"}]}
    assert check(failed, "events")


@given(st.sampled_from(SCHEMA_KINDS))
def test_schema_is_a_function(kind: str) -> None:
    """The same text every time: nothing of one call leaks into the next."""
    assert schema_text(kind) == schema_text(kind)
