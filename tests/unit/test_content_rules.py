"""What bytes may land: safetensors headers, shard indexes, formats that can run code."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import tempfile
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanrec.reconcile.content import ContentFault, inspect_content
from wanrec.reconcile.content_rules import (
    MAX_HEADER_BYTES,
    MAX_HEADER_ENTRIES,
    check_header,
    check_header_length,
    check_index,
    executable_format,
    is_index,
)
from wanrec.reconcile.errors import ErrorCode

WIDTH = {"BOOL": 1, "I8": 1, "F16": 2, "BF16": 2, "F32": 4, "I64": 8, "F64": 8}

tensors = st.dictionaries(
    st.text(max_size=12).filter(lambda name: name != "__metadata__"),
    st.tuples(st.sampled_from(sorted(WIDTH)), st.lists(st.integers(0, 5), max_size=3)),
    max_size=6,
)


def layout(wanted: dict[str, tuple[str, list[int]]]) -> tuple[dict[str, dict[str, object]], int]:
    """Lay tensors out back to back, as every writer of the format does."""
    position, table = 0, dict[str, dict[str, object]]()
    for name, (dtype, shape) in wanted.items():
        count = WIDTH[dtype]
        for size in shape:
            count *= size
        table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + count]}
        position += count
    return table, position


def packed(header: bytes, data: bytes) -> bytes:
    """A safetensors file."""
    return struct.pack("<Q", len(header)) + header + data


def judged(data: bytes, path: str, *, allow_pickle: bool = False) -> ContentFault | None:
    """Inspect bytes through a real file."""
    with tempfile.TemporaryFile() as handle:
        handle.write(data)
        handle.flush()
        return inspect_content(handle.fileno(), len(data), path, allow_pickle=allow_pickle)


def code_of(fault: ContentFault | None) -> ErrorCode | None:
    """The code, None when the bytes may land."""
    return None if fault is None else fault.code


def an_archive() -> bytes:
    """A zip with one member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.pkl", b"x" * 40)
    return buffer.getvalue()


@given(wanted=tensors, pad=st.integers(0, 9), meta=st.dictionaries(st.text(), st.text()))
def test_honest_header_passes(
    wanted: dict[str, tuple[str, list[int]]], pad: int, meta: dict[str, str]
) -> None:
    """Whatever a writer of the format produces is accepted, padded and annotated or not."""
    table, size = layout(wanted)
    header = json.dumps({"__metadata__": meta, **table}).encode() + b" " * pad
    assert check_header(header, size) is None
    assert judged(packed(header, b"\1" * size), "a.safetensors") is None


@given(wanted=tensors, extra=st.integers(-3, 3).filter(bool))
def test_data_of_another_length_is_refused(
    wanted: dict[str, tuple[str, list[int]]], extra: int
) -> None:
    """Trailing or missing tensor bytes never pass."""
    table, size = layout(wanted)
    assert check_header(json.dumps(table).encode(), size + extra) is not None


@given(data=st.binary(max_size=200))
def test_any_bytes_get_an_answer(data: bytes) -> None:
    """No content makes the inspection raise, whatever the suffix."""
    for name in ("x.safetensors", "x.json", "x.bin"):
        judged(data, name)


@given(header=st.binary(max_size=120), size=st.integers(0, 1000))
def test_any_header_gets_an_answer(header: bytes, size: int) -> None:
    """No header makes the check raise."""
    check_header(header, size)


def entry(**changes: object) -> str:
    """One F32 pair at the start of the data, with something changed."""
    return json.dumps({"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes)


def one(**changes: object) -> str:
    """A header with that one tensor."""
    return f'{{"a": {entry(**changes)}}}'


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (f'{{"a": {entry()}, "a": {entry()}}}', "stands twice"),
        ('{"a": {"dtype": "F32", "dtype": "F32"}}', "stands twice"),
        (f'{{"a": {entry()}, "b": {entry()}}}', "overlaps"),
        (one(data_offsets=[4, 12]), "gap"),
        (one(data_offsets=[8, 0]), "end before"),
        (one(data_offsets=[0, 8, 9]), "two sizes"),
        (one(data_offsets=[0, True]), "two sizes"),
        (one(data_offsets=[0, 2**70]), "two sizes"),
        (one(shape=[3]), "does not take"),
        (one(shape=[2**61] * 60), "does not take"),
        (one(shape=-1), "shape"),
        (one(dtype=None), "dtype"),
        ('{"a": 1}', "not an object"),
        ('{"__metadata__": {"a": 1}}', "__metadata__"),
        ('{"a": NaN}', "no JSON"),
        ('{"a": ' + "9" * 6000 + "}", "no JSON"),
        ('{"a": ' * 20000, "no JSON"),
        ("[]", "start with {"),
        (' {"a": 1}', "start with {"),
        ("{" + "," * (MAX_HEADER_ENTRIES + 1), "entries"),
    ],
)
def test_crooked_header_is_named(header: str, says: str) -> None:
    """Each way a header can lie is refused with its own words and without much memory."""
    problem = check_header(header.encode(), 8)
    assert problem is not None
    assert says in problem


def test_unknown_dtype_is_not_our_business() -> None:
    """A dtype of tomorrow is accepted as long as its data lies right."""
    assert check_header(one(dtype="Q3", shape=[5]).encode(), 8) is None


