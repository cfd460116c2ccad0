"""`wanrec lock` against a Hub and an S3 server: commits are pinned, and nothing is guessed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import tomli_w
from support.hub_server import Answer, Asked, HubServer, running_hub
from support.program import Finished, Program
from support.seaweed import Seaweed

from wanrec.reconcile.lockfile import LockedModel
from wanrec.reconcile.lockfile_parse import parse_lock

WEIGHTS = bytes(range(256)) * 20
"""Large enough for the Hub to keep it as LFS, with a digest of its own."""
REPO = {"config.json": b'{"a": 1}', "unet/model.onnx": WEIGHTS, "nohup.out": b"stray"}
SOURCE = "hf://org/m@main"


def sha(data: bytes) -> str:
    """sha256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A running Hub with one repository."""
    with running_hub() as running:
        running.push("org/m", REPO)
        yield running


class Connected:
    """The program with a Hub or an S3 server to talk to."""

    def __init__(
        self, program: Program, hub: HubServer | None, environ: Mapping[str, str] | None = None
    ) -> None:
        self.program = program
        self.env: dict[str, str | None] = {**(environ or {})}
        if hub is not None:
            self.env["HF_ENDPOINT"] = hub.url

    def run(self, *args: str) -> Finished:
        """Run, whatever the exit code."""
        return self.program.run(*args, env=self.env)

    def ok(self, *args: str) -> Finished:
        """Run; the exit code must be 0."""
        return self.program.ok(*args, env=self.env)

    def spec(self, *sources: str) -> Path:
        """Write a spec that only says where the model comes from."""
        keys = {"sources": list(sources), "ignore_patterns": ["nohup.out"]}
        text = tomli_w.dumps({"schema_version": 1, "models": {"m@1": keys}})
        return self.program.write("specs/m.toml", text)

    def locked(self) -> LockedModel:
        """The model's lock entry."""
        data = (self.program.project / "specs/m.lock.toml").read_bytes()
        return parse_lock(data, "specs/m.lock.toml").models["m@1"]


@pytest.fixture
def online(wanrec: Program, hub: HubServer) -> Connected:
    """The program, told of the Hub, with a spec that names its main branch."""
    connected = Connected(wanrec, hub)
    connected.spec(SOURCE)
    return connected


def test_lock_apply_check_upgrade(online: Connected, hub: HubServer) -> None:
    """A branch is pinned to a commit; a push shows in --check alone; --upgrade takes it over."""
    online.ok("lock")
    first = online.locked()
    assert {file.path: file.sha256 for file in first.files} == {
        "config.json": sha(REPO["config.json"]),
        "unet/model.onnx": sha(WEIGHTS),
    }
    assert list(first.revisions) == [SOURCE]
    online.ok("apply", "-y")
    commit = hub.push("org/m", {**REPO, "config.json": b'{"a": 2}'})
    checked = online.run("lock", "--check")
    assert checked.exit == 2
    assert f"{first.revisions[SOURCE]} → {commit}" in checked.stdout
    assert "  ~ config.json  " in checked.stdout and "unet" not in checked.stdout
    assert online.ok("plan").stdout.startswith("No changes.")
    online.ok("lock", "--upgrade")
    assert online.locked().revisions == {SOURCE: commit}
    plan = json.loads(online.ok("plan", "--format", "json").stdout)
    assert [(a["path"], a["action"]) for a in plan["actions"]] == [("config.json", "replace")]
    online.ok("apply", "-y")
    assert online.program.files()["wan22/m@1/config.json"] == b'{"a": 2}'


def test_an_unchanged_revision_costs_one_request(online: Connected, hub: HubServer) -> None:
    """--check of a repository that did not move resolves its revision, and asks no more."""
    online.ok("lock")
    before = len(hub.asked)
    online.ok("lock")
    assert len(hub.asked) == before
    online.ok("lock", "--check")
    assert len(hub.asked) == before + 1


def test_large_files_are_not_read(online: Connected, hub: HubServer) -> None:
    """The Hub states the digest of what it keeps as LFS; only small files come over."""
    online.ok("lock")
    assert hub.sent <= len(REPO["config.json"])


@pytest.mark.parametrize(("gated", "repo"), [(True, "org/m"), (False, "org/none")])
def test_a_repository_that_cannot_be_read(
    online: Connected, hub: HubServer, gated: bool, repo: str
) -> None:
    """A gated or missing repository is exit 5 with its own words, and no lock file."""
    if gated:
        hub.gated.add(repo)
    online.spec(f"hf://{repo}@main")
    refused = online.run("lock")
    assert refused.exit == 5 and "Error[AUTH_FAIL]" in refused.stderr
    assert f"{hub.url}/{repo}" in refused.stderr  # where access is asked for
    assert "Error[AUTH_FAIL]: the repository is " in refused.stderr
    assert not (online.program.project / "specs/m.lock.toml").exists()


def test_a_branch_that_moves_meanwhile(online: Connected, hub: HubServer) -> None:
    """A push while the listing is read: everything is of the commit that was listed."""
    first = hub.find("org/m", "main")
    assert first is not None
    pushed: list[str] = []
    note = hub.note

    def push_then_note(asked: Asked) -> Answer | None:
        if "/tree/" in asked.path and not pushed:
            pushed.append(hub.push("org/m", {**REPO, "config.json": b'{"a": 3}'}))
        return note(asked)

    hub.note = push_then_note  # type: ignore[method-assign]
    online.ok("lock")
    assert pushed and online.locked().revisions == {SOURCE: first[0]}
    assert {file.sha256 for file in online.locked().files} == {sha(WEIGHTS), sha(b'{"a": 1}')}
    assert online.run("lock", "--check").exit == 2


