"""The documents keep up with the program: links resolve, nothing a user can meet is left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from wanrec.reconcile.cli.commands import TABLE
from wanrec.reconcile.errors import ErrorCode, ExitCode

TOP = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]+)[^)]*\)")
CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def pages() -> Iterator[Path]:
    """Every Markdown page that is meant to be read as part of the project."""
    yield from sorted(TOP.glob("*.md"))
    yield from sorted((TOP / "docs").rglob("*.md"))


@pytest.mark.parametrize("page", list(pages()), ids=lambda page: page.relative_to(TOP).as_posix())
def test_links_resolve(page: Path) -> None:
    """Every relative link of a page leads to a file of the tree."""
    text = CODE_BLOCK.sub("", page.read_text())
    targets = [target for target in LINK.findall(text) if "://" not in target]
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


def _all_docs() -> str:
    return "\n".join(page.read_text() for page in pages())


def test_every_command_is_documented() -> None:
    """Each command of the program is shown somewhere as `wanrec COMMAND`."""
    text = _all_docs()
    assert not [name for name in TABLE if f"wanrec {name}" not in text]


def test_every_error_code_is_documented() -> None:
    """Each error code and exit code stands in the docs."""
    text = _all_docs()
    assert not [code for code in ErrorCode if f"`{code}`" not in text]
    assert not [code for code in ExitCode if f"| {int(code)} |" not in text]
