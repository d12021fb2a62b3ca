"""A listener with TLS in memory, as an option describes it, and its clients."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from OpenSSL import SSL, crypto
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport

from rqdisco.http.server.site import Site, SiteConfig
from rqdisco.limits.connection_limiter import ConnectionLimiter
from rqdisco.security.certificates import Certificates
from rqdisco.service.listeners import endpoint
from tests.support.certificates import Authority
from tests.support.daemon import Daemon

HOST = "rqdisco.example"
CLIENT_ADDRESS = IPv4Address("TCP", "198.51.100.7", 4711)
ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Listener:
    """A site behind TLS, as an option describes it."""

    def __init__(self, description: str, most_each: int = 100) -> None:
        self.clock = MemoryReactorClock()
        self.certificates = Certificates(self.clock.seconds)
        _, made = endpoint(self.clock, "listen", description, self.certificates)
        self.is_mutual = made.is_mutual  # type: ignore[attr-defined]
        limiter = ConnectionLimiter(100, most_each, self.clock.seconds)
        made.listen(Site(Daemon().apis.public(), self.clock, SiteConfig(), lambda: 0.0, limiter=limiter))
        ((self.port, self.factory, self.backlog, self.interface),) = self.clock.tcpServers


class Transport(StringTransport):
    """A transport in memory that claims to be TCP, as the one under TLS does."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


class Client:
    """A connection to a listener."""

    def __init__(self, listener: Listener, connection: SSL.Connection) -> None:
        self._clock = listener.clock
        self._protocol = cast("Protocol", listener.factory.buildProtocol(CLIENT_ADDRESS))
        self._transport = Transport()
        self._protocol.makeConnection(self._transport)
        self._ssl = connection
        connection.set_connect_state()
        self._turn(connection.do_handshake)

    def _turn(self, act: Any) -> Any:
        """Do something that may need the other side's reply to what we send; raises SSL.Error if
        that refuses.
        """
        for _ in range(10):
            try:
                return act()
            except SSL.WantReadError:
                self._exchange()
        raise AssertionError("nothing more comes")

    def _exchange(self) -> None:
        with suppress(SSL.WantReadError):
            self._protocol.dataReceived(self._ssl.bio_read(1 << 20))
        self._clock.advance(0)
        written = self._transport.value()
        self._transport.clear()
        if written:
            self._ssl.bio_write(written)

    def ask(self) -> bytes:
        """Return the first line of the answer. Raises SSL.Error where TLS 1.3 refuses us that
        late.
        """
        self._ssl.send(ASK)
        answer: bytes = self._turn(lambda: self._ssl.recv(1 << 16))
        return answer.partition(b"\r\n")[0]

    @property
    def subject(self) -> str:
        """The subject of the server's certificate."""
        certificate = self._ssl.get_peer_certificate()
        assert certificate is not None
        return str(certificate.to_cryptography().subject.rfc4514_string().removeprefix("CN="))

    @property
    def spoken(self) -> tuple[str, bytes]:
        """The version of TLS, and the protocol inside."""
        return self._ssl.get_protocol_version_name(), self._ssl.get_alpn_proto_negotiated()


def anybody(*trusted: Authority, version: int | None = None, pair: tuple[Path, Path] | None = None) -> SSL.Connection:
    """Return a client that trusts these authorities, or any certificate."""
    context = SSL.Context(SSL.TLS_METHOD)
    if trusted:
        store = context.get_cert_store()
        assert store is not None
        for authority in trusted:
            store.add_cert(crypto.X509.from_cryptography(authority.certificate))
        context.set_verify(SSL.VERIFY_PEER)
    if version is not None:
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
    if pair is not None:
        context.use_privatekey_file(str(pair[0]))
        context.use_certificate_file(str(pair[1]))
    context.set_alpn_protos([b"h2", b"http/1.1"])
    return SSL.Connection(context, None)


def described(files: tuple[Path, Path], *more: str) -> str:
    key, certificate = files
    return ":".join(["ssl:4000", f"privateKey={key}", f"certKey={certificate}", *more])
