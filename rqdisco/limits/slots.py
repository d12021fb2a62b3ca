"""Bounds how many pieces of expensive work run at once; the others wait in order."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from rqdisco.core.errors import TooBusy


class Slots:
    """A context manager for work of which at most `most` pieces run at once.

    A piece that would wait for longer than `patience` seconds raises TooBusy. A slot that becomes
    free goes to the next piece through `call_soon`. If that waits for a turn of the reactor, no
    more than `most` pieces run in one turn, though each ends before the next begins.
    """

    def __init__(
        self,
        most: int,
        patience: float,
        clock: IReactorTime,
        call_soon: Callable[[Callable[[], None]], object] = lambda call: call(),
    ) -> None:
        self._free = most
        self._patience = patience
        self._clock = clock
        self._call_soon = call_soon
        self._waiting: OrderedDict[Deferred[None], None] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of pieces that wait."""
        return len(self._waiting)

    async def __aenter__(self) -> None:
        if self._free:
            self._free -= 1
            return
        turn: Deferred[None] = Deferred(self._waiting.pop)
        self._waiting[turn] = None
        try:
            await turn.addTimeout(self._patience, self._clock)
        except defer.TimeoutError:
            raise TooBusy from None

    async def __aexit__(self, *error: object) -> None:
        self._call_soon(self._pass_on)

    def _pass_on(self) -> None:
        if self._waiting:
            self._waiting.popitem(last=False)[0].callback(None)
        else:
            self._free += 1
