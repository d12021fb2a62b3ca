"""The DNS door itself: datagrams and connections."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, MessageLengthError
from twisted.internet.interfaces import IHalfCloseableProtocol, IListeningPort, IReactorTime
from twisted.internet.protocol import DatagramProtocol, Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import Int16StringReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from rqdisco.dns import wire
from rqdisco.dns.responses import NameServer
from rqdisco.dns.source_limit import SourceLimit
from rqdisco.dns.wire import Question, Reply
from rqdisco.limits.connection_limiter import ConnectionLimiter
from rqdisco.telemetry.counters import DNSCounts
from rqdisco.twisted_compat import use_timer

IDLE_SECONDS = 10.0
MOST_CONNECTIONS = 200
MOST_OF_ONE = 20
# Of datagrams that wait, this much is read before it is somebody else's turn: some 200 questions, a
# few milliseconds.
BYTES_AT_ONCE = 8192
_TRIES = 10

_log = Logger()


class Datagrams(DatagramProtocol):
    """Questions over UDP. A source that asks too much is sent to TCP, where nobody can pose as
    somebody else, by an answer that is no larger than its question.
    """

    noisy = False

    def __init__(
        self, server: NameServer, limit: SourceLimit, clock: IReactorTime, counts: DNSCounts | None = None
    ) -> None:
        self._answers = _Answers(server, clock, "udp", counts)
        self._limit = limit

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        question = wire.parse_query(datagram)
        if question is None or not addr[1]:
            # No query, or from port 0, where nobody can be answered.
            return
        if not self._limit.allows(addr[0]):
            self._answers.limited()
            if not question.problem:
                self._send(wire.truncated(question), addr)
            return
        answering = Deferred.fromCoroutine(self._answers.to(question, question.udp_size))
        answering.addCallback(self._send, addr)

    def _send(self, answer: bytes, addr: Any) -> None:
        # Where there is no way to the sender, real or not, or no room, it asks again or is not
        # there.
        with suppress(OSError, MessageLengthError):
            if self.transport is not None:
                self.transport.write(answer, addr)


@implementer(IHalfCloseableProtocol)
class Connection(Int16StringReceiver, TimeoutMixin):
    """Questions over TCP, one after the other (RFC 7766), of each connection one in a turn of the
    reactor.

    Nothing is read while an answer is on its way, nor from those who do not take the answers.
    """

    factory: Connections
    transport: Any
    host: str
    deadline: float
    _is_answering = False
    _is_full = False
    _is_over = False

    @property
    def is_busy(self) -> bool:
        """Whether the client waits for an answer, and takes it."""
        return self._is_answering and not self._is_full

    def connectionMade(self) -> None:
        self.setTimeout(IDLE_SECONDS)
        self._expect_more()
        self.factory.open.add(self)
        if not self.factory.limiter.enter(self, self.host):
            self.cut()
            return
        self.transport.registerProducer(self, True)

    def readConnectionLost(self) -> None:
        """Whoever has no more questions gets the answers that are still to be sent; all were given
        before.
        """
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Never: we do not close one half ourselves."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.setTimeout(None)
        self._is_over = True
        self.factory.open.discard(self)
        self.factory.limiter.leave(self)

    def stringReceived(self, string: bytes) -> None:
        self.resetTimeout()
        self._expect_more()
        question = wire.parse_query(string)
        self._is_answering = True
        super().pauseProducing()
        if question is None:
            self.cut()
            return
        answering = Deferred.fromCoroutine(self.factory.answers.to(question, wire.TCP_SIZE))
        answering.addCallback(self._send)

    def pauseProducing(self) -> None:
        """As the transport says when it has too much to send."""
        self._is_full = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """As the transport says when it has sent it."""
        self._is_full = False
        self._go_on()

    def timeoutConnection(self) -> None:
        self.cut()

    def lengthLimitExceeded(self, length: int) -> None:
        """Never: a length of 16 bits is within the limit."""

    def _send(self, answer: bytes) -> None:
        if not self._is_over:
            self.sendString(answer)
            self.factory.clock.callLater(0, self._ask_for_more)

    def _ask_for_more(self) -> None:
        self._is_answering = False
        self._go_on()

    def _go_on(self) -> None:
        if not (self._is_answering or self._is_full or self._is_over):
            super().resumeProducing()

    def _expect_more(self) -> None:
        self.deadline = self.factory.clock.seconds() + IDLE_SECONDS

    def cut(self) -> None:
        """End at once."""
        self._is_over = True
        self.transport.abortConnection()


class Connections(Factory):
    """All connections of the door; one that rests makes room for a new one."""

    noisy = False

    def __init__(self, server: NameServer, clock: IReactorTime, counts: DNSCounts | None = None) -> None:
        self.answers = _Answers(server, clock, "tcp", counts)
        self.clock = clock
        self.open: set[Connection] = set()
        self.limiter = ConnectionLimiter(MOST_CONNECTIONS, MOST_OF_ONE, clock.seconds)

    def buildProtocol(self, addr: Any) -> Any:
        if self.limiter.is_closed_to(addr.host):
            return None
        connection: Any = Connection()
        connection.host = addr.host
        connection.factory = self
        return use_timer(connection, self.clock)

    def cut(self) -> None:
        """Cut what is open."""
        for connection in list(self.open):
            connection.transport.abortConnection()


class DNSServer:
    """Listens for one name server at each of `addresses`, host and port, over UDP and TCP."""

    def __init__(
        self,
        reactor: Any,
        server: NameServer,
        limit: SourceLimit,
        addresses: Sequence[tuple[str, int]],
        counts: DNSCounts | None = None,
    ) -> None:
        self._reactor = reactor
        self._addresses = addresses
        self._datagrams = lambda: Datagrams(server, limit, reactor, counts)
        self._connections = Connections(server, reactor, counts)

    def listen(self) -> list[IListeningPort]:
        """The ports, of each address one for TCP and one for UDP. Raises Twisted's
        CannotListenError.
        """
        return [port for host, number in self._addresses for port in self._pair(host, number)]

    def _pair(self, host: str, port: int) -> tuple[IListeningPort, IListeningPort]:
        """TCP and UDP on one port. One that is free for TCP may be taken for UDP, and then another
        one is tried.
        """
        tries = 1 if port else _TRIES
        while True:
            tcp = self._reactor.listenTCP(port, self._connections, interface=host)
            try:
                udp = self._reactor.listenUDP(tcp.getHost().port, self._datagrams(), interface=host)
            except CannotListenError:
                tcp.stopListening()
                tries -= 1
                if not tries:
                    raise
                continue
            udp.maxThroughput = BYTES_AT_ONCE
            return tcp, udp

    def cut(self) -> None:
        """Cut the connections; whoever waits for an answer asks again."""
        self._connections.cut()


class _Answers:
    """What is answered over one transport, and counted."""

    def __init__(self, server: NameServer, clock: IReactorTime, transport: str, counts: DNSCounts | None) -> None:
        self._server = server
        self._seconds = clock.seconds
        self._transport = transport
        self._counts = DNSCounts() if counts is None else counts

    async def to(self, question: Question, most: int) -> bytes:
        """The message to send, no longer than `most` bytes."""
        since = self._seconds()
        try:
            reply = await self._server.reply(question)
            answer = wire.encode_reply(question, reply, most)
        except Exception:
            _log.failure("DNS question failed: {name}", name=question.name)
            reply = Reply(rcode=wire.SERVFAIL, is_authoritative=False)
            answer = wire.encode_reply(question, reply, most)
        self._counts.answered(self._transport, reply.rcode, self._seconds() - since)
        return answer

    def limited(self) -> None:
        """A source asked too much."""
        self._counts.limited += 1
