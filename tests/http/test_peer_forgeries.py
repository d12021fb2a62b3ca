"""Messages that somebody between peers changes, repeats, cuts short or sends back are rejected."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from twisted.internet.protocol import Protocol
from twisted.web.http_headers import Headers

from rqdisco.backends.gossip.core.peer_errors import NotGreeted, PeerUnreachable
from rqdisco.backends.gossip.transport.http_link import HTTPLink
from rqdisco.backends.gossip.transport.resource import PeerResource
from tests.support.daemon import result
from tests.support.peer_links import Answering, Pair, Wire


def test_a_replayed_message_is_rejected() -> None:
    pair = Pair()
    pair.greet()
    pair.ask()
    repeating = pair.wire.repeat(1)
    pair.wire.agent.flush()
    assert result(repeating).code == 409
    assert len(pair.handler.received) == 1


def test_a_replayed_hello_gains_nothing() -> None:
    pair = Pair()
    pair.greet()
    repeating = pair.wire.repeat(0)
    pair.wire.agent.flush()
    assert result(repeating).code == 200
    assert pair.ask() == b"answer"


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_message_changed_in_transit_is_rejected(index: int, logged_errors: list[Any]) -> None:
    pair = Pair()
    pair.greet()

    def change(headers: Headers) -> Headers:
        words = headers.getRawHeaders("rqdisco-session", [""])[0].split()
        words[index] = {0: "s9", 1: "77", 2: "0" * 64}[index]
        return Headers({"rqdisco-session": [" ".join(words)]})

    pair.wire.change_headers = change
    with pytest.raises(NotGreeted):
        pair.ask()
    assert pair.handler.received == []
    logged_errors.clear()


class _Forged:
    """An answer changed in transit."""

    def __init__(self, response: Any, change: Any) -> None:
        self._response = response
        self._change = change
        self.code, self.headers, _ = change(response.code, response.headers, b"")

    def deliverBody(self, protocol: Any) -> None:
        self._response.deliverBody(_Changing(protocol, lambda body: self._change(0, Headers(), body)[2]))


class _Changing(Protocol):
    def __init__(self, to: Any, change: Any) -> None:
        self._to, self._change = to, change
        self._body = b""

    def dataReceived(self, data: bytes) -> None:
        self._body += data

    def connectionLost(self, reason: Any = None) -> None:
        self._to.dataReceived(self._change(self._body))
        self._to.connectionLost(reason)


def _with(status: int | None = None, seal: str | None = None, change: Any = lambda body: body) -> Any:
    """Return a function that changes an answer in transit."""

    def changed(code: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        if seal is not None:
            headers = Headers({name: [seal.encode()] for name, _ in headers.getAllRawHeaders()})
        return status or code, headers, change(body)

    return changed


FORGED = [
    _with(status=403),
    _with(change=lambda body: body[:-1]),
    _with(change=lambda body: body + b" "),
    _with(change=lambda body: b""),
    _with(change=lambda body: body[::-1]),
    _with(seal="x" * 22),
    _with(seal=""),
]


def _on_the_way(pair: Pair, change: Any) -> None:
    wire: Any = pair.wire
    request = wire.request

    def forging(*asked: Any) -> Any:
        return request(*asked).addCallback(lambda response: _Forged(response, change))

    wire.request = forging


@pytest.mark.parametrize("change", FORGED)
def test_an_answer_changed_or_cut_short_in_transit_is_rejected(change: Any) -> None:
    pair = Pair()
    pair.greet()
    _on_the_way(pair, change)
    with pytest.raises(PeerUnreachable, match="the answer is not sealed"):
        pair.ask()


@pytest.mark.parametrize("change", FORGED[1:])
def test_a_greeting_changed_or_cut_short_in_transit_begins_no_session(change: Any) -> None:
    pair = Pair()
    _on_the_way(pair, change)
    with pytest.raises(PeerUnreachable, match="not sealed with our key"):
        pair.greet()
    with pytest.raises(NotGreeted):
        pair.ask()


def test_an_answer_to_another_request_is_rejected() -> None:
    pair = Pair()
    pair.greet()
    kept: list[Any] = []

    def keep(code: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        if headers.hasHeader("rqdisco-session"):
            kept.append(headers.copy())
        return code, kept[0], body

    _on_the_way(pair, keep)
    assert pair.ask() == b"answer"
    with pytest.raises(PeerUnreachable, match="the answer is not sealed"):
        pair.ask()


def test_a_message_reflected_to_its_sender_is_rejected(logged_errors: list[Any]) -> None:
    """Both have the same key, so only the session identifies the receiver of a message."""
    pair = Pair()
    pair.greet()
    pair.ask()
    own = Answering()
    # Its own listener has a session of that name, too.
    api = PeerResource(own, pair.ours, pair.clock, Random(3).randbytes)
    back: Any = Wire(api)
    link = HTTPLink("http://a:1", back, pair.clock, pair.theirs, Random(4).randbytes)
    greeting = link.greet(b"hello", 2)
    back.agent.flush()
    result(greeting)
    reflected = back.agent.request(*pair.wire.sent[1])
    back.agent.flush()
    assert result(reflected).code == 401
    assert own.received == []
    logged_errors.clear()
