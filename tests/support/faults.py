"""Faults for the real program: kills and errors by strace, scenes to try them on, what must hold.

A scene is a small project just before an apply that will be disturbed. After the disturbance and
one more apply everything must be as if nothing had happened (`end_state`, `leftovers`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from support.program import TIMEOUT_S, Program, command_line
from support.specs import declare, mirror, spec_text

__all__ = [
    "MODEL",
    "NEW",
    "OLD",
    "OWN",
    "QUIET",
    "SCENES",
    "Scene",
    "disturbed",
    "end_state",
    "inject",
    "kill_at",
    "leftovers",
    "models_on_disk",
    "new_program",
    "want",
]

QUIET: dict[str, str | None] = {"PYTHONDONTWRITEBYTECODE": "1"}
"""Without it the interpreter's own renames of its cache files would be counted."""

OLD = {
    "config.json": b'{"v": 1}\n',
    "vae/weights.txt": b"w" * 5_000,
    "vae/gone.json": b'{"gone": 1}\n',
}
NEW = {"config.json": b'{"v": 2}\n', "vae/weights.txt": OLD["vae/weights.txt"]}
MODEL, TWIN = "tiny@1.0.0", "twin@1.0.0"
OWN = ("notes.txt", b"mine\n")


@attrs.frozen(kw_only=True)
class Scene:
    """`before` and `after`: what the disk may show, models by path; `own` is the user's file."""

    name: str
    prepare: Callable[[Program], None]
    args: tuple[str, ...] = ("apply", "-y", "--parallelism", "1")
    before: Mapping[str, Mapping[str, bytes]]
    after: Mapping[str, Mapping[str, bytes]]
    own: bool = False


def want(program: Program, **models: Mapping[str, bytes]) -> None:
    """Write mirror and spec of these models (by NAME, version 1.0.0)."""
    tables = {
        f"{name}@1.0.0": declare(files, mirror(program, name, files))
        for name, files in models.items()
    }
    program.write("specs/models.toml", spec_text(tables))


def _first(program: Program) -> None:
    want(program, tiny=NEW)


def _upgrade(program: Program) -> None:
    want(program, tiny=OLD)
    program.ok("apply", "-y", env=QUIET)
    Path(program.root, "wan22", MODEL, OWN[0]).write_bytes(OWN[1])
    want(program, tiny=NEW)


def _delete(program: Program) -> None:
    want(program, tiny=OLD, twin=NEW)
    program.ok("apply", "-y", env=QUIET)
    want(program, twin=NEW)


def _share(program: Program) -> None:
    want(program, tiny=OLD)
    program.ok("apply", "-y", env=QUIET)
    want(program, tiny=NEW, twin=OLD)


SCENES = {
    scene.name: scene
    for scene in (
        Scene(name="first", prepare=_first, before={}, after={MODEL: NEW}),
        Scene(
            name="upgrade",
            prepare=_upgrade,
            before={MODEL: OLD},
            after={MODEL: NEW},
            own=True,
        ),
        Scene(
            name="delete",
            prepare=_delete,
            args=("apply", "-y", "--allow-delete", "--parallelism", "1"),
            before={MODEL: OLD, TWIN: NEW},
            after={TWIN: NEW},
        ),
        # twin's big file is tiny's: it is adopted by a link while tiny itself is upgraded.
        Scene(
            name="share",
            prepare=_share,
            before={MODEL: OLD},
            after={MODEL: NEW, TWIN: OLD},
        ),
    )
}


def new_program(base: Path) -> Program:
    """A program with an empty project, root and home below `base`."""
    program = Program(project=base / "project", root=base / "root", home=base / "home")
    for directory in (program.project, program.root, program.home):
        directory.mkdir(parents=True)
    return program


