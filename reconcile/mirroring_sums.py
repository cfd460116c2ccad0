"""SHA256SUMS of a mirror ↔ name and digest, in the form `sha256sum -c` reads.

Pure. Names that `sha256sum` would escape have a backslash at the start of the line, and inside
one before each escape, as it does itself. Lines that say nothing are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["SUMS", "dump_sums", "parse_sums"]

SUMS = "SHA256SUMS"
_line = re.compile(r"(\\?)([0-9a-f]{64}) [ *](.+)").fullmatch
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}
_MEANT = {escape: char for char, escape in _ESCAPES.items()}


def parse_sums(data: bytes) -> dict[str, str]:
    """Return name → sha256."""
    sums = {}
    for line in data.decode("utf-8", "replace").split("\n"):
        match = _line(line)
        if match is not None:
            name = re.sub(r"\\.", lambda m: _MEANT.get(m[0], m[0]), match[3])
            sums[name if match[1] else match[3]] = match[2]
    return sums


def dump_sums(sums: Mapping[str, str]) -> bytes:
    """Return the file, sorted by name."""
    lines = []
    for name, sha256 in sorted(sums.items()):
        escaped = re.sub(r"[\\\n\r]", lambda m: _ESCAPES[m[0]], name)
        lines.append(f"{'' if escaped == name else chr(92)}{sha256}  {escaped}\n")
    return "".join(lines).encode()
