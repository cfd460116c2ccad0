"""The wheel holds what the tree holds, and the documents name the same commands."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOMS = ("reconcile", "providers", "state", "specs")
DATA = (".py", ".j2", ".typed", ".toml", ".txt", ".json")


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built from a copy of the tree, so that no stale build/ takes part."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(checkout / name, source / name)
    shutil.copytree(checkout / "docs/man", source / "docs/man")
    for room in ROOMS:
        shutil.copytree(
            checkout / room, source / room, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(out), str(source)],
        check=True,
        capture_output=True,
    )
    return zipfile.ZipFile(next(out.glob("wanrec-*.whl")))


def expected(checkout: Path) -> set[str]:
    """Where each file of the rooms must lie in the wheel."""
    names = set()
    for room in ROOMS:
        for path in (checkout / room).rglob("*"):
            relative = path.relative_to(checkout).as_posix()
            if path.suffix in DATA or path.name == "py.typed":
                inside = relative.removeprefix("reconcile/_root/")
                names.add(f"wanrec/{inside}")
    return {name for name in names if "__pycache__" not in name}


def test_wheel_is_the_tree(wheel: zipfile.ZipFile, checkout: Path) -> None:
    """Every module, template, spec and schema of the tree is in the wheel, and nothing else."""
    ours = (name for name in wheel.namelist() if not name.split("/")[0].endswith(".data"))
    inside = {name for name in ours if not name.split("/")[0].endswith("-info")}
    assert inside == expected(checkout)


def test_wheel_has_the_man_page(wheel: zipfile.ZipFile, checkout: Path) -> None:
    """Installing the wheel puts `man wanrec` where man looks beside the program."""
    data = [name for name in wheel.namelist() if name.split("/")[0].endswith(".data")]
    assert [name.partition("/")[2] for name in data] == ["data/share/man/man1/wanrec.1"]
    assert wheel.read(data[0]) == (checkout / "docs/man/wanrec.1").read_bytes()


def test_demo_extra_equals_the_list(checkout: Path) -> None:
    """The extra `[demo]` and specs/demo-packages.txt pin the same packages."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    lines = (checkout / "specs/demo-packages.txt").read_text().split()
    assert project["optional-dependencies"]["demo"] == lines


def test_ci_runs_the_readme(checkout: Path) -> None:
    """The last line of .ci/run is the README's test command, character by character."""
    last = (checkout / ".ci/run").read_text().splitlines()[-1]
    assert last in (checkout / "README.md").read_text().splitlines()


def test_version_is_one(wheel: zipfile.ZipFile) -> None:
    """The distribution and `wanrec.__version__` name the same version."""
    import wanrec

    assert f"wanrec-{wanrec.__version__}.dist-info/METADATA" in wheel.namelist()
