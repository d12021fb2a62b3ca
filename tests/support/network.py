"""A network in memory with rqlited in it: probes connect to hosts that listen, refuse, hang or hang
up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

READY = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n[+]node ok\n[+]leader ok\n[+]store ok"
NOT_READY = b"HTTP/1.1 503 Service Unavailable\r\n\r\n[+]node ok\n[+]leader does not exist"
_PEER = IPv4Address("TCP", "127.0.0.1", 1)


class ProbedNetwork:
    """The servers by IP address and port; connections to anything else are refused."""

    def __init__(self) -> None:
        self._hosts: dict[tuple[str, int], Callable[[Any], Deferred[IProtocol]]] = {}
        self.attempted: list[tuple[str, int]] = []
        self.asked: list[bytes] = []
        self.open = self.most_open = 0

    def __call__(self, ip: str, port: int) -> IStreamClientEndpoint:
        return _Endpoint(self, ip, port)

    def listens(self, ip: str, answer: bytes = READY, port: int = 4001) -> None:
        """Answer any request at this address with these bytes; never, if they are empty."""
        self._hosts[ip, port] = lambda factory: self._connect(factory, lambda link: link.answer(answer))

    def hangs_up(self, ip: str, port: int = 4001) -> None:
        """Accept connections at this address and close them."""
        self._hosts[ip, port] = lambda factory: self._connect(factory, lambda link: link.end(error.ConnectionDone()))

    def hangs(self, ip: str, port: int = 4001) -> None:
        """Drop everything sent to this address."""
        self._hosts[ip, port] = lambda _: self._lost()

    def is_cut_off(self, ip: str, port: int = 4001) -> None:
        """Make this address unreachable."""
        self._hosts[ip, port] = lambda _: fail(error.NoRouteError())

    def is_gone(self, ip: str, port: int = 4001) -> None:
        """Stop listening at this address."""
        self._hosts.pop((ip, port), None)

    def connect(self, ip: str, port: int, factory: Any) -> Deferred[IProtocol]:
        """Connect as an endpoint does."""
        self.attempted.append((ip, port))
        host = self._hosts.get((ip, port))
        return fail(error.ConnectionRefusedError()) if host is None else host(factory)

    def count(self, by: int) -> None:
        """Change the number of connections that are being made or are open."""
        self.open += by
        self.most_open = max(self.most_open, self.open)

    def _connect(self, factory: Any, react: Callable[[_Link], None]) -> Deferred[IProtocol]:
        # As a connector of the reactor does.
        factory.doStart()
        protocol = factory.buildProtocol(_PEER)
        self.count(1)
        protocol.makeConnection(_Link(self, protocol, react, factory.doStop))
        return succeed(protocol)

    def _lost(self) -> Deferred[IProtocol]:
        self.count(1)
        return Deferred(lambda _: self.count(-1))


@implementer(IStreamClientEndpoint)
class _Endpoint:
    def __init__(self, network: ProbedNetwork, ip: str, port: int) -> None:
        self._network, self._ip, self._port = network, ip, port

    def connect(self, factory: Any) -> Deferred[IProtocol]:
        return self._network.connect(self._ip, self._port, factory)


class _Link(StringTransport):
    """A connection to a host that reacts to the first bytes that are sent."""

    def __init__(
        self, network: ProbedNetwork, protocol: Any, react: Callable[[_Link], None], ended: Callable[[], None]
    ) -> None:
        super().__init__()
        self._network, self._protocol, self._react, self._ended = network, protocol, react, ended
        self._is_open = True

    def write(self, data: bytes) -> None:
        self._network.asked.append(data)
        self._react(self)

    def answer(self, data: bytes) -> None:
        """Send an answer, unless it is empty."""
        if data:
            self._protocol.dataReceived(data)

    def end(self, why: Exception) -> None:
        """End the connection."""
        if self._is_open:
            self._is_open = False
            self._network.count(-1)
            self._protocol.connectionLost(Failure(why))
            self._ended()

    def abortConnection(self) -> None:
        self.end(error.ConnectionAborted())
