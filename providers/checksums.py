"""Checksums that a source vouches for, looked at where nobody gave the sha256 of a file.

They say that what came is what the source has, and are never the identity of a file. The CRCs of
S3 other than CRC32 need awscrt (`pip install 'boto3[crt]'`), as they do for boto3 itself; without
it they are passed over.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import zlib
from collections.abc import Callable, Iterable, Mapping

import attrs

__all__ = ["Checksum", "RunningChecksum", "offered"]

_SIZES = {"crc64nvme": 8, "crc32c": 4, "crc32": 4}
"""What S3 offers besides a sha256, the best first, with the bytes of a value."""


@attrs.frozen
class Checksum:
    """The checksum of a whole file as its source gives it."""

    algorithm: str
    value: bytes

    def begin(self) -> RunningChecksum | None:
        """A checksum of no bytes yet, to be compared with this; None: cannot be computed here."""
        update = zlib.crc32 if self.algorithm == "crc32" else _of_awscrt(self.algorithm)
        return None if update is None else RunningChecksum(self, update)

    def holds(self, pieces: Iterable[memoryview]) -> bool:
        """False when a file of these pieces is another than the source vouches for."""
        running = self.begin()
        if running is None:
            return True
        for piece in pieces:
            running.update(piece)
        return running.holds()


class RunningChecksum:
    """The checksum of the bytes so far."""

    def __init__(self, wanted: Checksum, update: Callable[[memoryview, int], int]) -> None:
        self._wanted = wanted
        self._update = update
        self._value = 0

    def update(self, chunk: memoryview) -> None:
        """Take the next bytes."""
        self._value = self._update(chunk, self._value)

    def holds(self) -> bool:
        """True when the bytes are those the source vouches for."""
        return self._value == int.from_bytes(self._wanted.value, "big")


def offered(headers: Mapping[str, str]) -> Checksum | None:
    """The best checksum of a whole object in the headers of S3, or None.

    One that is made of the checksums of parts says nothing about the bytes as a whole.
    """
    if headers.get("x-amz-checksum-type", "FULL_OBJECT").upper() != "FULL_OBJECT":
        return None
    for algorithm, size in _SIZES.items():
        try:
            text = headers.get(f"x-amz-checksum-{algorithm}", "")
            value = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            continue
        if len(value) == size:
            return Checksum(algorithm, value)
    return None


def _of_awscrt(algorithm: str) -> Callable[[memoryview, int], int] | None:
    try:
        module = importlib.import_module("awscrt.checksums")
    except ImportError:
        return None
    return getattr(module, algorithm, None)
