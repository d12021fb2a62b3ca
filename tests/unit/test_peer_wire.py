"""The wire between peers: what the first release sent is understood and answered as it did, and it
understands what is sent today, so that a set of daemons can be upgraded one at a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from msgspec.structs import fields
from twisted.internet.defer import Deferred
from twisted.web.http_headers import Headers

from rqdisco.backends.gossip.core.peer_errors import NotGreeted, PeerError
from rqdisco.backends.limits import Limits
from rqdisco.core.codec import decode_put
from rqdisco.core.host_binding import THIS_MACHINE
from rqdisco.core.records import Node
from rqdisco.request_body import RequestBody
from tests.support.daemon import result
from tests.support.frozen_messages import FROZEN
from tests.support.golden_peer_http import DIGEST, STEPS, HTTPExchange, Listener, TappedAgent, parse, talk
from tests.support.golden_peers import (
    GOLDEN,
    KINDS,
    NAMES,
    PARTS,
    Conversation,
    Exchange,
    RecordingNetwork,
    StandIn,
    cluster,
    contents,
    decoded,
    encoded,
    greet,
    read_conversations,
    read_situation,
    serve,
    started,
    stop,
)
from tests.support.gossip import GossipDaemon, go, settle
from tests.support.peer_conversations import CONVERSATIONS, MAX_NODES, converse, newcomer
from tests.support.recorded_trio import LEADER, MEETING, outcome

RECORDED = read_conversations()
MESSAGES: list[tuple[str, int, str]] = json.loads((GOLDEN / "messages.json").read_bytes())
HTTP = msgspec.json.decode((GOLDEN / "http.json").read_bytes(), type=list[HTTPExchange])
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


class Beside:
    """A daemon of today beside a recorded one, which owns IDs, and a third that is today's, too."""

    def __init__(self) -> None:
        self.network, self.daemons = started("established", "bc")
        self.stand_in = StandIn("a", self.network.clock, RECORDED["calls"].exchanges)
        self.network.stand_ins["a"] = self.stand_in
        settle(self.network.clock, MEETING)
        self.b = self.daemons["b"]
        found = contents(self.b)
        owner = next(each["incarnation"] for each in cluster(self.b)["peers"] if each["name"] == "a")
        # An ID of the recorded daemon with some nodes, and one of today's whose list was emptied.
        self.full = next(
            each for each, line in found.items() if line["home"] == owner and len(line.get("nodes", ())) > 2
        )
        self.emptied = next(
            each
            for each, line in found.items()
            if line["home"] == self.b.owner and line.get("ever") and not line.get("nodes")
        )

    def register(self, discovery_id: str, addr: str) -> Any:
        """Register a node at today's daemon; return the addresses, or the kind of refusal."""
        found = outcome(self.network.clock, self.b.directory.register(discovery_id, Node(addr=addr), "192.0.2.1"))
        return found if isinstance(found, str) else ([node.addr for node in found.listed], found.bootstrap)


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        ("NoSuchID", "NoSuchID"),
        ("TooManyNodes", "TooManyNodes"),
        ("Orphaned", "Ownerless"),
        ("AnotherMachine", "LoopbackConflict"),
        ("Frozen", "Frozen"),
        ("Undecided", "Undecided"),
        ("StoreUnavailable", "StoreUnavailable"),
        ("of a later release", "StoreUnavailable"),
    ],
)
def test_a_client_is_told_why_an_owner_of_the_first_release_refuses_a_node(refusal: str, kind: str) -> None:
    beside = Beside()
    beside.stand_in.outcomes.append(json.dumps({"refusal": refusal, "reason": "why"}))
    assert beside.register(beside.full, "n9:1") == kind
    stop(beside.network)


@pytest.mark.parametrize("refusal", ["UnknownCreatedID", "TooManyIDs", "Frozen", "Undecided"])
def test_a_client_is_told_why_an_owner_of_the_first_release_refuses_a_claim(refusal: str) -> None:
    beside = Beside()
    beside.stand_in.outcomes.append(json.dumps({"refusal": refusal, "reason": "why"}))
    claim = beside.b.directory.claim(beside.full, decode_put(LEADER), "192.0.2.1")
    assert outcome(beside.network.clock, claim) == refusal
    stop(beside.network)


