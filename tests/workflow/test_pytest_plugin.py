"""`pytest --wanrec`: model files are items of a real pytest run."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from support.program import Finished, Program
from support.specs import declare, mirror, spec_text

VAE = {"vae/config.json": b"{}", "vae/weights.bin.txt": b"v" * 100, "text/config.json": b"[]"}
HALF = {"vae/half.txt": b"half"}
FULL = {"vae/full.txt": b"full"}


@pytest.fixture
def project(wanrec: Program) -> Program:
    """A project with one plain model and one with two variants, applied."""
    plain = declare(VAE, mirror(wanrec, "plain", VAE), marks=["video", "gpu(mem=80)"])
    double = declare({**HALF, **FULL}, mirror(wanrec, "double", {**HALF, **FULL}))
    for file, variant in zip(double["files"], ("fp16", "fp32"), strict=True):
        file["variant"] = variant
    double |= {"variants": ["fp16", "fp32"], "default_variant": "fp16", "install": "all"}
    models = {"plain@1.0.0": plain, "double@1.0.0": double}
    wanrec.write("specs/demo.toml", spec_text(models, family="demo"))
    wanrec.write("wanrec.toml", "")
    wanrec.ok("apply", "-y")
    return wanrec


# What else is installed beside pytest here takes four times as long to load as pytest itself.
OTHERS = "randomly hypothesispytest syrupy pytest_cov anyio".split()
DISTRIBUTING = "xdist xdist.looponfail".split()


def run_pytest(program: Program, *words: str) -> Finished:
    """A pytest run in the project, with only the plug-ins it needs."""
    unwanted = OTHERS if "-n" in words else OTHERS + DISTRIBUTING
    without = [word for name in unwanted for word in ("-p", f"no:{name}")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *without, *words],
        env=program.environment(PYTHONDONTWRITEBYTECODE="1"),
        cwd=program.project,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return Finished(exit=done.returncode, stdout=done.stdout, stderr=done.stderr)


def tamper(program: Program, path: str, data: bytes) -> None:
    """Change bytes below the root, keeping the size when `data` has it."""
    target = program.root / path
    target.chmod(0o644)
    target.write_bytes(data)


def ids(program: Program, *words: str) -> list[str]:
    """The node ids pytest collects."""
    done = run_pytest(program, "--wanrec", "--collect-only", "-q", *words)
    return [line for line in done.stdout.splitlines() if "::" in line]


def test_exactly_the_tampered_item_fails(project: Program) -> None:
    """One changed file of the same size is one failure, with the drift detail, also in JUnit."""
    tamper(project, "demo/plain@1.0.0/vae/weights.bin.txt", b"w" * 100)
    done = run_pytest(project, "--wanrec", "specs/demo.toml", "-k", "vae", "--junitxml=x.xml")
    assert done.exit == 1, done.stdout + done.stderr
    cases = {
        case.find("properties/property").get("value"): [  # type: ignore[union-attr]
            child.tag for child in case if child.tag != "properties"
        ]
        for case in ET.parse(project.project / "x.xml").iter("testcase")
    }
    failed = [name for name, children in cases.items() if children]
    assert failed == ["plain@1.0.0::vae/weights.bin.txt"]
    assert len(cases) == 4
    assert "plain@1.0.0::vae/weights.bin.txt  content  expected 100 B" in done.stdout


def test_ids_are_node_ids(project: Program) -> None:
    """The items are what `wanrec collect` lists, under the same ids."""
    listed = project.ok("collect").stdout.split()
    assert sorted(ids(project, "specs")) == sorted(listed)


def test_ids_are_shown_as_they_are(project: Program) -> None:
    """The lines of -v can be copied: pytest's habit of making :: of dots is kept out."""
    done = run_pytest(project, "--wanrec", "specs", "-v")
    for node_id in project.ok("collect").stdout.split():
        assert f"{node_id} PASSED" in done.stdout


@pytest.mark.parametrize(
    ("word", "count"),
    [
        ("specs/demo.toml", 5),
        ("specs/demo.toml::plain@1.0.0", 3),
        ("specs/demo.toml::plain@1.0.0::vae/config.json", 1),
        ("specs/demo.toml::double@1.0.0", 2),
        ("specs/demo.toml::double@1.0.0[fp16]", 1),
        ("specs/demo.toml::double@1.0.0[fp32]::vae/full.txt", 1),
    ],
)
def test_node_ids_select(project: Program, word: str, count: int) -> None:
    """A spec, a model, a variant or a file can be named on pytest's command line."""
    assert len(ids(project, word)) == count


def test_marks_select(project: Program) -> None:
    """Marks of a model are marks of its items, keyword arguments included."""
    assert len(ids(project, "specs", "-m", "video")) == 3
    assert len(ids(project, "specs", "-m", "gpu(mem=80)", "--strict-markers")) == 3
    assert len(ids(project, "specs", "-m", "gpu(mem=81)")) == 0


