"""Token buckets: who waits for how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from rqdisco.limits.rates import Buckets, is_local_source, source_of


def test_a_source_without_tokens_waits_and_waiting_sources_continue_in_order() -> None:
    clock = Clock()
    buckets = Buckets(10, 3, clock.seconds)
    waits = [buckets.take("a", patience=0.35) for _ in range(7)]
    assert waits == pytest.approx([0, 0, 0, 0.1, 0.2, 0.3, 0.4])
    assert buckets.take("a", 0.35) == pytest.approx(0.4), "a client that would wait too long took nothing"
    clock.advance(0.1)
    assert buckets.take("a", 0.35) == pytest.approx(0.3)
    assert buckets.take("b") == 0
    clock.advance(3600)
    assert [buckets.take("a") for _ in range(4)] == pytest.approx([0, 0, 0, 0.1])


@given(st.lists(st.floats(0, 2), min_size=1, max_size=80), st.floats(0.1, 50), st.floats(0, 20), st.floats(0, 3))
def test_no_period_lets_through_more_than_the_bucket_and_the_rate_allow(
    gaps: list[float], rate: float, most: float, patience: float
) -> None:
    clock = Clock()
    buckets = Buckets(rate, most, clock.seconds)
    through = []
    for gap in gaps:
        clock.advance(gap)
        wait = buckets.take("a", patience)
        if wait <= patience:
            through.append(clock.seconds() + wait)
    assert through == sorted(through)
    for first in range(len(through)):
        for last in range(first, len(through)):
            assert last - first + 1 <= max(1, most) + (through[last] - through[first]) * rate + 1e-6


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("198.51.100.7", "::ffff:198.51.100.7"),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"),
        ("fe80::1%eth0", "fe80::2"),
    ],
)
def test_a_source_is_the_same_in_every_notation(one: str, other: str) -> None:
    assert source_of(one) == source_of(other)


def test_the_local_host_is_recognized_in_every_notation() -> None:
    assert all(map(is_local_source, ("127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1")))
    assert not any(map(is_local_source, ("12.7.0.1", "::2", "198.51.100.7", "::ffff:10.0.0.1")))
