"""The append-only journal of one run: JSON lines under `.wanrec/journal/RUN.jsonl`.

Each line is one write on an append-only descriptor and stands for itself, so a reader needs no
lock and a crash can tear the last line only; a torn line is ignored. The first line says whose
journal it is: without it there is no journal. Swap intents and commits are on the disk before
`append` returns; `busy` marks are not, they mean nothing after a crash.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

import attrs
import msgspec

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.state.atomic import fsync_dir, read_regular, remove
from wanrec.state.osfault import translated
from wanrec.state.run import CommitEntry, Retirement, RunInfo, SwapIntent

__all__ = [
    "SUFFIX",
    "Journal",
    "JournalWriter",
    "decode_line",
    "encode_line",
    "keep_journal",
    "read_journal",
]

SUFFIX = ".jsonl"

_BODIES: Mapping[str, Any] = {
    "begin": RunInfo,
    "busy": str,
    "swap": SwapIntent,
    "commit": CommitEntry,
    "retired": Retirement,
    "end": None,
}


class _Line(msgspec.Struct):
    kind: str
    body: msgspec.Raw


@attrs.frozen(kw_only=True)
class Journal:
    """What a journal says.

    Attributes:
        swaps: intents that no commit of the same model follows, oldest first.
        damaged: lines that are not whole (a crash leaves at most one).
    """

    info: RunInfo
    busy: frozenset[str] = frozenset()
    swaps: tuple[SwapIntent, ...] = ()
    commits: tuple[CommitEntry, ...] = ()
    retired: tuple[Retirement, ...] = ()
    ended: bool = False
    damaged: int = 0


def encode_line(kind: str, body: object) -> bytes:
    """Return one journal line with its newline."""
    return msgspec.json.encode({"kind": kind, "body": body}) + b"\n"


def decode_line(line: bytes) -> tuple[str, Any] | None:
    """Return (kind, body), None for a line that is torn or of an unknown kind."""
    try:
        parsed = msgspec.json.decode(line, type=_Line)
        return parsed.kind, msgspec.json.decode(parsed.body, type=_BODIES[parsed.kind])
    except (msgspec.MsgspecError, ValueError, KeyError, RecursionError):
        return None


def read_journal(path: str) -> Journal | None:
    """Return the journal at a path, None when it is gone or has no whole first line.

    Raises:
        WanrecError: when it is there and cannot be read.
    """
    data = read_regular(path)
    lines = (data or b"").splitlines(keepends=True)
    whole = [decode_line(line) if line.endswith(b"\n") else None for line in lines]
    if not whole or whole[0] is None or whole[0][0] != "begin":
        return None
    swaps: dict[str, SwapIntent] = {}
    found: dict[str, list[Any]] = {kind: [] for kind in _BODIES}
    for line in whole:
        if line is None:
            continue
        kind, body = line
        found[kind].append(body)
        if kind == "swap":
            swaps.pop(body.key, None)
            swaps[body.key] = body
        elif kind == "commit":
            swaps.pop(body.commit.key, None)
    return Journal(
        info=found["begin"][0],
        busy=frozenset(found["busy"]),
        swaps=tuple(swaps.values()),
        commits=tuple(found["commit"]),
        retired=tuple(found["retired"]),
        ended=bool(found["end"]),
        damaged=whole.count(None),
    )


def keep_journal(path: str, kept: str) -> None:
    """Let a folded journal also lie at `kept`: with `.backup` it tells what a lost state said.

    Best effort: the state is written, and may never be lost.
    """
    draft = f"{kept}.new"
    remove(draft)
    try:
        try:
            os.link(path, draft)
        except OSError:  # no hard links here
            import shutil

            shutil.copyfile(path, draft)
        os.replace(draft, kept)
    except OSError:
        return


class JournalWriter:
    """Appends lines to a new journal; safe to call from several threads."""

    def __init__(self, path: str, info: RunInfo) -> None:
        """Create the journal with its first line, durable under its name.

        Raises:
            WanrecError: as the disk says; then no journal is left behind.
        """
        self.path = path
        self._mutex = threading.Lock()
        self._torn = False
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        with translated(path):
            self._fd = os.open(path, flags, 0o644)
        try:
            self.append("begin", info, sync=True)
            with translated(path):
                fsync_dir(os.path.dirname(path))
        except BaseException:
            self.close()
            os.unlink(path)
            raise

    def append(self, kind: str, body: object, *, sync: bool) -> None:
        """Write one line; with `sync` it survives a power cut once this returns.

        Raises:
            WanrecError: NO_SPACE, FILESYSTEM_ERROR; the line then counts as not written.
        """
        line = encode_line(kind, body)
        with self._mutex, translated(self.path):
            size = os.fstat(self._fd).st_size
            # After a line that stayed torn, a newline keeps the next one whole.
            payload = b"\n" + line if self._torn else line
            try:
                written = os.write(self._fd, payload)
            except OSError:
                self._cut_back(size)
                raise
            if written != len(payload):
                self._cut_back(size)
                raise WanrecError(
                    ErrorCode.NO_SPACE, f"no room for the journal {self.path}", where=self.path
                )
            self._torn = False
            if sync:
                _sync(self._fd)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _cut_back(self, size: int) -> None:
        try:
            os.ftruncate(self._fd, size)
        except OSError:
            self._torn = True


def _sync(fd: int) -> None:
    if hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        os.fsync(fd)
