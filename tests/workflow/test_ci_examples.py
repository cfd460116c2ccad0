"""The example workflows of the docs: their scripts, run as a runner would run them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import xmlschema
from support.program import Finished, Program, command_line
from support.small import declare

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.fixture
def examples(checkout: Path) -> Path:
    """The examples of the docs."""
    return checkout / "docs/examples"


def script(program: Program, file: Path, *words: str, **env: str) -> Finished:
    """Run a script in the project with `wanrec` on the PATH."""
    here = str(Path(command_line()[0]).parent)
    done = subprocess.run(
        ["bash", str(file), *words],
        env=program.environment(PATH=f"{here}:/usr/bin:/bin", **env),
        cwd=program.project,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return Finished(exit=done.returncode, stdout=done.stdout, stderr=done.stderr)


def test_github_review_then_apply(wanrec: Program, examples: Path) -> None:
    """A pull request is annotated; the apply does what was reviewed, or nothing."""
    action = examples / "github/wanrec.sh"
    declare(wanrec, {"a@1": {"x.txt": b"x"}})
    summary = wanrec.project / "summary.md"
    done = script(wanrec, action, MODE="plan", GITHUB_STEP_SUMMARY=str(summary))
    assert done.exit == 0, done.stderr
    assert "<!-- wanrec-plan -->" in summary.read_text()
    assert "::notice title=wanrec plan::Plan: 1 to create" in done.stdout
    declare(wanrec, {"a@1": {"x.txt": b"edited"}})
    assert script(wanrec, action, MODE="apply").exit == 8
    declare(wanrec, {"a@1": {"x.txt": b"x"}})
    assert script(wanrec, action, MODE="apply").exit == 0
    assert wanrec.files() == {"test/a@1/x.txt": b"x"}
    assert "action_complete" in (wanrec.project / "apply.ndjson").read_text()


def test_github_review_without_the_root(wanrec: Program, examples: Path) -> None:
    """A runner that has only a copy of the state still says what would be deleted."""
    declare(wanrec, {"a@1": {"x.txt": b"x", "y.txt": b"y"}})
    wanrec.ok("apply", "-y")
    shutil.copy(wanrec.root / ".wanrec/state.json", wanrec.project / "copy.json")
    declare(wanrec, {"a@1": {"x.txt": b"x"}})
    env = {"MODE": "plan", "STATE": "copy.json", "MODELS_ROOT": str(wanrec.project / "none")}
    done = script(wanrec, examples / "github/wanrec.sh", **env)
    assert done.exit == 0, done.stderr
    assert "::warning title=wanrec plan::delete a@1::y.txt" in done.stdout


def test_github_drift(wanrec: Program, examples: Path) -> None:
    """Drift is an annotation, a report and exit 2."""
    declare(wanrec, {"a@1": {"x.txt": b"x"}})
    wanrec.ok("apply", "-y")
    (wanrec.root / "test/a@1/x.txt").unlink()
    done = script(wanrec, examples / "github/wanrec.sh", MODE="drift")
    assert done.exit == 2
    assert "::error" in done.stdout
    assert "<failure" in (wanrec.project / "drift.xml").read_text()


def test_gitlab(wanrec: Program, examples: Path, checkout: Path) -> None:
    """Plan with changes passes, apply does the reviewed plan, drift leaves a valid report."""
    file = examples / "gitlab/wanrec.sh"
    declare(wanrec, {"a@1": {"x.txt": b"x"}})
    done = script(wanrec, file, "plan")
    assert done.exit == 0, done.stderr
    assert "1 to create" in (wanrec.project / "plan.md").read_text()
    assert script(wanrec, file, "apply").exit == 0
    assert script(wanrec, file, "drift").exit == 0
    report = (wanrec.project / "drift.xml").read_text()
    xmlschema.XMLSchema(checkout / "tests/support/junit.xsd").validate(report)


def test_workflows_run_their_scripts(examples: Path) -> None:
    """The YAML files do nothing themselves: each command is one call of the tested script."""
    github = (examples / "github/action.yml").read_text()
    assert re.findall(r"run: (.*)", github) == ['bash "$GITHUB_ACTION_PATH/wanrec.sh"']
    gitlab = (examples / "gitlab/wanrec.gitlab-ci.yml").read_text()
    assert re.findall(r"^    - (?!if:)(.*)", gitlab, re.MULTILINE) == [
        f"bash ci/wanrec.sh {word}" for word in ("plan", "apply", "drift")
    ]
    workflow = (examples / "github/models.yml").read_text()
    assert "run:" not in workflow
    assert re.findall(r"mode: (\w+)", workflow) == ["plan", "apply", "drift"]


def test_apply_finds_the_plan_of_its_own_pipeline(examples: Path) -> None:
    """Wherever apply runs, the plan it expects was made by a job before it, as an artifact."""
    for file in ("github/models.yml", "gitlab/wanrec.gitlab-ci.yml"):
        start = re.compile(r"^ {0,2}(?=(?:plan|apply|drift):$)", re.MULTILINE)
        jobs = start.split((examples / file).read_text())
        plan, apply = (
            next(job for job in jobs if job.startswith(f"{name}:")) for name in ("plan", "apply")
        )
        assert "reviewed.wanplan" in plan
        assert re.search(r"needs: \[?plan", apply)
        ran = re.search(r'if: (\$CI.*"push".*)', apply)
        assert ran is None or ran[1] in plan
