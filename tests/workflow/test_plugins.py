"""Plug-ins: found, loaded, asked, and named when they are broken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.program import Program
from support.small import declare as declare_small
from support.specs import declare, spec_text

FILES = {"config.json": b"{}", "weights.txt": b"w" * 5000}


@pytest.fixture(scope="session")
def acme(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The worked example, installed by pip into a folder of its own."""
    source = tmp_path_factory.mktemp("source") / "plugin"
    shutil.copytree(checkout / "docs/examples/plugin", source)
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(target), str(source)], check=True)
    return target


@pytest.fixture
def zipped(wanrec: Program, acme: Path) -> dict[str, str | None]:
    """A project whose model comes out of a zip archive; the environment that has the plug-in."""
    (wanrec.project / "specs").mkdir()
    with zipfile.ZipFile(wanrec.project / "specs/model.zip", "w") as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    models = {"a@1": declare(FILES, "zip://model.zip")}
    wanrec.write("specs/models.toml", spec_text(models, family="test"))
    return {"PYTHONPATH": str(acme)}


def module(program: Program, name: str, body: str) -> None:
    """A plug-in module beside the project, for -p."""
    head = "from wanrec.reconcile.hooks_spec import Veto, Warn, hookimpl\n"
    program.write(f"{name}.py", head + body)


def test_installed_provider_and_policy(wanrec: Program, zipped: dict[str, str | None]) -> None:
    """An installed third-party provider and policy take part in plan and apply."""
    planned = wanrec.ok("plan", "--format", "json", env=zipped).json()
    assert [action["sources"] for action in planned["actions"]] == [["zip://model.zip"]] * 2
    small = zipped | {"ACME_MAX_FETCH": "1000"}
    denied = wanrec.run("plan", env=small)
    assert denied.exit == 3
    assert "POLICY_DENIED" in denied.stdout + denied.stderr
    assert "acme: the plan fetches 5002 bytes, 1000 are allowed" in denied.stdout
    assert wanrec.run("apply", "-y", env=small).exit == 3
    assert wanrec.files() == {}
    wanrec.ok("apply", "-y", env=zipped)
    assert wanrec.files()["test/a@1/weights.txt"] == FILES["weights.txt"]
    assert "No changes." in wanrec.ok("plan", env=zipped).stdout


def test_policy_is_asked_about_a_saved_plan(wanrec: Program, zipped: dict[str, str | None]) -> None:
    """A plan that was saved before the policy forbade it is not applied."""
    wanrec.ok("plan", "--out", "p.wanplan", env=zipped)
    done = wanrec.run("apply", "p.wanplan", env=zipped | {"ACME_MAX_FETCH": "1"})
    assert done.exit == 3
    assert "POLICY_DENIED" in done.stderr
    assert wanrec.files() == {}


def test_without_the_plugin_the_scheme_is_unknown(
    wanrec: Program, zipped: dict[str, str | None]
) -> None:
    """`-p no:acme` and `plugins = false` leave an installed plug-in out."""
    for env, words in (
        (zipped, ("-p", "no:acme")),
        (zipped | {"WANREC_PLUGINS": "no:auto"}, ()),
        ({}, ()),
    ):
        done = wanrec.run("apply", "-y", *words, env=env)
        assert "unknown scheme 'zip'" in done.stdout + done.stderr, words
        assert done.exit != 0


def test_plugins_lists_what_is_loaded(wanrec: Program, zipped: dict[str, str | None]) -> None:
    """`plugins` says name, distribution, hooks and file."""
    rows = wanrec.ok("plugins", "--format", "json", env=zipped).json()["plugins"]
    assert [(row["name"], row["origin"], row["hooks"]) for row in rows] == [
        ("acme", "wanrec_acme 1.0.0", ["wanrec_check_plan", "wanrec_providers"])
    ]
    assert rows[0]["file"].endswith("wanrec_acme.py")


