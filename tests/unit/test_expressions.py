"""Match expressions: pytest's grammar, checked against pytest's own parser."""

from __future__ import annotations

import pytest
from _pytest.mark.expression import Expression
from hypothesis import given, settings
from hypothesis import strategies as st

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.expressions import (
    MAX_NESTING,
    compile_keyword,
    compile_marks,
    mark_names,
)

WORDS = ("vae", "bf16", "a-b", "x.y", "a[1]", "p/q", "True", "1", "::", "+", "é")
TOKENS = (*WORDS, "and", "or", "not", "(", ")", " ", "\t", "=", ",", "'s'", '"', "\\", "!", "\n")
NAMES = ("vae", "bf16")


def texts() -> st.SearchStrategy[str]:
    """Any sequence of tokens: mostly nonsense, now and then an expression."""
    return st.lists(st.sampled_from(TOKENS), max_size=9).map(" ".join)


def expressions() -> st.SearchStrategy[str]:
    """Well-formed expressions of any shape."""
    return st.recursive(
        st.sampled_from(WORDS),
        lambda inner: st.one_of(
            inner.map("not {}".format),
            inner.map("({})".format),
            st.tuples(inner, st.sampled_from(("and", "or")), inner).map(" ".join),
        ),
        max_leaves=8,
    )


def theirs(text: str, holding: frozenset[str]) -> bool | None:
    """Pytest's answer, None when it refuses the expression."""
    try:
        expression = Expression.compile(text)
    except (SyntaxError, ValueError):
        return None
    return expression.evaluate(lambda name, /, **kwargs: not kwargs and name in holding)


def ours(text: str, holding: frozenset[str]) -> bool | None:
    """Our answer to the same question."""
    try:
        holds = compile_marks(text)
    except WanrecError as error:
        assert error.code is ErrorCode.USAGE
        return None
    return holds(holding)


@settings(max_examples=5_000, deadline=None)
@given(st.one_of(expressions(), texts()), st.sets(st.sampled_from(WORDS)).map(frozenset))
def test_agrees_with_pytest(text: str, holding: frozenset[str]) -> None:
    """An expression means to wanrec what it means to pytest, and is refused where pytest does."""
    assert ours(text, holding) == theirs(text, holding)


CALLS = st.lists(
    st.sampled_from(
        ("gpu", "(", ")", "mem", "=", "80", "-1", "'a'", "True", "None", ",", "def", " ", "2x", "²")
    ),
    max_size=9,
).map(lambda parts: "gpu(" + "".join(parts))


@settings(max_examples=2_000, deadline=None)
@given(CALLS)
def test_calls_are_refused_where_pytest_refuses(text: str) -> None:
    """Mark parameters follow pytest's grammar too."""
    assert (ours(text, frozenset()) is None) == (theirs(text, frozenset()) is None)


@pytest.mark.parametrize(
    ("text", "column", "problem"),
    [
        ("a and", 6, "end of input"),
        ("(a or b", 8, "expected right parenthesis"),
        ("a b", 3, "expected end of input; got identifier"),
        ("a and !b", 7, 'unexpected character "!"'),
        ("not", 4, "expected not or left parenthesis or identifier"),
        ("gpu(mem='x)", 9, "closing quote"),
        ("gpu(1=2)", 5, "not a parameter name"),
        ("gpu(a=1, a=2)", 10, "given twice"),
        ("gpu(a=b)", 7, 'unexpected value "b"'),
        ("gpu(a='\\')", 8, "escaping"),
    ],
)
def test_errors_point_at_the_column(text: str, column: int, problem: str) -> None:
    """A bad expression is a usage error that names the column and shows it."""
    with pytest.raises(WanrecError) as caught:
        compile_marks(text)
    assert caught.value.code is ErrorCode.USAGE
    assert f"at column {column}: " in caught.value.summary
    assert problem in caught.value.summary
    assert caught.value.detail.splitlines()[1].index("^") == column - 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("VAE", True),
        ("diffusion", True),
        ("not vae", False),
        ("vae and bf16", True),
        ("fp16 or bf16 and config", False),
        ("(fp16 or bf16) and model", True),
        ("t2v@2.2.0[bf16]", True),
        ("", False),
    ],
)
def test_keywords_are_substrings(text: str, expected: bool) -> None:
    """A word of -k holds when any name contains it, whatever the case."""
    holds = compile_keyword(text)
    assert holds(["t2v@2.2.0[bf16]::vae/diffusion_model.safetensors", "Vae"]) is expected


def test_keywords_take_no_parameters() -> None:
    """Call parameters are for -m only, as in pytest."""
    with pytest.raises(WanrecError, match="only -m takes call parameters"):
        compile_keyword("vae(a=1)", "--exclude")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu", True),
        ("gpu(mem=80)", True),
        ("gpu(mem=80, kind='a')", True),
        ("gpu(mem=40)", False),
        ("gpu(mem=80, x=None)", False),
        ("video(mem=80)", False),
        ("vid", False),
        ("odd(", None),
        ("video and not gpu(mem=40)", True),
    ],
)
def test_marks_match_by_name_and_parameters(text: str, expected: bool | None) -> None:
    """A mark matches whole; parameters must be among the mark's own."""
    marks = ["video", "gpu(mem=80, kind='a')", "odd("]
    if expected is None:
        with pytest.raises(WanrecError):
            compile_marks(text)
    else:
        assert compile_marks(text)(marks) is expected


def test_mark_names() -> None:
    """Strict configurations can ask which marks an expression speaks of."""
    assert mark_names("a and not (b or c(x=1))") == {"a", "b", "c"}


def test_nesting_is_bounded() -> None:
    """Deep nesting is a usage error, never a stack overflow; long chains are fine."""
    for deep in ("(" * 50_000 + "a", "not " * 50_000 + "a"):
        with pytest.raises(WanrecError, match="nested"):
            compile_marks(deep)
    assert compile_marks("not " * (MAX_NESTING - 1) + "a")(["b"]) is ((MAX_NESTING - 1) % 2 == 1)
    assert compile_marks(" or ".join(["b"] * 20_000 + ["a"]))(["a"])
