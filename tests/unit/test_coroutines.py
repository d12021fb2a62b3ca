"""Coroutines that await Deferreds."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from rqdisco.coroutines import Running, gather, run_in_background


async def last_of(awaited: Iterable[Awaitable[Any]]) -> Any:
    result = None
    for each in awaited:
        try:
            result = await each
        except ValueError as error:
            result = str(error)
    return result


def started(coroutine: Coroutine[Any, Any, Any], *, is_shielded: bool = False) -> tuple[Running[Any], list[Any]]:
    """Return the running coroutine, and a list that its result, or its Failure, is added to."""
    running: Running[Any] = Running(coroutine, coroutine.send(None), lambda outcome: outcome, is_shielded=is_shielded)
    results: list[Any] = []
    running.then(results.append)
    return running, results


@given(st.lists(st.tuples(st.booleans(), st.integers()), min_size=1, max_size=5), st.randoms())
def test_a_coroutine_gets_the_results_of_what_it_awaits_in_whatever_order_they_come(
    outcomes: list[tuple[bool, int]], random: Any
) -> None:
    awaited: list[Deferred[Any]] = [Deferred() for _ in outcomes]
    running, results = started(last_of(awaited))
    order = list(range(len(outcomes)))
    random.shuffle(order)
    for at in order:
        assert (results, running.is_over) == ([], False)
        succeeds, value = outcomes[at]
        awaited[at].callback(value) if succeeds else awaited[at].errback(ValueError(str(value)))
    succeeds, value = outcomes[-1]
    assert (results, running.is_over) == ([value if succeeds else str(value)], True)
    running.then(results.append)
    assert len(results) == 2


def test_a_long_row_of_deferreds_that_have_fired_does_not_exhaust_the_stack() -> None:
    first: Deferred[None] = Deferred()
    row: list[Deferred[Any]] = [first, *(_behind(succeed(number)) for number in range(2 * sys.getrecursionlimit()))]
    _, results = started(last_of(row))
    first.callback(None)
    assert results == [2 * sys.getrecursionlimit() - 1]


def _behind(fired: Deferred[Any]) -> Any:
    """Hide from `await` that a Deferred has fired, so that the coroutine yields it."""

    class Behind:
        def __await__(self) -> Any:
            return (yield fired)

    return Behind()


def test_an_exception_is_the_result_and_keeps_its_traceback() -> None:
    async def fails(waited: Deferred[None]) -> None:
        await waited
        raise KeyError("here")

    first: Deferred[None] = Deferred()
    _, results = started(fails(first))
    first.callback(None)
    assert isinstance(results[0].value, KeyError)
    assert "in fails" in results[0].getTraceback()


def test_cancelling_reaches_what_is_awaited_and_the_coroutine_may_still_answer() -> None:
    async def answers(waited: Deferred[None]) -> str:
        try:
            await waited
        except CancelledError:
            return "too late"
        return "in time"

    cancelled: list[Deferred[None]] = []
    first: Deferred[None] = Deferred(cancelled.append)
    running, results = started(answers(first))
    running.cancel()
    assert cancelled == [first]
    assert results == ["too late"]


def test_a_cancelled_coroutine_that_waits_again_ends_without_a_second_result() -> None:
    second: Deferred[str] = Deferred()
    ended: list[str] = []

    async def cleans_up(waited: Deferred[None]) -> str:
        try:
            await waited
        finally:
            ended.append(await second)
        return "never"

    first: Deferred[None] = Deferred()
    running, results = started(cleans_up(first))
    running.cancel()
    assert [each.type for each in results] == [CancelledError]
    second.callback("cleaned up")
    assert (ended, len(results)) == (["cleaned up"], 1)
    running.cancel()
    assert len(results) == 1


def test_cancelling_does_not_reach_a_shielded_coroutine() -> None:
    first: Deferred[str] = Deferred()
    running, results = started(last_of([first]), is_shielded=True)
    running.cancel()
    assert results == []
    first.callback("done")
    assert results == ["done"]


@pytest.mark.parametrize("waits", [False, True])
def test_a_coroutine_in_the_background_runs_to_its_end(waits: bool) -> None:
    ended: list[str] = []
    first: Deferred[str] = Deferred()

    async def run() -> None:
        ended.append(await first if waits else "at once")

    run_in_background(run())
    assert ended == ([] if waits else ["at once"])
    first.callback("later")
    assert ended == (["later"] if waits else ["at once"])


def test_a_bug_in_the_background_is_logged(logged_errors: list[dict[str, Any]]) -> None:
    first: Deferred[None] = Deferred()

    async def fails() -> None:
        await first
        raise KeyError("bug")

    run_in_background(fails())
    first.callback(None)
    (event,) = logged_errors
    assert isinstance(event["log_failure"].value, KeyError)
    logged_errors.clear()


def test_failures_that_were_awaited_are_not_reported_as_unhandled(logged_errors: list[dict[str, Any]]) -> None:
    first: Deferred[Any] = Deferred()
    _, results = started(last_of([first, fail(ValueError("second"))]))
    first.errback(ValueError("first"))
    assert results == ["second"]
    assert logged_errors == []


def test_gathered_coroutines_begin_at_once_and_their_results_keep_the_order() -> None:
    awaited: list[Deferred[int]] = [Deferred(), Deferred()]
    running, results = started(gather(last_of([each]) for each in awaited))
    awaited[1].callback(2)
    assert not running.is_over
    awaited[0].callback(1)
    assert results == [[1, 2]]


def test_a_cancelled_gathering_ends_with_the_cancellation() -> None:
    running, results = started(gather([last_of([Deferred[int]()])]))
    running.cancel()
    assert isinstance(results[0].value, CancelledError)
