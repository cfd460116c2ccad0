"""`buffers`: memory that begins at a page."""

from __future__ import annotations

import ctypes
import mmap

from hypothesis import given
from hypothesis import strategies as st

from wanrec.reconcile.buffers import page_aligned


@given(st.integers(1, 1 << 20))
def test_a_buffer_begins_at_a_page_and_is_as_long_as_asked(size: int) -> None:
    """Writable zeros, no byte more, at an address that the kernel copies to fast."""
    view = page_aligned(size)
    assert (len(view), view.readonly, bytes(view[:1])) == (size, False, b"\0")
    assert ctypes.addressof(ctypes.c_char.from_buffer(view)) % mmap.PAGESIZE == 0
    view[size - 1 : size] = b"x"
    assert view[-1:] == b"x"
