"""Endpoints of etcd in memory that a test plays by hand: what a client sends arrives as bytes, and
the test answers with bytes.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

_PEER = IPv4Address("TCP", "127.0.0.1", 2379)


class Link(StringTransport):
    """The far end of a connection."""

    def __init__(self, protocol: Any) -> None:
        super().__init__(peerAddress=_PEER)
        self._protocol = protocol
        self.is_open = True

    def take(self) -> bytes:
        """Return what arrived since the last time."""
        data: bytes = self.value()
        self.clear()
        return data

    def answer(self, data: bytes) -> None:
        """Send bytes."""
        self._protocol.dataReceived(data)

    def end(self, why: Exception | None = None) -> None:
        """End the connection."""
        if self.is_open:
            self.is_open = False
            self._protocol.connectionLost(Failure(why or error.ConnectionDone()))

    def abortConnection(self) -> None:
        self.end(error.ConnectionAborted())

    def loseConnection(self) -> None:  # noqa: N802, Twisted's
        self.end()


@implementer(IAgentEndpointFactory)
class PlayedNetwork:
    """Connections wait for `accept` or `refuse`, unless `accepts_at_once`."""

    def __init__(self, *, accepts_at_once: bool = True) -> None:
        self.accepts_at_once = accepts_at_once
        self.links: list[Link] = []
        self.asked: list[bytes] = []
        self._waiting: list[tuple[Any, Deferred[IProtocol]]] = []

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        self.asked.append(uri.netloc)
        return _PlayedEndpoint(self)

    def connect(self, factory: Any) -> Deferred[IProtocol]:
        """Connect as an endpoint does."""
        made: Deferred[IProtocol] = Deferred(lambda _: self._drop(made))
        self._waiting.append((factory, made))
        if self.accepts_at_once:
            self.accept()
        return made

    @property
    def pending(self) -> int:
        """The number of connections that wait."""
        return len(self._waiting)

    def accept(self) -> Link:
        """Accept the first connection that waits."""
        factory, made = self._waiting.pop(0)
        protocol = factory.buildProtocol(_PEER)
        link = Link(protocol)
        self.links.append(link)
        protocol.makeConnection(link)
        made.callback(protocol)
        return link

    def refuse(self, why: Exception | None = None) -> None:
        """Refuse the first connection that waits."""
        _, made = self._waiting.pop(0)
        made.errback(why or error.ConnectionRefusedError())

    def _drop(self, made: Deferred[IProtocol]) -> None:
        self._waiting = [each for each in self._waiting if each[1] is not made]


@implementer(IStreamClientEndpoint)
class _PlayedEndpoint:
    def __init__(self, network: PlayedNetwork) -> None:
        self._network = network

    def connect(self, factory: Any) -> Deferred[IProtocol]:
        return self._network.connect(factory)
