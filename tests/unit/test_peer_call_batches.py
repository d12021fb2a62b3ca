"""Registrations that travel together to the owner of their IDs: each is answered as if it had come
alone, and daemons that cannot take them together are sent one by one.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from rqdisco.backends.gossip.core.effects import Send
from rqdisco.backends.gossip.core.messages import CALL_BATCHES, Call, Hello, Outcome, decode_message, encode_message
from rqdisco.backends.gossip.core.peer_errors import BadMessage, Misdirected, NotGreeted, PeerUnreachable
from rqdisco.backends.gossip.transport.call_batches import CALLS, CallSender
from rqdisco.backends.limits import Limits
from rqdisco.core.errors import TooManyNodes
from rqdisco.core.records import Node, RegistrationOutcome
from tests.support.daemon import result
from tests.support.gossip import DirectNetwork, GossipDaemon, create_id, go, settle, trio

HOST = "198.51.100.7"


class HeldLink:
    """A link whose answers the test gives."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any, float]] = []
        self.answers: list[Deferred[bytes]] = []

    def greet(self, hello: bytes, seconds: float) -> Deferred[bytes]:
        raise AssertionError("nothing is greeted here")

    def request(self, verb: str, body: bytes, seconds: float) -> Deferred[bytes]:
        self.sent.append((verb, msgspec.json.decode(body), seconds))
        self.answers.append(Deferred())
        return self.answers[-1]


