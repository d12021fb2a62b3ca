"""The connections to one server."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from rqdisco.http_client.connection import PooledConnection
from rqdisco.http_client.interfaces import ConnectionBroken, NotSent
from rqdisco.http_client.network import CONNECT_SECONDS, describe
from rqdisco.http_client.pending_post import PendingPost

# Firewalls forget connections that are idle for minutes, and say nothing.
IDLE_SECONDS = 60.0
CLOSED = "the client was closed"


class PoolConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a pool: connections to a server, and those of them for requests that wait for
    others; seconds to connect, bytes of an answer, and the headers of it that are kept (in lower
    case).
    """

    max_connections: int
    max_waiting_for_others: int = 0
    connect_seconds: float = CONNECT_SECONDS
    max_answer: int = 16 << 20
    kept_headers: frozenset[bytes] = frozenset()


class _Attempt(Factory):
    """A connection that is being made, its TLS handshake included."""

    noisy = False

    def __init__(self, build: Callable[[_Attempt], PooledConnection]) -> None:
        self._build = build
        self.connection: PooledConnection | None = None
        self.made: Deferred[IProtocol] | None = None
        self.timer: IDelayedCall | None = None

    def buildProtocol(self, addr: IAddress | None) -> PooledConnection:
        self.connection = self._build(self)
        return self.connection


class ConnectionPool:
    """Sends each request over an idle connection, or over a new one while there are less than
    `max_connections`; the others wait. Of the requests that the server may answer only after
    others, at most `max_waiting_for_others` have one, so that the others find a connection; with 0,
    such a request waits until it expires.

    If a new connection fails, every waiting request fails with it, so that the caller can try another
    server.
    """

    def __init__(self, clock: IReactorTime, connect: Callable[[], IStreamClientEndpoint], config: PoolConfig) -> None:
        self._clock = clock
        self._connect = connect
        self._config = config
        self._attempts: set[_Attempt] = set()
        self._attempt_of: dict[PooledConnection, _Attempt] = {}
        self._established: set[PooledConnection] = set()
        self._idle: list[PooledConnection] = []
        # In the order of arrival; of those that wait for others, how many have a connection.
        self._waiting: dict[PendingPost, None] = {}
        self._limited_waiting: dict[PendingPost, None] = {}
        self._limited_count = 0

    def send(self, pending: PendingPost, now: float) -> None:
        """Send a request, at once if a connection is idle."""
        if pending.waits_for_others and self._limited_count >= self._config.max_waiting_for_others:
            self._limited_waiting[pending] = None
            return
        while self._idle:
            connection = self._idle.pop()
            if now - connection.idle_since <= IDLE_SECONDS:
                self._limited_count += pending.waits_for_others
                connection.send(pending)
                return
            connection.abort(ConnectionBroken("idle for too long"))
        (self._limited_waiting if pending.waits_for_others else self._waiting)[pending] = None
        self._grow()

    def withdraw(self, pending: PendingPost) -> None:
        """Forget a request that waits for a connection."""
        (self._limited_waiting if pending.waits_for_others else self._waiting).pop(pending, None)

    def close(self) -> None:
        """Close all connections; requests fail."""
        self._fail_waiting(NotSent(CLOSED))
        for attempt in list(self._attempts):
            self._give_up(attempt)
        for connection in list(self._established):
            connection.abort(ConnectionBroken(CLOSED))

    def established(self, connection: PooledConnection) -> None:
        """Send the next request over a new connection, or keep it."""
        self._forget(self._attempt_of.pop(connection))
        self._established.add(connection)
        self.freed(connection)

    def freed(self, connection: PooledConnection) -> None:
        """Send the next request over a connection, or keep it."""
        self._limited_count -= connection.waits_for_others
        connection.waits_for_others = False
        waiting = self._next_waiting()
        if waiting:
            pending = next(iter(waiting))
            del waiting[pending]
            self._limited_count += pending.waits_for_others
            connection.send(pending)
        else:
            connection.idle_since = self._clock.seconds()
            self._idle.append(connection)

    def ended(self, connection: PooledConnection, why: Exception) -> None:
        """Forget a connection that is gone."""
        attempt = self._attempt_of.pop(connection, None)
        if attempt is not None:
            self._failed(attempt, why)
            return
        self._limited_count -= connection.waits_for_others
        self._established.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._next_waiting():
            self._grow()

    def _next_waiting(self) -> dict[PendingPost, None]:
        """Return the queue that the next request is taken from; empty if none may be sent."""
        if self._waiting or self._limited_count >= self._config.max_waiting_for_others:
            return self._waiting
        return self._limited_waiting

    def _grow(self) -> None:
        if len(self._established) + len(self._attempts) >= self._config.max_connections:
            return
        attempt = _Attempt(self._build)
        self._attempts.add(attempt)
        attempt.timer = self._clock.callLater(self._config.connect_seconds, self._give_up, attempt)
        try:
            attempt.made = self._connect().connect(attempt)
        except Exception as error:
            # No certificate can have this name, or the reactor does not take this address.
            self._failed(attempt, NotSent(describe(error)))
            return
        attempt.made.addErrback(self._not_made, attempt)

    def _build(self, attempt: _Attempt) -> PooledConnection:
        connection = PooledConnection(self._config.max_answer, self._config.kept_headers, self)
        self._attempt_of[connection] = attempt
        return connection

    def _not_made(self, failure: Failure, attempt: _Attempt) -> None:
        self._failed(attempt, NotSent(describe(failure.value)))

    def _give_up(self, attempt: _Attempt) -> None:
        if attempt.connection is not None:
            attempt.connection.abort(NotSent("no connection in time"))
        elif attempt.made is not None:
            attempt.made.cancel()

    def _failed(self, attempt: _Attempt, why: Exception) -> None:
        """Fail everything that waits: another endpoint may be better."""
        if attempt in self._attempts:
            self._forget(attempt)
            self._fail_waiting(why)

    def _fail_waiting(self, why: Exception) -> None:
        waiting = [*self._waiting, *self._limited_waiting]
        self._waiting.clear()
        self._limited_waiting.clear()
        for pending in waiting:
            pending.fail(why)

    def _forget(self, attempt: _Attempt) -> None:
        self._attempts.discard(attempt)
        timer, attempt.timer = attempt.timer, None
        if timer is not None and timer.active():
            timer.cancel()
