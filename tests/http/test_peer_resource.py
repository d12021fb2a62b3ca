"""Requests of unauthenticated clients to a peer listener, byte by byte."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from rqdisco.backends.gossip.transport.http_link import PATH, Keys
from rqdisco.backends.gossip.transport.resource import UNAUTHENTICATED_BYTES, PeerResource
from rqdisco.backends.gossip.transport.seals import KEY_HEADER, SESSION_HEADER, hello_parts
from rqdisco.http.server.site import Site, SiteConfig
from tests.support.peer_links import Answering, ring


class PeerListener:
    """A peer listener in memory, with an established session."""

    def __init__(self) -> None:
        self.handler = Answering()
        keys = Keys(ring(1))
        resource = PeerResource(self.handler, keys, Clock(), Random(1).randbytes)
        self.site = Site(
            resource,
            Clock(),
            SiteConfig(trusts_clients=True),
            lambda: 0.0,
        )
        path, (key,) = PATH + b"hello", keys.ring.keys
        seal = key.seal(*hello_parts(path, "nonce", b"hi"))
        hello = b"POST %b HTTP/1.1\r\nHost: x\r\n%b: %b nonce %b\r\nContent-Length: 2\r\n\r\nhi"
        answer = self.send(hello % (path, KEY_HEADER, key.name.encode(), seal.encode()))
        assert answer.startswith(b"HTTP/1.1 200 ")

    def connect(self) -> tuple[Any, StringTransport]:
        address = IPv4Address("TCP", "198.51.100.7", 4711)
        protocol: Any = self.site.buildProtocol(address)
        transport = StringTransport(peerAddress=address)
        protocol.makeConnection(transport)
        return protocol, transport

    def send(self, *parts: bytes) -> bytes:
        protocol, transport = self.connect()
        for part in parts:
            if not (transport.disconnecting or transport.disconnected):
                protocol.dataReceived(part)
        received: bytes = transport.value()
        return received


@pytest.fixture(autouse=True)
def only_strangers_are_logged(logged_errors: list[dict[str, Any]]) -> Iterator[None]:
    yield
    assert {event["log_format"] for event in logged_errors} <= {"a peer has a wrong key"}
    logged_errors.clear()


@pytest.mark.parametrize(("session", "kept"), [(b"s1", 1_000_000), (b"s2", UNAUTHENTICATED_BYTES + 1)])
def test_no_more_of_an_unauthenticated_body_is_stored_than_a_greeting_needs(session: bytes, kept: int) -> None:
    listener = PeerListener()
    protocol, transport = listener.connect()
    head = b"POST %bdelta HTTP/1.1\r\nHost: x\r\n%b: %b 1 seal\r\nContent-Length: 1000001\r\n\r\n" % (
        PATH,
        SESSION_HEADER,
        session,
    )
    protocol.dataReceived(head)
    for _ in range(100):
        protocol.dataReceived(b"x" * 10_000)
    assert protocol.buffered == kept
    protocol.dataReceived(b"x")
    assert transport.value().startswith(b"HTTP/1.1 401 ")
    assert listener.handler.received == []


WORDS = st.lists(st.one_of(st.sampled_from([b"s1", b"1", b"-1", b"9" * 5000, b"seal", b"\xff"]), st.binary(max_size=9)))
REQUESTS = st.builds(
    lambda verb, header, words, length, body: (
        b"POST %b%b HTTP/1.1\r\n%b: %b\r\nContent-Length: %b\r\n\r\n%b"
        % (PATH, verb, header, b" ".join(words), length, body)
    ),
    st.one_of(st.sampled_from([b"hello", b"digest", b"delta", b"register"]), st.binary(max_size=9)),
    st.sampled_from([KEY_HEADER, SESSION_HEADER]),
    WORDS,
    st.sampled_from([b"0", b"5", b"70000", b"99999999999", b"-1", b"x"]),
    st.binary(max_size=20),
)


@given(st.lists(st.one_of(REQUESTS, st.binary(max_size=60)), max_size=8))
def test_any_bytes_of_a_stranger_reach_no_handler_and_nothing_fails(parts: list[bytes]) -> None:
    listener = PeerListener()
    received = listener.send(*parts)
    assert b"HTTP/1.1 500" not in received
    assert b"HTTP/1.1 200" not in received
    assert listener.handler.received == []
