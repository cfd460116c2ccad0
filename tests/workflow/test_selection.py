"""Collecting and selecting with the real program: order, origins, marks, failures."""

from __future__ import annotations

import click
import pytest
from support.program import Program
from support.small import declare, spec_text

from wanrec.reconcile.cli.commands import program

SPECS = 200


def test_last_failed(wanrec: Program) -> None:
    """`--last-failed` selects what the last apply failed at, until that is mended."""
    declare(wanrec, {"a@1": {"x.txt": b"x"}, "b@1": {"y.txt": b"y"}})
    (wanrec.project / "mirror/b@1/y.txt").rename(wanrec.project / "gone")
    assert wanrec.run("apply", "-y").exit == 9
    listed = wanrec.ok("collect", "--last-failed").stdout.split()
    assert listed == ["specs/models.toml::b@1::y.txt"]
    planned = wanrec.ok("plan", "--last-failed", "--format", "json").json()
    assert [action["address"] for action in planned["actions"]] == ["b@1::y.txt"]
    assert planned["partial"] is True
    (wanrec.project / "gone").rename(wanrec.project / "mirror/b@1/y.txt")
    wanrec.ok("apply", "-y", "--last-failed")
    done = wanrec.run("plan", "--last-failed")
    assert done.exit == 3
    assert "NOTHING_SELECTED" in done.stderr


def test_last_failed_ends_when_nothing_is_left_to_do(wanrec: Program) -> None:
    """What failed and is wanted no more is forgotten by the next apply, though it does nothing."""
    declare(wanrec, {"a@1": {"x.txt": b"x"}, "b@1": {"y.txt": b"y"}})
    (wanrec.project / "mirror/b@1/y.txt").unlink()
    assert wanrec.run("apply", "-y").exit == 9
    declare(wanrec, {"a@1": {"x.txt": b"x"}})
    assert "No changes." in wanrec.ok("apply", "-y").stdout
    assert "NOTHING_SELECTED" in wanrec.run("plan", "--last-failed").stderr


def test_last_failed_in_a_saved_plan(wanrec: Program) -> None:
    """A saved plan keeps the addresses, not the option: it means the same later."""
    declare(wanrec, {"a@1": {"x.txt": b"x"}, "b@1": {"y.txt": b"y"}})
    (wanrec.project / "mirror/b@1/y.txt").rename(wanrec.project / "gone")
    wanrec.run("apply", "-y")
    wanrec.ok("plan", "--last-failed", "--out", "p.wanplan")
    (wanrec.project / "gone").rename(wanrec.project / "mirror/b@1/y.txt")
    wanrec.ok("apply", "p.wanplan")
    assert "No changes." in wanrec.ok("plan").stdout


def test_marks_with_arguments(wanrec: Program) -> None:
    """A mark may carry keyword arguments; -m asks for them; strict marks go by the name."""
    head = '[defaults]\nmarks = ["gpu(mem=80)", "video"]'
    declare(wanrec, {"a@1": {"x.txt": b"x"}}, head=head)
    assert wanrec.ok("collect", "-m", "gpu(mem=80) and video").stdout
    assert wanrec.ok("collect", "-m", "gpu").stdout
    assert wanrec.run("collect", "-m", "gpu(mem=40)").exit == 3
    wanrec.write("wanrec.toml", 'marks = ["gpu", "video"]')
    assert wanrec.ok("collect", "-m", "gpu(mem=80)").stdout
    done = wanrec.run("collect", "-m", "gpu80")
    assert done.exit == 64
    assert 'no mark "gpu80"; did you mean "gpu"?' in done.stderr


@pytest.mark.parametrize("mark", ["gpu(", "gpu(80)", "gpu(mem=)", "gpu(mem=80,)", "gpu()x"])
def test_marks_that_no_expression_can_ask_for(wanrec: Program, mark: str) -> None:
    """A mark that only looks like a call is a fault of the spec, not a mark nobody finds."""
    declare(wanrec, {"a@1": {"x.txt": b"x"}}, head=f"[defaults]\nmarks = ['{mark}']")
    done = wanrec.run("validate")
    assert done.exit == 3
    assert "cannot be a mark" in done.stderr


