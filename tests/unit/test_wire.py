"""`wire`: heads of answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanrec.providers import wire
from wanrec.providers.wire import WireFault, parse_head

_names = st.sampled_from(["Content-Length", "etag", "Connection", "x-a", "X-A", "na me", "", " b"])
_values = st.text(st.characters(max_codepoint=255), max_size=6) | st.sampled_from(["1", " 1\t"])
_lines = st.builds("{}:{}".format, _names, _values) | _values
_firsts = st.sampled_from(
    ["HTTP/1.1 200 OK", "HTTP/1.0 206", "HTTP/1.1 404  ", "HTTP/1.1 99 x", "HTTP/1.1 200\n", "x"]
)


def _parsed(head: bytes) -> object:
    try:
        return parse_head(head)
    except WireFault as fault:
        return fault.text


@given(_firsts, st.lists(_lines, max_size=5))
def test_plain_heads_mean_what_they_mean_line_by_line(first: str, lines: list[str]) -> None:
    """The quick way to read a head comes to what the careful one does, faults included."""
    head = "\r\n".join([first, *lines]).encode("latin-1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "_plain_head", lambda text: None)
        careful = _parsed(head)
    assert _parsed(head) == careful


def test_a_plain_head_is_read_the_quick_way() -> None:
    """What servers send is recognised; names come in lower case, values without blanks."""
    head = b'HTTP/1.1 206 Partial Content\r\nContent-Length:  3 \r\nETag: "v"'
    assert wire._plain_head(head.decode()) is not None
    assert parse_head(head) == (206, {"content-length": "3", "etag": '"v"'})
