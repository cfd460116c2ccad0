"""Desired: from declarations to the files that must lie somewhere, and what a run is about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanrec.reconcile.collect import Collection, collect
from wanrec.reconcile.desired import SelectArgs, build, node_ids
from wanrec.reconcile.errors import ErrorCode, FaultGroup, WanrecError
from wanrec.reconcile.lockfile import (
    LockedFile,
    LockedModel,
    LockFile,
    declaration_digest,
)
from wanrec.reconcile.manifest import parse_manifest
from wanrec.reconcile.model import Desired, DesiredModel, Presence

TOP = Path(__file__).resolve().parents[2]
DIGEST = "ab" * 32
OTHER = "cd" * 32


def entry(path: str, **keys: object) -> str:
    """One file as TOML; `sha256=None` leaves the digest out."""
    values: dict[str, object] = {"path": path, "size": 4, "sha256": DIGEST, **keys}
    shown = (
        f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {str(value).lower()}"
        for key, value in values.items()
        if value is not None
    )
    return "{" + ", ".join(shown) + "}"


def model(model_id: str, *files: str, **keys: object) -> str:
    """One model as TOML, with one file and one source unless told otherwise."""
    values: dict[str, object] = {"sources": ["local://m"], **keys}
    listed = ", ".join(files or (entry("x.json"),))
    lines = [f'[models."{model_id}"]']
    for key, value in values.items():
        lines.append(f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}")
    return "\n".join([*lines, *([] if files == ("",) else [f"files = [{listed}]"]), ""])


def collection(specs: Mapping[str, str], locks: Mapping[str, LockFile] | None = None) -> Collection:
    """A collection of spec texts, as `collect.load` would make it."""
    manifests = tuple(
        parse_manifest(f"schema_version = 1\n{text}".encode(), path) for path, text in specs.items()
    )
    words = {path: (path,) for path in specs}
    return Collection(manifests=manifests, locks=locks or {}, spec_words=words)


def desired(*models: str, **args: object) -> Desired:
    """Build one spec of these models."""
    return build(collection({"specs/a.toml": "\n".join(models)}), SelectArgs(**args))  # type: ignore[arg-type]  # names are the test's


def by_key(found: Desired) -> dict[str, DesiredModel]:
    """The models by key."""
    return {one.key: one for one in found.models}


def faults(specs: Mapping[str, str], **locks: LockFile) -> list[str]:
    """What build has to say against these specs."""
    with pytest.raises(FaultGroup) as caught:
        build(collection(specs, {path.replace("_", "."): lock for path, lock in locks.items()}))
    return [f"{fault.code} {fault}" for fault in caught.value.faults]


def test_a_plain_model() -> None:
    """Without variants: one model, its directory, its files by path, nothing lost."""
    found = desired(
        'family = "fam"',
        model("a@1", entry("y.json", optional=True), entry("vae/x.bin", allow_pickle="ours")),
    )
    (one,) = found.models
    assert (one.key, one.id, one.name, one.version, one.variant) == ("a@1", "a@1", "a", "1", None)
    assert one.directory == "fam/a@1"
    assert [(file.path, file.component) for file in one.files] == [
        ("vae/x.bin", "vae"),
        ("y.json", None),
    ]
    assert one.installed
    assert one.spec == "specs/a.toml"
    assert not found.warnings


def test_variants() -> None:
    """Each variant is a model of its own with its own directory; install says which are wanted."""
    files = (entry("all.json"), entry("w.bin.json", variant="a"), entry("w.bin.json", variant="b"))
    base = {"variants": ["a", "b"], "default_variant": "a"}
    found = by_key(desired(model("m@1", *files, **base)))
    assert {key: one.directory for key, one in found.items()} == {
        "m@1[a]": "wan22/m@1@a",
        "m@1[b]": "wan22/m@1@b",
    }
    assert [file.path for file in found["m@1[b]"].files] == ["all.json", "w.bin.json"]
    for install, wanted in (("all", "ab"), (["b"], "b"), ("default", "a"), ([], "")):
        found = by_key(desired(model("m@1", *files, **base, install=install)))
        assert "".join(one.variant or "" for one in found.values() if one.installed) == wanted


FILES = (
    entry("model_index.json"),
    entry("vae/a.json"),
    entry("vae/b.md"),
    entry("text/a.json"),
    entry("flat.json", component="text"),
)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, "flat.json model_index.json text/a.json vae/a.json vae/b.md"),
        ({"optional_components": ["text"]}, "model_index.json vae/a.json vae/b.md"),
        ({"components": ["text"]}, "flat.json model_index.json text/a.json"),
        (
            {"optional_components": ["text"], "components": ["text"]},
            "flat.json model_index.json text/a.json",
        ),
        ({"components": []}, "model_index.json"),
        ({"allow_patterns": ["*.json"]}, "flat.json model_index.json text/a.json vae/a.json"),
        ({"ignore_patterns": ["vae/", "*.md"]}, "flat.json model_index.json text/a.json"),
        ({"allow_patterns": ["vae/*"], "ignore_patterns": ["*.md"]}, "vae/a.json"),
    ],
)
def test_components_and_patterns(keys: dict[str, object], expected: str) -> None:
    """What components and patterns leave out is not wanted; `*` crosses folders."""
    (one,) = desired(model("a@1", *FILES, **keys)).models
    assert " ".join(file.path for file in one.files) == expected


def test_source_templates() -> None:
    """Placeholders are filled in for each variant."""
    found = desired(
        model(
            "m@1.0",
            variants=["a", "b"],
            default_variant="b",
            sources=["s3://b/{family}/{name}/{version}/{variant}", "local://{id}"],
        )
    )
    assert [one.sources for one in found.models] == [
        ("s3://b/wan22/m/1.0/a", "local://m@1.0"),
        ("s3://b/wan22/m/1.0/b", "local://m@1.0"),
    ]


def locked(spec: str, *files: LockedFile, **revisions: str) -> LockFile:
    """A lock file that fits the first model of a spec text."""
    decl = parse_manifest(f"schema_version = 1\n{spec}".encode(), "a.toml").models[0]
    entry = LockedModel(
        spec_sha256=declaration_digest(decl),
        files=files,
        revisions={name.replace("_", "/"): commit for name, commit in revisions.items()},
    )
    return LockFile(path="a.lock.toml", models={decl.id: entry})


def test_files_from_the_lock() -> None:
    """Without `files`, the lock lists them, and pins Hub revisions."""
    spec = model("a@1", "", sources=["hf://o/n@main", "local://x"])
    lock = locked(spec, LockedFile(path="vae/x.json", size=9, sha256=OTHER, source_path="s.json"))
    lock = attrs.evolve(
        lock,
        models={"a@1": attrs.evolve(lock.models["a@1"], revisions={"hf://o/n@main": "c0ffee"})},
    )
    (one,) = build(collection({"a.toml": spec}, {"a.toml": lock})).models
    (file,) = one.files
    assert (file.path, file.size, file.sha256, file.component) == ("vae/x.json", 9, OTHER, "vae")
    assert file.source_path == "s.json"
    assert one.sources == ("hf://o/n@c0ffee", "local://x")


def test_gaps_filled_from_the_lock() -> None:
    """A declared file without size or digest takes them from the lock; its own ones stand."""
    spec = model("a@1", entry("x.json", sha256=None, size=None), entry("y.json"))
    lock = locked(
        spec,
        LockedFile(path="x.json", size=9, sha256=OTHER),
        LockedFile(path="y.json", size=4, sha256=DIGEST),
        LockedFile(path="z.json", size=1, sha256=OTHER),
    )
    (one,) = build(collection({"a.toml": spec}, {"a.toml": lock})).models
    assert [(file.path, file.size, file.sha256) for file in one.files] == [
        ("x.json", 9, OTHER),
        ("y.json", 4, DIGEST),
    ]


def test_lock_faults() -> None:
    """No lock, a stale one, one that contradicts: named, with the command that helps."""
    bare = model("a@1", "")
    (told,) = faults({"a.toml": bare})
    assert told.startswith("LOCK_MISSING a.toml:2: ")
    assert "wanrec lock a.toml" in told
    with pytest.raises(FaultGroup) as caught:
        build(collection({"a.toml": bare}))
    assert caught.value.hint == "run: wanrec lock a.toml"

    (told,) = faults({"a.toml": model("a@1", entry("x", sha256=None), entry("y", sha256=None))})
    assert told.startswith("LOCK_MISSING")
    assert "no sha256 for x and 1 more" in told

    stale = locked(model("a@1", "", sources=["local://other"]))
    (told,) = faults({"a.toml": bare}, a_toml=stale)
    assert told.startswith("LOCK_OUTDATED")

    spec = model("a@1", entry("x", size=3))
    (told,) = faults(
        {"a.toml": spec}, a_toml=locked(spec, LockedFile(path="x", size=4, sha256=DIGEST))
    )
    assert told.startswith("LOCK_OUTDATED")
    assert "disagree about x" in told


def test_locked_files_follow_the_policy() -> None:
    """A pickle suffix or an unknown variant in the lock file is refused as in the spec."""
    spec = model("a@1", "")
    lock = locked(spec, LockedFile(path="x.ckpt", size=4, sha256=DIGEST))
    (told,) = faults({"a.toml": spec}, a_toml=lock)
    assert told.startswith("POLICY_DENIED")
    build(collection({"a.toml": "[policy]\nallow_pickle = true\n" + spec}, {"a.toml": lock}))
    lock = locked(
        spec,
        LockedFile(path="x", size=4, sha256=DIGEST, variant="b"),
        LockedFile(path="y", size=4, sha256=DIGEST),
    )
    (told,) = faults({"a.toml": spec}, a_toml=lock)
    assert '"b", which is no variant' in told


def test_no_sha256_when_the_policy_allows() -> None:
    """require_sha256 = false lets files without a digest in."""
    text = "[policy]\nrequire_sha256 = false\n" + model("a@1", entry("x", sha256=None))
    assert desired(text).models[0].files[0].sha256 is None


def test_nothing_left_to_install() -> None:
    """A model of which patterns leave nothing is a fault, not an empty folder."""
    (told,) = faults({"a.toml": model("a@1", ignore_patterns=["*"])})
    assert "no file is left" in told
    files = (entry("x", variant="a"),)
    text = model("a@1", *files, variants=["a", "b"], default_variant="a")
    (told,) = faults({"a.toml": text})
    assert 'for the variant "b"' in told


def test_misspelt_component_of_a_locked_model() -> None:
    """A component that no locked file has is refused, with the nearest."""
    spec = model("a@1", "", components=["vea"])
    lock = locked(spec, LockedFile(path="vae/x", size=4, sha256=DIGEST))
    told = faults({"a.toml": spec}, a_toml=lock)
    assert 'did you mean "vae"?' in told[0]


@pytest.mark.parametrize(
    ("word", "key"),
    [("b@1", "b@1"), ("b", "b@1"), ("v@1", "v@1[y]"), ("v", "v@1[y]"), ("v@1[x]", "v@1[x]"),
     ("v@1@x", "v@1[x]"), ("v[x]", "v@1[x]")],
)  # fmt: skip
def test_requires(word: str, key: str) -> None:
    """A requirement is an id, a unique name, or either with a variant; else the default one."""
    found = desired(
        model("a@1", requires=[word]),
        model("b@1"),
        model("v@1", variants=["x", "y"], default_variant="y"),
    )
    assert by_key(found)["a@1"].requires == (key,)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("c@1", 'MODEL_NOT_FOUND a.toml:2: requires: no spec declares a model "c@1"'),
        ("bb", 'did you mean "b"?'),
        ("b@1[x]", "VARIANT_NOT_FOUND a.toml:2: requires: b@1 has no variants"),
        ("v[z]", 'requires: v@1 has no variant "z"'),
        ("n", '"n" could be any of n@1, n@2'),
    ],
)
def test_unknown_requirements(word: str, told: str) -> None:
    """An unknown requirement is told with its place and the nearest model."""
    text = "\n".join(
        (
            model("a@1", requires=[word]),
            *(model(one) for one in ("b@1", "n@1", "n@2")),
            model("v@1", variants=["x", "y"], default_variant="y"),
        )
    )
    (found,) = faults({"a.toml": text})
    assert told in found
    assert 'at models."a@1".requires' in found


def test_cycles_are_named() -> None:
    """Models that require each other in a circle are named in order, across specs."""
    (told,) = faults(
        {
            "b.toml": model("b@1", requires=["c"]) + model("c@1", requires=["a"]),
            "a.toml": model("a@1", requires=["b"]) + model("z@1", requires=["a"]),
        }
    )
    assert told.startswith("INVALID_MANIFEST a.toml:2: ")
    assert "a@1 -> b@1 -> c@1 -> a@1" in told


def test_long_chains_are_no_problem() -> None:
    """A chain of 3,000 requirements needs no recursion."""
    chain = [model(f"m{n}@1", requires=[f"m{n + 1}@1"]) for n in range(3_000)]
    assert len(desired(*chain, model("m3000@1")).models) == 3_001


def test_required_by_required() -> None:
    """On-demand models and variants outside `install` are wanted when a wanted model needs them."""
    found = by_key(
        desired(
            model("a@1", requires=["b", "v[y]"]),
            model("b@1", requires=["c"], presence="on-demand"),
            model("c@1", presence="on-demand"),
            model("d@1", presence="on-demand", requires=["e"]),
            model("e@1", presence="on-demand"),
            model("v@1", variants=["x", "y"], default_variant="x"),
        )
    )
    wanted = {
        key for key, one in found.items() if one.presence is Presence.REQUIRED and one.installed
    }
    assert wanted == {"a@1", "b@1", "c@1", "v@1[x]", "v@1[y]"}


def test_collisions() -> None:
    """One id in two specs, or two directories that some systems take for one: both places."""
    (told,) = faults({"a.toml": model("x@1"), "b.toml": "\n\n" + model("x@1")})
    assert told.startswith("NAME_COLLISION b.toml:4: x@1 is declared here and at a.toml:2")
    (told,) = faults({"a.toml": model("x@1"), "b.toml": model("X@1")})
    assert "NAME_COLLISION" in told
    assert "(b.toml:2)" in told


def test_all_specs_at_once() -> None:
    """Faults of several specs come together, by file and line."""
    told = faults(
        {
            "b.toml": model("b@1", requires=["none"]),
            "a.toml": model("a@1", "") + model("a@2", requires=["none"]),
        }
    )
    assert [line.split(":")[0].split()[1] for line in told] == ["a.toml", "a.toml", "b.toml"]


def test_content_digest() -> None:
    """The digest of a model follows paths, sizes and hashes, and nothing else."""

    def digest(*files: str, **keys: object) -> str:
        return desired(model("a@1", *files, **keys)).models[0].spec_sha256

    base = digest(entry("x"), entry("y"))
    assert base == digest(entry("y"), entry("x", optional=True), marks=["m"], protect=True)
    others = {digest(entry("x")), digest(entry("x", size=5), entry("y"))}
    assert base not in others | {digest(entry("x", sha256=OTHER), entry("y"))}


@pytest.mark.parametrize(
    ("limits", "expected"),
    [((0.5, 0.25), 0.25), ((3, 0.5), 0.5), ((1, 0.5), 1), ((0, 0.0), 0)],
)
def test_strictest_policy(limits: tuple[float, float], expected: float) -> None:
    """The strictest policy of the loaded specs wins; share and count are compared for 4 models."""
    found = build(
        collection(
            {
                f"{n}.toml": f"[policy]\nmax_delete = {limit}\n"
                + model(f"a{n}@1")
                + model(f"b{n}@1")
                for n, limit in enumerate(limits)
            }
        )
    )
    assert found.policy.max_delete == expected


SPECS = {
    "specs/a.toml": "\n".join(
        (
            model("t@1", *FILES, marks=["video", "gpu"], requires=["enc"]),
            model("v@1", variants=["x", "y"], default_variant="x", marks=["audio"]),
        )
    ),
    "specs/b.toml": model("enc@1", requires=["tok@1"], marks=["text"]) + model("tok@1"),
    "specs/c.toml": "",
}


def picked(*words: str, **args: object) -> tuple[str, str, bool]:
    """(selected, pulled in, partial) of the world above; addresses where files were chosen."""
    found = build(collection(SPECS), SelectArgs(words=words, **args))  # type: ignore[arg-type]  # names are the test's
    selection = found.selection
    every = frozenset(by_key(found))
    keys = (every if selection.keys is None else selection.keys) - selection.pulled_in
    names = keys
    if selection.addresses is not None:
        names = frozenset(
            one for one in selection.addresses if one.split("::")[0] not in selection.pulled_in
        )
    return " ".join(sorted(names)), " ".join(sorted(selection.pulled_in)), selection.partial


@pytest.mark.parametrize(
    ("words", "selected", "pulled", "partial"),
    [
        ((), "enc@1 t@1 tok@1 v@1[x] v@1[y]", "", False),
        (("specs/a.toml",), "t@1 v@1[x] v@1[y]", "enc@1 tok@1", False),
        (("specs/a.toml", "specs/b.toml"), "enc@1 t@1 tok@1 v@1[x] v@1[y]", "", False),
        (("specs/c.toml",), "", "", False),
        (("specs/b.toml", "v[x]"), "enc@1 tok@1 v@1[x]", "", True),
        (("t",), "t@1", "enc@1 tok@1", True),
        (("v@1",), "v@1[x] v@1[y]", "", True),
        (("v@1@y",), "v@1[y]", "", True),
        (("specs/b.toml::tok",), "tok@1", "", True),
        (("specs/a.toml::v[x]::x.json",), "v@1[x]", "", True),
        (("t::vae/a.json",), "t@1::vae/a.json", "enc@1 tok@1", True),
        (("t::vae",), "t@1::vae/a.json t@1::vae/b.md", "enc@1 tok@1", True),
        (("t::*.md", "t::text/"), "t@1::text/a.json t@1::vae/b.md", "enc@1 tok@1", True),
        (("t::vae/[ab].json", "t"), "t@1", "enc@1 tok@1", True),
        (("t*",), "t@1 tok@1", "enc@1", True),
    ],
)
def test_words(words: tuple[str, ...], selected: str, pulled: str, partial: bool) -> None:
    """SPEC, NODEID, MODEL and ADDRESS choose; only whole specs leave a run able to delete."""
    found, came_along, is_partial = picked(*words)
    if "::" in selected:
        found = " ".join(name for name in found.split() if name.startswith("t@1"))
    assert (found, came_along, is_partial) == (selected, pulled, partial)


@pytest.mark.parametrize(
    ("args", "selected"),
    [
        ({"keyword": "VAE and not md"}, "t@1::vae/a.json"),
        ({"keyword": "v@1[x]"}, "v@1[x]"),
        ({"keyword": "b.toml"}, "enc@1 tok@1"),
        ({"keyword": "audio"}, "v@1[x] v@1[y]"),
        ({"marks": "audio or text"}, "enc@1 v@1[x] v@1[y]"),
        ({"marks": "not (video or text or audio)"}, "tok@1"),
        ({"exclude": "enc or t@1 or tok"}, "v@1[x] v@1[y]"),
        ({"keyword": "::x.json", "exclude": "y"}, "enc@1 tok@1 v@1[x]"),
        ({"marks": "audio", "keyword": "  "}, "v@1[x] v@1[y]"),
    ],
)
def test_expressions(args: dict[str, str], selected: str) -> None:
    """-k, -m and --exclude narrow, and make the run partial."""
    found, _, partial = picked(**args)
    assert found == selected
    assert partial


@pytest.mark.parametrize(
    ("words", "args", "code", "told"),
    [
        ((), {"keyword": "nope"}, ErrorCode.NOTHING_SELECTED, "nothing matches -k 'nope'"),
        (("specs/c.toml",), {"marks": "x"}, ErrorCode.NOTHING_SELECTED, "specs/c.toml -m 'x'"),
        (("encc",), {}, ErrorCode.MODEL_NOT_FOUND, 'did you mean "enc"?'),
        (("specs/a.toml::enc",), {}, ErrorCode.MODEL_NOT_FOUND, "specs/a.toml declares no"),
        (("v[z]",), {}, ErrorCode.VARIANT_NOT_FOUND, 'no variant "z"'),
        (("t::vae/a.jsn",), {}, ErrorCode.NOTHING_SELECTED, 'did you mean "vae/a.json"?'),
        (("q*",), {}, ErrorCode.NOTHING_SELECTED, 'no model matches "q*"'),
        ((), {"keyword": "a and"}, ErrorCode.USAGE, "column 6"),
        ((), {"exclude": "("}, ErrorCode.USAGE, "--exclude"),
    ],
)
def test_selection_errors(
    words: tuple[str, ...], args: dict[str, str], code: ErrorCode, told: str
) -> None:
    """What matches nothing is an error that names the word, never an empty run."""
    with pytest.raises(WanrecError) as caught:
        picked(*words, **args)
    assert caught.value.code is code
    assert told in str(caught.value)


def test_strict_marks() -> None:
    """With declared marks, an undeclared one is refused in -m and in specs."""
    with pytest.raises(WanrecError, match='no mark "vide"; did you mean "video"') as caught:
        picked(marks="vide", declared_marks=("video", "gpu", "audio", "text"))
    assert caught.value.code is ErrorCode.USAGE
    with pytest.raises(FaultGroup, match='mark "audio" is not in the configured marks'):
        picked(declared_marks=("video", "gpu", "text"))


def test_node_ids() -> None:
    """Node ids are SPECFILE::ADDRESS, by spec, model and path; what came along is left out."""
    found = build(collection(SPECS), SelectArgs(keyword="::x.json or (text and not index)"))
    assert node_ids(found) == [
        "specs/a.toml::t@1::flat.json",
        "specs/a.toml::t@1::text/a.json",
        "specs/a.toml::v@1[x]::x.json",
        "specs/a.toml::v@1[y]::x.json",
        "specs/b.toml::enc@1::x.json",
        "specs/b.toml::tok@1::x.json",
    ]
    assert "specs/a.toml::v@1[y]::x.json" not in node_ids(found, installed_only=True)
    only = build(collection(SPECS), SelectArgs(words=("t",)))
    assert {node.split("::")[1] for node in node_ids(only)} == {"t@1"}


@given(st.permutations(sorted(SPECS)))
def test_order_of_specs_changes_nothing(order: list[str]) -> None:
    """The same specs in any order want the same."""
    shuffled = build(collection({path: SPECS[path] for path in order}))
    assert shuffled.models == build(collection(SPECS)).models


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write specs below a folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"schema_version = 1\n{text}")


def test_unsound_specs_aside_make_a_run_partial(tmp_path: Path) -> None:
    """Naming a sound spec works beside an unsound one, but nothing is deleted then."""
    write(
        tmp_path,
        {
            "specs/a.toml": model("a@1"),
            "specs/b.toml": "broken",
            "specs/c.toml": model("c@1", requires=["none"]),
        },
    )
    words = ("specs/a.toml",)
    found = build(collect(tmp_path, words), SelectArgs(words=words))
    assert found.selection.partial
    assert found.selection.specs == {"specs/a.toml"}
    assert "specs/b.toml, specs/c.toml" in found.warnings[0]

    write(tmp_path, {"specs/a.toml": model("a@1", requires=["x"])})
    with pytest.raises(FaultGroup) as caught:
        build(collect(tmp_path, words), SelectArgs(words=words))
    assert [fault.file for fault in caught.value.faults] == [
        "specs/a.toml",
        "specs/b.toml",
        "specs/c.toml",
    ]


def test_a_named_copy_wins(tmp_path: Path) -> None:
    """A named spec from outside the project may declare an id of the project; inside it may not."""
    write(tmp_path, {"specs/a.toml": model("a@1") + model("b@1"), "x/a.toml": model("a@1")})
    words = ("x/a.toml",)
    found = build(collect(tmp_path, words), SelectArgs(words=words))
    assert {one.key: one.spec for one in found.models} == {
        "a@1": "x/a.toml",
        "b@1": "specs/a.toml",
    }
    assert found.selection.keys == {"a@1"}
    for chosen in (("x/a.toml", "specs/a.toml"),):
        with pytest.raises(FaultGroup, match="is declared here and at"):
            build(collect(tmp_path, chosen), SelectArgs(words=chosen))
    write(tmp_path, {"specs/c.toml": model("a@1")})
    with pytest.raises(FaultGroup, match="is declared here and at"):
        build(collect(tmp_path, ("specs/c.toml",)), SelectArgs(words=("specs/c.toml",)))


def test_demo_spec() -> None:
    """The shipped demo is sound and shows variants, components, requirements and sharing."""
    found = build(collect(TOP, ("specs/demo.toml",)), SelectArgs(words=("specs/demo.toml",)))
    models = by_key(found)
    assert len(models["all-MiniLM-L6-v2@1.0.0"].files) == 13
    assert [key for key in models if key.startswith("silero") and models[key].installed] == [
        "silero-vad@6.2.3[fp32]",
        "silero-vad@6.2.3[half]",
    ]
    parts = {file.component for file in models["rapidocr@1.4.4"].files}
    assert parts == {None, "det", "rec"}
    pipeline = models["semantic-search@1.0.0"]
    assert pipeline.requires == ("all-MiniLM-L6-v2@1.0.0",)
    shared = {file.sha256 for file in models["all-MiniLM-L6-v2@1.0.0"].files}
    assert {file.sha256 for file in pipeline.files} <= shared
    assert not found.warnings