def test_without_plugins_pluggy_is_not_loaded(wanrec: Program) -> None:
    """A plan that no plug-in takes part in does not import pluggy."""
    declare_small(wanrec, {"a@1": {"x.txt": b"x"}})
    code = (
        "import sys; from wanrec.reconcile.cli import main; main(['plan']);"
        "print({'pluggy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=wanrec.environment(),
        cwd=wanrec.project,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import no_such_module_at_all", "ModuleNotFoundError"),
        ("@hookimpl\ndef wanrec_chek_plan(plan): ...", "wanrec_chek_plan"),
        ("@hookimpl\ndef wanrec_check_plan(plan): raise KeyError('boom')", "KeyError: 'boom'"),
        ("@hookimpl\ndef wanrec_check_plan(plan): return 'no'", "answered wanrec_check_plan"),
        ("@hookimpl\ndef wanrec_check_plan(plan, other): ...", "other"),
        ("@hookimpl\ndef wanrec_providers(): return {'s3': 'x:Y'}", "'s3' is taken"),
        ("@hookimpl\ndef wanrec_transform_spec(path, document): return 5", "int"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("@hookimpl\ndef wanrec_check_plan(plan): raise SystemExit", "SystemExit"),
        ("@hookimpl\ndef wanrec_check_plan(plan):\n    yield Warn('w')\n    1 / 0", "ZeroDivision"),
        (
            "@hookimpl\ndef wanrec_transform_spec(path, document):\n"
            "    document['x-loop'] = document\n    return document",
            "not TOML",
        ),
    ],
)
def test_a_broken_plugin_is_named(wanrec: Program, body: str, said: str) -> None:
    """Whatever is wrong with a plug-in: it is named, with the way to leave it out, exit 3."""
    declare_small(wanrec, {"a@1": {"x.txt": b"x"}})
    module(wanrec, "broken_one", body)
    done = wanrec.run("apply", "-y", "-p", "broken_one")
    assert done.exit == 3, done.stdout + done.stderr
    assert "broken_one" in done.stderr
    assert said in done.stderr
    assert wanrec.files() == {}
    wanrec.ok("apply", "-y", "-p", "broken_one", "-p", "no:broken_one")


def test_plugins_names_the_broken_one(wanrec: Program) -> None:
    """`plugins` lists a plug-in that cannot be loaded beside those that can, and exits 3."""
    module(wanrec, "fine", "@hookimpl\ndef wanrec_providers(): return {}")
    wanrec.write("broken_one.py", "1 / 0")
    done = wanrec.run("plugins", "-p", "fine", "-p", "broken_one")
    assert done.exit == 3
    assert "fine" in done.stdout
    assert "broken_one" in done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_warnings_of_a_policy(wanrec: Program) -> None:
    """A policy that only warns is heard in every form, and the apply goes on."""
    declare_small(wanrec, {"a@1": {"x.txt": b"x"}})
    module(wanrec, "careful", "@hookimpl\ndef wanrec_check_plan(plan): return Warn('mind that')")
    assert "careful: mind that" in wanrec.ok("plan", "-p", "careful").stdout
    shown = wanrec.ok("plan", "-p", "careful", "--format", "json").json()
    assert shown["warnings"] == ["careful: mind that"]
    wanrec.ok("apply", "-y", "-p", "careful")


def test_transformed_specs(wanrec: Program) -> None:
    """A transformation decides what a spec means; what it makes is checked like any spec."""
    declare_small(wanrec, {"a@1": {"x.txt": b"x"}})
    module(
        wanrec,
        "family",
        "@hookimpl\ndef wanrec_transform_spec(path, document):\n"
        "    assert path == 'specs/models.toml'\n"
        "    return document | {'family': 'other'}\n",
    )
    wanrec.ok("apply", "-y", "-p", "family")
    assert list(wanrec.files()) == ["other/a@1/x.txt"]
    assert "No changes." in wanrec.ok("plan", "-p", "family").stdout
    assert "to delete" in wanrec.ok("plan").stdout
    module(
        wanrec,
        "wrong",
        "@hookimpl\ndef wanrec_transform_spec(path, document): return document | {'sise': 1}\n",
    )
    done = wanrec.run("validate", "-p", "wrong")
    assert done.exit == 3
    assert 'unknown key "sise"' in done.stderr


def test_a_note_of_no_changes_is_not_taken_for_transformed_specs(wanrec: Program) -> None:
    """A plan that was empty without a transformation is made anew with one."""
    declare_small(wanrec, {"a@1": {"x.txt": b"x"}})
    wanrec.ok("apply", "-y")
    assert "No changes." in wanrec.ok("plan").stdout
    module(
        wanrec,
        "family",
        "@hookimpl\ndef wanrec_transform_spec(path, document):\n"
        "    return document | {'family': 'other'}\n",
    )
    assert "1 to move" in wanrec.ok("plan", "-p", "family").stdout


