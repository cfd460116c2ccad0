"""Names: what is refused, why, and that what is accepted is safe and distinct everywhere."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanrec.reconcile.errors import ErrorCode
from wanrec.reconcile.names import (
    MAX_PATH_CHARS,
    MAX_SEGMENT_BYTES,
    check_model_id,
    check_path,
    check_segment,
    check_variant,
    collision_key,
    find_collisions,
    model_directory,
    nearest,
    split_model_id,
)

UNSAFE = {
    "": "empty",
    "/etc/passwd": "absolute",
    "\\\\host\\share": "absolute",
    "C:\\x": "drive",
    "c:x": "drive",
    "1:x": "':'",
    "a\\b": "write '/'",
    "../a": "'..'",
    "a/../b": "'..'",
    "a/./b": "'.'",
    ".": "'.'",
    "a//b": "empty part",
    "a/": "empty part",
    "a\0b": "control",
    "a\nb": "control",
    "a\x1bb": "control",
    "a\x85b": "control",
    "a\u2028b": "control",
    "a\u202eb": "disguise",
    "\u2066a": "disguise",
    "\ufeffa": "disguise",
    "a\ud800": "no character",
    "a\uffff": "no character",
    'a"b': "not allowed on every",
    "a<b": "not allowed on every",
    "a|b": "not allowed on every",
    "a?b": "not allowed on every",
    "a*b": "not allowed on every",
    "a.": "dot or a blank",
    "a ": "dot or a blank",
    "a./b": "dot or a blank",
    "CON": "device",
    "con.txt": "device",
    "x/NUL.tar.gz": "device",
    "aux ": "blank",
    "aux .c": "device",
    "COM1": "device",
    "lpt9.log": "device",
    "COM¹": "device",
    "CONIN$": "device",
    ".wanrec": "wanrec's own",
    ".wanrec/state.json": "wanrec's own",
    ".WanRec/x": "wanrec's own",
    ".wanrec./x": "wanrec's own",
    ".w\u200canrec/x": "wanrec's own",
    "WANREC~1/x": "wanrec's own",
}

SAFE = [
    "config.json",
    "1_Pooling/config.json",
    ".gitattributes",
    "vae/diffusion_pytorch_model-00001-of-00003.safetensors",
    " leading blank",
    "a b/c d.txt",
    "console/auxiliary.txt",
    "com10.txt",
    ".wanrecs/x",
    "wanrec~/x",
    "sub/.wanrec",
    "émoji 🎉.bin",
    "👩\u200d💻.txt",
    "模型/权重.safetensors",
    "a@b+c=d,e!f#g$h%i&j(k)[l]{m}^n'o;p~q",
]


@pytest.mark.parametrize(("path", "why"), UNSAFE.items(), ids=ascii)
def test_unsafe_path_is_refused_with_its_reason(path: str, why: str) -> None:
    """A path that some OS cannot hold, or that leaves its directory, is UNSAFE_PATH."""
    fault = check_path(path)
    assert fault is not None
    assert fault.code is ErrorCode.UNSAFE_PATH
    assert why in fault.message
    assert fault.message.isprintable()


@pytest.mark.parametrize("path", SAFE, ids=ascii)
def test_safe_path_is_accepted(path: str) -> None:
    """Names that every OS holds are accepted, emoji and blanks inside included."""
    assert check_path(path) is None


@pytest.mark.parametrize(
    "path",
    [
        "x" * (MAX_SEGMENT_BYTES + 1),
        "é" * 128,
        "d/" * 115 + "f",
        "x" * 5000 + "/y",
    ],
)
def test_too_long_path_is_told_apart(path: str) -> None:
    """Over 255 bytes a name, or over 230 characters a path, is PATH_TOO_LONG."""
    fault = check_path(path)
    assert fault is not None
    assert fault.code is ErrorCode.PATH_TOO_LONG
    assert len(fault.message) < 400


def test_longest_allowed_path() -> None:
    """The limits are inclusive."""
    assert check_path("x" * MAX_PATH_CHARS) is None
    assert check_path("é" * 100) is None
    assert check_segment("x" * MAX_SEGMENT_BYTES) is None


@given(st.text(max_size=40))
def test_check_path_never_raises_and_always_explains(path: str) -> None:
    """Any text at all is either accepted or refused with a printable reason."""
    fault = check_path(path)
    assert fault is None or (fault.message and fault.message.isprintable())


@given(st.text(alphabet="aA.~ /\\:*\u0301\u202e\ud800conNUL1", max_size=12))
def test_accepted_path_stays_inside(path: str) -> None:
    """What is accepted has only real parts, so joining it to a folder cannot leave the folder."""
    if check_path(path) is None:
        parts = path.split("/")
        assert not {"", ".", ".."} & set(parts)
        assert not any(part != part.rstrip(". ") for part in parts)
        path.encode()


@given(st.text(alphabet="abC.-_ con/é", min_size=1, max_size=20))
def test_short_cut_agrees_with_the_rules(path: str) -> None:
    """The one-match short cut accepts nothing that a rule refuses part by part."""
    if check_path(path) is None:
        assert all(check_segment(part) is None for part in path.split("/")[1:])


@pytest.mark.parametrize("name", ["wan22", "my-models", "模型"])
def test_good_segment(name: str) -> None:
    """A plain name is a segment."""
    assert check_segment(name) is None


@pytest.mark.parametrize("name", ["", "a/b", "..", ".wanrec", "wanrec~12", "nul"])
def test_bad_segment(name: str) -> None:
    """A family is one safe name and never wanrec's own directory."""
    fault = check_segment(name)
    assert fault is not None
    assert fault.code is ErrorCode.UNSAFE_PATH


