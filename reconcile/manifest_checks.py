"""Value by value: is it of the kind the tables name, and what to say when it is not.

A `Findings` gathers every fault of one file with its key path; lines are looked up once, at the
end, and only when there is something to report.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wanrec.reconcile.errors import ErrorCode, Fault, FaultGroup
from wanrec.reconcile.manifest_schema import Key, Kind
from wanrec.reconcile.names import NameFault, check_path, nearest
from wanrec.reconcile.toml_lines import KeyPath, find_lines, show_path

__all__ = ["Findings", "is_free_key", "show_value"]

_sha256 = re.compile(r"[0-9a-fA-F]{64}").fullmatch
_MAX_NESTING = 16
_MAX_HINTS = 500


class Findings:
    """The faults of one file so far, and the checks that add to them."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self._found: dict[tuple[KeyPath, str], ErrorCode] = {}

    def add(self, at: KeyPath, message: str, code: ErrorCode = ErrorCode.INVALID_MANIFEST) -> None:
        """Note one fault at a key path."""
        self._found.setdefault((at, message), code)

    def add_name(self, at: KeyPath, fault: NameFault | None) -> None:
        """Note what `names` has to say, if anything."""
        if fault is not None:
            self.add(at, fault.message, fault.code)

    def close(self) -> None:
        """Do nothing when there are no faults.

        Raises:
            FaultGroup: all faults, in the order of their lines.
        """
        group = self.group()
        if group is not None:
            raise group

    def below(self, key: str) -> frozenset[str]:
        """Name what was found faulty below one key of the top table."""
        return frozenset(str(at[1]) for at, _ in self._found if at[:1] == (key,) and len(at) > 1)

    def group(self) -> FaultGroup | None:
        """Return all faults so far, in the order of their lines, or None."""
        if not self._found:
            return None
        lines = find_lines(self.text, (at for at, _ in self._found))
        faults = [
            Fault(self.name, lines.get(at, 1), message, show_path(at), code)
            for (at, message), code in self._found.items()
        ]
        return FaultGroup(sorted(faults, key=lambda fault: fault.line or 0))

    def keys(self, table: Mapping[str, Any], known: Mapping[str, Key], at: KeyPath) -> None:
        """Note unknown keys, with the nearest known one, and required keys that are absent."""
        for key in table:
            if key not in known and not is_free_key(key):
                self.add((*at, key), f"unknown key {show_value(key)}{self._hint(key, known)}")
        for key, rule in known.items():
            if rule.required and key not in table:
                self.add(at, f'the key "{key}" is missing')

    def table(
        self, value: Mapping[str, Any], known: Mapping[str, Key], at: KeyPath
    ) -> dict[str, Any]:
        """Check a table key by key; returns the known keys whose values are right."""
        self.keys(value, known, at)
        return {
            key: item
            for key, item in value.items()
            if key in known and self.value(item, known[key], (*at, key))
        }

    def value(self, value: object, rule: Key, at: KeyPath) -> bool:
        """Check one value against its rule; True when it is right."""
        if not _FITS[rule.kind](value):
            self.add(at, f"must be {rule.kind}, not {show_value(value)}")
            return False
        numbers = value if isinstance(value, list) else [value]
        for number in numbers:
            problem = _limit_problem(number, rule)
            if problem:
                self.add(at, problem)
                return False
        if rule.kind is Kind.PATH:
            fault = check_path(str(value))
            self.add_name(at, fault)
            return fault is None
        return True

    def one_of(self, word: str, choices: tuple[str, ...], at: KeyPath, what: str) -> bool:
        """Note a word that is not among the choices, with the nearest; True when it is."""
        if word in choices:
            return True
        self.add(at, f"{show_value(word)} is not {what}{self._hint(word, choices)}")
        return False

    def _hint(self, word: str, known: Iterable[str]) -> str:
        """The nearest known word. Who has made hundreds of mistakes is not helped by one more."""
        if len(self._found) > _MAX_HINTS:
            return ""
        near = nearest(word, known)
        return f'; did you mean "{near}"?' if near else ""


def is_free_key(key: str) -> bool:
    """True for ``x-…`` keys, which are the user's own."""
    return key.startswith("x-")


def show_value(value: object) -> str:
    """Return a short, printable form of a value, for messages."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < 2**80 else "a number of many digits"
    if isinstance(value, str):
        shown = value if len(value) <= 60 else value[:57] + "…"
        return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in shown) + '"'
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a table"
    return str(value)


def _limit_problem(value: object, rule: Key) -> str | None:
    if rule.choices and value not in rule.choices:
        return f"must be one of {', '.join(rule.choices)}, not {show_value(value)}"
    if not _is_number(value):
        return None
    if rule.minimum is not None and value < rule.minimum:  # type: ignore[operator]
        return f"must be at least {rule.minimum}, not {show_value(value)}"
    if rule.maximum is not None and value > rule.maximum:  # type: ignore[operator]
        return f"must be at most {rule.maximum}, not {show_value(value)}"
    return None


def _is_integer(value: object) -> bool:
    return type(value) is int  # a bool is an int to isinstance


def _is_number(value: object) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _is_string(value: object) -> bool:
    return type(value) is str


def _is_list_of(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: type(value) is list and all(map(check, value))


def _either(
    first: Callable[[object], bool], second: Callable[[object], bool]
) -> Callable[[object], bool]:
    return lambda value: first(value) or second(value)


def _is_plain(value: object, depth: int = 0) -> bool:
    """True for what JSON can hold too: facts go into JSON documents."""
    if depth > _MAX_NESTING:
        return False
    if type(value) is dict:
        return all(_is_plain(item, depth + 1) for item in value.values())
    if type(value) is list:
        return all(_is_plain(item, depth + 1) for item in value)
    return type(value) in (str, bool) or _is_number(value)


def _is_free_table(value: object) -> bool:
    return type(value) is dict and _is_plain(value)


_strings = _is_list_of(_is_string)
_FITS: dict[Kind, Callable[[object], bool]] = {
    Kind.STRING: _is_string,
    Kind.INTEGER: _is_integer,
    Kind.NUMBER: _is_number,
    Kind.NUMBERS: _either(_is_number, _is_list_of(_is_number)),
    Kind.BOOLEAN: lambda value: type(value) is bool,
    Kind.STRINGS: _strings,
    Kind.STRING_OR_STRINGS: _either(_is_string, _strings),
    Kind.COUNT_OR_NAMES: _either(_is_integer, _strings),
    Kind.SHA256: lambda value: type(value) is str and _sha256(value) is not None,
    Kind.PATH: _is_string,
    Kind.TABLE: lambda value: type(value) is dict,
    Kind.TABLES: lambda value: type(value) is list and all(type(item) is dict for item in value),
    Kind.SOURCES: _either(_strings, lambda value: type(value) is dict),
    Kind.FREE: _is_free_table,
    Kind.ANYTHING: lambda value: type(value) is dict,
}
