"""The bounds that every HTTP request is held to, whatever door it knocks at."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, datetimeToString
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from rqdisco.limits.connection_limiter import UNLIMITED, ConnectionLimiter
from rqdisco.limits.log_throttle import LogThrottle
from rqdisco.telemetry.counters import NOWHERE, RequestCounts, Route

RECEIVE_SECONDS = 10.0
IDLE_SECONDS = 75.0
# Whoever had just connected when the daemon was told to stop has this long to ask.
GRACE_SECONDS = 1.0
# Whoever takes nothing of an answer for so long is cut off.
SEND_SECONDS = 30.0
_SWEEP_SECONDS = 1.0
_LONGEST_LENGTH = 60
# To cut one off takes some 50 us; this many are cut before it is somebody else's turn.
_CUT_AT_ONCE = 100
_FULL = (
    b"HTTP/1.1 503 too many connections\r\nContent-Type: application/json\r\nContent-Length: 32\r\n"
    b'Retry-After: 5\r\nConnection: close\r\n\r\n{"error":"too many connections"}'
)
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Hosts(Protocol):
    """Which hosts a request may be for."""

    def admits(self, request: BoundedRequest) -> bool:
        """Whether it is for one of them."""

    def refuse(self, request: BoundedRequest) -> None:
        """Answer one that is not."""


class BoundedRequest(Request):
    """Keeps no more of a body than shows that it is too large; the rest is read and dropped, so
    that the client, who may send all of it before it listens, still gets its answer.
    """

    channel: Any
    content: BytesIO
    site: BoundedSite
    _max_body = 0
    # What it is counted as, and since when it is being answered.
    route: Route | None = None
    since: float | None = None
    # What goes on until it is ended, if this request has such an answer; how long that takes is not
    # counted.
    stream: Any = None

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()
        config: SiteConfig = self.channel.site.config
        self._max_body = config.max_body
        if length is not None and length > self._max_body and config.may_send_large_body(self.requestHeaders):
            self._max_body = config.max_large_body

    def handleContentChunk(self, data: bytes) -> None:
        room = self._max_body + 1 - self.content.tell()
        if room > 0:
            self.content.write(data[:room])

    def process(self) -> None:
        """Hand the request to the site's one resource, with the path of an absolute target (RFC
        9112 section 3.2.2).

        The parent would walk a tree of resources, answer `OPTIONS *` itself and say which Twisted
        this is.
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


