"""Lock files: text and values say the same, and nothing wrong gets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanrec.reconcile.errors import ErrorCode, FaultGroup
from wanrec.reconcile.lockfile import (
    LockedFile,
    LockedModel,
    LockFile,
    declaration_digest,
    dump_lock,
    lock_path,
    pin_source,
)
from wanrec.reconcile.lockfile_parse import NEWER_HINT, parse_lock, read_lock
from wanrec.reconcile.manifest import ModelDecl, parse_manifest

DIGEST = "0123456789abcdef" * 4
NAME = "specs/a.lock.toml"

optional_texts = st.none() | st.text("abc/äü é\"'\\", min_size=1, max_size=8)
locked_files = st.builds(
    LockedFile,
    path=st.sampled_from(("a.bin", "b/c.json", "b/d.txt", "ü.onnx")),
    size=st.integers(0, 2**63 - 1),
    sha256=st.just(DIGEST),
    etag=optional_texts,
    source_path=st.none() | st.sampled_from(("x.bin", "y/z.json")),
    component=st.none() | st.just("vae"),
    variant=st.just("fp16"),
    optional=st.booleans(),
)
locked_models = st.builds(
    LockedModel,
    spec_sha256=st.just(DIGEST),
    revisions=st.dictionaries(st.sampled_from(("hf://a/b", "hf://a/c@main")), st.just("f" * 40)),
    files=st.lists(locked_files, max_size=4, unique_by=lambda file: file.path).map(
        lambda files: tuple(sorted(files, key=lambda file: file.path))
    ),
)


def document(entry: str = "", model: str = "", top: str = "") -> bytes:
    """A lock file that is right but for what is put in."""
    return (
        f'schema_version = 1\n{top}\n[models."a@1"]\nspec_sha256 = "{DIGEST}"\n{model}\n'
        f'[[models."a@1".files]]\npath = "x.json"\nsize = 1\nsha256 = "{DIGEST.upper()}"\n{entry}\n'
    ).encode()


def faults(data: bytes) -> list[tuple[str, ErrorCode]]:
    """What parse_lock has to say against a file."""
    with pytest.raises(FaultGroup) as caught:
        parse_lock(data, NAME)
    again = "write it again: wanrec lock specs/a.toml"
    newer = caught.value.code is ErrorCode.SCHEMA_VERSION_MISMATCH
    assert caught.value.hint in ("", NEWER_HINT if newer else again)
    return [(str(fault), fault.code) for fault in caught.value.faults]


@given(st.dictionaries(st.sampled_from(("a@1", "b.c@2.0")), locked_models))
def test_round_trip(models: dict[str, LockedModel]) -> None:
    """What is dumped is parsed again, whatever the order it was put together in."""
    text = dump_lock(LockFile(path=NAME, models=models))
    parsed = parse_lock(text.encode(), NAME)
    assert parsed.models == models
    again = LockFile(path="", models=dict(reversed(parsed.models.items())))
    assert dump_lock(again) == text


def test_a_zero_size_is_kept() -> None:
    """An empty file has a size: 0."""
    locked = LockedModel(spec_sha256=DIGEST, files=(LockedFile(path="x", size=0, sha256=DIGEST),))
    text = dump_lock(LockFile(path=NAME, models={"a@1": locked}))
    assert parse_lock(text.encode(), NAME).models["a@1"] == locked
    assert text.startswith("# Written by `wanrec lock`")


def test_digests_are_lower_case() -> None:
    """Hex digits compare equal however they are written."""
    assert parse_lock(document(), NAME).models["a@1"].files[0].sha256 == DIGEST


@pytest.mark.parametrize(
    ("data", "message", "code"),
    [
        (b"schema_version = 2", "reads 1", ErrorCode.SCHEMA_VERSION_MISMATCH),
        (b"models = {}", "schema_version", ErrorCode.INVALID_MANIFEST),
        (b"schema_version =", "not TOML", ErrorCode.INVALID_MANIFEST),
        (b"schema_version = 1\n<<<<<<< HEAD\n", ":2: an unresolved merge conflict", None),
        (b"schema_version = 1\nmodels = {}\n>>>>>>> b\n", ":3: an unresolved merge", None),
        (document("sise = 3"), 'unknown key "sise"; did you mean "size"?', None),
        (document(top='modles = "x"'), 'did you mean "models"?', None),
        (document('optional = "no"'), "true or false", None),
        (document().replace(b"size = 1", b"size = -1"), "at least 0", None),
        (document().replace(b"size = 1", b"size = true"), "must be an integer", None),
        (document().replace(b"size = 1", b""), '"size" is missing', None),
        (document().replace(b"x.json", b"../x"), "..", ErrorCode.UNSAFE_PATH),
        (document().replace(b"a@1", b"a"), "NAME@VERSION", ErrorCode.INVALID_MODEL_ID),
        (document(model='revisions = {"hf://a/b" = 3}'), "must be a string", None),
        (
            document(f'[[models."a@1".files]]\npath = "X.json"\nsize = 2\nsha256 = "{DIGEST}"'),
            "collide",
            ErrorCode.NAME_COLLISION,
        ),
    ],
)
def test_faults(data: bytes, message: str, code: ErrorCode | None) -> None:
    """Each fault has its file, line, message and code."""
    ((text, found),) = faults(data)
    assert message in text
    assert text.startswith(f"{NAME}:")
    assert found is (code or ErrorCode.INVALID_MANIFEST)


def test_all_faults_at_once() -> None:
    """A file with three faults tells all three."""
    assert len(faults(document("sise = 1\nvariant = 2", model="files2 = []"))) == 3


def written() -> str:
    """A lock file of two models, as `wanrec lock` writes it."""
    one, two = (LockedFile(path=path, size=1, sha256=DIGEST) for path in ("x.json", "y.json"))
    first = LockedModel(
        spec_sha256=DIGEST,
        revisions={"hf://a/b": "f" * 40},
        files=(one, two),
        unpinned=("z.json",),
    )
    second = LockedModel(spec_sha256=DIGEST, files=(one,))
    return dump_lock(LockFile(path=NAME, models={"a@1": first, "b@1": second}))


LAST = written().index('[[models."b@1".files]]')


@pytest.mark.parametrize(
    ("edited", "model"),
    [
        (written().replace("size = 1", "size = 2", 1), "a@1"),
        (written().replace('sha256 = "0123', 'sha256 = "1123', 1), "a@1"),
        (written().replace("y.json", "w.json"), "a@1"),
        (written().replace('"z.json",', ""), "a@1"),
        (written().replace("f" * 40, "e" * 40), "a@1"),
        (written().replace("size = 1", 'size = 1\netag = "1"', 1), "a@1"),
        (written()[:LAST], "b@1"),
        (written() + "optional = true\n", "b@1"),
        (written().replace('"b@1"', '"c@1"'), "c@1"),
        (written() + f'[models."c@1"]\nspec_sha256 = "{DIGEST}"\n', "c@1"),
    ],
)
def test_an_edit_by_hand_is_refused(edited: str, model: str) -> None:
    """Whatever is changed, added or taken out of an entry, the entry is named with its line."""
    found = faults(edited.encode())
    assert all(code is ErrorCode.LOCK_OUTDATED for _, code in found)
    assert f'models."{model}"' in found[-1][0] and "edited by hand" in found[-1][0]
    line = int(found[-1][0].split(":")[1])
    assert f'[models."{model}"' in edited.splitlines()[line - 1]
    read = read_lock(edited.encode(), NAME)
    assert model in read.edited and model not in read.lock.models


def test_the_layout_is_no_edit() -> None:
    """Line ends, comments, order and case of digits say nothing, so they may be anything."""
    text = written().replace("\n", "\r\n") + "# reviewed\r\n"
    assert parse_lock(text.encode(), NAME).models == parse_lock(written().encode(), NAME).models
    upper = written().replace(f'sha256 = "{DIGEST}"', f'sha256 = "{DIGEST.upper()}"')
    assert parse_lock(upper.encode(), NAME).models == parse_lock(written().encode(), NAME).models


def test_a_lock_without_digests_is_of_an_earlier_version() -> None:
    """It is believed as it stands; the first entry that has one makes them needed."""
    lines = written().splitlines(keepends=True)
    bare = "".join(line for line in lines if not line.startswith("entry_sha256"))
    assert parse_lock(bare.encode(), NAME).models.keys() == {"a@1", "b@1"}


def test_names() -> None:
    """The lock file lies beside its spec."""
    assert lock_path("a/wan22.toml") == "a/wan22.lock.toml"


@pytest.mark.parametrize(
    ("url", "pinned"),
    [
        ("hf://org/name", "hf://org/name@abc"),
        ("hf://org/name@main", "hf://org/name@abc"),
        ("hf://org/name@main/sub/dir", "hf://org/name@abc/sub/dir"),
        ("hf://org/name/sub", "hf://org/name@abc/sub"),
        ("s3://bucket/x@y", "s3://bucket/x@y"),
    ],
)
def test_pinned_sources(url: str, pinned: str) -> None:
    """A Hub URL names the locked commit; other schemes know no revision."""
    assert pin_source(url, "abc") == pinned


def decl(text: str) -> ModelDecl:
    """The one model of a spec text."""
    head = 'schema_version = 1\n[models."a@1"]\nsources = ["local://m"]\n'
    return parse_manifest((head + text).encode(), "a.toml").models[0]


def test_declaration_digest() -> None:
    """The digest changes with what the lock depends on, and with nothing else."""
    base = declaration_digest(decl(""))
    assert base == declaration_digest(decl('marks = ["x"]\nprotect = true\n'))
    assert base != declaration_digest(decl('ignore_patterns = ["*.md"]\n'))
    assert base != declaration_digest(decl('variants = ["b"]\ndefault_variant = "b"\n'))
    listed = declaration_digest(decl('files = [{path = "x"}, {path = "y"}]\n'))
    assert listed not in (base, declaration_digest(decl('files = [{path = "x"}]\n')))
    sized = decl('files = [{path = "y", size = 3}, {path = "x"}]\n')
    assert listed == declaration_digest(sized)
