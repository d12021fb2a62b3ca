"""Wait for an operation without cancelling it."""

from __future__ import annotations

from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


def shielded(operation: Deferred[T]) -> Deferred[T]:
    """Return a Deferred that fires as `operation` does; cancelling it does not cancel the
    operation.
    """
    waiter: Deferred[T] = Deferred()

    def done(result: T | Failure) -> None:
        if waiter.called:
            return
        if isinstance(result, Failure):
            waiter.errback(result)
        else:
            waiter.callback(result)

    operation.addBoth(done)
    return waiter
