"""`wanrec mirror s3://…`: a bucket that brings the same models where no source is to be had."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import attrs
import pytest
from support.program import Finished, Program
from support.seaweed import SECRET_KEY, Seaweed
from support.specs import declare, mirror, spec_text

from wanrec.providers.s3_shelf import PART_BYTES

LARGE = random.Random(1).randbytes(PART_BYTES * 2 + 12345)
FILES = {"config.json": b'{"a": 1}', "vae/model.onnx": LARGE}
OTHER = {"config.json": b'{"b": 2}', "empty.txt": b""}


@attrs.frozen(kw_only=True)
class Exporting:
    """A project with two models, applied, whose sources are gone; and a bucket."""

    program: Program
    seaweed: Seaweed
    bucket: str

    @property
    def url(self) -> str:
        """Where the mirror goes."""
        return f"s3://{self.bucket}/offline/models"

    def run(self, *args: str, **env: str | None) -> Finished:
        """Run with what a user would set to reach the bucket."""
        return self.program.run(*args, env={**self.seaweed.environ, **env})

    def fresh(self, tmp_path: Path) -> Exporting:
        """The same project on an empty root."""
        root = tmp_path / "fresh"
        root.mkdir()
        return attrs.evolve(self, program=attrs.evolve(self.program, root=root))


@pytest.fixture
def project(wanrec: Program, seaweed: Seaweed) -> Exporting:
    """Two models, applied, their source gone."""
    models = {
        "m@1": declare(FILES, mirror(wanrec, "m", FILES)),
        "n@1": declare(OTHER, mirror(wanrec, "n", OTHER)),
    }
    wanrec.write("specs/m.toml", spec_text(models))
    wanrec.ok("apply", "-y")
    shutil.rmtree(wanrec.project / "mirror")
    return Exporting(program=wanrec, seaweed=seaweed, bucket=seaweed.bucket())


@pytest.mark.parametrize("layout", ["", "/{directory}"])
def test_a_bucket_brings_everything(project: Exporting, tmp_path: Path, layout: str) -> None:
    """What mirror sent lands whole on an empty root, with the plain URL and with a template."""
    done = project.run("mirror", project.url)
    assert (done.exit, done.stderr) == (0, "")
    assert "Mirrored 2 models: 4 files" in done.stdout
    other = project.fresh(tmp_path)
    brought = other.run("apply", "-y", "--mirror", project.url + layout)
    assert brought.exit == 0, brought.stderr
    assert "Apply complete! 4 created" in brought.stdout and "trying" not in brought.stderr
    assert other.program.files() == project.program.files()
    assert other.run("plan").stdout.startswith("No changes.")
    assert SECRET_KEY not in done.stdout + brought.stdout + brought.stderr


def test_what_is_there_is_not_sent_again(project: Exporting) -> None:
    """A second run sends nothing; a third sends only what was removed or has other bytes."""
    assert "Mirrored 1 model: 2 files" in project.run("mirror", project.url, "m").stdout
    assert "2 files (8 B) copied, 2 kept." in project.run("mirror", project.url).stdout
    again = project.run("mirror", project.url, "--json").json()
    assert (again["copied"], again["kept"]) == (0, 4)
    prefix = "offline/models/wan22"
    project.seaweed.delete(project.bucket, f"{prefix}/n@1/config.json")
    project.seaweed.put(project.bucket, {f"{prefix}/m@1/config.json": b'{"a": 2}'})
    assert "2 files (16 B) copied, 2 kept." in project.run("mirror", project.url).stdout
    names = set(project.seaweed.names(project.bucket, "offline/models/"))
    sums = project.seaweed.get(project.bucket, "offline/models/SHA256SUMS").decode()
    assert {line[66:] for line in sums.splitlines()} == names - {"SHA256SUMS"}
    assert "specs/m.toml" in names


def test_wrong_bytes_get_no_name(project: Exporting) -> None:
    """A file that was changed under the root is refused: no object, no upload left open."""
    path = project.program.root / "wan22/m@1/vae/model.onnx"
    path.chmod(0o644)
    path.write_bytes(bytes(len(LARGE)))
    refused = project.run("mirror", project.url)
    assert refused.exit == 4 and "CHECKSUM_FAIL" in refused.stderr
    assert project.seaweed.names(project.bucket, "offline/models/") == [
        "SHA256SUMS",
        "wan22/m@1/config.json",
    ]
    assert not project.seaweed.uploads(project.bucket)


def test_a_cut_upload_goes_on(project: Exporting) -> None:
    """Parts of an upload that was cut are not sent again, and the object comes out right."""
    key = "offline/models/wan22/m@1/vae/model.onnx"
    begun = project.seaweed.begin_parts(project.bucket, key, [LARGE[:PART_BYTES]])
    assert project.seaweed.uploads(project.bucket) == [begun]
    done = project.run("mirror", project.url)
    assert done.exit == 0, done.stderr
    assert project.seaweed.get(project.bucket, key) == LARGE
    assert not project.seaweed.uploads(project.bucket)


def test_a_wrong_part_is_sent_again(project: Exporting) -> None:
    """What another program left under the same key is not taken for ours."""
    key = "offline/models/wan22/m@1/vae/model.onnx"
    project.seaweed.begin_parts(project.bucket, key, [bytes(PART_BYTES)])
    assert project.run("mirror", project.url).exit == 0
    assert project.seaweed.get(project.bucket, key) == LARGE


@pytest.mark.parametrize(
    ("url", "env", "code", "exit_code"),
    [
        ("s3://{bucket}/x", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "AUTH_FAIL", 5),
        ("s3://{bucket}/x", {"AWS_SECRET_ACCESS_KEY": ""}, "AUTH_FAIL", 5),
        ("s3://{bucket}/x", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "SOURCE_UNAVAILABLE", 5),
        ("s3://{bucket}/x", {"AWS_ENDPOINT_URL": "http://10.1.1.1"}, "POLICY_DENIED", 3),
        ("s3://{bucket}/x?colour=1", {}, "INVALID_CONFIG", 3),
        ("s3://u:hunter2@{bucket}/x", {}, "INVALID_CONFIG", 3),
        ("hf://org/name", {}, "INVALID_CONFIG", 3),
        ("https://example.org/x?sig=hunter2", {}, "INVALID_CONFIG", 3),
        ("s3://{bucket}/x", {"WANREC_OFFLINE": "1"}, "OFFLINE", 5),
    ],
)
def test_a_place_that_takes_nothing(
    wanrec: Program, seaweed: Seaweed, url: str, env: dict[str, str], code: str, exit_code: int
) -> None:
    """Each has its code and a way out; no secret is repeated."""
    wanrec.write("specs/m.toml", spec_text({"n@1": declare(OTHER, "local://nowhere")}))
    variables = {**seaweed.environ, **env}
    refused = wanrec.run("mirror", url.format(bucket="test-1"), env=variables)
    assert (refused.exit, f"Error[{code}]" in refused.stderr) == (exit_code, True), refused.stderr
    assert "help:" in refused.stderr
    assert "hunter2" not in refused.stderr and SECRET_KEY not in refused.stderr
