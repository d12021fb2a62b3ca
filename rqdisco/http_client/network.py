"""Connections to endpoints, and words for why one cannot be reached."""

from __future__ import annotations

import os
import socket
from typing import Any

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

from rqdisco.twisted_compat import write_at_once

# HostnameEndpoint tries all addresses of a name within this time; requests have deadlines of their
# own.
CONNECT_SECONDS = 5.0
# Seconds of silence before the first probe, between probes, and the number of lost ones.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


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
        endpoint = _WatchedEndpoint(HostnameEndpoint(self._reactor, uri.host, uri.port, timeout=CONNECT_SECONDS))
        if uri.scheme != b"https":
            return endpoint
        if self._policy is None:
            raise ValueError("no TLS policy for https")
        creator = self._policy.creatorForNetloc(uri.host, uri.port)
        return _TLSClientEndpoint(endpoint, creator, self._reactor)


@implementer(IStreamClientEndpoint)
class _WatchedEndpoint:
    """A TCP endpoint whose connections end when the other machine is gone: nothing else shows that to
    a watch, which may be silent for days.
    """

    def __init__(self, inner: IStreamClientEndpoint) -> None:
        self._inner = inner

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return self._inner.connect(protocolFactory).addCallback(_keep_alive)


def _keep_alive(protocol: Any) -> Any:
    transport = protocol.transport
    if ITCPTransport.providedBy(protocol.transport):
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        for name, value in _KEEP_ALIVE.items():
            # Not every system has all of them.
            if hasattr(socket, name):
                transport.getHandle().setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return protocol


@implementer(IStreamClientEndpoint)
class _TLSClientEndpoint:
    """TLS over another endpoint, without the buffer of Twisted's, which writes in the next turn of
    the reactor.
    """

    def __init__(
        self, inner: IStreamClientEndpoint, creator: IOpenSSLClientConnectionCreator, clock: IReactorTime
    ) -> None:
        self._inner = inner
        self._creator = creator
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        factory = _DirectTLSFactory(self._creator, True, protocolFactory, self._clock)
        eager: Any = _EagerFactory
        made: Deferred[Any] = self._inner.connect(eager(factory))
        return made.addCallback(lambda protocol: protocol.wrappedProtocol.wrappedProtocol)


class _DirectTLSFactory(TLSMemoryBIOFactory):
    protocol = TLSMemoryBIOProtocol
    noisy = False


class _Eager(ProtocolWrapper):
    """A transport that writes at once."""

    def write(self, data: bytes) -> None:
        write_at_once(self.transport, data)


class _EagerFactory(WrappingFactory):
    protocol = _Eager
    noisy = False


def describe(failure: BaseException | None) -> str:
    """Return in a few words why a connection failed or ended."""
    if isinstance(failure, error.DNSLookupError | socket.gaierror):
        return "unknown host name"
    if isinstance(failure, error.TimeoutError | CancelledError | error.ConnectingCancelledError):
        return "no connection in time"
    if isinstance(failure, SSL.Error | VerificationError):
        return _describe_tls(failure)
    if isinstance(failure, error.ConnectError):
        number = failure.osError
        text = os.strerror(number) if isinstance(number, int) else str(failure).rstrip(".")
        return text[:1].lower() + text[1:]
    if isinstance(failure, error.ConnectionClosed):
        return "the connection ended"
    return f"{type(failure).__name__}: {failure}"


def _describe_tls(failure: SSL.Error | VerificationError) -> str:
    if isinstance(failure, VerificationError):
        return "TLS: the certificate is for another host"
    reasons = failure.args[0] if failure.args else ()
    if isinstance(reasons, list | tuple) and reasons:
        return f"TLS: {', '.join(str(each[-1]) for each in reasons)}"
    return "TLS: the connection was refused"
