"""A client over the network, or over a UNIX socket."""

from __future__ import annotations

from typing import Any

from treq.client import HTTPClient
from twisted.internet.endpoints import TCP6ClientEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.client import URI, Agent, BrowserLikePolicyForHTTPS
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

from rqdisco.client.api import DiscoveryClient
from rqdisco.client.urls import parse_url


def connect(
    reactor: Any,
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
    if target.socket is None:
        policy = policy or BrowserLikePolicyForHTTPS()
        if target.zone is None:
            agent = Agent(reactor, policy, connectTimeout=timeout)
        else:
            agent = Agent.usingEndpointFactory(reactor, _Interface(reactor, target.zone, policy, timeout))
    else:
        agent = Agent.usingEndpointFactory(reactor, _Socket(reactor, target.socket, timeout))
    return DiscoveryClient(HTTPClient(agent), url, clock=reactor, timeout=timeout, token=token)


@implementer(IAgentEndpointFactory)
class _Interface:
    """Takes every request through one network interface, to an IPv6 address that is known there
    only.
    """

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
