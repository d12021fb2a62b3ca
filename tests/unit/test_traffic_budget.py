"""Bytes per second, divided among many senders."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from rqdisco.limits.traffic_budget import TrafficBudget

RATE = 16_000_000
LEAST = 0.25


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def budget(clock: Clock) -> TrafficBudget:
    return TrafficBudget(RATE, clock.seconds)


def test_a_sender_pauses_in_proportion_to_what_it_sends_and_at_least_the_least(
    clock: Clock, budget: TrafficBudget
) -> None:
    assert budget.pause("small", 500, LEAST) == LEAST
    clock.advance(1)
    assert budget.pause("big", 100_000_000, LEAST) == 12.5


def test_a_sender_of_little_does_not_wait_for_one_of_much(clock: Clock, budget: TrafficBudget) -> None:
    budget.pause("big", 100_000_000, LEAST)
    for _ in range(20):
        clock.advance(LEAST)
        assert budget.pause("small", 5_000, LEAST) == LEAST


def test_a_sender_of_much_does_not_wait_for_very_many_of_little(clock: Clock, budget: TrafficBudget) -> None:
    for number in range(1999):
        assert budget.pause(f"small {number}", 2_000, LEAST) <= 0.5
    assert budget.pause("big", 100_000_000, LEAST) < 13.1


def test_senders_of_much_share_what_there_is(clock: Clock, budget: TrafficBudget) -> None:
    pauses = [budget.pause(f"big {number}", 8_000_000, LEAST) for number in range(4)]
    assert pauses == [1, 2, 3, 4]


def test_a_pause_that_is_over_counts_no_more(clock: Clock, budget: TrafficBudget) -> None:
    budget.pause("one", 8_000_000, LEAST)
    clock.advance(1)
    assert budget.pause("other", 8_000_000, LEAST) == 1
    assert len(budget) == 1


def test_a_sender_that_did_not_wait_pauses_for_both(clock: Clock, budget: TrafficBudget) -> None:
    assert budget.pause("one", 8_000_000, LEAST) == 1
    assert budget.pause("one", 8_000_000, LEAST) == 2
    clock.advance(2)
    assert len(budget) == 0
    assert budget.pause("one", 8_000_000, LEAST) == 1


@given(st.integers(0, 1 << 30), st.integers(1, 40))
def test_all_together_stay_within_the_rate(seed: int, count: int) -> None:
    random, clock = Random(seed), Clock()
    budget = TrafficBudget(RATE, clock.seconds)
    sizes = [int(10 ** random.uniform(2, 8)) for _ in range(count)]
    due = [random.uniform(0, 2) for _ in sizes]
    sent, seconds = 0, 120.0
    while min(due) < seconds:
        sender = due.index(min(due))
        clock.advance(max(0.0, due[sender] - clock.seconds()))
        sent += sizes[sender]
        due[sender] = clock.seconds() + budget.pause(str(sender), sizes[sender], LEAST)
    # Each sends first, and the pauses of the first ones are short.
    assert sent <= RATE * seconds + 2 * sum(sizes)
