"""`drift` as monitoring and CI use it: read by their own parsers, in a loop, in portions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import xmlschema
from prometheus_client.parser import text_string_to_metric_families
from support.program import Program
from support.recorded_root import rfc3339
from support.small import declare

FILES = {f"f{number}.txt": bytes([65 + number]) * 1000 for number in range(6)}


@pytest.fixture
def applied(wanrec: Program) -> Program:
    """A root with two applied models."""
    declare(wanrec, {"a@1": FILES, "odd'ü,b@1": {"y 'z.txt": b"y"}})
    wanrec.ok("apply", "-y")
    return wanrec


def tamper(program: Program, path: str, data: bytes | None) -> None:
    """Change a file below the root; None removes it."""
    target = program.root / "test" / path
    if data is None:
        target.unlink()
        return
    target.chmod(0o644)
    target.write_bytes(data)


def rot(program: Program, path: str) -> None:
    """Flip bytes so that no stat tells: clocks set back, the record made to agree."""
    target = program.root / "test" / path
    data = target.read_bytes()
    before = target.stat()
    target.chmod(0o644)
    target.write_bytes(data[:-1] + b"!")
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    target.chmod(0o444)
    place = program.root / ".wanrec/state.json"
    state = json.loads(place.read_text())
    for record in state["files"].values():
        if record["path"] == f"test/{path}":
            record["ctime_ns"] = target.stat().st_ctime_ns
            record["verified_at"] = rfc3339(datetime.now(UTC) + timedelta(milliseconds=1))
    place.write_text(json.dumps(state))


def test_prometheus_parses(applied: Program) -> None:
    """What the textfile collector reads is parsed by Prometheus' own client, odd names included."""
    tamper(applied, "a@1/f1.txt", b"x")
    tamper(applied, "a@1/f2.txt", None)
    target = applied.project / "wanrec.prom"
    done = applied.run("drift", "--format", "prometheus", "--output", str(target))
    assert done.exit == 2
    assert done.stdout == ""
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(target.read_text())
        for sample in family.samples
    }
    drifted = {
        (dict(key[1:])["model_id"], dict(key[1:])["kind"]): value  # type: ignore[arg-type]
        for key, value in samples.items()
        if key[0] == "wanrec_drift_files" and value
    }
    assert drifted == {("a@1", "size"): 1, ("a@1", "missing"): 1}
    assert samples[("wanrec_drift_success",)] == 1
    assert [name for name in os.listdir(applied.project) if "tmp" in name] == []


@pytest.mark.parametrize("broken", [False, True])
def test_junit_is_valid(applied: Program, checkout: Path, broken: bool) -> None:
    """JUnit output is valid by schema, with findings and when it could not look."""
    tamper(applied, "a@1/f1.txt", b"x")
    if broken:
        (applied.root / ".wanrec/state.json").write_text("{")
    done = applied.run("drift", "--format", "junit")
    assert done.exit == (8 if broken else 2)
    xmlschema.XMLSchema(checkout / "tests/support/junit.xsd").validate(done.stdout)


def test_fail_on(applied: Program) -> None:
    """--fail-on decides which kinds exit 2; the report is complete all the same."""
    tamper(applied, "a@1/f1.txt", b"x")
    done = applied.ok("drift", "--fail-on", "missing", "--fail-on", "content")
    assert "f1.txt  size" in done.stdout
    assert applied.run("drift", "--fail-on", "size").exit == 2
    assert applied.run("drift", "--fail-on", "smell").exit == 64


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--bogus",), "USAGE"),
        (("--fail-on", "size"), "USAGE"),
        (("--ignore", "("), "USAGE"),
        (("-k", "no-such-file"), "NOTHING_SELECTED"),
        (("--output", "no/such/folder/x"), "FILESYSTEM_ERROR"),
        (("--config", "none.toml"), "INVALID_CONFIG"),
    ],
)
def test_whatever_else_is_unknown_to_nagios(
    applied: Program, words: tuple[str, ...], code: str
) -> None:
    """Nagios knows four codes: what is neither clean nor drift is UNKNOWN, with a status line."""
    done = applied.run("drift", *words, "--format", "nagios")
    assert done.exit == 3
    assert done.stdout.startswith(f"WANREC UNKNOWN - Error[{code}]: ")
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize("option", ["-k", "--exclude", "--ignore"])
def test_a_bad_expression_names_its_option_and_column(applied: Program, option: str) -> None:
    """Drift says which of its expressions is wrong, and where; exit 64."""
    done = applied.run("drift", option, "vae and (")
    assert done.exit == 64
    assert f"wrong expression passed to {option}: at column 10: " in done.stderr