@pytest.mark.parametrize(
    ("prefix", "size"),
    [
        (b"", 0),
        (b"1234567", 7),
        (struct.pack("<Q", 2**62), 100),
        (struct.pack("<Q", MAX_HEADER_BYTES + 1), 2**40),
        (struct.pack("<Q", 93), 100),
        (struct.pack("<Q", 0), 100),
    ],
)
def test_header_length_is_bounded(prefix: bytes, size: int) -> None:
    """A length beyond the file or the format's cap is refused before anything is read."""
    assert isinstance(check_header_length(prefix, size), str)


@pytest.mark.parametrize("length", [0x280, 0x380, 0x480, 0x580, 0x10280])
def test_header_length_that_looks_like_a_pickle_passes(length: int) -> None:
    """An honest file whose length happens to spell a pickle's first bytes is not refused."""
    header = one().encode().ljust(length)
    assert judged(packed(header, b"\0" * 8), "model.safetensors") is None


def test_short_or_crooked_safetensors_is_incomplete() -> None:
    """A truncated file and one with trailing bytes are INCOMPLETE_MODEL; case does not matter."""
    whole = packed(one().encode(), b"\0" * 8)
    for data in (whole[:-1], whole + b"\0", b"", whole[:20]):
        assert code_of(judged(data, "A.SafeTensors")) is ErrorCode.INCOMPLETE_MODEL
    assert judged(whole[:-1], "a.gguf") is None


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", ["a.bin", "a.json", "a.safetensors", "noname"])
def test_pickle_is_refused_under_any_name(protocol: int, name: str) -> None:
    """The bytes decide: a pickle does not get in by another suffix."""
    assert code_of(judged(pickle.dumps({"a": 1}, protocol), name)) is ErrorCode.POLICY_DENIED


@pytest.mark.parametrize("protocol", [0, 1])
def test_text_pickle_that_calls_code_is_refused(protocol: int) -> None:
    """The old text pickles have no magic number; they are found by reading them."""
    assert code_of(judged(pickle.dumps(os.getcwd, protocol), "a.dat")) is ErrorCode.POLICY_DENIED


@pytest.mark.parametrize(
    "data",
    [
        an_archive(),
        b"\x1f\x8b\x08\x00rest",
        b"7z\xbc\xaf\x27\x1crest",
        b"Rar!\x1a\x07\x01\x00",
        b"BZh91AY&SYrest",
        b"\xfd7zXZ\x00rest",
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    ],
)
def test_archives_are_refused_unless_allowed(data: bytes) -> None:
    """A container that may hold a pickle falls under the same policy, and is lifted the same."""
    assert code_of(judged(data, "a.json")) is ErrorCode.POLICY_DENIED
    assert judged(data, "a.json", allow_pickle=True) is None


def test_tar_is_refused() -> None:
    """The oldest torch files are tar archives."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("pickle"), io.BytesIO())
    assert code_of(judged(buffer.getvalue(), "model.dat")) is ErrorCode.POLICY_DENIED


@pytest.mark.parametrize("behind", [b"", b"comment that nobody announced"])
def test_archive_behind_honest_tensors_is_refused(behind: bytes) -> None:
    """A safetensors file that is a zip archive too, for readers that look at the end."""
    data = an_archive() + behind
    header = {"a": {"dtype": "I8", "shape": [len(data)], "data_offsets": [0, len(data)]}}
    fault = judged(packed(json.dumps(header).encode(), data), "a.safetensors")
    assert code_of(fault) is ErrorCode.POLICY_DENIED


def test_end_mark_by_chance_passes() -> None:
    """Weights that happen to contain a zip end mark are no archive."""
    data = b"\7" * 500 + b"PK\x05\x06" + b"\3" * 60
    assert judged(data, "weights.gguf") is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"license: apache-2.0\nconfig.json\nintended use.\n",
        b'{"hidden_size": 384}',
        b"(c) 2024 the authors.\n",
        b"GGUF\x03\x00\x00\x00",
        b"\x08\x07\x12\x07pytorch",
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }",
        b"\xef\xbb\xbftext",
    ],
)
def test_plain_formats_pass(data: bytes) -> None:
    """Text, JSON, GGUF, ONNX and plain arrays are nobody's pickle."""
    assert executable_format(data) is None
    assert judged(data, "some.file") is None


def test_index_names_its_missing_shards() -> None:
    """A sharded model is whole only when every shard its index names is there."""
    index = json.dumps({"weight_map": {f"t{n}": f"m-{n:02}.safetensors" for n in range(8)}})
    present = {f"unet/m-{n:02}.safetensors" for n in range(8)}
    path = "unet/model.safetensors.index.json"
    assert is_index(path)
    assert not is_index("unet/config.json")
    assert check_index(index.encode(), path, present) is None
    fault = check_index(index.encode(), path, present - {"unet/m-03.safetensors"})
    assert fault is not None
    assert fault.code is ErrorCode.INCOMPLETE_MODEL
    assert "m-03" in fault.message
    nothing = check_index(index.encode(), path, ())
    assert nothing is not None
    assert "and 3 more" in nothing.message


@pytest.mark.parametrize("data", [b"", b"{", b'{"weight_map": []}', b'{"weight_map": {"a": 1}}'])
def test_crooked_index_is_incomplete(data: bytes) -> None:
    """An index that cannot be read cannot vouch for a model."""
    fault = check_index(data, "a.index.json", ())
    assert fault is not None
    assert fault.code is ErrorCode.INCOMPLETE_MODEL


def test_other_index_passes() -> None:
    """An index without a shard table says nothing about shards."""
    assert check_index(b'{"entries": 1}', "docs.index.json", ()) is None