@pytest.mark.parametrize("variant", ["fp16", "bf16-dev", "Q4_K_M"])
def test_good_variant(variant: str) -> None:
    """Usual variant names are accepted."""
    assert check_variant(variant) is None


@pytest.mark.parametrize("variant", ["", "a b", "a@b", "x[y]", "a/b"])
def test_bad_variant(variant: str) -> None:
    """A variant must fit between brackets and behind an @."""
    assert check_variant(variant) is not None


@pytest.mark.parametrize("model_id", ["t2v-A14B@2.2.0", "all-MiniLM-L6-v2@1.0.0", "a@1", "ü@1"])
def test_good_model_id(model_id: str) -> None:
    """NAME@VERSION is accepted."""
    assert check_model_id(model_id) is None


@pytest.mark.parametrize(
    "model_id",
    ["", "a", "@1", "a@", "a@1@2", "a b@1", "a[x]@1", "-a@1", "a/b@1", "CON@1", "a@1.", "a:b@1"],
)
def test_bad_model_id(model_id: str) -> None:
    """An id that could not be a directory or a word of a command line is INVALID_MODEL_ID."""
    fault = check_model_id(model_id)
    assert fault is not None
    assert fault.code is ErrorCode.INVALID_MODEL_ID


def test_long_model_id() -> None:
    """An id over 255 bytes is PATH_TOO_LONG, as every other name."""
    fault = check_model_id("x" * 200 + "@" + "1" * 100)
    assert fault is not None
    assert fault.code is ErrorCode.PATH_TOO_LONG


def test_split_and_directory() -> None:
    """The directory rule of the contract: the variant follows the id behind an @."""
    assert split_model_id("t2v-A14B@2.2.0") == ("t2v-A14B", "2.2.0")
    assert split_model_id("t2v-A14B") == ("t2v-A14B", "")
    assert model_directory("wan22", "a@1", None) == "wan22/a@1"
    assert model_directory("wan22", "a@1", "fp16") == "wan22/a@1@fp16"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Model.bin", "model.BIN"),
        ("é", "e\u0301"),
        ("É", "e\u0301"),
        ("straße", "STRASSE"),
        ("a\u200db", "ab"),
        ("ﬁ.bin", "FI.bin"),
    ],
)
def test_names_that_some_system_takes_for_one(one: str, other: str) -> None:
    """Case, normalisation and ignored characters do not keep names apart."""
    assert collision_key(one) == collision_key(other)
    assert find_collisions([one, other])


@given(st.text(max_size=10))
def test_collision_key_is_the_same_for_every_normal_form(text: str) -> None:
    """NFC and NFD of one name have one key, and the key of a key is itself."""
    key = collision_key(text)
    assert key == collision_key(unicodedata.normalize("NFD", text))
    assert key == collision_key(key)


def test_collisions_are_named() -> None:
    """Each collision says which two paths, and why."""
    found = find_collisions(["a/B", "a/b", "A/c", "x", "x/y", "same", "same", "deep/x/y/z"])
    assert [(path, other) for path, other, _ in found] == [
        ("A/c", "a/B"),
        ("a/b", "a/B"),
        ("same", "same"),
        ("x", "x/y"),
    ]
    reasons = " ".join(why for _, _, why in found)
    assert "are one" in reasons
    assert "the same path twice" in reasons
    assert "needs a folder" in reasons


def test_collision_of_a_file_with_a_folder_of_other_case() -> None:
    """`Vae` as a file and `vae/x` as a folder cannot both be there."""
    assert find_collisions(["vae/x", "Vae"])


@given(st.lists(st.sampled_from(["a", "b/c", "b/d", "e", "f/g/h"]), unique=True))
def test_distinct_paths_do_not_collide(paths: list[str]) -> None:
    """Paths that differ by more than case lie side by side, in any order."""
    assert find_collisions(paths) == []


def test_nearest() -> None:
    """A typing mistake finds its word; something else finds nothing."""
    assert nearest("sise", ["size", "path"]) == "size"
    assert nearest("SIZE", ["size", "path"]) == "size"
    assert nearest("Path", ["path", "PATH"]) == "PATH"
    assert nearest("zzz", ["size"]) is None
    assert nearest("x" * 1000, ["x"]) is None
