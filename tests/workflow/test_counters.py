"""`metrics_file`: what runs leave for Prometheus' textfile collector."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.program import Program
from support.shelf import SIZE, SMALL, shelf, used
from support.small import declare

ROOM = SIZE + len(SMALL)


@pytest.fixture
def counting(wanrec: Program) -> Program:
    """A project whose runs leave their counters in `out.prom`."""
    wanrec.write("wanrec.toml", 'metrics_file = "out.prom"\n')
    return wanrec


def samples(program: Program, name: str) -> dict[tuple[str, ...], float]:
    """The samples of one name: values of the labels in the order of their names → value."""
    families = text_string_to_metric_families((program.project / "out.prom").read_text())
    return {
        tuple(sample.labels[label] for label in sorted(sample.labels)): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


def one(program: Program, name: str) -> float:
    """The sample of a name without labels."""
    return samples(program, name)[()]


def test_downloads_are_counted_over_processes(counting: Program) -> None:
    """Two applies: models, bytes and seconds of both, what is stored now, when the last ended."""
    declare(counting, {"a@1": {"x.txt": b"one", "d/y.txt": b"three"}})
    counting.ok("apply", "-y")
    declare(counting, {"a@1": {"x.txt": b"one", "d/y.txt": b"three"}, "b@1": {"z.txt": b"2"}})
    counting.ok("apply", "-y")
    done = samples(counting, "model_downloads_total")
    assert {(key[0], key[2], key[3]): value for key, value in done.items()} == {
        ("a@1", "completed", ""): 1,
        ("b@1", "completed", ""): 1,
    }
    assert {key[1].partition("://")[0] for key in done} == {"local"}
    assert one(counting, "model_download_bytes_total") == 9
    assert one(counting, "model_download_duration_seconds_count") == 2
    assert samples(counting, "model_storage_bytes_used") == {("test",): 9}
    assert one(counting, "garbage_collection_runs_total") == 0
    before = one(counting, "wanrec_last_apply_timestamp_seconds")
    state = counting.root / ".wanrec/state.json"
    assert abs(before - state.stat().st_mtime) < 60
    assert [name for name in os.listdir(counting.project) if "tmp" in name] == []


def test_failures_are_counted_by_code_and_source(counting: Program) -> None:
    """Wrong bytes and a missing file: errors by code, failed downloads, an integrity failure."""
    declare(counting, {"a@1": {"x.txt": b"one"}, "b@1": {"y.txt": b"two"}})
    counting.write("mirror/a@1/x.txt", b"!!!")
    (counting.project / "mirror/b@1/y.txt").unlink()
    counting.run("apply", "-y")
    errors = samples(counting, "model_errors_total")
    assert {key[:2]: value for key, value in errors.items()} == {
        ("CHECKSUM_FAIL", "a@1"): 1,
        ("NOT_FOUND_AT_SOURCE", "b@1"): 1,
    }
    failed = samples(counting, "model_downloads_total")
    assert {(key[0], key[2]): value for key, value in failed.items()} == {
        ("a@1", "failed"): 1,
        ("b@1", "failed"): 1,
    }
    assert one(counting, "integrity_failures_total") == 1
    assert samples(counting, "wanrec_last_apply_timestamp_seconds") == {}


def test_lock_timeouts_are_counted(counting: Program) -> None:
    """A model that somebody else holds: LOCK_TIMEOUT is an error and a count of its own."""
    import fcntl

    declare(counting, {"a@1": {"x.txt": b"one"}})
    counting.ok("apply", "-y")
    declare(counting, {"a@1": {"x.txt": b"two"}})
    lock = next((counting.root / ".wanrec/locks").glob("model-a@1*.lock"))
    with lock.open("r+b") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        assert counting.run("apply", "-y", "--lock-timeout", "0").exit == 7
    assert one(counting, "lock_timeouts_total") == 1


def test_gc_is_counted(counting: Program) -> None:
    """Runs of gc and what they freed; a dry run is none; an idle apply still tells the time."""
    shelf(counting, {"a": {}, "b": {}})
    used(counting, "a", "b")
    counting.ok("gc", "--dry-run", "--max-size", "0")
    assert one(counting, "garbage_collection_runs_total") == 0
    counting.ok("gc", "--max-size", str(ROOM))
    counting.ok("gc")
    assert one(counting, "garbage_collection_runs_total") == 2
    assert one(counting, "garbage_collection_bytes_reclaimed") == SIZE
    assert samples(counting, "model_storage_bytes_used") == {("wan22",): ROOM}
    cache = counting.root / ".wanrec/cache/metrics.json"
    kept = json.loads(cache.read_text())
    kept["wanrec_last_apply_timestamp_seconds"] = {"": 1}
    cache.write_text(json.dumps(kept))
    assert "No changes." in counting.ok("apply", "-y").stdout
    assert one(counting, "wanrec_last_apply_timestamp_seconds") > 1


def test_ensure_of_a_present_model_leaves_the_file_alone(counting: Program) -> None:
    """The present-model path writes nothing, this file neither."""
    declare(counting, {"a@1": {"x.txt": b"one"}})
    counting.ok("ensure", "a@1")
    target = counting.project / "out.prom"
    assert one(counting, "model_download_bytes_total") == 3
    before = target.stat()
    counting.ok("ensure", "a@1")
    after = target.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_file_that_cannot_be_written_is_a_warning(counting: Program, tmp_path: Path) -> None:
    """The folder is missing, the cache is damaged: the run does its work and says so."""
    declare(counting, {"a@1": {"x.txt": b"one"}})
    cache = counting.root / ".wanrec/cache"
    cache.mkdir(parents=True)
    (cache / "metrics.json").write_text('{"model_errors_total": 7')
    env: dict[str, str | None] = {"WANREC_METRICS_FILE": str(tmp_path / "gone/out.prom")}
    done = counting.ok("apply", "-y", env=env)
    assert "metrics_file was not written" in done.stderr
    assert "metrics_file was not written" in counting.ok("gc", env=env).stderr
    counting.ok("apply", "-y")
    assert one(counting, "garbage_collection_runs_total") == 1
