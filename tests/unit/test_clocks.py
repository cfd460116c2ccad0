"""Records follow the clocks that wanrec's own links moved, and nothing else's."""

from __future__ import annotations

import itertools

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanrec.state.clocks import InodeStep, Steps, follow
from wanrec.state.model import FileRecord, State

EARLY, LATE = "2026-01-01T00:00:00.000000Z", "2026-01-02T00:00:00.000000Z"
RECORD = FileRecord(
    path="m/a",
    size=10,
    sha256="a" * 64,
    mtime_ns=1,
    ctime_ns=2,
    ino=3,
    dev=4,
    verified_at=EARLY,
)


def step(before: int, after: int, **changes: int) -> InodeStep:
    """A step of the record's inode."""
    made = InodeStep(ino=3, dev=4, size=10, mtime_ns=1, before_ns=before, after_ns=after)
    return attrs.evolve(made, **changes)


def after(*steps: InodeStep, record: FileRecord = RECORD) -> FileRecord:
    """The record once the steps are followed."""
    return follow(State(files={"m::a": record}), Steps(steps=steps, settled=LATE)).files["m::a"]


@pytest.mark.parametrize(
    ("steps", "ctime_ns"),
    [
        ([step(2, 5)], 5),
        ([step(2, 5), step(5, 7)], 7),
        ([step(5, 7), step(2, 5)], 7),
        ([step(2, 5), step(2, 7)], 7),  # two runs at once: both looked before either linked
        ([step(2, 5), step(6, 7)], 5),  # somebody else between them: the last one proves nothing
        ([step(1, 5)], 2),
        ([step(2, 5, ino=9)], 2),
        ([step(2, 5, size=9)], 2),
        ([step(2, 5, mtime_ns=9)], 2),
        ([step(2, 5), step(5, 2)], 5),  # a clock that was set back ends no walk
    ],
)
def test_where_a_record_is_led(steps: list[InodeStep], ctime_ns: int) -> None:
    """A record goes as far as an unbroken chain of steps on its very inode, no further."""
    led = after(*steps)
    assert led.ctime_ns == ctime_ns
    assert led.verified_at == (EARLY if ctime_ns == RECORD.ctime_ns else LATE)


def chain(clocks: set[int]) -> list[InodeStep]:
    """Steps that lead from the record through all these times."""
    times = itertools.pairwise([RECORD.ctime_ns, *sorted(clocks)])
    return [step(earlier, later) for earlier, later in times]


@given(st.sets(st.integers(3, 50), min_size=1).map(chain).flatmap(st.permutations))
def test_order_of_steps_never_matters(steps: list[InodeStep]) -> None:
    """Whichever run's steps become known first, the record ends at the last of them."""
    assert after(*steps).ctime_ns == max(step.after_ns for step in steps)


def test_no_steps_no_new_state() -> None:
    """Without steps, or with those of other inodes, the very same state comes back."""
    state = State(files={"m::a": RECORD})
    assert follow(state, Steps()) is state
    assert follow(state, Steps(steps=(step(2, 5, ino=9),), settled=LATE)) is state


def test_steps_of_two_runs_are_one_set() -> None:
    """Joined steps hold each once, with the later of the two times."""
    mine = Steps(steps=(step(2, 5), step(5, 7)), settled=EARLY)
    theirs = Steps(steps=(step(5, 7),), settled=LATE)
    assert mine | theirs == Steps(steps=mine.steps, settled=LATE)
    assert not Steps()
    assert Steps() | mine == mine
