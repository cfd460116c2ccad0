"""What runs often starts light: read from `sys.modules` of real runs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.program import Program
from support.small import declare

HEAVY = ("networkx", "boto3", "botocore", "huggingface_hub", "opentelemetry", "rich", "jinja2")
SLOW_STDLIB = ("asyncio", "http.client", "concurrent.futures", "urllib.request", "email")
CODE = """
import json, sys
from wanrec.reconcile.cli import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]))
"""


def loaded(program: Program, *words: str) -> set[str]:
    """Modules that a run of the program has loaded; it must exit 0."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", CODE, *words],
        env=program.environment(),
        cwd=program.project,
        capture_output=True,
        text=True,
        check=True,
    )
    code, modules = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, done.stderr
    return set(modules)


@pytest.mark.parametrize("words", [("plan",), ("drift",), ("path", "a@1"), ("ensure", "a@1")])
def test_runs_without_changes_are_light(wanrec: Program, words: tuple[str, ...]) -> None:
    """A run that finds nothing to do loads no SDK, no graph library, no template engine."""
    declare(wanrec, {"a@1": {"x.txt": b"x"}})
    wanrec.ok("apply", "-y")
    modules = loaded(wanrec, *words)
    assert not {name for name in modules if name.split(".")[0] in HEAVY}


@pytest.mark.parametrize("words", [("drift",), ("path", "a@1")])
def test_frequent_runs_load_no_slow_stdlib(wanrec: Program, words: tuple[str, ...]) -> None:
    """A drift check and a path look-up pay for no network or pool module they do not use."""
    declare(wanrec, {"a@1": {"x.txt": b"x"}})
    wanrec.ok("apply", "-y")
    assert not loaded(wanrec, *words) & set(SLOW_STDLIB)
