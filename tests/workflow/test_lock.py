"""`wanrec lock`: nobody types a digest, and nothing wrong is ever written down."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import attrs
import pytest
import tomli_w
from support.program import Program
from support.specs import mirror

from wanrec.reconcile.lockfile import LockedModel, dump_lock
from wanrec.reconcile.lockfile_parse import parse_lock

FILES = {
    "config.json": b'{"a": 1}',
    "weights/model.onnx": bytes(range(256)) * 40,
    "README.md": b"read me",
    "nohup.out": b"a stray log",
}


def sha(data: bytes) -> str:
    """sha256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def spec(program: Program, models: dict[str, dict[str, object]], name: str = "m") -> Path:
    """Write specs/NAME.toml."""
    text = tomli_w.dumps({"schema_version": 1, "models": models})
    return program.write(f"specs/{name}.toml", text)


def locked(program: Program, name: str = "m") -> dict[str, LockedModel]:
    """The entries of a lock file."""
    path = program.project / f"specs/{name}.lock.toml"
    return dict(parse_lock(path.read_bytes(), path.name).models)


def test_lock_then_apply(wanrec: Program) -> None:
    """A spec that only names a source gets its files, sizes and digests, and applies."""
    source = mirror(wanrec, "a", FILES)
    ignore = ["nohup.out", "*.md"]
    spec(wanrec, {"a@1": {"sources": [source], "ignore_patterns": ignore}})
    refused = wanrec.run("plan")
    assert refused.exit == 3 and "LOCK_MISSING" in refused.stderr
    assert "wanrec lock specs/m.toml" in refused.stderr
    done = wanrec.ok("lock")
    assert "+ config.json" in done.stdout and "specs/m.lock.toml written." in done.stdout
    files = {file.path: (file.size, file.sha256) for file in locked(wanrec)["a@1"].files}
    wanted = ("config.json", "weights/model.onnx")
    assert files == {path: (len(FILES[path]), sha(FILES[path])) for path in wanted}
    wanrec.ok("apply", "-y")
    assert wanrec.ok("plan").stdout.startswith("No changes.")


def test_locking_twice_changes_nothing(wanrec: Program) -> None:
    """The text is byte-stable, the second run writes nothing, and --check is content."""
    spec(wanrec, {"a@1": {"sources": [mirror(wanrec, "a", FILES)]}})
    wanrec.ok("lock")
    path = wanrec.project / "specs/m.lock.toml"
    text, inode = path.read_bytes(), path.stat().st_ino
    assert "up to date" in wanrec.ok("lock").stdout
    assert "up to date" in wanrec.ok("lock", "--check").stdout
    wanrec.ok("lock", "--upgrade")
    assert (path.read_bytes(), path.stat().st_ino) == (text, inode)


def test_a_pin_is_kept_until_it_is_upgraded(wanrec: Program) -> None:
    """A source that moves on changes no plan: --check tells, --upgrade takes, the diff is read."""
    spec(wanrec, {"a@1": {"sources": [mirror(wanrec, "a", FILES)]}})
    wanrec.ok("lock")
    wanrec.ok("apply", "-y")
    text = (wanrec.project / "specs/m.lock.toml").read_bytes()
    mirror(wanrec, "a", {"config.json": b'{"a": 2}', "new.txt": b"new"})
    checked = wanrec.run("lock", "--check")
    assert checked.exit == 2
    assert "  ~ config.json  " in checked.stdout and "  + new.txt  " in checked.stdout
    assert "would change" in checked.stdout
    assert (wanrec.project / "specs/m.lock.toml").read_bytes() == text
    wanrec.ok("lock")
    assert wanrec.ok("plan").stdout.startswith("No changes.")
    changed = json.loads(wanrec.ok("lock", "--upgrade", "--format", "json").stdout)
    assert changed["locks"][0]["models"] == [
        {
            "model": "a@1",
            "revisions": {},
            "added": ["new.txt"],
            "removed": [],
            "changed": ["config.json"],
        }
    ]
    plan = wanrec.ok("plan", "--format", "json").json()
    found = {(action["path"], action["action"]) for action in plan["actions"]}
    assert found == {("config.json", "replace"), ("new.txt", "create")}


