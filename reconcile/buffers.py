"""Memory for the loops that read whole files: page-aligned, because that halves the time of a copy.

The kernel copies out of its page cache with one string instruction. On common processors that runs
at half its speed or less where the target lies a few bytes behind a page boundary, and just there a
large `bytearray` begins: the allocator keeps 16 bytes of its own at the start of the pages that it
was given. `docs/adr/0012-http-over-own-sockets.md` has the figures.
"""

from __future__ import annotations

import mmap
import threading

__all__ = ["page_aligned", "thread_buffer"]

_SIZE = 1 << 20
_local = threading.local()


def thread_buffer() -> memoryview:
    """Return the 1 MiB of the calling thread: fresh memory costs a small file more than its bytes.

    What is in it is good until this thread asks again; so a function that holds it calls nobody
    who may ask too.
    """
    buffer: memoryview | None = getattr(_local, "buffer", None)
    if buffer is None:
        buffer = _local.buffer = page_aligned(_SIZE)
    return buffer


def page_aligned(size: int) -> memoryview:
    """Return `size` writable zero bytes that begin at a page; freed with the last view of them.

    Args:
        size: at least 1.

    Raises:
        MemoryError: there is not so much.
    """
    try:
        if hasattr(mmap, "MAP_ANONYMOUS"):
            return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        return memoryview(mmap.mmap(-1, size))  # Windows
    except OSError as exc:
        raise MemoryError(f"no buffer of {size} bytes") from exc
