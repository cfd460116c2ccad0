"""gc, pins and usage on real processes: who survives, what it costs, what is never touched."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.program import Program
from support.shelf import SIZE, SMALL, holding, models_there, own, shelf, used, whole
from support.specs import declare, mirror, spec_text

ROOM = len(SMALL)
"""Bytes of the file all models share."""


def reasons(document: dict[str, Any]) -> dict[str, str]:
    """NAME → reason of a gc document."""
    return {row["model"].partition("@")[0]: row["reason"] for row in document["models"]}


def state_of(program: Program) -> dict[str, Any]:
    """The stored state."""
    document: dict[str, Any] = json.loads((program.root / ".wanrec/state.json").read_bytes())
    return document


@contextmanager
def in_use(program: Program, model: str) -> Iterator[None]:
    """A process that is inside `wanrec.use` of this model."""
    ready = program.home / f"{model}.ready"
    with subprocess.Popen(
        [sys.executable, *holding(program, model, ready)],
        stdin=subprocess.PIPE,
        cwd=program.project,
        env=program.environment(),
    ) as process:
        while not ready.exists():
            assert process.poll() is None
        yield
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0


def test_exact_survivors_under_a_quota(wanrec: Program) -> None:
    """Pinned, protected, required and used models stay; of the rest the longest unused go."""
    models: dict[str, dict[str, Any]] = {name: {} for name in "abcdef"}
    models |= {
        "pinned": {},
        "guarded": {"protect": True},
        "wanted": {"presence": "required"},
        "base": {},
        "needer": {"presence": "required", "requires": ["base@1"]},
    }
    shelf(wanrec, models)
    wanrec.ok("pin", "pinned")
    used(wanrec, "pinned", "guarded", "base", "a", "b", "c", "d", "e", "f")
    keep = 7 * SIZE + ROOM
    dry = wanrec.ok("gc", "--dry-run", "--max-size", str(keep), "--json").json()
    assert len(models_there(wanrec)) == len(models)
    with in_use(wanrec, "b@1"):
        done = wanrec.ok("gc", "--max-size", str(keep), "--json").json()
    assert reasons(dry)["b"] == "quota"
    assert reasons(done) == {
        "a": "quota",
        "b": "in_use",
        "base": "required",
        "c": "quota",
        "d": "quota",
        "e": "quota",
        "f": "within_limits",
        "guarded": "protected",
        "needer": "required",
        "pinned": "pinned",
        "wanted": "required",
    }
    left = {"b", "f", "pinned", "guarded", "wanted", "base", "needer"}
    assert whole(wanrec, left)
    assert {key.partition("@")[0] for key in state_of(wanrec)["models"]} == left
    assert done["after"] == keep
    assert done["freed"] == 4 * SIZE
    assert wanrec.run("drift").exit == 0
    assert wanrec.ok("plan").stdout.startswith("No changes.")


def test_beside_a_running_apply_and_a_reader(wanrec: Program) -> None:
    """No room at all, beside a live run and a reader: exactly what nobody needs goes."""
    shelf(wanrec, {"base": {}, "a": {}, "b": {}, "read": {}, "pin": {}, "safe": {"protect": True}})
    wanrec.ok("pin", "pin")
    used(wanrec, "base", "read", "pin", "safe", "a", "b")
    big = {"big.txt": b"x" * 3_000_000}
    source = mirror(wanrec, "top", big)
    top = declare(big, source, requires=["base@1"], presence="on-demand")
    wanrec.write("specs/top.toml", spec_text({"top@1": top}))
    with (
        in_use(wanrec, "read@1"),
        wanrec.start("ensure", "top@1", env={"WANREC_BWLIMIT": "200KiB"}) as process,
    ):
        journal = wanrec.root / ".wanrec/journal"
        while not any(b"top@1" in path.read_bytes() for path in journal.glob("*.jsonl")):
            assert process.poll() is None
        done = wanrec.ok("gc", "--max-size", "0", "--json").json()
        process.kill()
        process.communicate()
    assert reasons(done) == {
        "a": "quota",
        "b": "quota",
        "base": "busy",
        "pin": "pinned",
        "read": "in_use",
        "safe": "protected",
    }
    assert whole(wanrec, {"base", "read", "pin", "safe"})
    wanrec.ok("ensure", "top@1")
    assert models_there(wanrec) == {"base", "read", "pin", "safe", "top"}
    assert wanrec.run("drift").exit == 0


def test_age_and_family_quota(wanrec: Program) -> None:
    """--max-age takes what was not used for so long; a family's quota from the settings holds."""
    shelf(wanrec, {"a": {}, "b": {}, "c": {}, "d": {}})
    used(wanrec, "a", "b", "c", "d")
    wanrec.ok("gc", "--max-age", "3h30m")
    assert models_there(wanrec) == {"b", "c", "d"}
    wanrec.write("wanrec.toml", f'[quotas]\nwan22 = "{2 * SIZE + ROOM}"\nother = "1 GiB"\n')
    wanrec.ok("gc")
    assert models_there(wanrec) == {"c", "d"}


