"""Back-off between decisions that lost against another change of the same record (E1)."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from rqdisco.core.errors import Undecided

# Leaves time for an answer within 8 s (P4).
DECISION_SECONDS = 6.0
_FIRST_PAUSE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 0.5


class BackOff:
    """The pauses of one request. `jitter` returns a factor around 1."""

    def __init__(self, clock: IReactorTime, jitter: Callable[[], float]) -> None:
        self._clock = clock
        self._jitter = jitter
        self._ends = clock.seconds() + DECISION_SECONDS
        self._pause = 0.0

    async def after_conflict(self) -> None:
        """Return when to decide again: at once after the first conflict, whose answer brought the
        current record. Raises Undecided when the time is up.
        """
        if self._pause:
            await self.wait(self._pause * self._jitter(), "many requests change this ID at once, try again")
        self._pause = min(max(_FIRST_PAUSE_SECONDS, 2 * self._pause), _LONGEST_PAUSE_SECONDS)

    async def wait(self, seconds: float, reason: str) -> None:
        """Wait. Raises Undecided with a reason when the time is up."""
        if self._clock.seconds() + seconds >= self._ends:
            raise Undecided(reason)
        waited: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self._clock.callLater(seconds, waited.callback, None)
        await waited
