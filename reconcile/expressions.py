"""Match expressions of ``-k``, ``-m`` and ``--exclude``: text in, a predicate over names out.

The grammar is pytest's: identifiers, ``and`` before ``or``, ``not``, parentheses, and after a mark
``(name=value, …)`` with strings, integers, True, False and None. One character is legal here and
not in pytest: ``@``, because every model id has one. An expression becomes nested closures once
and is asked many times; nothing is ever evaluated as Python. An empty expression matches nothing.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn

from wanrec.reconcile.errors import ErrorCode, WanrecError

__all__ = [
    "MAX_NESTING",
    "Matcher",
    "Value",
    "compile_keyword",
    "compile_marks",
    "mark_names",
    "parse_mark",
]

MAX_NESTING = 100
"""Nested parentheses and chained ``not`` beyond this are refused, before Python's stack is."""

Value = str | int | bool | None
Matcher = Callable[[str, Mapping[str, Value]], bool]
_Node = Callable[[Matcher], bool]

_IDENT = re.compile(r"[\w:+\-.\[\]\\/@]+")
_END = "end of input"
_IDENTIFIER = "identifier"
_STRING = "string literal"
_LEFT = "left parenthesis"
_RIGHT = "right parenthesis"
_PUNCTUATION = {"(": _LEFT, ")": _RIGHT, "=": "=", ",": ","}
_CONSTANTS: dict[str, Value] = {"True": True, "False": False, "None": None}


def compile_keyword(text: str, option: str = "-k") -> Callable[[Iterable[str]], bool]:
    """Return a predicate: does the expression hold for a thing that has these names?

    A word holds when it is a case-insensitive substring of any name.

    Args:
        text: the expression.
        option: the option it came from, for messages.

    Raises:
        WanrecError: USAGE, with the column, when the expression is malformed.
    """
    parser = _Parser(text, option)
    node = parser.parse()
    if parser.call_column is not None:
        parser.fail("only -m takes call parameters", parser.call_column)

    def holds(names: Iterable[str]) -> bool:
        lowered = [name.lower() for name in names]

        def matches(word: str, _arguments: Mapping[str, Value]) -> bool:
            word = word.lower()
            return any(word in name for name in lowered)

        return node(matches)

    return holds


def compile_marks(text: str, option: str = "-m") -> Callable[[Iterable[str]], bool]:
    """Return a predicate: does the expression hold for a model that has these marks?

    A word holds when it is the name of a mark; ``gpu(mem=80)`` holds for a mark written with at
    least these arguments.

    Raises:
        WanrecError: USAGE, with the column, when the expression is malformed.
    """
    node = _Parser(text, option).parse()

    def holds(marks: Iterable[str]) -> bool:
        parsed = [parse_mark(mark) for mark in marks]

        def matches(word: str, arguments: Mapping[str, Value]) -> bool:
            return any(word == name and arguments.items() <= own.items() for name, own in parsed)

        return node(matches)

    return holds


def mark_names(text: str, option: str = "-m") -> frozenset[str]:
    """Return every mark the expression speaks of, for strict configurations.

    Raises:
        WanrecError: USAGE when the expression is malformed.
    """
    parser = _Parser(text, option)
    parser.parse()
    return frozenset(parser.names)


def parse_mark(mark: str) -> tuple[str, Mapping[str, Value]]:
    """Split ``gpu(mem=80)``; a mark that does not read as a call is only a name."""
    if "(" not in mark:
        return mark, {}
    found: list[tuple[str, Mapping[str, Value]]] = []

    def note(name: str, arguments: Mapping[str, Value]) -> bool:
        found.append((name, arguments))
        return True

    try:
        _Parser(mark, "mark").parse()(note)
    except WanrecError:
        return mark, {}
    return found[0]


def _any_of(nodes: list[_Node]) -> _Node:
    return nodes[0] if len(nodes) == 1 else lambda matcher: any(node(matcher) for node in nodes)


def _all_of(nodes: list[_Node]) -> _Node:
    return nodes[0] if len(nodes) == 1 else lambda matcher: all(node(matcher) for node in nodes)


