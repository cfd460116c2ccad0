"""Generated models: a folder of sources, specs over them, and a root that holds them applied.

Every file has its own bytes, so nothing is shared by hash. The state is made by the real
`wanrec apply`; nothing here knows its format.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_MIB = 1024 * 1024


class Shape(NamedTuple):
    """How many models, how many files each, and how many bytes a file has."""

    models: int
    files: int
    size: int

    @property
    def total(self) -> int:
        """How many files there are."""
        return self.models * self.files


class Tree:
    """One generated project: `source/`, `project/specs/` and `root/` in a folder of its own."""

    def __init__(self, place: Path, wanrec: str, shape: Shape) -> None:
        self.place = place
        self.shape = shape
        self.source = place / "source"
        self.project = place / "project"
        self.root = place / "root"
        self._wanrec = wanrec

    def command(self, *words: str) -> list[str]:
        """Return the command line of wanrec on this root; run it in `project`."""
        return [self._wanrec, "--root", str(self.root), *words]

    def make(self, *, locked: bool = False) -> Tree:
        """Write sources and specs; `locked`: the files stand in lock files that wanrec writes."""
        (self.project / "specs").mkdir(parents=True)
        for number in range(self.shape.models):
            name = f"model-{number:03d}"
            (self.source / name).mkdir(parents=True)
            rows = list(self._files(name))
            spec = self.project / "specs" / f"{name}.toml"
            spec.write_text(_spec(name, self.source / name, [] if locked else rows))
        if locked:
            self.quietly("lock")
        return self

    def quietly(self, *words: str) -> None:
        """Run wanrec in the project; it must succeed."""
        command = self.command(*words)
        subprocess.run(command, cwd=self.project, check=True, stdout=subprocess.DEVNULL)

    def _files(self, name: str) -> Iterator[tuple[str, int, str]]:
        for number in range(self.shape.files):
            path = f"part-{number % 5}/file-{number:05d}.weights"
            file = self.source / name / path
            file.parent.mkdir(exist_ok=True)
            yield path, *_write(file, f"{name}/{path}\n".encode(), self.shape.size)

    def apply(self) -> float:
        """Bring everything with `wanrec apply`; returns the seconds it took."""
        start = time.monotonic()
        self.quietly("apply", "-y", "--create-root")
        return time.monotonic() - start

    def settled(self) -> Tree:
        """Apply, then wait until no file is as young as its record (the racy-stat rule)."""
        self.apply()
        self.quietly("plan")
        return self

    def paths(self, below: str) -> list[Path]:
        """Return the model files below `source` or `root`, sorted."""
        top = self.place / below
        return sorted(
            Path(folder, name)
            for folder, folders, names in os.walk(top)
            for name in names
            if ".wanrec" not in Path(folder).relative_to(top).parts
        )


def nested_specs(project: Path, specs: int, files: int) -> Path:
    """Write specs in ten folders, with `defaults.toml` on three levels; returns the project."""
    for number in range(specs):
        group = project / "specs" / f"group-{number % 10}"
        folder = group / "models"
        folder.mkdir(parents=True, exist_ok=True)
        (group / "defaults.toml").write_text('family = "bench"\n')
        (folder / "defaults.toml").write_text("[defaults]\nprotect = true\n")
        rows = [
            (f"part/file-{file:03d}", file, f"{number:032d}{file:032d}") for file in range(files)
        ]
        name = f"model-{number:03d}"
        (folder / f"{name}.toml").write_text(_spec(name, Path("mirror"), rows))
    (project / "specs/defaults.toml").write_text('[defaults]\nmarks = ["all"]\n')
    return project


def nested_tests(folder: Path, modules: int, functions: int) -> Path:
    """Write as many test modules, with as many functions each; returns the folder."""
    for number in range(modules):
        below = folder / f"group_{number % 10}"
        below.mkdir(parents=True, exist_ok=True)
        (below / "conftest.py").touch()
        text = "".join(f"def test_{one}():\n    pass\n\n\n" for one in range(functions))
        (below / f"test_module_{number:03d}.py").write_text(text)
    return folder


def _write(file: Path, head: bytes, size: int) -> tuple[int, str]:
    """Write `head`, then random bytes up to `size`; returns size and sha256."""
    digest = hashlib.sha256(head)
    left = size - len(head)
    with file.open("wb") as stream:
        stream.write(head)
        while left > 0:
            block = os.urandom(min(left, _MIB))
            stream.write(block)
            digest.update(block)
            left -= len(block)
    return max(size, len(head)), digest.hexdigest()


def _spec(name: str, source: Path, rows: list[tuple[str, int, str]]) -> str:
    model = f'models."{name}@1.0.0"'
    lines = [
        "schema_version = 1",
        'family = "bench"',
        f"[{model}.sources]",
        f'priority = ["local://{source}"]',
    ]
    for path, size, sha256 in rows:
        lines += [f"[[{model}.files]]", f'path = "{path}"', f"size = {size}"]
        lines.append(f'sha256 = "{sha256}"')
    return "\n".join(lines) + "\n"