def test_a_changed_spec_outdates_its_lock(wanrec: Program) -> None:
    """Sources or patterns that changed: plan refuses and names the command that helps."""
    source = mirror(wanrec, "a", FILES)
    spec(wanrec, {"a@1": {"sources": [source]}, "b@1": {"sources": [source]}})
    wanrec.ok("lock")
    before = locked(wanrec)
    spec(wanrec, {"a@1": {"sources": [source], "ignore_patterns": ["*.md"]}})
    refused = wanrec.run("plan")
    assert refused.exit == 3 and "LOCK_OUTDATED" in refused.stderr
    assert "wanrec lock specs/m.toml" in refused.stderr
    done = wanrec.ok("lock")
    assert "- README.md" in done.stdout
    assert list(locked(wanrec)) == ["a@1"] and list(before) == ["a@1", "b@1"]
    wanrec.ok("plan")


def test_an_index_brings_exactly_its_shards(wanrec: Program) -> None:
    """Shards the index names come, though no pattern lets them in; strays beside them stay out."""
    names = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    index = json.dumps({"weight_map": {"x": names[0], "y": names[1]}}).encode()
    files = {
        "te/model.safetensors.index.json": index,
        **{f"te/{name}": name.encode() for name in names},
        "te/model-00001-of-00003.safetensors": b"left from an older split",
    }
    source = mirror(wanrec, "a", files)
    spec(wanrec, {"a@1": {"sources": [source], "allow_patterns": ["*.json"]}})
    wanrec.ok("lock")
    paths = [file.path for file in locked(wanrec)["a@1"].files]
    assert paths == [f"te/{names[0]}", f"te/{names[1]}", "te/model.safetensors.index.json"]
    (wanrec.project / f"mirror/a/te/{names[1]}").unlink()
    refused = wanrec.run("lock", "--upgrade")
    assert refused.exit == 4 and "INCOMPLETE_MODEL" in refused.stderr and names[1] in refused.stderr


def test_sources_that_disagree(wanrec: Program) -> None:
    """Two sizes, or the spec's own digest against a size, are all shown; nothing is written."""
    one = mirror(wanrec, "one", {"x.json": b"1", "y.json": b"same"})
    two = mirror(wanrec, "two", {"x.json": b"22", "y.json": b"same"})
    spec(wanrec, {"a@1": {"sources": [one, two]}})
    refused = wanrec.run("lock")
    assert refused.exit == 4 and "do not agree" in refused.stderr
    assert "x.json: size" in refused.stderr and "mirror/two" in refused.stderr
    assert not (wanrec.project / "specs/m.lock.toml").exists()


def test_bytes_that_disagree(wanrec: Program) -> None:
    """Two mirrors with a file of one size and other bytes: both digests are shown, none written."""
    one = mirror(wanrec, "one", {"x.json": b"1"})
    two = mirror(wanrec, "two", {"x.json": b"2"})
    spec(wanrec, {"a@1": {"sources": [one, two]}})
    refused = wanrec.run("lock")
    assert refused.exit == 4 and "do not agree" in refused.stderr
    assert sha(b"1") in refused.stderr and sha(b"2") in refused.stderr
    assert not (wanrec.project / "specs/m.lock.toml").exists()


def test_names_that_collide(wanrec: Program) -> None:
    """A source with two names that are one on other systems: refused before it is written down."""
    source = mirror(wanrec, "a", {"x.json": b"1", "X.json": b"2"})
    spec(wanrec, {"a@1": {"sources": [source]}})
    refused = wanrec.run("lock")
    assert refused.exit == 3 and "NAME_COLLISION" in refused.stderr
    assert "ignore_patterns" in refused.stderr
    assert not (wanrec.project / "specs/m.lock.toml").exists()
    spec(wanrec, {"a@1": {"sources": [source], "ignore_patterns": ["X.json"]}})
    wanrec.ok("lock")


