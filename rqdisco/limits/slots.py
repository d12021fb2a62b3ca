"""Bounds how many pieces of expensive work run at once; the others wait in order."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from rqdisco.core.errors import TooBusy


class Slots:
    """Slots for work of which at most `most` pieces run at once.

    A piece that waits longer than `patience` seconds raises TooBusy. `rest(seconds, call)` delays
    the release of a slot by as long as the piece ran, so that short pieces use at most half of the
    time. By default a slot is released at once.
    """

    def __init__(
        self,
        most: int,
        patience: float,
        clock: IReactorTime,
        rest: Callable[[float, Callable[[], None]], object] = lambda seconds, call: call(),
    ) -> None:
        self._free = most
        self._patience = patience
        self._clock = clock
        self._rest = rest
        self._waiting: OrderedDict[Deferred[None], None] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of pieces that wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Wait for a slot, and hold it. Raises TooBusy."""
        if self._free:
            self._free -= 1
        else:
            await self._wait()
        began = self._clock.seconds()
        try:
            yield
        finally:
            self._rest(self._clock.seconds() - began, self._pass_on)

    async def _wait(self) -> None:
        turn: Deferred[None] = Deferred(self._waiting.pop)
        self._waiting[turn] = None
        try:
            await turn.addTimeout(self._patience, self._clock)
        except defer.TimeoutError:
            raise TooBusy from None

    def _pass_on(self) -> None:
        if self._waiting:
            self._waiting.popitem(last=False)[0].callback(None)
        else:
            self._free += 1
