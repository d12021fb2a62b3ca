"""The connections between peers: how many there are, who notices their end, and what a peer that is
slow, broken or somebody else can do.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from rqdisco.backends.gossip.core.peer_errors import PeerUnreachable
from rqdisco.backends.gossip.transport.connections import (
    CALL_CONNECTIONS,
    CONNECTIONS,
    link_factory,
    peer_client,
)
from rqdisco.backends.gossip.transport.http_link import HTTPLink, Keys
from rqdisco.http.server.site import IDLE_SECONDS as SERVER_IDLE_SECONDS
from rqdisco.http_client.pool import IDLE_SECONDS
from rqdisco.security.certificates import Certificates, Files
from rqdisco.security.tls import ClientPolicy
from rqdisco.service.listeners import endpoint
from rqdisco.service.wiring.listeners import PEER_CONNECTIONS_EACH
from tests.support.certificates import Authority
from tests.support.daemon import result
from tests.support.etcd_wire import Link, PlayedNetwork
from tests.support.peer_links import Pair, ring
from tests.support.tls import CLIENT_ADDRESS, Transport, described

# An answer of whom the key is not known to.
STRANGER = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"


class Played:
    """A link to a peer that the test plays by hand."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.network = PlayedNetwork()
        client = peer_client(self.network, self.clock)
        self._link = HTTPLink("http://b:1", client, Keys(ring(1)), Random(2).randbytes)

    def greet(self) -> Deferred[bytes]:
        return self._link.greet(b"hello", 2)

    @property
    def peer(self) -> Link:
        """The peer's end of the newest connection."""
        return self.network.links[-1]


@pytest.fixture
def played() -> Played:
    return Played()


@pytest.mark.parametrize("verb", ["call", "push"])
def test_a_peer_notices_at_once_that_the_sender_of_a_message_has_given_it_up(verb: str) -> None:
    pair = Pair()
    pair.greet()
    pair.handler.answer = None
    asking = pair.link.request(verb, b"", 2)
    assert [each for _, each, _ in pair.handler.received] == [verb]
    asking.cancel()
    with pytest.raises(CancelledError):
        pair.flush(asking)
    assert pair.handler.cancelled == 1
    pair.handler.answer = b"answer"
    assert pair.ask() == b"answer"


def test_calls_beyond_the_connections_for_them_wait_and_other_messages_do_not() -> None:
    pair = Pair()
    pair.greet()
    pair.handler.answer = None
    asked = [pair.link.request("call", b"%d" % number, 4) for number in range(CALL_CONNECTIONS + 2)]
    assert len(pair.handler.received) == CALL_CONNECTIONS
    pair.link.request("push", b"changes", 2)
    assert pair.handler.received[-1][1:] == ("push", b"changes")
    pair.handler.waiting[0].callback(b"done")
    assert pair.flush(asked[0]) == b"done"
    assert pair.handler.received[-1][1:] == ("call", b"%d" % CALL_CONNECTIONS)


def test_a_call_that_is_given_up_while_it_waits_for_a_connection_is_never_sent() -> None:
    pair = Pair()
    pair.greet()
    pair.handler.answer = None
    asked = [pair.link.request("call", b"%d" % number, 4) for number in range(CALL_CONNECTIONS + 2)]
    asked[-2].cancel()
    with pytest.raises(CancelledError):
        result(asked[-2])
    pair.handler.waiting[0].callback(b"done")
    pair.flush(asked[0])
    assert pair.handler.received[-1][1:] == ("call", b"%d" % (CALL_CONNECTIONS + 1))


def test_a_call_that_is_given_up_makes_room_for_one_that_waits() -> None:
    pair = Pair()
    pair.greet()
    pair.handler.answer = None
    pushes = [pair.link.request("push", b"", 4) for _ in range(2)]
    asked = [pair.link.request("call", b"%d" % number, 4) for number in range(CALL_CONNECTIONS + 2)]
    for each in pair.handler.waiting[:2]:
        each.callback(b"held")
    assert [pair.flush(each) for each in pushes] == [b"held"] * 2
    for number in range(2):
        asked[number].cancel()
        with pytest.raises(CancelledError):
            pair.flush(asked[number])
        assert pair.handler.received[-1][1:] == ("call", b"%d" % (CALL_CONNECTIONS + number))


def test_a_peer_accepts_all_connections_that_a_daemon_makes() -> None:
    assert CALL_CONNECTIONS < CONNECTIONS <= PEER_CONNECTIONS_EACH
    # A connection is not used any more when the peer may be closing it.
    assert IDLE_SECONDS < SERVER_IDLE_SECONDS


def test_messages_one_after_the_other_share_a_connection(played: Played) -> None:
    for _ in range(3):
        greeting = played.greet()
        played.peer.answer(STRANGER)
        assert_unreachable(greeting, "the peer does not accept our key")
    assert len(played.network.links) == 1


def test_a_connection_that_the_peer_closes_while_it_is_idle_costs_no_message(played: Played) -> None:
    assert_refused(played)
    played.peer.end()
    assert_refused(played)
    assert len(played.network.links) == 2


