"""BLAKE3 digests of the 16 MiB parts of one file: what they are, and how a record of them reads.

Pure: bytes in, digests out. Parts say *where* a big file is damaged and let several cores check
it; they are never an identity. A record is only as good as the sha256 it names: it is made from
bytes whose sha256 was computed in the same pass, and it vouches for nothing else. `blake3` is an
optional dependency; without it nothing is recorded and nothing is believed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from blake3 import blake3

__all__ = ["PART_BYTES", "PartDigests", "PartHasher", "decode", "digest_part", "encode", "hasher"]

PART_BYTES = 16 << 20
_FORMAT = 1
_DIGEST_BYTES = 32


class PartDigests(NamedTuple):
    """The digests of all parts of one content, in order."""

    sha256: str
    size: int
    digests: tuple[bytes, ...]

    def span(self, index: int) -> tuple[int, int]:
        """Offsets of the first byte of a part and of the byte after it."""
        return index * PART_BYTES, min((index + 1) * PART_BYTES, self.size)


class PartHasher:
    """Cuts a stream of chunks into parts and digests each."""

    def __init__(self, new: Callable[[], blake3]) -> None:
        self._new = new
        self._part = new()
        self._room = PART_BYTES
        self._digests: list[bytes] = []
        self._size = 0

    def update(self, chunk: memoryview) -> None:
        """Take the next bytes of the file."""
        self._size += len(chunk)
        while len(chunk) >= self._room:
            self._part.update(chunk[: self._room])
            chunk = chunk[self._room :]
            self._digests.append(self._part.digest())
            self._part, self._room = self._new(), PART_BYTES
        if len(chunk):
            self._part.update(chunk)
            self._room -= len(chunk)

    def finish(self, sha256: str) -> PartDigests:
        """Return the digests of what was taken, whose sha256 the caller computed meanwhile."""
        rest = [] if self._room == PART_BYTES else [self._part.digest()]
        return PartDigests(sha256, self._size, (*self._digests, *rest))


def hasher(size: int | None) -> PartHasher | None:
    """Return a hasher for a file that has more than one part, where `blake3` is installed."""
    new = _blake3() if size is not None and size > PART_BYTES else None
    return None if new is None else PartHasher(new)


def digest_part(
    read_at: Callable[[memoryview, int], int],
    span: tuple[int, int],
    buffer: memoryview,
    seen: Callable[[memoryview, int], None] | None = None,
) -> bytes:
    """Digest one part through `buffer`; a part that is cut short has a digest of its own.

    Args:
        read_at: fills a view from an offset and says how many bytes it got.
        span: offsets from `PartDigests.span`.
        buffer: working memory.
        seen: called with every chunk and its offset.

    Raises:
        ModuleNotFoundError: `blake3` is not installed; whoever has a record has it.
    """
    from blake3 import blake3

    digest, (at, stop) = blake3(), span
    while at < stop and (count := read_at(buffer[: min(len(buffer), stop - at)], at)):
        digest.update(buffer[:count])
        if seen is not None:
            seen(buffer[:count], at)
        at += count
    return digest.digest()


def encode(parts: PartDigests) -> bytes:
    """Return the record of these digests; its own checksum is in it."""
    body = {
        "format": _FORMAT,
        "sha256": parts.sha256,
        "size": parts.size,
        "part_bytes": PART_BYTES,
        "blake3": [digest.hex() for digest in parts.digests],
    }
    return json.dumps(body | {"check": _check(body)}).encode() + b"\n"


def decode(data: bytes, sha256: str, size: int) -> PartDigests | None:
    """Read the record of one content; None when it is damaged, foreign or cannot be used here."""
    if _blake3() is None:
        return None
    try:
        body = json.loads(data)
        check = body.pop("check")
        digests = tuple(bytes.fromhex(text) for text in body["blake3"])
        told = (body["format"], body["sha256"], body["size"], body["part_bytes"])
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    whole = len(digests) == -(-size // PART_BYTES) and {*map(len, digests)} == {_DIGEST_BYTES}
    if not whole or told != (_FORMAT, sha256, size, PART_BYTES) or check != _check(body):
        return None
    return PartDigests(sha256, size, digests)


def _check(body: object) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _blake3() -> Callable[[], blake3] | None:
    try:
        from blake3 import blake3
    except ImportError:
        return None
    return blake3
