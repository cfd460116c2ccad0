"""Lines of keys: found in every shape TOML has, and never an exception."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanrec.reconcile.toml_lines import KeyPath, find_lines, show_path

TEXT = '''\
# a comment with "quotes
top = 1
"quoted key" = """
several
lines \\""" and ""two"" quotes"""
literal = \'\'\'
it's "[x]"
\'\'\'
a.b . "c" = 2  # dotted
[table] # comment
key = [1, # one
  2, [3,
  4], {x = 5, y.z = "]}"},
]
when = 1979-05-27 07:32:00
text = "a # b = c \\" d"
[[models."a@1".files]]
path = "x"
[[models."a@1".files]]
path = "y"
[models."a@1".files.sub]
deep = true
[[models."a@1".files]]
[models.'lit"eral']
last = \'x\'
[models."tab\\t\\u0041"]
end = {}
'''

PLACES: dict[KeyPath, int] = {
    ("top",): 2,
    ("quoted key",): 3,
    ("literal",): 6,
    ("a",): 9,
    ("a", "b"): 9,
    ("a", "b", "c"): 9,
    ("table",): 10,
    ("table", "key", 0): 11,
    ("table", "key", 1): 12,
    ("table", "key", 2, 1): 13,
    ("table", "key", 3, "x"): 13,
    ("table", "key", 3, "y", "z"): 13,
    ("table", "when"): 15,
    ("table", "text"): 16,
    ("models", "a@1"): 17,
    ("models", "a@1", "files"): 17,
    ("models", "a@1", "files", 0, "path"): 18,
    ("models", "a@1", "files", 1): 19,
    ("models", "a@1", "files", 1, "path"): 20,
    ("models", "a@1", "files", 1, "sub", "deep"): 22,
    ("models", "a@1", "files", 2): 23,
    ("models", 'lit"eral', "last"): 25,
    ("models", "tab\tA", "end"): 27,
}


@pytest.mark.parametrize(("path", "line"), PLACES.items(), ids=[show_path(p) for p in PLACES])
def test_each_key_has_its_line(path: KeyPath, line: int) -> None:
    """A key is found where it stands, whatever stands around it."""
    assert find_lines(TEXT, [path]) == {path: line}


def test_many_at_once() -> None:
    """One walk answers for every path."""
    assert find_lines(TEXT, PLACES) == PLACES


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 1),
        (("nowhere",), 1),
        (("table", "missing"), 10),
        (("models", "a@1", "files", 1, "size"), 19),
        (("models", "a@1", "files", 9, "size"), 17),
    ],
)
def test_missing_key_has_the_line_of_its_parent(path: KeyPath, line: int) -> None:
    """What is not there is reported where it should have been."""
    assert find_lines(TEXT, [path])[path] == line


@pytest.mark.parametrize(
    "text",
    [
        "=",
        "a",
        "a =",
        "a = [",
        "a = {",
        "[",
        "[a",
        "a b = 1",
        "a = ]",
        "a = {=}",
        "a=" + "[" * 9999,
    ],
)
def test_broken_text_gives_what_is_known(text: str) -> None:
    """Text that is no TOML stops the search, and the lines before it still count."""
    found = find_lines("first = 1\nsecond = 2\n" + text, [("second",), ("later",)])
    assert found == {("second",): 2, ("later",): 1}


@given(st.text(alphabet="ab=.[]{}\"'\\#,\n \t1", max_size=60))
def test_any_text_is_survived(text: str) -> None:
    """The answer is a line of the text, whatever the text is."""
    (line,) = find_lines(text, [("a", "b", 0)]).values()
    assert 1 <= line <= text.count("\n") + 1


def test_show_path() -> None:
    """Paths are written as in TOML, quoted where a bare key would not do."""
    path: KeyPath = ("models", "t2v@2.2", "files", 3, "size")
    assert show_path(path) == 'models."t2v@2.2".files[3].size'
    assert show_path(()) == ""
    assert len(show_path(("x" * 10_000,))) < 300
    assert show_path(("a b", 'c"d', "e\\f", "g\n")) == r'"a b"."c\"d"."e\\f"."g\u000a"'
