"""Requests of one daemon that change the same ID take turns, so that they never conflict."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twisted.internet.defer import CancelledError, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from rqdisco.backends.etcd.conflicts import DECISION_SECONDS
from rqdisco.core.errors import Undecided


class Turns:
    """The turns of each ID."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._locks: dict[str, DeferredLock] = {}

    @asynccontextmanager
    async def of(self, discovery_id: str) -> AsyncIterator[None]:
        """Wait for a turn, which lasts for the context. Raises Undecided if it does not come in
        time.
        """
        lock = self._locks.setdefault(discovery_id, DeferredLock())
        await lock.acquire().addTimeout(DECISION_SECONDS, self._clock, _timed_out)
        try:
            yield
        finally:
            lock.release()
            if not lock.locked:
                del self._locks[discovery_id]


def _timed_out(result: object, _: float) -> object:
    if isinstance(result, Failure) and result.check(CancelledError):
        return Failure(Undecided("many requests change this ID at once, try again"))
    return result
