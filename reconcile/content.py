"""The bytes of open files: their hash, and whether they may land under their name.

Works on file descriptors and on bytes in memory; who opened or brought them, and how safely, is
the caller's business. Reads and never writes. Memory is bounded by one buffer a thread, and by the
safetensors header cap.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from wanrec.reconcile.buffers import thread_buffer
from wanrec.reconcile.content_rules import (
    HEAD_BYTES,
    TAIL_BYTES,
    ContentFault,
    archive_marks,
    check_header,
    check_header_length,
    check_index,
    executable_format,
    is_index,
    is_pickle_stream,
)
from wanrec.reconcile.errors import ErrorCode, WanrecError

__all__ = [
    "CHUNK",
    "ContentFault",
    "Stop",
    "check_index",
    "hash_fd",
    "hash_many",
    "inspect_bytes",
    "inspect_content",
    "is_index",
    "read_view_at",
]

CHUNK = 1024 * 1024
_LARGE = 8 * CHUNK
_BATCH = 16
_Item = TypeVar("_Item")
_Read = Callable[[int, int], bytes]
"""(offset, count) → at most `count` bytes from there."""


class Beside(Protocol):
    """Whatever wants to see the bytes that are hashed, in their order."""

    def update(self, chunk: memoryview) -> None:
        """Take the next bytes of the file."""
        ...


class Stop(Protocol):
    """What `threading.Event` offers and the loops ask once a chunk."""

    def is_set(self) -> bool:
        """True when the work is to end."""
        ...


def hash_fd(
    fd: int,
    size: int | None = None,
    *,
    stop: Stop | None = None,
    progress: Callable[[int], None] | None = None,
    beside: Beside | None = None,
) -> tuple[str, int]:
    """Hash a file from its current position and return `(sha256, bytes read)`.

    Args:
        fd: open for reading.
        size: bytes expected; a file that turns out longer is not read to its end.
        stop: asked once a chunk.
        progress: called with the bytes of each chunk.
        beside: sees each chunk while it is in memory.

    Raises:
        OSError: the file cannot be read.
        WanrecError: INTERRUPTED when `stop` was set.
    """
    digest = hashlib.sha256()
    total = 0
    if size is None or size > CHUNK:
        _expect_sequential(fd)
        view = thread_buffer()
    else:
        view = thread_buffer()[: max(size + 1, 4096)]
    while count := _read_into(fd, view):
        digest.update(view[:count])
        total += count
        if beside is not None:
            beside.update(view[:count])
        if progress is not None:
            progress(count)
        if size is not None and total > size:
            break
        if stop is not None and stop.is_set():
            raise WanrecError(ErrorCode.INTERRUPTED, "stopped while hashing")
    return digest.hexdigest(), total


def hash_many(
    items: Sequence[_Item],
    opener: Callable[[_Item], int],
    *,
    sizes: Sequence[int] | None = None,
    threads: int = 2,
    stop: Stop | None = None,
    progress: Callable[[int], None] | None = None,
    beside: Mapping[int, Beside] | None = None,
) -> list[tuple[str, int] | Exception]:
    """Hash many files on several threads.

    Args:
        items: whatever `opener` understands.
        opener: returns a descriptor that is closed here; called on the worker threads.
        sizes: bytes of each item as far as known; large files are begun first.
        threads: at least 1; the calling thread is one of them.
        stop: ends all work early.
        progress: called with byte counts, from every thread.
        beside: position in `items` → what sees the bytes of that one.

    Returns:
        In the order of `items`: `(sha256, bytes)`, or the `OSError` or `WanrecError` of the one
        item that could not be read.

    Raises:
        WanrecError: INTERRUPTED when `stop` was set.
    """
    results: list[tuple[str, int] | Exception | None] = [None] * len(items)
    batches = _batches(len(items), sizes)
    ticket = itertools.count()
    ended = threading.Event()

    def work() -> None:
        # A ticket is handed out in one step under the interpreter's own lock.
        while (number := next(ticket)) < len(batches) and not ended.is_set():
            for index in batches[number]:
                if stop is not None and stop.is_set():
                    return
                size = None if sizes is None else sizes[index]
                watcher = None if beside is None else beside.get(index)
                results[index] = _hash_one(items[index], opener, size, stop, progress, watcher)

    helpers = [
        threading.Thread(target=work, name=f"wanrec-hash-{n}", daemon=True)
        for n in range(1, min(threads, len(batches)))
    ]
    for helper in helpers:
        helper.start()
    try:
        work()
    finally:
        # Only when this thread was interrupted is anything left to be ended.
        if next(ticket) < len(batches):
            ended.set()
        for helper in helpers:
            helper.join()
    if stop is not None and stop.is_set():
        raise WanrecError(ErrorCode.INTERRUPTED, "stopped while hashing")
    return [result for result in results if result is not None]


def _hash_one(
    item: _Item,
    opener: Callable[[_Item], int],
    size: int | None,
    stop: Stop | None,
    progress: Callable[[int], None] | None,
    beside: Beside | None,
) -> tuple[str, int] | Exception:
    try:
        fd = opener(item)
        try:
            return hash_fd(fd, size, stop=stop, progress=progress, beside=beside)
        finally:
            os.close(fd)
    except (OSError, WanrecError) as exc:
        return exc


def _batches(count: int, sizes: Sequence[int] | None) -> list[Sequence[int]]:
    """Split the work: large files alone and first, so that no thread ends with one; rest in order.

    Small ones go in batches, whose neighbours are usually in the same folder.
    """
    if sizes is None:
        return [(index,) for index in range(count)]
    large = [index for index in range(count) if sizes[index] >= _LARGE]
    large.sort(key=lambda index: -sizes[index])
    small = [index for index in range(count) if sizes[index] < _LARGE]
    batches: list[Sequence[int]] = [(index,) for index in large]
    batches.extend(small[at : at + _BATCH] for at in range(0, len(small), _BATCH))
    return batches


def inspect_content(
    fd: int, size: int, path: str, *, allow_pickle: bool = False
) -> ContentFault | None:
    """Say why a file may not land, None when it may. Judged by its bytes, not by its name.

    A `.safetensors` file must have a whole and honest header. Any file that is a pickle, or an
    archive that may hold one (at its start or at its end), is refused unless allowed.

    Raises:
        OSError: the file cannot be read.
    """
    return _inspect(functools.partial(_read_at, fd), size, path, allow_pickle=allow_pickle)


def inspect_bytes(
    content: memoryview, path: str, *, allow_pickle: bool = False
) -> ContentFault | None:
    """Say the same of a whole file in memory."""

    def read(offset: int, count: int) -> bytes:
        return bytes(content[offset : offset + count])

    return _inspect(read, len(content), path, allow_pickle=allow_pickle)


def _inspect(read: _Read, size: int, path: str, *, allow_pickle: bool) -> ContentFault | None:
    safetensors = path.lower().endswith(".safetensors")
    head = read(0, min(size, HEAD_BYTES))
    if not allow_pickle and (name := _carried(read, size, head, safetensors=safetensors)):
        return ContentFault(
            code=ErrorCode.POLICY_DENIED,
            message=f"{path} is {name}, which can run code when it is loaded",
        )
    if safetensors and (problem := _header_problem(read, size)):
        return ContentFault(code=ErrorCode.INCOMPLETE_MODEL, message=f"{path}: {problem}")
    return None


def _carried(read: _Read, size: int, head: bytes, *, safetensors: bool) -> str | None:
    name = executable_format(head)
    if name is not None and not (safetensors and _honest_beginning(read, size, head)):
        return name
    whole = size <= min(len(head), TAIL_BYTES)  # small files are the many ones: read them once
    tail = head if whole else read(max(0, size - TAIL_BYTES), min(size, TAIL_BYTES))
    for offset, signature in archive_marks(tail, size):
        if read(offset, 4) == signature:
            return "a zip archive behind other bytes"
    return None


def _honest_beginning(read: _Read, size: int, head: bytes) -> bool:
    """True when the magic number is only the low bytes of a right header length."""
    if _header_problem(read, size) is not None:
        return False
    return not is_pickle_stream(read(0, 8 + int.from_bytes(head[:8], "little")))


def _header_problem(read: _Read, size: int) -> str | None:
    length = check_header_length(read(0, 8), size)
    if isinstance(length, str):
        return length
    header = read(8, length)
    if len(header) < length:
        return "the file became shorter while it was read"
    return check_header(header, size - 8 - length)


def _read_at(fd: int, offset: int, count: int) -> bytes:
    parts = []
    while count > 0 and (part := _pread(fd, count, offset)):
        parts.append(part)
        offset += len(part)
        count -= len(part)
    return b"".join(parts)


if hasattr(os, "readv"):

    def _read_into(fd: int, view: memoryview) -> int:
        return os.readv(fd, (view,))

    def _pread(fd: int, count: int, offset: int) -> bytes:
        return os.pread(fd, count, offset)

    def read_view_at(fd: int, view: memoryview, offset: int) -> int:
        """Read into the view from an offset; 0 is the end of the file."""
        return os.preadv(fd, (view,), offset)

    def _expect_sequential(fd: int) -> None:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)

else:  # Windows

    def _read_into(fd: int, view: memoryview) -> int:
        data = os.read(fd, len(view))
        view[: len(data)] = data
        return len(data)

    def _pread(fd: int, count: int, offset: int) -> bytes:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, count)

    def read_view_at(fd: int, view: memoryview, offset: int) -> int:
        """Read into the view from an offset; 0 is the end of the file."""
        data = _pread(fd, len(view), offset)
        view[: len(data)] = data
        return len(data)

    def _expect_sequential(fd: int) -> None:
        """There is no such advice to give."""
