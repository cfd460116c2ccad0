"""Spec files: the whole schema, every fault in one run with its line, caps before parsing."""

from __future__ import annotations

import subprocess
import sys
import time
import tomllib
import tracemalloc
import types
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wanrec.reconcile import manifest_text
from wanrec.reconcile.errors import ErrorCode, Fault, FaultGroup
from wanrec.reconcile.manifest import DefaultsFile, Manifest, parse_defaults, parse_manifest
from wanrec.reconcile.manifest_files import allowed_by_patterns
from wanrec.reconcile.manifest_schema import (
    FACT_KEYS,
    MAX_ENTRIES,
    MAX_MANIFEST_BYTES,
    MODEL_KEYS,
    Kind,
)
from wanrec.reconcile.manifest_text import read_toml
from wanrec.reconcile.model import FileSpec, MoveRule, Policy, Presence, RemovedRule

SHA = "d6e524b3fffede1787a74e81b30976dce5400c4439ba64222168e607ed19e793"

CONTRACT = f"""\
schema_version = 1
family = "video"

[defaults]
marks = ["demo"]

[policy]
allow_pickle = false
require_sha256 = true
max_delete = 3

[models."t2v-A14B@2.2.0"]
description = "Text to video, 14B active"
version = "2.2.0"
variants = ["fp16", "bf16"]
default_variant = "fp16"
install = ["fp16"]
presence = "on-demand"
protect = true
marks = ["video", "gpu80"]
requires = ["umt5-xxl@1.0.0"]
optional_components = ["text_encoder"]
components = ["vae", "text_encoder"]
pipeline = "WanPipeline"
guidance = [3.0, 4.0]
experts = 2
x-ticket = 17

[models."t2v-A14B@2.2.0".meta]
since = 2026-01-01

[[models."t2v-A14B@2.2.0".files]]
path = "vae/diffusion_pytorch_model.safetensors"
size = 507591892
sha256 = "{SHA.upper()}"
component = "vae"
variant = "fp16"
optional = true
source_path = "weights/vae.safetensors"

[[models."t2v-A14B@2.2.0".files]]
path = "old/weights.BIN"
allow_pickle = "checked by hand"

[[models."t2v-A14B@2.2.0".moved]]
from = "old.json"
to = "new.json"

[models."t2v-A14B@2.2.0".sources]
priority = ["local://mirror/{{id}}/{{variant}}", "hf://Wan-AI/X@5be7df9"]
allow_patterns = ["*.safetensors", "*.json"]
ignore_patterns = ["nohup.out"]

[[removed]]
model = "gone@1"
delete = false

[meta]
anything = {{ goes = 1979-05-27 }}
"""

MODEL = 'schema_version = 1\n[models."a@1"]\nsources = ["local://x"]\n'
FILE = f'[[models."a@1".files]]\npath = "f.json"\nsize = 3\nsha256 = "{SHA}"\n'


def parse(text: str, defaults: tuple[DefaultsFile, ...] = ()) -> Manifest:
    """Read a spec text."""
    return parse_manifest(text.encode(), "specs/x.toml", defaults)


def faults(text: str, defaults: tuple[DefaultsFile, ...] = ()) -> list[Fault]:
    """The faults of a spec text that must have some."""
    with pytest.raises(FaultGroup) as caught:
        parse(text, defaults)
    return list(caught.value.faults)


def only(text: str) -> Fault:
    """The one fault of a spec text."""
    found = faults(text)
    assert len(found) == 1, [str(fault) for fault in found]
    return found[0]


