"""Does a held lock keep another process out? Asked of a real child process.

A child, because within one process record locks never conflict; a new interpreter rather than a
fork, because the caller may have threads.
"""

from __future__ import annotations

import subprocess
import sys

__all__ = ["child_is_refused"]

_REFUSED, _ACQUIRED = 3, 4
_TIMEOUT_S = 20

_CHILD = """
import sys
try:
    import fcntl
    file = open(sys.argv[1], "r+b")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(3)
except ImportError:
    import msvcrt
    file = open(sys.argv[1], "r+b")
    try:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except OSError:
        sys.exit(3)
sys.exit(4)
"""


def child_is_refused(lock_path: str) -> bool:
    """True when a child process cannot take the lock that this process holds.

    Where no child can be started (an embedded interpreter, a process limit) there is no proof
    against the lock, and True is returned.
    """
    command = [sys.executable, "-I", "-S", "-c", _CHILD, lock_path]
    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return True
    return result.returncode != _ACQUIRED