def test_a_client_is_answered_what_an_owner_of_the_first_release_decides() -> None:
    beside = Beside()
    calls = [each for each in RECORDED["calls"].exchanges if each.verb == "call" and '"alone"' in each.answer]
    for exchange, bootstrap in zip(calls, ("granted", "again"), strict=False):
        beside.stand_in.outcomes.append(exchange.answer)
        assert beside.register(beside.full, "n1:4001") == (["n1:4001"], bootstrap)
    stop(beside.network)


def test_an_owner_of_the_first_release_is_told_which_machine_a_client_is_on() -> None:
    beside = Beside()
    asking = beside.b.directory.register(beside.full, Node(addr="n9:1"), THIS_MACHINE)
    assert outcome(beside.network.clock, asking) == "Undecided"
    (call,) = [each for verb, each in beside.stand_in.received if verb == "call"]
    assert call.host == f"@{beside.b.owner}"
    stop(beside.network)


def test_a_daemon_lists_on_behalf_of_an_owner_of_the_first_release_that_is_not_ready() -> None:
    beside = Beside()
    beside.stand_in.outcomes.append('{"listed":[{"addr":"h1:1"}],"refusal":"NotReady","reason":"why"}')
    known = [node.addr for node in go(beside.b.directory.look_up(beside.full)).nodes]
    assert beside.register(beside.full, "n9:1") == ([*known, "h1:1", "n9:1"], None)
    assert cluster(beside.b)["hints"] == 1
    stop(beside.network)


def test_a_barrier_adds_the_hints_that_a_daemon_of_the_first_release_returns() -> None:
    beside = Beside()
    hint = {"number": 1_795_000_400_000, "id": beside.emptied, "node": {"addr": "h1:1"}}
    beside.stand_in.hints.append(json.dumps({"home": beside.b.owner, "of": beside.b.owner, "hints": [hint]}))
    assert beside.register(beside.emptied, "n9:1") == (["h1:1", "n9:1"], None)
    barriers = [(each.of, each.added) for verb, each in beside.stand_in.received if verb == "barrier"]
    assert barriers == [("", 0), (beside.b.owner, hint["number"])]
    stop(beside.network)


def test_a_newcomer_takes_over_the_pages_that_the_first_release_sends() -> None:
    network, _ = started("established", "")
    exchanges = RECORDED["newcomer"].exchanges
    network.stand_ins = {name: StandIn(name, network.clock, exchanges) for name in "ab"}
    newcomer = GossipDaemon(network, "c", ["a"], seed=7)
    settle(network.clock, MEETING)
    then = read_situation("established").expected["records"]
    now = contents(newcomer)
    assert now.keys() == then.keys()
    assert now == then
    stop(network)


def test_links_and_listeners_exchange_the_bytes_that_the_first_release_did(logged_errors: list[Any]) -> None:
    assert [(parse(each.request), parse(each.response)) for each in talk()] == [
        (parse(each.request), parse(each.response)) for each in HTTP
    ]
    assert logged_errors.pop()["log_format"] == "a peer has a wrong key"


def test_a_listener_answers_the_recorded_bytes_as_the_first_release_did(logged_errors: list[Any]) -> None:
    listener = Listener()
    agent = TappedAgent(listener.resource)
    answers = [answer for _, answer in STEPS] + [DIGEST] * (len(HTTP) - len(STEPS))
    for exchange, answer in zip(HTTP, answers, strict=True):
        listener.handler.answer = answer
        sent = parse(exchange.request)
        method, path, _ = sent["first"].split(" ")
        headers = Headers({name: [value] for name, value in sent.items() if name.startswith("rqdisco-")})
        agent.request(method.encode(), b"http://b:4003" + path.encode(), headers, RequestBody(sent["body"].encode()))
        agent.flush()
        assert parse(agent.exchanges[-1].response) == parse(exchange.response)
    statuses = [re.split(" ", parse(each.response)["first"])[1] for each in HTTP]
    assert set(statuses) == {"200", "400", "401", "403", "404", "409", "421"}
    assert logged_errors.pop()["log_format"] == "a peer has a wrong key"