def test_origins(wanrec: Program) -> None:
    """`collect -v` says which file each default value comes from; the nearest one wins."""
    text = spec_text({"a@1": {"x.txt": b"x"}}).replace('family = "test"\n', "")
    wanrec.write("specs/deep/models.toml", text)
    wanrec.write("specs/defaults.toml", 'family = "far"\n[defaults]\nprotect = true')
    wanrec.write("specs/deep/defaults.toml", '[defaults]\nprotect = false\nmarks = ["m"]')
    lines = wanrec.ok("collect", "-v").stdout.splitlines()
    assert lines == [
        "specs/deep/models.toml::a@1::x.txt",
        '    family = "far"  from specs/defaults.toml',
        '    marks = ["m"]  from specs/deep/defaults.toml',
        "    protect = false  from specs/deep/defaults.toml",
    ]
    assert wanrec.ok("collect").stdout.splitlines() == lines[:1]


def test_faults_hide_no_other(wanrec: Program) -> None:
    """All faults of all files are told in one run; ids declared twice name both places."""
    declare(wanrec, {"a@1": {"x.txt": b"x"}})
    text = (wanrec.project / "specs/models.toml").read_text()
    wanrec.write("specs/twice.toml", text)
    wanrec.write("specs/broken.toml", "schema_version = 1\nfamly = 'x'\n")
    wanrec.write("specs/torn.toml", "schema_version = ")
    done = wanrec.run("collect")
    assert done.exit == 3
    assert "specs/broken.toml:2: " in done.stderr
    assert "specs/torn.toml:1: " in done.stderr
    assert "a@1 is declared here and at specs/models.toml:4" in done.stderr
    for name in ("broken", "torn"):
        (wanrec.project / f"specs/{name}.toml").unlink()
    done = wanrec.run("collect")
    assert "NAME_COLLISION" in done.stderr
    assert "specs/models.toml" in done.stderr
    assert "specs/twice.toml" in done.stderr


def test_faulty_specs_do_not_hide_the_sound_ones(wanrec: Program) -> None:
    """`collect` lists what the sound specs want, then tells every fault, and exits 3."""
    declare(wanrec, {"a@1": {"x.txt": b"x"}})
    for name in ("b@1", "c@1"):
        wanrec.write(f"specs/{name[0]}.toml", spec_text({name: {"y.txt": b"y"}}))
    wanrec.write("specs/c.lock.toml", "schema_version = ")
    wanrec.write("specs/torn.toml", "schema_version = ")
    sound = ["specs/b.toml::b@1::y.txt", "specs/models.toml::a@1::x.txt"]
    done = wanrec.run("collect")
    assert (done.exit, done.stdout.splitlines()) == (3, sound)
    for place in ("specs/torn.toml:1: ", "specs/c.lock.toml:1: "):
        assert place in done.stderr
    told = wanrec.run("collect", "--format", "json").json()
    assert told["node_ids"] == sound
    assert [fault["file"] for fault in told["error"]["faults"]] == [
        "specs/c.lock.toml",
        "specs/torn.toml",
    ]
    assert wanrec.run("collect", "specs/torn.toml").stdout == ""


@pytest.mark.parametrize("command", ["collect", "plan", "apply", "status", "verify", "lock"])
def test_an_empty_word_is_not_everything(wanrec: Program, command: str) -> None:
    """An unset variable of the shell is a usage error, never a run over all models."""
    declare(wanrec, {"a@1": {"x.txt": b"x"}})
    done = wanrec.run(command, "", *(["-y"] if command == "apply" else []))
    assert done.exit == 64
    assert "an empty word selects nothing" in done.stderr
    assert wanrec.files() == {}


def _big_tree(program: Program) -> None:
    program.write("specs/defaults.toml", '[defaults]\nmarks = ["all"]\n')
    for number in range(SPECS):
        folder = f"specs/g{number % 10}/sub"
        program.write(f"specs/g{number % 10}/defaults.toml", 'family = "g"\n')
        program.write(f"{folder}/defaults.toml", "[defaults]\nprotect = true\n")
        files = {f"c{file}/f.json": b"%d" % (number * 10 + file) for file in range(5)}
        text = spec_text({f"m{number}@1": files}).replace('family = "test"\n', "")
        program.write(f"{folder}/s{number:03}.toml", text)