def test_whole_contract_example() -> None:
    """Every key of the contract arrives where it belongs."""
    manifest = parse(CONTRACT)
    assert (manifest.path, manifest.schema_version, manifest.family) == ("specs/x.toml", 1, "video")
    assert manifest.policy == Policy(allow_pickle=False, require_sha256=True, max_delete=3)
    assert manifest.removed == (RemovedRule(model="gone@1", delete=False, spec="specs/x.toml"),)
    assert len(manifest.sha256) == 64
    (model,) = manifest.models
    assert (model.id, model.name, model.version) == ("t2v-A14B@2.2.0", "t2v-A14B", "2.2.0")
    assert (model.variants, model.default_variant) == (("fp16", "bf16"), "fp16")
    assert (model.install, model.presence, model.protect) == (("fp16",), Presence.ON_DEMAND, True)
    assert model.marks == ("video", "gpu80")
    assert model.requires == ("umt5-xxl@1.0.0",)
    assert model.components == ("vae", "text_encoder")
    assert model.optional_components == ("text_encoder",)
    assert model.facts == {"pipeline": "WanPipeline", "guidance": [3.0, 4.0], "experts": 2}
    assert model.moved == (MoveRule(from_path="old.json", to_path="new.json"),)
    assert model.sources[1] == "hf://Wan-AI/X@5be7df9"
    assert (model.allow_patterns, model.ignore_patterns) == (
        ("*.safetensors", "*.json"),
        ("nohup.out",),
    )
    assert model.line == 12
    assert model.files == (
        FileSpec(
            path="vae/diffusion_pytorch_model.safetensors",
            size=507591892,
            sha256=SHA,
            component="vae",
            variant="fp16",
            optional=True,
            source_path="weights/vae.safetensors",
        ),
        FileSpec(path="old/weights.BIN", component="old", allow_pickle="checked by hand"),
    )


def test_manifest_of_the_earlier_orchestrator() -> None:
    """A schema-1 manifest with the earlier keys is valid as it is."""
    manifest = parse(
        f"""
schema_version = 1

[models."t2v-A14B@2.2.0"]
description = "WAN2.2 Text-to-Video A14B Model"
version = "2.2.0"
variants = ["fp16", "bf16"]
default_variant = "fp16"
resolution_caps = ["720p24", "1080p24"]
optional_components = ["text_encoder"]
lora_required = false
allow_patterns = ["*.safetensors", "*.json"]
required_components = ["unet", "vae"]

[models."t2v-A14B@2.2.0".defaults]
fps = 24
scheduler = "ddim"

[models."t2v-A14B@2.2.0".vram_estimation]
params_billion = 14.0

[[models."t2v-A14B@2.2.0".files]]
path = "unet/model.safetensors.index.json"
size = 12345
sha256 = "{SHA}"
component = "unet"
shard_index = true

[[models."t2v-A14B@2.2.0".files]]
path = "unet/model-00001-of-00001.safetensors"
size = 5368709120
sha256 = "{SHA}"
shard_part = 1

[models."t2v-A14B@2.2.0".sources]
priority = [
    "local://wan22/t2v-A14B@2.2.0",
    "s3://ai-models/wan22/t2v-A14B@2.2.0",
    "hf://Wan-AI/Wan2.2-T2V-A14B"
]
"""
    )
    (model,) = manifest.models
    assert manifest.family == "wan22"
    assert model.allow_patterns == ("*.safetensors", "*.json")
    assert model.facts["resolution_caps"] == ["720p24", "1080p24"]
    assert model.facts["lora_required"] is False
    assert len(model.files or ()) == 2


def test_smallest_manifest() -> None:
    """No models at all is a valid file; absent files are left to the lock file."""
    assert parse("schema_version = 1").models == ()
    (model,) = parse(MODEL).models
    assert model.files is None
    assert (model.install, model.presence) == ("default", Presence.REQUIRED)
    assert parse("schema_version = 1").policy == Policy()


def test_every_fault_in_one_run_with_its_line_and_path() -> None:
    """Faults come together, in the order of their lines, each with place and nearest key."""
    found = faults(
        """\
schema_version = 1
famly = "x"
[models."a@1"]
sources = ["local://x"]
protect = 1
[[models."a@1".files]]
path = "ok.json"
[[models."a@1".files]]
path = "b.json"
sise = 4
size = true
"""
    )
    assert [str(fault) for fault in found] == [
        'specs/x.toml:2: unknown key "famly"; did you mean "family"? (at famly)',
        'specs/x.toml:5: must be true or false, not 1 (at models."a@1".protect)',
        'specs/x.toml:10: unknown key "sise"; did you mean "size"? (at models."a@1".files[1].sise)',
        'specs/x.toml:11: must be an integer, not true (at models."a@1".files[1].size)',
    ]


def test_thousands_of_faults_come_quickly() -> None:
    """A file that is wrong everywhere is answered completely and in time."""
    text = MODEL + "".join(f'[[models."a@1".files]]\npath_{n} = "x"\n' for n in range(5_000))
    start = time.thread_time()
    assert len(faults(text)) == 10_000
    assert time.thread_time() - start < 10


