"""Follows every relative link of the README and the docs, anchors too.

    python docs/check_links.py         exit 1 and name the broken ones

Links to other hosts are not followed: a test that needs the network fails for other reasons.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
_FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def broken_links() -> list[str]:
    """Return ``PAGE: LINK`` of every link that leads nowhere."""
    pages = [TOP / "README.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs").rglob("*.md"))]
    return [f"{page.relative_to(TOP)}: {link}" for page in pages for link in _broken(page)]


def _broken(page: Path) -> Iterator[str]:
    for link in _LINK.findall(_prose(page)):
        place, _, anchor = link.partition("#")
        target = page.parent / place if place else page
        if "://" in link:
            continue
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            yield link


def _prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def _anchors(page: Path) -> set[str]:
    """Anchors as code hosts make them from headings."""
    found = set()
    for heading in _HEADING.findall(_prose(page)):
        text = re.sub(r"[^\w\- ]", "", heading.strip().lower())
        found.add(text.replace(" ", "-"))
    return found


if __name__ == "__main__":
    broken = broken_links()
    sys.stdout.writelines(f"{line}\n" for line in broken)
    sys.exit(1 if broken else 0)
