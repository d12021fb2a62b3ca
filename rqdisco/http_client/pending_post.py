"""A request and the wait for its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred

from rqdisco.http_client.interfaces import ConnectionBroken, NotSent, PostReply


class Carrier(Protocol):
    """The connection that a request was sent over."""

    def abort(self, why: Exception) -> None: ...


class PendingPost:
    """A request that waits for a connection, and then for its answer, for at most `seconds`.

    `withdraw` is called if it is given up before it had a connection.
    """

    __slots__ = ("_seconds", "_withdraw", "answered", "carrier", "is_over", "request", "waits_for_others")

    def __init__(
        self, request: bytes, seconds: float, withdraw: Callable[[PendingPost], None], *, waits_for_others: bool
    ) -> None:
        self.request = request
        self.answered: Deferred[PostReply] = Deferred(self._cancelled)
        self.carrier: Carrier | None = None
        self.is_over = False
        self.waits_for_others = waits_for_others
        self._seconds = seconds
        self._withdraw = withdraw

    def succeed(self, reply: PostReply) -> None:
        """Fire `answered` with the answer."""
        self.is_over = True
        self.request = b""
        self.answered.callback(reply)

    def fail(self, why: Exception) -> None:
        """Fail `answered`, unless it is over."""
        if not self.is_over:
            self.is_over = True
            self.request = b""
            self.answered.errback(why)

    def expire(self) -> None:
        """Fail, since the time is up."""
        if self.carrier is None:
            self._withdraw(self)
            self.fail(NotSent(f"no connection within {self._seconds:.3g} s"))
        else:
            self.carrier.abort(ConnectionBroken(f"no answer within {self._seconds:.3g} s"))

    def _cancelled(self, _: Deferred[PostReply]) -> None:
        """Close the connection; the Deferred fails by itself."""
        self.is_over = True
        if self.carrier is None:
            self._withdraw(self)
        else:
            self.carrier.abort(ConnectionBroken("the request was given up"))
