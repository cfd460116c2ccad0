"""A damaged big file is repaired by its bad parts; only the sha256 of the whole lets it land."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from support.lying_server import LyingServer, serve_ranges
from support.program import Program

pytest.importorskip("blake3")

MIB = 1 << 20
PART = 16 * MIB
NAME = "big.gguf"
PLACE = "test/m@1/big.gguf"


@pytest.fixture(scope="module")
def content() -> bytes:
    """200 MiB, every MiB another one."""
    return b"".join(n.to_bytes(8, "big") * (MIB // 8) for n in range(200))


@pytest.fixture(scope="module")
def less(content: bytes) -> bytes:
    """72 MiB and a little: five parts, the last one short."""
    return content[: 72 * MIB + 5]


def declared(program: Program, content: bytes, *sources: str) -> None:
    """Write a spec for one big file."""
    urls = ", ".join(f'"{source}"' for source in sources)
    program.write(
        "specs/models.toml",
        f"""schema_version = 1
family = "test"
[models."m@1"]
sources = [{urls}]
[[models."m@1".files]]
path = "{NAME}"
size = {len(content)}
sha256 = "{hashlib.sha256(content).hexdigest()}"
""",
    )


def damage(program: Program, *offsets: int) -> Path:
    """Flip a byte at each offset of the landed file."""
    file = program.root / PLACE
    file.chmod(0o644)
    with file.open("r+b") as stream:
        for offset in offsets:
            stream.seek(offset)
            byte = stream.read(1)[0]
            stream.seek(offset)
            stream.write(bytes([byte ^ 1]))
    return file


def test_a_flipped_byte_costs_its_part(wanrec: Program, content: bytes) -> None:
    """`drift --deep` names the part, `apply` fetches no more than two parts, the whole holds."""
    with LyingServer() as server:
        server.on(f"/m/{NAME}", serve_ranges(content))
        declared(wanrec, content, f"{server.url}/m")
        wanrec.ok("apply", "-y")
        wanrec.ok("drift", "--deep", "--record-parts")
        sent = server.sent[f"/m/{NAME}"]
        file = damage(wanrec, 100 * MIB + 7)
        done = wanrec.run("drift", "--deep", "--format", "json")
        assert done.exit == 2
        assert [item["parts"] for item in done.json()["items"]] == [[[6 * PART, 7 * PART]]]
        wanrec.ok("apply", "-y")
        assert PART <= server.sent[f"/m/{NAME}"] - sent <= 2 * PART
    assert file.read_bytes() == content
    wanrec.ok("drift", "--deep", "--record-parts")


def test_a_local_source_is_read_only_where_it_must(wanrec: Program, less: bytes) -> None:
    """The same from a folder: two bad parts are read, and what lands is whole."""
    wanrec.write(f"mirror/{NAME}", less)
    declared(wanrec, less, "local://../mirror")
    wanrec.ok("apply", "-y")
    wanrec.ok("drift", "--deep", "--record-parts")
    file = damage(wanrec, 0, len(less) - 1)
    lines = wanrec.ok("apply", "-y", "--format", "json").stdout.splitlines()
    summary = json.loads(lines[-1])
    fetched = PART + len(less) % PART
    assert summary["delivered"][f"m@1::{NAME}"]["bytes_fetched"] == fetched, summary
    assert file.read_bytes() == less


def test_a_truncated_file_keeps_its_beginning(wanrec: Program, less: bytes) -> None:
    """What is left of a file that lost its end is not fetched again."""
    with LyingServer() as server:
        server.on(f"/m/{NAME}", serve_ranges(less))
        declared(wanrec, less, f"{server.url}/m")
        wanrec.ok("apply", "-y")
        wanrec.ok("drift", "--deep", "--record-parts")
        sent = server.sent[f"/m/{NAME}"]
        file = damage(wanrec)
        os.truncate(file, len(less) - 20 * MIB)
        wanrec.ok("apply", "-y")
        assert 20 * MIB <= server.sent[f"/m/{NAME}"] - sent <= 20 * MIB + 2 * PART
    assert file.read_bytes() == less


def test_a_wrong_record_ends_in_a_whole_fetch(wanrec: Program, less: bytes) -> None:
    """Parts that call damaged bytes good cannot land them: the whole hash fails, all is fetched."""
    from wanrec.reconcile.disk import Root
    from wanrec.reconcile.part_digests import hasher
    from wanrec.reconcile.part_records import remember

    with LyingServer() as server:
        server.on(f"/m/{NAME}", serve_ranges(less))
        declared(wanrec, less, f"{server.url}/m")
        wanrec.ok("apply", "-y")
        file = damage(wanrec, 5)
        made = hasher(len(less))
        assert made is not None
        made.update(memoryview(file.read_bytes()))
        with Root.open(wanrec.root) as root:
            remember(root, made.finish(hashlib.sha256(less).hexdigest()))
        wanrec.ok("apply", "-y")
        assert server.sent[f"/m/{NAME}"] >= 2 * len(less)
    assert file.read_bytes() == less


def test_a_slow_source_leaves_digests_at_landing(wanrec: Program, content: bytes) -> None:
    """While the hash thread waits for bytes anyway, parts are recorded without a deep check."""
    small = content[: 40 * MIB]
    with LyingServer() as server:
        server.on(f"/m/{NAME}", serve_ranges(small))
        declared(wanrec, small, f"{server.url}/m")
        wanrec.ok("apply", "-y", "--bwlimit", "40M")
    sha256 = hashlib.sha256(small).hexdigest()
    assert (wanrec.root / ".wanrec/cache/parts" / sha256).is_file()
