"""Coroutines that await Deferreds."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure

from rqdisco.coroutines import resume, run_in_background


async def last_of(awaited: Iterable[Awaitable[Any]]) -> Any:
    result = None
    for each in awaited:
        try:
            result = await each
        except ValueError as error:
            result = str(error)
    return result


def started(awaited: list[Deferred[Any]]) -> Deferred[Any]:
    coroutine = last_of(awaited)
    return resume(coroutine, coroutine.send(None), same)


def same(failure: Failure) -> Any:
    return failure


@given(st.lists(st.tuples(st.booleans(), st.integers()), min_size=1, max_size=5), st.randoms())
def test_a_coroutine_gets_the_results_of_what_it_awaits_in_whatever_order_they_come(
    outcomes: list[tuple[bool, int]], random: Any
) -> None:
    awaited: list[Deferred[Any]] = [Deferred() for _ in outcomes]
    results: list[Any] = []
    started(awaited).addCallback(results.append)
    order = list(range(len(outcomes)))
    random.shuffle(order)
    for at in order:
        assert results == []
        succeeds, value = outcomes[at]
        awaited[at].callback(value) if succeeds else awaited[at].errback(ValueError(str(value)))
    succeeds, value = outcomes[-1]
    assert results == [value if succeeds else str(value)]


def test_a_long_row_of_deferreds_that_have_fired_does_not_exhaust_the_stack() -> None:
    first: Deferred[None] = Deferred()
    row: list[Deferred[Any]] = [first, *(_behind(succeed(number)) for number in range(2 * sys.getrecursionlimit()))]
    results: list[Any] = []
    started(row).addCallback(results.append)
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
    coroutine = fails(first)
    failed: list[Any] = []
    resume(coroutine, coroutine.send(None), same).addErrback(failed.append)
    first.callback(None)
    assert isinstance(failed[0].value, KeyError)
    assert "in fails" in failed[0].getTraceback()


def test_cancelling_reaches_what_is_awaited_and_the_coroutine_may_still_answer() -> None:
    async def answers(waited: Deferred[None]) -> str:
        try:
            await waited
        except CancelledError:
            return "too late"
        return "in time"

    cancelled: list[Deferred[None]] = []
    first: Deferred[None] = Deferred(cancelled.append)
    coroutine = answers(first)
    results: list[Any] = []
    running = resume(coroutine, coroutine.send(None), same).addCallback(results.append)
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
    coroutine = cleans_up(first)
    failed: list[Any] = []
    running = resume(coroutine, coroutine.send(None), same).addErrback(failed.append)
    running.cancel()
    assert [each.type for each in failed] == [CancelledError]
    second.callback("cleaned up")
    assert ended == ["cleaned up"]


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
    results: list[Any] = []
    started([first, fail(ValueError("second"))]).addCallback(results.append)
    first.errback(ValueError("first"))
    assert results == ["second"]
    assert logged_errors == []