@pytest.mark.parametrize("version", ["2", "0", '"1"', "true", "1.0", "[1]", "{a = 1}"])
def test_other_schema_version_stops_at_once(version: str) -> None:
    """What another version means is not ours to judge: one fault, the version."""
    fault = only(f"schema_version = {version}\nwhat = 1\n")
    assert fault.code is ErrorCode.SCHEMA_VERSION_MISMATCH
    assert fault.line == 1


def test_missing_schema_version_is_told_with_the_rest() -> None:
    """A missing version is SCHEMA_VERSION_MISMATCH and does not hide other faults."""
    found = faults("what = 1\n")
    assert [fault.code for fault in found] == [
        ErrorCode.SCHEMA_VERSION_MISMATCH,
        ErrorCode.INVALID_MANIFEST,
    ]


TOP_FAULTS = {
    'family = "a/b"': "holds '/'",
    'family = ".wanrec"': "wanrec's own",
    "family = 3": "a string",
    "models = 3": "a table",
    "removed = {}": "a list of tables",
    'removed = ["a"]': "a list of tables",
    "[[removed]]\ndelete = true": '"model" is missing',
    "[policy]\nallow_pickle = 1": "true or false",
    "[policy]\nmax_delete = 1.5": "at most 1.0",
    "[policy]\nmax_delete = -1": "at least 0",
    "[policy]\nmax_delete = true": "a number",
    "[policy]\nmax_delete = nan": "a number",
    "[policy]\nmax_delet = 1": 'did you mean "max_delete"',
    "[defaults]\nversion = '1'": "belongs to one model",
    "[defaults]\ninstal = 'all'": 'did you mean "install"',
    "[models]\n'a@1' = 3": "must be a table",
    "[models.a]\nsources = ['local://x']": "not NAME@VERSION",
    "[models.'a@1']\n[models.'A@1']\nsources = ['local://x']": "no sources",
}


@pytest.mark.parametrize(("text", "message"), TOP_FAULTS.items(), ids=list(TOP_FAULTS))
def test_faults_outside_models(text: str, message: str) -> None:
    """Each rule about the file as a whole is reported in words."""
    assert message in str(faults("schema_version = 1\n" + text)[0])


MODEL_FAULTS = {
    "version = '2'": "does not agree with the id",
    "description = 1": "must be a string, not 1",
    "variants = ['a']": "default_variant is required",
    "variants = ['a']\ndefault_variant = 'b'": "not one of the variants",
    "variants = 'a'\ndefault_variant = 'b'": "a list of strings",
    "default_variant = 'b'": "the model has none",
    "variants = ['a/b']\ndefault_variant = 'a/b'": "holds '/'",
    "install = 'al'": 'did you mean "all"',
    "install = ['fp16']": "not one of the variants",
    "install = [1]": "a list of strings",
    "presence = 'on_demand'": "one of required, on-demand",
    "protect = 'yes'": "true or false",
    "marks = ['and']": "-m could not name it",
    "marks = ['a b']": "-m could not name it",
    "requires = ['a@1']": "cannot require itself",
    "requires = ['']": "names nothing",
    "files = []": "the list is empty",
    "files = {}": "a list of tables",
    "files = [1]": "a list of tables",
    "components = ['x']": None,
    "boundary_ratio = 1.5": "at most 1",
    "frames = 0": "at least 1",
    "fps = true": "a number",
    "guidance = ['x']": "a number or a list of numbers",
    "guidance = [-1.0]": "at least 0",
    "vram_estimation = 2026-01-01": "a table of plain values",
    "vram_estimation = {a = 2026-01-01}": "a table of plain values",
    "vram_estimation = {a = [inf]}": "a table of plain values",
    f"vram_estimation = {{a = {'[' * 20}{']' * 20}}}": "a table of plain values",
    "pipelin = 'x'": 'did you mean "pipeline"',
    "qwertz = 'x'": 'unknown key "qwertz"',
    "[[models.'a@1'.moved]]\nfrom = 'x'": '"to" is missing',
    "[[models.'a@1'.moved]]\nfrom = 'x'\nto = 'x'": "the same path",
    "[[models.'a@1'.moved]]\nfrom = 'x'\nto = '../x'": "'..'",
    "moved = [{from = 'x', to = 'y'}, {from = 'x', to = 'z'}]": "moved twice",
    "meta = 3": "a table of anything",
}


