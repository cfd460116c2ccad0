"""Who cannot be reached is not waited for again and again; who was reached once is."""

from __future__ import annotations

import pytest

from wanrec.providers.unreachable import Unreachable
from wanrec.providers.wire import Origin, WireFault
from wanrec.reconcile.errors import ErrorCode

HOST = Origin("https", "a.example", 443)
OTHER = Origin("https", "b.example", 443)
REFUSED = WireFault(ErrorCode.SOURCE_UNAVAILABLE, "refused", retries=2, hint="look")
TIMEOUT = WireFault(ErrorCode.NETWORK_TIMEOUT, "in time", retries=1)


def test_a_timeout_is_waited_for_once() -> None:
    """After one whole deadline the next file fails at once, with the same words and no retry."""
    dead = Unreachable()
    dead.failed(HOST, TIMEOUT, 60)
    with pytest.raises(WireFault) as caught:
        dead.check(HOST)
    assert (caught.value.code, caught.value.text, caught.value.retries) == (
        ErrorCode.NETWORK_TIMEOUT,
        "in time",
        0,
    )
    dead.check(OTHER)


def test_a_refusal_is_tried_as_often_as_makes_sense() -> None:
    """A quick failure has its retries before it is remembered."""
    dead = Unreachable()
    for _ in range(2):
        dead.failed(HOST, REFUSED, 60)
        dead.check(HOST)
    dead.failed(HOST, REFUSED, 60)
    with pytest.raises(WireFault):
        dead.check(HOST)


def test_it_is_forgotten() -> None:
    """After its time the host is tried again."""
    dead = Unreachable()
    dead.failed(HOST, TIMEOUT, 0)
    dead.check(HOST)


def test_a_host_that_was_reached_is_not_given_up() -> None:
    """One connection that fails beside others says nothing about the rest."""
    dead = Unreachable()
    dead.reached(HOST)
    dead.failed(HOST, TIMEOUT, 60)
    dead.check(HOST)


@pytest.mark.parametrize(
    "fault",
    [
        WireFault(ErrorCode.AUTH_FAIL, "the proxy wants credentials", retries=0),
        WireFault(ErrorCode.SOURCE_UNAVAILABLE, "the proxy found no way", retries=None),
    ],
)
def test_an_answer_is_no_silence(fault: WireFault) -> None:
    """What a proxy answers is no proof that nobody is there."""
    dead = Unreachable()
    dead.failed(HOST, fault, 60)
    dead.check(HOST)
