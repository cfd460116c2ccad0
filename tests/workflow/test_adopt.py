"""`wanrec adopt`: what lies somewhere already is never fetched again, and never harmed."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from pathlib import Path

import pytest
from support.program import Program
from support.specs import declare, spec_text

FILES = {
    "model_index.json": b'{"_class_name": "WanPipeline"}',
    "vae/model.onnx": bytes(range(256)) * 300,
    "text_encoder/model.onnx": bytes(reversed(range(256))) * 300,
}
AWAY = "local://../nowhere"
"""A source that does not exist: whatever arrives was not fetched."""


def sha(data: bytes) -> str:
    """sha256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def project(wanrec: Program) -> Program:
    """A project that wants FILES from a source that is away."""
    wanrec.write("specs/m.toml", spec_text({"m@1": declare(FILES, AWAY)}))
    return wanrec


def shuffled(folder: Path) -> Path:
    """A folder with the content of FILES under other names, and company of the same sizes."""
    folder.mkdir(parents=True)
    for number, data in enumerate(FILES.values()):
        (folder / f"{number}.download").write_bytes(data)
        (folder / f"{number}.other").write_bytes(bytes(len(data)))
    return folder


def hub_cache(folder: Path) -> Path:
    """A HuggingFace cache: blobs by digest, a snapshot of links with the real names."""
    repo = folder / "models--org--m"
    snapshot = repo / "snapshots" / ("a" * 40)
    for path, data in FILES.items():
        blob = repo / "blobs" / sha(data)
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        name = snapshot / path
        name.parent.mkdir(parents=True, exist_ok=True)
        name.symlink_to(os.path.relpath(blob, name.parent))
    return folder


def tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, inode and bytes of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): (
            path.lstat().st_mode,
            path.lstat().st_ino,
            path.read_bytes(),
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("make", [shuffled, hub_cache])
def test_nothing_is_fetched(project: Program, tmp_path: Path, make: object) -> None:
    """A shuffled folder or a Hub cache gives the whole model; then there is nothing to do."""
    outside = make(tmp_path / "outside")  # type: ignore[operator]
    before = tree(outside)
    done = project.ok("adopt", str(outside))
    assert "Found 3 files" in done.stdout and "0 missing; 1 model can be whole." in done.stdout
    assert "0 B fetched" in done.stdout
    assert project.files() == {f"wan22/m@1/{path}": data for path, data in FILES.items()}
    assert project.ok("plan").stdout.startswith("No changes.")
    assert project.run("drift", "--deep").exit == 0
    assert tree(outside) == before
    assert "Found 0 files" in project.ok("adopt", str(outside)).stdout


def test_a_dry_run_writes_nothing(project: Program, tmp_path: Path) -> None:
    """--dry-run shows matches and what stays missing, and leaves the root as it was."""
    outside = shuffled(tmp_path / "outside")
    (outside / "2.download").unlink()
    done = project.ok("adopt", "--dry-run", str(outside))
    assert "  ?  m@1::text_encoder/model.onnx" in done.stdout
    assert "1 missing; 0 models can be whole." in done.stdout
    assert not list(project.root.iterdir())
    found = project.ok("adopt", "--dry-run", str(outside), "--format", "json").json()
    assert [one["address"] for one in found["missing"]] == ["m@1::text_encoder/model.onnx"]
    assert {one["place"] for one in found["found"]} == {
        str(outside / "0.download"),
        str(outside / "1.download"),
    }


def test_a_part_waits_in_the_stage(project: Program, tmp_path: Path) -> None:
    """Of a model that is not whole the found files are kept; the next plan fetches the rest."""
    outside = shuffled(tmp_path / "outside")
    (outside / "2.download").rename(tmp_path / "later")
    project.ok("adopt", str(outside))
    assert project.files() == {}
    summary = project.ok("plan", "--format", "json").json()["summary"]
    assert summary["bytes_to_fetch"] == len(FILES["text_encoder/model.onnx"])
    (tmp_path / "rest").mkdir()
    (tmp_path / "later").rename(tmp_path / "rest" / "x")
    shutil.rmtree(outside)
    project.ok("adopt", str(tmp_path / "rest"))
    assert project.ok("plan").stdout.startswith("No changes.")


def test_hard_links_keep_the_outside_mode(project: Program, tmp_path: Path) -> None:
    """--link hard shares the inode, says so before, and changes nothing of the outside file."""
    outside = shuffled(tmp_path / "outside")
    before = tree(outside)
    done = project.ok("adopt", "--link", "hard", str(outside))
    assert "share their inode" in done.stderr
    assert tree(outside) == before
    name = project.root / "wan22/m@1/vae/model.onnx"
    assert name.stat().st_ino == (outside / "1.download").stat().st_ino
    assert project.ok("plan").stdout.startswith("No changes.")


def test_moving_takes_the_files(project: Program, tmp_path: Path) -> None:
    """--link move leaves nothing behind of what was found, and the rest alone."""
    outside = shuffled(tmp_path / "outside")
    project.ok("adopt", "--link", "move", str(outside))
    assert sorted(tree(outside)) == ["0.other", "1.other", "2.other"]
    assert project.ok("plan").stdout.startswith("No changes.")
    refused = project.run("adopt", "--link", "move", str(project.root))
    assert refused.exit == 3 and "INVALID_CONFIG" in refused.stderr


def test_a_file_that_may_not_land_is_not_moved(wanrec: Program, tmp_path: Path) -> None:
    """What content rules refuse stays where it lies: its only copy is never removed."""
    data = b"\x80\x04\x95" + bytes(40) + b"."
    wanrec.write("specs/m.toml", spec_text({"m@1": declare({"x.json": data}, AWAY)}))
    (tmp_path / "o").mkdir()
    (tmp_path / "o/x").write_bytes(data)
    refused = wanrec.run("adopt", "--link", "move", str(tmp_path / "o"))
    assert refused.exit == 3 and "POLICY_DENIED" in refused.stderr
    assert (tmp_path / "o/x").read_bytes() == data


def test_a_hostile_folder(project: Program, tmp_path: Path) -> None:
    """Symlink loops, sockets, pipes, dead links and foreign pickles do not get in the way."""
    outside = shuffled(tmp_path / "o")
    (outside / "loop").symlink_to(outside)
    (outside / "self").symlink_to("self")
    (outside / "dead").symlink_to("nothing")
    os.mkfifo(outside / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(outside / "s"))
        done = project.ok("adopt", str(outside))
    assert "self: passed over" in done.stderr
    assert project.ok("plan").stdout.startswith("No changes.")
    missing = project.run("adopt", str(tmp_path / "none"))
    assert missing.exit == 3 and "INVALID_CONFIG" in missing.stderr


def test_digests_are_remembered(project: Program, tmp_path: Path) -> None:
    """A file is hashed once: the second run reads none of the candidates again."""
    outside = shuffled(tmp_path / "outside")
    (outside / "2.download").unlink()
    project.ok("adopt", str(outside))
    cache = project.root / ".wanrec/cache/adopt.json"
    before = cache.stat().st_mtime_ns
    project.ok("adopt", str(outside))
    assert cache.stat().st_mtime_ns == before
    cache.write_text("{torn")
    project.ok("adopt", str(outside))


def test_on_demand_models_come_along_when_whole(project: Program, tmp_path: Path) -> None:
    """A model nobody requires is adopted when all of it is there, and not missed when it is not."""
    for name in ("whole", "part"):
        files = {"a.json": name.encode() * 5, "b.json": name.encode() * 9}
        (tmp_path / "o" / name).mkdir(parents=True)
        for path, data in files.items():
            (tmp_path / "o" / name / path).write_bytes(data)
        model = declare(files, AWAY, presence="on-demand")
        project.write(f"specs/{name}.toml", spec_text({f"{name}@1": model}))
    (tmp_path / "o/part/b.json").unlink()
    project.ok("adopt", str(tmp_path / "o"))
    assert {path.split("/")[1] for path in project.files()} == {"whole@1"}


@pytest.mark.parametrize("make", [shuffled, hub_cache])
def test_write_spec(wanrec: Program, tmp_path: Path, make: object) -> None:
    """An unknown folder becomes spec and lock, and is adopted by them."""
    outside = make(tmp_path / "outside")  # type: ignore[operator]
    (outside / "weights.pth").write_bytes(b"pickle")
    done = wanrec.ok("adopt", str(outside), "--write-spec", "specs/found.toml")
    assert "Wrote specs/found.toml and found.lock.toml" in done.stderr
    assert wanrec.ok("plan").stdout.startswith("No changes.")
    data = {sha(content) for content in wanrec.files().values()}
    assert {sha(content) for content in FILES.values()} <= data
    spec = (wanrec.project / "specs/found.toml").read_text()
    expected = f"hf://org/m@{'a' * 40}" if make is hub_cache else "local://../../outside"
    assert expected in spec
    refused = wanrec.run("adopt", str(outside), "--write-spec", "specs/found.toml")
    assert refused.exit == 3 and "is there already" in refused.stderr
