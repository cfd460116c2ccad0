"""One model, three sources in order - a folder, S3, the Hub - each as it fails in real life."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from support.hub_server import HubServer, running_hub
from support.lying_server import LyingServer, Peer, Request
from support.program import Finished, Program, command_line
from support.seaweed import Seaweed
from support.specs import declare, spec_text

REPO = "Org/wan-tiny"
MODEL = "tiny@1.0.0"
CANARY = "canary7f3a91"
FILES = {
    "config.json": b'{"layers": 2}\n',
    "vae/weights.txt": b"0123456789abcdef" * 200_000,
}
MARK = b"these bytes are wrong "
WRONG = {path: (MARK * len(data))[: len(data)] for path, data in FILES.items()}
ABSENT: Mapping[str, bytes] = {}
KINDS: dict[str, Mapping[str, bytes]] = {"good": FILES, "wrong": WRONG, "empty": ABSENT}


def _busy(request: Request, peer: Peer) -> bool:
    body = f"<Error><Message>{CANARY}</Message></Error>".encode()
    peer.send_head("503 Slow Down", Content_Length=len(body), Retry_After=0)
    peer.send(body)
    return True


@attrs.frozen(kw_only=True)
class World:
    """A project whose one model has three sources; each may be put into a condition."""

    program: Program
    seaweed: Seaweed
    hub: HubServer
    busy: LyingServer

    def want(self, local: str, s3: str, hub: str = "good") -> dict[str, str | None]:
        """Put the sources into conditions, write the spec; returns the environment to run in."""
        program = self.program
        folder = program.project / "mirror"
        shutil.rmtree(folder, ignore_errors=True)
        if local != "gone":
            folder.mkdir()
        for path, data in KINDS.get(local, ABSENT).items():
            program.write(f"mirror/{path}", data)
        objects = {f"wan/{path}": data for path, data in KINDS.get(s3, ABSENT).items()}
        bucket = "there-is-no-such-bucket" if s3 == "gone" else self.seaweed.bucket(objects)
        for path in FILES:
            self.busy.on(f"/{bucket}/wan/{path}", _busy)
        self.hub.push(REPO, KINDS.get(hub, ABSENT))
        if hub == "503":
            self.hub.fail("/Org/", 503, Retry_After="0")
        sources = ["local://../mirror", f"s3://{bucket}/wan", f"hf://{REPO}"]
        model = declare(FILES, "")
        model["sources"] = {"priority": sources}
        program.write("specs/models.toml", spec_text({MODEL: model}))
        environ: dict[str, str | None] = {**self.seaweed.environ, "WANREC_RETRIES": "1"}
        environ["HF_ENDPOINT"] = self.hub.url
        if s3 == "503":
            environ["AWS_ENDPOINT_URL"] = self.busy.url
        return environ

    def apply(self, environ: Mapping[str, str | None], *words: str) -> tuple[Finished, Any]:
        """Apply; returns the run and its JSON result."""
        result = self.program.project / "result.json"
        done = self.program.run("apply", "-y", "--json-into", str(result), *words, env=environ)
        return done, json.loads(result.read_text().splitlines()[-1])

    def forget(self) -> None:
        """Start over: an empty root, so that nothing of before can help."""
        subprocess.run(["chmod", "-R", "u+w", str(self.program.root)], check=True)
        shutil.rmtree(self.program.root)
        self.program.root.mkdir()

    def everything(self) -> dict[str, bytes]:
        """Every file under the root, wanrec's own included."""
        files = (path for path in self.program.root.rglob("*") if path.is_file())
        return {str(path): path.read_bytes() for path in files}


@pytest.fixture
def world(wanrec: Program, seaweed: Seaweed) -> Iterator[World]:
    """The three sources, none of them prepared."""
    with running_hub() as hub, LyingServer() as busy:
        yield World(program=wanrec, seaweed=seaweed, hub=hub, busy=busy)


def test_each_source_takes_over_from_the_one_before(world: World) -> None:
    """`priority = [local, s3, hf]`, whatever is wrong with the earlier ones: the next delivers.

    Exit 0, the right bytes, the result names who delivered each file, and the wrong bytes are
    nowhere under the root.
    """
    expected = {f"wan22/{MODEL}/{path}": data for path, data in FILES.items()}
    for local, s3, deliverer in (
        ("good", "good", "local://"),
        ("gone", "good", "s3://"),
        ("empty", "good", "s3://"),
        ("wrong", "good", "s3://"),
        ("empty", "gone", "hf://"),
        ("empty", "empty", "hf://"),
        ("empty", "503", "hf://"),
        ("wrong", "wrong", "hf://"),
    ):
        environ = world.want(local, s3) | {"WANREC_RETRIES": "0"}
        done, result = world.apply(environ)
        assert done.exit == 0, done.stderr
        assert world.program.files() == expected
        deliverers = {address: one["source"] for address, one in result["delivered"].items()}
        assert set(deliverers) == {f"{MODEL}::{path}" for path in FILES}
        assert all(source.startswith(deliverer) for source in deliverers.values()), (local, s3)
        assert not [path for path, data in world.everything().items() if MARK in data]
        world.forget()