def test_a_source_that_is_away(wanrec: Program) -> None:
    """One source that answers is enough, and the other is named; none at all is exit 5."""
    there = mirror(wanrec, "a", {"x.json": b"1"})
    away = "local://../mirror/away"
    spec(wanrec, {"a@1": {"sources": [away, there]}})
    done = wanrec.ok("lock")
    assert f"Warning: {away}" in done.stderr
    spec(wanrec, {"a@1": {"sources": [away]}}, "other")
    refused = wanrec.run("lock", "specs/other.toml")
    assert refused.exit == 5 and "SOURCE_UNAVAILABLE" in refused.stderr
    assert "Warning" not in refused.stderr  # the error says it


def test_pickles_that_were_locked(wanrec: Program) -> None:
    """A pickle that a source lists is refused by name, with both ways out."""
    spec(wanrec, {"a@1": {"sources": [mirror(wanrec, "a", {"w.pth": b"1", "x.json": b"{}"})]}})
    wanrec.ok("lock")
    refused = wanrec.run("plan")
    assert refused.exit == 3 and "POLICY_DENIED" in refused.stderr
    assert "w.pth" in refused.stderr and "ignore_patterns" in refused.stderr
    assert 'allow_pickle = "REASON"' in refused.stderr


def test_declared_files_are_filled_in(wanrec: Program) -> None:
    """Paths alone are enough in a spec, other names at the source and variants included."""
    source = mirror(wanrec, "a", {"x.json": b"1", "big/half.onnx": b"half"})
    files = [
        {"path": "config.json", "source_path": "x.json"},
        {"path": "model.onnx", "source_path": "big/half.onnx", "variant": "half"},
    ]
    keys = {"variants": ["half"], "default_variant": "half"}
    spec(wanrec, {"a@1": {"sources": [source], "files": files, **keys}})
    wanrec.ok("lock")
    wanrec.ok("apply", "-y")
    assert wanrec.files() == {
        "wan22/a@1@half/config.json": b"1",
        "wan22/a@1@half/model.onnx": b"half",
    }


def test_sources_by_variant(wanrec: Program) -> None:
    """`{variant}` in a source gives each variant files of its own."""
    for name in ("fp16", "fp8"):
        mirror(wanrec, f"a/{name}", {"model.onnx": name.encode()})
    keys = {"variants": ["fp16", "fp8"], "default_variant": "fp16", "install": "all"}
    spec(wanrec, {"a@1": {"sources": ["local://../mirror/a/{variant}"], **keys}})
    wanrec.ok("lock")
    wanrec.ok("apply", "-y")
    assert wanrec.files() == {
        "wan22/a@1@fp16/model.onnx": b"fp16",
        "wan22/a@1@fp8/model.onnx": b"fp8",
    }


def test_one_model_of_several(wanrec: Program) -> None:
    """Naming a model asks for that model alone; the other entries stay as they are."""
    models = {f"{n}@1": {"sources": [mirror(wanrec, n, {"x": n.encode()})]} for n in ("a", "b")}
    spec(wanrec, models)
    wanrec.ok("lock")
    before = locked(wanrec)
    for name in ("a", "b"):
        mirror(wanrec, name, {"x": b"changed"})
    wanrec.ok("lock", "--upgrade", "b")
    after = locked(wanrec)
    assert after["a@1"] == before["a@1"]
    assert after["b@1"].files[0].sha256 == sha(b"changed")


@pytest.mark.parametrize(
    "text", ["schema_version = 1\n[models.x", "x = 1\n", '[models]\n"a@1" = 3\n']
)
def test_a_broken_lock_is_made_anew(wanrec: Program, text: str) -> None:
    """A lock file that was edited by hand into nonsense is no dead end."""
    spec(wanrec, {"a@1": {"sources": [mirror(wanrec, "a", {"x": b"x"})]}})
    wanrec.write("specs/m.lock.toml", text)
    refused = wanrec.run("plan")
    assert refused.exit == 3 and "wanrec lock" in refused.stderr + refused.stdout
    assert "broken" in wanrec.ok("lock").stderr
    wanrec.ok("plan")


