"""Words of the command line mean what the contract says, in every option that takes one."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import pytest
from support.program import Program
from support.small import declare, spec_text

from wanrec import Engine
from wanrec import status as wanrec_status

FILES = {"vae/config.txt": b"{}", "w.txt": b"weights"}


@pytest.fixture
def applied(wanrec: Program) -> Program:
    """Two models; one of them has variants."""
    declare(wanrec, {"a@1": FILES, "b@1": {"b.txt": b"b"}})
    spec = wanrec.project / "specs/models.toml"
    head = 'variants = ["fp16", "bf16"]\ndefault_variant = "fp16"\n'
    spec.write_text(spec.read_text().replace('[models."a@1"]', f'[models."a@1"]\n{head}'))
    wanrec.ok("apply", "-y")
    return wanrec


@pytest.mark.parametrize("model", ["a", "a@1", "a[fp16]", "a@1[fp16]", "a@1@fp16"])
def test_replace_takes_every_address(applied: Program, model: str) -> None:
    """`--replace` knows NAME, ID, ID[VARIANT] and ID@VARIANT, as every other command does."""
    plan = applied.ok("plan", "--replace", f"{model}::w.txt", "--format", "json").json()
    assert [(a["address"], a["reason"]) for a in plan["actions"]] == [
        ("a@1[fp16]::w.txt", "requested")
    ]


@pytest.mark.parametrize("address", ["a::no.txt", "z@1::w.txt", "a@1[bf32]::w.txt", "w.txt"])
def test_replace_of_nothing(applied: Program, address: str) -> None:
    """An address that no spec has is refused by name."""
    refused = applied.run("plan", "--replace", address)
    assert refused.exit == 3
    assert f"no selected spec names {address}" in refused.stderr


def test_destroy_takes_the_named_model(applied: Program) -> None:
    """`--destroy MODEL` deletes that model and nothing else; it needs --allow-delete too."""
    assert applied.run("apply", "-y", "--destroy", "b").exit == 3
    done = applied.ok("apply", "-y", "--destroy", "b", "--allow-delete").stdout
    assert "nothing else is deleted" in done
    assert "1 deleted" in done
    assert sorted(applied.files()) == [
        "test/a@1@fp16/vae/config.txt",
        "test/a@1@fp16/w.txt",
    ]
    assert "1 to create" in applied.ok("plan").stdout


@pytest.mark.parametrize("words", [["-k", "b"], ["b@1::b.txt"], ["specs/models.toml::b@1"]])
def test_narrower_words_never_destroy(applied: Program, words: list[str]) -> None:
    """Expressions, addresses and node ids delete nothing, whatever else is asked for."""
    plan = applied.ok("plan", "--destroy", "--allow-delete", *words, "--format", "json").json()
    assert plan["actions"] == []


def test_pattern_of_spec_files(applied: Program) -> None:
    """A quoted pattern names spec files like the shell's own would."""
    assert applied.ok("collect", "specs/*.toml").stdout == applied.ok("collect").stdout
    assert "MISSING_MANIFEST" in applied.run("collect", "nowhere/*.toml").stderr


def test_ensure_json_says_the_whole_key(applied: Program) -> None:
    """Whatever word was given, the document names the model in full."""
    assert applied.ok("ensure", "a", "--json").json()["model"] == "a@1[fp16]"
    assert applied.ok("path", "b", "--json").json()["model"] == "b@1"


def test_engine_needs_no_arguments(applied: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is the default: `plan()`, `apply(plan)`, `drift()`, `status()`, `verify()`."""
    monkeypatch.chdir(applied.project)
    monkeypatch.setenv("MODELS_ROOT", str(applied.root))
    engine = Engine.from_config()
    (Path(applied.root) / "test/b@1/b.txt").unlink()
    plan = engine.plan()
    assert [action.address for action in plan.actions] == ["b@1::b.txt"]
    assert not engine.apply(plan).failures
    assert not engine.drift().items
    assert len(engine.status()) == 2
    assert engine.verify().checked


def test_no_age_is_young_enough(applied: Program) -> None:
    """`drift --max-age 0` doubts every file, like any other age that all of them have passed."""
    report = applied.ok("drift", "--max-age", "0", "--rehash-budget", "0", "--format", "json")
    assert len(report.json()["suspects"]) == 3


def test_moved_record_does_not_delete_the_wanted_model(applied: Program) -> None:
    """`state mv` without the spec's new name: the next apply takes the files back, all of them."""
    applied.ok("state", "mv", "b@1", "c@1")
    applied.ok("apply", "-y")
    assert "test/b@1/b.txt" in applied.files()
    assert applied.ok("plan").stdout == "No changes. Disk matches the specs.\n"
    assert "c@1" not in applied.ok("state", "list").stdout


def test_replacement_is_linked_as_planned(applied: Program) -> None:
    """A replace that names a donor fetches nothing and shares the donor's inode."""
    applied.write("mirror/d@1/b.txt", b"b")
    applied.write("specs/more.toml", spec_text({"d@1": {"b.txt": b"b"}}))
    other = applied.root / "test/d@1/b.txt"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"?")
    done = applied.ok("apply", "-y", "--allow-foreign").stdout
    assert "1 replaced, 0 deleted. 0 B fetched." in done
    assert other.stat().st_ino == (applied.root / "test/b@1/b.txt").stat().st_ino


def test_status_answers_for_the_default_variant(
    applied: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status(ID)` speaks of the variant that `ensure(ID)` would bring, whatever else is there."""
    monkeypatch.chdir(applied.project)
    monkeypatch.setenv("MODELS_ROOT", str(applied.root))
    engine = Engine.from_config()
    absent = wanrec_status("a@1", "bf16", engine=engine)
    assert (absent.model, absent.state) == ("a@1[bf16]", "NOT_PRESENT")
    engine.ensure("a@1", "bf16")
    assert wanrec_status("a@1", engine=engine).model == "a@1[fp16]"
    other = wanrec_status("a@1", "bf16", engine=engine)
    assert (other.model, other.state, other.presence) == ("a@1[bf16]", "COMPLETE", "on-demand")
    text = (applied.project / "specs/models.toml").read_text()
    only = 'default_variant = "fp16"\ninstall = ["bf16"]'
    assert 'default_variant = "fp16"' in text
    applied.write("specs/models.toml", text.replace('default_variant = "fp16"', only))
    applied.ok("apply", "-y", "--allow-delete")
    meant = wanrec_status("a@1", engine=Engine.from_config())
    assert (meant.model, meant.state) == ("a@1[fp16]", "NOT_PRESENT")
    assert applied.ok("path", "a@1").stdout.endswith("/a@1@fp16\n")


def test_state_needs_its_folder(applied: Program) -> None:
    """A `--state` in a folder that is not there is refused before anything is fetched."""
    place = applied.project / "nowhere" / "state.json"
    for command in ("plan", "apply", "drift"):
        refused = applied.run(command, "--state", str(place))
        assert refused.exit == 3
        assert "INVALID_CONFIG" in refused.stderr


def test_host_in_the_place_of_the_state(applied: Program) -> None:
    """`{host}` in `--state` is the name of this machine, for every command."""
    other = attrs.evolve(applied, root=applied.root.parent / "other")
    place = applied.project / "{host}.json"
    other.ok("apply", "-y", "--create-root", "--state", str(place))
    assert [path.name for path in applied.project.glob("*.json")] == [f"{os.uname().nodename}.json"]
    for words in (("plan",), ("drift",), ("ensure", "a@1"), ("plan", "--state-only")):
        other.ok(*words, "--state", str(place))
