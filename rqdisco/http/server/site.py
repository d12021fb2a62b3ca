"""The HTTP server: limits on the size, time and number of requests and connections."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, Protocol, TypeVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from rqdisco.http.requests.request import Stream, charge_nothing
from rqdisco.limits.connection_limiter import UNLIMITED, ConnectionLimiter
from rqdisco.limits.log_throttle import LogThrottle
from rqdisco.telemetry.counters import UNKNOWN_ROUTE, RequestCounts, Route
from rqdisco.twisted_compat import HeaderLimitChannel, is_disconnecting, prepare_channel

RECEIVE_SECONDS = 10.0
IDLE_SECONDS = 75.0
# When the daemon stops, new connections have this long to send a request.
GRACE_SECONDS = 1.0
# A client that reads nothing of a response for this long is cut off.
SEND_SECONDS = 30.0
_SWEEP_SECONDS = 1.0
_MAX_CONTENT_LENGTH_LINE = 60
# Aborting a connection takes some 50 us; this many are aborted in one turn of the reactor.
_ABORTED_PER_TURN = 100
_FULL = (
    b"HTTP/1.1 503 too many connections\r\nContent-Type: application/json\r\nContent-Length: 32\r\n"
    b'Retry-After: 5\r\nConnection: close\r\n\r\n{"error":"too many connections"}'
)
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Hosts(Protocol):
    """The hosts that requests may address."""

    def admits(self, request: BoundedRequest) -> bool:
        """Report whether the request addresses one of them."""

    def refuse(self, request: BoundedRequest) -> None:
        """Answer a request that does not."""


class BoundedRequest(Request):
    """Stores no more of a body than shows that it is too large. The rest is read and dropped, so
    that a client that sends all of it before it reads still gets its response.
    """

    channel: BoundedChannel
    args: dict[bytes, list[bytes]]
    content: BytesIO
    transport: ITCPTransport
    prepath: list[bytes]
    postpath: list[bytes]
    site: BoundedSite
    _max_body = 0
    # What it is counted as, and when it had arrived whole.
    route: Route | None = None
    since: float | None = None
    # The response if it is an endless one, whose duration is not counted.
    stream: Stream | None = None
    charge: Callable[[float], None] = staticmethod(charge_nothing)

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()
        config = self.channel.site.config
        self._max_body = config.max_body
        if length is not None and length > self._max_body and config.may_send_large_body(self.requestHeaders):
            self._max_body = config.max_large_body

    def handleContentChunk(self, data: bytes) -> None:
        room = self._max_body + 1 - self.content.tell()
        if room > 0:
            self.content.write(data[:room])

    def process(self) -> None:
        """Pass the request to the site's one resource, with the path of an absolute target (RFC
        9112 section 3.2.2).

        The parent would walk a tree of resources, answer `OPTIONS *` itself and reveal the version
        of Twisted.
        """
        if not self.path.startswith(b"/"):
            _, is_absolute, rest = self.path.partition(b"://")
            self.path = b"/" + (rest.partition(b"/")[2] if is_absolute else self.path)
        self.site = self.channel.site
        self.since = self.site.now()
        self.setHeader(b"date", self.site.date())
        hosts = self.channel.hosts
        try:
            if hosts is None or hosts.admits(self):
                self.render(self.site.resource)
            else:
                hosts.refuse(self)
        except Exception:
            self.processingFailed(Failure())


class BoundedChannel(HeaderLimitChannel):
    """A connection with one deadline: to send the next request, to finish sending it, or to read a
    response.

    The site checks all connections once a second, which is cheaper than timers for each request.
    """

    site: BoundedSite
    transport: ITCPTransport
    persistent: bool
    _host: IAddress
    maxHeaders = 100  # noqa: N815, the name is Twisted's
    _is_responding = False
    _had_request = False
    _client_is_slow = False
    deadline: float
    # The hosts that its requests may address; None for any.
    hosts: Hosts | None = None

    def connectionMade(self) -> None:
        self._host = self.transport.getHost()
        super().connectionMade()
        self._start_idle()
        self.site.channels.add(self)
        self._enter()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        for request in self.requests:
            if request.since is not None and request.stream is None:
                self.site.count_abandoned(request)
        super().connectionLost(reason)
        self.site.remove(self)

    def getHost(self) -> IAddress:
        """The daemon's address; every request reads it, and it stays the same."""
        return self._host

    def dataReceived(self, data: bytes) -> None:
        if not self.requests and self.deadline > self.site.now() + RECEIVE_SECONDS:
            self._expect(RECEIVE_SECONDS)
        super().dataReceived(data)

    def allContentReceived(self) -> None:
        self._is_responding = self._had_request = True
        self.deadline = float("inf")
        super().allContentReceived()

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        return super().checkPersistence(request, version) and not self.site.is_draining

    @property
    def is_busy(self) -> bool:
        """Report whether the client waits for a response."""
        return self._is_responding

    def cut(self) -> None:
        """Close at once, whatever is left to send."""
        self.transport.abortConnection()

    @property
    def is_closing(self) -> bool:
        """Report whether the connection closes as soon as everything written is sent."""
        return is_disconnecting(self.transport)

    def drain(self, *, at_once: bool) -> None:
        """Answer requests that have arrived whole and, unless `at_once`, the first request of a new
        client; then close.

        The request of a new connection may be in the kernel's buffer; closing then would reset the
        connection.
        """
        if not (at_once or self._had_request):
            return
        self.persistent = False
        if not self._is_responding and not self.is_closing:
            self.loseConnection()
            return
        for request in list(self.requests):
            if request.stream is not None:
                request.stream.end()

    def pauseProducing(self) -> None:
        self._client_is_slow = True
        self._expect(SEND_SECONDS)
        super().pauseProducing()

    def resumeProducing(self) -> None:
        self._client_is_slow = False
        if self._is_responding:
            self.deadline = float("inf")
        else:
            self._expect(RECEIVE_SECONDS if self.requests else IDLE_SECONDS)
        super().resumeProducing()

    def lineLengthExceeded(self, line: bytes) -> None:
        self.headers_too_large()

    def headerReceived(self, line: bytes) -> bool:
        """Refuse a Content-Length that Twisted's parser fails on with a traceback: Python parses at
        most 4300 digits.
        """
        if len(line) > _MAX_CONTENT_LENGTH_LINE and line[:14].lower() == b"content-length":
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            self.loseConnection()
            return False
        received: bool = super().headerReceived(line)
        return received

    def requestDone(self, request: BoundedRequest) -> None:
        self.site.count_answered(request)
        self._is_responding = False
        if self._client_is_slow and not self.site.config.trusts_clients:
            # A client that sends more requests without reading the responses would fill the memory
            # with them: this was its last one.
            self.persistent = False
        super().requestDone(request)
        if not self._is_responding:
            # Data behind the request that is not answered yet is a part of the next one.
            rest = self.clearLineBuffer()
            if self._client_is_slow:
                self._expect(SEND_SECONDS)
            else:
                self._expect(RECEIVE_SECONDS if rest or self.requests else IDLE_SECONDS)
            if rest and not self.is_closing:
                super().dataReceived(rest)

    def _start_idle(self) -> None:
        self._expect(IDLE_SECONDS)

    def _enter(self) -> None:
        """Take a place among the site's connections, or refuse the client if there is none."""
        host = self._client_host()
        if self.site.limiter.enter(self, host):
            return
        self.site.log_full(host)
        if self.isSecure():
            # An answer would take a handshake.
            self.cut()
            return
        self.persistent = False
        self._expect(RECEIVE_SECONDS)
        self.transport.write(_FULL)
        self.loseConnection()

    def _client_host(self) -> str | None:
        """The client's address; None for a UNIX socket, or while it is not known yet."""
        return getattr(self.transport.getPeer(), "host", None)

    def headers_too_large(self) -> None:
        # HTTPChannel would answer 400; RFC 6585 section 5 has a status for this.
        self.transport.write(_TOO_LARGE)
        self.loseConnection()

    def _expect(self, seconds: float) -> None:
        self.deadline = self.site.now() + seconds


class SiteConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of a site's requests.

    A body may have `max_body` bytes, or `max_large_body` if `may_send_large_body` accepts the
    request's headers. `trusts_clients` keeps the connections of clients that read large answers
    slowly: they are known not to request more than they read. `route` is what a request is counted
    as if no resource sets its own.
    """

    max_body: int
    max_large_body: int = 0
    may_send_large_body: Callable[[Headers], bool] = lambda _: False
    trusts_clients: bool = False
    route: Route = UNKNOWN_ROUTE


C = TypeVar("C", bound=BoundedChannel)


class BoundedSite(Site):
    """A site whose requests are bounded in size and time, and that keeps no access log: the APIs
    log events.

    `wall` returns the wall clock in seconds, for the Date header alone. `counts` may be shared by
    several sites. `limiter` bounds the number of connections.
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        resource: IResource,
        reactor: IReactorTime,
        config: SiteConfig,
        wall: Callable[[], float],
        counts: RequestCounts | None = None,
        limiter: ConnectionLimiter | None = None,
    ) -> None:
        super().__init__(
            resource,
            requestFactory=BoundedRequest,
            reactor=reactor,
            timeout=None,
            parsePOSTFormSubmission=False,
        )
        self.config = config
        self._wall = wall
        self.channels: set[BoundedChannel] = set()
        self.limiter = ConnectionLimiter(UNLIMITED, UNLIMITED, reactor.seconds) if limiter is None else limiter
        self._throttle = LogThrottle(reactor.seconds)
        self.is_draining = False
        self._drained: Deferred[None] = Deferred()
        self._grace: IDelayedCall | None = None
        self.now = reactor.seconds
        self._counts = RequestCounts() if counts is None else counts
        self._date = -1, b""
        self._sweeper = LoopingCall(self._sweep)
        self._sweeper.clock = reactor

    # Any: Twisted declares a class that may switch to HTTP/2.
    def buildProtocol(self, addr: object) -> Any:
        host = getattr(addr, "host", None)
        if self.limiter.is_closed_to(host):
            self.log_full(host)
            return None
        return self.prepared(BoundedChannel())

    def log_full(self, host: str | None) -> None:
        """Log, once a minute for each client, that there is no place for another connection."""
        if self._throttle.is_due(str(host)):
            self._log.warn("too many connections", peer=host, connections=len(self.limiter))

    def prepared(self, channel: C) -> C:
        """Connect a new channel to this site."""
        prepare_channel(channel, self, BoundedRequest, self.reactor)
        return channel

    def acceptableProtocols(self) -> list[bytes]:
        """The protocols to offer in TLS (ALPN): never HTTP/2, even if its library is installed."""
        return [b"http/1.1"]

    def date(self) -> bytes:
        """The value of the Date header, cached for one second."""
        now = int(self._wall())
        if self._date[0] != now:
            self._date = now, datetimeToString(now)
        return self._date[1]

    def startFactory(self) -> None:
        self._sweeper.start(_SWEEP_SECONDS, now=False)

    def stopFactory(self) -> None:
        self._sweeper.stop()

    def log(self, request: object) -> None:
        pass

    def count_answered(self, request: BoundedRequest) -> None:
        """Count a request that got its response."""
        since = request.since
        if since is not None and request.stream is None:
            self._counts.answered(request.route or self.config.route, request.method, request.code, self.now() - since)

    def count_abandoned(self, request: BoundedRequest) -> None:
        """Count a request whose client left before its response."""
        self._counts.abandoned[(request.route or self.config.route)[0]] += 1

    def drain(self) -> Deferred[None]:
        """Answer the requests that have arrived whole and close all connections; fire when they are
        closed.

        Clients that have just connected get `GRACE_SECONDS` to send a request.
        """
        self.is_draining = True
        self._grace = self.reactor.callLater(GRACE_SECONDS, self._end_grace)
        for channel in list(self.channels):
            channel.drain(at_once=False)
        self._check_drained()
        return self._drained

    def remove(self, channel: BoundedChannel) -> None:
        """Remove a closed connection."""
        self.channels.discard(channel)
        self.limiter.leave(channel)
        self._check_drained()

    def _check_drained(self) -> None:
        if self.is_draining and not self.channels and not self._drained.called:
            if self._grace is not None:
                self._grace.cancel()
            self._drained.callback(None)

    def _end_grace(self) -> None:
        self._grace = None
        for channel in list(self.channels):
            channel.drain(at_once=True)

    def abort_connections(self) -> None:
        """Close all connections at once."""
        for channel in list(self.channels):
            channel.cut()

    def _sweep(self) -> None:
        now = self.now()
        self._abort([channel for channel in self.channels if channel.deadline <= now])

    def _abort(self, channels: list[BoundedChannel]) -> None:
        for channel in channels[:_ABORTED_PER_TURN]:
            channel.cut()
        if rest := channels[_ABORTED_PER_TURN:]:
            self.reactor.callLater(0, self._abort, rest)
