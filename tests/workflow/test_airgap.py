"""`verify` and `mirror`: what was carried to a machine without a network is known to be right."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from support.program import Program
from support.specs import declare, mirror, spec_text

FILES = {"config.json": b'{"a": 1}', "vae/model.onnx": bytes(range(256)) * 30}
OTHER = {"config.json": b'{"b": 2}'}


@pytest.fixture
def project(wanrec: Program) -> Program:
    """Two models, applied."""
    models = {
        "m@1": declare(FILES, mirror(wanrec, "m", FILES)),
        "n@1": declare(OTHER, mirror(wanrec, "n", OTHER)),
    }
    wanrec.write("specs/m.toml", spec_text(models))
    wanrec.ok("apply", "-y")
    return wanrec


def test_sound_files(project: Program, tmp_path: Path) -> None:
    """0 for the root, one model, one model's directory, and a copy under a name of its own."""
    assert project.ok("verify").stdout == "Verified 3 files of 2 models: all as specified.\n"
    assert project.ok("verify", "m").stdout.startswith("Verified 2 files of 1 model:")
    shutil.rmtree(project.root / ".wanrec")
    project.ok("verify", str(project.root))
    project.ok("verify", str(project.root / "wan22/m@1"))
    shutil.copytree(project.root / "wan22/m@1", tmp_path / "copy")
    assert project.ok("verify", str(tmp_path / "copy"), "--json").json()["models"] == ["m@1"]
    unknown = project.run("verify", str(project.home))
    assert unknown.exit == 3 and "NOTHING_SELECTED" in unknown.stderr


def damaged(project: Program, how: str) -> Path:
    """Do something to one file of m."""
    path = project.root / "wan22/m@1/vae/model.onnx"
    path.chmod(0o644)
    if how == "missing":
        path.unlink()
    elif how == "size":
        path.write_bytes(b"short")
    elif how == "content":
        path.write_bytes(bytes(path.stat().st_size))
    else:
        path.unlink()
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("how", "kind", "exit_code"),
    [
        ("missing", "missing", 2),
        ("size", "size", 4),
        ("content", "content", 4),
        ("folder", "content", 4),
    ],
)
def test_damage_is_told(project: Program, how: str, kind: str, exit_code: int) -> None:
    """2 for what is missing, 4 for wrong bytes; the finding names the file."""
    damaged(project, how)
    done = project.run("verify", "--json")
    assert done.exit == exit_code
    document = done.json()
    assert [(i["address"], i["kind"]) for i in document["items"]] == [("m@1::vae/model.onnx", kind)]
    assert "m@1::vae/model.onnx" in project.run("verify", "m").stdout
    assert project.run("verify", "n").exit == 0


@pytest.mark.parametrize("how", ["closed", "loop"])
def test_unreadable(project: Program, how: str) -> None:
    """6 for what cannot be read, and only then; wrong bytes elsewhere count for more."""
    path = project.root / "wan22/m@1/vae/model.onnx"
    if how == "closed":
        if os.geteuid() == 0:
            pytest.skip("root reads everything")
        path.chmod(0)
    else:
        path.unlink()
        path.symlink_to(path.name)
    done = project.run("verify", "--json")
    assert done.exit == 6
    assert [(i["address"], i["kind"]) for i in done.json()["items"]] == [
        ("m@1::vae/model.onnx", "unreadable")
    ]
    other = project.root / "wan22/n@1/config.json"
    other.chmod(0o644)
    other.write_bytes(b"{}")
    assert project.run("verify").exit == 4


@pytest.mark.parametrize("layout", ["", "/{directory}"])
def test_a_mirror_is_a_source(project: Program, tmp_path: Path, layout: str) -> None:
    """What mirror wrote brings the same models where no source is to be had."""
    dest = tmp_path / "disk"
    done = project.ok("mirror", str(dest))
    assert "Mirrored 2 models: 3 files" in done.stdout
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=dest, check=True)
    project.ok("verify", str(dest))
    shutil.rmtree(project.project / "mirror")
    root = tmp_path / "other"
    url = f"local://{dest}{layout}"
    brought = project.ok(
        "apply", "-y", "--create-root", "--root", str(root), "--mirror", url, cwd=dest
    )
    assert "Apply complete! 3 created" in brought.stdout
    assert brought.stderr == "" or "trying the next" not in brought.stderr
    assert (root / "wan22/n@1/config.json").read_bytes() == OTHER["config.json"]


def test_a_web_server_over_a_mirror(project: Program, tmp_path: Path) -> None:
    """The folder behind a plain web server is the same source, by its plain address."""
    project.ok("mirror", str(tmp_path / "disk"))
    shutil.rmtree(project.project / "mirror")
    serve = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "disk")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            root = str(tmp_path / "other")
            done = project.ok("apply", "-y", "--create-root", "--root", root, "--mirror", url)
        finally:
            server.shutdown()
    assert "Apply complete! 3 created" in done.stdout and "trying" not in done.stderr


def test_a_mirror_goes_on(project: Program, tmp_path: Path) -> None:
    """A second run copies only what is new; a model that is not whole is named, with exit 2."""
    dest = tmp_path / "disk"
    project.ok("mirror", str(dest), "m")
    done = project.ok("mirror", str(dest))
    assert "1 file (8 B) copied, 2 kept." in done.stdout
    assert len((dest / "SHA256SUMS").read_text().splitlines()) == 4
    damaged(project, "missing")
    partly = project.run("mirror", str(tmp_path / "new"))
    assert partly.exit == 2 and "m@1 is not whole" in partly.stderr


def test_a_mirror_takes_no_wrong_bytes(project: Program, tmp_path: Path) -> None:
    """A file that was changed under the root is refused, and leaves nothing behind."""
    damaged(project, "content")
    refused = project.run("mirror", str(tmp_path / "disk"))
    assert refused.exit == 4 and "CHECKSUM_FAIL" in refused.stderr
    assert not list((tmp_path / "disk").rglob("*model.onnx*"))


def test_a_mirror_in_the_root_is_refused(project: Program) -> None:
    """The root belongs to its models: it is not its own mirror, and neither is a folder in it."""
    before = project.files()
    for dest in (project.root, project.root / "wan22", f"local://{project.root}/new"):
        refused = project.run("mirror", str(dest))
        assert refused.exit == 3 and "INVALID_CONFIG" in refused.stderr
    assert project.files() == before


def test_a_full_disk_is_told_before(wanrec: Program, tmp_path: Path) -> None:
    """NO_SPACE comes before a byte is read or written."""
    size = 1 << 43  # more than any test machine has; nothing of it is there
    model = declare({"big.onnx": b""}, "local://nowhere")
    model["files"][0] |= {"size": size, "sha256": "0" * 64}
    wanrec.write("specs/big.toml", spec_text({"big@1": model}))
    big = wanrec.root / "wan22/big@1/big.onnx"
    big.parent.mkdir(parents=True)
    with big.open("wb") as file:
        file.truncate(size)
    refused = wanrec.run("mirror", str(tmp_path / "disk"))
    assert refused.exit == 6 and "NO_SPACE" in refused.stderr
    assert not (tmp_path / "disk").exists()
