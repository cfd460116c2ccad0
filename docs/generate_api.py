"""Writes the reference in `api.md` from signatures and docstrings.

    python docs/generate_api.py            rewrite the page
    python docs/generate_api.py --check    exit 1 when it would change

A block stands between ``<!-- api: MODULE -->`` and ``<!-- end api -->``; the rest of the page is
written by hand. Every public name of the module is in its block, so nothing is left out.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PAGE = Path(__file__).with_name("api.md")
_BLOCK = re.compile(r"(<!-- api: ([\w.]+) -->\n).*?(<!-- end api -->)", re.DOTALL)
_SECTION = re.compile(r"^(Args|Raises|Attributes|Returns|Yields):\n", re.MULTILINE)
_ENTRY = re.compile(r"^    (\w[\w, ]*): ", re.MULTILINE)


def main(arguments: list[str]) -> int:
    """Rewrite the page, or say that it is stale."""
    old = PAGE.read_text(encoding="utf-8")
    new = _BLOCK.sub(lambda match: match[1] + "\n" + _module(match[2]) + "\n" + match[3], old)
    if "--check" in arguments:
        if old != new:
            print(f"{PAGE.name} is stale: python docs/generate_api.py", file=sys.stderr)  # noqa: T201 - a script
        return int(old != new)
    PAGE.write_text(new, encoding="utf-8")
    return 0


def _module(name: str) -> str:
    module = importlib.import_module(name)
    shown = [part for part in sorted(module.__all__, key=str.lower) if not part.startswith("_")]
    return "\n".join(text for part in shown for text in _thing(name, part, getattr(module, part)))


def _thing(module: str, name: str, thing: object) -> Iterator[str]:
    if inspect.ismodule(thing):
        yield f"### `{module}.{name}`\n\nSee [below](#{thing.__name__.replace('.', '')}).\n"
    elif inspect.isclass(thing):
        yield f"### `{module}.{name}`\n\n{_prose(thing)}\n"
        for part, member in _members(thing).items():
            yield from _member(name, part, member, thing)
    else:
        yield f"### `{module}.{name}{_signature(thing)}`\n\n{_prose(thing)}\n"


def _members(thing: type) -> dict[str, object]:
    """What a class offers, with what it inherits from other classes of the project."""
    bases = [base for base in reversed(thing.__mro__) if base.__module__.startswith("wanrec.")]
    return {name: member for base in bases for name, member in vars(base).items()}


def _member(owner: str, name: str, member: object, home: type) -> Iterator[str]:
    if name.startswith("_") or not inspect.getdoc(getattr(home, name)):
        return
    bound = getattr(home, name)
    if isinstance(member, property):
        yield f"#### `{owner}.{name}`\n\n{_prose(member)}\n"
    elif callable(bound):
        yield f"#### `{owner}.{name}{_signature(bound)}`\n\n{_prose(bound)}\n"


def _signature(thing: object) -> str:
    assert callable(thing)
    try:
        found = inspect.signature(thing)
    except (TypeError, ValueError):
        return ""
    plain = [part for part in found.parameters.values() if part.name not in ("self", "cls")]
    return str(found.replace(parameters=plain)).replace("'", "").replace('"', "")


def _prose(thing: object) -> str:
    """A Google docstring as Markdown."""
    text = inspect.getdoc(thing) or ""
    text = text.replace("``", "`")
    text = _SECTION.sub(lambda match: f"**{match[1]}**\n\n", text)
    text = _ENTRY.sub(lambda match: f"- `{match[1]}`: ", text)
    return re.sub(r"\n {6,}", "\n  ", text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
