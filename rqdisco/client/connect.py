"""A client over the network, or over a UNIX socket."""

from __future__ import annotations

from typing import Any

from treq.client import HTTPClient
from twisted.internet.endpoints import TCP6ClientEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.client import URI, Agent
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
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
        if target.zone is None:
            agent = Agent(reactor, policy, connectTimeout=timeout)
        else:
            agent = Agent.usingEndpointFactory(reactor, _Interface(reactor, target.zone, policy, timeout))
    else:
        agent = Agent.usingEndpointFactory(reactor, _Socket(reactor, target.socket, timeout))
    return DiscoveryClient(HTTPClient(agent), url, clock=reactor, timeout=timeout, token=token)


@implementer(IAgentEndpointFactory)
class _Interface:
    """Takes every request through one network interface, to an IPv6 address that is known there only."""

    def __init__(self, reactor: Any, zone: str, policy: IPolicyForHTTPS, timeout: float) -> None:
        self._reactor = reactor
        self._zone = zone
        self._policy = policy
        self._timeout = timeout

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        host = f"{uri.host.decode()}%{self._zone}"
        endpoint = TCP6ClientEndpoint(self._reactor, host, uri.port, self._timeout)
        if uri.scheme != b"https":
            return endpoint
        return wrapClientTLS(self._policy.creatorForNetloc(uri.host, uri.port), endpoint)


@implementer(IAgentEndpointFactory)
class _Socket:
    """Takes every request to one socket."""

    def __init__(self, reactor: Any, path: str, timeout: float) -> None:
        self._endpoint = UNIXClientEndpoint(reactor, path, timeout)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return self._endpoint