def two_models(program: Program) -> Path:
    """Two locked models, a and b, each with x.json and vae/model.onnx; returns the lock file."""
    files = {"x.json": b"1", "vae/model.onnx": b"weights"}
    models: dict[str, dict[str, object]] = {
        f"{name}@1": {"sources": [mirror(program, name, files)], "marks": [f"mark_{name}"]}
        for name in ("a", "b")
    }
    spec(program, models)
    program.ok("lock")
    return program.project / "specs/m.lock.toml"


def changed_mirrors(program: Program) -> None:
    """Both sources have another x.json from now on."""
    for name in ("a", "b"):
        mirror(program, name, {"x.json": b"2"})


@pytest.mark.parametrize("command", [("validate",), ("plan",), ("apply", "-y")])
def test_a_lock_edited_by_hand(wanrec: Program, command: tuple[str, ...]) -> None:
    """An edited entry is refused before anything is touched, and the command that helps named."""
    path = two_models(wanrec)
    path.write_text(path.read_text().replace("size = 1\n", "size = 7\n", 1))
    refused = wanrec.run(*command)
    assert refused.exit == 3 and "Error[LOCK_OUTDATED]" in refused.stderr
    assert "specs/m.lock.toml:4: edited by hand" in refused.stderr
    assert "wanrec lock specs/m.toml" in refused.stderr
    assert not any(wanrec.root.iterdir())


def test_an_edited_entry_is_asked_for_again(wanrec: Program) -> None:
    """`wanrec lock` mends it, even when another model was named; the others keep their pins."""
    path = two_models(wanrec)
    whole = path.read_text()
    changed_mirrors(wanrec)
    path.write_text(whole.replace("size = 1\n", "size = 7\n", 1))
    assert wanrec.run("lock", "--check", "b").exit == 2
    done = wanrec.ok("lock", "b")
    assert "edited by hand" in done.stderr and "asked for as with --upgrade" in done.stderr
    mended = locked(wanrec)
    assert mended["a@1"].files[1].sha256 == sha(b"2")
    assert mended["b@1"].files[1].sha256 == sha(b"1")
    wanrec.ok("plan")


def test_an_earlier_lock_gets_its_digests(wanrec: Program) -> None:
    """A lock file without digests plans as it did, and the next `wanrec lock` completes it."""
    path = two_models(wanrec)
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("entry_sha256")))
    wanrec.ok("plan")
    assert wanrec.run("lock", "--check").exit == 2
    wanrec.ok("lock")
    assert path.read_text() == whole


def test_a_conflict_in_a_lock(wanrec: Program) -> None:
    """Markers of an unresolved merge are named with their line, not as bad TOML."""
    path = two_models(wanrec)
    path.write_text(path.read_text().replace("size = 1\n", "<<<<<<< HEAD\nsize = 1\n", 1))
    refused = wanrec.run("plan")
    assert refused.exit == 3 and "an unresolved merge conflict" in refused.stderr
    assert "wanrec lock specs/m.toml" in refused.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("-k", "b@1"),
        ("-k", "b and vae"),
        ("-m", "mark_b"),
        ("--exclude", "a@1"),
        ("b::vae/model.onnx",),
        ("specs/m.toml::b@1",),
        ("specs/m.toml::b@1::x.json",),
        ("b@*",),
    ],
)
def test_selection(wanrec: Program, words: tuple[str, ...]) -> None:
    """Every way to select chooses the models that are asked for; the others keep their pins."""
    two_models(wanrec)
    before = locked(wanrec)
    changed_mirrors(wanrec)
    wanrec.ok("lock", "--upgrade", *words)
    after = locked(wanrec)
    assert after["a@1"] == before["a@1"]
    assert after["b@1"].files[1].sha256 == sha(b"2")


