"""The link to a peer, end to end: the real link, the real site, a network in memory."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.web.client import BrowserLikePolicyForHTTPS

from rqdisco.backends.gossip.core.peer_errors import BadMessage, Misdirected, NotGreeted, PeerUnreachable, Rejected
from rqdisco.backends.gossip.transport.connections import link_factory
from rqdisco.backends.gossip.transport.http_link import PATH, Keys
from tests.support.daemon import result
from tests.support.peer_links import Pair, ring


def test_a_message_in_a_session_gets_its_answer() -> None:
    pair = Pair()
    assert pair.greet() == b"greeted hello"
    assert pair.ask() == b"answer"
    assert pair.ask(b"x" * 100_000) == b"answer"
    assert [(session, verb) for session, verb, _ in pair.handler.received] == [("s1", "verb")] * 2


def test_nothing_is_sent_without_a_session() -> None:
    pair = Pair()
    with pytest.raises(NotGreeted):
        pair.ask()
    assert pair.wire.sent == []


def test_a_peer_with_another_key_is_rejected_and_logged_once_a_minute(logged_errors: list[Any]) -> None:
    pair = Pair(one=ring(2))
    for _ in range(5):
        with pytest.raises(PeerUnreachable, match="does not accept our key"):
            pair.greet()
    assert len(logged_errors) == 1
    pair.clock.advance(61)
    with pytest.raises(PeerUnreachable):
        pair.greet()
    assert len(logged_errors) == 2
    assert {event["peer"] for event in logged_errors} == {"127.0.0.1"}
    assert pair.handler.sessions == 0
    logged_errors.clear()


def test_keys_are_rotated_without_losing_a_message() -> None:
    pair = Pair()
    pair.greet()
    pair.theirs.ring = ring(1, 2)
    pair.resource.keys_changed()
    assert pair.ask() == b"answer"
    pair.ours.ring = ring(2, 1)
    assert pair.ask() == b"answer"
    pair.greet()
    pair.theirs.ring = ring(2)
    pair.resource.keys_changed()
    assert pair.ask() == b"answer"


def test_a_session_of_a_removed_key_is_invalid(logged_errors: list[Any]) -> None:
    pair = Pair()
    pair.greet()
    pair.theirs.ring = ring(2)
    pair.resource.keys_changed()
    with pytest.raises(NotGreeted):
        pair.ask()
    with pytest.raises(PeerUnreachable):
        pair.greet()
    logged_errors.clear()


def test_a_key_that_is_removed_while_its_holder_is_greeted_begins_no_session() -> None:
    pair = Pair()
    pair.handler.greeted = greeted = Deferred[None]()
    greeting = pair.link.greet(b"hello", 2)
    pair.theirs.ring = ring(2)
    pair.resource.keys_changed()
    greeted.callback(None)
    with pytest.raises(PeerUnreachable, match="does not accept our key"):
        pair.flush(greeting)
    with pytest.raises(NotGreeted):
        pair.ask()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Misdirected("elsewhere"), Misdirected),
        (Rejected("forgotten"), Rejected),
        (BadMessage("what?"), BadMessage),
        (NotGreeted(), NotGreeted),
    ],
)
def test_the_peers_refusal_is_returned(error: Exception, kind: type[Exception]) -> None:
    pair = Pair()
    pair.greet()
    pair.handler.answer = error
    with pytest.raises(kind, match=str(error) or None):
        pair.ask()


def test_a_peer_rejected_at_the_greeting_gets_the_reason() -> None:
    pair = Pair()
    pair.handler.answer = Rejected("forgotten")
    with pytest.raises(Rejected, match="forgotten"):
        pair.greet()


def test_a_fault_of_the_peer_is_logged_there_and_is_no_answer_here(logged_errors: list[Any]) -> None:
    pair = Pair()
    pair.greet()
    pair.handler.answer = ZeroDivisionError()
    with pytest.raises(PeerUnreachable):
        pair.ask()
    assert logged_errors.pop()["log_failure"].check(ZeroDivisionError)


def test_an_answer_that_is_too_late_is_given_up_and_the_peer_notices() -> None:
    pair = Pair()
    pair.greet()
    pair.handler.answer = None
    asking = pair.link.request("verb", b"", 2)
    pair.wire.agent.flush()
    pair.clock.advance(2)
    with pytest.raises(PeerUnreachable, match="no answer within 2 s"):
        pair.flush(asking)
    pair.wire.agent.flush()
    assert pair.handler.cancelled == 1


class Unanswered:
    """A link over TCP in memory to a peer that accepts messages and never answers."""

    def __init__(self) -> None:
        self.protocol: Any = None
        self.reactor = MemoryReactorClock()
        link = link_factory(self.reactor, Keys(ring(1)), Random(2).randbytes, BrowserLikePolicyForHTTPS())
        self.greeting = link("http://192.0.2.1:1").greet(b"hello", 2)

    def connect(self) -> None:
        _, _, factory, *_ = self.reactor.tcpClients[0]
        self.transport = StringTransport()
        self.protocol = factory.buildProtocol(self.transport.getPeer())
        self.protocol.makeConnection(self.transport)


@pytest.mark.parametrize("stage", ["connecting", "asked", "answering"])
def test_a_message_that_its_sender_cancels_is_no_failure_of_the_peer(stage: str) -> None:
    unanswered = Unanswered()
    if stage != "connecting":
        unanswered.connect()
        assert b"hello" in unanswered.transport.value()
    if stage == "answering":
        unanswered.protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    unanswered.greeting.cancel()
    with pytest.raises(CancelledError):
        result(unanswered.greeting)


@pytest.mark.parametrize("stage", ["connecting", "asked", "answering"])
def test_a_message_without_an_answer_in_time_is_a_failure_of_the_peer(stage: str) -> None:
    unanswered = Unanswered()
    if stage != "connecting":
        unanswered.connect()
    if stage == "answering":
        unanswered.protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    unanswered.reactor.advance(2)
    missing = "connection" if stage == "connecting" else "answer"
    with pytest.raises(PeerUnreachable, match=f"no {missing} within 2 s"):
        result(unanswered.greeting)


def test_only_peer_messages_are_answered() -> None:
    pair = Pair()
    for method, path in ((b"GET", PATH + b"hello"), (b"POST", b"/"), (b"POST", b"/some-id"), (b"POST", PATH + b"A")):
        asking: Any = pair.wire.agent.request(method, b"http://b:1" + path, None, None)
        pair.wire.agent.flush()
        assert result(asking).code == 404
