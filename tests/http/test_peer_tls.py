"""TLS between peers, end to end in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from rqdisco.security.certificates import Certificates, Files
from rqdisco.security.tls import ClientPolicy
from tests.support.certificates import Authority, replace
from tests.support.tls import ASK, CLIENT_ADDRESS, HOST, Listener, Transport, described


class Asking(Protocol):
    """Sends a request as soon as it is connected, and records the answer."""

    def __init__(self) -> None:
        self.answer = b""
        self.end: Failure | None = None

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(ASK)

    def dataReceived(self, data: bytes) -> None:
        self.answer += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.end = reason


class Peer:
    """The client side of a daemon towards its peers."""

    def __init__(self, listener: Listener, files: Files) -> None:
        self.certificates = Certificates(listener.clock.seconds)
        self._listener = listener
        self._policy = ClientPolicy(self.certificates.for_clients("peers", files))

    def ask(self, host: str = HOST) -> bytes:
        """Return the first line of an answer. Raises the error that the connection ended with,
        where there is none.
        """
        clock = self._listener.clock
        asking = Asking()
        creator = self._policy.creatorForNetloc(host.encode(), 4005)
        connecting = TLSMemoryBIOFactory(creator, True, Factory.forProtocol(lambda: asking), clock)
        factories: tuple[Any, ...] = (connecting, self._listener.factory)
        ends = [(factory.buildProtocol(CLIENT_ADDRESS), Transport()) for factory in factories]
        for protocol, transport in ends:
            protocol.makeConnection(transport)
        for _ in range(10):
            for (_, transport), (protocol, _) in (ends, ends[::-1]):
                clock.advance(0)
                written = transport.value()
                transport.clear()
                if written:
                    protocol.dataReceived(written)
        for protocol, transport in ends:
            if transport.disconnecting:
                protocol.connectionLost(Failure(ConnectionDone()))
        if asking.end is not None:
            asking.end.raiseException()
        return asking.answer.partition(b"\r\n")[0]


def test_peers_authenticate_each_other_by_certificates_of_their_own_authority(
    authority: Authority, tmp_path: Path
) -> None:
    ca = tmp_path / "ca"
    ca.write_bytes(authority.pem)
    listener = Listener(described(authority.write(tmp_path, "a", [HOST, "127.0.0.1", "::1"]), f"clientCA={ca}"))
    between = Authority("between", authority)
    key, certificate = between.write(tmp_path, "b")
    replace(certificate, certificate.read_bytes() + between.pem)
    peer = Peer(listener, Files(key=key, certificate=certificate, authorities=ca))
    for host in (HOST, "127.0.0.1", "::1"):
        assert peer.ask(host) == b"HTTP/1.1 200 OK"
    assert [where for where, _ in peer.certificates.expiries()] == ["peers"]
    with pytest.raises(Exception, match=r"VerificationError|mismatch|other.example") as refused:
        peer.ask("other.example")
    assert "Verification" in type(refused.value).__name__
    with pytest.raises(SSL.Error):
        Peer(listener, Files(authorities=ca)).ask()
    with pytest.raises(SSL.Error):
        Peer(listener, Files(key=key, certificate=certificate)).ask()


def test_a_peers_own_certificate_is_reloaded_too(authority: Authority, tmp_path: Path) -> None:
    ca = tmp_path / "ca"
    ca.write_bytes(authority.pem)
    listener = Listener(described(authority.write(tmp_path, "a", [HOST]), f"clientCA={ca}"))
    key, certificate = authority.write(tmp_path, "b", days=-1)
    peer = Peer(listener, Files(key=key, certificate=certificate, authorities=ca))
    with pytest.raises(SSL.Error):
        peer.ask()
    authority.write(tmp_path, "b")
    listener.clock.advance(1)
    assert peer.ask() == b"HTTP/1.1 200 OK"
