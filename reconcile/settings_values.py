"""One reader for each setting: what a place said goes in, a checked value comes out.

Every place a setting can come from goes through the same reader, so that `"10 GiB"` means the same
everywhere. A reader raises ValueError with what it expected; `settings` says where it stood.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wanrec.reconcile.settings_units import parse_duration, parse_rate, parse_size

__all__ = ["READERS", "Place"]


class Place:
    """Where a value was written: what relative paths start at, and how to name it to people."""

    def __init__(self, base: Path, environ: Mapping[str, str], label: str) -> None:
        self.base = base
        self.environ = environ
        self.label = label


def _text(value: Any, _place: Place) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("expected a text that is not empty")
    return value


def _folder(value: Any, place: Place) -> Path:
    text = _text(os.fspath(value) if isinstance(value, Path) else value, place)
    if text == "~" or text.startswith(("~/", "~\\")):
        home = place.environ.get("HOME") or place.environ.get("USERPROFILE")
        text = home + text[1:] if home else text
    return Path(os.path.normpath(os.path.join(place.base, text)))


def _cache_dir(value: Any, place: Place) -> Path | None:
    if value is False or value in ("off", "no", "false", "0"):
        return None
    return _folder(value, place)


def _state(value: Any, place: Place) -> str:
    text = _text(os.fspath(value) if isinstance(value, Path) else value, place)
    return text if "://" in text else str(_folder(text, place))


def _project(value: Any, place: Place) -> str:
    text = _text(value, place)
    if len(text) > 100 or not re.fullmatch(r"[\w][\w.+/@-]*", text, re.ASCII):
        raise ValueError(f"{text!r} is not a project name: letters, digits and ._-+/@ only")
    return text


def _flag(value: Any, _place: Place) -> bool:
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else value
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise ValueError("expected true or false")


def _texts(value: Any, place: Place) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part for part in re.split(r"[,\s]+", value) if part]
    if not isinstance(value, list | tuple):
        raise ValueError("expected a list of texts")
    return tuple(_text(item, place) for item in value)


def _workers(value: Any, _place: Place) -> int:
    if isinstance(value, str) and re.fullmatch(r"\d{1,4}", value.strip(), re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 256:
        raise ValueError("expected a whole number from 1 to 256")
    return value


def _retries(value: Any, _place: Place) -> int:
    if isinstance(value, str) and re.fullmatch(r"\d{1,3}", value.strip(), re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 100:
        raise ValueError("expected a whole number from 0 to 100")
    return value


def _mode(value: Any, _place: Place) -> int:
    if isinstance(value, str) and re.fullmatch(r"(0o|0)?[0-7]{3}", value):
        return int(value[-3:], 8)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0o777:
        return value
    raise ValueError('expected an octal mode in quotes, for example "0444"')


def _file_mode(value: Any, place: Place) -> int:
    mode = _mode(value, place)
    if mode in (400, 440, 444) or not mode & 0o400:
        raise ValueError('a file mode lets its owner read; octal, in quotes: "0444"')
    return mode


def _dir_mode(value: Any, place: Place) -> int:
    mode = _mode(value, place)
    if mode & 0o700 != 0o700:
        raise ValueError('a folder mode gives its owner everything; octal, in quotes: "0755"')
    return mode


def _plugins(value: Any, place: Place) -> tuple[str, ...]:
    if isinstance(value, bool):
        return () if value else ("no:auto",)
    return _texts(value, place)


def _log_format(value: Any, place: Place) -> str:
    if _text(value, place) not in ("text", "json"):
        raise ValueError('expected "text" or "json"')
    return str(value)


def _bytes(value: Any, _place: Place) -> int:
    return parse_size(value)


def _bytes_a_second(value: Any, _place: Place) -> int:
    return parse_rate(value)


def _seconds(value: Any, _place: Place) -> float:
    return parse_duration(value)


def _deadline(value: Any, _place: Place) -> float:
    seconds = parse_duration(value)
    if seconds <= 0:
        raise ValueError('a deadline is more than zero, for example "10s"')
    return seconds


def _link_mode(value: Any, place: Place) -> str:
    if _text(value, place) not in ("auto", "hardlink", "reflink", "copy"):
        raise ValueError('expected "auto", "hardlink", "reflink" or "copy"')
    return str(value)


def _quotas(value: Any, _place: Place) -> tuple[tuple[str, int], ...]:
    if isinstance(value, str):
        pairs = (part.partition("=") for part in re.split(r"[,;]", value) if part.strip())
        value = {family.strip(): size.strip() for family, _, size in pairs}
    if not isinstance(value, Mapping):
        raise ValueError('expected sizes by family: { wan22 = "500 GiB" }, or "wan22=500 GiB"')
    for family in value:
        if not isinstance(family, str) or not re.fullmatch(r"[^/\\\s][^/\\]*", family):
            raise ValueError(f"{family!r} is not a family")
    return tuple(sorted((family, parse_size(size)) for family, size in value.items()))


READERS: dict[str, Callable[[Any, Place], object]] = {
    "root": _folder,
    "project": _project,
    "state": _state,
    "mirror": _text,
    "local_root": _folder,
    "manifest": _text,
    "spec_paths": _texts,
    "parallelism": _workers,
    "lock_timeout": _seconds,
    "bwlimit": _bytes_a_second,
    "connect_timeout": _deadline,
    "stall_timeout": _deadline,
    "file_timeout": _deadline,
    "retries": _retries,
    "swap_grace": _seconds,
    "file_mode": _file_mode,
    "dir_mode": _dir_mode,
    "trust_locks": _flag,
    "rehash_budget": _bytes,
    "verify_max_age": _seconds,
    "offline": _flag,
    "no_failover": _flag,
    "allow_http": _flag,
    "max_size": _bytes,
    "quotas": _quotas,
    "max_age": _seconds,
    "stale_after": _seconds,
    "auto_gc": _flag,
    "link_mode": _link_mode,
    "metrics_file": _folder,
    "cache_dir": _cache_dir,
    "marks": _texts,
    "log_format": _log_format,
    "plugins": _plugins,
}