def test_without_a_limit_nothing_is_evicted(wanrec: Program) -> None:
    """Plain gc evicts no model, writes no new state, and says why everything stays."""
    shelf(wanrec, {"a": {}, "r": {"presence": "required"}})
    before = state_of(wanrec)
    done = wanrec.ok("gc", "--json").json()
    assert reasons(done) == {"a": "within_limits", "r": "required"}
    assert state_of(wanrec) == before


def test_an_evicted_model_comes_back_by_ensure(wanrec: Program) -> None:
    """Eviction is no drift and no plan: ensure brings the model again, a user's file stays."""
    shelf(wanrec, {"a": {}, "b": {}})
    mine = wanrec.root / "wan22/a@1/notes.txt"
    mine.write_text("mine")
    wanrec.ok("gc", "--max-size", "0")
    assert wanrec.files() == {"wan22/a@1/notes.txt": b"mine"}
    assert wanrec.run("drift").exit == 0
    assert wanrec.ok("plan").stdout.startswith("No changes.")
    mine.unlink()
    mine.parent.rmdir()
    wanrec.ok("ensure", "a@1")
    assert whole(wanrec, {"a"})


@pytest.mark.parametrize("damage", ["missing", "corrupt", "never applied"])
def test_without_a_state_nothing_is_removed(wanrec: Program, damage: str) -> None:
    """No state, a damaged one, a root that never had one: exit 8, not a byte removed."""
    if damage != "never applied":
        shelf(wanrec, {"a": {}})
    state = wanrec.root / ".wanrec/state.json"
    if damage == "missing":
        state.unlink()
    elif damage == "corrupt":
        state.write_bytes(state.read_bytes()[:100])
    before = wanrec.files()
    for options in (("--dry-run",), ()):
        refused = wanrec.run("gc", "--max-size", "0", *options)
        assert refused.exit == 8
        assert "STATE_" in refused.stderr
    assert wanrec.files() == before


def test_pins_survive_applies(wanrec: Program) -> None:
    """A pin changes the record only; a later apply and a new version of a file keep it."""
    shelf(wanrec, {"a": {}})
    wanrec.ok("pin", "a@1")
    files = {**own("a"), "config.json": b"[]\n"}
    table = declare(files, mirror(wanrec, "a", files), presence="on-demand")
    wanrec.write("specs/models.toml", spec_text({"a@1": table}))
    wanrec.ok("apply", "-y")
    assert state_of(wanrec)["models"]["a@1"]["pinned"] is True
    wanrec.ok("gc", "--max-size", "0")
    assert models_there(wanrec) == {"a"}
    wanrec.ok("unpin", "a@1")
    wanrec.ok("gc", "--max-size", "0")
    assert models_there(wanrec) == set()
    assert wanrec.run("pin", "a@1").exit == 3


def test_leftovers_go_when_they_are_old(wanrec: Program) -> None:
    """Old partials, stage files and trees of no run go; young ones stay for the next apply."""
    shelf(wanrec, {"a": {}})
    base = wanrec.root / ".wanrec"
    old = [base / "partial/aa-1-x.part", base / "stage/blob/bb", base / "stage/tree/gone-1/f.txt"]
    young = [base / "partial/cc-1-x.part", base / "stage/blob/dd"]
    for path in (*old, *young):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 100)
    for path in (*old[:1], old[2], old[2].parent):
        os.utime(path, (1e9, 1e9))
    wanrec.ok("gc", env={"WANREC_STALE_AFTER": "1h"})
    assert not old[0].exists()
    assert all(path.exists() for path in young)
    wanrec.ok("gc", env={"WANREC_STALE_AFTER": "0"})
    assert not any(path.exists() for path in (*old, *young, old[2].parent))
    assert whole(wanrec, {"a"})