def inject(
    program: Program,
    call: str,
    what: str,
    *args: str,
    paths: Sequence[Path] = (),
    trace: Path | None = None,
) -> tuple[int, str, str, bool]:
    """Run the program under strace; returns exit code, stdout, stderr and whether it fired."""
    trace = trace or program.home / "trace"
    watched = [word for path in paths for word in ("-P", str(path))]
    command = [
        *("strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={call}"),
        *watched,
        *("-e", f"inject={call}:{what}", *command_line(), *args),
    ]
    done = subprocess.run(
        command,
        cwd=program.project,
        env=program.environment(**QUIET),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    fired = done.returncode in (-9, 137) or "INJECTED" in trace.read_text(errors="replace")
    return done.returncode, done.stdout, done.stderr, fired


def kill_at(
    program: Program, number: int, *args: str, exchange: bool = True
) -> tuple[int, str, str]:
    """Run the program, killed before its Nth step that changes the disk.

    Without `exchange` as on a file system that cannot exchange two directories.
    """
    env = QUIET if exchange else QUIET | {"KILL_AT_NO_EXCHANGE": "1"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("kill_at.py")), str(number), *args],
        cwd=program.project,
        env=program.environment(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def disturbed(scene: Scene, base: Path, call: str, number: int) -> tuple[Program, bool]:
    """Prepare a scene and kill its apply before one call; True when the kill happened.

    `call` is a system call for strace, perhaps only below one folder of the root (`CALL@FOLDER`),
    or "step" for any step that changes the disk.
    """
    program = new_program(base)
    scene.prepare(program)
    if call == "step":
        code, out, err = kill_at(program, number, *scene.args)
    else:
        name, _, folder = call.partition("@")
        code, out, err, _ = inject(
            program,
            name,
            f"signal=KILL:when={number}",
            *scene.args,
            paths=[program.root / folder] if folder else (),
        )
    killed = code in (-9, 137)
    assert killed or code == 0, f"exit {code}\n{out}\n{err}"
    return program, killed


def models_on_disk(program: Program) -> dict[str, dict[str, bytes]]:
    """Model → path → bytes of every final file."""
    found: dict[str, dict[str, bytes]] = {}
    for path, data in program.files().items():
        _, model, inside = path.split("/", 2)
        found.setdefault(model, {})[inside] = data
    return found


def end_state(program: Program) -> dict[str, Any]:
    """What must not depend on the way there: files with modes, and the state's content."""
    state = json.loads(Path(program.root, ".wanrec/state.json").read_bytes())
    for name in ("lineage", "root_id", "serial", "last_plan", "projects", "folded"):
        state.pop(name, None)
    for model in state["models"].values():
        for name in ("applied_at", "generation"):
            model.pop(name, None)
    for record in state["files"].values():
        # Who delivered the bytes is not known any more once they waited in the stage.
        for name in ("mtime_ns", "ctime_ns", "ino", "dev", "verified_at", "source"):
            record.pop(name, None)
    modes = {path: oct(Path(program.root, path).stat().st_mode & 0o777) for path in program.files()}
    folders = sorted(
        path.relative_to(program.root).as_posix()
        for path in program.root.rglob("*")
        if path.is_dir() and ".wanrec" not in path.relative_to(program.root).parts
    )
    return {"files": program.files(), "modes": modes, "folders": folders, "state": state}


def leftovers(program: Program) -> list[str]:
    """What a finished apply must not leave in the wanrec directory."""
    base = Path(program.root, ".wanrec")
    left = [
        path.relative_to(base).as_posix()
        for pattern in (
            *("partial/*", "journal/*.jsonl", "locks/run-*", "stage/blob/*", "stage/probe-*"),
            *("**/*.tmp", "root_id.new"),
        )
        for path in base.glob(pattern)
    ]
    notes = {path.stem for path in base.glob("stage/retired/*.json")}
    trees = {path.name for path in base.glob("stage/tree/*")}
    left += [f"stage/tree/{name}" for name in sorted(trees - notes)]
    left += [f"stage/retired/{name}.json" for name in sorted(notes - trees)]
    known = {"blob", "retired", "tree"}
    left += [f"stage/{name}" for name in os.listdir(base / "stage") if name not in known]
    return sorted(left)
