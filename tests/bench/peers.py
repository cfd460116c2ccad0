"""What wanrec is measured against: dvc, git, and what plain Python does with the same bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from pairs import Command

HERE = Path(__file__).parent
_NAMED = ("-c", "user.name=bench", "-c", "user.email=bench@example.org")


def program(name: str) -> str | None:
    """Return a program of this environment, else of the PATH, else None."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def nothing(cwd: Path) -> Command:
    """The interpreter, doing nothing."""
    return Command([sys.executable, "-c", "pass"], cwd)


def collect_only(folder: Path) -> Command:
    """pytest, listing the tests below a folder."""
    words = ["-m", "pytest", "--collect-only", "-q", "-p", "no:wanrec", "--rootdir", str(folder)]
    return Command([sys.executable, *words], folder)


def hash_pass(folder: Path) -> Command:
    """Two threads of hashlib over a folder's files."""
    return Command([sys.executable, str(HERE / "hash_pass.py"), str(folder)], folder)


def copy_and_hash(source: Path, target: Path) -> Command:
    """`cp -r`, then two threads of hashlib over the copy."""
    script = 'cp -r "$1" "$2" && exec "$3" "$4" "$2"'
    words = ["sh", "-c", script, "sh", str(source), str(target)]
    return Command(
        [*words, sys.executable, str(HERE / "hash_pass.py")],
        source,
        before=lambda: shutil.rmtree(target, ignore_errors=True),
    )


def git_status(models: Path, place: Path) -> Command | None:
    """`git status` over a committed copy with a warm index."""
    git = program("git")
    if git is None:
        return None
    _copied(models, place)
    for words in (["init", "-q"], ["add", "-A"], [*_NAMED, "commit", "-q", "-m", "models"]):
        subprocess.run([git, *words], cwd=place, check=True, stdout=subprocess.DEVNULL)
    subprocess.run([git, "status"], cwd=place, check=True, stdout=subprocess.DEVNULL)
    return Command([git, "status"], place)


def dvc_status(models: Path, place: Path) -> Command | None:
    """`dvc status` over a copy that `dvc add` has taken in."""
    dvc = program("dvc")
    if dvc is None:
        return None
    os.environ["DVC_NO_ANALYTICS"] = "1"
    _copied(models, place)
    for words in (["init", "-q", "--no-scm"], ["add", "-q", "models"]):
        subprocess.run([dvc, *words], cwd=place, check=True, stdout=subprocess.DEVNULL)
    return Command([dvc, "status"], place)


def _copied(models: Path, place: Path) -> None:
    place.mkdir()
    shutil.copytree(models, place / "models")