@pytest.mark.parametrize(("text", "message"), MODEL_FAULTS.items(), ids=list(MODEL_FAULTS))
def test_faults_of_a_model(text: str, message: str | None) -> None:
    """Each rule about one model is reported once, in words, at the model."""
    if message is None:
        parse(MODEL + text)
        return
    fault = only(MODEL + text)
    assert message in str(fault)
    assert fault.at.startswith('models."a@1"')
    assert fault.line is not None
    assert fault.line >= 2


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ("[]", "list is empty"),
        ("{priority = []}", "list is empty"),
        ("{}", '"priority" is missing'),
        ("{priority = ['local://x'], first = 1}", 'unknown key "first"'),
        ("'local://x'", "a list of URLs, or a table"),
        ("['x/y']", "local://PATH"),
        ("['local://']", "no source URL"),
        ("['s3://b/{nam}']", "is not one of"),
        ("['s3://b/{variant}']", "without variants"),
        ("[3]", "a list of URLs, or a table"),
        ("{priority = 'x'}", "a list of strings"),
    ],
)
def test_faults_of_sources(sources: str, message: str) -> None:
    """Sources that could never be tried are refused before anything is tried."""
    text = f'schema_version = 1\n[models."a@1"]\nsources = {sources}\n'
    assert message in str(only(text))


def test_no_sources_at_all() -> None:
    """A model without sources is refused at its own line."""
    fault = only('schema_version = 1\n\n[models."a@1"]\nmarks = []\n')
    assert "no sources" in fault.message
    assert fault.line == 3


FILE_FAULTS = {
    "path = 3": ("must be a relative POSIX path", ErrorCode.INVALID_MANIFEST),
    "path = ''": ("empty", ErrorCode.UNSAFE_PATH),
    "path = '../x'": ("'..'", ErrorCode.UNSAFE_PATH),
    "path = '/x'": ("absolute", ErrorCode.UNSAFE_PATH),
    "path = 'CON'": ("device", ErrorCode.UNSAFE_PATH),
    f"path = '{'x/' * 120}y'": ("241", ErrorCode.PATH_TOO_LONG),
    "size = 3": ('"path" is missing', ErrorCode.INVALID_MANIFEST),
    "path = 'a'\nsize = -1": ("at least 0", ErrorCode.INVALID_MANIFEST),
    "path = 'a'\nsize = 9223372036854775808": ("at most", ErrorCode.INVALID_MANIFEST),
    f"path = 'a'\nsize = {'9' * 4000}": ("many digits", ErrorCode.INVALID_MANIFEST),
    "path = 'a'\nsize = 1.0": ("an integer", ErrorCode.INVALID_MANIFEST),
    "path = 'a'\nsize = '1'": ("an integer", ErrorCode.INVALID_MANIFEST),
    "path = 'a'\nsize = true": ("an integer, not true", ErrorCode.INVALID_MANIFEST),
    "path = 'a'\nsize = [1]": ("not a list", ErrorCode.INVALID_MANIFEST),
    "path = 'a'\nsize = {a = 1}": ("not a table", ErrorCode.INVALID_MANIFEST),
    "path = 'a'\nsha256 = 'abc'": ("64 hexadecimal", ErrorCode.INVALID_MANIFEST),
    f"path = 'a'\nsha256 = '{'g' * 64}'": ("64 hexadecimal", ErrorCode.INVALID_MANIFEST),
    "path = 'a'\nsha256 = 1": ("64 hexadecimal", ErrorCode.INVALID_MANIFEST),
    "path = 'a'\ncomponent = ''": ("names nothing", ErrorCode.INVALID_MANIFEST),
    "path = 'a'\nvariant = 'x'": ("the model has none", ErrorCode.INVALID_MANIFEST),
    "path = 'a'\noptional = 0": ("true or false", ErrorCode.INVALID_MANIFEST),
    "path = 'a.pt'": ("run code", ErrorCode.POLICY_DENIED),
    f"path = 'A.PTH'\nsize = 3\nsha256 = '{SHA}'": (".PTH", ErrorCode.POLICY_DENIED),
    "path = 'a.bin'\nallow_pickle = true": ("a string", ErrorCode.INVALID_MANIFEST),
    "path = 'a.bin'\nallow_pickle = ' '": ("give the reason", ErrorCode.INVALID_MANIFEST),
    "path = 'a'\nsource_path = '../b'": ("'..'", ErrorCode.UNSAFE_PATH),
    f"path = 3\nsize = 3\nsha256 = '{SHA}'": ("relative POSIX path", ErrorCode.INVALID_MANIFEST),
    f"path = 'a'\nsize = -3\nsha256 = '{SHA}'": ("at least 0", ErrorCode.INVALID_MANIFEST),
    "path = 'a'\nshard_part = -1": ("at least 0", ErrorCode.INVALID_MANIFEST),
}


