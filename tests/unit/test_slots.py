"""Expensive work: how much of it runs at once, and who waits for how long."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from rqdisco.core.errors import TooBusy
from rqdisco.limits.slots import Slots
from tests.support.dns_sockets import Reactor


class Work:
    """A piece of work that goes on until `end` fires."""

    def __init__(self, slots: Slots) -> None:
        self.end: Deferred[None] = Deferred()
        self.is_running = False
        self.failures: list[BaseException] = []
        self.done = Deferred.fromCoroutine(self._run(slots))
        self.done.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        assert failure.value is not None
        self.failures.append(failure.value)

    async def _run(self, slots: Slots) -> None:
        async with slots.take():
            self.is_running = True
            try:
                await self.end
            finally:
                self.is_running = False


@pytest.fixture
def clock() -> Clock:
    return Clock()


def running(pieces: list[Work]) -> list[int]:
    return [number for number, work in enumerate(pieces) if work.is_running]


def test_work_beyond_the_slots_waits_in_order(clock: Clock) -> None:
    slots = Slots(2, 5.0, clock)
    pieces = [Work(slots) for _ in range(5)]
    assert running(pieces) == [0, 1]
    assert len(slots) == 3
    pieces[1].end.callback(None)
    assert running(pieces) == [0, 2]
    pieces[0].end.errback(ValueError())
    assert running(pieces) == [2, 3], "failed work leaves its slot, too"
    for work in pieces[2:]:
        work.end.callback(None)
    assert running(pieces) == []
    assert not clock.getDelayedCalls()
    assert running([Work(slots) for _ in range(3)]) == [0, 1], "all slots are free again"


def test_work_that_waits_too_long_is_refused_and_takes_no_slot(clock: Clock) -> None:
    slots = Slots(1, 5.0, clock)
    first, late = Work(slots), Work(slots)
    clock.advance(4)
    patient = Work(slots)
    clock.advance(1)
    assert [type(error) for error in late.failures] == [TooBusy]
    assert len(slots) == 1
    first.end.callback(None)
    assert patient.is_running


def test_work_that_is_cancelled_while_it_waits_takes_no_slot(clock: Clock) -> None:
    slots = Slots(1, 5.0, clock)
    first, gone, other = Work(slots), Work(slots), Work(slots)
    gone.done.cancel()
    assert [type(error) for error in gone.failures] == [CancelledError]
    first.end.callback(None)
    assert other.is_running
    assert not clock.getDelayedCalls()


def test_short_work_is_spread_over_the_turns_of_the_reactor() -> None:
    reactor = Reactor()
    slots = Slots(2, 5.0, reactor, reactor.callLater)
    done: list[int] = []

    async def work(number: int) -> None:
        async with slots.take():
            done.append(number)

    for number in range(5):
        Deferred.fromCoroutine(work(number))
    counts = []
    for _ in range(3):
        counts.append(len(done))
        reactor.turn()
    assert counts == [2, 4, 5]
    assert done == [0, 1, 2, 3, 4]


def test_after_a_piece_there_is_a_rest_of_the_time_that_it_took(clock: Clock) -> None:
    slots = Slots(1, 5.0, clock, clock.callLater)
    first, second = Work(slots), Work(slots)
    clock.advance(0.5)
    first.end.callback(None)
    clock.advance(0.49)
    assert not second.is_running
    clock.advance(0.02)
    assert second.is_running
    second.end.callback(None)
    clock.advance(0.1)
