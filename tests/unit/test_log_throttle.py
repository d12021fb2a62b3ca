"""Log lines that are repeated."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from rqdisco.limits.log_throttle import LOG_INTERVAL_SECONDS, MAX_SOURCES, LogThrottle


def test_each_source_is_logged_once_a_minute() -> None:
    clock = Clock()
    throttle = LogThrottle(clock.seconds)
    assert [throttle.is_due("a"), throttle.is_due("a"), throttle.is_due("b"), throttle.is_due()] == [
        True,
        False,
        True,
        True,
    ]
    clock.advance(LOG_INTERVAL_SECONDS - 1)
    assert not throttle.is_due("a")
    clock.advance(1)
    assert throttle.is_due("a")
    assert not throttle.is_due("a")


@pytest.mark.parametrize("start", [0.0, 0.1, 1e5 / 3, 123456.789, 1e9 / 7])
def test_the_first_line_of_a_source_is_logged_at_any_time(start: float) -> None:
    assert LogThrottle(lambda: start).is_due("a")


def test_it_remembers_the_sources_logged_last() -> None:
    throttle = LogThrottle(Clock().seconds)
    for number in range(MAX_SOURCES + 1):
        assert throttle.is_due(str(number))
    assert len(throttle._logged_at) == MAX_SOURCES
    assert not throttle.is_due("1")
    assert throttle.is_due("0")