def test_selection_before_the_first_lock(wanrec: Program) -> None:
    """What has no files yet is matched by its own names; nothing that matches is exit 3."""
    models = {f"{n}@1": {"sources": [mirror(wanrec, n, {"x": b"x"})]} for n in ("a", "b")}
    spec(wanrec, models)
    wanrec.ok("lock", "-k", "b")
    assert list(locked(wanrec)) == ["b@1"]
    refused = wanrec.run("lock", "-k", "nothing")
    assert refused.exit == 3 and "NOTHING_SELECTED" in refused.stderr


def test_a_newer_lock_is_left_alone(wanrec: Program) -> None:
    """A lock file of a later wanrec is refused, and not overwritten; no lock run is advised."""
    spec(wanrec, {"a@1": {"sources": [mirror(wanrec, "a", {"x": b"x"})]}})
    path = wanrec.write("specs/m.lock.toml", "schema_version = 2\n")
    for command in ("lock", "plan", "validate"):
        refused = wanrec.run(command)
        assert refused.exit == 3 and "SCHEMA_VERSION_MISMATCH" in refused.stderr
        assert "help:   upgrade wanrec" in refused.stderr
    assert path.read_text() == "schema_version = 2\n"


def test_a_complete_spec_needs_no_lock(wanrec: Program) -> None:
    """Where the spec pins every file that is said; no source is asked, no lock file appears."""
    files = [{"path": "x", "size": 1, "sha256": sha(b"x")}]
    spec(wanrec, {"a@1": {"sources": ["local://nowhere"], "files": files}})
    assert "specs/m.lock.toml is not needed" in wanrec.ok("lock").stdout
    assert not (wanrec.project / "specs/m.lock.toml").exists()


def test_unpinned_files_are_filled_in(wanrec: Program) -> None:
    """An entry that says what is not pinned yet plans without it, warns, and is completed."""
    source = mirror(wanrec, "a", {"x.json": b"1", "y.json": b"2"})
    spec(wanrec, {"a@1": {"sources": [source]}})
    wanrec.ok("lock")
    path = wanrec.project / "specs/m.lock.toml"
    whole = path.read_text()
    lock = parse_lock(path.read_bytes(), path.name)
    entry = lock.models["a@1"]
    cut = attrs.evolve(entry, files=entry.files[:1], unpinned=("y.json",))
    path.write_text(dump_lock(attrs.evolve(lock, models={"a@1": cut})))
    plan = wanrec.ok("plan")
    assert "a@1 is incomplete: y.json not pinned yet" in plan.stdout
    assert "Plan: 1 to create" in plan.stdout
    wanrec.ok("lock")
    assert path.read_text() == whole


def test_init_with_urls(wanrec: Program) -> None:
    """Source URLs become a spec and its lock in one go; what is there already is kept."""
    urls = [f"local://../mirror/{name}" for name in ("one", "two/one")]
    assert wanrec.run("init", *urls).exit == 5
    for name in ("one", "two/one"):
        mirror(wanrec, name, {"x.json": name.encode()})
    wanrec.ok("init", *urls)  # the same again: the spec is there, and its lock still wanted
    assert list(locked(wanrec, "models")) == ["one-2@1.0.0", "one@1.0.0"]
    assert "Plan: 2 to create" in wanrec.ok("plan").stdout
    refused = wanrec.run("init", *urls)
    assert refused.exit == 3 and "there already" in refused.stderr


def test_init_refuses_what_is_no_source(wanrec: Program) -> None:
    """A URL of an unknown scheme is refused before any file is written."""
    before = sorted(wanrec.project.rglob("*"))
    refused = wanrec.run("init", "local://../mirror/one", "ftp://host/two")
    assert refused.exit == 3 and "INVALID_MANIFEST" in refused.stderr
    assert sorted(wanrec.project.rglob("*")) == before
