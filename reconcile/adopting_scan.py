"""Finds wanted content among the files of a folder: by size first, then by hash.

Reads and never writes. Symlink loops, sockets, what nobody may read and files that change meanwhile
are told as an `Obstacle` each and passed over; what to make of them is the caller's business. A
file is hashed at most once as long as its stat stays the same: the caller keeps what was computed.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, MutableMapping
from typing import NamedTuple

from wanrec.reconcile.content import Stop, hash_fd
from wanrec.reconcile.disk import WANREC_DIR
from wanrec.reconcile.disk_errors import printable, translate_os_error
from wanrec.reconcile.errors import ErrorCode, WanrecError

__all__ = ["Candidate", "Obstacle", "find_content", "refusal", "scan"]

_SHOWN = 20
_LOOP = "a link that leads back to where it came from"


class Obstacle(NamedTuple):
    """Something in the folder that could not be looked at, or did not hold still."""

    place: str
    code: ErrorCode
    text: str

    def __str__(self) -> str:
        return f"{printable(self.place)}: {self.text}"


def refusal(obstacles: Iterable[Obstacle], hint: str) -> WanrecError:
    """The one error of all of them; its code is that of the first."""
    found = sorted(obstacles)
    first, more = found[0], len(found) - _SHOWN
    lines = [f"{one.code}: {one}" for one in found[:_SHOWN]]
    if more > 0:
        lines.append(f"and {more} more")
    alone = len(found) == 1
    return WanrecError(
        first.code,
        first.text if alone else f"{len(found)} things in the folder cannot be taken as they are",
        detail="" if alone else "\n".join(lines),
        where=printable(first.place) if alone else None,
        hint=hint,
    )


class Candidate(NamedTuple):
    """A regular file that could be wanted: where it really lies, and its identity."""

    place: str
    size: int
    mtime_ns: int
    ctime_ns: int
    ino: int
    dev: int

    @property
    def identity(self) -> str:
        """What a remembered digest belongs to."""
        return f"{self.dev}:{self.ino}:{self.size}:{self.mtime_ns}:{self.ctime_ns}"


def candidate(place: str, status: os.stat_result) -> Candidate:
    """The candidate for a path and its stat."""
    s = status
    return Candidate(place, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_dev)


def scan(
    folder: str, sizes: Container[int], tell: Callable[[Obstacle], None], skip: str | None = None
) -> list[Candidate]:
    """Return the regular files of these sizes below a folder, each inode once, by path.

    Links are followed, also to folders; no folder is entered twice. A link that leads nowhere is
    usual (a Hub cache after a clean-up) and no obstacle.

    Args:
        folder: where to look.
        sizes: sizes that are wanted.
        tell: told what could not be looked at.
        skip: a folder that is not entered.
    """
    found: dict[tuple[int, int], Candidate] = {}
    for place, status in _files(folder, tell, os.path.realpath(skip) if skip else None):
        if status.st_size not in sizes:
            continue
        if not os.access(place, os.R_OK):
            tell(Obstacle(place, ErrorCode.PERMISSION_DENIED, "may not be read"))
            continue
        inode = status.st_dev, status.st_ino
        found.setdefault(inode, candidate(os.path.realpath(place), status))
    return sorted(found.values())


def _files(
    folder: str, tell: Callable[[Obstacle], None], skip: str | None
) -> Iterator[tuple[str, os.stat_result]]:
    waiting, entered = [folder], set[tuple[int, int]]()
    while waiting:
        here = waiting.pop()
        try:
            own = os.stat(here)
            inode = own.st_dev, own.st_ino
            if inode in entered or (skip is not None and os.path.realpath(here) == skip):
                continue
            entered.add(inode)
            names = sorted(os.listdir(here))
        except OSError as error:
            tell(_obstacle(here, error))
            continue
        for name in names:
            place = os.path.join(here, name)
            try:
                status = os.stat(place)
            except OSError as error:
                if not isinstance(error, FileNotFoundError):
                    tell(_obstacle(place, error))
                continue
            if stat.S_ISREG(status.st_mode):
                yield place, status
            elif not stat.S_ISDIR(status.st_mode):
                tell(Obstacle(place, ErrorCode.UNSAFE_PATH, f"{_kind(status)}, not a file"))
            elif _leads_back(place):
                tell(Obstacle(place, ErrorCode.UNSAFE_PATH, _LOOP))
            elif name != WANREC_DIR:
                waiting.append(place)


def _kind(status: os.stat_result) -> str:
    if stat.S_ISSOCK(status.st_mode):
        return "a socket"
    return "a pipe" if stat.S_ISFIFO(status.st_mode) else "a device"


def _leads_back(place: str) -> bool:
    """True for a link to the folder it lies in, or to one above that."""
    if not os.path.islink(place):
        return False
    here = os.path.realpath(os.path.dirname(place))
    there = os.path.realpath(place)
    return here == there or here.startswith(there.rstrip(os.sep) + os.sep)


def _obstacle(place: str, error: OSError) -> Obstacle:
    if error.errno == errno.ELOOP:
        return Obstacle(place, ErrorCode.UNSAFE_PATH, _LOOP)
    code = translate_os_error(error, place, "read").code
    return Obstacle(place, code, f"cannot be read: {error.strerror}")


def find_content(
    candidates: Iterable[Candidate],
    wanted: Mapping[str, int],
    known: MutableMapping[str, str],
    *,
    threads: int,
    stop: Stop,
    tell: Callable[[Obstacle], None],
    progress: Callable[[int], None],
    copies: dict[str, list[str]] | None = None,
) -> dict[str, Candidate]:
    """Return sha256 → the first candidate with that content.

    Args:
        candidates: files of wanted sizes.
        wanted: sha256 → size.
        known: identity → digest of files hashed before; new digests are added.
        threads: files hashed at the same time.
        stop: ends the work early.
        tell: told of files that could not be read, or changed meanwhile.
        progress: told of bytes as they are read.
        copies: when given, every candidate is hashed, and each place of wanted content noted.

    Raises:
        WanrecError: INTERRUPTED; what was hashed until then is in `known`.
    """
    search = _Search(wanted, known, stop, tell, progress, copies)
    ordered = sorted(candidates, key=lambda one: (os.path.basename(one.place) not in wanted, one))
    if threads < 2 or len(ordered) < 2:
        for one in ordered:
            search.look_at(one)
        return search.found
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads, "wanrec-adopt") as pool:
        for _ in pool.map(search.look_at, ordered):
            pass
    return search.found


class _Search:
    def __init__(
        self,
        wanted: Mapping[str, int],
        known: MutableMapping[str, str],
        stop: Stop,
        tell: Callable[[Obstacle], None],
        progress: Callable[[int], None],
        copies: dict[str, list[str]] | None,
    ) -> None:
        self._copies = copies
        self.found: dict[str, Candidate] = {}
        self._open: dict[int, set[str]] = {}
        for sha256, size in wanted.items():
            self._open.setdefault(size, set()).add(sha256)
        self._known = known
        self._stop = stop
        self._tell = tell
        self._progress = progress
        self._lock = threading.Lock()

    def look_at(self, one: Candidate) -> None:
        """Hash one file, unless everything of its size has been found already."""
        with self._lock:
            if not self._open.get(one.size) and self._copies is None:
                return
            digest = self._known.get(one.identity)
        if digest is None:
            digest = self._hash(one)
        if digest is None:
            return
        with self._lock:
            self._known[one.identity] = digest
            if self._copies is not None:
                self._copies.setdefault(digest, []).append(one.place)
            if digest in self._open[one.size]:
                self._open[one.size].discard(digest)
                self.found[digest] = one

    def _hash(self, one: Candidate) -> str | None:
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        try:
            fd = os.open(one.place, flags)
            try:
                digest, _ = hash_fd(fd, one.size, stop=self._stop, progress=self._progress)
                after = candidate(one.place, os.fstat(fd))
            finally:
                os.close(fd)
        except OSError as error:
            self._tell(_obstacle(one.place, error))
            return None
        if after.identity != one.identity:
            text = "changed while it was read"
            self._tell(Obstacle(one.place, ErrorCode.CONCURRENT_MODIFICATION, text))
            return None
        return digest