def test_events_are_observed(wanrec: Program) -> None:
    """An observer hears of every action; one that fails is named once and stops nothing."""
    declare_small(wanrec, {"a@1": {"x.txt": b"x"}, "b@1": {"y.txt": b"y"}})
    module(
        wanrec,
        "listener",
        "@hookimpl\ndef wanrec_event(event):\n"
        "    with open('heard', 'a') as file: print(event.kind, file=file)\n",
    )
    module(wanrec, "deaf", "@hookimpl\ndef wanrec_event(event): raise OSError('deaf')\n")
    done = wanrec.ok("apply", "-y", "-p", "listener", "-p", "deaf")
    heard = (wanrec.project / "heard").read_text().split()
    assert heard.count("action_complete") == 2
    assert (done.stdout + done.stderr).count("the plug-in deaf failed in wanrec_event") == 1


def test_formats(wanrec: Program) -> None:
    """A plug-in may add words for --format; unknown ones stay a usage error."""
    declare_small(wanrec, {"a@1": {"x.txt": b"x"}})
    module(
        wanrec,
        "shapes",
        "@hookimpl\ndef wanrec_plan_formats(): return {'count': lambda p: f'{len(p.actions)}!'}\n"
        "@hookimpl\ndef wanrec_drift_formats(): return {'count': lambda r: f'{r.checked}?'}\n",
    )
    assert wanrec.ok("plan", "--format", "count", "-p", "shapes").stdout == "1!"
    wanrec.ok("apply", "-y")
    assert wanrec.ok("drift", "--format", "count", "-p", "shapes").stdout == "1?"
    done = wanrec.run("plan", "--format", "cuont", "-p", "shapes")
    assert done.exit == 64
    assert "'cuont'" in done.stderr


@pytest.mark.parametrize(
    ("render", "said"),
    [("r.nothing", "AttributeError"), ("5", "answered the format bad with int")],
)
def test_a_broken_format_is_named(wanrec: Program, render: str, said: str) -> None:
    """A renderer that fails, or makes no text, is told with its plug-in, exit 3."""
    declare_small(wanrec, {"a@1": {"x.txt": b"x"}})
    wanrec.ok("apply", "-y")
    body = f"@hookimpl\ndef wanrec_drift_formats(): return {{'bad': lambda r: {render}}}\n"
    module(wanrec, "shapes", body)
    done = wanrec.run("drift", "--format", "bad", "-p", "shapes")
    assert done.exit == 3
    assert (
        f"the plug-in shapes {said}" in done.stderr or f"in the format bad: {said}" in done.stderr
    )


def test_a_spec_with_a_byte_order_mark_is_transformed(wanrec: Program) -> None:
    """No way of writing a spec leads past a transformation."""
    declare_small(wanrec, {"a@1": {"x.txt": b"x"}})
    text = (wanrec.project / "specs/models.toml").read_bytes()
    wanrec.write("specs/models.toml", b"\xef\xbb\xbf" + text)
    module(
        wanrec,
        "family",
        "@hookimpl\ndef wanrec_transform_spec(path, document):\n"
        "    return document | {'family': 'other'}\n",
    )
    wanrec.ok("apply", "-y", "-p", "family")
    assert list(wanrec.files()) == ["other/a@1/x.txt"]


def test_trace(wanrec: Program) -> None:
    """--trace-plugins shows each call on stderr, never on stdout."""
    declare_small(wanrec, {"a@1": {"x.txt": b"x"}})
    module(wanrec, "careful", "@hookimpl\ndef wanrec_check_plan(plan): return Warn('mind that')")
    done = wanrec.ok("plan", "-p", "careful", "--trace-plugins")
    assert "wanrec_check_plan" in done.stderr
    assert "wanrec_check_plan" not in done.stdout


def test_finding_nothing_is_light(tmp_path: Path) -> None:
    """Looking for plug-ins among many installed packages costs no import of metadata."""
    for number in range(300):
        folder = tmp_path / f"pkg_{number}-1.0.dist-info"
        folder.mkdir()
        (folder / "entry_points.txt").write_text("[console_scripts]\nx = y:z\n")
    code = (
        "import sys; from wanrec.reconcile import hooks; found = hooks.find(());"
        "assert not found; assert 'importlib.metadata' not in sys.modules"
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environ, check=True)
