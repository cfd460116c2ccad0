"""How names, sizes, digests and sources are spelled in every form made for people.

Text in, text out. What comes from a spec, a disk or a server may hold anything; after `escaped` it
holds nothing that moves a cursor, hides itself or turns the reading direction. Colour only repeats
what a symbol already says, and no two meanings differ by red against green.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

__all__ = [
    "bullet",
    "columns",
    "escaped",
    "human_bytes",
    "paint",
    "plural",
    "short_digest",
    "short_source",
    "to_width",
    "width",
]

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_STEP = 1024
_DIGEST_DIGITS = 4
_BYTE = 0x100
_BMP = 0x10000
_STYLES = {
    "+": "1;34",
    "?": "36",
    "-/+": "33",
    "~": "33",
    "-": "1;35",
    "@": "34",
    ">": "34",
    ".": "2",
    "!": "1;35",
    "bold": "1",
}


def human_bytes(count: int) -> str:
    """Return a size in binary units: ``724 B``, ``484.1 MiB``; one decimal from KiB on."""
    if count < _STEP:
        return f"{count} B"
    tenths, power = _tenths(count, 1), 1
    while tenths >= _STEP * 10 and power < len(_UNITS):
        power += 1
        tenths = _tenths(count, power)
    return f"{tenths // 10}.{tenths % 10} {_UNITS[power - 1]}"


def _tenths(count: int, power: int) -> int:
    divisor: int = _STEP**power
    return (count * 20 + divisor) // (2 * divisor)


def escaped(text: str) -> str:
    r"""Return the text with every unprintable character spelled out, as ``\x1b`` or ``\u202e``.

    That covers control characters, line ends, bidirectional marks, zero-width characters, lone
    surrogates and spaces that only look like one.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _code(ord(char)) for char in text)


def _code(point: int) -> str:
    if point < _BYTE:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < _BMP else f"\\U{point:08x}"


def width(text: str) -> int:
    """Return how many terminal columns the (escaped) text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_char_width, text))


@functools.lru_cache(maxsize=1024)
def _char_width(char: str) -> int:
    import unicodedata

    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def to_width(text: str, columns_wanted: int) -> str:
    """Return the text padded on the right to so many columns; longer text stays as it is."""
    return text + " " * (columns_wanted - width(text))


def short_digest(sha256: str | None) -> str:
    """Return ``sha256:0d1c…``, or nothing for an unknown digest."""
    return "" if sha256 is None else f"sha256:{escaped(sha256[:_DIGEST_DIGITS])}…"


def short_source(url: str) -> str:
    """Return the part of a source URL that tells who delivers: ``s3://ai-models/…``.

    User info, query and everything below the bucket, host, package or repository are left out,
    absolute local paths wholly: they are somebody's home and differ between machines.
    """
    scheme, sep, rest = escaped(url).partition("://")
    if not sep:
        return scheme.partition("?")[0]
    rest = rest.partition("?")[0].partition("#")[0]
    segments = rest.split("/")
    keep = 2 if scheme == "hf" else 1
    if scheme != "hf":
        segments[0] = segments[0].rpartition("@")[2]
    shown = "/".join(segments[:keep])
    return f"{scheme}://{shown}" + ("/…" if len(segments) > keep else "")


def paint(text: str, style: str, color: bool) -> str:
    """Return the text in the colour of a symbol, or as it is when colour is off."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if color else text


def plural(count: int, noun: str) -> str:
    """Return ``1 file``, ``2 files``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def bullet(text: str, indent: str = "  ") -> str:
    """Return a message as an indented, escaped item; its further lines indented once more."""
    first, *rest = text.splitlines() or [""]
    return "\n".join(
        [f"{indent}{escaped(first)}", *(f"{indent}  {escaped(line.rstrip())}" for line in rest)]
    )


def columns(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table: escaped cells, left-aligned columns two spaces apart, no trailing space."""
    table = [tuple(header), *(tuple(escaped(cell) for cell in row) for row in rows)]
    widths = [max(width(cell) for cell in column) for column in zip(*table, strict=True)]
    lines = (
        "  ".join(to_width(cell, wide) for cell, wide in zip(row, widths, strict=True)).rstrip()
        for row in table
    )
    return "\n".join(lines) + "\n"
