"""Several daemons: who is granted, and what that takes (R3, R5, R6)."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.core.errors import Undecided
from rqdisco.core.records import Node
from tests.support.daemon import result
from tests.support.gossip import Three, create_id, go, listed, register, settle, trio, wait


def test_an_owner_killed_right_after_a_grant_agrees_with_its_peers_when_it_grants_again(
    three: Three, clock: Clock, logged_errors: list[Any]
) -> None:
    network, (a, b, _) = three
    discovery_id = create_id(a)
    a.threads.hold = True
    asked = Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr="n1:1"), None))
    network.cut |= {("a", "b"), ("a", "c")}
    a.threads.release()
    assert [node.addr for node in result(asked).listed] == ["n1:1"]
    a = a.restart()
    network.heal()
    settle(clock, 40)
    again = Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr="n1:1"), None))
    settle(clock, 1)
    assert result(again).bootstrap == "granted"
    assert not [event for event in logged_errors if "conflicting records" in event["log_format"]]
    assert b.store.settled(discovery_id) == a.store.settled(discovery_id)


def test_only_the_owner_grants(three: Three, clock: Clock) -> None:
    network, (a, _, c) = three
    discovery_id = create_id(a)
    network.split("a")
    settle(clock, 3)
    with pytest.raises(Undecided):
        register(c, discovery_id, "n1:1")
    assert register(a, discovery_id, "n1:1") == ["n1:1"], "the owner continues if no peer is up"


def test_a_node_that_may_just_have_been_granted_is_not_sent_elsewhere(three: Three, clock: Clock) -> None:
    network, (a, _, c) = three
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    register(a, discovery_id, "n2:1")
    network.split("a")
    settle(clock, 3)
    with pytest.raises(Undecided, match="does not answer, and this node may just have been told"):
        register(c, discovery_id, "n1:1")
    settle(clock, 30)
    assert register(c, discovery_id, "n1:1") == ["n1:1", "n2:1"]


def test_a_new_grant_on_an_emptied_list_needs_every_member_and_their_hints(three: Three, clock: Clock) -> None:
    network, (a, _, c) = three
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    settle(clock, 40)
    network.cut |= {("a", "c"), ("c", "a")}
    settle(clock, 3)
    assert register(c, discovery_id, "n2:1") == ["n1:1", "n2:1"]
    with pytest.raises(Undecided):
        register(a, discovery_id, "n1:1")
    network.heal()
    settle(clock, 1.5)
    assert register(a, discovery_id, "n1:1") == ["n1:1", "n2:1"], "c had sent n2 there"


def test_an_unreachable_member_keeps_an_emptied_list_from_bootstrapping_again(three: Three, clock: Clock) -> None:
    network, (a, _, _) = three
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    go(a.directory.remove(discovery_id, "n1:1"))
    network.split("c")
    settle(clock, 3)
    with pytest.raises(Undecided):
        register(a, discovery_id, "n2:1")
    network.heal()
    settle(clock, 3)
    assert register(a, discovery_id, "n2:1") == ["n2:1"]


def test_a_grant_that_no_peer_acknowledges_in_time_is_revoked(three: Three, clock: Clock) -> None:
    network, (a, _b, _c) = three
    discovery_id = create_id(a)
    network.unreachable |= {("a", "b"), ("a", "c")}
    network.dropped |= {("b", "digest"), ("c", "digest")}
    with pytest.raises(Undecided):
        wait(clock, a.directory.register(discovery_id, Node(addr="n1:1"), None), 1.5)
    network.heal()
    network.dropped.clear()
    settle(clock, 4)
    assert register(a, discovery_id, "n2:1") == ["n2:1"]


def test_a_node_that_hung_up_before_its_grant_is_not_waited_for_although_the_disk_fills_up_and_the_owner_is_killed(
    three: Three, clock: Clock
) -> None:
    network, (a, _b, _c) = three
    discovery_id = create_id(a)
    network.split("a")
    asked = Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr="n1:1"), None))
    asked.addErrback(lambda _: None)
    asked.cancel()
    a.disk.room = 0
    settle(clock, 3)
    a.disk.room = None
    a = a.restart()
    network.heal()
    settle(clock, 5)
    assert register(a, discovery_id, "n2:1") == ["n2:1"]


def test_a_grant_is_revoked_as_soon_as_it_is_on_the_disk_if_the_node_hung_up_meanwhile(
    three: Three, clock: Clock
) -> None:
    network, (a, _b, _c) = three
    discovery_id = create_id(a)
    network.unreachable |= {("a", "b"), ("a", "c")}
    network.dropped |= {("b", "digest"), ("c", "digest")}
    a.threads.hold = True
    asked = Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr="n1:1"), None))
    asked.addErrback(lambda _: None)
    asked.cancel()
    a.threads.hold = False
    a.threads.release_all()
    settle(clock, 0.1)
    record = a.store.settled(discovery_id)
    assert record is not None
    assert record.nodes == ()


def test_nobody_is_granted_without_a_required_acknowledgement(clock: Clock) -> None:
    _network, (a, b) = trio(clock, "ab", ack_required=True)
    discovery_id = create_id(a)
    b.stop()
    settle(clock, 3)
    with pytest.raises(Undecided, match="no peer is up to replicate a grant, and --grant-ack is required"):
        register(a, discovery_id, "n1:1")
    a.stop()


def test_a_grant_that_a_peer_cannot_store_is_refused_with_the_reason_of_that_peer(three: Three, clock: Clock) -> None:
    _network, (a, _b, c) = three
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    settle(clock, 1)
    c.disk.room = 0
    go(a.directory.remove(discovery_id, "n1:1"))
    asked = Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr="n2:1"), None))
    settle(clock, 1)
    with pytest.raises(Undecided, match="cannot grant a bootstrap without c: no space left on device"):
        result(asked)


def test_requests_that_waited_for_a_grant_go_on_in_several_turns_of_the_reactor(three: Three, clock: Clock) -> None:
    """One after the other they would keep all other clients waiting: long lists take milliseconds each."""
    _, (a, _, _) = three
    discovery_id = create_id(a)
    a.threads.hold = True
    asked = [
        Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr=f"n{number}:1"), None))
        for number in range(50)
    ]
    a.threads.hold = False
    a.threads.release_all()
    assert 1 <= sum(each.called for each in asked) < 20
    settle(clock, 1)
    answers = [result(each) for each in asked]
    assert [each.bootstrap for each in answers] == ["granted", *[None] * 49]
    assert len(answers[-1].listed) == 50


def test_peers_list_a_node_once_the_disk_takes_again_that_it_was_told(three: Three, clock: Clock) -> None:
    _network, (a, b, _c) = three
    discovery_id = create_id(a)
    a.threads.hold = True
    asked = Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr="n1:1"), None))
    a.threads.release()
    assert result(asked).bootstrap == "granted"
    a.disk.room = 0
    a.threads.hold = False
    a.threads.release_all()
    settle(clock, 3)
    a.disk.room = None
    settle(clock, 5)
    assert listed(b, discovery_id) == ["n1:1"]


def test_a_request_at_a_daemon_that_has_stopped_is_answered(three: Three, clock: Clock) -> None:
    """Its grant needs all peers, and so did one that was under way."""
    network, (a, *_) = three
    ids = [create_id(a) for _ in range(2)]
    for discovery_id in ids:
        register(a, discovery_id, "n1:1")
        go(a.directory.remove(discovery_id, "n1:1"))
    network.swallowed.add(("a", "barrier"))
    asked = [Deferred.fromCoroutine(a.directory.register(ids[0], Node(addr="n2:1"), None))]
    assert not asked[0].called
    a.backend.driver.stopService()
    asked += [Deferred.fromCoroutine(a.directory.register(each, Node(addr="n3:1"), None)) for each in ids]
    for each in asked:
        with pytest.raises(Undecided, match="cannot grant a bootstrap without "):
            result(each)
    assert not a.state.pending_grants


def test_a_request_for_another_owner_at_a_daemon_that_has_stopped_is_answered(three: Three, clock: Clock) -> None:
    network, (a, b, _c) = three
    discovery_id = create_id(b)
    settle(clock, 2)
    network.swallowed.add(("a", "digest"))
    a = a.restart()
    settle(clock, 0.5)
    # It forwards nothing before it has exchanged digests with the owner.
    registering = [a.directory.register(discovery_id, Node(addr=f"n{number}:1"), None) for number in range(3)]
    asked = [Deferred.fromCoroutine(each) for each in registering[:2]]
    assert not any(each.called for each in asked)
    a.backend.driver.stopService()
    assert all(each.called for each in asked)
    asked.append(Deferred.fromCoroutine(registering[2]))
    for each in asked:
        with pytest.raises(Undecided, match="the owner of this ID does not answer"):
            result(each)


def test_a_request_that_peers_must_know_of_at_a_daemon_that_has_stopped_is_answered(three: Three) -> None:
    network, (a, *_) = three
    discovery_id = create_id(a)
    network.split("a")
    a.backend.driver.stopService()
    with pytest.raises(Undecided, match="no peer had it in time"):
        register(a, discovery_id, "n1:1")
    create_id(a)


def test_a_new_name_at_a_daemon_that_stops_is_answered(three: Three, clock: Clock) -> None:
    network, (a, *_) = three
    network.split("a")
    settle(clock, 3)
    asked = [Deferred.fromCoroutine(a.directory.create_named("orders"))]
    assert not asked[0].called
    a.backend.driver.stopService()
    asked.append(Deferred.fromCoroutine(a.directory.create_named("orders")))
    for each in asked:
        with pytest.raises(Undecided, match="do not answer"):
            result(each)