def test_parts_of_gone_contents_go(wanrec: Program) -> None:
    """Part digests of contents that nobody records any more go with the models, others stay."""
    shelf(wanrec, {"a": {}, "r": {"presence": "required"}})
    parts, blobs = wanrec.root / ".wanrec/cache/parts", wanrec.root / ".wanrec/stage/blob"
    sums = {name: hashlib.sha256(own(name)["weights.txt"]).hexdigest() for name in "ar"}
    shared = hashlib.sha256(SMALL).hexdigest()
    for folder in (parts, blobs):
        folder.mkdir(parents=True, exist_ok=True)
    for name in (*sums.values(), shared, "0" * 64):
        (parts / name).write_bytes(b"digests")
    (blobs / "old").write_bytes(b"staged")
    dry = wanrec.ok("gc", "--dry-run", "--json").json()["leftovers"]
    assert [row["path"] for row in dry if row["kind"] == "parts"] == [
        f".wanrec/cache/parts/{'0' * 64}"
    ]
    wanrec.ok("gc", "--max-size", "0", env={"WANREC_STALE_AFTER": "0"})
    assert {path.name for path in parts.iterdir()} == {sums["r"], shared}
    assert not (blobs / "old").exists(), "gc's own run is no reason to keep what is stale"
    assert whole(wanrec, {"r"})


def test_usage_agrees_with_du_and_stat(wanrec: Program) -> None:
    """Apparent, real and allocated bytes are those of stat, the total is that of du."""
    shelf(wanrec, {"a": {}, "b": {}, "r": {"presence": "required"}})
    (wanrec.root / "wan22/a@1/notes.txt").write_text("mine")
    found = wanrec.ok("usage", "--json").json()
    paths = [
        path
        for path in (wanrec.root / "wan22").rglob("*")
        if path.is_file() and path.name != "notes.txt"
    ]
    inodes = {path.stat().st_ino: path.stat() for path in paths}
    assert found["total"] == {
        "files": 6,
        "apparent": sum(path.stat().st_size for path in paths),
        "real": sum(stat.st_size for stat in inodes.values()),
        "shared": 0,
        "saved": 2 * ROOM,
        "allocated": sum(stat.st_blocks * 512 for stat in inodes.values()),
    }
    du = subprocess.run(
        ["du", "-s", "-B1", str(wanrec.root)], capture_output=True, text=True, check=True
    )
    assert found["disk"]["total"] == int(du.stdout.split()[0])
    rows = {row["model"]: row for row in found["models"]}
    assert rows["a@1"]["real"] == SIZE + ROOM
    assert rows["a@1"]["shared"] == ROOM
    text = wanrec.ok("usage").stdout
    assert "a@1" in text
    assert "█" in text


def test_a_refresh_that_finds_nothing_keeps_the_record(wanrec: Program) -> None:
    """All files gone, then --refresh-only: protection, pin and presence are still remembered."""
    shelf(wanrec, {"a": {"protect": True}, "b": {}})
    wanrec.ok("pin", "a@1")
    for path in (wanrec.root / "wan22/a@1").iterdir():
        path.unlink()
    wanrec.ok("apply", "--refresh-only", "-y")
    state = state_of(wanrec)
    record = state["models"]["a@1"]
    assert (record["protect"], record["pinned"], record["presence"]) == (True, True, "on-demand")
    assert not [address for address in state["files"] if address.startswith("a@1::")]
    assert wanrec.run("drift").exit == 0
    wanrec.ok("ensure", "a@1")
    assert whole(wanrec, {"a", "b"})
    assert state_of(wanrec)["models"]["a@1"]["pinned"] is True


def test_a_refresh_touches_no_file(wanrec: Program) -> None:
    """Touched and changed files under --refresh-only, the block gone: no file, no record lost."""
    shelf(wanrec, {"r": {"presence": "required", "protect": True}, "s": {"presence": "required"}})
    good, bad = (wanrec.root / "wan22/r@1" / name for name in ("config.json", "weights.txt"))
    os.utime(good)
    bad.chmod(0o644)
    bad.write_bytes(b"!" * SIZE)
    spec = wanrec.project / "specs/models.toml"
    text = spec.read_text()
    for content in (text, "schema_version = 1\n"):
        spec.write_text(content)
        wanrec.ok("apply", "--refresh-only", "-y")
        assert bad.read_bytes() == b"!" * SIZE
        record = state_of(wanrec)["models"]["r@1"]
        assert record["protect"] is True
        found = wanrec.run("drift", "--format", "json")
        assert found.exit == 2
        assert [item["address"] for item in found.json()["items"]] == ["r@1::weights.txt"]
    spec.write_text(text)
    wanrec.ok("apply", "-y")
    assert whole(wanrec, {"r", "s"})


