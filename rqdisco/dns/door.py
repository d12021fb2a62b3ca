"""The DNS door itself: datagrams and connections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.internet.protocol import DatagramProtocol, Factory, connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import Int16StringReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure

from rqdisco.dns import wire
from rqdisco.dns.answers import NameServer
from rqdisco.dns.limits import SourceLimit
from rqdisco.dns.wire import Question, Reply

IDLE_SECONDS = 10.0
MOST_CONNECTIONS = 200

_log = Logger()


class Datagrams(DatagramProtocol):
    """Questions over UDP. A source that asks too much is sent to TCP, where nobody can pose as somebody else, by an
    answer that is no larger than its question.
    """

    noisy = False

    def __init__(self, server: NameServer, limit: SourceLimit) -> None:
        self._server = server
        self._limit = limit

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        question = wire.parse(datagram)
        if question is None:
            return
        if not self._limit.allows(addr[0]):
            if not question.problem:
                self._send(wire.truncated(question), addr)
            return
        answering = Deferred.fromCoroutine(_answer(self._server, question, question.udp_size))
        answering.addCallback(self._send, addr)

    def _send(self, answer: bytes, addr: Any) -> None:
        if self.transport is not None:
            self.transport.write(answer, addr)


class Connection(Int16StringReceiver, TimeoutMixin):
    """Questions over TCP, one after the other (RFC 7766); nothing is read while an answer is on its way."""

    factory: Connections
    transport: Any
    is_closed = False

    def connectionMade(self) -> None:
        self.setTimeout(IDLE_SECONDS)
        self.factory.open.add(self)
        if len(self.factory.open) > MOST_CONNECTIONS:
            self.transport.abortConnection()
            return
        # Who does not take the answers is not asked for more questions.
        self.transport.registerProducer(self, True)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.setTimeout(None)
        self.is_closed = True
        self.factory.open.discard(self)

    def stringReceived(self, string: bytes) -> None:
        self.resetTimeout()
        question = wire.parse(string)
        if question is None:
            self.transport.abortConnection()
            return
        answering = Deferred.fromCoroutine(_answer(self.factory.server, question, wire.TCP_SIZE))
        if answering.called:
            answering.addCallback(self._send)
        else:
            self.pauseProducing()
            answering.addCallback(self._send_and_go_on)

    def timeoutConnection(self) -> None:
        self.transport.abortConnection()

    def lengthLimitExceeded(self, length: int) -> None:
        """Never: a length of 16 bits is within the limit."""

    def _send(self, answer: bytes) -> None:
        if not self.is_closed:
            self.sendString(answer)

    def _send_and_go_on(self, answer: bytes) -> None:
        self._send(answer)
        if not self.is_closed:
            self.resumeProducing()


class Connections(Factory):
    """All connections of the door."""

    noisy = False

    def __init__(self, server: NameServer, clock: IReactorTime) -> None:
        self.server = server
        self._clock = clock
        self.open: set[Connection] = set()

    def buildProtocol(self, addr: object) -> Any:
        connection: Any = Connection()
        connection.factory = self
        connection.callLater = self._clock.callLater
        return connection

    def cut(self) -> None:
        """Cut what is open."""
        for connection in list(self.open):
            connection.transport.abortConnection()


class DNSDoor:
    """Listens for one name server at each of `addresses`, host and port, over UDP and TCP."""

    def __init__(
        self, reactor: Any, server: NameServer, limit: SourceLimit, addresses: Sequence[tuple[str, int]]
    ) -> None:
        self._reactor = reactor
        self._addresses = addresses
        self._datagrams = lambda: Datagrams(server, limit)
        self._connections = Connections(server, reactor)

    def listen(self) -> list[IListeningPort]:
        """The ports, of each address one for TCP and one for UDP. Raises Twisted's CannotListenError."""
        ports: list[IListeningPort] = []
        for host, port in self._addresses:
            tcp = self._reactor.listenTCP(port, self._connections, interface=host)
            ports += (tcp, self._reactor.listenUDP(tcp.getHost().port, self._datagrams(), interface=host))
        return ports

    def cut(self) -> None:
        """Cut the connections; whoever waits for an answer asks again."""
        self._connections.cut()


async def _answer(server: NameServer, question: Question, most: int) -> bytes:
    try:
        reply = await server.reply(question)
        return wire.encode(question, reply, most)
    except Exception:
        _log.failure("DNS question failed: {name}", name=question.name)
        return wire.encode(question, Reply(rcode=wire.SERVFAIL, is_authoritative=False), most)
