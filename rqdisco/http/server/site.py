"""The HTTP server: the connections of one listener or several, and their limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProtocolNegotiationFactory, IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web.http import datetimeToString
from zope.interface import implementer

from rqdisco.http.requests.request import Request
from rqdisco.http.server.connection import HTTPConnection
from rqdisco.http.server.interfaces import Application, SiteConnection
from rqdisco.limits.connection_limiter import UNLIMITED, ConnectionLimiter
from rqdisco.limits.log_throttle import LogThrottle
from rqdisco.limits.rates import Buckets, is_local_source, source_of
from rqdisco.telemetry.counters import UNKNOWN_ROUTE, RequestCounts, Route

IDLE_SECONDS = 75.0
# When the daemon stops, new connections have this long to send a request.
GRACE_SECONDS = 1.0
# Of requests that break a rule of HTTP, so many of one client are answered at once.
REFUSALS_PER_SECOND = 20.0
MAX_REFUSAL_DELAY = 1.0
_SWEEP_SECONDS = 1.0
# Closing a connection takes some 50 us; this many are closed in one turn of the reactor.
_CLOSED_PER_TURN = 100

C = TypeVar("C", bound=HTTPConnection)


class SiteConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a site.

    A connection may rest for `idle_seconds`. `trusts_clients` keeps the connections of clients that
    read large answers slowly: they are known not to request more than they read. `route` is what a
    request is counted as if the application sets none.
    """

    idle_seconds: float = IDLE_SECONDS
    trusts_clients: bool = False
    route: Route = UNKNOWN_ROUTE


@implementer(IProtocolNegotiationFactory)
class Site(Factory):
    """The connections whose requests `application` answers. There is no access log: APIs log
    events.

    `wall` returns the wall clock in seconds, for the Date header alone. `counts` may be shared by
    several sites. `limiter` bounds the number of connections.
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        application: Application,
        reactor: IReactorTime,
        config: SiteConfig,
        wall: Callable[[], float],
        counts: RequestCounts | None = None,
        limiter: ConnectionLimiter | None = None,
    ) -> None:
        self.application = application
        self.idle_seconds = config.idle_seconds
        self.trusts_clients = config.trusts_clients
        self.now = reactor.seconds
        self.connections: set[SiteConnection] = set()
        self.limiter = ConnectionLimiter(UNLIMITED, UNLIMITED, reactor.seconds) if limiter is None else limiter
        self.is_draining = False
        self._reactor = reactor
        self._route = config.route
        self._wall = wall
        self._throttle = LogThrottle(reactor.seconds)
        self._refusals = Buckets(REFUSALS_PER_SECOND, REFUSALS_PER_SECOND, reactor.seconds)
        self._tls_throttle = LogThrottle(reactor.seconds)
        self._drained: Deferred[None] = Deferred()
        self._grace: IDelayedCall | None = None
        self._counts = RequestCounts() if counts is None else counts
        self._date = -1, b""
        self._sweeper = LoopingCall(self._sweep)
        self._sweeper.clock = reactor

    def buildProtocol(self, addr: object) -> HTTPConnection | None:
        return self.admit(addr, HTTPConnection(self))

    def admit(self, addr: object, connection: C) -> C | None:
        """Return the connection, None if another one from this address is known to be refused."""
        host = getattr(addr, "host", None)
        if self.limiter.is_closed_to(host):
            self._log_full(host)
            return None
        return connection

    def acceptableProtocols(self) -> list[bytes]:
        """The protocols to offer in TLS (ALPN)."""
        return [b"http/1.1"]

    def startFactory(self) -> None:
        self._sweeper.start(_SWEEP_SECONDS, now=False)

    def stopFactory(self) -> None:
        self._sweeper.stop()

    def date(self) -> bytes:
        """The value of the Date header, made once a second."""
        now = int(self._wall())
        if self._date[0] != now:
            self._date = now, datetimeToString(now)
        return self._date[1]

    def add(self, connection: SiteConnection, host: str | None) -> bool:
        """Add a connection from `host`; return False if there is no room for it."""
        self.connections.add(connection)
        if self.limiter.enter(connection, host):
            return True
        self._log_full(host)
        return False

    def release_slot(self, connection: SiteConnection) -> None:
        """Give up the room of a connection, which is about to be added again for another host."""
        self.limiter.leave(connection)

    def remove(self, connection: SiteConnection) -> None:
        """Remove a closed connection."""
        self.connections.discard(connection)
        self.limiter.leave(connection)
        self._check_drained()

    def call_later(self, seconds: float, call: Callable[[], None]) -> IDelayedCall:
        """Call `call` after so many seconds, in the next turn of the reactor at the earliest."""
        return self._reactor.callLater(seconds, call)

    def refusal_delay(self, host: str | None) -> float:
        """Return the seconds that a client waits for the answer to a request that breaks a rule.

        A client that is refused at once connects again at once, which costs more than a request.
        This machine is not limited.
        """
        if host is None or is_local_source(host):
            return 0.0
        return min(MAX_REFUSAL_DELAY, self._refusals.take(source_of(host), MAX_REFUSAL_DELAY))

    def count_answered(self, request: Request, now: float) -> None:
        """Count a request that got its response. How long an endless one took is not counted."""
        if request.stream is None:
            self._counts.answered(request.route or self._route, request.method, request.status, now - request.since)

    def count_abandoned(self, request: Request) -> None:
        """Count a request whose client left before its response."""
        self._counts.abandoned[(request.route or self._route)[0]] += 1

    def count_refused(self, status: int) -> None:
        """Count a request that was refused because it breaks a rule of HTTP."""
        self._counts.answered(self._route, b"", status, 0.0)

    def log_tls(self, host: str | None) -> None:
        """Log, once a minute for each client, that a client speaks TLS."""
        if self._tls_throttle.is_due(str(host)):
            self._log.warn("connection closed: the client speaks TLS, and this listener does not", peer=host)

    def drain(self) -> Deferred[None]:
        """Answer the requests that have arrived whole and close all connections; fire when they are
        closed.

        Clients that have just connected get `GRACE_SECONDS` to send a request.
        """
        self.is_draining = True
        self._grace = self._reactor.callLater(GRACE_SECONDS, self._end_grace)
        for connection in list(self.connections):
            connection.drain(at_once=False)
        self._check_drained()
        return self._drained

    def abort_connections(self) -> None:
        """Close all connections at once."""
        for connection in list(self.connections):
            connection.abort()

    def _log_full(self, host: str | None) -> None:
        """Log, once a minute for each client, that there is no room for another connection."""
        if self._throttle.is_due(str(host)):
            self._log.warn("too many connections", peer=host, connections=len(self.limiter))

    def _check_drained(self) -> None:
        if self.is_draining and not self.connections and not self._drained.called:
            if self._grace is not None:
                self._grace.cancel()
            self._drained.callback(None)

    def _end_grace(self) -> None:
        self._grace = None
        for connection in list(self.connections):
            connection.drain(at_once=True)

    def _sweep(self) -> None:
        now = self.now()
        self._close([connection for connection in self.connections if connection.deadline <= now])

    def _close(self, connections: list[SiteConnection]) -> None:
        for connection in connections[:_CLOSED_PER_TURN]:
            # Since it was found, it may have received a request.
            if connection.deadline <= self.now():
                connection.cut()
        if rest := connections[_CLOSED_PER_TURN:]:
            self._reactor.callLater(0, self._close, rest)