def test_bytes_that_are_not_the_listed_ones(online: Connected, hub: HubServer) -> None:
    """A small file that changes between listing and fetching: SOURCE_CHANGED, nothing written."""
    note = hub.note

    def spoil_then_note(asked: Asked) -> Answer | None:
        if "/resolve/" in asked.path:
            hub.spoil("org/m", "config.json", b'{"b": 1}')
        return note(asked)

    hub.note = spoil_then_note  # type: ignore[method-assign]
    refused = online.run("lock")
    assert refused.exit == 5 and "Error[SOURCE_CHANGED]" in refused.stderr
    assert "config.json" in refused.stderr
    assert not (online.program.project / "specs/m.lock.toml").exists()


def test_two_sources_that_agree(online: Connected, hub: HubServer) -> None:
    """A second source may state what the first does not; a mirror with other bytes is shown."""
    for path, data in REPO.items():
        online.program.write(f"mirror/m/{path}", data)
    online.spec("local://../mirror/m", SOURCE)
    online.ok("lock")
    assert {file.sha256 for file in online.locked().files} == {sha(WEIGHTS), sha(b'{"a": 1}')}
    online.program.write("mirror/m/unet/model.onnx", WEIGHTS[:-1])
    (online.program.project / "specs/m.lock.toml").unlink()
    refused = online.run("lock")
    assert refused.exit == 4 and "unet/model.onnx: size" in refused.stderr
    online.program.write("mirror/m/unet/model.onnx", WEIGHTS[:-1] + b"!")
    online.ok("lock")  # the Hub states the digest, so the mirror is not read at all


def test_s3_states_digests(wanrec: Program, seaweed: Seaweed) -> None:
    """An object that was stored with its sha256 is pinned without being read."""
    bucket = seaweed.bucket({"m/config.json": b"{}", "m/big.onnx": WEIGHTS * 5000})
    online = Connected(wanrec, None, seaweed.environ)
    online.spec(f"s3://{bucket}/m")
    online.ok("lock")
    assert {file.path: file.sha256 for file in online.locked().files} == {
        "config.json": sha(b"{}"),
        "big.onnx": sha(WEIGHTS * 5000),
    }
    online.ok("lock", "--check")


def test_a_bucket_and_another_source(wanrec: Program, seaweed: Seaweed, hub: HubServer) -> None:
    """A bucket's own checksum is held against a local copy, and against a small file of the Hub."""
    bucket = seaweed.bucket({f"m/{path}": data for path, data in REPO.items()})
    wanrec.write("mirror/m/config.json", b'{"a": 7}')
    online = Connected(wanrec, hub, seaweed.environ)
    for other in ("local://../mirror/m", SOURCE):
        online.spec(other, f"s3://{bucket}/m")
        seaweed.put(bucket, {"m/config.json": b'{"a": 9}'})
        refused = online.run("lock")
        assert refused.exit == 4 and "config.json: sha256" in refused.stderr
        assert sha(b'{"a": 9}') in refused.stderr
        assert not (wanrec.project / "specs/m.lock.toml").exists()
    seaweed.put(bucket, {"m/config.json": REPO["config.json"]})
    online.ok("lock")


def test_a_bucket_that_moves_on(wanrec: Program, seaweed: Seaweed) -> None:
    """A spec that only names a bucket applies; a put shows in --check alone until --upgrade."""
    bucket = seaweed.bucket({f"m/{path}": data for path, data in REPO.items()})
    online = Connected(wanrec, None, seaweed.environ)
    online.spec(f"s3://{bucket}/m")
    online.ok("lock")
    online.ok("apply", "-y")
    text = (wanrec.project / "specs/m.lock.toml").read_bytes()
    seaweed.put(bucket, {"m/config.json": b'{"a": 2}', "m/vae/new.json": b"{}"})
    checked = online.run("lock", "--check")
    assert checked.exit == 2
    assert "  ~ config.json  " in checked.stdout and "  + vae/new.json  " in checked.stdout
    assert "unet" not in checked.stdout
    assert (wanrec.project / "specs/m.lock.toml").read_bytes() == text
    assert online.ok("plan").stdout.startswith("No changes.")
    online.ok("lock", "--upgrade")
    plan = json.loads(online.ok("plan", "--format", "json").stdout)
    assert {(a["path"], a["action"]) for a in plan["actions"]} == {
        ("config.json", "replace"),
        ("vae/new.json", "create"),
    }
    online.ok("apply", "-y")
    assert wanrec.files() == {
        "wan22/m@1/config.json": b'{"a": 2}',
        "wan22/m@1/unet/model.onnx": WEIGHTS,
        "wan22/m@1/vae/new.json": b"{}",
    }


def test_large_files_without_a_digest(wanrec: Program, seaweed: Seaweed) -> None:
    """Nobody states it: what would have to be read is said, and only --fetch reads it."""
    bucket = seaweed.bucket()
    part = bytes(9 << 20)
    seaweed.put_in_parts(bucket, "m/big.onnx", [part, part])
    online = Connected(wanrec, None, seaweed.environ)
    online.spec(f"s3://{bucket}/m")
    refused = online.run("lock")
    assert refused.exit == 3 and "LOCK_MISSING" in refused.stderr
    assert f"big.onnx  {2 * len(part)} bytes" in refused.stderr and "--fetch" in refused.stderr
    online.ok("lock", "--fetch")
    assert online.locked().files[0].sha256 == sha(part * 2)
