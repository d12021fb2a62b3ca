"""Registrations under one ID take turns within a daemon, so that they do not conflict with each
other.
"""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from rqdisco.backends.etcd.back_off import DECISION_SECONDS
from rqdisco.core.errors import Undecided


class Turns:
    """The turns of each ID. Nearly always nobody else wants one."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        # By ID that somebody has the turn of, those who wait for it.
        self._waiting: dict[str, deque[Deferred[None]]] = {}
        # By ID whose turn is just being passed on, whether it has ended in that very call.
        self._ended: dict[str, bool] = {}

    def take(self, discovery_id: str) -> Deferred[None] | None:
        """Take the turn now and return None, or return what fires when the turn has come; it fails
        with Undecided if that takes too long.

        Whoever has the turn calls `end`.
        """
        waiting = self._waiting.get(discovery_id)
        if waiting is None:
            self._waiting[discovery_id] = deque()
            return None
        turn: Deferred[None] = Deferred()
        turn.addTimeout(DECISION_SECONDS, self._clock, _timed_out)
        waiting.append(turn)
        return turn

    def end(self, discovery_id: str) -> None:
        """Pass the turn on."""
        if discovery_id in self._ended:
            # The loop below goes on: recursing here would exhaust the stack.
            self._ended[discovery_id] = True
            return
        waiting = self._waiting[discovery_id]
        while waiting:
            turn = waiting.popleft()
            if turn.called:
                continue
            self._ended[discovery_id] = False
            turn.callback(None)
            if not self._ended.pop(discovery_id):
                return
        del self._waiting[discovery_id]


def _timed_out(result: object, _: float) -> object:
    if isinstance(result, Failure) and result.check(CancelledError):
        return Failure(Undecided("many requests change this ID at once, try again"))
    return result