def test_events_say_who_failed_and_why(world: World) -> None:
    """Each failover is an event with source and code; who lied is not asked for the next file."""
    environ = world.want("wrong", "503") | {"WANREC_RETRIES": "0"}
    done, _ = world.apply(environ, "--format", "json", "--parallelism", "1")
    assert done.exit == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    failovers = [event for event in events if event["event"] == "action_failover"]
    told = [(event["source"].partition("://")[0], event["code"]) for event in failovers]
    assert told == [("local", "CHECKSUM_FAIL"), ("s3", "SOURCE_UNAVAILABLE")]
    assert len({event["address"] for event in failovers}) == 1
    complete = [event["address"] for event in events if event["event"] == "action_complete"]
    assert sorted(complete) == sorted(f"{MODEL}::{path}" for path in FILES)
    assert len(world.busy.requests) == 1


def test_all_fail_and_one_lied(world: World) -> None:
    """No source left: wrong bytes are the worst of what happened, and every source is named."""
    environ = world.want("gone", "wrong", "empty")
    done, result = world.apply(environ)
    assert done.exit == 4
    failures = {failure["address"]: failure for failure in result["failed"]}
    assert {failure["code"] for failure in failures.values()} == {"CHECKSUM_FAIL"}
    for scheme in ("local://", "s3://", "hf://"):
        assert scheme in done.stderr
    assert world.program.files() == {}
    assert not [path for path, data in world.everything().items() if MARK in data]


def test_no_failover_stops_at_the_first(world: World) -> None:
    """--no-failover: the first source decides, and nobody else is asked."""
    environ = world.want("empty", "good")
    done, result = world.apply(environ, "--no-failover")
    assert done.exit == 5
    assert {failure["code"] for failure in result["failed"]} == {"NOT_FOUND_AT_SOURCE"}
    assert world.hub.asked == []


def test_no_secret_comes_out(world: World) -> None:
    """Canaries in keys, token, query and error bodies: in no output, no file and no trace."""
    environ = world.want("empty", "503")
    world.hub.token = f"hf_{CANARY}"
    secrets = {
        "AWS_ACCESS_KEY_ID": f"AKID{CANARY}",
        "AWS_SECRET_ACCESS_KEY": f"secret{CANARY}",
        "AWS_SESSION_TOKEN": f"session{CANARY}",
        "HF_TOKEN": f"hf_{CANARY}",
    }
    trace = world.program.project / "trace.jsonl"
    words = ("-vv", "--trace-file", str(trace), "--format", "json", "--mirror")
    mirror = f"{world.busy.url}/m?sig={CANARY}"
    done, result = world.apply({**environ, **secrets}, *words, mirror)
    assert done.exit == 0, done.stderr
    assert any(one.headers.get("authorization") for one in world.hub.asked)
    written = world.everything() | {str(trace): trace.read_bytes()}
    assert trace.stat().st_size
    assert CANARY not in done.stdout + done.stderr + json.dumps(result)
    assert not [path for path, data in written.items() if CANARY.encode() in data]
    world.hub.gated.add(REPO)
    failed, result = world.apply({**environ, **secrets}, "--replace", f"{MODEL}::config.json")
    assert CANARY not in failed.stdout + failed.stderr + json.dumps(result)


def test_offline_without_any_network(world: World) -> None:
    """In an empty network namespace, with everything present, `apply --offline` exits 0."""
    environ = world.want("empty", "good")
    world.apply(environ)
    alone = ["unshare", "-rn"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace can be had here")
    done = subprocess.run(
        [*alone, *command_line(), "apply", "-y", "--offline"],
        cwd=world.program.project,
        env=world.program.environment(**environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "No changes. Disk matches the specs."


def test_offline_refuses_what_is_not_here(world: World) -> None:
    """--offline with files missing: exit 5 OFFLINE, and not one request."""
    environ = world.want("empty", "good")
    before = len(world.hub.asked)
    done, result = world.apply(environ, "--offline")
    assert done.exit == 5
    assert {failure["code"] for failure in result["failed"]} == {"OFFLINE"}
    assert len(world.hub.asked) == before


def test_presence_of_a_folder_does_not_matter(world: World, tmp_path: Path) -> None:
    """The state of a root applied from one source is clean for a project with another source."""
    environ = world.want("empty", "good")
    world.apply(environ)
    done = world.program.run("plan", "--detailed-exitcode", env=environ)
    assert done.exit == 0