@pytest.mark.parametrize(("text", "expected"), FILE_FAULTS.items(), ids=range(len(FILE_FAULTS)))
def test_faults_of_a_file(text: str, expected: tuple[str, ErrorCode]) -> None:
    """Each rule about one file is reported with its code, at the entry."""
    found = faults(MODEL + '[[models."a@1".files]]\n' + text)
    message, code = expected
    assert any(message in fault.message and fault.code is code for fault in found)
    assert all(fault.at.startswith('models."a@1".files[0]') for fault in found)


def files(*names: str, extra: str = "") -> str:
    """A spec with these files, each with its size and hash."""
    return MODEL + extra + "".join(FILE.replace("f.json", name) for name in names)


@pytest.mark.parametrize(
    "names",
    [
        ("Model.bin.json", "model.bin.json"),
        ("é.json", "e\u0301.json"),
        ("a.json", "a.json"),
        ("a", "a/b.json"),
        ("a/b.json", "A/c.json"),
    ],
)
def test_colliding_names(names: tuple[str, str]) -> None:
    """Names that cannot lie side by side on some OS are NAME_COLLISION at the later one."""
    (fault, *_) = faults(files(*names))
    assert fault.code is ErrorCode.NAME_COLLISION
    assert 'models."a@1".files[' in fault.at


def test_one_path_in_two_variants_is_no_collision() -> None:
    """Each variant has a directory of its own."""
    variants = 'variants = ["x", "y"]\ndefault_variant = "x"\n'
    entry = '[[models."a@1".files]]\npath = "w.json"\nvariant = "{}"\n'
    both = MODEL + variants + entry.format("x") + entry.format("y")
    assert len(parse(both).models[0].files or ()) == 2
    shared = both + '[[models."a@1".files]]\npath = "w.json"\n'
    found = faults(shared)
    assert {fault.code for fault in found} == {ErrorCode.NAME_COLLISION}
    (fault,) = faults(both.replace('variant = "y"', 'variant = "z"'))
    assert "not one of the variants" in fault.message


def test_variants_and_ids_that_differ_by_case() -> None:
    """Two directories that are one on macOS are NAME_COLLISION."""
    variants = 'variants = ["x", "X", "x"]\ndefault_variant = "x"\n'
    assert {fault.code for fault in faults(MODEL + variants)} == {ErrorCode.NAME_COLLISION}
    other = '[models."A@1"]\nsources = ["local://x"]\n'
    assert only(MODEL + other).code is ErrorCode.NAME_COLLISION


def test_path_that_fits_alone_but_not_below_its_model_directory() -> None:
    """Model directory and path count together."""
    long = "x" * 60
    text = files("d/" * 110 + "f.json").replace("a@1", f"{long}@1")
    assert only(text).code is ErrorCode.PATH_TOO_LONG


def test_pickle_policy() -> None:
    """The policy or a reason lifts the refusal; a file that no pattern lets in is not asked."""
    assert faults(files("w.bin"))[0].code is ErrorCode.POLICY_DENIED
    allowed = files("w.bin").replace("[models", "[policy]\nallow_pickle = true\n[models", 1)
    assert parse(allowed).models[0].files
    assert parse(files("w.bin", "c.json", extra='ignore_patterns = ["*.bin"]\n')).models
    assert parse(files("w.bin", "c.json", extra='allow_patterns = ["*.json"]\n')).models
    reason = files("w.bin") + 'allow_pickle = "scanned"\n'
    assert parse(reason).models[0].files


