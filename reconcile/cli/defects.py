"""Where the traceback of a defect goes: a file of the user's own, never the terminal by default."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

__all__ = ["keep_traceback"]


def keep_traceback(error: BaseException) -> Path | None:
    """Write the traceback to the log; None when there is nowhere to write."""
    from wanrec.reconcile.cli.output import utc_now
    from wanrec.reconcile.version import __version__

    system = f"Python {sys.version.split()[0]} on {sys.platform}"
    head = f"{utc_now()} wanrec {__version__}, {system}\n"
    text = head + "".join(traceback.format_exception(error))
    folder = _log_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = folder / "defects.log"
        with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text + "\n")
    except OSError:
        return None
    return log


def _log_folder() -> Path:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~")
    else:
        base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(base) / "wanrec"