def test_two_hundred_specs(wanrec: Program) -> None:
    """A tree of 200 specs with nested defaults is collected whole and in a stable order.

    With `cache_dir` the second run finds the specs parsed; without it nothing is kept; one that
    is no folder changes nothing.
    """
    _big_tree(wanrec)
    kept = wanrec.home / "kept"
    off = wanrec.ok("collect", env={"PYTHONHASHSEED": "0"}).stdout
    assert list(wanrec.home.iterdir()) == []
    first, second = (
        wanrec.ok("collect", env={"PYTHONHASHSEED": seed, "WANREC_CACHE_DIR": str(kept)}).stdout
        for seed in ("0", "1")
    )
    assert off == first == second
    lines = first.splitlines()
    assert len(lines) == SPECS * 5
    assert lines == sorted(lines, key=lambda line: line.split("::"))
    assert len(list(kept.iterdir())) == 2  # the parsed specs, and what a bare collect lists
    nowhere = str(wanrec.write("file", ""))
    assert wanrec.ok("collect", env={"WANREC_CACHE_DIR": nowhere}).stdout == first


def test_an_edit_is_seen_through_the_cache(wanrec: Program) -> None:
    """Plan and validate of a kept project see each edit of a spec and of the defaults above it."""
    _big_tree(wanrec)
    kept = {"WANREC_CACHE_DIR": str(wanrec.home / "kept")}
    assert "1000 files" in wanrec.ok("validate", env=kept).stdout
    spec = "specs/g0/sub/s000.toml"
    text = (wanrec.project / spec).read_text()
    wanrec.write(spec, text.replace("c0/f.json", "c9/g.json"))
    assert f"{spec}::m0@1::c9/g.json" in wanrec.ok("collect", "m0", env=kept).stdout.split()
    wanrec.write("specs/g0/sub/defaults.toml", "[defaults]\nprotekt = true\n")
    done = wanrec.run("validate", env=kept)
    assert done.exit == 3
    assert "specs/g0/sub/defaults.toml:2: " in done.stderr


SELECTING = ("validate", "collect", "lock", "plan", "apply", "graph", "drift", "status", "adopt")
SELECTING_MORE = ("verify", "mirror", "sources", "migrate analyze", "migrate plan")


@pytest.mark.parametrize("command", [*SELECTING, *SELECTING_MORE, "migrate execute"])
def test_every_command_that_reads_specs_selects(command: str) -> None:
    """Words, `-k`, `-m` and `--exclude` are there wherever specs are read."""
    found: click.Command = program
    context = click.Context(program)
    for word in command.split():
        assert isinstance(found, click.Group)
        chosen = found.get_command(context, word)
        assert chosen is not None
        found = chosen
    assert {"words", "keyword", "marks", "exclude"} <= {param.name for param in found.params}


@pytest.mark.parametrize(
    ("words", "checked"),
    [
        (("-k", "b@1"), 2),
        (("-k", "y"), 1),
        (("-m", "video"), 2),
        (("--exclude", "y.txt or x.txt"), 1),
        (("b::y.txt",), 1),
        (("specs/models.toml", "-k", "b@1"), 2),
    ],
)
def test_verify_selects(wanrec: Program, words: tuple[str, ...], checked: int) -> None:
    """`verify` hashes what is selected, under the root and in a folder that is named."""
    path = declare(wanrec, {"a@1": {"x.txt": b"x"}, "b@1": {"y.txt": b"y", "z.txt": b"z"}})
    path.write_text(path.read_text().replace('"b@1"]\n', '"b@1"]\nmarks = ["video"]\n', 1))
    wanrec.ok("apply", "-y")
    assert wanrec.ok("verify", "--json", *words).json()["checked"] == checked
    assert wanrec.ok("verify", "--json", str(wanrec.root), *words).json()["checked"] == checked


def test_drift_refuses_marks(wanrec: Program) -> None:
    """Marks stand in specs, which drift does not read: refused, also where all is known clean."""
    declare(wanrec, {"a@1": {"x.txt": b"x"}})
    wanrec.ok("apply", "-y")
    wanrec.ok("plan")
    refused = wanrec.run("drift", "-m", "video")
    assert refused.exit == 64 and "-k EXPR" in refused.stderr