@pytest.mark.parametrize(
    ("path", "allow", "ignore", "expected"),
    [
        ("a/b.json", (), (), True),
        ("a/b.json", ("*.json",), (), True),
        ("a/b.json", ("a/",), (), True),
        ("a/b.json", ("b/",), (), False),
        ("a/b.json", (), ("a/*",), False),
        ("a/b.json", ("*.json",), ("*/b.*",), False),
    ],
)
def test_patterns(
    path: str, allow: tuple[str, ...], ignore: tuple[str, ...], expected: bool
) -> None:
    """Patterns are shell patterns over the whole path; ignoring wins."""
    assert allowed_by_patterns(path, allow, ignore) is expected


def test_components_must_belong_to_a_file() -> None:
    """A component nobody has is a typing mistake; optional ones may be named freely."""
    text = files("vae/a.json", extra='components = ["vea"]\n')
    assert 'did you mean "vae"' in only(text).message
    assert parse(files("vae/a.json", extra='components = ["vae"]\n')).models
    extra = 'components = ["vae", "te"]\noptional_components = ["te"]\n'
    assert parse(files("vae/a.json", extra=extra)).models


def test_removed_and_declared() -> None:
    """A model cannot be declared and removed in one file; deleting is the default."""
    assert "still declared" in only(MODEL + '[[removed]]\nmodel = "a@1"\n').message
    assert parse(MODEL + '[[removed]]\nmodel = "b@1"\n').removed[0].delete is True


def test_defaults_stand_behind_a_models_own_keys() -> None:
    """Own value, then the file's defaults, then the nearest defaults.toml, then those above."""
    near = parse_defaults(
        b'family = "near"\n[defaults]\nmarks = ["near"]\nprotect = true\n', "specs/defaults.toml"
    )
    far = parse_defaults(
        b'schema_version = 1\nfamily = "far"\n[policy]\nmax_delete = 1\n'
        b'[defaults]\nmarks = ["far"]\nsources = ["local://far"]\nfps = 16\ntask = "t2v"\n',
        "defaults.toml",
    )
    manifest = parse(
        'schema_version = 1\n[defaults]\nfps = 24\n[models."a@1"]\ntask = "i2v"\n', (near, far)
    )
    (model,) = manifest.models
    assert manifest.family == "near"
    assert manifest.policy.max_delete == 1
    assert model.marks == ("near",)
    assert model.protect is True
    assert model.sources == ("local://far",)
    assert model.facts == {"fps": 24, "task": "i2v"}
    assert manifest.defaults == {"fps": 24}
    assert near.path == "specs/defaults.toml"
    assert len(near.sha256) == 64


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("schema_version = 2", ErrorCode.SCHEMA_VERSION_MISMATCH),
        ("[models]", ErrorCode.INVALID_MANIFEST),
        ("[defaults]\nfamly = 1", ErrorCode.INVALID_MANIFEST),
        ("family = '..'", ErrorCode.UNSAFE_PATH),
    ],
)
def test_faults_of_a_defaults_file(text: str, code: ErrorCode) -> None:
    """A defaults file holds no models, and its keys are checked like any others."""
    with pytest.raises(FaultGroup) as caught:
        parse_defaults(text.encode(), "defaults.toml")
    assert caught.value.code is code
    assert caught.value.faults[0].file == "defaults.toml"


def test_order_of_models_and_their_lines() -> None:
    """Models keep the order of the file, and each knows the line of its header."""
    text = (
        "schema_version = 1\n"
        "[models.'b@1']\nsources = ['local://x']\n"
        '[models."a@1"]\nsources = ["local://x"]\n'
    )
    assert [(model.id, model.line) for model in parse(text).models] == [("b@1", 2), ("a@1", 4)]
    escaped = 'schema_version = 1\n[models."\\u0061@1"]\nsources = ["local://x"]\n'
    assert parse(escaped).models[0].line == 1
    both = MODEL.replace("a@1", "b@1") + escaped.partition("\n")[2]
    assert [model.line for model in parse(both).models] == [2, 1]


def test_closed_list_of_facts() -> None:
    """Facts are model keys too, and every key has one line of documentation."""
    assert FACT_KEYS.keys() <= MODEL_KEYS.keys()
    assert all(key.doc and key.kind in Kind for key in MODEL_KEYS.values())


# Text: caps, encodings, and the shortcut for long files.