class _Parser:
    """Recursive descent over a token list; positions are counted from 0, columns from 1."""

    def __init__(self, text: str, option: str) -> None:
        self.text = text
        self.option = option
        self.names: set[str] = set()
        self.call_column: int | None = None
        self._depth = 0
        self._at = 0
        self._tokens = self._scan()

    def parse(self) -> _Node:
        """Return the whole expression as one closure."""
        if self._kind == _END:
            return lambda _matcher: False
        node = self._or()
        if self._kind != _END:
            self._expected(_END)
        return node

    def fail(self, problem: str, position: int) -> NoReturn:
        """Raise the usage error that points at a position."""
        raise WanrecError(
            ErrorCode.USAGE,
            f"wrong expression passed to {self.option}: at column {position + 1}: {problem}",
            detail=f"{self.text}\n{' ' * position}^",
            hint="words, and, or, not, ( ); for example: "
            + ('-m "video and not gpu80"' if self.option == "-m" else '-k "vae and not bf16"'),
        )

    def _scan(self) -> list[tuple[str, str, int]]:
        tokens, position = [], 0
        while position < len(self.text):
            char = self.text[position]
            if char in " \t":
                position += 1
                continue
            kind, value = self._token(char, position)
            tokens.append((kind, value, position))
            position += len(value)
        tokens.append((_END, "", position))
        return tokens

    def _token(self, char: str, position: int) -> tuple[str, str]:
        if char in _PUNCTUATION:
            return _PUNCTUATION[char], char
        if char in "'\"":
            return _STRING, self._string(char, position)
        match = _IDENT.match(self.text, position)
        if match is None:
            self.fail(f'unexpected character "{char}"', position)
        word = match.group()
        return (word if word in ("and", "or", "not") else _IDENTIFIER), word

    def _string(self, quote: str, position: int) -> str:
        end = self.text.find(quote, position + 1)
        if end < 0:
            self.fail(f"closing quote {quote} is missing", position)
        value = self.text[position : end + 1]
        if "\\" in value:
            self.fail('escaping with "\\" is not supported', position + value.index("\\"))
        return value

    @property
    def _kind(self) -> str:
        return self._tokens[self._at][0]

    @property
    def _position(self) -> int:
        return self._tokens[self._at][2]

    def _accept(self, kind: str) -> str | None:
        found, value, _ = self._tokens[self._at]
        if found != kind:
            return None
        self._at += 1
        return value

    def _require(self, kind: str) -> str:
        value = self._accept(kind)
        return self._expected(kind) if value is None else value

    def _expected(self, *kinds: str) -> NoReturn:
        self.fail(f"expected {' or '.join(kinds)}; got {self._kind}", self._position)

    def _or(self) -> _Node:
        nodes = [self._and()]
        while self._accept("or") is not None:
            nodes.append(self._and())
        return _any_of(nodes)

    def _and(self) -> _Node:
        nodes = [self._not()]
        while self._accept("and") is not None:
            nodes.append(self._not())
        return _all_of(nodes)

    def _not(self) -> _Node:
        self._depth += 1
        if self._depth > MAX_NESTING:
            self.fail(f"more than {MAX_NESTING} nested levels", self._position)
        node = self._operand()
        self._depth -= 1
        return node

    def _operand(self) -> _Node:
        if self._accept("not") is not None:
            inner = self._not()
            return lambda matcher: not inner(matcher)
        if self._accept(_LEFT) is not None:
            node = self._or()
            self._require(_RIGHT)
            return node
        name = self._accept(_IDENTIFIER)
        if name is None:
            self._expected("not", _LEFT, _IDENTIFIER)
        self.names.add(name)
        column = self._position
        if self._accept(_LEFT) is None:
            return lambda matcher: matcher(name, {})
        self.call_column = column if self.call_column is None else self.call_column
        arguments = self._arguments()
        return lambda matcher: matcher(name, arguments)

    def _arguments(self) -> dict[str, Value]:
        arguments: dict[str, Value] = {}
        while True:
            column = self._position
            name = self._require(_IDENTIFIER)
            if not name.isidentifier() or keyword.iskeyword(name):
                self.fail(f"{name!r} is not a parameter name", column)
            if name in arguments:
                self.fail(f"parameter {name} is given twice", column)
            self._require("=")
            arguments[name] = self._value()
            if self._accept(",") is None:
                self._require(_RIGHT)
                return arguments

    def _value(self) -> Value:
        text = self._accept(_STRING)
        if text is not None:
            return text[1:-1]
        column = self._position
        word = self._require(_IDENTIFIER)
        if word in _CONSTANTS:
            return _CONSTANTS[word]
        try:
            if word.removeprefix("-").isdigit():
                return int(word)
        except ValueError:
            pass  # digits of a kind, or a number of digits, that int() refuses
        self.fail(f'unexpected value "{word}"', column)
