"""`wanrec sources` tells before an apply whether it could work, and from whom."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.hub_server import HubServer, running_hub
from support.program import Program
from support.seaweed import Seaweed
from support.specs import declare, spec_text

REPO = "Org/wan-tiny"
MODEL = "tiny@1.0.0"
FILES = {"config.json": b"{}\n", "vae/weights.txt": b"0123456789abcdef" * 100_000}


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A hub that has the repository."""
    with running_hub() as server:
        server.push(REPO, FILES)
        yield server


def _want(program: Program, *sources: str, files: dict[str, bytes] = FILES) -> None:
    model = declare(files, "")
    model["sources"] = {"priority": list(sources)}
    program.write("specs/models.toml", spec_text({MODEL: model}))


def _by_source(document: Any) -> dict[str, Any]:
    return {row["source"].partition("://")[0]: row for row in document["sources"]}


def test_every_source_is_described(wanrec: Program, hub: HubServer, seaweed: Seaweed) -> None:
    """A good, a partial, an unreachable and a forbidden source: each in its own words, exit 0."""
    commit = hub.push(REPO, FILES)
    bucket = seaweed.bucket({"config.json": FILES["config.json"], "vae/weights.txt": b"short"})
    _want(wanrec, "local://gone", f"s3://{bucket}", f"hf://{REPO}@{commit}", "http://127.0.0.1:9/x")
    env: dict[str, str | None] = {**seaweed.environ, "HF_ENDPOINT": hub.url}
    done = wanrec.ok("sources", "--json", env=env)
    rows = _by_source(done.json())
    assert rows["local"]["code"] == "SOURCE_UNAVAILABLE"
    assert "local_root" in rows["local"]["hint"]
    assert rows["http"]["code"] == "SOURCE_UNAVAILABLE"
    assert (rows["s3"]["code"], rows["s3"]["differing"]) == (None, ["vae/weights.txt"])
    assert rows["hf"]["whole"]
    assert rows["hf"]["sampled"] == len(FILES["vae/weights.txt"])
    assert rows["hf"]["bytes_per_s"] > 0
    assert wanrec.run("sources", "--strict", env=env).exit == 5
    text = wanrec.ok("sources", env=env).stdout
    assert [line.split()[0] for line in text.splitlines() if line[:1].strip()] == [
        *("FAIL", "LACKS", "ok", "FAIL")
    ]


def test_nothing_is_downloaded(wanrec: Program, hub: HubServer) -> None:
    """No file comes under the root; without a sample not one byte of a model is sent."""
    _want(wanrec, f"hf://{REPO}")
    wanrec.ok("sources", "--no-sample", env={"HF_ENDPOINT": hub.url})
    assert hub.sent == 0
    wanrec.ok("sources", env={"HF_ENDPOINT": hub.url})
    assert list(wanrec.root.rglob("*")) == []


def test_what_nobody_has_is_named(wanrec: Program, hub: HubServer) -> None:
    """A file that no source has: exit 5, and its address is printed."""
    _want(wanrec, f"hf://{REPO}", files={**FILES, "more.txt": b"more"})
    done = wanrec.run("sources", env={"HF_ENDPOINT": hub.url})
    assert done.exit == 5
    assert f"{MODEL}::more.txt" in done.stderr
    assert "missing: more.txt" in done.stdout


def test_many_files_are_looked_up_in_one_listing(wanrec: Program, hub: HubServer) -> None:
    """Beyond a handful of files the listing is asked, not each file."""
    files = {f"{number:03}.txt": b"x" for number in range(40)}
    hub.push(REPO, files)
    _want(wanrec, f"hf://{REPO}", files=files)
    rows = wanrec.ok("sources", "--json", "--no-sample", env={"HF_ENDPOINT": hub.url}).json()
    assert rows["sources"][0]["whole"]
    assert hub.count("/resolve/") == 0


def test_no_access_names_the_page(wanrec: Program, hub: HubServer) -> None:
    """A gated repository: exit 5, AUTH_FAIL and the page where access is asked for."""
    hub.gated.add(REPO)
    _want(wanrec, f"hf://{REPO}")
    done = wanrec.run("sources", env={"HF_ENDPOINT": hub.url})
    assert done.exit == 5
    assert "AUTH_FAIL" in done.stdout
    assert f"{hub.url}/{REPO}" in done.stdout


def test_offline_asks_nobody(wanrec: Program, hub: HubServer) -> None:
    """--offline: remote sources are OFFLINE, and no request is made."""
    _want(wanrec, f"hf://{REPO}")
    done = wanrec.run("sources", "--offline", "--json", env={"HF_ENDPOINT": hub.url})
    assert (done.exit, done.json()["sources"][0]["code"]) == (5, "OFFLINE")
    assert hub.asked == []


def test_doctor_tells_of_sources(wanrec: Program, hub: HubServer) -> None:
    """A bad source is a warning of the doctor, with its fix, and no reason to fail."""
    hub.gated.add(REPO)
    _want(wanrec, f"hf://{REPO}")
    findings = wanrec.ok("doctor", "--json", env={"HF_ENDPOINT": hub.url}).json()["findings"]
    told = {one["name"]: one for one in findings}[f"source hf://{REPO}"]
    assert told["verdict"] == "warn"
    assert hub.url in told["fix"]
    assert hub.sent == 0