def test_fail_on_foreign(applied: Program) -> None:
    """A stray file is no drift, unless --fail-on says that it is."""
    (applied.root / "test/a@1/stray").write_text("x")
    assert applied.run("drift").exit == 0
    assert applied.run("drift", "--fail-on", "foreign").exit == 2


def test_watch_replaces_its_output(applied: Program) -> None:
    """--watch checks again and again; a signal ends it with the signal's code."""
    target = applied.project / "out.json"
    with applied.start(
        "drift", "--watch", "0.05", "--format", "json", "--output", str(target)
    ) as process:
        try:
            _until(lambda: target.exists() and not json.loads(target.read_text())["drifted"])
            tamper(applied, "a@1/f1.txt", b"x")
            _until(lambda: json.loads(target.read_text())["drifted"])
        finally:
            process.terminate()
        assert process.wait(120) == 143


def test_watch_goes_on_after_an_error(applied: Program) -> None:
    """A state that cannot be read is told and looked at again; it is no drift."""
    place = applied.root / ".wanrec/state.json"
    good = place.read_text()
    target = applied.project / "out.prom"
    place.write_text("{")
    with applied.start(
        *("drift", "--watch", "0.05", "--format", "prometheus", "--output", str(target)),
        stderr=subprocess.DEVNULL,  # it says so each time, and nobody would read it
    ) as process:
        try:
            _until(lambda: target.exists() and "wanrec_drift_success 0" in target.read_text())
            place.write_text(good)
            _until(lambda: "wanrec_drift_success 1" in target.read_text())
        finally:
            process.terminate()
            process.communicate()


def _until(true: object) -> None:
    """Poll a condition of another process; the test fails when it never holds."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if true():  # type: ignore[operator]
            return
        time.sleep(0.02)
    raise AssertionError("it never happened")


def test_deep_in_portions(applied: Program) -> None:
    """Each portion goes on where the last one ended; in the end rot is found and stays found."""
    rot(applied, "a@1/f3.txt")
    left, found = [], []
    words = ("drift", "--deep", "--budget", "0", "--format", "json")
    for _ in range(9):
        report = applied.run(*words, env={"WANREC_PARALLELISM": "1"}).json()
        left.append(report["left"])
        found.append([item["address"] for item in report["items"]])
    first = found.index(["a@1::f3.txt"])
    assert found == [[]] * first + [["a@1::f3.txt"]] * (9 - first)
    assert left == [6] * (first + 1) + [5] * (8 - first)
    noted = json.loads((applied.root / ".wanrec/cache/deep-check.json").read_text())["files"]
    assert "a@1::f3.txt" not in noted


def test_deep_in_one_portion(applied: Program) -> None:
    """With time enough one portion reads everything."""
    report = applied.ok("drift", "--deep", "--budget", "10m", "--format", "json").json()
    assert (report["left"], report["checked"]) == (0, 7)
    assert applied.run("drift", "--budget", "10m").exit == 64


def test_portions_on_a_read_only_cache(applied: Program) -> None:
    """Where no progress can be kept the check is as good, it only starts over."""
    cache = applied.root / ".wanrec/cache"
    if cache.exists():
        shutil.rmtree(cache)
    cache.write_text("in the way")
    assert applied.ok("drift", "--deep", "--budget", "10m", "--format", "json").json()["left"] == 0