class Sending:
    """A sender of requests, two of which are in flight."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.link = HeldLink()
        self.sender = CallSender(self.link, self.clock)
        self.in_flight = [self.send("first"), self.send("second")]

    def send(self, name: str, seconds: float = 4.5) -> Deferred[Outcome]:
        call = Call(owner="o", op="register", request=name, ms=4000, id="x")
        return self.sender.send(Send(1, "http://b", "call", call, seconds, 1, True))

    def answer(self, content: Any) -> None:
        """Answer the message sent last."""
        self.link.answers[-1].callback(msgspec.json.encode(content))

    def answer_first(self) -> None:
        self.link.answers[0].callback(b'{"yes":true}')


@pytest.fixture
def sending() -> Sending:
    return Sending()


def test_requests_wait_while_two_are_in_flight_and_then_go_in_one_message(sending: Sending) -> None:
    waiting = [sending.send("third"), sending.send("fourth")]
    assert [verb for verb, _, _ in sending.link.sent] == ["call", "call"]
    sending.answer_first()
    assert result(sending.in_flight[0]) == Outcome(yes=True)
    verb, body, _ = sending.link.sent[-1]
    assert (verb, [each["request"] for each in body["calls"]]) == (CALLS, ["third", "fourth"])
    sending.answer({"answers": [{"outcome": {"reason": "3"}}, {"outcome": {"reason": "4"}}]})
    assert [result(each).reason for each in waiting] == ["3", "4"]


def test_an_error_concerns_only_the_request_that_it_answers(sending: Sending) -> None:
    waiting = [sending.send(str(number)) for number in range(4)]
    sending.answer_first()
    sending.answer(
        {
            "answers": [
                {"error": "Misdirected", "text": "no"},
                {"outcome": {}},
                {"error": "SomethingNew", "text": "odd"},
                {"outcome": {"yes": "no boolean"}},
            ]
        }
    )
    with pytest.raises(Misdirected, match="no"):
        result(waiting[0])
    assert result(waiting[1]) == Outcome()
    with pytest.raises(PeerUnreachable, match="odd"):
        result(waiting[2])
    with pytest.raises(msgspec.ValidationError):
        result(waiting[3])


def test_a_message_that_fails_fails_all_of_its_requests_and_the_next_go_on(sending: Sending) -> None:
    waiting = [sending.send("third"), sending.send("fourth")]
    sending.answer_first()
    last = sending.send("fifth")
    sending.link.answers[-1].errback(NotGreeted())
    for each in waiting:
        with pytest.raises(NotGreeted):
            result(each)
    sending.answer({"yes": True})
    assert result(last) == Outcome(yes=True)


def test_an_answer_to_other_requests_is_refused(sending: Sending) -> None:
    waiting = [sending.send("third"), sending.send("fourth")]
    sending.answer_first()
    sending.answer({"answers": [{"outcome": {}}]})
    for each in waiting:
        with pytest.raises(BadMessage):
            result(each)


def test_a_request_that_is_given_up_is_not_sent_and_its_answer_is_ignored(sending: Sending) -> None:
    gone, sent, other = (sending.send(name) for name in ("gone", "sent", "other"))
    gone.cancel()
    sending.answer_first()
    assert [each["request"] for each in sending.link.sent[-1][1]["calls"]] == ["sent", "other"]
    sent.cancel()
    sending.answer({"answers": [{"outcome": {}}, {"outcome": {"yes": True}}]})
    assert result(other) == Outcome(yes=True)
    for each in (gone, sent):
        with pytest.raises(CancelledError):
            result(each)


def test_a_message_waits_no_longer_than_the_first_of_its_requests_may(sending: Sending) -> None:
    sending.send("third", seconds=3.0)
    sending.clock.advance(1.0)
    sending.send("fourth")
    sending.answer_first()
    assert sending.link.sent[-1][2] == 2.0


def joined(daemon: GossipDaemon, discovery_id: str, number: int) -> Deferred[RegistrationOutcome]:
    node = Node(addr=f"10.0.0.{number}:4001")
    return Deferred.fromCoroutine(daemon.directory.register(discovery_id, node, HOST))


def verbs(network: DirectNetwork, sender: str) -> list[str]:
    """Return the verbs with which a daemon forwarded requests."""
    return [verb for of, _, verb, _ in network.messages if of == sender and verb in ("call", CALLS)]


class Forwarding:
    """Three daemons, and an ID of the first that lists a node; `b` has two requests in flight."""

    def __init__(self, limits: Limits | None = None) -> None:
        clock = Clock()
        self.network, (self.a, self.b, _) = trio(clock, limits=limits)
        self.id = create_id(self.a)
        go(self.a.directory.register(self.id, Node(addr="10.0.0.1:4001"), HOST))
        settle(clock, 2)

    def register(self, *numbers: int) -> list[Deferred[RegistrationOutcome]]:
        """Register two nodes at `b`, and these while their answers are on the way."""
        self.network.messages.clear()
        self.network.held_answers["b", "call"] = held = Deferred[None]()
        first = [joined(self.b, self.id, number) for number in (2, 3)]
        more = [joined(self.b, self.id, number) for number in numbers]
        del self.network.held_answers["b", "call"]
        held.callback(None)
        return [*first, *more]


@pytest.fixture
def forwarding() -> Forwarding:
    return Forwarding()


def test_registrations_that_join_travel_together_and_all_are_listed(forwarding: Forwarding) -> None:
    outcomes = [result(each) for each in forwarding.register(4, 5, 6)]
    assert verbs(forwarding.network, "b") == ["call", "call", CALLS]
    assert [len(each.listed) for each in outcomes] == [2, 3, 4, 5, 6]
    assert not any(each.bootstrap for each in outcomes)


def test_a_registration_that_may_be_told_to_bootstrap_travels_alone(forwarding: Forwarding) -> None:
    forwarding.network.held_answers["b", "call"] = held = Deferred[None]()
    waiting = [joined(forwarding.b, create_known(forwarding), number) for number in (2, 3, 4)]
    assert verbs(forwarding.network, "b") == ["call"] * 3
    held.callback(None)
    assert [result(each).bootstrap for each in waiting] == ["granted"] * 3


def test_registrations_under_an_id_with_many_nodes_travel_alone() -> None:
    forwarding = Forwarding()
    for number in range(2, 30):
        result(joined(forwarding.a, forwarding.id, number))
    settle(forwarding.network.clock, 2)
    forwarding.register(30, 31)
    assert verbs(forwarding.network, "b") == ["call"] * 4


def create_known(forwarding: Forwarding) -> str:
    """Return a new ID that `b` knows."""
    discovery_id = create_id(forwarding.a)
    settle(forwarding.a.clock, 2)
    return discovery_id


def test_a_daemon_of_an_earlier_release_is_sent_one_by_one(
    forwarding: Forwarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    hello_of = forwarding.network.hello_of

    def before_batches(sender: str, hello: bytes) -> bytes:
        message = decode_message(hello_of(sender, hello), Hello)
        features = tuple(each for each in message.features if each != CALL_BATCHES)
        return encode_message(replace(message, features=features))

    monkeypatch.setattr(forwarding.network, "hello_of", before_batches)
    forwarding.a.restart()
    settle(forwarding.a.clock, 5)
    outcomes = [result(each) for each in forwarding.register(4, 5)]
    assert verbs(forwarding.network, "b") == ["call"] * 4
    assert len(outcomes[-1].listed) == 5


def test_the_refusal_of_one_registration_leaves_the_others_of_its_message_alone() -> None:
    forwarding = Forwarding(Limits(max_nodes=4))
    outcomes = forwarding.register(4, 5, 4)
    assert verbs(forwarding.network, "b")[-1] == CALLS
    assert len(result(outcomes[2]).listed) == 4
    with pytest.raises(TooManyNodes):
        result(outcomes[3])
    assert len(result(outcomes[4]).listed) == 4


@pytest.mark.parametrize("body", [b'{"calls":1}', b"{}", b"no JSON"])
def test_a_message_that_cannot_be_read_is_refused(forwarding: Forwarding, body: bytes) -> None:
    with pytest.raises(BadMessage):
        result(forwarding.a.backend.driver.serve(session_of(forwarding), CALLS, body))


def test_what_is_no_request_is_refused_alone(forwarding: Forwarding) -> None:
    answer = result(forwarding.a.backend.driver.serve(session_of(forwarding), CALLS, b'{"calls":[{},1]}'))
    assert [each["error"] for each in msgspec.json.decode(answer)["answers"]] == ["BadMessage"] * 2


def test_a_sender_that_hangs_up_hangs_up_for_all_of_its_requests(forwarding: Forwarding) -> None:
    forwarding.a.threads.hold = True
    call = {"home": forwarding.a.owner, "op": "register", "request": "x", "ms": 4000, "id": forwarding.id}
    calls = [{**call, "node": {"addr": f"10.0.0.{number}:4001"}} for number in (2, 3)]
    serving = forwarding.a.backend.driver.serve(session_of(forwarding), CALLS, msgspec.json.encode({"calls": calls}))
    assert len(forwarding.a.state.requests) == 2
    serving.cancel()
    assert forwarding.a.state.requests == {}


def session_of(forwarding: Forwarding) -> str:
    """Return the session of `b` with `a`."""
    return forwarding.network.sessions["b", "a"]
