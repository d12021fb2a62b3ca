"""One probe of one address: connect, ask for /readyz, and look at the first line of what comes,
within bounds.

Not an HTTP client: those have no bound for headers, and do not tell an answer that is none from no
answer at all. Here nothing behind the first line is read, and no redirect is followed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NoReturn

from OpenSSL import SSL
from twisted.internet import defer, error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from rqdisco.probes.probe_state import Outcome
from rqdisco.probes.targets import ProbeTarget

SECONDS = 2.0
MOST_BYTES = 4096
_STATUS = re.compile(rb"HTTP/[0-9.]{1,5} ([0-9]{3})(?: |\r|\Z)")
_SAID: dict[bytes, Outcome] = {b"200": "ready", b"503": "not_ready"}

Endpoints = Callable[[str, int], IStreamClientEndpoint]


def tcp_endpoints(reactor: Any) -> Endpoints:
    """Endpoints of addresses, which are not looked up any more."""

    def endpoint(ip: str, port: int) -> IStreamClientEndpoint:
        kind = TCP6ClientEndpoint if ":" in ip else TCP4ClientEndpoint
        found: IStreamClientEndpoint = kind(reactor, ip, port, timeout=SECONDS)
        return found

    return endpoint


class Prober:
    """Probes addresses over `endpoints`."""

    def __init__(self, endpoints: Endpoints, clock: IReactorTime) -> None:
        self._endpoints = endpoints
        self._clock = clock

    async def __call__(self, target: ProbeTarget, ip: str) -> Outcome:
        """What a node meets that turns to `target`, of which `ip` is an address; within 2
        seconds.
        """
        endpoint = self._endpoints(ip, target.port)
        if target.way == "https":
            endpoint = wrapClientTLS(_Unverified(target), endpoint)
        asking = _Asking(target)
        try:
            return await Deferred.fromCoroutine(_ask(endpoint, asking)).addTimeout(SECONDS, self._clock, _too_late)
        except (defer.TimeoutError, error.TimeoutError):
            return "no_answer"
        except error.ConnectingCancelledError:
            raise CancelledError from None
        except error.ConnectionRefusedError:
            return "refused"
        except (error.ConnectError, OSError):
            return "unreachable"
        finally:
            asking.hang_up()


async def _ask(endpoint: IStreamClientEndpoint, asking: _Asking) -> Outcome:
    await endpoint.connect(Factory.forProtocol(lambda: asking))
    return await asking.outcome


def _too_late(_: object, seconds: float) -> NoReturn:
    raise defer.TimeoutError(f"no answer within {seconds:g} s")


class _Asking(Protocol):
    """Asks, and fires `outcome` at the first line; anything at all is an answer, and none is a
    closed connection.
    """

    def __init__(self, target: ProbeTarget) -> None:
        self._target = target
        self._got = b""
        self.outcome: Deferred[Outcome] = Deferred()

    def connectionMade(self) -> None:
        if self._target.way == "tcp":
            self._end("connected")
        else:
            self._send(_request(self._target))

    def dataReceived(self, data: bytes) -> None:
        self._got += data[:MOST_BYTES]
        if b"\n" in self._got or len(self._got) >= MOST_BYTES:
            self._end(_said(self._got))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # A server of TLS that will not have us has answered, too: perhaps it asks for a
        # certificate.
        has_answered = self._got or reason.check(SSL.Error) is not None
        self._end(_said(self._got) if has_answered else "closed")

    def hang_up(self) -> None:
        """Let go of the connection, if there is one; nobody is waited for."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def _send(self, request: bytes) -> None:
        transport: Any = self.transport
        transport.write(request)

    def _end(self, outcome: Outcome) -> None:
        if not self.outcome.called:
            self.outcome.callback(outcome)


def _request(target: ProbeTarget) -> bytes:
    host = f"[{target.host}]" if ":" in target.host else target.host
    head = f"GET /readyz HTTP/1.1\r\nHost: {host}:{target.port}\r\nUser-Agent: rqdisco\r\nConnection: close\r\n\r\n"
    return head.encode()


def _said(got: bytes) -> Outcome:
    status = _STATUS.match(got)
    return "answered" if status is None else _SAID.get(status[1], "answered")


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    """TLS with whoever is there. It is asked whether it lives, and nothing that it says is believed
    beyond that.
    """

    def __init__(self, target: ProbeTarget) -> None:
        self._name = None if target.is_ip else target.host.encode()

    def clientConnectionForTLS(self, tls_protocol: Any) -> SSL.Connection:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        # Without a callback of Python's, which a systemd unit may forbid (MemoryDenyWriteExecute).
        context.set_verify(SSL.VERIFY_NONE)
        connection = SSL.Connection(context, None)
        if self._name is not None:
            connection.set_tlsext_host_name(self._name)
        return connection