def test_optional_files(project: Program) -> None:
    """An optional file that no apply could bring is skipped; one that was there and went, fails."""
    files = {"here.txt": b"h", "gone.txt": b"g"}
    one = declare(files, mirror(project, "some", files))
    for file in one["files"]:
        file["optional"] = True
    project.write("specs/some.toml", spec_text({"some@1": one}, family="demo"))
    for source in project.project.rglob("gone.txt"):
        source.unlink()
    project.ok("apply", "-y", "specs/some.toml")
    assert "1 passed, 1 skipped" in run_pytest(project, "--wanrec", "specs/some.toml").stdout
    (project.root / "demo/some@1/here.txt").unlink()
    assert "1 failed, 1 skipped" in run_pytest(project, "--wanrec", "specs/some.toml").stdout


def test_missing_and_size(project: Program) -> None:
    """A missing file and a file of another size each fail with that word."""
    (project.root / "demo/plain@1.0.0/text/config.json").unlink()
    tamper(project, "demo/plain@1.0.0/vae/config.json", b"{ }")
    done = run_pytest(project, "--wanrec", "specs")
    assert done.exit == 1
    assert "2 failed, 3 passed" in done.stdout
    assert "::text/config.json  missing  expected 2 B" in done.stdout
    assert "::vae/config.json  size  expected 2 B" in done.stdout


def test_last_failed_runs_only_those(project: Program) -> None:
    """--lf looks only at what failed before; -x stops at the first failure."""
    for name in ("config.json", "weights.bin.txt"):
        tamper(project, f"demo/plain@1.0.0/vae/{name}", b"x")
    assert "2 failed" in run_pytest(project, "--wanrec", "specs").stdout
    assert "2 failed, 3 deselected" in run_pytest(project, "--wanrec", "specs", "--lf").stdout
    assert "1 failed" in run_pytest(project, "--wanrec", "specs", "-x").stdout


def test_xdist(project: Program) -> None:
    """Workers collect the same items in the same order."""
    done = run_pytest(project, "--wanrec", "specs", "-n", "2", "-q")
    assert done.exit == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


def test_deep_finds_what_stat_cannot(project: Program) -> None:
    """--wanrec-deep hashes files that everything else says are unchanged."""
    done = run_pytest(project, "--wanrec", "--wanrec-deep", "specs")
    assert "5 passed" in done.stdout


def test_policy(project: Program) -> None:
    """A pickle under an innocent name fails by policy, not as drift."""
    import hashlib
    import pickle

    data = pickle.dumps(print)
    text = (project.project / "specs/demo.toml").read_text()
    old = hashlib.sha256(VAE["vae/weights.bin.txt"]).hexdigest()
    text = text.replace(old, hashlib.sha256(data).hexdigest()).replace(
        "size = 100", f"size = {len(data)}"
    )
    project.write("specs/demo.toml", text)
    tamper(project, "demo/plain@1.0.0/vae/weights.bin.txt", data)
    done = run_pytest(project, "--wanrec", "specs", "-k", "weights")
    assert done.exit == 1
    assert "POLICY_DENIED" in done.stdout


def test_could_not_look_is_an_error(project: Program) -> None:
    """Without a root every item is an error, none is a failure."""
    done = run_pytest(project, "--wanrec", "--wanrec-root", "nowhere", "specs")
    assert "5 errors" in done.stdout or "3 errors" in done.stdout
    assert "failed" not in done.stdout.splitlines()[-1]
    assert "INVALID_CONFIG" in done.stdout


def test_a_broken_spec_hides_no_other(project: Program) -> None:
    """A faulty spec is a collection error with its line; the others are still collected."""
    project.write("specs/broken.toml", "schema_version = 1\n[models.'x@1']\nsise = 3\n")
    done = run_pytest(project, "--wanrec", "specs", "--continue-on-collection-errors")
    assert "specs/broken.toml:3: unknown key" in done.stdout
    assert "5 passed, 1 error" in done.stdout


def test_fixtures(project: Program) -> None:
    """`wanrec_model` gives a test a verified path, `wanrec_engine` the engine."""
    project.write(
        "test_models.py",
        "def test_model(wanrec_model, wanrec_engine):\n"
        "    path = wanrec_model('plain@1.0.0')\n"
        "    assert (path / 'vae/config.json').read_text() == '{}'\n"
        "    assert wanrec_engine.path('plain@1.0.0') == path\n",
    )
    assert "1 passed" in run_pytest(project, "test_models.py").stdout


def test_costs_nothing_when_not_asked(tmp_path: Path) -> None:
    """A pytest run without --wanrec loads two empty packages and the plug-in, nothing more."""
    (tmp_path / "test_x.py").write_text(
        "import sys\n"
        "def test_x():\n"
        "    ours = {n for n in sys.modules if n.startswith('wanrec')}\n"
        "    assert ours == {'wanrec', 'wanrec.reconcile', 'wanrec.reconcile.pytest_plugin'}\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", str(tmp_path)]
    environ = {name: value for name, value in os.environ.items() if name[:7] != "PYTEST_"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