def test_a_message_whose_connection_ends_is_not_sent_again(played: Played) -> None:
    assert_refused(played)
    greeting = played.greet()
    assert b"hello" in played.peer.take()
    played.peer.end()
    assert_unreachable(greeting, "the connection ended")
    assert len(played.network.links) == 1


def test_an_answer_of_more_than_16_mib_is_given_up(played: Played) -> None:
    greeting = played.greet()
    played.peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
    for _ in range(16):
        assert not greeting.called
        played.peer.answer(bytes(1 << 20))
    assert_unreachable(greeting, "the answer is larger than 16777216 bytes")
    assert not played.peer.is_open


@pytest.mark.parametrize("data", [b"HTTP/1.1 200 OK\r\nX-Slow: yes\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 2])
def test_an_answer_that_comes_byte_by_byte_gets_no_more_time(played: Played, data: bytes) -> None:
    greeting = played.greet()
    for number in range(20):
        assert not greeting.called
        played.peer.answer(data[number : number + 1])
        played.clock.advance(0.1)
    assert_unreachable(greeting, "no answer within 2 s")
    assert not played.peer.is_open


@pytest.mark.parametrize("url", ["http://b:1\r\nx: y", "http://b b", "b:1", "ftp://b:1", ""])
def test_nothing_is_sent_to_what_is_no_url(url: str) -> None:
    network = PlayedNetwork()
    link = HTTPLink(url, peer_client(network, Clock()), Keys(ring(1)), Random(2).randbytes)
    assert_unreachable(link.greet(b"hello", 2), "not a URL of a server")
    assert network.asked == []


class Silent(Protocol):
    """A peer that never answers."""

    def __init__(self) -> None:
        self.received = b""
        self.is_lost = False

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.is_lost = True


class OverTLS:
    """A message over TLS in memory, to a silent peer that has a certificate for 192.0.2.1."""

    def __init__(self, authority: Authority, directory: Path, url: str) -> None:
        self.clock, self.peer = MemoryReactorClock(), Silent()
        ca = directory / "ca"
        ca.write_bytes(authority.pem)
        certificates = Certificates(self.clock.seconds)
        description = described(authority.write(directory, "a", ["192.0.2.1"]), f"clientCA={ca}")
        _, listening = endpoint(self.clock, "peer-listen", description, certificates)
        listening.listen(Factory.forProtocol(lambda: self.peer))
        key, certificate = authority.write(directory, "b")
        policy = ClientPolicy(
            certificates.for_clients("peers", Files(key=key, certificate=certificate, authorities=ca))
        )
        link = link_factory(self.clock, Keys(ring(1)), Random(2).randbytes, policy)(url)
        self.greeting = link.greet(b"hello", 2)
        factories: tuple[Any, ...] = (self.clock.tcpClients[0][2], self.clock.tcpServers[0][1])
        self._ends = [(factory.buildProtocol(CLIENT_ADDRESS), Transport()) for factory in factories]
        for protocol, transport in self._ends:
            protocol.makeConnection(transport)
        for _ in range(10):
            self._exchange()

    def _exchange(self) -> None:
        for (_, transport), (protocol, _) in (self._ends, self._ends[::-1]):
            self.clock.advance(0)
            if written := transport.value():
                transport.clear()
                protocol.dataReceived(written)

    def end(self) -> None:
        """Deliver the end of the connection, if a side has closed it."""
        if any(transport.disconnecting for _, transport in self._ends):
            for protocol, _ in self._ends:
                protocol.connectionLost(Failure(error.ConnectionDone()))


def test_a_message_over_tls_reaches_the_listener_of_that_name(authority: Authority, tmp_path: Path) -> None:
    over = OverTLS(authority, tmp_path, "https://192.0.2.1:4005")
    assert over.peer.received.startswith(b"POST /peers/1/hello HTTP/1.1\r\nHost: 192.0.2.1:4005\r\n")


def test_the_end_of_a_message_that_is_given_up_shows_over_tls_too(authority: Authority, tmp_path: Path) -> None:
    over = OverTLS(authority, tmp_path, "https://192.0.2.1:4005")
    over.end()
    assert not over.peer.is_lost
    over.greeting.cancel()
    with pytest.raises(CancelledError):
        result(over.greeting)
    over.end()
    assert over.peer.is_lost


def test_nothing_is_sent_over_tls_to_a_listener_of_another_name(authority: Authority, tmp_path: Path) -> None:
    over = OverTLS(authority, tmp_path, "https://192.0.2.2:4005")
    over.end()
    assert_unreachable(over.greeting, "TLS: the certificate is for another host")
    assert over.peer.received == b""


def assert_refused(played: Played) -> None:
    """A message is sent and answered."""
    greeting = played.greet()
    assert b"hello" in played.peer.take()
    played.peer.answer(STRANGER)
    assert_unreachable(greeting, "the peer does not accept our key")


def assert_unreachable(asking: Deferred[Any], reason: str) -> None:
    with pytest.raises(PeerUnreachable) as raised:
        result(asking)
    assert str(raised.value) == reason