BOMBS = {
    "40 KB dotted key": b"a." * 20_000 + b"b = 1\n",
    "dotted key of strings": b'"a" . ' * 20_000 + b"b = 1\n",
    "dotted header": b"[" + b"a." * 20_000 + b"b]\n",
    "dotted key in an inline table": b"x = {" + b"a." * 20_000 + b"b = 1}\n",
    "nested arrays": b"a = " + b"[" * 100_000,
    "nested tables": b"a = " + b"{b = " * 50_000,
    "long integer": b"a = " + b"9" * 6_000 + b"\n",
    "too many values": b"a = [" + b"1," * (MAX_ENTRIES + 1) + b"]",
    "too large": b"#" * (MAX_MANIFEST_BYTES + 1),
    "not UTF-8": b"a = 1\nb = '\xff'\n",
    "not TOML": b"a = \n",
    "a key twice": b"a = 1\na = 2\n",
    "an open string": b'a = "x',
    "open multi-line string": b"'''" + b"''" * 100_000,
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=list(BOMBS))
def test_bomb_is_refused_quickly(data: bytes) -> None:
    """What would cost time or memory out of proportion is INVALID_MANIFEST at once."""
    start = time.thread_time()  # of this thread's own: the machine may be busy with something else
    with pytest.raises(FaultGroup) as caught:
        parse_manifest(data, "x.toml")
    assert time.thread_time() - start < 5
    assert caught.value.code is ErrorCode.INVALID_MANIFEST
    assert len(str(caught.value)) < 1000


def test_dotted_key_bomb_costs_no_memory() -> None:
    """The 40 KB dotted key that costs tomllib 1.5 GB costs less than 20 times its size."""
    data = BOMBS["40 KB dotted key"]
    tracemalloc.start()
    try:
        with pytest.raises(FaultGroup):
            parse_manifest(data, "x.toml")
        assert tracemalloc.get_traced_memory()[1] < 20 * len(data)
    finally:
        tracemalloc.stop()


def test_many_dots_in_strings_are_no_deep_key() -> None:
    """URLs and sentences may hold as many dots as they like; deep keys behind them are found."""
    dots = "a.b." * 20
    good = (
        f'x-a = "{dots}"  # {dots}\n'
        f"x-b = '{dots}'\n"
        f'x-c = """\n{dots}\n"""\n'
        f"x-d = '''{dots}'''\n"
    )
    assert parse("schema_version = 1\n" + good).models == ()
    fault = only("schema_version = 1\n" + good + f"x-{dots}c = 1\n")
    assert fault.line == 8


def test_byte_order_mark_and_windows_line_ends() -> None:
    """Files saved on Windows are read, and their faults have the right lines."""
    data = b"\xef\xbb\xbf" + (MODEL + FILE).replace("\n", "\r\n").encode()
    assert parse_manifest(data, "x").models[0].files
    with pytest.raises(FaultGroup) as caught:
        parse_manifest(data + b"sise = 1\r\n", "x")
    assert caught.value.faults[0].line == 8


@pytest.mark.parametrize(
    ("text", "line"), [("a = 1\nb =\n", 2), ("a = 1\n\n[b", 3), ("a = 1\na = 1\n", 2)]
)
def test_syntax_fault_has_its_line(text: str, line: int) -> None:
    """Tomllib's own complaint keeps its place, at the end of the file too."""
    fault = only(text)
    assert abs((fault.line or 0) - line) <= 1
    assert fault.message.startswith("not TOML: ")


HEADERS = ('[[models."a@1".files]]', "[[models.b.files]]", '[[ models."a@1".files ]]', "[models.c]")
LINES = (
    *('path = "x/y.json"', 'path = "z"', "size = 12", f'sha256 = "{SHA}"', "optional = true"),
    *("size = 0x10", "path = 'lit'", 'path = "a\\tb"', "", "# note", "  size=3 ", "a.b = 1"),
    *('path = """x"""', "size = [", "]", '"wanrec: blocks that stood before this one" = 0'),
    *('etag = "\\"1\\""', 'etag = "\\\\"', 'etag = "\\\\\\""', 'etag = "W/\\"a\\\\"', 'etag = ""'),
    *("size = 012", "[models.b.files.sub]", "[[models.b.files.deep]]", "[models]", "x = false\t"),
)
documents = st.lists(
    st.one_of(st.sampled_from(HEADERS), st.sampled_from(HEADERS[:2]), st.sampled_from(LINES)),
    max_size=25,
).map(lambda lines: "\n".join(lines) + "\n")


