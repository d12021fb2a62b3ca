"""The client's end of a connection to a site in memory, and the bytes sent on it."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from rqdisco.http.server.site import Site, SiteConfig
from rqdisco.limits.connection_limiter import ConnectionLimiter
from tests.support.backends import new_daemon

CLIENT = "198.51.100.7"
OWN = "192.168.1.1"
MAX_BODY = 1000
CREATE_REQUEST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"


def request(method: str, path: str, document: object = None, **headers: str) -> bytes:
    """Return a request with a body, which is JSON unless it is bytes; `_` in header names stands
    for a hyphen.
    """
    body = b"" if document is None else document if isinstance(document, bytes) else msgspec.json.encode(document)
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def unchunked(data: bytes) -> bytes:
    """Decode a chunked body."""
    parts = []
    while data:
        size, _, rest = data.partition(b"\r\n")
        parts.append(rest[: int(size, 16)])
        data = rest[int(size, 16) + 2 :]
    return b"".join(parts)


def is_bad_request(answer: bytes) -> bool:
    """Report whether an answer is 400, and the last one."""
    return answer.startswith(b"HTTP/1.1 400 Bad Request\r\n") and b"\r\nConnection: close\r\n" in answer


class Connection:
    """The client's end of a connection to a factory that listens at the address `own`; without a
    host, to a Unix socket.
    """

    def __init__(self, factory: Any, host: str | None = CLIENT, own: str = OWN, clock: Clock | None = None) -> None:
        self._clock = clock
        address = UNIXAddress(None) if host is None else IPv4Address("TCP", host, 40000)
        self.protocol = factory.buildProtocol(address)
        here = UNIXAddress(b"/run/x.sock") if host is None else IPv4Address("TCP", own, 4000)
        self.transport = StringTransport(hostAddress=here, peerAddress=address)
        self.protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> bytes:
        """Send bytes; return what was answered since the last call."""
        self.protocol.dataReceived(data)
        self.turn()
        return self.take()

    def turn(self) -> None:
        """Let the server start the requests that wait: it starts one in each turn of the
        reactor.
        """
        if self._clock is not None:
            now = self._clock.seconds()
            while any(call.getTime() <= now for call in self._clock.getDelayedCalls()):
                self._clock.advance(0)

    def take(self) -> bytes:
        """Return what was answered since the last call."""
        received: bytes = self.transport.value()
        self.transport.clear()
        return received

    @property
    def closed(self) -> bool:
        return bool(self.transport.disconnecting or self.transport.disconnected)

    def hang_up(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionLost()))


class Server:
    """A site in memory whose clock the test moves."""

    def __init__(
        self, *, trusting: bool = False, limiter: ConnectionLimiter | None = None, clock: Clock | None = None
    ) -> None:
        self.daemon = new_daemon(max_body=MAX_BODY)
        self.clock = clock or Clock()
        public = self.daemon.apis.public()
        self.site = Site(public, self.clock, SiteConfig(trusts_clients=trusting), lambda: 0.0, limiter=limiter)
        self.factory = self.listening()
        self.factory.doStart()

    def listening(self) -> Any:
        """Return the factory of the site's connections."""
        return self.site

    def connect(self, host: str | None = CLIENT, own: str = OWN) -> Connection:
        return Connection(self.factory, host, own, self.clock)

    def wait(self, seconds: int) -> None:
        self.clock.pump([1] * seconds)
