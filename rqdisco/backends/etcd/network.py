"""How to reach an endpoint, and words for why it cannot be reached."""

from __future__ import annotations

import os
import socket
from typing import Any

from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

# HostnameEndpoint tries all addresses of a name within this time; requests have deadlines of their
# own.
CONNECT_SECONDS = 5.0


@implementer(IAgentEndpointFactory)
class Network:
    """Connects to the hosts of URLs. `policy` is for https, and is asked for each connection, so
    that files are loaded again.
    """

    # A reactor that connects, resolves names and has timers; no interface joins these.
    def __init__(self, reactor: Any, policy: IPolicyForHTTPS | None) -> None:
        self._reactor = reactor
        self._policy = policy

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Return the endpoint of a URL. Raises ValueError if there is no policy for https."""
        endpoint = HostnameEndpoint(self._reactor, uri.host, uri.port, timeout=CONNECT_SECONDS)
        if uri.scheme != b"https":
            return endpoint
        if self._policy is None:
            raise ValueError("no TLS policy for https")
        wrapped: IStreamClientEndpoint = wrapClientTLS(self._policy.creatorForNetloc(uri.host, uri.port), endpoint)
        return wrapped


def describe(failure: BaseException | None) -> str:
    """Return in a few words why a connection failed or ended."""
    if isinstance(failure, error.DNSLookupError | socket.gaierror):
        return "unknown host name"
    if isinstance(failure, error.TimeoutError | CancelledError | error.ConnectingCancelledError):
        return "no connection in time"
    if isinstance(failure, SSL.Error):
        return _describe_tls(failure)
    if isinstance(failure, error.ConnectError):
        number = failure.osError
        text = os.strerror(number) if isinstance(number, int) else str(failure).rstrip(".")
        return text[:1].lower() + text[1:]
    if isinstance(failure, error.ConnectionClosed):
        return "the connection ended"
    return f"{type(failure).__name__}: {failure}"


def _describe_tls(failure: SSL.Error) -> str:
    reasons = failure.args[0] if failure.args else ()
    if isinstance(reasons, list | tuple) and reasons:
        return f"TLS: {', '.join(str(each[-1]) for each in reasons)}"
    return "TLS: the connection was refused"
