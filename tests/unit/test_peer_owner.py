"""The owner of an ID: when it may decide, what it answered itself meanwhile, and what it refuses
(R4, R8).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.gossip.core.messages import Hint, Hints
from rqdisco.backends.gossip.core.peer_errors import BadMessage
from rqdisco.backends.limits import Limits
from rqdisco.core.codec import decode_put
from rqdisco.core.errors import LoopbackConflict, NoSuccessor, NoSuchID, StoreUnavailable, Undecided, UnknownCreatedID
from rqdisco.core.exports import TransferredRecord
from rqdisco.core.host_binding import THIS_MACHINE
from rqdisco.core.records import Node, Put
from tests.support.daemon import result
from tests.support.disk import ModelDisk
from tests.support.gossip import DirectNetwork, GossipDaemon, Three, create_id, go, listed, register, settle, trio, wait

CREATED_ELSEWHERE = "ffff0000-0000-8000-8000-000000000001"


def put(name: str) -> Put:
    return decode_put(f'{{"id":"{name}","api_addr":"http://{name}:4001","addr":"{name}:4002"}}'.encode())


def restarted_owner(clock: Clock) -> tuple[GossipDaemon, GossipDaemon, str]:
    """Return two daemons, of which the owner was restarted while the other is down and then listed
    two nodes itself.
    """
    network, (a, b) = trio(clock, "ab")
    discovery_id = create_id(a)
    register(a, discovery_id, "n3:1")
    settle(clock, 40)
    network.split("a")
    settle(clock, 3)
    create_id(b)
    b.stop()
    a = a.restart()
    network.heal()
    settle(clock, 3)
    assert register(a, discovery_id, "n7:1") == ["n3:1", "n7:1"]
    assert register(a, discovery_id, "n8:1") == ["n3:1", "n7:1", "n8:1"]
    return a, b, discovery_id


def test_an_owner_decides_nothing_that_omits_its_answers_from_before_it_was_ready(clock: Clock) -> None:
    a, b, discovery_id = restarted_owner(clock)
    a.network.swallowed.add(("a", "pull"))
    b.restart()
    settle(clock, 10)
    assert a.is_ready
    shown = wait(clock, a.directory.look_up_at_owner(discovery_id), 1)
    assert [node.addr for node in shown.nodes] == ["n3:1", "n7:1", "n8:1"]
    removal = wait(clock, a.directory.remove(discovery_id, "n3:1"), 2)
    assert [node.addr for node in removal.record.nodes] == ["n7:1", "n8:1"]
    assert register(a, discovery_id, "n9:1") == ["n7:1", "n8:1", "n9:1"]


def test_an_owner_adopts_its_answers_from_before_it_was_ready_at_the_moment_it_is(clock: Clock) -> None:
    a, b, discovery_id = restarted_owner(clock)
    b.restart()
    # The moment at which it reaches the last member, before any exchange has ended.
    a.state.confirmed.add(b.owner)
    assert a.is_ready
    assert [node.addr for node in go(a.directory.look_up_at_owner(discovery_id)).nodes] == ["n3:1", "n7:1", "n8:1"]


def test_nothing_is_decided_while_the_disk_refuses_the_earlier_answers(clock: Clock) -> None:
    a, b, discovery_id = restarted_owner(clock)
    b.restart()
    a.disk.room = 0
    settle(clock, 5)
    with pytest.raises(StoreUnavailable):
        wait(clock, a.directory.remove(discovery_id, "n3:1"), 2)
    assert listed(a, discovery_id) == ["n3:1", "n7:1", "n8:1"]
    a.disk.room = None
    removal = wait(clock, a.directory.remove(discovery_id, "n3:1"), 2)
    assert [node.addr for node in removal.record.nodes] == ["n7:1", "n8:1"]
    settle(clock, 2)
    assert a.hints == 0


def test_a_node_added_and_removed_again_does_not_return_with_a_restart(clock: Clock) -> None:
    a, b, discovery_id = restarted_owner(clock)
    b.restart()
    settle(clock, 5)
    wait(clock, a.directory.remove(discovery_id, "n7:1"), 2)
    a = a.restart()
    settle(clock, 5)
    assert listed(a, discovery_id) == ["n3:1", "n8:1"]


def test_a_removed_node_does_not_return_from_a_disk_that_refused_to_forget(clock: Clock) -> None:
    a, b, discovery_id = restarted_owner(clock)
    a = a.restart()
    settle(clock, 1)
    a.threads.hold = True
    asking = Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr="n7:1"), None))
    a.threads.release()
    # The newly stored hint replaces the earlier one; there is no room for the record of that.
    a.disk.room = 0
    assert result(asking).on_behalf
    a.threads.release_all()
    a.threads.hold, a.disk.room = False, None
    b.restart()
    settle(clock, 8)
    wait(clock, a.directory.remove(discovery_id, "n7:1"), 2)
    a = a.restart()
    settle(clock, 8)
    assert listed(a, discovery_id) == ["n3:1", "n8:1"]


def test_a_refusal_of_the_owner_holds_at_every_daemon(three: Three, clock: Clock) -> None:
    _, (a, b, c) = three
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    register(a, discovery_id, "n2:1")
    settle(clock, 40)
    # Its disk is slow, so that b shows an older copy.
    b.threads.hold = True
    for addr in ("n1:1", "n2:1"):
        wait(clock, a.directory.remove(discovery_id, addr), 2)
    c.stop()
    settle(clock, 3)
    assert listed(b, discovery_id) == ["n1:1", "n2:1"]
    asked = Deferred.fromCoroutine(b.directory.register(discovery_id, Node(addr="n3:1"), None))
    b.threads.hold = False
    settle(clock, 8)
    with pytest.raises(Undecided, match="cannot grant a bootstrap without c"):
        result(asked)
    assert b.hints == 0


def test_peers_of_an_owner_that_is_not_ready_list_what_it_holds_and_no_older_copy(three: Three, clock: Clock) -> None:
    network, (a, b, c) = three
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    register(a, discovery_id, "n2:1")
    settle(clock, 40)
    network.dropped |= {("a", "push"), ("b", "pull")}
    wait(clock, a.directory.remove(discovery_id, "n1:1"), 2)
    c.stop()
    a.restart()
    settle(clock, 3)
    assert listed(b, discovery_id) == ["n1:1", "n2:1"]
    answer = wait(clock, b.directory.register(discovery_id, Node(addr="n3:1"), None), 4)
    assert answer.on_behalf
    assert [node.addr for node in answer.listed] == ["n2:1", "n3:1"]


def test_a_lookup_shows_nodes_answered_here_and_marks_them_as_unconfirmed(three: Three, clock: Clock) -> None:
    network, (a, b, c) = three
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    settle(clock, 40)
    network.split("a")
    settle(clock, 3)
    assert register(c, discovery_id, "n2:1") == ["n1:1", "n2:1"]
    view = go(c.directory.look_up(discovery_id))
    assert [node.addr for node in view.nodes] == ["n1:1", "n2:1"]
    assert view.unconfirmed == ("n2:1",)
    assert listed(b, discovery_id) == ["n1:1"]
    network.heal()
    settle(clock, 3)
    assert [go(each.directory.look_up(discovery_id)).unconfirmed for each in (a, b, c)] == [(), (), ()]
    assert listed(b, discovery_id) == ["n1:1", "n2:1"]


@pytest.mark.parametrize("where", ["a list", "a name", "a leader key"])
def test_no_api_of_a_peer_shows_a_node_whose_grant_was_not_answered(where: str, clock: Clock) -> None:
    """The owner dies between the moment at which a peer has a grant and the one at which its answer
    leaves.
    """
    _, (a, b, _) = trio(clock, limits=Limits(visible_claims=True))
    discovery_id = create_id(a)
    a.threads.hold = True
    if where == "a leader key":
        Deferred.fromCoroutine(a.directory.claim(discovery_id, put("n1"), "n1"))
    else:
        Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr="n1:1"), "n1"))
    settle(clock, 0.2)
    a.stop()
    record = b.store.settled(discovery_id)
    assert record is not None
    assert record.grant is not None
    assert record.grant.pending
    look_up = b.directory.look_up_name if where == "a name" else b.directory.look_up
    view = go(look_up(discovery_id))
    assert (view.nodes, view.leader, view.granted) == ((), None, None)


def test_an_id_that_no_daemon_holds_any_more_cannot_be_claimed_anew(three: Three, clock: Clock) -> None:
    _, (a, b, _) = three
    lost = create_id(a)[:4] + CREATED_ELSEWHERE[4:]
    for daemon in (a, b):
        for discovery_id in (lost, CREATED_ELSEWHERE):
            with pytest.raises(UnknownCreatedID):
                wait(clock, daemon.directory.claim(discovery_id, put("n1"), "n1"), 2)


def test_a_daemon_that_lost_its_disk_does_not_let_its_ids_be_claimed_anew(clock: Clock) -> None:
    _, (a,) = trio(clock, "a")
    discovery_id = create_id(a)
    assert go(a.directory.claim(discovery_id, put("n1"), "n1")).won
    a = a.restart(ModelDisk())
    with pytest.raises(UnknownCreatedID) as refusal:
        go(a.directory.claim(discovery_id, put("n2"), "n2"))
    assert "no longer knows it" in refusal.value.why
    with pytest.raises(NoSuchID):
        go(a.directory.look_up(discovery_id))


def test_a_leader_recreates_a_lost_id_and_nobody_is_granted_under_it(three: Three, clock: Clock) -> None:
    _, (a, b, _) = three
    assert wait(clock, b.directory.report(CREATED_ELSEWHERE, put("n1"), "n1"), 2)
    settle(clock, 2)
    view = go(a.directory.look_up(CREATED_ELSEWHERE))
    assert view.leader is not None
    assert not a.directory.has_owner(view)
    assert not wait(clock, a.directory.claim(CREATED_ELSEWHERE, put("n2"), "n2"), 2).won


@pytest.mark.parametrize("names", [("a", "127.0.0.1:4000"), ("127.0.0.1:4000", "a")], ids=["loopback", "others"])
def test_the_host_of_an_owner_stays_its_own_whatever_address_peers_reach_it_by(
    names: tuple[str, str], clock: Clock
) -> None:
    before, after = names
    network = DirectNetwork(clock)
    a = GossipDaemon(network, before)
    discovery_id = create_id(a)
    assert register(a, discovery_id, "localhost:4001", THIS_MACHINE) == ["localhost:4001"]
    a.stop()
    a = GossipDaemon(network, after, disk=a.disk.kill(), called=before)
    assert go(a.directory.look_up(discovery_id)).host == a.directory.name_host(THIS_MACHINE)
    assert register(a, discovery_id, "localhost:4003", THIS_MACHINE) == ["localhost:4001", "localhost:4003"]
    with pytest.raises(LoopbackConflict):
        register(a, discovery_id, "localhost:4005", "10.0.0.1")
    a.stop()
    settle(clock, 1)


def test_an_id_that_one_daemon_imported_is_not_imported_by_another_that_is_cut_off_right_afterwards(
    three: Three, clock: Clock
) -> None:
    network, (a, b, _) = three
    brought = TransferredRecord(id="brought", created_at=1)
    network.split("a")
    importing = Deferred.fromCoroutine(b.directory.adopt(brought, as_own=True))
    with pytest.raises(Undecided):
        wait(clock, a.directory.adopt(brought, as_own=True), 3)
    with pytest.raises(Undecided):
        result(importing)
    network.heal()
    settle(clock, 3)
    assert wait(clock, b.directory.adopt(brought, as_own=True), 2)
    network.split("a")
    with pytest.raises(Undecided):
        wait(clock, a.directory.adopt(brought, as_own=True), 3)


def hand_over(daemon: GossipDaemon, other: GossipDaemon) -> None:
    daemon.network.dropped.add((daemon.name, "succeed"))
    with pytest.raises(NoSuccessor):
        wait(daemon.clock, daemon.drain(other.name))


@pytest.mark.parametrize(
    ("stop", "why"), [(lambda a, b: a.fence(b, "two daemons run as it"), "two daemons"), (hand_over, "handed over")]
)
def test_a_daemon_that_decides_nothing_takes_no_new_id_from_an_import_and_no_node_for_one(
    stop: Callable[[GossipDaemon, GossipDaemon], None],
    why: str,
    three: Three,
    clock: Clock,
    logged_errors: list[Any],
) -> None:
    _, (a, b, _) = three
    stop(a, b)
    settle(clock, 2)
    with pytest.raises(Undecided, match=why):
        wait(clock, a.directory.adopt(TransferredRecord(id="brought", created_at=1), as_own=True), 2)
    hint = Hint(number=1, id="brought", node=Node(addr="n1:1"))
    with pytest.raises(BadMessage, match=why):
        result(b.send(a, "hints", Hints(owner=a.owner, of=a.owner, hints=(hint,))))
    logged_errors.clear()
