"""What is waited for between a grant's decision and its answer."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from rqdisco.errors import StoreUnavailable
from rqdisco.records import Record


class PendingGrant:
    """A grant between its decision and its answer, and those who wait for it.

    `before` is the record as it was, None as long as peers are being asked and nothing is decided yet. It is stuck when
    its client is gone and the disk refused to revoke it.
    """

    def __init__(self, discovery_id: str, before: Record | None = None) -> None:
        self.id = discovery_id
        self.before = before
        self.is_stuck = False
        self._waiting: list[Deferred[None]] = []

    def settled(self) -> Deferred[None]:
        """Fire when something else may be decided; fails with StoreUnavailable if that cannot be now."""
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        return waiter

    def settle(self) -> None:
        for waiter in self._take_waiting():
            waiter.callback(None)

    def refuse(self, error: StoreUnavailable) -> None:
        self.is_stuck = True
        for waiter in self._take_waiting():
            waiter.errback(error)

    def _take_waiting(self) -> list[Deferred[None]]:
        waiting, self._waiting = self._waiting, []
        return [waiter for waiter in waiting if not waiter.called]
