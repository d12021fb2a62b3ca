"""When to do again what is done each second, and sooner where there is need."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

# Rounds do not follow each other faster, whoever hurries.
LEAST_SECONDS = 0.1


class Pace:
    """The rest between two rounds of one loop."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._began = clock.seconds()
        self._resting: Deferred[None] | None = None
        self._end: IDelayedCall | None = None
        self._is_urgent = False

    async def rest(self, seconds: float) -> None:
        """Return after so many seconds; sooner, but never at once, if somebody hurries or did so in
        this round.
        """
        self._began = self._clock.seconds()
        resting: Deferred[None] = Deferred()
        self._resting = resting
        self._wake_in(LEAST_SECONDS if self._is_urgent else seconds)
        self._is_urgent = False
        try:
            await resting
        finally:
            self._resting = None
            self._forget_end()

    def hurry(self) -> None:
        """Rest no longer."""
        if self._resting is None:
            self._is_urgent = True
        else:
            self._wake_in(max(0.0, self._began + LEAST_SECONDS - self._clock.seconds()))

    def _wake_in(self, seconds: float) -> None:
        assert self._resting is not None
        self._forget_end()
        self._end = self._clock.callLater(seconds, self._resting.callback, None)

    def _forget_end(self) -> None:
        if self._end is not None and self._end.active():
            self._end.cancel()
        self._end = None
