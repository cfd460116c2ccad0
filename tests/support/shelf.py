"""A root full of models for gc: small files of known sizes, one table of who may go and who not."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from support.program import Program
from support.specs import declare, mirror, spec_text

__all__ = ["SIZE", "SMALL", "holding", "models_there", "own", "shelf", "used", "whole"]

SIZE = 50_000
"""Bytes of each model's own file; a second, equal file is shared by all of them."""
SMALL = b"{}\n" * 100


def own(name: str) -> dict[str, bytes]:
    """The files of one model."""
    return {"weights.txt": (f"{name} " * SIZE).encode()[:SIZE], "config.json": SMALL}


def shelf(program: Program, models: Mapping[str, Mapping[str, Any]], **top: Any) -> None:
    """Declare these models (NAME → keys of the spec; on demand unless said) and bring them all."""
    tables = {
        f"{name}@1": declare(
            own(name), mirror(program, name, own(name)), **{"presence": "on-demand", **keys}
        )
        for name, keys in models.items()
    }
    program.write("specs/models.toml", spec_text(tables, **top))
    program.ok("apply", "-y")
    wanted = [name for name, keys in models.items() if keys.get("presence") in (None, "on-demand")]
    if wanted:
        named = [word for name in wanted for word in ("--only", f"{name}@1")]
        program.ok("models", "ensure", *named)


def used(program: Program, *names: str) -> None:
    """Let the models have been used in this order, an hour apart, the last one an hour ago."""
    folder = program.root / ".wanrec/used"
    newest = folder.stat().st_mtime - 3600
    for age, name in enumerate(reversed(names)):
        when = newest - 3600 * age
        os.utime(folder / f"{name}@1", (when, when))


def models_there(program: Program) -> set[str]:
    """Names of the models that have files."""
    inside = (path.split("/") for path in program.files() if path.startswith("wan22/"))
    return {parts[1].partition("@")[0] for parts in inside}


def whole(program: Program, names: Iterable[str]) -> bool:
    """True when exactly these models are there, each with all of its bytes."""
    wanted = {f"wan22/{name}@1/{path}": data for name in names for path, data in own(name).items()}
    return program.files() == wanted


def holding(program: Program, model: str, ready: Path) -> list[str]:
    """The command line of a process that stays inside `wanrec.use` until its stdin ends."""
    code = (
        "import pathlib, sys, wanrec\n"
        f"with wanrec.use({model!r}) as path:\n"
        f"    pathlib.Path({str(ready)!r}).touch()\n"
        "    sys.stdin.read()\n"
        "    assert (path / 'weights.txt').is_file()\n"
    )
    return ["-P", "-c", code]
