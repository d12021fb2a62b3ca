"""The way to a peer, from end to end: the real link, the real site, a network in memory."""

from __future__ import annotations

import base64
from random import Random
from typing import Any

import pytest
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.web.client import Agent
from twisted.web.http_headers import Headers

from rqdisco.peers.wire.http_link import PATH, HTTPLink, Keys
from rqdisco.peers.wire.keyring import KeyRing, parse_keys
from rqdisco.peers.wire.links import BadMessage, Misdirected, NotGreeted, Rejected, Unreachable
from rqdisco.peers.wire.resource import PeerResource
from tests.support.daemon import result


def ring(*numbers: int) -> KeyRing:
    return parse_keys(b"\n".join(base64.b64encode(bytes([number]) * 32) for number in numbers))


class Answering:
    """A handler that says what it is told to."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, bytes]] = []
        self.answer: Any = b"answer"
        self.waiting: list[Deferred[bytes]] = []
        self.sessions = 0
        self.cancelled = 0

    def greet(self, hello: bytes) -> tuple[str, bytes]:
        if isinstance(self.answer, Exception):
            raise self.answer
        self.sessions += 1
        return f"s{self.sessions}", b"greeted " + hello

    async def serve(self, session: str, verb: str, body: bytes) -> bytes:
        self.heard.append((session, verb, body))
        if self.answer is None:
            waiting: Deferred[bytes] = Deferred(lambda _: self._cancel())
            return await waiting
        if isinstance(self.answer, Exception):
            raise self.answer
        answer: bytes = self.answer
        return answer

    def _cancel(self) -> None:
        self.cancelled += 1


class Wire:
    """An agent that lets a test see, change and repeat what is sent."""

    def __init__(self, resource: PeerResource) -> None:
        self.agent = RequestTraversalAgent(resource)
        self.sent: list[tuple[bytes, bytes, Headers, Any]] = []
        self.change_headers: Any = lambda headers: headers

    def request(self, method: bytes, uri: bytes, headers: Headers, body: Any) -> Any:
        self.sent.append((method, uri, headers, body))
        return self.agent.request(method, uri, self.change_headers(headers), body)

    def repeat(self, index: int) -> Any:
        return self.agent.request(*self.sent[index])


class Pair:
    """A link, and the door that it leads to."""

    def __init__(self, one: KeyRing | None = None, other: KeyRing | None = None) -> None:
        self.clock = Clock()
        self.handler = Answering()
        self.theirs = Keys(other or ring(1))
        self.resource = PeerResource(self.handler, self.theirs, self.clock, Random(1).randbytes)
        self.wire = Wire(self.resource)
        self.ours = Keys(one or ring(1))
        self.link = HTTPLink("http://b:1", self.wire, self.clock, self.ours, Random(2).randbytes)  # type: ignore[arg-type]

    def flush(self, deferred: Deferred[bytes]) -> bytes:
        for _ in range(5):
            self.wire.agent.flush()
        answer: bytes = result(deferred)
        return answer

    def greet(self) -> bytes:
        return self.flush(self.link.greet(b"hello", 2))

    def ask(self, body: bytes = b"body") -> bytes:
        return self.flush(self.link.ask("verb", body, 2))


def test_a_message_in_a_session_gets_its_answer() -> None:
    pair = Pair()
    assert pair.greet() == b"greeted hello"
    assert pair.ask() == b"answer"
    assert pair.ask(b"x" * 100_000) == b"answer"
    assert [(session, verb) for session, verb, _ in pair.handler.heard] == [("s1", "verb")] * 2


def test_nothing_is_sent_without_a_session() -> None:
    pair = Pair()
    with pytest.raises(NotGreeted):
        pair.ask()
    assert pair.wire.sent == []


def test_a_peer_with_another_key_is_not_heard_and_logged_once_a_minute(logged_errors: list[Any]) -> None:
    pair = Pair(one=ring(2))
    for _ in range(5):
        with pytest.raises(Unreachable, match="does not accept our key"):
            pair.greet()
    assert len(logged_errors) == 1
    pair.clock.advance(61)
    with pytest.raises(Unreachable):
        pair.greet()
    assert len(logged_errors) == 2
    assert {event["peer"] for event in logged_errors} == {"127.0.0.1"}
    assert pair.handler.sessions == 0
    logged_errors.clear()


def test_keys_are_changed_one_by_one_without_a_message_lost() -> None:
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


def test_a_session_of_a_key_that_was_taken_away_is_no_session(logged_errors: list[Any]) -> None:
    pair = Pair()
    pair.greet()
    pair.theirs.ring = ring(2)
    pair.resource.keys_changed()
    with pytest.raises(NotGreeted):
        pair.ask()
    with pytest.raises(Unreachable):
        pair.greet()
    logged_errors.clear()


def test_a_message_that_is_repeated_by_others_is_not_heard_again() -> None:
    pair = Pair()
    pair.greet()
    pair.ask()
    repeating = pair.wire.repeat(1)
    pair.wire.agent.flush()
    assert result(repeating).code == 409
    assert len(pair.handler.heard) == 1


def test_a_hello_that_is_repeated_by_others_gives_them_nothing_they_could_use() -> None:
    pair = Pair()
    pair.greet()
    repeating = pair.wire.repeat(0)
    pair.wire.agent.flush()
    assert result(repeating).code == 200
    assert pair.ask() == b"answer"


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_message_that_was_changed_on_its_way_is_not_heard(index: int, logged_errors: list[Any]) -> None:
    pair = Pair()
    pair.greet()

    def change(headers: Headers) -> Headers:
        words = headers.getRawHeaders("rqdisco-session")[0].split()  # type: ignore[index]
        words[index] = {0: "s9", 1: "77", 2: "0" * 64}[index]
        return Headers({"rqdisco-session": [" ".join(words)]})

    pair.wire.change_headers = change
    with pytest.raises(NotGreeted):
        pair.ask()
    assert pair.handler.heard == []
    logged_errors.clear()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Misdirected("elsewhere"), Misdirected),
        (Rejected("forgotten"), Rejected),
        (BadMessage("what?"), BadMessage),
        (NotGreeted(), NotGreeted),
    ],
)
def test_what_the_peer_refuses_with_comes_back(error: Exception, kind: type[Exception]) -> None:
    pair = Pair()
    pair.greet()
    pair.handler.answer = error
    with pytest.raises(kind, match=str(error) or None):
        pair.ask()


def test_who_is_rejected_at_the_greeting_is_told_why() -> None:
    pair = Pair()
    pair.handler.answer = Rejected("forgotten")
    with pytest.raises(Rejected, match="forgotten"):
        pair.greet()


def test_a_fault_of_the_peer_is_logged_there_and_no_answer_here(logged_errors: list[Any]) -> None:
    pair = Pair()
    pair.greet()
    pair.handler.answer = ZeroDivisionError()
    with pytest.raises(Unreachable):
        pair.ask()
    assert logged_errors.pop()["log_failure"].check(ZeroDivisionError)


def test_an_answer_that_does_not_come_in_time_is_given_up_and_the_peer_notices() -> None:
    pair = Pair()
    pair.greet()
    pair.handler.answer = None
    asking = pair.link.ask("verb", b"", 2)
    pair.wire.agent.flush()
    pair.clock.advance(2.1)
    with pytest.raises(Unreachable, match="no answer in 2 s"):
        pair.flush(asking)
    pair.wire.agent.flush()
    assert pair.handler.cancelled == 1


class Unanswered:
    """A link over TCP in memory, to where a message is taken and nothing is answered."""

    def __init__(self) -> None:
        self.reactor = MemoryReactorClock()
        agent = Agent(self.reactor)
        self.link = HTTPLink("http://192.0.2.1:1", agent, self.reactor, Keys(ring(1)), Random(2).randbytes)
        self.greeting = self.link.greet(b"hello", 2)

    def connect(self) -> None:
        _, _, factory, *_ = self.reactor.tcpClients[0]
        self.transport = StringTransport()
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)


@pytest.mark.parametrize("stage", ["connecting", "asked", "answering"])
def test_a_message_that_its_sender_gives_up_is_no_failure_of_the_peer(stage: str) -> None:
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
def test_a_message_that_is_not_answered_in_time_is_one(stage: str) -> None:
    unanswered = Unanswered()
    if stage != "connecting":
        unanswered.connect()
    if stage == "answering":
        unanswered.protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    unanswered.reactor.advance(2)
    with pytest.raises(Unreachable, match="no answer in 2 s"):
        result(unanswered.greeting)


def test_nothing_but_peers_is_answered() -> None:
    pair = Pair()
    for method, path in ((b"GET", PATH + b"hello"), (b"POST", b"/"), (b"POST", b"/some-id"), (b"POST", PATH + b"A")):
        asking: Any = pair.wire.agent.request(method, b"http://b:1" + path, None, None)
        pair.wire.agent.flush()
        assert result(asking).code == 404


def test_a_body_that_never_ends_is_given_up() -> None:
    class Endless:
        def request(self, *_: Any) -> Any:
            return succeed(self)

        code = 200
        headers = Headers()

        def deliverBody(self, protocol: Any) -> None:
            protocol.dataReceived(b"x" * (17 << 20))

    link = HTTPLink("http://b:1", Endless(), Clock(), Keys(ring(1)), Random(2).randbytes)  # type: ignore[arg-type]
    with pytest.raises(Unreachable, match="too large"):
        result(link.greet(b"", 2))


class _Forged:
    """An answer that somebody on the way has changed."""

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
    """How somebody on the way changes an answer."""

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
    agent, request = pair.wire.agent, pair.wire.request

    def forging(*asked: Any) -> Any:
        return request(*asked).addCallback(lambda response: _Forged(response, change))

    pair.wire.request = forging  # type: ignore[method-assign]
    assert agent is pair.wire.agent


@pytest.mark.parametrize("change", FORGED)
def test_an_answer_that_was_changed_or_cut_short_on_its_way_is_none(change: Any) -> None:
    pair = Pair()
    pair.greet()
    _on_the_way(pair, change)
    with pytest.raises(Unreachable, match="its answer is not sealed"):
        pair.ask()


@pytest.mark.parametrize("change", FORGED[1:])
def test_a_greeting_that_was_changed_or_cut_short_on_its_way_begins_no_session(change: Any) -> None:
    pair = Pair()
    _on_the_way(pair, change)
    with pytest.raises(Unreachable, match="not sealed with our key"):
        pair.greet()
    with pytest.raises(NotGreeted):
        pair.ask()


def test_an_answer_to_another_question_is_none() -> None:
    pair = Pair()
    pair.greet()
    kept: list[Any] = []

    def keep(code: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        if headers.hasHeader("rqdisco-session"):
            kept.append(headers.copy())
        return code, kept[0], body

    _on_the_way(pair, keep)
    assert pair.ask() == b"answer"
    with pytest.raises(Unreachable, match="its answer is not sealed"):
        pair.ask()


def test_a_message_that_is_sent_back_to_its_sender_is_not_heard(logged_errors: list[Any]) -> None:
    """Both have the same key, so only the session tells whom a message is for."""
    pair = Pair()
    pair.greet()
    pair.ask()
    own = Answering()
    # Its own door has a session of that name, too.
    door = PeerResource(own, pair.ours, pair.clock, Random(3).randbytes)
    back = Wire(door)
    link = HTTPLink("http://a:1", back, pair.clock, pair.theirs, Random(4).randbytes)  # type: ignore[arg-type]
    greeting = link.greet(b"hello", 2)
    back.agent.flush()
    result(greeting)
    reflected = back.agent.request(*pair.wire.sent[1])
    back.agent.flush()
    assert result(reflected).code == 401
    assert own.heard == []
    logged_errors.clear()