@given(documents)
@example(f"{HEADERS[0]}\nsize = 1\n{HEADERS[0]}\nsize = 2\n[models.b]\nfiles = [1]\n")
@example(f"{HEADERS[0]}\nsize = 1\n{HEADERS[0]}\nsize = 2\n[b\n")
@example(f"{HEADERS[0]}\nsize = 1\nsize = 2\n{HEADERS[0]}\nsize = 2\n")
@example(f"{HEADERS[0]}\nsize = 1\n{HEADERS[0]}\nsize = 2\n[models.b.files.sub]\n")
@example(f"{HEADERS[1]}\nsize = 1\n{HEADERS[1]}\nsize = 2\n[models.b.files.sub]\nx = 1\n" * 2)
@example(f"[[models]]\n{HEADERS[1]}\nsize = 1\n{HEADERS[1]}\nsize = 2\n")
def test_shortcut_reads_what_tomllib_reads(text: str) -> None:
    """Values, and whether there are any, never depend on the shortcut for plain blocks."""
    try:
        expected = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        with pytest.raises(FaultGroup):
            read_toml(text.encode(), "x")
        return
    assert read_toml(text.encode(), "x")[0] == expected


pieces = st.sampled_from(
    [
        *CONTRACT.splitlines(keepends=True),
        *FILE.splitlines(keepends=True),
        *("size = -1\n", "models = 3\n", "[models]\n", "x", '"', "[", "\x00", "files = [{}]\n"),
        *("[[models.'a@1'.files]]\n", "[models.'a@1']\n", "variants = ['x']\n", "path = 3\n"),
    ]
)


@given(st.lists(pieces, max_size=30).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but a FaultGroup ever comes out, and each fault can be printed on its line."""
    try:
        parse(text)
    except FaultGroup as group:
        lines = text.count("\n") + 1
        for fault in group.faults:
            assert fault.line is None or 1 <= fault.line <= lines
            assert str(fault).startswith("specs/x.toml")


@given(st.permutations(range(4)))
def test_order_of_models_does_not_change_them(order: list[int]) -> None:
    """The same blocks in another order are the same models."""
    blocks = [f'[models."m{n}@1"]\nsources = ["local://x"]\nfps = {n}\n' for n in range(4)]
    text = "schema_version = 1\n" + "".join(blocks[n] for n in order)
    found = {model.id: model.facts for model in parse(text).models}
    assert found == {f"m{n}@1": {"fps": n} for n in range(4)}


@pytest.mark.parametrize("more", ["", 'etag = "\\"0123abcd-2\\""\n'])
def test_long_file_is_hardly_read_by_tomllib(monkeypatch: pytest.MonkeyPatch, more: str) -> None:
    """Plain entries, those of a bucket's lock too, take the quick way; the bench measures it."""
    end = f'sha256 = "{SHA}"\n{more}\n'
    text = MODEL + "".join(
        f'[[models."a@1".files]]\npath = "d{n % 7}/{n}.json"\nsize = {n}\n{end}'
        for n in range(3_000)
    )

    slowly: list[str] = []

    def loads(part: str) -> dict[str, object]:
        slowly.append(part)
        return tomllib.loads(part)

    quick = types.SimpleNamespace(loads=loads, TOMLDecodeError=tomllib.TOMLDecodeError)
    monkeypatch.setattr(manifest_text, "tomllib", quick)
    found, _ = read_toml(text.encode(), "x")
    assert found == tomllib.loads(text)
    assert sum(map(len, slowly)) < len(text) / 100


def test_import_is_light() -> None:
    """Reading specs loads no JSON Schema, converter, click or networking module."""
    program = "import sys, wanrec.reconcile.manifest; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    ).stdout.split()
    heavy = {"cattrs", "jsonschema", "msgspec", "click", "difflib", "asyncio", "networkx", "rich"}
    assert not heavy & set(loaded)


def test_shipped_demo_is_valid(checkout: Path) -> None:
    """specs/demo.toml passes its own checks."""
    manifest = parse_manifest((checkout / "specs/demo.toml").read_bytes(), "specs/demo.toml")
    assert manifest.models
