"""A client over the network, or over a UNIX socket."""

from __future__ import annotations

from typing import Any

from treq.client import HTTPClient
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.client import URI, Agent
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from rqdisco.client.api import DiscoveryClient
from rqdisco.client.urls import parse_url
from rqdisco.process.certificates import Certificates, Files
from rqdisco.process.tls import Policy


def connect(
    reactor: Any, url: str, *, timeout: float = 10.0, token: str | None = None, tls: Files | None = None
) -> DiscoveryClient:
    """A client of the service at `url`, with a connection of its own for each request: there is nothing to close.

    Certificates are checked against the system's, or the `authorities` of `tls`, whose own certificate the service is
    shown. Raises ValueError for what is no URL of a service, or no token, and TLSUnusable.
    """
    target = parse_url(url)
    if target.socket is None:
        policy = Policy(Certificates(reactor.seconds).for_clients("client", tls or Files()))
        agent = Agent(reactor, policy, connectTimeout=timeout)
    else:
        agent = Agent.usingEndpointFactory(reactor, _Socket(reactor, target.socket, timeout))
    return DiscoveryClient(HTTPClient(agent), url, clock=reactor, timeout=timeout, token=token)


@implementer(IAgentEndpointFactory)
class _Socket:
    """Takes every request to one socket."""

    def __init__(self, reactor: Any, path: str, timeout: float) -> None:
        self._endpoint = UNIXClientEndpoint(reactor, path, timeout)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return self._endpoint
