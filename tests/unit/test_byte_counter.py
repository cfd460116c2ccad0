"""How long work that reads and hashes tells how far it is."""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path

import pytest

from wanrec.reconcile.cli import lock_cmds
from wanrec.reconcile.cli.session import Session

GIB = 1 << 30


def _shown(terminal: int, end: str) -> str:
    """What a terminal got up to `end`: it comes in pieces, a while after it was written."""
    shown = ""
    while end not in shown and select.select([terminal], [], [], 10)[0]:
        shown += os.read(terminal, 4096).decode()
    return shown


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo terminals here")
def test_a_terminal_shows_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line is drawn over itself, and is gone before anything else is said."""
    monkeypatch.setattr(lock_cmds, "_DRAW_AFTER_S", 0.0)
    monkeypatch.setattr(lock_cmds, "_DRAW_EVERY_S", 0.0)
    seen, own = os.openpty()
    with os.fdopen(seen, "rb"), os.fdopen(own, "w") as stderr:
        with contextlib.redirect_stderr(stderr):
            session = Session()
            count = lock_cmds.ByteCounter(session, "Hashed")
            count(3 << 20)
            count(GIB)
            session.say("Warning: x")
        shown = _shown(seen, "\n")
    first, second = shown.split("Hashed ")[1:]
    assert first.startswith("3.0 MiB, ") and second.startswith("1.0 GiB, ")
    assert shown.endswith(" \rWarning: x\r\n") and shown.count("\n") == 1


def test_elsewhere_a_line_for_each_gib(tmp_path: Path) -> None:
    """A log gets whole lines, and few of them."""
    with (tmp_path / "log").open("w") as log, contextlib.redirect_stderr(log):
        count = lock_cmds.ByteCounter(Session(), "Read")
        for _ in range(9):
            count(GIB // 4)
    assert (tmp_path / "log").read_text() == "Read 1.0 GiB …\nRead 2.0 GiB …\n"
