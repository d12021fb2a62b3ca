"""The results of probes: who is up, who is down, since when, and how soon to probe again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqdisco.probes.probe_state import FAILURES_UNTIL_DOWN, Outcome, ProbeState, backoff, next_state, node_status


def after(*outcomes: Outcome) -> ProbeState:
    """Return the state of a node after one probe each second with these outcomes."""
    guard = None
    for at, outcome in enumerate(outcomes, 1):
        guard = next_state(guard, outcome, float(at))
    assert guard is not None
    return guard


def repeated(outcome: Outcome, count: int) -> list[Outcome]:
    return [outcome] * count


@pytest.mark.parametrize("outcome", ["ready", "not_ready", "answered", "connected"])
def test_one_answer_of_any_kind_is_enough_to_be_up(outcome: Outcome) -> None:
    assert after(outcome).is_up
    assert after("refused", "refused", "refused", outcome).is_up


@pytest.mark.parametrize("outcome", ["refused", "unreachable", "no_answer", "closed"])
def test_a_node_is_down_after_three_failures_since_the_first(outcome: Outcome) -> None:
    assert after(outcome, outcome).is_up is None
    assert after("ready", outcome, outcome).is_up is True
    down = after("ready", outcome, outcome, outcome)
    assert (down.is_up, down.since, down.checked) == (False, 2.0, 4.0)
    assert after("ready", outcome, outcome, "ready", outcome, outcome).is_up is True


@pytest.mark.parametrize("before", [(), ("ready",), ("refused",), ("refused",) * 5])
def test_a_node_without_an_address_is_neither_up_nor_down_whatever_it_was(before: tuple[Outcome, ...]) -> None:
    for count in (1, 2, 50):
        unresolved = after(*before, *repeated("unresolved", count))
        assert (unresolved.is_up, unresolved.since) == (None, len(before) + 1.0)


def test_failures_are_counted_anew_once_a_name_has_an_address_again() -> None:
    assert after("refused", "refused", "unresolved", "refused", "refused").is_up is None
    down = after("refused", "refused", "unresolved", "refused", "refused", "refused")
    assert (down.is_up, down.since) == (False, 4.0)
    assert after("unresolved", "ready").is_up is True


def test_a_node_is_up_since_it_came_back_and_not_since_the_last_probe() -> None:
    assert after("refused", "ready", "not_ready", "refused", "ready").since == 2.0
    assert after("refused", "refused", "refused", "ready", "ready").since == 4.0


@given(st.lists(st.sampled_from(["ready", "refused", "closed", "unresolved"]), min_size=1))
def test_a_node_is_down_exactly_if_its_last_three_probes_failed(outcomes: list[Outcome]) -> None:
    guard = after(*outcomes)
    is_down = len(outcomes) >= FAILURES_UNTIL_DOWN and not {"ready", "unresolved"} & set(
        outcomes[-FAILURES_UNTIL_DOWN:]
    )
    resolved = [each for at, each in enumerate(outcomes) if "unresolved" not in outcomes[at:]]
    assert (guard.is_up is False) == is_down
    assert (guard.is_up is None) == ("ready" not in resolved and not is_down)
    assert guard.since <= guard.checked == len(outcomes)


def test_a_node_is_probed_less_often_the_longer_it_is_down_but_at_least_every_tenth_time() -> None:
    assert [backoff(after(*repeated("refused", count))) for count in range(1, 9)] == [1, 1, 1, 2, 4, 8, 10, 10]
    assert backoff(after("refused", "refused", "refused", "refused", "ready")) == 1
    assert backoff(after("refused", "refused", "refused", "refused", "unresolved")) == 1
    assert backoff(after(*repeated("unresolved", 8))) == 10


def test_times_are_given_in_seconds_ago_and_not_before_the_first_probe() -> None:
    assert node_status(after("refused", "refused"), 9.0) is None
    seen = node_status(after("ready", "refused", "refused", "refused"), 10.25)
    assert seen is not None
    assert (seen.up, seen.since, seen.checked, seen.ready, seen.why) == (False, 8.2, 6.2, None, "refused")
    assert seen.unresolved is False
    seen = node_status(after("refused", "unresolved", "unresolved"), 10.25)
    assert seen is not None
    assert (seen.up, seen.unresolved, seen.since, seen.checked, seen.why) == (None, True, 8.2, 7.2, None)
    seen = node_status(after("ready", "not_ready"), 3.0)
    assert seen is not None
    assert (seen.up, seen.since, seen.checked, seen.ready, seen.why) == (True, 2.0, 1.0, False, None)
