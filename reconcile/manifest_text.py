"""Bytes of a spec or lock file → plain TOML values, with caps before anything can hurt.

Refuses what is no TOML, and what is TOML but would cost time or memory out of proportion: too
many bytes or values, a key of thousands of dots, numbers and nesting that tomllib cannot hold.

Long runs of plain `[[models."ID".files]]` blocks, which is nearly all of a large file, are read by
one regular expression, ten times faster than tomllib; the rest, and every file where that could
be wrong, is read by tomllib alone. The values are the same either way.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

from wanrec.reconcile.errors import ErrorCode, Fault, FaultGroup
from wanrec.reconcile.manifest_schema import MAX_ENTRIES, MAX_KEY_PARTS, MAX_MANIFEST_BYTES

__all__ = ["decode_text", "read_toml"]

_MARKER = "wanrec: blocks that stood before this one"
_COMMENT = r"#[^\x00-\x08\x0a-\x1f\x7f]*"
_TEXT = r"(?:[^\"\\\x00-\x08\x0a-\x1f\x7f]++|\\\")*+"  # of the escapes only \", as in ETags
_WORD = r"0|[1-9][0-9]{0,18}|true|false"
_block = re.compile(
    r'^[ \t]*\[\[models\.("[^"\\\x00-\x1f\x7f]*"|[A-Za-z0-9_-]+)\.files\]\][ \t]*\n'
    rf'((?:[ \t]*[A-Za-z0-9_-]+[ \t]*=[ \t]*(?:"{_TEXT}"|{_WORD})[ \t]*\n)++)'
    rf"(?:[ \t]*(?:{_COMMENT})?\n)*+(?=[ \t]*\[|\Z)",
    re.MULTILINE,
)
_pairs = re.compile(rf'([A-Za-z0-9_-]+)[ \t]*=[ \t]*(?:"({_TEXT})"|({_WORD}))').findall
_usual_pairs = re.compile(
    rf'path = "({_TEXT})"\nsize = (0|[1-9][0-9]{{0,18}})\nsha256 = "({_TEXT})"\n'
    rf'(?:etag = "({_TEXT})"\n)?'
).fullmatch

_many_dots = re.compile(rf"\.(?:[^.\n]*+\.){{{MAX_KEY_PARTS - 1}}}").search
_strings_and_comments = re.compile(
    r'"""(?:[^"\\]++|\\.|"{1,2}(?!"))*+"{3,5}'
    r"|'''(?:[^']++|'{1,2}(?!'))*+'{3,5}"
    r'|"(?:[^"\\\n]++|\\.)*+"'
    r"|'[^'\n]*+'"
    r"|#[^\n]*+",
    re.DOTALL,
)
_deep_key = re.compile(
    rf"(?<![\w-])[\w-]++(?:[ \t]*+\.[ \t]*+[\w-]++){{{MAX_KEY_PARTS}}}", re.ASCII
).search
_long_number = re.compile(r"[0-9_]{4300}").search
_conflict = re.compile(r"^(?:<{7}|={7}|>{7})(?:[ \t].*)?$", re.MULTILINE).search
_place = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", re.DOTALL).fullmatch


def read_toml(data: bytes, name: str) -> tuple[dict[str, Any], str]:
    """Read a spec or lock file; returns its values and its text (for `toml_lines`).

    Raises:
        FaultGroup: INVALID_MANIFEST, with one fault: no UTF-8, no TOML, or over a cap.
    """
    text = decode_text(data, name)
    try:
        return _parse(text), text
    except tomllib.TOMLDecodeError as error:
        conflict = _conflict(text)
        if conflict is not None:
            place = _line(text, conflict.start())
            raise _refused(name, place, "an unresolved merge conflict") from None
        raise _refused(name, *_syntax_place(str(error), text)) from None
    except RecursionError:
        raise _refused(name, None, "arrays or tables are nested too deeply") from None
    except ValueError:
        number = _long_number(text)
        line = _line(text, number.start()) if number else None
        raise _refused(name, line, "a number has too many digits") from None


def decode_text(data: bytes, name: str) -> str:
    """Apply the caps and return the text, with Unix line ends and without a byte order mark.

    Raises:
        FaultGroup: INVALID_MANIFEST, with one fault: no UTF-8, or over a cap.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        limit = MAX_MANIFEST_BYTES // (1024 * 1024)
        raise _refused(name, None, f"the file is larger than {limit} MiB; split it")
    if data.count(b"=") + data.count(b",") > MAX_ENTRIES:
        raise _refused(name, None, f"the file holds more than {MAX_ENTRIES} values; split it")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _refused(name, line, "the file is not UTF-8 text") from None
    text = text.replace("\r\n", "\n")
    if _many_dots(text):
        _refuse_deep_keys(text, name)
    return text


def _refuse_deep_keys(text: str, name: str) -> None:
    """The exact look, only for a text with a line of many dots (URLs have them too)."""
    bare = _strings_and_comments.sub(lambda match: "S" + "\n" * match[0].count("\n"), text)
    key = _deep_key(bare)
    if key is not None:
        message = f"a key of more than {MAX_KEY_PARTS} dotted parts"
        raise _refused(name, _line(bare, key.start()), message)


def _parse(text: str) -> dict[str, Any]:
    """Read with the shortcut where it is certainly right, else with tomllib alone."""
    if '"""' in text or "'''" in text or _MARKER in text:
        return tomllib.loads(text)
    rest, runs = _cut_runs(text)
    if not runs:
        return tomllib.loads(text)
    try:
        document = tomllib.loads(rest)
    except ValueError:
        return tomllib.loads(text)  # the same error, at the line the user sees
    if _put_back(document, runs) != len(runs):
        return tomllib.loads(text)
    return document


def _cut_runs(text: str) -> tuple[str, list[list[dict[str, Any]]]]:
    """Cut all but the last block out of each run of plain blocks with one header.

    The last one stays, with a marker in it: so tomllib still sees every header that it must judge
    (is `files` an array? was `models` closed?), and tables that hang on the last block fit.
    """
    runs: list[list[dict[str, Any]]] = []
    pieces: list[str] = []
    cursor = 0
    run: list[dict[str, Any]] = []
    start = end = body = -1
    header = last = None

    def close() -> None:
        nonlocal cursor
        if run:
            pieces.append(text[cursor:start])
            pieces.append(f'[[models.{header}.files]]\n"{_MARKER}" = {len(runs)}\n')
            runs.append(run)
            cursor = body

    for match in _block.finditer(text):
        entry = _entry(match[2])
        goes_on = last is not None and match.start() == end and match[1] == header
        if goes_on and entry is not None:
            run.append(last)  # type: ignore[arg-type]  # goes_on says that it is there
        else:
            close()
            run, start, header = [], match.start(), match[1]
        last, body, end = entry, match.start(2), match.end()
    close()
    pieces.append(text[cursor:])
    return "".join(pieces), runs


def _entry(body: str) -> dict[str, Any] | None:
    """The values of one block, None when a key stands in it twice."""
    usual = _usual_pairs(body)
    if usual is not None:
        path, size, sha256, etag = usual.groups()
        entry = {"path": _unescaped(path), "size": int(size), "sha256": _unescaped(sha256)}
        return entry if etag is None else {**entry, "etag": _unescaped(etag)}
    pairs = _pairs(body)
    entry = {
        key: _WORDS.get(word) if word in _WORDS else int(word) if word else _unescaped(text)
        for key, text, word in pairs
    }
    return entry if len(entry) == len(pairs) else None


def _unescaped(text: str) -> str:
    return text.replace('\\"', '"') if "\\" in text else text


_WORDS = {"true": True, "false": False}


def _put_back(document: dict[str, Any], runs: list[list[dict[str, Any]]]) -> int:
    """Put the cut blocks before the ones that were left; returns how many runs found a place."""
    placed = 0
    models = document.get("models")
    for model in models.values() if isinstance(models, dict) else ():
        files = model.get("files") if isinstance(model, dict) else None
        if not isinstance(files, list) or not all(isinstance(kept, dict) for kept in files):
            continue
        whole: list[dict[str, Any]] = []
        for kept in files:
            index = kept.pop(_MARKER, None)
            if index is not None:
                whole += runs[index]
                placed += 1
            whole.append(kept)
        model["files"] = whole
    return placed


def _syntax_place(message: str, text: str) -> tuple[int, str]:
    match = _place(message)
    if match is None:
        return 1, f"not TOML: {message}"
    line = int(match[2]) if match[2] else text.rstrip().count("\n") + 1
    return line, f"not TOML: {match[1][:300]}"


def _line(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def _refused(name: str, line: int | None, message: str) -> FaultGroup:
    return FaultGroup([Fault(name, line, message, code=ErrorCode.INVALID_MANIFEST)])
