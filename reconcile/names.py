"""Pure rules for names: which are safe on every OS, which cannot be kept apart, where models lie.

Text in, a `NameFault` or None out. The rules are the same on every OS, so that a spec that is
accepted on Linux also works on Windows and macOS. Nothing here looks at a disk.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from wanrec.reconcile.errors import ErrorCode

__all__ = [
    "MAX_PATH_CHARS",
    "MAX_SEGMENT_BYTES",
    "NameFault",
    "check_model_id",
    "check_path",
    "check_segment",
    "check_variant",
    "collision_key",
    "find_collisions",
    "model_directory",
    "nearest",
    "split_model_id",
]

MAX_SEGMENT_BYTES = 255
MAX_PATH_CHARS = 230
"""Windows allows 260 for a whole path; the difference is room for the root."""

_RESERVED = r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³])"
_reserved = re.compile(rf"{_RESERVED} *(?:\..*)?", re.IGNORECASE | re.DOTALL).fullmatch
_wanrec_directory = re.compile(r"\.wanrec|wanrec~[0-9]+", re.IGNORECASE).fullmatch
_control = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]").search
_bidi = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f\ufeff]").search
_not_text = re.compile(r"[\ud800-\udfff\ufffe\uffff]").search
_windows = re.compile(r'[<>:"|?*\\/]').search
# Nearly every path of a real spec is plain: then one match says that no rule below can fire.
_PLAIN = rf"(?!{_RESERVED}(?:[. /]|\Z))[\w+=,@~!#$%&()\[\]{{}}^';. -]*[\w+=,@~!#$%&()\[\]{{}}^';-]"
_plain = re.compile(rf"{_PLAIN}(?:/{_PLAIN})*", re.IGNORECASE | re.ASCII).fullmatch
# HFS+ ignores these when it compares names; git's core.protectHFS knows the same ones.
_HFS_IGNORES = dict.fromkeys(
    (*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF)
)
_id_forbidden = re.compile(r"[\s@\[\]{}]").search


class NameFault(NamedTuple):
    """Why a name is refused: the error code to report, and the text."""

    code: ErrorCode
    message: str


def check_path(path: str) -> NameFault | None:
    """Check a POSIX path relative to a model directory or to the root."""
    length = len(path)
    if length <= MAX_PATH_CHARS and _plain(path) and path[:7].lower() not in (".wanrec", "wanrec~"):
        return None
    if not path:
        return _unsafe("a path cannot be empty")
    if path[0] in "/\\":
        return _unsafe(f"{path!r} is absolute; paths are relative to the model directory")
    if path[1:2] == ":" and path[0].isalpha():
        return _unsafe(f"{path!r} starts with a drive letter")
    segments = path.split("/")
    if _is_wanrec_directory(segments[0]):
        return _unsafe(f"{path!r} lies in .wanrec, which is wanrec's own")
    for segment in segments:
        fault = _segment_fault(segment)
        if fault is not None:
            return fault if len(segments) == 1 else _inside(fault, path)
    if length > MAX_PATH_CHARS:
        message = f"a path of {length} characters; {MAX_PATH_CHARS} are safe on every system"
        return NameFault(ErrorCode.PATH_TOO_LONG, message)
    return None


def check_segment(segment: str) -> NameFault | None:
    """Check one name between two slashes, for example a `family`."""
    if _is_wanrec_directory(segment):
        return _unsafe(f"{segment!r} is wanrec's own directory")
    return _segment_fault(segment)


def check_variant(variant: str) -> NameFault | None:
    """Check the name of a variant: one safe segment without blanks, brackets and ``@``."""
    fault = check_segment(variant)
    if fault is not None:
        return fault
    if _id_forbidden(variant):
        return _unsafe(f"{variant!r}: blanks, brackets and '@' cannot stand in a variant")
    return None


def check_model_id(model_id: str) -> NameFault | None:
    """Check ``NAME@VERSION``: one ``@``, safe on every OS, usable as a word on a command line."""
    name, at, version = model_id.partition("@")
    if not (name and at and version):
        return _bad_id(f"{model_id!r} is not NAME@VERSION, as in 't2v-A14B@2.2.0'")
    if _id_forbidden(name) or _id_forbidden(version):
        return _bad_id(f"{model_id!r}: blanks, brackets and a second '@' cannot stand in an id")
    if name[0] == "-":
        return _bad_id(f"{model_id!r} starts with '-', so it would be read as an option")
    fault = check_segment(name) or check_segment(version) or check_segment(model_id)
    if fault is None or fault.code is ErrorCode.PATH_TOO_LONG:
        return fault
    return _bad_id(fault.message)


def split_model_id(model_id: str) -> tuple[str, str]:
    """Return ``(NAME, VERSION)``; VERSION is empty when there is no ``@``."""
    name, _, version = model_id.rpartition("@")
    return (name, version) if name else (version, "")


def model_directory(family: str, model_id: str, variant: str | None) -> str:
    """Return the model's directory, a POSIX path relative to the root."""
    return f"{family}/{model_id}" if variant is None else f"{family}/{model_id}@{variant}"


