"""The real program in a child process, in a clean environment and a project of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import attrs

__all__ = ["Finished", "Program", "command_line"]

TIMEOUT_S = 300


@attrs.frozen(kw_only=True)
class Finished:
    """What a run left: its exit code and both streams."""

    exit: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.stdout)


def command_line() -> list[str]:
    """The installed script, or the module when only that is there."""
    script = shutil.which("wanrec", path=sysconfig.get_path("scripts"))
    return [script] if script else [sys.executable, "-P", "-m", "wanrec"]


@attrs.frozen(kw_only=True)
class Program:
    """`wanrec` with `project` as its working directory and `root` as MODELS_ROOT."""

    project: Path
    root: Path
    home: Path

    def environment(self, **extra: str | None) -> dict[str, str]:
        """A clean environment; a value of None removes a name."""
        clean: dict[str, str | None] = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "MODELS_ROOT": str(self.root),
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
            **extra,
        }
        return {name: value for name, value in clean.items() if value is not None}

    def start(self, *args: str, env: dict[str, str | None] | None = None, **more: Any) -> Any:
        """A `subprocess.Popen` of the program, both streams piped, no stdin."""
        options: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "cwd": self.project,
            "env": self.environment(**(env or {})),
        }
        return subprocess.Popen([*command_line(), *args], **(options | more))

    def run(self, *args: str, env: dict[str, str | None] | None = None, **more: Any) -> Finished:
        """Run to the end and return what came of it, whatever the exit code."""
        with self.start(*args, env=env, **more) as process:
            try:
                stdout, stderr = process.communicate(timeout=TIMEOUT_S)
            except BaseException:
                process.kill()
                raise
        return Finished(exit=process.returncode, stdout=stdout or "", stderr=stderr or "")

    def ok(self, *args: str, **more: Any) -> Finished:
        """Run and fail the test, with both streams shown, unless it exits 0."""
        done = self.run(*args, **more)
        assert done.exit == 0, f"exit {done.exit}\n{done.stdout}\n{done.stderr}"
        return done

    def write(self, path: str, text: str | bytes) -> Path:
        """Write a file below the project directory."""
        target = self.project / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text if isinstance(text, bytes) else text.encode())
        return target

    def files(self) -> dict[str, bytes]:
        """Every regular file under the root that is not wanrec's own, by relative path."""
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and ".wanrec" not in path.relative_to(self.root).parts
        }
