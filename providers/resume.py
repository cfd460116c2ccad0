"""Parts that outlive their process: a journal beside each says which ranges have arrived.

A part of known content has a journal of the same name. Its lines say what was written (`w`, good
as long as this machine has not been restarted since) and what was flushed (`s`, good for ever);
the entry always comes after the bytes. The journal is locked while its process lives, so a part
is adopted only from the dead. Whatever it says, the sha256 of the whole decides in the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator

from wanrec.providers.parts import PARTIAL_DIR, Part, Parts, StageDir, part_name
from wanrec.reconcile.errors import WanrecError

__all__ = ["Intervals", "ResumablePart", "open_part", "resumable_bytes"]

_FORMAT = 1
_MAX_JOURNAL = 16 << 20
_name = re.compile(r"([0-9a-f]{64})-([0-9]+)-[0-9a-f]+\.part").fullmatch
_entry = re.compile(r"([ws]) ([0-9]{1,18}) ([0-9]{1,18})").fullmatch


class Intervals:
    """A set of byte positions as sorted, disjoint ranges."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []

    def add(self, start: int, stop: int) -> None:
        """Add the positions from start up to stop."""
        if start >= stop:
            return
        keep = [(a, b) for a, b in self._ranges if b < start or a > stop]
        joined = [(a, b) for a, b in self._ranges if not (b < start or a > stop)]
        low = min([start, *(a for a, _ in joined)])
        high = max([stop, *(b for _, b in joined)])
        self._ranges = sorted([*keep, (low, high)])

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._ranges)

    def total(self) -> int:
        """Number of positions."""
        return sum(stop - start for start, stop in self._ranges)

    def gaps(self, size: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges below `size` that are not in the set."""
        at = 0
        for start, stop in self._ranges:
            if start > at:
                yield at, min(start, size)
            at = max(at, stop)
        if at < size:
            yield at, size


class ResumablePart:
    """An open part and its locked journal. `wrote` may be called from several threads.

    Attributes:
        part: the open part.
        done: what has arrived already.
        source, etag: the source that was asked last, and the validator it gave.
        lost: a flush failed: the system may take for written what never reached the disk.
    """

    def __init__(self, stage: StageDir, part: Part, journal: Part, size: int) -> None:
        self.part = part
        self.done = Intervals()
        self.source: str | None = None
        self.etag: str | None = None
        self.lost = False
        self._stage = stage
        self._journal = journal
        self._size = size
        self._lock = threading.Lock()
        self._syncing = threading.Lock()
        self._unsynced = 0

    def begin(self) -> None:
        """Write the head of a new journal."""
        head = {"format": _FORMAT, "size": self._size, "boot": _boot_id()}
        self._append(json.dumps(head))

    def pin(self, source: str, etag: str | None) -> None:
        """Remember whose validator the next ranges are bound to."""
        if (source, etag) != (self.source, self.etag):
            self.source, self.etag = source, etag
            self._append(json.dumps({"source": source, "etag": etag}))

    def wrote(self, start: int, stop: int) -> None:
        """Journal bytes that are in the part now."""
        with self._lock:
            self.done.add(start, stop)
            self._unsynced += stop - start
        self._append(f"w {start} {stop}")

    def sync(self, after: int = 0) -> None:
        """Make what has arrived durable, when more than `after` bytes are not yet."""
        if self._unsynced <= after or not self._syncing.acquire(blocking=False):
            return
        try:
            with self._lock:
                ranges = list(self.done)
                self._unsynced = 0
            try:
                getattr(os, "fdatasync", os.fsync)(self.part.fd)
            except OSError:
                self.lost = True
                raise
            self._append("\n".join(f"s {start} {stop}" for start, stop in ranges))
        finally:
            self._syncing.release()

    def reset(self) -> None:
        """Drop all bytes and entries: the next byte is the first."""
        os.ftruncate(self._journal.fd, 0)
        os.lseek(self._journal.fd, 0, os.SEEK_SET)
        os.ftruncate(self.part.fd, 0)
        self.done = Intervals()
        self.source = self.etag = None
        self._unsynced = 0
        self.begin()

    def keep(self) -> bool:
        """Leave part and journal for a later attempt, durable, and free the lock.

        False when what is in the part is not to be trusted: then nothing is done.
        """
        if not self.lost:
            with contextlib.suppress(OSError):
                self.sync()
        if self.lost:
            return False
        self.part.close()
        self._journal.close()
        return True

    def drop_journal(self) -> None:
        """The part has landed or is gone: remove the journal and free the lock."""
        with contextlib.suppress(WanrecError, OSError):
            self._stage.unlink(self._journal.rel)
        self._journal.close()

    def _append(self, text: str) -> None:
        if text:
            with self._lock:
                os.write(self._journal.fd, text.encode() + b"\n")

    def load(self, content: bytes) -> bool:
        """Take over what a journal says; False when it is of no use."""
        lines = content[: content.rfind(b"\n") + 1].decode("utf-8", "replace").splitlines()
        try:
            head = json.loads(lines[0])
            if head["format"] != _FORMAT or head["size"] != self._size:
                return False
            same_boot = bool(head["boot"]) and head["boot"] == _boot_id()
        except (ValueError, LookupError, TypeError):
            return False
        held = os.fstat(self.part.fd).st_size
        durable = Intervals()
        for line in lines[1:]:
            self._load_line(line, held, durable, same_boot=same_boot)
        os.ftruncate(self._journal.fd, 0)
        os.lseek(self._journal.fd, 0, os.SEEK_SET)
        self.begin()
        if self.source is not None:
            self._append(json.dumps({"source": self.source, "etag": self.etag}))
        self._append("\n".join(f"s {start} {stop}" for start, stop in durable))
        self._append("\n".join(f"w {start} {stop}" for start, stop in self.done))
        self._unsynced = self.done.total() - durable.total()
        return True

    def _load_line(self, line: str, held: int, durable: Intervals, *, same_boot: bool) -> None:
        match = _entry(line)
        if match is not None:
            start, stop = int(match[2]), min(int(match[3]), held, self._size)
            if match[1] == "s":
                durable.add(start, stop)
            if match[1] == "s" or same_boot:
                self.done.add(start, stop)
            return
        with contextlib.suppress(ValueError, LookupError, TypeError):
            pin = json.loads(line)
            self.source, self.etag = pin["source"], pin["etag"]


def open_part(parts: Parts, sha256: str, size: int) -> ResumablePart:
    """Adopt the fullest part that a dead process left of this content, else make a new one.

    Raises:
        WanrecError: the disk does not let us.
    """
    parts.make_folders()
    adopted = _adopt(parts.stage, sha256, size)
    if adopted is not None:
        return adopted
    while True:
        part = parts.create(sha256)
        rel = _journal_of(part.rel)
        journal = Part(rel, parts.stage.create(rel))
        fresh = ResumablePart(parts.stage, part, journal, size)
        if _lock(journal.fd):
            fresh.begin()
            return fresh
        part.close()  # somebody took the new journal for a dead one's; it is his now
        journal.close()


def resumable_bytes(stage: StageDir) -> dict[str, int]:
    """Say for each sha256 how many bytes a dead process left behind (the fullest part counts)."""
    found: dict[str, int] = {}
    for name in _part_names(stage):
        match = _name(name)
        if match is None:
            continue
        content = _read_journal(stage, name)
        count = _count(content) if content is not None else 0
        if count:
            found[match[1]] = max(found.get(match[1], 0), count)
    return found


def _count(content: bytes) -> int:
    done = Intervals()
    for line in content[: content.rfind(b"\n") + 1].decode("utf-8", "replace").splitlines():
        match = _entry(line)
        if match is not None:
            done.add(int(match[2]), int(match[3]))
    return done.total()


def _part_names(stage: StageDir) -> list[str]:
    try:
        with stage.folder(PARTIAL_DIR) as (fd, prefix):
            return sorted(os.listdir(prefix if fd is None else fd))
    except (OSError, WanrecError):
        return []


def _read_journal(stage: StageDir, part_name: str) -> bytes | None:
    with contextlib.suppress(OSError, WanrecError), stage.folder(PARTIAL_DIR) as (fd, prefix):
        name = prefix + _journal_of(part_name)
        opened = os.open(name, _flags(os.O_RDONLY), dir_fd=fd)
        try:
            return os.read(opened, _MAX_JOURNAL)
        finally:
            os.close(opened)
    return None


def _adopt(stage: StageDir, sha256: str, size: int) -> ResumablePart | None:
    names = [name for name in _part_names(stage) if (m := _name(name)) and m[1] == sha256]
    fullest = sorted(names, key=lambda name: -_count(_read_journal(stage, name) or b""))
    for name in fullest:
        with contextlib.suppress(OSError, WanrecError):
            adopted = _adopt_one(stage, name, sha256, size)
            if adopted is not None:
                return adopted
    return None


def _adopt_one(stage: StageDir, name: str, sha256: str, size: int) -> ResumablePart | None:
    rel = f"{PARTIAL_DIR}/{name}"
    journal = Part(_journal_of(rel), _open_existing(stage, _journal_of(name)))
    with contextlib.ExitStack() as undo:
        undo.callback(journal.close)
        if not _lock(journal.fd) or not _is_named(stage, journal):
            return None
        part = Part(rel, _open_existing(stage, name))
        undo.callback(part.close)
        # Where locks are no locks, only one of two can rename; the other finds nothing to land.
        mine = part_name(sha256)
        stage.rename(part.rel, mine)
        part.rel = mine
        stage.rename(journal.rel, _journal_of(mine))
        journal.rel = _journal_of(mine)
        resumed = ResumablePart(stage, part, journal, size)
        if not resumed.load(os.read(journal.fd, _MAX_JOURNAL)):
            return None
        undo.pop_all()
        return resumed


def _open_existing(stage: StageDir, name: str) -> int:
    with stage.folder(PARTIAL_DIR) as (fd, prefix):
        return os.open(prefix + name, _flags(os.O_RDWR), dir_fd=fd)


def _flags(mode: int) -> int:
    for extra in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
        mode |= getattr(os, extra, 0)
    return mode


def _journal_of(part: str) -> str:
    return part.removesuffix(".part") + ".ranges"


def _is_named(stage: StageDir, part: Part) -> bool:
    """Its name still leads to what was opened: it was not landed or removed meanwhile."""
    return stage.stat(part.rel).ino == os.fstat(part.fd).st_ino


def _lock_with(flock: Callable[[int, int], None], flags: int, fd: int) -> bool:
    try:
        flock(fd, flags)
    except OSError:
        return False
    return True


if sys.platform == "win32":

    def _lock(fd: int) -> bool:
        """Without a lock that ends with its process nothing is adopted, only created."""
        return os.fstat(fd).st_size == 0

else:
    import fcntl

    def _lock(fd: int) -> bool:
        return _lock_with(fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB, fd)


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""
