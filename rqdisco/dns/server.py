"""The listeners of the DNS server: UDP datagrams and TCP connections, their limits and timeouts.

`responses.NameServer` answers the queries, `wire` parses and encodes the messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, MessageLengthError
from twisted.internet.interfaces import IHalfCloseableProtocol, IListeningPort, IReactorTime
from twisted.internet.protocol import DatagramProtocol, Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import Int16StringReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from rqdisco.core.errors import StoreUnavailable
from rqdisco.dns import wire
from rqdisco.dns.response_rate_limit import ResponseRateLimit
from rqdisco.dns.responses import NameServer
from rqdisco.dns.wire import Question, Reply
from rqdisco.limits.connection_limiter import ConnectionLimiter
from rqdisco.telemetry.counters import DNSCounts
from rqdisco.twisted_compat import use_timer

IDLE_SECONDS = 10.0
MAX_CONNECTIONS = 200
MAX_CONNECTIONS_PER_SOURCE = 20
# Bytes of waiting datagrams to read before other events are handled: some 200 queries, a few
# milliseconds.
READ_BYTES = 8192
_BIND_ATTEMPTS = 10

# Twisted has no type for a reactor that provides time, TCP and UDP, nor for a transport that can be
# aborted and registers producers.
_Twisted: TypeAlias = Any
_HostAndPort: TypeAlias = "tuple[str, int]"

_log = Logger()


class DNSDatagramProtocol(DatagramProtocol):
    """Queries over UDP. A rate-limited source gets a truncated response, no larger than its query,
    and retries over TCP, where the source cannot be forged.
    """

    noisy = False

    def __init__(
        self, name_server: NameServer, limit: ResponseRateLimit, clock: IReactorTime, counts: DNSCounts | None = None
    ) -> None:
        self._responder = _Responder(name_server, clock, "udp", counts)
        self._limit = limit

    def datagramReceived(self, datagram: bytes, addr: _HostAndPort) -> None:
        question = wire.parse_query(datagram)
        if question is None or not addr[1]:
            # Not a query, or from port 0, which cannot receive a response.
            return
        if not self._limit.allows(addr[0]):
            self._responder.count_limited()
            if not question.problem:
                self._send(wire.truncated(question), addr)
            return
        responding = Deferred.fromCoroutine(self._responder.respond(question, question.udp_size))
        responding.addCallback(self._send, addr)

    def _send(self, message: bytes, addr: _HostAndPort) -> None:
        # The sender may be forged or unreachable, and retries if a message is lost.
        with suppress(OSError, MessageLengthError):
            if self.transport is not None:
                self.transport.write(message, addr)


@implementer(IHalfCloseableProtocol)
class DNSConnection(Int16StringReceiver, TimeoutMixin):
    """Queries over TCP, one after the other (RFC 7766), one per connection and reactor iteration.

    Nothing is read while a response is in progress, or while the client does not read responses.
    """

    factory: DNSConnectionFactory
    transport: _Twisted
    host: str
    deadline: float
    _is_responding = False
    _is_full = False
    _has_ended = False

    @property
    def is_busy(self) -> bool:
        """Report whether the client waits for a response and reads responses."""
        return self._is_responding and not self._is_full

    def connectionMade(self) -> None:
        self.setTimeout(IDLE_SECONDS)
        self._extend_deadline()
        self.factory.open.add(self)
        if not self.factory.limiter.enter(self, self.host):
            self.cut()
            return
        self.transport.registerProducer(self, True)

    def readConnectionLost(self) -> None:
        """Send the buffered responses and close: the client sends no more queries.

        No response is in progress, since nothing is read during one.
        """
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Do nothing: the server never closes only its half."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.setTimeout(None)
        self._has_ended = True
        self.factory.open.discard(self)
        self.factory.limiter.leave(self)

    def stringReceived(self, string: bytes) -> None:
        self.resetTimeout()
        self._extend_deadline()
        question = wire.parse_query(string)
        self._is_responding = True
        super().pauseProducing()
        if question is None:
            self.cut()
            return
        responding = Deferred.fromCoroutine(self.factory.responder.respond(question, wire.TCP_SIZE))
        responding.addCallback(self._send)

    def pauseProducing(self) -> None:
        """Stop reading: the send buffer is full."""
        self._is_full = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """Resume reading: the send buffer has drained."""
        self._is_full = False
        self._resume_if_idle()

    def timeoutConnection(self) -> None:
        self.cut()

    def lengthLimitExceeded(self, length: int) -> None:
        """Never: a length of 16 bits is within the limit."""

    def _send(self, message: bytes) -> None:
        if not self._has_ended:
            self.sendString(message)
            self.factory.clock.callLater(0, self._finish)

    def _finish(self) -> None:
        self._is_responding = False
        self._resume_if_idle()

    def _resume_if_idle(self) -> None:
        if not (self._is_responding or self._is_full or self._has_ended):
            super().resumeProducing()

    def _extend_deadline(self) -> None:
        self.deadline = self.factory.clock.seconds() + IDLE_SECONDS

    def cut(self) -> None:
        """Abort the connection."""
        self._has_ended = True
        self.transport.abortConnection()


class DNSConnectionFactory(Factory):
    """The TCP connections of the server; an idle one is closed to make room for a new one."""

    noisy = False

    def __init__(self, name_server: NameServer, clock: IReactorTime, counts: DNSCounts | None = None) -> None:
        self.responder = _Responder(name_server, clock, "tcp", counts)
        self.clock = clock
        self.open: set[DNSConnection] = set()
        self.limiter = ConnectionLimiter(MAX_CONNECTIONS, MAX_CONNECTIONS_PER_SOURCE, clock.seconds)

    # Factory takes any IAddress; the server listens on IP addresses only.
    # Only TCP listens with this factory, and Twisted types `addr` for any transport.
    def buildProtocol(self, addr: IPv4Address | IPv6Address) -> DNSConnection | None:  # type: ignore[override]
        if self.limiter.is_closed_to(addr.host):
            return None
        connection = DNSConnection()
        connection.host = addr.host
        connection.factory = self
        return use_timer(connection, self.clock)

    def cut(self) -> None:
        """Abort all connections."""
        for connection in list(self.open):
            connection.transport.abortConnection()


class DNSServer:
    """Serve one name server over UDP and TCP at each of `addresses` (host and port)."""

    def __init__(
        self,
        reactor: _Twisted,
        name_server: NameServer,
        limit: ResponseRateLimit,
        addresses: Sequence[tuple[str, int]],
        counts: DNSCounts | None = None,
    ) -> None:
        self._reactor = reactor
        self._addresses = addresses
        self._datagrams = lambda: DNSDatagramProtocol(name_server, limit, reactor, counts)
        self._connections = DNSConnectionFactory(name_server, reactor, counts)

    def listen(self) -> list[IListeningPort]:
        """Return the listening ports, one for TCP and one for UDP per address. Raises
        CannotListenError.
        """
        return [port for host, number in self._addresses for port in self._listen_pair(host, number)]

    def _listen_pair(self, host: str, port: int) -> tuple[IListeningPort, IListeningPort]:
        """Listen for TCP and UDP on the same port. If `port` is 0 and the port chosen for TCP is in
        use for UDP, try another one.
        """
        attempts = 1 if port else _BIND_ATTEMPTS
        while True:
            tcp = self._reactor.listenTCP(port, self._connections, interface=host)
            try:
                udp = self._reactor.listenUDP(tcp.getHost().port, self._datagrams(), interface=host)
            except CannotListenError:
                tcp.stopListening()
                attempts -= 1
                if not attempts:
                    raise
                continue
            udp.maxThroughput = READ_BYTES
            return tcp, udp

    def cut(self) -> None:
        """Abort all TCP connections; clients that wait for a response retry."""
        self._connections.cut()


class _Responder:
    """Responds to queries over one transport, and counts the responses."""

    def __init__(self, name_server: NameServer, clock: IReactorTime, transport: str, counts: DNSCounts | None) -> None:
        self._name_server = name_server
        self._seconds = clock.seconds
        self._transport = transport
        self._counts = DNSCounts() if counts is None else counts

    async def respond(self, question: Question, max_size: int) -> bytes:
        """Return the response, at most `max_size` bytes long."""
        start = self._seconds()
        try:
            reply = await self._name_server.reply(question)
            message = wire.encode_reply(question, reply, max_size)
        except Exception as error:
            if not isinstance(error, StoreUnavailable):
                # Why the store is unavailable is logged where that is noticed.
                _log.failure("DNS query failed: {name}", name=question.name)
            reply = Reply(rcode=wire.SERVFAIL, is_authoritative=False)
            message = wire.encode_reply(question, reply, max_size)
        self._counts.answered(self._transport, reply.rcode, self._seconds() - start)
        return message

    def count_limited(self) -> None:
        """Count a rate-limited query."""
        self._counts.limited += 1
