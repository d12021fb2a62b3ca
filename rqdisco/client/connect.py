"""`connect`: make a DiscoveryClient from a URL, over TCP, TLS or a UNIX socket."""

from __future__ import annotations

from typing import Any, TypeAlias

from treq.client import HTTPClient
from twisted.internet.endpoints import TCP6ClientEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.client import URI, Agent, BrowserLikePolicyForHTTPS
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

from rqdisco.client.api import DiscoveryClient
from rqdisco.client.urls import parse_url

# Twisted has no type for a reactor that provides time, TCP and UNIX sockets.
Reactor: TypeAlias = Any


def connect(
    reactor: Reactor,
    url: str,
    *,
    timeout: float = 10.0,
    token: str | None = None,
    policy: IPolicyForHTTPS | None = None,
) -> DiscoveryClient:
    """Return a client of the service at `url`.

    The client opens a connection per request, so there is nothing to close. `timeout` is in
    seconds. `policy` verifies https services and, by default, trusts the system's authorities; pass
    `BrowserLikePolicyForHTTPS(trustRootFromCertificates(...))` for a private authority.

    Raises ValueError if `url` is not a service URL or `token` cannot be a token.
    """
    target = parse_url(url)
    policy = policy or BrowserLikePolicyForHTTPS()
    if target.socket is not None:
        agent = Agent.usingEndpointFactory(reactor, _UNIXSocket(reactor, target.socket, timeout))
    elif target.zone is not None:
        agent = Agent.usingEndpointFactory(reactor, _LinkLocal(reactor, target.zone, policy, timeout))
    else:
        agent = Agent(reactor, policy, connectTimeout=timeout)
    return DiscoveryClient(HTTPClient(agent), url, clock=reactor, timeout=timeout, token=token)


@implementer(IAgentEndpointFactory)
class _LinkLocal:
    """Connect to link-local IPv6 addresses through one network interface, `zone`."""

    def __init__(self, reactor: Reactor, zone: str, policy: IPolicyForHTTPS, timeout: float) -> None:
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
class _UNIXSocket:
    """Connect to one UNIX socket, whatever the URI."""

    def __init__(self, reactor: Reactor, path: str, timeout: float) -> None:
        self._endpoint = UNIXClientEndpoint(reactor, path, timeout)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return self._endpoint
