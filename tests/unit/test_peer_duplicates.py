"""Several daemons: one that claims to be another, or two with one identity (R8)."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.gossip.core.messages import Digest, Hello, Pull, decode_message, encode_message
from rqdisco.core.codec import decode_put
from rqdisco.core.errors import NoSuccessor, Undecided
from rqdisco.core.records import Node, Put
from tests.support.daemon import result
from tests.support.gossip import GossipDaemon, Three, create_id, go, listed, register, settle, trio


def test_two_daemons_of_one_name_both_stop_deciding(three: Three, clock: Clock, logged_errors: list[Any]) -> None:
    network, (a, b, _c) = three
    duplicate = GossipDaemon(network, "d", ["b"], seed=9, called="a")
    settle(clock, 6)
    assert a.state.fenced == duplicate.state.fenced == "two daemons are called a"
    with pytest.raises(Undecided):
        create_id(a)
    with pytest.raises(Undecided):
        go(a.directory.claim("named", decode_put(b'{"addr": "n1:2"}'), None))
    assert b.state.fenced is None
    settle(clock, 20)
    complaints = [event["log_source"] for event in logged_errors if "duplicate peer identity" in event["log_format"]]
    assert len(complaints) == len(set(complaints)) == 2, "by both others, and not every second"
    duplicate.stop()
    logged_errors.clear()


def peers_shown(daemon: GossipDaemon) -> dict[str, Any]:
    """Return the reported peers by incarnation."""
    report: dict[str, Any] = daemon.report.as_object()
    return {peer["incarnation"]: peer for peer in report["peers"]}


def test_all_others_show_a_fenced_daemon_with_the_reason(three: Three, clock: Clock, logged_errors: list[Any]) -> None:
    network, (a, _b, c) = three
    duplicate = GossipDaemon(network, "d", ["b"], seed=9, called="a")
    settle(clock, 12)
    why = "two daemons are called a"
    shown = peers_shown(c)
    assert {owner: (peer["state"], peer["why"]) for owner, peer in shown.items() if peer["name"] == "a"} == {
        a.owner: ("fenced", why),
        duplicate.owner: ("fenced", why),
    }
    assert [peer["state"] for peer in shown.values() if peer["name"] == "b"] == ["up"]
    assert sorted(note for note in c.report.notes() if "decides nothing" in note) == sorted(
        f"a ({owner[:4]}) decides nothing: {why}" for owner in (a.owner, duplicate.owner)
    )
    assert c.report.against_grants() == c.report.against_lists() == []
    duplicate.stop()
    settle(clock, 6)
    a.restart()
    settle(clock, 12)
    shown = peers_shown(c)
    assert (shown[a.owner]["state"], shown[a.owner]["why"]) == ("up", None)
    assert shown[duplicate.owner]["state"] == "silent"
    logged_errors.clear()


def test_a_replayed_hello_from_before_a_restart_stops_nobody(three: Three, clock: Clock) -> None:
    """An attacker in between can keep a sealed hello and send it to anybody, its own sender
    included.
    """
    network, (a, b, c) = three
    old = [body for sender, _, verb, body in network.messages if (sender, verb) == ("a", "hello")][-1]
    a = a.restart()
    settle(clock, 3)
    for daemon in (a, b, c):
        result(daemon.backend.driver.greet(old))
    settle(clock, 3)
    assert [daemon.objection for daemon in (a, b, c)] == [None] * 3
    assert register(a, create_id(a), "n1:1") == ["n1:1"]


def url_of(daemon: GossipDaemon, peer: GossipDaemon) -> str:
    """Return the URL at which a daemon reaches a peer."""
    member = daemon.members.get(peer.owner)
    assert member is not None
    return member.url


def test_a_hello_takes_effect_with_the_next_message_of_its_session(three: Three, clock: Clock) -> None:
    network, (a, b, _) = three
    hello = [body for sender, _, verb, body in network.messages if (sender, verb) == ("a", "hello")][-1]
    moved = encode_message(msgspec.structs.replace(decode_message(hello, Hello), url="http://elsewhere"))
    network.sessions["a", "b"], _ = result(b.backend.driver.greet(moved))
    assert url_of(b, a) == "http://a"
    result(a.send(b, "pull", Pull(owner=b.owner, after=0)))
    assert url_of(b, a) == "http://elsewhere"


def test_a_duplicate_of_an_incarnation_that_greets_its_original_stops_both(
    three: Three, clock: Clock, logged_errors: list[Any]
) -> None:
    network, (a, *_) = three
    # It reaches nobody else, who would discover it, too.
    network.cut |= {("d", name) for name in "bc"}
    duplicate = GossipDaemon(network, "d", ["a"], seed=9, disk=copy.deepcopy(a.disk).kill(), called="a")
    settle(clock, 6)
    why = f"two daemons run as incarnation {a.owner}"
    assert a.state.fenced == duplicate.state.fenced == why
    duplicate.stop()
    logged_errors.clear()


def test_a_copy_is_stopped_by_the_digests_of_others_if_their_answers_are_lost(
    three: Three, clock: Clock, logged_errors: list[Any]
) -> None:
    network, (a, *_) = three
    network.lost_answers = {("d", b'"fenced"')}
    duplicate = GossipDaemon(network, "d", ["b"], seed=9, disk=copy.deepcopy(a.disk).kill(), called="a")
    settle(clock, 8)
    assert a.state.fenced == duplicate.state.fenced == f"two daemons run as incarnation {a.owner}"
    duplicate.stop()
    logged_errors.clear()


def test_a_copied_daemon_heeds_what_a_peer_said_just_before_that_was_drained(
    clock: Clock, logged_errors: list[Any]
) -> None:
    network, (a, b) = trio(clock, "ab")
    network.dropped.add(("b", "digest"))
    held: Deferred[None] = Deferred()
    network.held_answers["a", "digest"] = held
    duplicate = GossipDaemon(network, "d", ["b"], seed=9, disk=copy.deepcopy(a.disk).kill(), called="a")
    settle(clock, 1.5)
    assert a.state.fenced is None
    drained = msgspec.structs.replace(b.members.own, state="drained", successor=a.owner)
    result(b.send(a, "digest", Digest(held={}, fingerprint="", members=(drained,))))
    held.callback(None)
    assert a.state.fenced == f"two daemons run as incarnation {a.owner}"
    duplicate.stop()
    logged_errors.clear()


def test_a_daemon_restarted_without_its_copy_is_not_stopped_by_what_others_were_about_to_say(
    three: Three, clock: Clock, logged_errors: list[Any]
) -> None:
    network, (a, *_) = three
    duplicate = GossipDaemon(network, "d", ["b"], seed=9, disk=copy.deepcopy(a.disk).kill(), called="a")
    settle(clock, 8)
    duplicate.stop()
    again = a.restart()
    settle(clock, 20)
    assert again.state.fenced is None
    assert register(again, create_id(again), "n1:1") == ["n1:1"]
    logged_errors.clear()


def _put(addr: str) -> Put:
    return Put(node=Node(addr=addr), value=addr)


WHY = "two daemons run as it"


def test_a_fenced_daemon_lists_nodes_and_adds_them_to_its_ids_after_its_restart(
    three: Three, clock: Clock, logged_errors: list[Any]
) -> None:
    _, (a, b, _) = three
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    settle(clock, 2)
    a.fence(b, WHY)
    before = a.store.newest(discovery_id)
    assert register(a, discovery_id, "n2:1") == ["n1:1", "n2:1"]
    settle(clock, 5)
    assert a.store.newest(discovery_id) == before, "its duplicate may change the record as well"
    a = a.restart()
    settle(clock, 5)
    assert listed(b, discovery_id) == ["n1:1", "n2:1"]
    assert a.hints == 0
    logged_errors.clear()


def test_a_fenced_daemon_leaves_a_grant_of_its_earlier_start_as_it_is(
    three: Three, clock: Clock, logged_errors: list[Any]
) -> None:
    """Its duplicate may be about to revoke it."""
    network, (a, b, _) = three
    discovery_id = create_id(a)
    settle(clock, 2)
    network.swallowed.add(("a", "push"))
    a.threads.hold = True
    Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr="n1:1"), None)).addErrback(lambda _: None)
    while (record := a.store.settled(discovery_id)) is None or record.grant is None:
        a.threads.release()
    network.cut |= {("a", "c"), ("c", "a")}
    a = a.restart()
    network.swallowed.clear()
    settle(clock, 3)
    assert not a.is_ready
    b.greet(a)
    a.fence(b, WHY)
    network.heal()
    settle(clock, 5)
    assert a.is_ready
    record = a.store.newest(discovery_id)
    assert record is not None
    assert record.grant is not None
    assert record.grant.pending
    a = a.restart()
    settle(clock, 5)
    assert listed(b, discovery_id) == ["n1:1"]
    logged_errors.clear()


def test_a_daemon_fenced_between_a_grant_and_its_answer_refuses_it(
    three: Three, clock: Clock, logged_errors: list[Any]
) -> None:
    network, (a, b, c) = three
    discovery_id = create_id(a)
    settle(clock, 2)
    acknowledged: Deferred[None] = Deferred()
    network.held_answers["a", "push"] = acknowledged
    registering = Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr="n1:1"), None))
    clock.advance(0.1)
    a.fence(b, WHY)
    acknowledged.callback(None)
    with pytest.raises(Undecided, match=WHY):
        result(registering)
    settle(clock, 3)
    assert listed(c, discovery_id) == []
    logged_errors.clear()


@pytest.mark.parametrize("verb", ["digest", "pull"])
def test_a_daemon_fenced_during_a_command_neither_hands_over_nor_takes_over(
    verb: str, three: Three, clock: Clock, logged_errors: list[Any]
) -> None:
    network, (a, b, c) = three
    if verb == "pull":
        c.stop()
        settle(clock, 3)
    answered: Deferred[None] = Deferred()
    network.held_answers["a", verb] = answered
    commanded = Deferred.fromCoroutine(a.drain("b") if verb == "digest" else a.forget("c"))
    clock.advance(0.1)
    a.fence(b, WHY)
    answered.callback(None)
    settle(clock, 1)
    with pytest.raises(NoSuccessor, match=WHY):
        result(commanded)
    assert b.members.current_owner(a.owner) == a.owner
    assert a.members.current_owner(c.owner) == c.owner
    logged_errors.clear()
