"""The wire between peers: what the first release sent is understood and answered as it did, and it
understands what is sent today, so that a set of daemons can be upgraded one at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from msgspec.structs import fields
from twisted.internet.defer import Deferred

from rqdisco.backends.gossip.core import calls, peer_errors, succession
from rqdisco.backends.gossip.core.peer_errors import NotGreeted, PeerError
from rqdisco.backends.limits import Limits
from tests.support.daemon import result
from tests.support.frozen_messages import FROZEN
from tests.support.golden_peers import (
    GOLDEN,
    KINDS,
    NAMES,
    PARTS,
    Conversation,
    Exchange,
    RecordingNetwork,
    StandIn,
    decoded,
    encoded,
    greet,
    read_conversations,
    serve,
    started,
    stop,
)
from tests.support.gossip import GossipDaemon
from tests.support.peer_conversations import CONVERSATIONS, MAX_NODES, converse, newcomer

RECORDED = read_conversations()
MESSAGES: list[tuple[str, int, str]] = json.loads((GOLDEN / "messages.json").read_bytes())
# What these contain is only the receiver's reply to the sender's own numbers.
EXACT = {"push", "hints", "agree", "succeed"}
# The conversation whose requests no daemon sends.
WRONG = "probes"


def every_message() -> list[tuple[str, int, str]]:
    """Return the verb, whether it is a request (0) or an answer, and the text of each message."""
    found = list(MESSAGES)
    for name, conversation in RECORDED.items():
        for exchange in conversation.exchanges:
            if name != WRONG:
                found.append((exchange.verb, 0, exchange.request))
            if exchange.answer:
                found.append((exchange.verb, 1, exchange.answer))
    return found


def test_every_message_of_the_first_release_is_decoded_and_encoded_alike() -> None:
    seen = set()
    for verb, index, text in every_message():
        assert encoded(decoded(verb, index, text)) == text
        seen.add((verb, index))
    assert seen == {(verb, index) for verb in KINDS for index in (0, 1)}


def test_the_frozen_copy_of_the_messages_is_what_the_first_release_sent() -> None:
    for verb, index, text in every_message():
        message = msgspec.json.decode(text, type=FROZEN[verb][index])
        assert msgspec.json.encode(message).decode() == text


def test_a_field_that_is_left_out_means_what_it_did() -> None:
    pairs = [*PARTS, *((KINDS[verb][index], FROZEN[verb][index]) for verb in KINDS for index in (0, 1))]
    for kind, frozen in pairs:
        now, then = ({each.encode_name: each.default for each in fields(each)} for each in (kind, frozen))
        assert then == {name: now[name] for name in then}, kind


@pytest.mark.parametrize("verb", KINDS)
@pytest.mark.parametrize("index", [0, 1])
def test_unknown_fields_of_a_newer_peer_are_ignored(verb: str, index: int) -> None:
    text = next(text for each, which, text in every_message() if (each, which) == (verb, index))
    known = json.loads(text)
    extended = json.dumps(_extended(known))
    assert extended.count("from_the_future") >= 1
    assert json.loads(encoded(decoded(verb, index, extended))) == known


def _extended(document: Any) -> Any:
    """Add a field to each object whose fields have fixed names."""
    if isinstance(document, list):
        return [_extended(each) for each in document]
    if not isinstance(document, dict):
        return document
    names = ("held", "beyond", "expired", "record", "records", "value")
    inner = {name: each if name in names else _extended(each) for name, each in document.items()}
    return {"from_the_future": {"x": [1]}, **inner}


class Replay:
    """Daemons of today, in the situation in which a conversation was recorded, and the recorded
    daemon that speaks to them.
    """

    def __init__(self, name: str) -> None:
        self.conversation: Conversation = RECORDED[name]
        self.sender = self.conversation.sender
        others = "".join(each for each in NAMES if each not in (self.sender, *self.conversation.absent))
        limits = Limits(max_nodes=MAX_NODES.get(name, 1000))
        self.network, self.daemons = started(self.conversation.situation, others, limits)
        # The clocks of these hosts are ahead: no version is older than one that was recorded.
        self.network.set_by = 10.0
        self.clock = self.network.clock
        self.stand_in = StandIn(self.sender, self.clock, self.conversation.exchanges)
        self.network.stand_ins[self.sender] = self.stand_in
        self.sessions: dict[str, str] = {}
        self.hellos: dict[str, str] = {}

    def run(self) -> list[tuple[Exchange, str, str]]:
        """Send all that the sender sent at its time; return each exchange, and what is answered now
        or the kind of refusal.
        """
        answers = []
        for exchange in self.conversation.exchanges:
            if exchange.sender != self.sender:
                continue
            self.clock.pump([0.1] * int((exchange.at - self.clock.seconds()) * 10))
            self.clock.advance(max(0.0, exchange.at - self.clock.seconds()))
            answers.append((exchange, *self.send(exchange)))
        return answers

    def send(self, exchange: Exchange) -> tuple[str, str]:
        try:
            return self._send(exchange), ""
        except PeerError as error:
            return "", type(error).__name__

    def _send(self, exchange: Exchange) -> str:
        daemon = self.daemons[exchange.receiver]
        if exchange.verb == "hello":
            return self._greet(daemon, exchange.request)
        try:
            return self._serve(daemon, exchange)
        except NotGreeted:
            # As every release does.
            self._greet(daemon, self.hellos[daemon.name])
            return self._serve(daemon, exchange)

    def _greet(self, daemon: GossipDaemon, hello: str) -> str:
        session, answer = answered(self.network, greet(daemon, hello.encode()))
        self.sessions[daemon.name], self.hellos[daemon.name] = session, hello
        return str(answer.decode())

    def _serve(self, daemon: GossipDaemon, exchange: Exchange) -> str:
        if daemon.name not in self.sessions:
            raise NotGreeted
        serving = serve(daemon, self.sessions[daemon.name], exchange.verb, exchange.request.encode())
        return str(answered(self.network, serving).decode())


def answered(network: RecordingNetwork, serving: Deferred[Any]) -> Any:
    """Return an answer that may take a moment."""
    for _ in range(20):
        if serving.called:
            break
        network.clock.advance(0.01)
    return result(serving)


@pytest.mark.parametrize("name", RECORDED)
def test_a_daemon_answers_the_first_release_as_that_did_and_it_understands_the_answers(name: str) -> None:
    replay = Replay(name)
    answers = replay.run()
    stop(replay.network)
    compared = 0
    last = {(exchange.receiver, exchange.verb): exchange for exchange, _, _ in answers}
    for exchange, answer, refusal in answers:
        if answer:
            msgspec.json.decode(answer, type=FROZEN[exchange.verb][1])
        is_last = last[exchange.receiver, exchange.verb] is exchange
        if exchange.refusal and exchange.verb in ("hints", "digest") and not is_last:
            # It had not met the others then, or had just learned of a change: the second may differ.
            continue
        assert refusal == exchange.refusal, (exchange, answer)
        if answer:
            assert essence(exchange, answer) == essence(exchange, exchange.answer), exchange
        compared += 1
    assert compared
    now = pulled(answer for exchange, answer, _ in answers if exchange.verb == "pull")
    then = pulled(exchange.answer for exchange, _, _ in answers if exchange.verb == "pull")
    # Hints change the records meanwhile.
    assert now.keys() == then.keys() if name == "hints" else now == then
    understood(replay.network.exchanges)


@pytest.mark.parametrize("name", [*CONVERSATIONS, "newcomer"])
def test_the_first_release_understands_whatever_a_daemon_sends(name: str) -> None:
    network = newcomer() if name == "newcomer" else converse(name)
    if name == WRONG:
        return
    understood(network.exchanges)
    sent = {each.verb for each in network.exchanges if each.answer}
    assert {each.verb for each in RECORDED[name].exchanges if each.answer} - sent <= {"push", "pull", "hints"}


def understood(exchanges: list[Exchange]) -> None:
    """Assert that the first release understands all messages."""
    for exchange in exchanges:
        msgspec.json.decode(exchange.request, type=FROZEN[exchange.verb][0])
        if exchange.answer:
            msgspec.json.decode(exchange.answer, type=FROZEN[exchange.verb][1])


def essence(exchange: Exchange, answer: str) -> Any:
    """Return of an answer what the sender decides by."""
    document = json.loads(answer)
    if exchange.verb in EXACT:
        return document
    if exchange.verb == "hello":
        members = [(each["incarnation"], each["name"], each.get("state", "member")) for each in document["members"]]
        return document["name"], document["incarnation"], document["url"], document.get("protocol"), members
    if exchange.verb == "digest":
        listed = [(each["incarnation"], each.get("state", "member")) for each in document.get("members", ())]
        return sorted(document["held"]), document["agreed"], listed, document["at"]["boot"], document.get("fenced")
    if exchange.verb == "pull":
        # See `pulled`: how many records an answer holds is the receiver's decision.
        return document["delta"]["home"]
    return _without_versions(document)


def pulled(answers: Iterable[str]) -> dict[str, Any]:
    """Return the records in the answers to pulls, by ID."""
    records = [record for answer in answers if answer for record in json.loads(answer)["delta"]["records"]]
    return {record["id"]: _without_versions(record) for record in records}


def _without_versions(document: Any) -> Any:
    """Leave out what depends on the clock, and the words of reasons."""
    if isinstance(document, list):
        return [_without_versions(each) for each in document]
    if isinstance(document, dict):
        return {
            name: bool(value) if name == "reason" else _without_versions(value)
            for name, value in document.items()
            if name not in ("version", "created", "modified", "since", "created_at")
        }
    return document


def test_the_texts_that_peers_of_other_releases_compare_stay_as_they_are() -> None:
    assert calls.TOO_LATE == "came too late"
    assert succession.HANDS_OVER == "this daemon hands its own IDs over"
    assert peer_errors.gone_reason("drained", "ab12") == "drained: the IDs of ab12 have another owner"
    assert peer_errors.duplicate_reason("ab12") == "two daemons run as incarnation ab12"
