"""Blocking calls run in a thread of their own, one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from rqdisco.service.worker_threads import RunInThread, WorkerThreads


def reactor_of(calls: list[Callable[[], object]]) -> Any:
    """Return a reactor that adds what threads ask it to call to `calls`."""
    return SimpleNamespace(callFromThread=lambda call, *arguments: calls.append(partial(call, *arguments)))


def started(workers: WorkerThreads, run: RunInThread, calls: list[Callable[[], Any]]) -> list[Any]:
    """Run `calls` and wait for them; return the list to which the reactor adds their results."""
    results: list[Any] = []
    for call in calls:
        result: Deferred[Any] = run(call)
        result.addBoth(results.append)
    workers.stop()
    return results


def test_calls_run_in_order_in_one_thread_and_fire_on_the_reactor() -> None:
    calls: list[Callable[[], object]] = []
    workers = WorkerThreads(reactor_of(calls))
    ran: list[tuple[int, str]] = []

    def noted(number: int) -> Callable[[], int]:
        def call() -> int:
            ran.append((number, threading.current_thread().name))
            return number

        return call

    results = started(workers, workers.add("journal"), [noted(number) for number in range(5)])
    assert ran == [(number, "journal") for number in range(5)]
    assert results == []
    for call in calls:
        call()
    assert results == list(range(5))


def test_a_call_that_fails_stops_no_other() -> None:
    calls: list[Callable[[], object]] = []
    workers = WorkerThreads(reactor_of(calls))

    def fails() -> int:
        raise OSError("disk")

    results = started(workers, workers.add("journal"), [fails, lambda: 2])
    for call in calls:
        call()
    failure, second = results
    with pytest.raises(OSError, match="disk"):
        failure.raiseException()
    assert second == 2


def test_a_thread_starts_with_its_first_call() -> None:
    workers = WorkerThreads(reactor_of([]))
    before = threading.active_count()
    workers.add("journal")
    assert threading.active_count() == before
    workers.stop()


def test_a_call_fails_if_the_system_has_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    calls: list[Callable[[], object]] = []
    workers = WorkerThreads(reactor_of(calls))
    run = workers.add("journal")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        failures: list[Any] = []
        run(int).addErrback(failures.append)
    assert failures[0].check(RuntimeError)
    started(workers, run, [lambda: 2])
    assert len(calls) == 1, "what failed is not called later"
