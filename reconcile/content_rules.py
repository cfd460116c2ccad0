"""What bytes must look like before they may land: rules on bytes that are already in memory.

Three questions: is this safetensors header whole and honest, does this sharded model have all its
shards, and does this file carry a pickle (or an archive that may) whatever its name says. Nothing
here opens a file, executes or unpickles anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Mapping

import attrs

from wanrec.reconcile.errors import ErrorCode

__all__ = [
    "HEAD_BYTES",
    "MAX_HEADER_BYTES",
    "MAX_HEADER_ENTRIES",
    "TAIL_BYTES",
    "ContentFault",
    "archive_marks",
    "check_header",
    "check_header_length",
    "check_index",
    "executable_format",
    "is_index",
    "is_pickle_stream",
]

MAX_HEADER_BYTES = 100_000_000
"""The cap the safetensors format itself sets."""
MAX_HEADER_ENTRIES = 4_000_000
"""Commas and brackets in a header; parsing more would cost gigabytes."""
HEAD_BYTES = 64 * 1024
TAIL_BYTES = 22 + 65_535
"""The longest tail that can hold a zip file's end record with its comment."""
_MAX_OPCODES = 100_000
_MAX_ELEMENTS = 1 << 62
_NAMED_MISSING = 5
_MAX_MARKS = 32
_ZIP_END = b"PK\x05\x06"
_ZIP64_LOCATOR = b"PK\x06\x07"

_BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
_MAGIC = (
    (b"PK\x03\x04", "a zip archive (torch.save, .npz and .jit are zip archives)"),
    (b"PK\x05\x06", "a zip archive"),
    (b"PK\x07\x08", "a zip archive"),
    (b"\x1f\x8b", "a gzip stream"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\xfd7zXZ\x00", "an xz stream"),
    (b"\x28\xb5\x2f\xfd", "a zstd stream"),
)
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_BZIP2 = re.compile(rb"BZh[1-9]1AY&SY")
_NPY_OBJECT = re.compile(rb"\x93NUMPY.{4,8}\{[^}]*\|O", re.DOTALL)
_NEEDS_CODE = frozenset({"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "REDUCE", "EXT1", "EXT2", "EXT4"})


@attrs.frozen(kw_only=True)
class ContentFault:
    """Why bytes may not land: INCOMPLETE_MODEL or POLICY_DENIED, and one line for people."""

    code: ErrorCode
    message: str


def check_header_length(prefix: bytes, size: int) -> int | str:
    """Return the length of a safetensors header, or what is wrong with it.

    Args:
        prefix: the first eight bytes of the file (fewer when it is shorter).
        size: bytes of the whole file.
    """
    if len(prefix) < 8:
        return f"{size} bytes are too few for a safetensors header"
    length = int.from_bytes(prefix[:8], "little")
    if length > MAX_HEADER_BYTES:
        return f"the safetensors header claims {length} bytes, more than {MAX_HEADER_BYTES}"
    if length < 2 or 8 + length > size:
        return f"the safetensors header claims {length} bytes of a file of {size}"
    return length


def check_header(header: bytes, data_size: int) -> str | None:
    """Return what is wrong with a safetensors header, None when it is right.

    The tensors must cover the `data_size` bytes after the header exactly: no gap, no overlap, no
    trailing bytes. A dtype this version does not know is accepted without its size check.
    """
    if sum(header.count(mark) for mark in (b",", b"[", b"{")) > MAX_HEADER_ENTRIES:
        return f"the safetensors header has more than {MAX_HEADER_ENTRIES} entries"
    if not header.startswith(b"{"):
        return "the safetensors header does not start with {"
    try:
        tensors = json.loads(
            header.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as exc:
        return f"the safetensors header is no JSON object: {exc}"
    metadata = tensors.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        return "__metadata__ of the safetensors header is not a table of texts"
    spans = []
    for name, tensor in tensors.items():
        span = _span(tensor)
        if isinstance(span, str):
            return f"tensor {_short(name)}: {span}"
        spans.append((*span, name))
    return _uncovered(spans, data_size)


def _uncovered(spans: list[tuple[int, int, str]], data_size: int) -> str | None:
    position = 0
    for start, end, name in sorted(spans):
        if start != position:
            what = "overlaps the one before" if start < position else "leaves a gap"
            return f"tensor {_short(name)}: its data {what} (at {start}, expected {position})"
        position = end
    if position < data_size:
        return f"{data_size - position} bytes after the last tensor"
    if position > data_size:
        return f"the last {position - data_size} bytes of tensor data are missing"
    return None


def _span(tensor: object) -> tuple[int, int] | str:
    """Return `(start, end)` of a tensor's data, or what is wrong with the entry."""
    if not isinstance(tensor, dict):
        return "not an object"
    offsets, shape, dtype = (tensor.get(key) for key in ("data_offsets", "shape", "dtype"))
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(map(_is_count, offsets))):
        return "data_offsets are not two sizes"
    if not (isinstance(shape, list) and all(map(_is_count, shape))):
        return "shape is not a list of sizes"
    if not isinstance(dtype, str):
        return "dtype is missing"
    start, end = offsets
    if end < start:
        return f"data_offsets end before they start ({start}, {end})"
    bits = _BITS.get(dtype)
    elements = _elements(shape)
    if bits is not None and elements * bits != (end - start) * 8:
        return f"{dtype} {_short(str(shape))} does not take {end - start} bytes"
    return start, end


def _elements(shape: list[int]) -> int:
    if 0 in shape:
        return 0
    elements = 1
    for size in shape:
        elements *= size
        if elements > _MAX_ELEMENTS:
            # More than any file holds; going on would only build a huge number.
            break
    return elements


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MAX_ELEMENTS


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # the idiom
        raise ValueError(f"key {_short(twice)} stands twice")
    return table


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is no JSON")


def _short(text: str) -> str:
    return ascii(text if len(text) <= 80 else text[:77] + "...")


def is_index(path: str) -> bool:
    """True for the index file of a sharded model."""
    return path.endswith(".index.json")


def check_index(
    data: bytes, path: str, present: Container[str] | Mapping[str, int]
) -> ContentFault | None:
    """Check that every shard an index names is there.

    Args:
        data: content of the index file.
        path: its path inside the model; shards are named relative to its folder.
        present: paths inside the model that are there (or will be).
    """
    try:
        index = json.loads(data)
    except (ValueError, RecursionError) as exc:
        return _incomplete(f"the index is no JSON: {exc}")
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if shards is None:
        return None
    if not isinstance(shards, dict) or not all(isinstance(s, str) for s in shards.values()):
        return _incomplete("weight_map is not a table of file names")
    folder = path.rpartition("/")[0]
    needed = sorted({f"{folder}/{shard}" if folder else shard for shard in shards.values()})
    missing = [shard for shard in needed if shard not in present]
    if not missing:
        return None
    named = ", ".join(_short(shard)[1:-1] for shard in missing[:_NAMED_MISSING])
    more = f" and {len(missing) - _NAMED_MISSING} more" if len(missing) > _NAMED_MISSING else ""
    return _incomplete(f"{len(missing)} of {len(needed)} shards are missing: {named}{more}")


def _incomplete(message: str) -> ContentFault:
    return ContentFault(code=ErrorCode.INCOMPLETE_MODEL, message=message)


def executable_format(head: bytes) -> str | None:
    """Name the format in which `head` begins when that format is, or may carry, a pickle."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if _PICKLE.match(head) or (head[:1] in b"(c}]lid" and is_pickle_stream(head)):
        return "a pickle"
    if _BZIP2.match(head):
        return "a bzip2 stream"
    if head[257:262] == b"ustar":
        return "a tar archive"
    return "a NumPy array of pickled objects" if _NPY_OBJECT.match(head[:4096]) else None


def is_pickle_stream(head: bytes) -> bool:
    """True when the bytes parse as a pickle that calls code. They are never run.

    Needed where the first bytes alone do not tell: text pickles have no magic number, and an
    honest safetensors file may begin with the bytes of one.
    """
    import pickletools

    calls = False
    try:
        for count, (opcode, _, _) in enumerate(pickletools.genops(head)):
            calls = calls or opcode.name in _NEEDS_CODE
            if opcode.name == "STOP" or count > _MAX_OPCODES:
                return calls
    except Exception:  # noqa: BLE001  (the parser raises many kinds for "no pickle")
        return False
    return False


def archive_marks(tail: bytes, size: int) -> tuple[tuple[int, bytes], ...]:
    """Return `(offset, signature)` pairs, one of which a zip archive at the end of a file has.

    Archive readers look for the archive at the end, whatever the file begins with. The caller
    looks whether the signature stands at the offset; a chance match in weights ends there.

    Args:
        tail: the last `TAIL_BYTES` of the file, or all of it.
        size: bytes of the whole file.
    """
    marks: list[tuple[int, bytes]] = []
    if _ZIP_END not in tail:  # ten times as fast as to look from the end
        return ()
    position = len(tail)
    while len(marks) < _MAX_MARKS and (position := tail.rfind(_ZIP_END, 0, position)) >= 0:
        record = tail[position : position + 16]
        start = size - len(tail) + position - int.from_bytes(record[12:16], "little")
        if start >= 0:
            marks.append((start, b"PK\x01\x02"))
        locator = tail[max(0, position - 20) : position]
        if locator.startswith(_ZIP64_LOCATOR):
            marks.append((int.from_bytes(locator[8:16], "little"), b"PK\x06\x06"))
    return tuple(marks)
