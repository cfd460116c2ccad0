"""Where the keys of a TOML text stand: for messages only, so only ever run after a fault.

`tomllib` gives values without places. This scanner walks the same text again, assumes that it is
well-formed (tomllib has accepted it) and notes where the wanted keys stand. On text that it does
not understand it stops and answers with what it has: a line near the fault, never an exception.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable

__all__ = ["KeyPath", "find_lines", "show_path"]

_MAX_SHOWN = 200
KeyPath = tuple[str | int, ...]
"""Keys (str) and positions in arrays (int), as in ``("models", "a@1", "files", 3, "size")``."""

_blank = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*").match
_space = re.compile(r"[ \t]*").match
_bare = re.compile(r"[A-Za-z0-9_-]+").match
_is_bare = re.compile(r"[A-Za-z0-9_-]+").fullmatch
_string = re.compile(
    r'"""(?:[^"\\]++|\\.|"{1,2}(?!"))*+"{3,5}'
    r"|'''(?:[^']++|'{1,2}(?!'))*+'{3,5}"
    r'|"(?:[^"\\\n]++|\\.)*+"'
    r"|'[^'\n]*+'",
    re.DOTALL,
).match
_scalar = re.compile(r"[^,\]}#\n]+").match
_escapes = re.compile(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)").sub
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}


class _OffTrackError(Exception):
    """The text is not what this scanner expects; give up where we are."""


def show_path(path: KeyPath) -> str:
    """Return a key path as TOML people write it: ``models."a@1".files[3].size``."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        else:
            clipped = part if len(part) <= _MAX_SHOWN else part[:_MAX_SHOWN] + "…"
            quoted = clipped if _is_bare(clipped) else _quote(clipped)
            shown += f".{quoted}" if shown else quoted
    return shown


def find_lines(text: str, wanted: Iterable[KeyPath]) -> dict[KeyPath, int]:
    """Return a line (from 1) for each wanted path: its own, or that of its nearest parent.

    A value that came from nowhere in particular (a missing key) has the line of its table, the
    whole file line 1.
    """
    paths = list(dict.fromkeys(wanted))
    scan = _Scan(text, {path[:end] for path in paths for end in range(1, len(path) + 1)})
    with contextlib.suppress(_OffTrackError, RecursionError, IndexError):
        scan.document()
    lines: dict[KeyPath, int] = {}
    for path in paths:
        ends = range(len(path), 0, -1)
        places = (scan.places[path[:end]] for end in ends if path[:end] in scan.places)
        lines[path] = text.count("\n", 0, next(places, 0)) + 1
    return lines


class _Scan:
    """One walk over one text; `places` holds the offset of each wanted path that was met."""

    def __init__(self, text: str, wanted: set[KeyPath]) -> None:
        self.text = text
        self.wanted = wanted
        self.places: dict[KeyPath, int] = {}
        self.counts: dict[KeyPath, int] = {}

    def document(self) -> None:
        text, pos = self.text, 0
        table: KeyPath = ()
        while True:
            pos = self._end(_blank(text, pos))
            if pos >= len(text):
                return
            if text[pos] == "[":
                table, pos = self._header(pos)
            else:
                pos = self._pair(table, pos)

    def _header(self, pos: int) -> tuple[KeyPath, int]:
        start, is_array = pos, self.text.startswith("[[", pos)
        keys, pos = self._key(pos + 1 + is_array)
        table: KeyPath = ()
        for key in keys[:-1]:
            table = self._inside((*table, key))
            self._note(table, start)
        table = (*table, keys[-1])
        self._note(table, start)
        if is_array:
            self.counts[table] = self.counts.get(table, 0) + 1
        table = self._inside(table)
        self._note(table, start)
        return table, pos + 1 + is_array

    def _inside(self, table: KeyPath) -> KeyPath:
        count = self.counts.get(table)
        return table if count is None else (*table, count - 1)

    def _pair(self, table: KeyPath, pos: int) -> int:
        start = pos
        keys, pos = self._key(pos)
        for key in keys:
            table = (*table, key)
            self._note(table, start)
        if self.text[pos] != "=":
            raise _OffTrackError
        return self._value(table, self._end(_space(self.text, pos + 1)))

    def _key(self, pos: int) -> tuple[list[str], int]:
        text, keys = self.text, []
        while True:
            pos = self._end(_space(text, pos))
            match = _string(text, pos) or _bare(text, pos)
            if match is None:
                raise _OffTrackError
            keys.append(_unquote(match[0]))
            pos = self._end(_space(text, match.end()))
            if text[pos] != ".":
                return keys, pos
            pos += 1

    def _value(self, path: KeyPath, pos: int) -> int:
        text = self.text
        first = text[pos]
        if first == "[":
            return self._array(path, pos + 1)
        if first == "{":
            return self._inline_table(path, pos + 1)
        match = _string(text, pos) if first in "\"'" else _scalar(text, pos)
        if match is None:
            raise _OffTrackError
        return match.end()

    def _array(self, path: KeyPath, pos: int) -> int:
        text, index = self.text, 0
        while True:
            pos = self._end(_blank(text, pos))
            if text[pos] == "]":
                return pos + 1
            if text[pos] == ",":
                pos += 1
                continue
            item = (*path, index)
            self._note(item, pos)
            pos = self._value(item, pos)
            index += 1

    def _inline_table(self, path: KeyPath, pos: int) -> int:
        text = self.text
        while True:
            pos = self._end(_blank(text, pos))
            if text[pos] == "}":
                return pos + 1
            pos = pos + 1 if text[pos] == "," else self._pair(path, pos)

    def _note(self, path: KeyPath, pos: int) -> None:
        if path in self.wanted:
            self.places.setdefault(path, pos)

    @staticmethod
    def _end(match: re.Match[str] | None) -> int:
        if match is None:  # pragma: no cover - these patterns also match nothing at all
            raise _OffTrackError
        return match.end()


def _unquote(key: str) -> str:
    if key[0] == "'":
        return key[1:-1]
    if key[0] == '"':
        return _escapes(_unescape, key[1:-1])
    return key


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] in "uU" and len(code) > 1:
        return chr(int(code[1:], 16))
    return _ESCAPED.get(code, code)


def _quote(key: str) -> str:
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'
