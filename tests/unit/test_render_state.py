"""Status, state, history, locks, node ids and settings."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from support.render_samples import HOSTILE, digest
from syrupy.assertion import SnapshotAssertion

from wanrec.reconcile import render
from wanrec.reconcile.actions import ModelStatus, Status
from wanrec.reconcile.model import Assurance, Presence
from wanrec.state.model import FileRecord, ModelRecord, Owner, State

STAT: dict[str, Any] = {"mtime_ns": 1, "ctime_ns": 2, "ino": 3, "dev": 4}
AT = "2026-11-23T20:00:00.000000Z"
STATE = State(
    lineage="0c7c",
    serial=7,
    models={
        "a@1": ModelRecord(
            spec_sha256=digest("aa"),
            owners=(Owner(project="lab", spec="specs/a.toml"), Owner(project="lab", spec="b.toml")),
            protect=True,
            pinned=True,
            presence=Presence.ON_DEMAND,
            applied_at=AT,
            directory="wan22/a@1",
            requires=("b@1",),
        ),
        "b@1": ModelRecord(spec_sha256=digest("bb")),
    },
    files={
        "a@1::vae/config.json": FileRecord(
            path="wan22/a@1/vae/config.json", size=724, sha256=digest("0d1c"), verified_at=AT,
            source="s3://ai-models/wan22", **STAT,
        ),
        "a@1::x.bin": FileRecord(
            path="wan22/a@1/x.bin", size=2**20, sha256=digest("ffff"), verified_at=AT,
            assurance=Assurance.ASSUMED, **STAT,
        ),
    },
)  # fmt: skip
ROWS = (
    ModelStatus(
        model="a@1", state=Status.COMPLETE, path="wan22/a@1", bytes_needed=0, bytes_present=2**20,
        last_verified=AT, pinned=True, protect=True,
    ),
    ModelStatus(
        model="b@1[fp16]", state=Status.PARTIAL, path="wan22/b@1@fp16", bytes_needed=724,
        bytes_present=0, missing_files=("x", "y"), presence="on-demand",
    ),
)  # fmt: skip


@attrs.frozen(kw_only=True)
class Lock:
    """A held lock, as the state's lock module tells it."""

    name: str
    pid: int = 0
    host: str = ""
    operation: str = ""
    since: str = ""
    run: str | None = None


LOCKS = (
    Lock(name="model-a@1", pid=42, host="gpu1", operation="apply", since=AT, run="r1"),
    Lock(name="state"),
)
HISTORY = (
    {"serial": 7, "time": AT, "operation": "apply", "run": "r1", "models": ["a@1", "b@1"]},
    {"serial": 6, "wanrec_version": "1.0.0"},
)


def test_status(snapshot: SnapshotAssertion) -> None:
    """One line, or one object, per model."""
    assert render.render_status(ROWS) == snapshot
    assert render.render_status(ROWS, as_json=True) == snapshot


def test_state_list(snapshot: SnapshotAssertion) -> None:
    """Models are listed with what they hold and who wants them."""
    assert render.render_state_list(STATE) == snapshot
    assert render.render_state_list(STATE, as_json=True) == snapshot


def test_state_show(snapshot: SnapshotAssertion) -> None:
    """The whole state begins with its lineage and serial; a model without files has no table."""
    assert render.render_state_show(STATE) == snapshot
    assert render.render_state_show(STATE, as_json=True) == snapshot


def test_state_show_one() -> None:
    """Asked for one model, only that one is shown."""
    text = render.render_state_show(STATE, ["b@1"])
    assert text.startswith("b@1  (0 files, 0 B)\n")
    assert "a@1" not in text
    document = json.loads(render.render_state_show(STATE, ["b@1"], as_json=True))
    assert (list(document["models"]), document["files"]) == (["b@1"], {})
    with pytest.raises(KeyError):
        render.render_state_show(STATE, ["c@1"])


def test_history(snapshot: SnapshotAssertion) -> None:
    """One line per change; what an entry does not know stays empty."""
    assert render.render_history(HISTORY) == snapshot
    assert json.loads(render.render_history(HISTORY, as_json=True))["history"] == list(HISTORY)


def test_locks(snapshot: SnapshotAssertion) -> None:
    """Who holds what since when; unknown holders stay empty."""
    assert render.render_locks(LOCKS) == snapshot
    assert render.render_locks(LOCKS, as_json=True) == snapshot
    assert render.render_locks(()) == "No locks are held.\n"


def test_collect() -> None:
    """Node ids one a line, nothing else on stdout; origins are indented below."""
    ids = ["specs/a.toml::a@1::x", "specs/a.toml::a@1::y"]
    assert render.render_collect(ids) == "specs/a.toml::a@1::x\nspecs/a.toml::a@1::y\n"
    origins = {ids[0]: ("family from specs/defaults.toml",)}
    told = render.render_collect(ids, origins=origins)
    assert told.splitlines()[1] == "    family from specs/defaults.toml"
    document = json.loads(render.render_collect(ids, as_json=True))
    assert document == {"format_version": 1, "count": 2, "node_ids": ids}
    document = json.loads(render.render_collect(ids, origins=origins, as_json=True))
    assert document["origins"] == {ids[0]: ["family from specs/defaults.toml"]}
    assert render.render_collect([]) == ""


def test_config() -> None:
    """Each setting with its value and where it came from."""
    rows = [("root", "/models", "--root"), ("offline", "false", "default")]
    assert render.render_config(rows) == (
        "SETTING  VALUE    FROM\nroot     /models  --root\noffline  false    default\n"
    )
    document = json.loads(render.render_config(rows, as_json=True))
    assert document["settings"]["root"] == {"value": "/models", "from": "--root"}


def test_any_table_is_safe() -> None:
    """No table passes a control character on."""
    rows = [(HOSTILE, HOSTILE, HOSTILE)]
    texts = [
        render.render_table(("A", "B", "C"), rows),
        render.render_config(rows),
        render.render_collect([HOSTILE]),
        render.render_locks([Lock(name=HOSTILE, host=HOSTILE)]),
        render.render_history([{"operation": HOSTILE, "models": [HOSTILE]}]),
        render.render_status([attrs.evolve(ROWS[0], model=HOSTILE)]),
        render.render_state_show(State(models={HOSTILE: ModelRecord(spec_sha256="")})),
    ]
    assert all(line.isprintable() for text in texts for line in text.split("\n"))
