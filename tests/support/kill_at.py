"""Runs wanrec and kills it just before its Nth step that changes the disk, counted over threads.

strace counts the calls of each thread by itself, so a step of one thread can hide behind an
earlier one of another. Here all steps have one count: `kill_at.py N ARGUMENT...`.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from typing import Any

STEPS = frozenset(
    {"os.rename", "os.remove", "os.rmdir", "os.link", "os.mkdir", "os.chmod", "os.truncate"}
)


def main() -> None:
    """Count from the moment the program is loaded."""
    last = int(sys.argv.pop(1))
    count = itertools.count(1)

    def step() -> None:
        if next(count) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(function: Any) -> Any:
        def before(*args: Any) -> Any:
            step()
            return function(*args)

        return before

    from wanrec.reconcile import disk_linux
    from wanrec.reconcile.cli import main as program

    # These are no calls of `os` and so raise no audit event.
    disk_linux.rename_exchange = counted(disk_linux.rename_exchange)
    if "KILL_AT_NO_EXCHANGE" in os.environ:  # as on a file system without it
        disk_linux.rename_exchange = lambda *_: False
    disk_linux.rename_noreplace = counted(disk_linux.rename_noreplace)
    for name in ("fsync", "fdatasync", "write"):
        setattr(os, name, counted(getattr(os, name)))
    sys.addaudithook(lambda event, args: step() if event in STEPS else None)
    sys.exit(program())


if __name__ == "__main__":
    main()
