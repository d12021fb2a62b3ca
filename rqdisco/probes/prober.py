"""One probe of one address: connect, request /readyz, and read the status line, within bounds.

This is not an HTTP client: those do not bound headers, and do not distinguish a malformed response
from none. Nothing after the status line is read, and no redirect is followed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

from OpenSSL import SSL
from twisted.internet import defer, error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from rqdisco.probes.probe_state import Outcome
from rqdisco.probes.targets import ProbeTarget

TIMEOUT = 2.0
MAX_BYTES = 4096
_STATUS = re.compile(rb"HTTP/[0-9.]{1,5} ([0-9]{3})(?: |\r|\Z)")
# Without a leader rqlite up to 7 answers 503, later ones 500 ("leader not found").
_OUTCOMES: dict[bytes, Outcome] = {b"200": "ready", b"500": "not_ready", b"503": "not_ready"}

Endpoints = Callable[[str, int], IStreamClientEndpoint]
# Twisted has no type for a reactor that provides time and TCP, nor one that says that every stream
# transport can be aborted.
_Twisted: TypeAlias = Any


def tcp_endpoints(reactor: _Twisted) -> Endpoints:
    """Return a function that makes endpoints of IP addresses, without name resolution."""

    def endpoint(ip: str, port: int) -> IStreamClientEndpoint:
        kind = TCP6ClientEndpoint if ":" in ip else TCP4ClientEndpoint
        made: IStreamClientEndpoint = kind(reactor, ip, port, timeout=TIMEOUT)
        return made

    return endpoint


class Prober:
    """Probe addresses over `endpoints`."""

    def __init__(self, endpoints: Endpoints, clock: IReactorTime) -> None:
        self._endpoints = endpoints
        self._clock = clock

    async def __call__(self, target: ProbeTarget, ip: str) -> Outcome:
        """Probe `target` at its address `ip`, within 2 seconds."""
        endpoint = self._endpoints(ip, target.port)
        probe = _ProbeProtocol(target)
        factory: IProtocolFactory = _ProbeFactory(probe)
        if target.scheme == "https":
            factory = _ProbeTLSFactory(_UnverifiedTLS(target), True, factory, self._clock)
        try:
            return await Deferred.fromCoroutine(_connect_and_wait(endpoint, factory, probe)).addTimeout(
                TIMEOUT, self._clock, _raise_timeout
            )
        except (defer.TimeoutError, error.TimeoutError):
            return "no_answer"
        except error.ConnectingCancelledError:
            raise CancelledError from None
        except error.ConnectionRefusedError:
            return "refused"
        except (error.ConnectError, OSError):
            return "unreachable"
        finally:
            probe.abort()


async def _connect_and_wait(
    endpoint: IStreamClientEndpoint, factory: IProtocolFactory, probe: _ProbeProtocol
) -> Outcome:
    await endpoint.connect(factory)
    return await probe.outcome


def _raise_timeout(_: object, seconds: float) -> NoReturn:
    raise defer.TimeoutError(f"no response within {seconds:g} s")


class _ProbeFactory(Factory):
    """Makes the one connection of a probe, and does not log it."""

    noisy = False

    def __init__(self, probe: _ProbeProtocol) -> None:
        self._probe = probe

    def buildProtocol(self, addr: object) -> _ProbeProtocol:
        return self._probe


class _ProbeTLSFactory(TLSMemoryBIOFactory):
    noisy = False


class _ProbeProtocol(Protocol):
    """Send the request and fire `outcome` at the first line. Any data counts as a response; none at
    all is a closed connection.
    """

    transport: _Twisted = None

    def __init__(self, target: ProbeTarget) -> None:
        self._target = target
        self._received = b""
        self.outcome: Deferred[Outcome] = Deferred()

    def connectionMade(self) -> None:
        if self._target.scheme == "tcp":
            self._end("connected")
        else:
            self.transport.write(_request(self._target))

    def dataReceived(self, data: bytes) -> None:
        self._received += data[:MAX_BYTES]
        if b"\n" in self._received or len(self._received) >= MAX_BYTES:
            self._end(_parse_outcome(self._received))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # A TLS server that refuses the handshake has responded too; it may require a certificate.
        has_responded = self._received or reason.check(SSL.Error) is not None
        self._end(_parse_outcome(self._received) if has_responded else "closed")

    def abort(self) -> None:
        """Drop the connection, if there is one, without waiting."""
        if self.transport is not None:
            self.transport.abortConnection()

    def _end(self, outcome: Outcome) -> None:
        if not self.outcome.called:
            self.outcome.callback(outcome)


def _request(target: ProbeTarget) -> bytes:
    host = f"[{target.host}]" if ":" in target.host else target.host
    head = f"GET /readyz HTTP/1.1\r\nHost: {host}:{target.port}\r\nUser-Agent: rqdisco\r\nConnection: close\r\n\r\n"
    return head.encode()


def _parse_outcome(received: bytes) -> Outcome:
    status = _STATUS.match(received)
    return "answered" if status is None else _OUTCOMES.get(status[1], "answered")


@implementer(IOpenSSLClientConnectionCreator)
class _UnverifiedTLS:
    """TLS without verification. A probe only finds out whether the node runs, and trusts nothing
    that it sends.
    """

    def __init__(self, target: ProbeTarget) -> None:
        self._name = None if target.is_ip else target.host.encode()

    def clientConnectionForTLS(self, tls_protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        # Without a Python callback, which a systemd unit may forbid (MemoryDenyWriteExecute).
        context.set_verify(SSL.VERIFY_NONE)
        connection = SSL.Connection(context, None)
        if self._name is not None:
            connection.set_tlsext_host_name(self._name)
        return connection
