"""The timer of a periodic loop, which can be triggered early."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

# Rounds are at least this far apart, however often the timer is triggered.
MIN_SECONDS = 0.1


class IntervalTimer:
    """The wait between two rounds of one loop."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._started = clock.seconds()
        self._waiting: Deferred[None] | None = None
        self._end: IDelayedCall | None = None
        self._is_triggered = False

    async def wait(self, seconds: float) -> None:
        """Wait for `seconds`, or only for MIN_SECONDS if triggered now or during the last round."""
        self._started = self._clock.seconds()
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        self._end_in(MIN_SECONDS if self._is_triggered else seconds)
        self._is_triggered = False
        try:
            await waiting
        finally:
            self._waiting = None
            self._cancel_end()

    def trigger(self) -> None:
        """End the wait early."""
        if self._waiting is None:
            self._is_triggered = True
        else:
            self._end_in(max(0.0, self._started + MIN_SECONDS - self._clock.seconds()))

    def _end_in(self, seconds: float) -> None:
        assert self._waiting is not None
        self._cancel_end()
        self._end = self._clock.callLater(seconds, self._waiting.callback, None)

    def _cancel_end(self) -> None:
        if self._end is not None and self._end.active():
            self._end.cancel()
        self._end = None
