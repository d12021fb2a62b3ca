"""HTTP requests to an application in memory, through the real server and treq's real client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import treq
from treq.client import HTTPClient
from treq.testing import RequestTraversalAgent
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer
from twisted.web.resource import IResource
from zope.interface import implementer

from rqdisco.http.server.interfaces import Application
from rqdisco.http.server.site import Site, SiteConfig

_CLIENT = IPv4Address("TCP", "127.0.0.1", 54321)


class _Transport(StringTransport):
    """One end of a connection in memory. What is written reaches the other end when it is flushed."""

    def __init__(self, own: Any, peer: Any) -> None:
        super().__init__(hostAddress=own, peerAddress=peer)
        self.is_lost = False

    def loseConnection(self) -> None:  # noqa: N802, Twisted's
        self.disconnecting = True

    def abortConnection(self) -> None:
        self.disconnecting = True


class _Link:
    """A connection in memory between two protocols."""

    def __init__(self, server: Any, client: Any, host: IPv4Address) -> None:
        self._ends = [(server, _Transport(host, _CLIENT)), (client, _Transport(_CLIENT, host))]
        for protocol, transport in self._ends:
            protocol.makeConnection(transport)

    def flush(self) -> bool:
        """Deliver what has been written; report whether there was anything."""
        moved = False
        for (_, source), (target, its) in (self._ends, self._ends[::-1]):
            if (data := source.value()) and not its.is_lost:
                source.clear()
                target.dataReceived(data)
                moved = True
        if not moved and any(transport.disconnecting for _, transport in self._ends):
            for protocol, transport in self._ends:
                if not transport.is_lost:
                    transport.is_lost = moved = True
                    protocol.connectionLost(Failure(ConnectionDone()))
        return moved


@implementer(IAgent, IAgentEndpointFactory)
class InMemoryAgent:
    """An agent whose every request reaches `application`."""

    def __init__(self, application: Application) -> None:
        self._clock = Clock()
        self._site = Site(application, self._clock, SiteConfig(), lambda: 0.0)
        self._links: list[_Link] = []
        self._agent = Agent.usingEndpointFactory(self._clock, self)

    def request(self, method: bytes, uri: bytes, headers: Headers | None = None, body: Any = None) -> Deferred[Any]:
        response: Deferred[Any] = self._agent.request(method, uri, headers, body)
        self.flush()
        return response

    def endpointForURI(self, uri: Any) -> Any:
        return _Endpoint(lambda factory: self._connect(factory, uri))

    def flush(self) -> None:
        """Deliver what both sides have written."""
        while sum(link.flush() for link in self._links):
            self._clock.advance(0)

    def _connect(self, factory: Any, uri: Any) -> IProtocol:
        server: Any = self._site.buildProtocol(_CLIENT)
        client = factory.buildProtocol(None)
        self._links.append(_Link(server, client, IPv4Address("TCP", uri.host.decode(), uri.port)))
        made: IProtocol = client
        return made


class _Endpoint:
    def __init__(self, connect: Callable[[Any], IProtocol]) -> None:
        self._connect = connect

    def connect(self, factory: Any) -> Deferred[IProtocol]:
        connected: Deferred[IProtocol] = Deferred()
        connected.callback(self._connect(factory))
        return connected


@implementer(IBodyProducer)
class _Body:
    """The body of a request, sent at once."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._data)
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def pauseProducing(self) -> None:
        """It has been sent."""

    resumeProducing = stopProducing = pauseProducing


class InMemoryClient:
    """Send requests to `application` without sockets; `flush` delivers what both sides have
    written. A resource of twisted.web stands for a foreign service.
    """

    def __init__(self, application: Application | IResource) -> None:
        is_foreign = IResource.providedBy(application)
        untyped: Any = application
        self._agent: Any = RequestTraversalAgent(untyped) if is_foreign else InMemoryAgent(untyped)
        self._client: Any = HTTPClient(self._agent, data_to_body_producer=_Body)

    def request(self, method: str, url: str, **options: Any) -> Deferred[Any]:
        response: Deferred[Any] = self._client.request(method, url, **options)
        self._agent.flush()
        return response

    def get(self, url: str) -> Deferred[Any]:
        return self.request("GET", url)

    def post(self, url: str, **options: Any) -> Deferred[Any]:
        return self.request("POST", url, **options)

    def content(self, response: Any) -> Deferred[bytes]:
        content: Deferred[bytes] = treq.content(response)
        return content

    def json_content(self, response: Any) -> Deferred[Any]:
        content: Deferred[Any] = treq.json_content(response)
        return content

    def flush(self) -> None:
        self._agent.flush()
