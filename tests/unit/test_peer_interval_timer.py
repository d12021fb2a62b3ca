"""Rounds that follow each other, sooner when hurried."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.gossip.membership.interval_timer import MIN_SECONDS, IntervalTimer
from tests.support.daemon import give_up


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_pause_lasts_as_long_as_requested(clock: Clock) -> None:
    resting = Deferred.fromCoroutine(IntervalTimer(clock).wait(1))
    clock.advance(0.9)
    assert not resting.called
    clock.advance(0.1)
    assert resting.called


def test_hurrying_ends_a_pause_but_not_at_once(clock: Clock) -> None:
    timer = IntervalTimer(clock)
    resting = Deferred.fromCoroutine(timer.wait(1))
    timer.trigger()
    timer.trigger()
    clock.advance(MIN_SECONDS / 2)
    assert not resting.called
    clock.advance(MIN_SECONDS / 2)
    assert resting.called


def test_hurrying_during_a_round_shortens_the_pause_after_it(clock: Clock) -> None:
    timer = IntervalTimer(clock)
    timer.trigger()
    resting = Deferred.fromCoroutine(timer.wait(1))
    clock.advance(MIN_SECONDS)
    assert resting.called
    later = Deferred.fromCoroutine(timer.wait(1))
    clock.advance(0.9)
    assert not later.called, "only that one"


def test_a_cancelled_pause_leaves_nothing_behind(clock: Clock) -> None:
    timer = IntervalTimer(clock)
    resting = Deferred.fromCoroutine(timer.wait(1))
    give_up(resting)
    assert clock.getDelayedCalls() == []
    timer.trigger()
