"""What an edit of a spec does to the disk: variants, components, families, moves, requirements."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from typing import Any

import pytest
import tomli_w
from support.program import Program
from support.specs import declare, mirror, spec_text

NO_CHANGES = "No changes. Disk matches the specs."


def actions(program: Program, *words: str) -> dict[str, str]:
    """Address → action of the plan."""
    plan = program.ok("plan", "--format", "json", *words).json()
    return {action["address"]: action["action"] for action in plan["actions"]}


def settle(program: Program) -> None:
    """Apply, then nothing may be left to do and nothing may differ."""
    program.ok("apply", "-y")
    assert program.ok("plan").stdout.splitlines()[0] == NO_CHANGES
    assert program.run("drift", "--deep").exit == 0


def file(path: str, data: bytes, **keys: Any) -> dict[str, Any]:
    """A file entry with its true size and hash."""
    return {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), **keys}


def variant_spec(program: Program, default: str) -> str:
    """A model in two variants with one file common to both."""
    contents = {"w-a.txt": b"A" * 50, "w-b.txt": b"B" * 60, "common.json": b"{}\n"}
    source = mirror(program, "m", contents)
    model = {
        "variants": ["a", "b"],
        "default_variant": default,
        "files": [
            file("w-a.txt", contents["w-a.txt"], variant="a"),
            file("w-b.txt", contents["w-b.txt"], variant="b"),
            file("common.json", contents["common.json"]),
        ],
        "sources": [source],
    }
    return tomli_w.dumps({"schema_version": 1, "models": {"m@1": model}})


def test_changing_the_default_variant(wanrec: Program) -> None:
    """The new default is created, the old one deleted without a delete budget, paths stay."""
    wanrec.write("specs/m.toml", variant_spec(wanrec, "a"))
    settle(wanrec)
    assert set(wanrec.files()) == {"wan22/m@1@a/w-a.txt", "wan22/m@1@a/common.json"}
    wanrec.write("specs/m.toml", variant_spec(wanrec, "b"))
    assert actions(wanrec) == {
        "m@1[a]::common.json": "delete",
        "m@1[a]::w-a.txt": "delete",
        "m@1[b]::common.json": "adopt",
        "m@1[b]::w-b.txt": "create",
    }
    settle(wanrec)
    assert set(wanrec.files()) == {"wan22/m@1@b/w-b.txt", "wan22/m@1@b/common.json"}


def test_an_ensured_variant_is_kept(wanrec: Program) -> None:
    """A variant brought by `ensure` stays while the spec lists it, and is repaired by apply."""
    wanrec.write("specs/m.toml", variant_spec(wanrec, "a"))
    settle(wanrec)
    path = wanrec.ok("ensure", "m", "--variant", "b").stdout
    assert path == f"{wanrec.root}/wan22/m@1@b\n"
    settle(wanrec)
    assert "wan22/m@1@b/w-b.txt" in wanrec.files()
    state = json.loads((wanrec.root / ".wanrec/state.json").read_text())
    assert state["models"]["m@1[b]"]["presence"] == "on-demand"
    (wanrec.root / "wan22/m@1@b/w-b.txt").unlink()
    assert actions(wanrec) == {"m@1[b]::w-b.txt": "create"}
    settle(wanrec)


def test_no_variant_means_the_default_one(wanrec: Program) -> None:
    """`path` and `ensure` without a variant mean the default, whichever others are there."""
    spec, default = variant_spec(wanrec, "b"), f"{wanrec.root}/wan22/m@1@b\n"
    wanrec.write("specs/m.toml", spec)
    wanrec.ok("ensure", "m", "--variant", "a")
    assert wanrec.ok("path", "m").stdout == default
    assert wanrec.ok("ensure", "m").stdout == default
    wanrec.write(
        "specs/m.toml",
        spec.replace('default_variant = "b"', 'default_variant = "b"\ninstall = "all"'),
    )
    settle(wanrec)
    for word in ("m", "m@1"):
        assert wanrec.ok("ensure", word).stdout == default
    (wanrec.project / "specs/m.toml").unlink()
    for word in ("m", "m@1"):
        assert wanrec.ok("ensure", word).stdout == wanrec.ok("path", word).stdout == default


def test_the_state_follows_the_default_variant(wanrec: Program) -> None:
    """A new default among installed variants changes only records, and what the name means."""
    both = variant_spec(wanrec, "a").replace(
        'variant = "a"\n', 'variant = "a"\ninstall = "all"\n', 1
    )
    wanrec.write("specs/m.toml", both)
    settle(wanrec)
    assert wanrec.ok("path", "m").stdout.endswith("m@1@a\n")
    wanrec.write("specs/m.toml", both.replace('default_variant = "a"', 'default_variant = "b"'))
    document = wanrec.ok("plan", "--format", "json").json()
    assert (document["actions"], {row["field"] for row in document["records"]}) == (
        [],
        {"default_variant"},
    )
    settle(wanrec)
    assert wanrec.ok("path", "m").stdout.endswith("m@1@b\n")


def test_narrowing_components_deletes(wanrec: Program) -> None:
    """Files of a component that is no longer wanted go; those without a component stay."""
    contents = {"vae/x.txt": b"x", "unet/y.txt": b"y", "index.json": b"{}"}
    source = mirror(wanrec, "m", contents)
    model = declare(contents, source)
    wanrec.write("specs/m.toml", spec_text({"m@1": model}))
    settle(wanrec)
    wanrec.write("specs/m.toml", spec_text({"m@1": model | {"components": ["vae"]}}))
    assert actions(wanrec) == {"m@1::unet/y.txt": "delete"}
    settle(wanrec)
    assert set(wanrec.files()) == {"wan22/m@1/vae/x.txt", "wan22/m@1/index.json"}


def test_a_moved_file_is_not_fetched(wanrec: Program) -> None:
    """A `moved` block renames on disk; no source is needed."""
    source = mirror(wanrec, "m", {"old.txt": b"bytes" * 100, "keep.json": b"{}"})
    before = declare({"old.txt": b"bytes" * 100, "keep.json": b"{}"}, source)
    wanrec.write("specs/m.toml", spec_text({"m@1": before}))
    settle(wanrec)
    after = declare({"new/name.txt": b"bytes" * 100, "keep.json": b"{}"}, source)
    after["moved"] = [{"from": "old.txt", "to": "new/name.txt"}]
    wanrec.write("specs/m.toml", spec_text({"m@1": after}))
    (wanrec.project / "mirror").rename(wanrec.project / "elsewhere")
    plan = wanrec.ok("plan", "--format", "json").json()
    assert [(a["action"], a["reason"]) for a in plan["actions"]] == [("move", "moved")]
    assert plan["summary"]["bytes_to_fetch"] == 0
    settle(wanrec)
    assert set(wanrec.files()) == {"wan22/m@1/new/name.txt", "wan22/m@1/keep.json"}


def test_another_family_moves_the_directory(wanrec: Program) -> None:
    """A changed family: the bytes move along, the old directory is gone."""
    files = {"a.txt": b"a" * 1000}
    model = declare(files, mirror(wanrec, "m", files))
    wanrec.write("specs/m.toml", spec_text({"m@1": model}))
    settle(wanrec)
    wanrec.write("specs/m.toml", spec_text({"m@1": model}, family="other"))
    (wanrec.project / "mirror").rename(wanrec.project / "elsewhere")
    settle(wanrec)
    assert set(wanrec.files()) == {"other/m@1/a.txt"}
    assert not (wanrec.root / "wan22/m@1").exists()


def test_requirements_come_first_and_along(wanrec: Program) -> None:
    """A selected model pulls its requirement in; an on-demand requirement becomes required."""
    base, lora = {"base.txt": b"base"}, {"lora.txt": b"lora"}
    wanrec.write(
        "specs/m.toml",
        spec_text(
            {
                "base@1": declare(base, mirror(wanrec, "b", base), presence="on-demand"),
                "lora@1": declare(lora, mirror(wanrec, "l", lora), requires=["base@1"]),
                "other@1": declare({"o": b"o"}, mirror(wanrec, "o", {"o": b"o"})),
            }
        ),
    )
    plan = wanrec.ok("plan", "--format", "json", "lora").json()
    assert [a["address"] for a in plan["actions"]] == ["base@1::base.txt", "lora@1::lora.txt"]
    assert plan["partial"] is True
    settle(wanrec)
    assert set(wanrec.files()) == {
        "wan22/base@1/base.txt",
        "wan22/lora@1/lora.txt",
        "wan22/other@1/o",
    }


def test_an_on_demand_model_waits_for_ensure(wanrec: Program) -> None:
    """Absent on-demand: no action. Ensured: kept and repaired. Block dropped: deleted."""
    files = {"a.txt": b"a" * 10, "b.txt": b"b"}
    here = declare(files, mirror(wanrec, "m", files), presence="on-demand")
    other = declare({"o": b"o"}, mirror(wanrec, "o", {"o": b"o"}))
    wanrec.write("specs/m.toml", spec_text({"m@1": here, "o@1": other}))
    settle(wanrec)
    assert set(wanrec.files()) == {"wan22/o@1/o"}
    wanrec.ok("ensure", "m@1")
    settle(wanrec)
    (wanrec.root / "wan22/m@1/a.txt").unlink()
    assert actions(wanrec) == {"m@1::a.txt": "create"}
    settle(wanrec)
    wanrec.write("specs/m.toml", spec_text({"o@1": other}))
    assert actions(wanrec) == {"m@1::a.txt": "delete", "m@1::b.txt": "delete"}
    settle(wanrec)


def test_an_on_demand_model_removed_by_hand_stays_away(wanrec: Program) -> None:
    """Nothing left of an on-demand model: absent, so nothing to do; ensure brings it again."""
    files = {"a.txt": b"a" * 10, "b.txt": b"b"}
    here = declare(files, mirror(wanrec, "m", files), presence="on-demand")
    wanrec.write("specs/m.toml", spec_text({"m@1": here}))
    wanrec.ok("ensure", "m@1")
    shutil.rmtree(wanrec.root / "wan22/m@1")
    assert actions(wanrec) == {}
    assert wanrec.run("drift").exit == 2
    wanrec.ok("ensure", "m@1")
    assert set(wanrec.files()) == {"wan22/m@1/a.txt", "wan22/m@1/b.txt"}
    settle(wanrec)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("ftp://mirror/x", "INVALID_MANIFEST"),
        ("https://user:hunter2@mirror/x", "INVALID_MANIFEST"),
        ("http://mirror.example/x", "POLICY_DENIED"),
        ("http://127.0.0.1:70000/x", "POLICY_DENIED"),
    ],
)
def test_a_source_that_may_not_be_asked_is_refused_first(
    wanrec: Program, url: str, code: str
) -> None:
    """Also as the mirror; the fault has its line, and nothing was touched."""
    wanrec.write("specs/m.toml", spec_text({"m@1": declare({"a.txt": b"a"}, url)}))
    for command in (("validate",), ("apply", "-y")):
        refused = wanrec.run(*command)
        assert (refused.exit, f"Error[{code}]: specs/m.toml:" in refused.stderr) == (3, True)
        assert "hunter2" not in refused.stdout + refused.stderr
    wanrec.write("specs/m.toml", spec_text({"m@1": declare({"a.txt": b"a"}, "local://.")}))
    refused = wanrec.run("plan", "--mirror", url)
    assert (refused.exit, "the mirror" in refused.stderr) == (3, True)
    assert not (wanrec.root / ".wanrec").exists()


def test_plain_http_from_loopback_or_when_allowed(wanrec: Program) -> None:
    """What the policy lets through is planned like any other source."""
    for url in ("http://localhost:1/x", "http://[::1]:1/x"):
        wanrec.write("specs/m.toml", spec_text({"m@1": declare({"a.txt": b"a"}, url)}))
        wanrec.ok("validate")
    wanrec.write("specs/m.toml", spec_text({"m@1": declare({"a.txt": b"a"}, "http://far/x")}))
    wanrec.ok("validate", env={"WANREC_ALLOW_HTTP": "1"})


def test_naming_a_spec_file_deletes_only_what_came_from_it(wanrec: Program) -> None:
    """A block dropped from the named file goes; models of other files are left alone."""
    one, two, three = ({name: name.encode()} for name in ("one", "two", "three"))
    first = {
        "one@1": declare(one, mirror(wanrec, "1", one)),
        "two@1": declare(two, mirror(wanrec, "2", two)),
    }
    wanrec.write("specs/a.toml", spec_text(first))
    wanrec.write("specs/b.toml", spec_text({"three@1": declare(three, mirror(wanrec, "3", three))}))
    settle(wanrec)
    wanrec.write("specs/a.toml", spec_text({"one@1": first["one@1"]}))
    (wanrec.project / "specs/b.toml").unlink()
    assert actions(wanrec, "specs/a.toml") == {"two@1::two": "delete"}
    wanrec.ok("apply", "-y", "specs/a.toml")
    assert set(wanrec.files()) == {"wan22/one@1/one", "wan22/three@1/three"}


def test_a_foreign_file_at_a_wanted_path(wanrec: Program) -> None:
    """Other bytes: refused, and replaced with --allow-foreign. Right bytes: adopted in place."""
    files = {"a.txt": b"right", "b.txt": b"also right"}
    home = wanrec.root / "wan22/m@1"
    home.mkdir(parents=True)
    (home / "a.txt").write_bytes(b"wrong")
    (home / "b.txt").write_bytes(files["b.txt"])
    wanrec.write("specs/m.toml", spec_text({"m@1": declare(files, mirror(wanrec, "m", files))}))
    refused = wanrec.run("apply", "-y")
    assert refused.exit == 3
    assert "FOREIGN_FILE" in refused.stderr
    assert (home / "a.txt").read_bytes() == b"wrong"
    plan = wanrec.ok("plan", "--allow-foreign", "--format", "json").json()
    assert {a["path"]: (a["action"], a["via"]) for a in plan["actions"]} == {
        "a.txt": ("replace", "fetch"),
        "b.txt": ("adopt", None),
    }
    wanrec.ok("apply", "-y", "--allow-foreign")
    assert wanrec.files() == {f"wan22/m@1/{path}": data for path, data in files.items()}
    assert wanrec.ok("plan").stdout.splitlines()[0] == NO_CHANGES


def test_an_update_hides_nothing_of_what_a_delete_frees(wanrec: Program) -> None:
    """What an update carried over has a name in the old directory for a while: it is freed too."""
    for small in (b"1", b"22"):
        files = {"kept.txt": b"k" * 1000, "changed.txt": small}
        model = declare(files, mirror(wanrec, "m", files))
        wanrec.write("specs/m.toml", spec_text({"m@1": model}))
        settle(wanrec)
    os.utime(wanrec.root / "wan22/m@1/kept.txt")
    gone = wanrec.run("plan", "--destroy", "--allow-delete", "--format", "json")
    assert gone.json()["summary"]["bytes_to_free"] == 1002
    os.link(wanrec.root / "wan22/m@1/kept.txt", wanrec.project / "mine")
    held = wanrec.run("plan", "--destroy", "--allow-delete", "--format", "json")
    assert held.json()["summary"]["bytes_to_free"] == 2


@pytest.mark.parametrize("place", ["wan22", "wan22/m@1", "wan22/m@1/d"])
@pytest.mark.parametrize("kind", ["a symbolic link", "a file"])
def test_what_lies_where_a_folder_is_needed_is_named(
    wanrec: Program, place: str, kind: str
) -> None:
    """A link or a file on the way to a wanted path is refused by its own name, and not followed."""
    files = {"d/config.json": b"{}\n"}
    model = declare(files, mirror(wanrec, "m", files))
    wanrec.write("specs/m.toml", spec_text({"m@1": model}))
    obstacle, outside = wanrec.root / place, wanrec.project / "outside"
    outside.mkdir()
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    if kind == "a file":
        obstacle.write_bytes(b"mine")
    else:
        obstacle.symlink_to(outside)
    refused = wanrec.run("apply", "-y", "--allow-foreign")
    assert refused.exit == 3
    assert f"Error[UNSAFE_PATH]: {kind} lies where a folder is needed: {place}\n" in refused.stderr
    assert obstacle.is_symlink() or obstacle.read_bytes() == b"mine"
    assert list(outside.iterdir()) == []