class BoundedChannel(HTTPChannel):
    """A connection with one deadline: to become busy again, to be through with sending a request,
    or to take an answer.

    The site sweeps all connections once a second, which costs a request less than timers of its
    own.
    """

    site: BoundedSite
    transport: ITCPTransport
    persistent: bool
    _host: IAddress
    maxHeaders = 100  # noqa: N815, it is Twisted's
    _answering = False
    _was_asked = False
    _client_is_slow = False
    deadline: float
    # Says which hosts its requests may be for, if not for any.
    hosts: Hosts | None = None

    def connectionMade(self) -> None:
        self._host = self.transport.getHost()
        super().connectionMade()
        self._be_idle()
        self.site.channels.add(self)
        self._enter()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        for request in self.requests:
            if request.since is not None and request.stream is None:
                self.site.abandoned(request)
        super().connectionLost(reason)
        self.site.forget(self)

    def getHost(self) -> IAddress:
        """Asked for by every request, and the same for all of them."""
        return self._host

    def dataReceived(self, data: bytes) -> None:
        if not self.requests and self.deadline > self.site.now() + RECEIVE_SECONDS:
            self._expect(RECEIVE_SECONDS)
        super().dataReceived(data)

    def allContentReceived(self) -> None:
        self._answering = self._was_asked = True
        self.deadline = float("inf")
        super().allContentReceived()

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        return super().checkPersistence(request, version) and not self.site.is_draining

    @property
    def is_busy(self) -> bool:
        """Whether the client waits for an answer of ours."""
        return self._answering

    def cut(self) -> None:
        """End at once, whatever was to be sent."""
        self.transport.abortConnection()

    @property
    def is_closing(self) -> bool:
        """Whether the connection ends as soon as what was written is sent."""
        transport: Any = self.transport
        return bool(transport.disconnecting)

    def drain(self, *, at_once: bool) -> None:
        """Answer what has arrived whole, and unless it is to be `at_once` what a new client asks
        first; then close.

        A new connection may have its request in the kernel's buffer; to close it then is to reset
        it.
        """
        if not (at_once or self._was_asked):
            return
        self.persistent = False
        if not self._answering and not self.is_closing:
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
        if self._answering:
            self.deadline = float("inf")
        else:
            self._expect(RECEIVE_SECONDS if self.requests else IDLE_SECONDS)
        super().resumeProducing()

    def lineLengthExceeded(self, line: bytes) -> None:
        self._refuse_headers()

    def _respondToBadRequestAndDisconnect(self) -> None:
        # The parent says 400 whatever is wrong (RFC 6585 section 5 has a status for this).
        if self._receivedHeaderSize > self.totalHeadersSize or self._receivedHeaderCount > self.maxHeaders:
            self._refuse_headers()
        else:
            super()._respondToBadRequestAndDisconnect()

    def headerReceived(self, line: bytes) -> bool:
        """Refuse a length that Twisted's parser would fail on with a traceback (Python parses 4300
        digits at most).
        """
        if len(line) > _LONGEST_LENGTH and line[:14].lower() == b"content-length":
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            self.loseConnection()
            return False
        received: bool = super().headerReceived(line)
        return received

    def requestDone(self, request: Request) -> None:
        self.site.answered(request)
        self._answering = False
        if self._client_is_slow and not self.site.config.trusts_clients:
            # Who asks on without taking the answers would have us keep any number of them: this was
            # the last one.
            self.persistent = False
        super().requestDone(request)
        if not self._answering:
            # What came behind the request and is not answered already is a part of the next one.
            rest = self.clearLineBuffer()
            if self._client_is_slow:
                self._expect(SEND_SECONDS)
            else:
                self._expect(RECEIVE_SECONDS if rest or self.requests else IDLE_SECONDS)
            if rest and not self.is_closing:
                super().dataReceived(rest)

    def _be_idle(self) -> None:
        self._expect(IDLE_SECONDS)

    def _enter(self) -> None:
        """Have a place among the connections of the site, or say that there is none."""
        host = self._client_host()
        if self.site.limiter.enter(self, host):
            return
        self.site.turned_away(host)
        if self.isSecure():
            # To say so would take a handshake.
            self.cut()
            return
        self.persistent = False
        self._expect(RECEIVE_SECONDS)
        self.transport.write(_FULL)
        self.loseConnection()

    def _client_host(self) -> str | None:
        """From where the client connected; None if that is through no network, or not known yet."""
        return getattr(self.transport.getPeer(), "host", None)

    def _refuse_headers(self) -> None:
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
    route: Route = NOWHERE


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
        self._answered = self._counts.answered
        self._date = -1, b""
        self._sweeper = LoopingCall(self._sweep)
        self._sweeper.clock = reactor

    def buildProtocol(self, addr: object) -> Any:
        host = getattr(addr, "host", None)
        if self.limiter.is_closed_to(host):
            self.turned_away(host)
            return None
        return self.prepared(BoundedChannel())

    def turned_away(self, host: str | None) -> None:
        """Somebody has no place; that is said once a minute."""
        if self._throttle.is_due(str(host)):
            self._log.warn("too many connections", peer=host, connections=len(self.limiter))

    def prepared(self, channel: Any) -> Any:
        """A channel as this site's."""
        channel.factory = channel.site = self
        channel.requestFactory = BoundedRequest
        channel.callLater = self.reactor.callLater
        channel.timeOut = None
        return channel

    def acceptableProtocols(self) -> list[bytes]:
        """What is spoken inside of TLS. HTTP/2 it is not, where its library is installed either."""
        return [b"http/1.1"]

    def date(self) -> bytes:
        """The value of the Date header, as long as this second lasts."""
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

    def answered(self, request: Any) -> None:
        """A request has its answer."""
        since = request.since
        if since is not None and request.stream is None:
            self._answered(request.route or self.config.route, request.method, request.code, self.now() - since)

    def abandoned(self, request: Any) -> None:
        """A client left before it had its answer."""
        self._counts.abandoned[(request.route or self.config.route)[0]] += 1

    def drain(self) -> Deferred[None]:
        """Answer the requests that have arrived whole and close all connections; fire when they are
        gone.

        Who has only just connected gets `GRACE_SECONDS` to ask.
        """
        self.is_draining = True
        self._grace = self.reactor.callLater(GRACE_SECONDS, self._end_grace)
        for channel in list(self.channels):
            channel.drain(at_once=False)
        self._check_drained()
        return self._drained

    def forget(self, channel: BoundedChannel) -> None:
        """A connection is gone."""
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
        """Cut what is left."""
        for channel in list(self.channels):
            channel.transport.abortConnection()

    def _sweep(self) -> None:
        now = self.now()
        self._cut([channel for channel in self.channels if channel.deadline <= now])

    def _cut(self, channels: list[BoundedChannel]) -> None:
        for channel in channels[:_CUT_AT_ONCE]:
            channel.cut()
        if rest := channels[_CUT_AT_ONCE:]:
            self.reactor.callLater(0, self._cut, rest)