@pytest.mark.parametrize(("mode", "inodes"), [("auto", 1), ("hardlink", 1), ("copy", 4)])
def test_link_mode(wanrec: Program, mode: str, inodes: int) -> None:
    """Equal bytes are one inode, or a file of its own for each model with link_mode copy."""
    wanrec.write("wanrec.toml", f'link_mode = "{mode}"\n')
    shelf(wanrec, {"a": {}, "r": {"presence": "required"}, "s": {"presence": "required"}})
    added = declare(own("b"), mirror(wanrec, "b", own("b")))
    wanrec.write("specs/more.toml", spec_text({"b@1": added}))
    plan = wanrec.ok("plan", "--format", "json").json()
    shared = [action["via"] for action in plan["actions"] if action["path"] == "config.json"]
    assert shared == ["copy" if mode == "copy" else "link"]
    wanrec.ok("apply", "-y")
    small = (wanrec.root / "wan22").glob("*/config.json")
    assert len({path.stat().st_ino for path in small}) == inodes
    assert whole(wanrec, {"a", "b", "r", "s"})
    assert wanrec.run("drift").exit == 0
    assert wanrec.run("plan", "--detailed-exitcode").exit == 0


def test_two_thousand_ensures_leave_no_trace(wanrec: Program) -> None:
    """Ensuring a present model, again and again: state, files and descriptors do not grow."""
    shelf(wanrec, {"a": {}})
    code = (
        "import os, wanrec\n"
        "for _ in range(20): wanrec.ensure('a@1')\n"
        "fds = len(os.listdir('/proc/self/fd'))\n"
        "for _ in range(2000): wanrec.ensure('a@1')\n"
        "assert len(os.listdir('/proc/self/fd')) == fds\n"
    )

    def picture() -> dict[str, tuple[int, int]]:
        return {
            str(path.relative_to(wanrec.root)): (path.stat().st_ino, path.stat().st_size)
            for path in wanrec.root.rglob("*")
        }

    before = picture()
    subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=wanrec.project,
        env=wanrec.environment(),
        check=True,
        timeout=100,
    )
    assert picture() == before


@pytest.mark.strace
def test_ensure_of_a_present_model_only_looks(wanrec: Program) -> None:
    """A present 50-file model: no lock, no write; the one change is the time of its use mark."""
    files = {f"part/{number}.txt": b"%d" % number for number in range(50)}
    table = declare(files, mirror(wanrec, "many", files), presence="on-demand")
    wanrec.write("specs/models.toml", spec_text({"many@1": table}))
    wanrec.ok("ensure", "many@1")
    trace = wanrec.home / "trace"
    calls = "openat,open,creat,write,pwrite64,rename,renameat,renameat2,link,linkat,unlink,unlinkat"
    calls += ",mkdir,mkdirat,rmdir,chmod,fchmod,fchmodat,truncate,ftruncate,fsync,fcntl,utimensat"
    done = subprocess.run(
        [
            *("strace", "-f", "-qq", "-y", "-o", str(trace), "-e", f"trace={calls}"),
            *(sys.executable, "-P", "-m", "wanrec", "ensure", "many@1"),
        ],
        cwd=wanrec.project,
        env=wanrec.environment(PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = [line for line in trace.read_text().splitlines() if str(wanrec.root) in line]
    reading = [line for line in seen if "O_WRONLY" in line or "O_RDWR" in line or "O_CREAT" in line]
    assert reading == []
    changing = [line for line in seen if "openat(" not in line and "fcntl(" not in line]
    assert [line for line in changing if "write(1<" not in line and "utimensat(" not in line] == []
    assert not [line for line in seen if "F_SETLK" in line]


def test_ensure_on_a_read_only_root(wanrec: Program, tmp_path: Path) -> None:
    """A root mounted read-only, no specs, no sources: ensure and use answer all the same."""
    shelf(wanrec, {"a": {}})
    (wanrec.project / "specs/models.toml").unlink()
    (wanrec.project / "mirror").rename(tmp_path / "gone")
    place = str(wanrec.root)
    script = (
        f"mount --bind '{place}' '{place}' && mount -o remount,ro,bind '{place}' || exit 77\n"
        f"'{sys.executable}' -P -m wanrec ensure a@1 || exit 1\n"
        f"'{sys.executable}' -P -c \"import wanrec\n"
        "with wanrec.use('a@1') as path: print(path)\""
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        cwd=wanrec.project,
        env=wanrec.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("cannot mount here")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{place}/wan22/a@1"] * 2
