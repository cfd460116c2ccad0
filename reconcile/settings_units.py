"""Sizes, rates and durations as people write them: text or number in, a number out.

Pure. ``GiB`` is 1024 based, ``GB`` 1000 based, a bare ``G`` 1024 based as in rclone and s5cmd.
A ValueError says what was wrong and shows a right one; whoever knows the key translates it.
"""

from __future__ import annotations

import re

__all__ = ["parse_duration", "parse_rate", "parse_size"]

# Compiled when a value has to be read: most runs read none.
_SIZE = r"(?ia)\s*(\d+(?:\.\d+)?)\s*(?:([kmgtp])(i?)(b?)|b)?\s*"
_PART = r"(?ia)(\d+(?:\.\d+)?)\s*(ms|[smhdw])\s*"
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LARGEST = 2**63 - 1


def parse_size(value: str | int) -> int:
    """Return bytes for ``1073741824``, ``"10 GiB"``, ``"500MB"`` or ``"64K"``.

    Raises:
        ValueError: it is not a size, it is negative, or it has no place in 63 bits.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError('expected a size such as 1073741824 or "10 GiB"')
    number = value if isinstance(value, int) else _size_of_text(value)
    if not 0 <= number <= _LARGEST:
        raise ValueError(f"a size lies between 0 and {_LARGEST} bytes")
    return number


def parse_rate(value: str | int) -> int:
    """Return bytes a second for whatever `parse_size` takes, ``/s`` allowed behind it.

    Raises:
        ValueError: it is not a size, or it is zero.
    """
    rate = parse_size(re.sub(r"\s*/\s*s\s*$", "", value) if isinstance(value, str) else value)
    if rate == 0:
        raise ValueError('a rate is more than zero, for example "50 MiB/s"')
    return rate


def parse_duration(value: str | int | float) -> float:
    """Return seconds for ``600``, ``"10m"``, ``"1h30m"`` or ``"7d"``; whole ones as int.

    Raises:
        ValueError: it is not a duration, it is negative, or it is longer than a century.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError('expected seconds or a duration such as "10m" or "7d"')
    seconds = _seconds_of_text(value) if isinstance(value, str) else value
    if not 0 <= seconds <= 100 * 366 * 86400:
        raise ValueError("a duration is neither negative nor longer than a century")
    return int(seconds) if seconds == int(seconds) else seconds


def _size_of_text(text: str) -> int:
    match = re.fullmatch(_SIZE, text)
    if match is None:
        raise ValueError(f'{text!r} is not a size; write 1073741824, "10 GiB" or "500MB"')
    digits, prefix, binary, byte = match.groups()
    exponent = 1 + "kmgtp".index(prefix.lower()) if prefix else 0
    factor: int = (1000 if byte and not binary else 1024) ** exponent
    if "." not in digits:
        return int(digits[:30]) * factor
    whole, _, fraction = digits.partition(".")
    return int(whole[:30]) * factor + int(fraction[:9].ljust(9, "0")) * factor // 10**9


def _seconds_of_text(text: str) -> float:
    stripped = text.strip()
    if re.fullmatch(r"\d{1,15}(\.\d{1,9})?", stripped, re.ASCII):
        return float(stripped)
    position, seconds = 0, 0.0
    while match := re.compile(_PART).match(stripped, position):
        seconds += float(match[1]) * _SECONDS[match[2].lower()]
        position = match.end()
    if not stripped or position != len(stripped):
        raise ValueError(f'{text!r} is not a duration; write seconds, "10m" or "7d"')
    return seconds
