"""Files the user named on the command line: read whole, written whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from wanrec.reconcile.disk_errors import translate_os_error
from wanrec.reconcile.errors import ErrorCode, WanrecError

__all__ = ["file_error", "read_input", "write_output"]


def read_input(path: Path) -> bytes:
    """Read a file.

    Raises:
        WanrecError: what the disk said, naming the file.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise file_error(error, path, "read") from error


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
        raise file_error(error, path, "write") from error


def file_error(error: OSError, path: Path, doing: str) -> WanrecError:
    """Return the error about a file that is the user's and not the root's.

    Args:
        error: what the operating system said.
        path: the file, as the user named it.
        doing: "read" or "write".
    """
    told = translate_os_error(error, str(path), doing)
    if error.errno == errno.ENOENT:
        absent = f"make its folder first: mkdir -p {path.parent}"
        told.hint = absent if doing == "write" else "check the name of the file"
    elif error.errno in (errno.EISDIR, errno.ENOTDIR):
        told = WanrecError(
            ErrorCode.FILESYSTEM_ERROR,
            told.summary,
            detail=told.detail,
            where=told.where,
            hint="name a file, not a folder",
        )
    elif error.errno in (errno.EACCES, errno.EPERM):
        told.hint = f"check the rights of {path} and of its folder"
    return told
