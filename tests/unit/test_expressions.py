"""Match expressions: pytest's grammar, checked against pytest's own parser."""

from __future__ import annotations

import random

import pytest
from _pytest.mark.expression import Expression

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.expressions import (
    MAX_NESTING,
    compile_keyword,
    compile_marks,
    mark_names,
)

WORDS = ("vae", "bf16", "a-b", "x.y", "a[1]", "p/q", "True", "1", "::", "+", "é")
TOKENS = (*WORDS, "and", "or", "not", "(", ")", " ", "\t", "=", ",", "'s'", '"', "\\", "!", "\n")
CALL_TOKENS = (
    *("mem", "=", "80", "-1", "'a'", "True", "None", ",", ")", "(", "def", " ", "2x", "²", "gpu"),
    *("a=1", "b='x'", ", ", "=80", "m=True)"),
)


def nonsense(rng: random.Random) -> str:
    """Any sequence of tokens: now and then an expression."""
    return " ".join(rng.choices(TOKENS, k=rng.randrange(9)))


def expression(rng: random.Random, depth: int = 0) -> str:
    """A well-formed expression of any shape."""
    kind = rng.randrange(6) if depth < 5 else 0
    if kind <= 1:
        return rng.choice(WORDS)
    if kind == 2:
        return f"not {expression(rng, depth + 1)}"
    if kind == 3:
        return f"({expression(rng, depth + 1)})"
    middle = rng.choice(("and", "or"))
    return f"{expression(rng, depth + 1)} {middle} {expression(rng, depth + 1)}"


def call(rng: random.Random) -> str:
    """A mark with something like parameters."""
    return "gpu(" + "".join(rng.choices(CALL_TOKENS, k=rng.randrange(9)))


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


def test_agrees_with_pytest() -> None:
    """10,000 expressions mean to wanrec what they mean to pytest, or are refused by both."""
    rng = random.Random(20261123)
    refused = 0
    for number in range(10_000):
        text = (expression, nonsense, call)[number % 3](rng)
        holding = frozenset(rng.sample(WORDS, rng.randrange(len(WORDS))))
        answer = ours(text, holding)
        refused += answer is None
        assert answer == theirs(text, holding), text
    assert 2_000 < refused < 8_000


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
