"""The shipped WAN2.2 specs: what they pin is what was published, and no more than that."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from support.program import Program
from support.wan22 import SPECS, generated, rows

from wanrec.reconcile.collect import collect
from wanrec.reconcile.desired import build
from wanrec.reconcile.lockfile_parse import parse_lock
from wanrec.reconcile.manifest import parse_manifest
from wanrec.reconcile.manifest_models import allowed_by_patterns

# What the facts say sharing saves; files whose size or digest nobody states count as unique.
DIFFUSERS_TRIO_SAVED = 23_274_207_770
NATIVE_TRIO_SAVED = 23_274_387_832


def test_the_files_are_the_generators(checkout: Path) -> None:
    """Specs and locks are byte for byte what the table of published facts gives."""
    for path, text in generated().items():
        assert (checkout / path).read_text(encoding="utf-8") == text, path


def test_every_shipped_spec_has_its_table() -> None:
    """No spec of the family is written by hand, beside the published figures."""
    folder = Path(__file__).parents[2] / "specs"
    names = {path.name.removesuffix(".toml") for path in folder.glob("wan22*.toml")}
    assert names == {*SPECS, *(f"{name}.lock" for name in SPECS)}


@pytest.mark.parametrize("name", SPECS)
def test_hashes_are_the_published_ones(checkout: Path, name: str) -> None:
    """Every size and digest of spec and lock equals its row; what no row states is unpinned."""
    published = {(row.repo, row.path): (row.size, row.sha256) for row in rows()}
    models = {model.id: model for model in SPECS[name][1]}
    data = (checkout / f"specs/{name}.lock.toml").read_bytes()
    lock = parse_lock(data, name).models
    assert lock.keys() == models.keys()
    for model_id, locked in lock.items():
        model = models[model_id]
        for file in locked.files:
            row = published[model.repo, file.source_path or file.path]
            assert (file.size, file.sha256) == row
        for path in locked.unpinned:
            assert None in published[model.repo, model.strip + path]
        # Nothing that is published is left out.
        wanted = {path for path, row in model.files() if row.pinned}
        assert wanted == {file.path for file in locked.files}
    spec = (checkout / f"specs/{name}.toml").read_bytes()
    declared = [
        (decl, file) for decl in parse_manifest(spec, name).models for file in decl.files or ()
    ]
    for decl, file in declared:
        row = published[models[decl.id].repo, file.source_path or file.path]
        assert file.size in (None, row[0]) and file.sha256 in (None, row[1])


@pytest.mark.parametrize("name", SPECS)
def test_pickles_are_let_in_by_name(checkout: Path, name: str) -> None:
    """The Diffusers layout holds no pickle; elsewhere each one has its own reason."""
    desired = build(collect(checkout, [f"specs/{name}.toml"]))
    models = [model for model in desired.models if model.spec == f"specs/{name}.toml"]
    files = [file for model in models for file in model.files]
    pickles = [file for file in files if file.path.endswith((".pth", ".ckpt", ".pt", ".bin"))]
    assert all(file.allow_pickle for file in pickles)
    assert bool(pickles) == (name == "wan22-native")
    assert not any(model.policy.allow_pickle for model in models)
    assert not any(file.path.startswith(("nohup", "assets/", ".git")) for file in files)


@pytest.mark.parametrize("name", ["wan22", "wan22-native"])
def test_strays_are_ignored_by_pattern(checkout: Path, name: str) -> None:
    """What upstream ships by mistake stays out even where somebody drops the list of files."""
    spec = (checkout / f"specs/{name}.toml").read_bytes()
    for decl in parse_manifest(spec, name).models:
        for stray in ("nohup.out", "assets/logo.png", "README.md"):
            assert not allowed_by_patterns(stray, ("*",), decl.ignore_patterns), decl.id


@pytest.mark.parametrize(
    ("name", "saved"), [("wan22", DIFFUSERS_TRIO_SAVED), ("wan22-native", NATIVE_TRIO_SAVED)]
)
def test_sharing_saves_what_the_facts_say(
    wanrec: Program, checkout: Path, name: str, saved: int
) -> None:
    """The plan of each trio fetches shared encoders, tokenizers and VAEs once."""
    plan = wanrec.ok("plan", f"specs/{name}.toml", "--format", "json", cwd=checkout).json()
    assert plan["summary"]["bytes_saved"] == saved
    links = [action for action in plan["actions"] if action["via"] == "link"]
    assert sum(action["size"] for action in links) == saved
    assert {action["action"] for action in links} == {"adopt"}
    assert len([line for line in plan["warnings"] if "is incomplete" in line]) == (
        2 if name == "wan22" else 1
    )


def test_one_model_plans_whole_and_at_once(wanrec: Program, checkout: Path) -> None:
    """`-k TI2V` is the 34 GB of that model, nothing left to pin, within a second."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = wanrec.ok("plan", "specs/wan22.toml", "-k", "TI2V", "--format", "json", cwd=checkout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Time of its own, not on the clock: the machine may be busy with something else.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0
    plan = run.json()
    assert plan["summary"]["create"] == 20
    assert plan["summary"]["bytes_to_fetch"] == 34_201_418_400
    assert not [line for line in plan["warnings"] if "incomplete" in line]


def test_the_checkout_is_valid(wanrec: Program, checkout: Path) -> None:
    """`wanrec validate` finds the demo and the WAN2.2 specs, and all of them are sound."""
    found = wanrec.ok("validate", "--format", "json", cwd=checkout).json()["specs"]
    assert {"specs/demo.toml", *(f"specs/{name}.toml" for name in SPECS)} <= set(found)
    text = wanrec.ok("validate", "specs/wan22.toml", cwd=checkout).stdout
    assert text == "Valid: 1 spec file, 3 models, 96 files.\n"
    assert wanrec.ok("validate", "specs/", cwd=checkout).stdout.startswith("Valid: 4 spec files, ")


def test_the_documented_spec_is_sound(checkout: Path) -> None:
    """The spec of what has yet to be locked, in docs/locking.md, has no fault of its own."""
    _, _, rest = (checkout / "docs/locking.md").read_text(encoding="utf-8").rpartition("```toml\n")
    manifest = parse_manifest(rest.partition("```")[0].encode(), "docs/locking.md")
    ids = [model.id for model in manifest.models]
    assert ids[0] == "s2v-14B-native@2.2.0" and len(ids) == 3


def test_a_lora_brings_its_base(wanrec: Program, checkout: Path) -> None:
    """Selecting a LoRA pulls in its base model, and the encoder and VAE that one requires."""
    run = wanrec.ok("plan", "lightx2v-t2v-lora", "--format", "json", cwd=checkout)
    models = [action["model"] for action in run.json()["actions"]]
    assert models[-1] == "lightx2v-t2v-lora@1.1.0"
    assert set(models) == {
        "lightx2v-t2v-lora@1.1.0",
        "comfy-t2v-A14B@2.2.0",
        "comfy-umt5-xxl@2.1.0",
        "comfy-vae@2.1.0",
    }
