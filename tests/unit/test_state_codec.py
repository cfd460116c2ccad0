"""State ↔ bytes: round trips, fixtures of every released format, and everything refused."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import Assurance, Presence
from wanrec.state import codec
from wanrec.state.model import (
    FileRecord,
    ModelCommit,
    ModelRecord,
    Owner,
    PlanProgress,
    ProjectRecord,
    State,
    apply_commits,
    files_by_model,
    fold_run,
)

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("state-v1*.json"))
WHOLE = (Path(__file__).parent / "fixtures" / "state-v1.json").read_bytes()

_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
_count = st.integers(0, 2**63)
_files = st.builds(
    FileRecord,
    path=_text,
    size=_count,
    sha256=_text,
    mtime_ns=st.integers(-(2**63), 2**63 - 1),
    ctime_ns=_count,
    ino=st.integers(0, 2**64 - 1),
    dev=_count,
    verified_at=_text,
    assurance=st.sampled_from(Assurance),
    source=st.none() | _text,
    revision=st.none() | _text,
    etag=st.none() | _text,
)
_models = st.builds(
    ModelRecord,
    spec_sha256=_text,
    owners=st.lists(st.builds(Owner, project=_text, spec=_text), max_size=3).map(tuple),
    protect=st.booleans(),
    pinned=st.booleans(),
    presence=st.sampled_from(Presence),
    applied_at=_text,
    directory=_text,
    generation=_count,
    requires=st.lists(_text, max_size=2).map(tuple),
)
_json = st.none() | st.booleans() | _text | st.integers(-(2**53), 2**53) | st.lists(_text)
_unknown = st.dictionaries(_text.map(lambda name: f"x-{name}"), _json, min_size=1, max_size=2)


@st.composite
def states(draw: st.DrawFn) -> State:
    """Any state, with and without fields that this wanrec does not know."""
    state = State(
        wanrec_version=draw(_text),
        lineage=draw(_text),
        serial=draw(_count),
        root_id=draw(_text),
        models=draw(st.dictionaries(_text, _models, max_size=3)),
        files=draw(st.dictionaries(_text.map(lambda path: f"m::{path}"), _files, max_size=4)),
        projects=draw(
            st.dictionaries(_text, st.builds(ProjectRecord, directory=_text), max_size=2)
        ),
        last_plan=draw(
            st.none() | st.builds(PlanProgress, plan=_text, base_serial=_count, serial=_count)
        ),
        folded=draw(st.lists(_text, max_size=2).map(tuple)),
    )
    places = [("", "")]
    places += [("", "last_plan")] if state.last_plan else []
    for table in ("models", "files", "projects"):
        places += [(table, key) for key in getattr(state, table)]
    chosen = draw(st.lists(st.sampled_from(places), unique=True, max_size=3))
    extra = {place: draw(_unknown) for place in chosen}
    return attrs.evolve(state, extra=extra or None)


@given(states())
def test_round_trip(state: State) -> None:
    """Any state comes back equal, and encodes to the same bytes again."""
    data = codec.encode(state)
    again = codec.decode(data, "state.json")
    assert again == state
    assert codec.encode(again) == data


@given(states())
def test_encoding_is_plain_json(state: State) -> None:
    """Any JSON reader sees the contract's keys, in the contract's order."""
    parsed = json.loads(codec.encode(state))
    assert list(parsed)[:7] == [
        "format_version",
        "wanrec_version",
        "lineage",
        "serial",
        "root_id",
        "models",
        "files",
    ]
    for record in parsed["files"].values():
        assert list(record)[:12] == [field.name for field in attrs.fields(FileRecord)]


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_released_format_round_trips(path: Path) -> None:
    """A file of a released version is read and written back byte for byte."""
    data = path.read_bytes()
    assert codec.encode(codec.decode(data, path.name)) == data


def test_fixture_values() -> None:
    """A known file means what it says."""
    state = codec.decode(WHOLE, "state.json")
    record = state.models["t2v-A14B@2.2.0[bf16]"]
    assert record.owners[1] == Owner(project="studio", spec="video.toml")
    assert record.protect
    assert state.models["umt5-xxl@1.0.0"].presence is Presence.ON_DEMAND
    assert state.files['umt5-xxl@1.0.0::größe": 模型.json'].assurance is Assurance.FOUND
    assert state.last_plan == PlanProgress(plan="d" * 64, base_serial=5, serial=7)


def test_order_of_tables_does_not_matter() -> None:
    """Two states with the same entries have the same bytes."""
    state = codec.decode(WHOLE, "state.json")
    turned = attrs.evolve(
        state,
        files=dict(reversed(state.files.items())),
        models=dict(reversed(state.models.items())),
    )
    assert codec.encode(turned) == WHOLE


def test_unknown_fields_follow_their_entry() -> None:
    """Unknown fields of an entry that is gone are gone with it; the others stay."""
    path = FIXTURES[0].with_name("state-v1-unknown-fields.json")
    state = codec.decode(path.read_bytes(), path.name)
    assert state.extra is not None
    assert state.extra[("", "")] == {"regions": ["eu", "us"]}
    kept = codec.encode(attrs.evolve(state, files={}, last_plan=None))
    assert b"blake3" not in kept
    assert b"tier" in kept
    assert b"regions" in kept


def test_spacing_and_missing_optional_fields_are_fine() -> None:
    """A file that a person reformatted, or that lacks our additive tables, is still a state."""
    parsed = json.loads(WHOLE)
    assert codec.decode(json.dumps(parsed, indent=4).encode(), "s") == codec.decode(WHOLE, "s")
    for name in ("projects", "last_plan", "folded"):
        del parsed[name]
    state = codec.decode(json.dumps(parsed).encode(), "s")
    assert (state.projects, state.last_plan, state.folded, state.extra) == ({}, None, (), None)


BAD = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "torn": WHOLE[:300],
    "trailing": WHOLE + b"{}",
    "not-utf8": WHOLE.replace(b"default", b"\xff\xfe\xfd\xfc\xfb\xfa\xf9", 1),
    "deep": b"[" * 100_000,
    "deep-unknown": WHOLE.replace(b'"serial": 7', b'"serial": 7,"x":' + b"[" * 20_000),
    "wrong-type": WHOLE.replace(b'"size":724', b'"size":"724"'),
    "wrong-assurance": WHOLE.replace(b'"found"', b'"hoped"'),
    "version-zero": WHOLE.replace(b'"format_version": 1', b'"format_version": 0'),
    "version-text": WHOLE.replace(b'"format_version": 1', b'"format_version": "1"'),
    "version-float": WHOLE.replace(b'"format_version": 1', b'"format_version": 1.5'),
    "serial-negative": WHOLE.replace(b'"serial": 7', b'"serial": -7'),
    "no-address": WHOLE.replace(b"[bf16]::vae", b"[bf16]/vae"),
    "path-above": WHOLE.replace(b'"path":"wan22/t2v', b'"path":"wan22/../../t2v'),
    "path-absolute": WHOLE.replace(b'"path":"wan22/', b'"path":"/wan22/'),
    "directory-above": WHOLE.replace(b'"directory":"wan22/', b'"directory":"../wan22/'),
    "files-list": b'{"format_version": 1, "files": []}',
    "duplicate-top": WHOLE.replace(b'"serial": 7', b'"serial": 7,\n"serial": 7'),
    "duplicate-field": WHOLE.replace(b'"size":724', b'"size":724,"size":725'),
    "duplicate-model": WHOLE.replace(b'"umt5-xxl@1.0.0":', b'"t2v-A14B@2.2.0[bf16]":'),
}


def test_two_dots_in_a_name_are_a_name() -> None:
    """Only whole segments lead upwards."""
    state = codec.decode(WHOLE.replace(b'"path":"wan22/t2v', b'"path":"wan22/..t2v'), "s")
    assert any("/..t2v" in record.path for record in state.files.values())


def test_what_strays_is_not_salvaged() -> None:
    """A record that leads out of the root is not taken over; its neighbours are."""
    spoiled = codec.salvage_lines(BAD["path-above"])
    kept = codec.salvage_lines(WHOLE)
    assert kept.files.keys() - spoiled.files.keys() == {"t2v-A14B@2.2.0[bf16]::vae/config.json"}
    assert spoiled.models == kept.models


@pytest.mark.parametrize("name", BAD)
def test_bad_bytes_are_refused(name: str) -> None:
    """What is not a whole state of this format is STATE_CORRUPT, with file and help."""
    collecting = gc.isenabled()
    with pytest.raises(WanrecError) as error:
        codec.decode(BAD[name], "root/state.json")
    assert error.value.code is ErrorCode.STATE_CORRUPT
    assert error.value.where == "root/state.json"
    assert error.value.hint == "wanrec state rebuild"
    assert gc.isenabled() is collecting


@pytest.mark.parametrize(
    "data",
    [
        WHOLE.replace(b'"format_version": 1', b'"format_version": 2'),
        b'{"format_version": 99, "models": "of another shape"}',
    ],
    ids=["same-shape", "other-shape"],
)
def test_newer_format_is_refused(data: bytes) -> None:
    """A newer format is STATE_NEWER, whether or not its shape still fits."""
    with pytest.raises(WanrecError) as error:
        codec.decode(data, "state.json")
    assert error.value.code is ErrorCode.STATE_NEWER


@given(st.binary(max_size=60) | st.integers(0, len(WHOLE)).map(lambda end: WHOLE[:end]))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    """No input escapes as anything but a state or a WanrecError of class 8."""
    try:
        assert isinstance(codec.decode(data, "s"), State)
    except WanrecError as error:
        assert error.exit_code == 8


def test_collection_stays_off_when_it_was_off() -> None:
    """Decoding pauses the garbage collector and leaves it as it found it."""
    gc.disable()
    try:
        codec.decode(WHOLE, "s")
        assert not gc.isenabled()
    finally:
        gc.enable()
    codec.decode(WHOLE, "s")
    assert gc.isenabled()


@given(st.binary(max_size=80) | st.integers(0, len(WHOLE)).map(lambda end: WHOLE[:end]))
def test_salvage_never_raises(data: bytes) -> None:
    """Whatever is left of a file, salvaging it returns entries that were really in it."""
    whole = codec.decode(WHOLE, "s")
    found = codec.salvage_lines(data)
    assert found.models.items() <= whole.models.items()
    assert found.files.items() <= whole.files.items()


def test_salvage_of_a_whole_file() -> None:
    """A whole file loses nothing that a rebuild needs."""
    whole = codec.decode(WHOLE, "s")
    found = codec.salvage_lines(WHOLE.replace(b'"serial": 7', b'"serial": "seven"'))
    assert (found.lineage, found.root_id, found.serial) == (whole.lineage, whole.root_id, 0)
    assert (found.models, found.files, found.projects) == (
        whole.models,
        whole.files,
        whole.projects,
    )


def test_import_is_light() -> None:
    """The codec loads none of the heavy libraries."""
    script = (
        "import sys, wanrec.state.codec\n"
        "heavy = {'networkx', 'fasteners', 'jinja2', 'rich', 'asyncio', 'logging', 'subprocess'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]", result.stderr


def _commit(key: str, generation: int = 1, digest: str = "a", **model: object) -> ModelCommit:
    record = FileRecord(
        path=f"w/{key}/f",
        size=1,
        sha256=digest,
        mtime_ns=1,
        ctime_ns=1,
        ino=1,
        dev=1,
        verified_at="t",
    )
    return ModelCommit(
        key=key,
        model=ModelRecord(spec_sha256="s", generation=generation, **model),
        files={"f": record},
    )


def test_commits_are_idempotent() -> None:
    """The same commits a second time change nothing: the very same state comes back."""
    once = apply_commits(State(), [_commit("a"), _commit("b")])
    assert once.serial == 1
    assert apply_commits(once, [_commit("a"), _commit("b")]) is once


def test_identity_is_not_content() -> None:
    """A refreshed record moves no serial; another hash, file set or protection does."""
    state = apply_commits(State(), [_commit("a")])
    touched = _commit("a", 2)
    moved = attrs.evolve(touched.files["f"], mtime_ns=9, verified_at="later")
    assert apply_commits(state, [attrs.evolve(touched, files={"f": moved})]).serial == 1
    assert apply_commits(state, [_commit("a", 2, digest="b")]).serial == 2
    assert apply_commits(state, [attrs.evolve(touched, files={})]).serial == 2
    assert apply_commits(state, [_commit("a", 2, protect=True)]).serial == 2
    gone = apply_commits(state, [ModelCommit(key="a", model=None)])
    assert (gone.serial, dict(gone.models), dict(gone.files)) == (2, {}, {})
    assert apply_commits(gone, [ModelCommit(key="a", model=None)]).serial == 2


def test_files_are_grouped_by_model() -> None:
    """Addresses become model key and path, whatever their order."""
    state = apply_commits(State(), [_commit("b"), _commit("a")])
    grouped = files_by_model(dict(reversed(state.files.items())))
    assert grouped == {key: {"f": state.files[f"{key}::f"]} for key in ("a", "b")}


def test_fold_without_change_returns_the_same_state() -> None:
    """Nothing to say: nothing to write."""
    state = apply_commits(State(), [_commit("a")])
    same = fold_run(state, [_commit("a")], plan="p", base_serial=1, projects={})
    assert same is state


def test_fold_ends_the_progress_of_another_plan() -> None:
    """A plan made from an older state than the one found earns no progress."""
    state = attrs.evolve(apply_commits(State(), [_commit("a")]), serial=4)
    after = fold_run(state, [_commit("b")], plan="p", base_serial=3, projects={})
    assert after.last_plan is None
    fresh = fold_run(state, [_commit("b")], plan="p", base_serial=4, projects={})
    assert fresh.last_plan == PlanProgress(plan="p", base_serial=4, serial=5)


def test_a_field_that_came_later_may_be_absent() -> None:
    """A state of before `default_variant` was recorded is read whole, and nothing is unknown."""
    older = WHOLE.replace(b',"default_variant":"bf16"', b"").replace(
        b',"default_variant":null', b""
    )
    state = codec.decode(older, "state.json")
    assert older != WHOLE
    assert state.extra is None
    assert {record.default_variant for record in state.models.values()} == {None}
