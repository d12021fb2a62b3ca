"""The deadlines of many requests, with one timer for all of them."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

# A timer that comes this late shows that the process was busy: answers may wait to be read.
_LATE_SECONDS = 0.05


class Timed(Protocol):
    """An operation with a deadline. `expire` must not be called once it is over."""

    @property
    def is_over(self) -> bool: ...

    def expire(self) -> None:
        """Fail, since the time is up."""


class RequestDeadlines:
    """Calls `expire` of whatever is not over at its deadline.

    A timer for each request would take some microseconds. Those that are over stay in the heap only
    as long as an earlier one is not over.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Timed]] = []
        self._count = 0
        self._timer: IDelayedCall | None = None
        self._timer_at = 0.0

    def add(self, at: float, timed: Timed) -> None:
        """Expire `timed` at this time of the clock."""
        heap = self._heap
        while heap and heap[0][2].is_over:
            heappop(heap)
        self._count += 1
        heappush(heap, (at, self._count, timed))
        if self._timer is None or at < self._timer_at:
            self._set_timer(at)

    def close(self) -> None:
        """Stop the timer; nothing expires any more."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._clock.callLater(max(0.0, at - self._clock.seconds()), self._expire)

    def _expire(self, *, is_late: bool = False) -> None:
        self._timer = None
        now = self._clock.seconds()
        if now - self._timer_at > _LATE_SECONDS and not is_late:
            # Let the reactor read sockets first: the answer may be there.
            self._timer = self._clock.callLater(0, self._expire, is_late=True)
            return
        due = []
        while self._heap and (self._heap[0][2].is_over or self._heap[0][0] <= now):
            due.append(heappop(self._heap)[2])
        if self._heap:
            self._set_timer(self._heap[0][0])
        for timed in due:
            if not timed.is_over:
                timed.expire()


class DeferredDeadline:
    """Fails a Deferred with what `reason` returns, unless it has fired by its deadline. Check
    `called` before firing it.
    """

    __slots__ = ("_deferred", "_reason")

    def __init__(self, deferred: Deferred[Any], reason: Callable[[], Exception]) -> None:
        self._deferred = deferred
        self._reason = reason

    @property
    def is_over(self) -> bool:
        return self._deferred.called

    def expire(self) -> None:
        self._deferred.errback(self._reason())