def collision_key(path: str) -> str:
    """Return a key that is equal for paths which some supported file system takes for one."""
    if path.isascii():
        return path.lower()
    plain = unicodedata.normalize("NFD", path.translate(_HFS_IGNORES)).casefold()
    return unicodedata.normalize("NFC", plain)


def find_collisions(paths: Iterable[str]) -> list[tuple[str, str, str]]:
    """Find paths that cannot lie side by side: ``(path, earlier path, why)`` for each.

    Equal after case folding and Unicode normalisation, a file where another path needs a folder,
    or one folder spelled in two ways.
    """
    found: list[tuple[str, str, str]] = []
    files: dict[str, str] = {}
    folders: dict[str, tuple[str, str]] = {}
    known_folders: set[str] = set()
    for path in paths:
        key = collision_key(path)
        if key in files:
            found.append((path, files[key], _twin_text(path, files[key])))
        else:
            files[key] = path
        head = path.rpartition("/")[0]
        while head and head not in known_folders:
            known_folders.add(head)
            spelled, first = folders.setdefault(collision_key(head), (head, path))
            if spelled != head:
                found.append((path, first, f"the folders {head!r} and {spelled!r} are one"))
            head = head.rpartition("/")[0]
    for key in files.keys() & folders.keys():
        path, (_, needs) = files[key], folders[key]
        found.append((path, needs, "a file lies where the other needs a folder"))
    return sorted(found)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant, or None."""
    choices = sorted(known)
    folded = {choice.casefold(): choice for choice in reversed(choices)}
    wanted = word.casefold()
    if wanted in folded:
        return folded[wanted]
    if len(word) > 100:
        return None
    import difflib  # only an error path needs it

    match = difflib.get_close_matches(wanted, folded, n=1, cutoff=0.6)
    return folded[match[0]] if match else None


def _segment_fault(segment: str) -> NameFault | None:
    shown = repr(segment)
    if not segment:
        return _unsafe("a path cannot have an empty part ('//' or a '/' at its end)")
    if segment in (".", ".."):
        return _unsafe(f"{shown} cannot be part of a path")
    if _control(segment):
        return _unsafe(f"{shown} holds a control character")
    if _bidi(segment):
        return _unsafe(f"{segment!a} holds an invisible character that can disguise a name")
    if _not_text(segment):
        return _unsafe(f"{segment!a} holds a code point that is no character")
    bad = _windows(segment)
    if bad:
        hint = "; write '/'" if bad[0] == "\\" else ""
        return _unsafe(f"{shown} holds {bad[0]!r}, which is not allowed on every system{hint}")
    if segment[-1] in ". ":
        return _unsafe(f"{shown} ends with a dot or a blank, which Windows drops")
    if _reserved(segment):
        return _unsafe(f"{shown} is the name of a device on Windows")
    size = len(segment.encode())
    if size > MAX_SEGMENT_BYTES:
        message = f"a name of {size} bytes; file systems allow {MAX_SEGMENT_BYTES}"
        return NameFault(ErrorCode.PATH_TOO_LONG, message)
    return None


def _is_wanrec_directory(segment: str) -> bool:
    return bool(_wanrec_directory(collision_key(segment).rstrip(". ")))


def _twin_text(path: str, earlier: str) -> str:
    if path == earlier:
        return "the same path twice"
    return "one path on systems that ignore case or normalise Unicode"


def _inside(fault: NameFault, path: str) -> NameFault:
    shown = path if len(path) <= MAX_PATH_CHARS else path[:40] + "…"
    return NameFault(fault.code, f"{fault.message} (in {shown!a})")


def _unsafe(message: str) -> NameFault:
    return NameFault(ErrorCode.UNSAFE_PATH, message)


def _bad_id(message: str) -> NameFault:
    return NameFault(ErrorCode.INVALID_MODEL_ID, message)
