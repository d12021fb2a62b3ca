"""A daemon beside peers of the first release, which own IDs or know others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rqdisco.core.codec import decode_put
from rqdisco.core.host_binding import THIS_MACHINE
from rqdisco.core.records import Node
from tests.support.golden_peers import StandIn, cluster, contents, read_conversations, read_situation, started, stop
from tests.support.gossip import GossipDaemon, go, settle
from tests.support.recorded_trio import LEADER, MEETING, outcome

RECORDED = read_conversations()


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
