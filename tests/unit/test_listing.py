"""`engine_listing`: a kept listing is what a run without a cache would list."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from wanrec.reconcile import desired, engine_listing
from wanrec.reconcile.cli import main
from wanrec.reconcile.settings import Settings, load

SPEC = """\
schema_version = 1
[models."m%d@1"]
sources = ["local://m"]
files = [%s]
"""
FILE = '{ path = "f%d.json", size = 1, sha256 = "%s" }'


def spec(number: int, files: int) -> str:
    """A spec of one model."""
    return SPEC % (number, ", ".join(FILE % (file, "a" * 64) for file in range(files)))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a project of 300 files, with a cache of its own."""
    top = tmp_path / "project"
    (top / "specs/sub").mkdir(parents=True)
    (top / "specs/sub/defaults.toml").write_text('[defaults]\nmarks = ["far"]\n')
    (top / "wanrec.toml").write_text("")
    for number in range(10):
        (top / f"specs/sub/m{number}.toml").write_text(spec(number, 30))
    monkeypatch.chdir(top)
    monkeypatch.setenv("WANREC_CACHE_DIR", str(tmp_path / "cache"))
    return top


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code and output of `wanrec collect`."""
    code = main(["collect", *words])
    return code, *capsys.readouterr()


def settings() -> Settings:
    """As the command line has them."""
    return load({}, os.environ)


@pytest.mark.parametrize("form", ["text", "json"])
def test_listed_again_without_parsing(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    form: str,
) -> None:
    """The second run says the same, byte for byte, and builds nothing."""
    first = listed(capsys, "--format", form)
    assert first[0] == 0
    assert "specs/sub/m9.toml::m9@1::f29.json" in first[1]

    def built(*_: object) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr(desired, "build_expanded", built)
    assert listed(capsys, "--format", form) == first


@pytest.mark.parametrize(
    "change",
    [
        lambda top: (top / "specs/sub/m3.toml").write_text(spec(3, 31)),
        lambda top: (top / "specs/sub/m3.toml").write_text("torn"),
        lambda top: (top / "specs/sub/m3.toml").unlink(),
        lambda top: (top / "specs/new.toml").write_text(spec(10, 1)),
        lambda top: (top / "specs/sub/m4.lock.toml").write_text("torn"),
        lambda top: (top / "specs/defaults.toml").write_text("torn"),
        lambda top: (top / "specs/sub/defaults.toml").write_text("torn"),
        lambda top: (top / "wanrec.toml").write_text('spec_paths = ["specs/sub/m1.toml"]'),
        lambda top: (top / "wanrec.toml").write_text('marks = ["near"]'),
        lambda top: (top / "wanrec.toml").write_text('mirror = "http://example.org/m"'),
        lambda top: shutil.rmtree(top / "specs"),
    ],
)
def test_whatever_changed_is_seen(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], object],
) -> None:
    """After a change of files or settings the run says what one without a cache says."""
    before = listed(capsys)
    change(project)
    after = listed(capsys)
    monkeypatch.setenv("WANREC_CACHE_DIR", "off")
    assert listed(capsys) == after
    assert after != before


@pytest.mark.parametrize(
    "words",
    [["-k", "m3"], ["m3@1"], ["specs/sub/m3.toml"], ["--exclude", "m3"], ["-v"]],
)
def test_what_narrows_is_worked_out(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
) -> None:
    """A run that selects, or says more, is no listing of everything, nor is it kept as one."""
    narrow = listed(capsys, *words)
    everything = listed(capsys)
    assert everything[1].count("\n") == 300
    assert listed(capsys, *words) == narrow
    monkeypatch.setenv("WANREC_CACHE_DIR", "off")
    assert listed(capsys) == everything
    assert listed(capsys, *words) == narrow != everything


@pytest.mark.parametrize(
    "kept", [None, [], ["x"], ["x", ["id"], 1], [1, ["id"]], ["{}", "id"], ["{}", [1]], {"a": []}]
)
def test_other_shapes_are_no_listing(
    project: Path, capsys: pytest.CaptureFixture[str], kept: object
) -> None:
    """What is sealed rightly but is no listing of these files is passed over, and replaced."""
    good = listed(capsys)
    cache = engine_listing._cache(settings())
    assert cache is not None
    made_of = cache.read()[0]
    if isinstance(kept, list):
        kept = [made_of if part == "{}" else part for part in kept]
    cache.write(kept)
    assert listed(capsys) == good
    assert cache.read()[0] == made_of


def test_few_are_not_kept(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A listing that is made in no time leaves no file."""
    for number in range(2, 10):
        (project / f"specs/sub/m{number}.toml").unlink()
    assert listed(capsys)[0] == 0
    cache = engine_listing._cache(settings())
    assert cache is not None
    assert cache.read() is None
