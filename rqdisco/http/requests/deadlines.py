"""One deadline for all requests, enforced by one timer: rqlited sets none and would wait for an
answer for ever (P4).
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Cancellable(Protocol):
    """Work that may take too long."""

    @property
    def is_over(self) -> bool: ...

    def cancel(self) -> None: ...


class Deadlines:
    """Cancels what is not over `seconds` after `watch` received it.

    All deadlines are equally far away, so they pass in the order in which they were set.
    """

    def __init__(self, clock: IReactorTime, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._watched: deque[tuple[float, Cancellable]] = deque()
        self._timer: IDelayedCall | None = None

    def now(self) -> float:
        """The current time of the clock, in seconds."""
        return self._clock.seconds()

    def watch(self, running: Cancellable) -> None:
        """Cancel `running` at its deadline, unless it is over before."""
        # What is over would otherwise stay in memory until its deadline.
        while self._watched and self._watched[0][1].is_over:
            self._watched.popleft()
        self._watched.append((self._clock.seconds() + self._seconds, running))
        if self._timer is None:
            self._timer = self._clock.callLater(self._seconds, self._sweep)

    def stop(self) -> None:
        """Discard all deadlines."""
        self._watched.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        while self._watched and (self._watched[0][1].is_over or self._watched[0][0] <= now):
            self._watched.popleft()[1].cancel()
        if self._watched:
            self._timer = self._clock.callLater(self._watched[0][0] - now, self._sweep)
