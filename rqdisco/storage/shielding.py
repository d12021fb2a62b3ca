"""Waiting for something that is done whether anybody waits for it or not."""

from __future__ import annotations

from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


def shielded(doing: Deferred[T]) -> Deferred[T]:
    """Fire as `doing` does. Cancelled, it leaves that alone."""
    waiter: Deferred[T] = Deferred()

    def done(result: T | Failure) -> None:
        if waiter.called:
            return
        if isinstance(result, Failure):
            waiter.errback(result)
        else:
            waiter.callback(result)

    doing.addBoth(done)
    return waiter
