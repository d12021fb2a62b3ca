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


def test_a_costly_request_starts_while_there_is_a_token_and_is_repaid_at_the_rate() -> None:
    clock = Clock()
    buckets = Buckets(10, 3, clock.seconds)
    assert buckets.take("a", cost=21) == 0
    assert buckets.take("a") == pytest.approx(1.9)
    clock.advance(1.9)
    assert buckets.take("a") == 0
    buckets.charge("a", 20)
    assert buckets.take("a", patience=5) == pytest.approx(2.1)
    assert buckets.take("a", patience=5) == pytest.approx(2.2), "the one before has reserved its token"
    assert buckets.take("b") == 0


def test_charges_take_a_bucket_no_deeper_than_its_debt_may_be() -> None:
    clock = Clock()
    buckets = Buckets(10, 3, clock.seconds, max_debt=50)
    buckets.charge("a", 1_000_000)
    buckets.charge("a", 1_000_000)
    assert buckets.take("a", patience=6) == pytest.approx(5.1)
    buckets.charge("a", 1)
    assert buckets.take("a") == pytest.approx(5.2), "what waiting requests reserved is kept"
    clock.advance(60)
    assert [buckets.take("a") for _ in range(4)] == pytest.approx([0, 0, 0, 0.1])


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(1, 500), st.floats(0, 500)), min_size=1, max_size=60))
def test_in_the_long_run_nobody_spends_more_than_the_bucket_the_rate_and_one_request(
    requests: list[tuple[float, float, float]],
) -> None:
    clock = Clock()
    rate, most = 100.0, 50.0
    buckets = Buckets(rate, most, clock.seconds)
    spent = last = 0.0
    for gap, known, measured in requests:
        clock.advance(gap)
        if buckets.take("a", cost=known) == 0:
            buckets.charge("a", measured)
            last = known + measured
            spent += last
        assert spent <= most + clock.seconds() * rate + last + 1e-6


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


def test_a_costly_request_makes_its_client_wait_no_longer_than_the_debt_allows() -> None:
    buckets = Buckets(1.0, 10.0, lambda: 0.0, 5.0)
    assert buckets.take("a", cost=1000.0) == 0.0
    assert buckets.take("a", patience=100.0) == pytest.approx(6.0)
    assert buckets.take("a", patience=100.0) == pytest.approx(7.0), "waiting requests keep their order"
