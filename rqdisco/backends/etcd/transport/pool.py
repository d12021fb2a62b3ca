"""The connections to one endpoint."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from rqdisco.backends.etcd.transport.connection import EtcdConnection
from rqdisco.backends.etcd.transport.interfaces import ConnectionBroken, NotSent
from rqdisco.backends.etcd.transport.network import CONNECT_SECONDS, describe
from rqdisco.backends.etcd.transport.pending_post import PendingPost

MAX_CONNECTIONS = 32
# Firewalls forget connections that are idle for minutes, and say nothing.
IDLE_SECONDS = 60.0
CLOSED = "the client was closed"


class _Attempt(Factory):
    """A connection that is being made, its TLS handshake included."""

    noisy = False

    def __init__(self, build: Callable[[_Attempt], EtcdConnection]) -> None:
        self._build = build
        self.connection: EtcdConnection | None = None
        self.made: Deferred[IProtocol] | None = None
        self.timer: IDelayedCall | None = None

    def buildProtocol(self, addr: IAddress | None) -> EtcdConnection:
        self.connection = self._build(self)
        return self.connection


class EndpointPool:
    """Sends each request over an idle connection, or over a new one while there are less than
    MAX_CONNECTIONS; the others wait.
    """

    def __init__(self, clock: IReactorTime, connect: Callable[[], IStreamClientEndpoint], max_answer: int) -> None:
        self._clock = clock
        self._connect = connect
        self._max_answer = max_answer
        self._attempts: set[_Attempt] = set()
        self._attempt_of: dict[EtcdConnection, _Attempt] = {}
        self._established: set[EtcdConnection] = set()
        self._idle: list[EtcdConnection] = []
        # In the order of arrival.
        self._waiting: dict[PendingPost, None] = {}

    def send(self, pending: PendingPost, now: float) -> None:
        """Send a request, at once if a connection is idle."""
        while self._idle:
            connection = self._idle.pop()
            if now - connection.idle_since <= IDLE_SECONDS:
                connection.send(pending)
                return
            connection.abort(ConnectionBroken("idle for too long"))
        self._waiting[pending] = None
        self._grow()

    def withdraw(self, pending: PendingPost) -> None:
        """Forget a request that waits for a connection."""
        self._waiting.pop(pending, None)

    def close(self) -> None:
        """Close all connections; requests fail."""
        self._fail_waiting(NotSent(CLOSED))
        for attempt in list(self._attempts):
            self._give_up(attempt)
        for connection in list(self._established):
            connection.abort(ConnectionBroken(CLOSED))

    def established(self, connection: EtcdConnection) -> None:
        """Send the next request over a new connection, or keep it."""
        self._forget(self._attempt_of.pop(connection))
        self._established.add(connection)
        self.freed(connection)

    def freed(self, connection: EtcdConnection) -> None:
        """Send the next request over a connection, or keep it."""
        if self._waiting:
            pending = next(iter(self._waiting))
            del self._waiting[pending]
            connection.send(pending)
        else:
            connection.idle_since = self._clock.seconds()
            self._idle.append(connection)

    def ended(self, connection: EtcdConnection, why: Exception) -> None:
        """Forget a connection that is gone."""
        attempt = self._attempt_of.pop(connection, None)
        if attempt is not None:
            self._failed(attempt, why)
            return
        self._established.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._waiting:
            self._grow()

    def _grow(self) -> None:
        if len(self._established) + len(self._attempts) >= MAX_CONNECTIONS:
            return
        attempt = _Attempt(self._build)
        self._attempts.add(attempt)
        attempt.timer = self._clock.callLater(CONNECT_SECONDS, self._give_up, attempt)
        try:
            attempt.made = self._connect().connect(attempt)
        except Exception as error:
            # No certificate can have this name, or the reactor does not take this address.
            self._failed(attempt, NotSent(describe(error)))
            return
        attempt.made.addErrback(self._not_made, attempt)

    def _build(self, attempt: _Attempt) -> EtcdConnection:
        connection = EtcdConnection(self._max_answer, self)
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
        waiting, self._waiting = self._waiting, {}
        for pending in waiting:
            pending.fail(why)

    def _forget(self, attempt: _Attempt) -> None:
        self._attempts.discard(attempt)
        timer, attempt.timer = attempt.timer, None
        if timer is not None and timer.active():
            timer.cancel()
