"""`wanrec adopt`: what lies somewhere already is never fetched again, and never harmed."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.program import Program
from support.specs import declare, spec_text

from wanrec.reconcile.adopting import Adopted, AdoptRequest, adopt
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.select_args import SelectArgs
from wanrec.reconcile.workbench import Workbench

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


def _socket(place: Path) -> None:
    """A socket file that nobody listens on any more."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))


def _unreadable(place: Path) -> None:
    """A file of a wanted size that its owner closed."""
    place.write_bytes(FILES["vae/model.onnx"])
    place.chmod(0)


OBSTACLES: dict[str, tuple[Callable[[Path], None], str, int]] = {
    "loop": (lambda place: place.symlink_to(place.parent), "UNSAFE_PATH", 3),
    "self": (lambda place: place.symlink_to(place.name), "UNSAFE_PATH", 3),
    "pipe": (os.mkfifo, "UNSAFE_PATH", 3),
    "socket": (_socket, "UNSAFE_PATH", 3),
    "unreadable": (_unreadable, "PERMISSION_DENIED", 6),
}


@pytest.mark.parametrize("what", OBSTACLES)
def test_an_obstacle_is_an_error(project: Program, tmp_path: Path, what: str) -> None:
    """Each has its code and is named; nothing is written. --keep-going passes over it."""
    if what == "unreadable" and os.geteuid() == 0:
        pytest.skip("root reads everything")
    make, code, exit_code = OBSTACLES[what]
    outside = shuffled(tmp_path / "o")
    make(outside / what)
    (outside / "dead").symlink_to("nothing")  # usual, and harmless
    refused = project.run("adopt", str(outside))
    assert refused.exit == exit_code
    assert f"Error[{code}]" in refused.stderr and f"{outside}/{what}" in refused.stderr
    assert "--keep-going" in refused.stderr
    assert not list(project.root.iterdir())
    done = project.ok("adopt", str(outside), "--keep-going")
    assert f"{what}: " in done.stderr and "dead" not in done.stderr
    assert project.ok("plan").stdout.startswith("No changes.")


def test_all_obstacles_are_told_at_once(project: Program, tmp_path: Path) -> None:
    """Several obstacles are one error that lists each with its code; a spec is not written."""
    outside = shuffled(tmp_path / "o")
    (outside / "loop").symlink_to(outside)
    os.mkfifo(outside / "pipe")
    for more in ([], ["--write-spec", "specs/found.toml"], ["--dry-run"]):
        refused = project.run("adopt", str(outside), *more)
        assert refused.exit == 3 and "2 things in the folder" in refused.stderr
        assert refused.stderr.count("UNSAFE_PATH: ") == 2
    assert not (project.project / "specs/found.toml").exists()
    assert project.run("adopt", str(tmp_path / "none")).exit == 3
    both = project.run("adopt", str(outside), "--dry-run", "--write-spec", "specs/found.toml")
    assert both.exit == 64


def adopting(project: Program, folder: Path, **how: Any) -> Adopted:
    """Adopt in this process, to act while it reads."""
    bench = Workbench.from_config(project.project, project.environment(), parallelism=1)
    return adopt(bench, AdoptRequest(folder=folder, select=SelectArgs(), **how))


def test_a_file_that_changes_while_it_is_read(project: Program, tmp_path: Path) -> None:
    """It is named as such, and nothing is written."""
    outside = shuffled(tmp_path / "o")

    def grow(_: int) -> None:
        for place in outside.glob("*.download"):
            with place.open("ab") as file:
                file.write(b"more")

    with pytest.raises(WanrecError, match="changed while it was read") as told:
        adopting(project, outside, progress=grow)
    assert told.value.code is ErrorCode.CONCURRENT_MODIFICATION
    assert not list(project.root.iterdir())


def test_a_stopped_run_goes_on(project: Program, tmp_path: Path) -> None:
    """What was hashed before the stop is not read again, and the end is the same."""
    outside, stop = shuffled(tmp_path / "o"), threading.Event()
    read: list[int] = []

    def count(size: int) -> None:
        read.append(size)
        if len(read) == 2:
            stop.set()

    with pytest.raises(WanrecError, match="stopped"):
        adopting(project, outside, progress=count, stop=stop)
    assert project.files() == {}
    before = sum(read)
    assert not adopting(project, outside, progress=read.append).missing
    whole = sum(path.stat().st_size for path in outside.iterdir())
    assert sum(read) <= whole + before - read[0]
    assert project.ok("plan").stdout.startswith("No changes.")


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


def test_write_spec_without_a_root(wanrec: Program, tmp_path: Path) -> None:
    """Where adopting is bound to fail no spec is written, so that the next try finds no other."""
    outside = shuffled(tmp_path / "outside")
    command = ("adopt", str(outside), "--write-spec", "specs/found.toml", "--root", "later")
    refused = wanrec.run(*command)
    assert refused.exit == 3 and "INVALID_CONFIG" in refused.stderr
    assert not list((wanrec.project / "specs").glob("*"))
    (wanrec.project / "later").mkdir()
    done = wanrec.ok(*command)
    assert "Apply complete!" in done.stdout and done.stderr.count("\n") == 1
