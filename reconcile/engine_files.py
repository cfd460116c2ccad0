"""Files the user named on the command line: read whole, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from wanrec.reconcile.disk_errors import translate_os_error

__all__ = ["read_input", "write_output"]


def read_input(path: Path) -> bytes:
    """Read a file.

    Raises:
        WanrecError: what the disk said, naming the file.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise translate_os_error(error, str(path), "read") from error


def write_output(path: Path, data: bytes) -> None:
    """Replace a file in one step, so that nobody ever reads a half-written one.

    A path that is not a regular file (a pipe, a terminal) is simply written to.

    Raises:
        WanrecError: what the disk said, naming the file.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with draft.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise translate_os_error(error, str(path), "write") from error
