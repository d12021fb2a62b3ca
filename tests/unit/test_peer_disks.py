"""Owners whose disks refuse, stall or are slow, and what their peers hold meanwhile (R8)."""

from __future__ import annotations

from collections.abc import Coroutine
from itertools import count
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.core.codec import decode_put
from rqdisco.core.errors import StoreUnavailable, Undecided
from rqdisco.core.exports import Decisions, ImportedNode, TransferredGrant, TransferredRecord
from rqdisco.core.records import Node
from tests.support.daemon import result
from tests.support.gossip import GossipDaemon, Three, create_id, go, listed, register, settle, trio

LEADER = decode_put(b'{"addr": "n1:2"}')


def begin(coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
    return Deferred.fromCoroutine(coroutine)


def registering(daemon: GossipDaemon, discovery_id: str, addr: str) -> Deferred[Any]:
    return begin(daemon.directory.register(discovery_id, Node(addr=addr), None))


def refused(deferred: Deferred[Any]) -> bool:
    with pytest.raises(StoreUnavailable):
        result(deferred)
    return True


def test_peers_have_a_change_while_the_disk_of_its_owner_is_still_writing(three: Three, clock: Clock) -> None:
    _, (a, b, c) = three
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    settle(clock, 1)
    a.threads.hold = True
    registering = Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr="n2:1"), None))
    assert listed(b, discovery_id) == listed(c, discovery_id) == ["n1:1", "n2:1"]
    assert not registering.called
    assert listed(a, discovery_id) == ["n1:1"], "the owner shows what its own disk has"
    a.threads.hold = False
    a.threads.release_all()
    assert [node.addr for node in result(registering).listed] == ["n1:1", "n2:1"]


def test_a_change_refused_by_the_owners_disk_is_corrected_at_peers(three: Three, clock: Clock) -> None:
    _, (a, b, c) = three
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    settle(clock, 1)
    a.disk.room = 0
    with pytest.raises(StoreUnavailable):
        register(a, discovery_id, "n2:1")
    with pytest.raises(StoreUnavailable):
        create_id(a)
    assert listed(b, discovery_id) == ["n1:1", "n2:1"]
    a.disk.room = None
    settle(clock, 3)
    for daemon in (a, b, c):
        assert listed(daemon, discovery_id) == ["n1:1"]
    assert register(b, discovery_id, "n2:1") == ["n1:1", "n2:1"]
    settle(clock, 1)
    assert set(a.store.ids()) == set(b.store.ids()) == set(c.store.ids())


def test_an_owner_killed_during_a_write_recovers_from_its_peers_what_its_disk_never_got(
    three: Three, clock: Clock
) -> None:
    network, (a, b, _) = three
    ids = [create_id(a) for _ in range(20)]
    register(a, ids[0], "n1:1")
    settle(clock, 1)
    a.threads.hold = True
    Deferred.fromCoroutine(a.directory.register(ids[0], Node(addr="n2:1"), None))
    network.messages.clear()
    a = a.restart()
    settle(clock, 3)
    assert listed(a, ids[0]) == listed(b, ids[0]) == ["n1:1", "n2:1"]
    pushed = b"".join(body for sender, _, verb, body in network.messages if (sender, verb) == ("a", "push"))
    assert ids[0].encode() in pushed
    assert not any(each.encode() in pushed for each in ids[1:]), "the others stay unchanged"


def test_an_owner_stopped_before_it_published_its_last_change_grants_soon_after_its_start(
    three: Three, clock: Clock
) -> None:
    network, (a, _, _) = three
    discovery_id, other = create_id(a), create_id(a)
    network.cut |= {("a", "b"), ("a", "c")}
    Deferred.fromCoroutine(a.directory.register(other, Node(addr="n0:1"), None)).addErrback(lambda _: None)
    a.stop()
    network.heal()
    a = a.restart()
    while not a.is_ready:
        clock.advance(0.01)
    asked = Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr="n1:1"), None))
    settle(clock, 0.5)
    assert [node.addr for node in result(asked).listed] == ["n1:1"]


def test_a_version_that_a_peer_had_before_the_disk_is_not_issued_again(three: Three, clock: Clock) -> None:
    _, (a, b, _) = three
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    settle(clock, 1)
    a.threads.hold = True
    Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr="n2:1"), None))
    known = b.store.settled(discovery_id)
    assert known is not None
    assert [node.addr for node in known.nodes] == ["n1:1", "n2:1"]
    clock.advance(-0.5)
    a = a.restart()
    assert go(a.directory.create()).version > known.version


def test_a_restarted_owner_decides_nothing_old_before_it_reached_all_members(three: Three, clock: Clock) -> None:
    network, (a, _, _) = three
    discovery_id = create_id(a)
    a.stop()
    network.cut |= {("a", "c"), ("c", "a")}
    a = a.restart()
    settle(clock, 3)
    with pytest.raises(Undecided):
        register(a, discovery_id, "n1:1")
    for daemon in (a, network.daemons["b"]):
        with pytest.raises(Undecided):
            go(daemon.directory.look_up_at_owner(discovery_id))
    assert register(a, create_id(a), "n9:1") == ["n9:1"], "it knows everything about new IDs"
    network.heal()
    settle(clock, 3)
    assert register(a, discovery_id, "n1:1") == ["n1:1"]


def test_a_published_and_refused_change_is_corrected_although_a_newer_one_was_refused_with_it(
    three: Three, clock: Clock
) -> None:
    _, (a, b, c) = three
    discovery_id = create_id(a)
    registering(a, discovery_id, "n1:1")
    settle(clock, 3)
    a.threads.hold = True
    registration = registering(a, discovery_id, "n2:1")
    assert listed(b, discovery_id) == ["n1:1", "n2:1"]
    over_it = registering(a, discovery_id, "n3:1")
    a.disk.room = 0
    a.threads.hold = False
    a.threads.release_all()
    assert refused(registration)
    assert refused(over_it)
    a.disk.room = None
    settle(clock, 5)
    assert listed(a, discovery_id) == listed(b, discovery_id) == listed(c, discovery_id) == ["n1:1"]


def test_a_published_and_refused_change_is_corrected_although_a_newer_one_was_withheld(
    three: Three, clock: Clock
) -> None:
    network, (a, b, c) = three
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    settle(clock, 1)
    a.threads.hold = True
    published = registering(a, discovery_id, "n2:1")
    # The wall clock jumps beyond the versions that are reserved on the disk.
    network.set_by = 300.0
    withheld = registering(a, discovery_id, "n3:1")
    assert listed(b, discovery_id) == ["n1:1", "n2:1"]
    a.disk.room, a.threads.hold = 0, False
    a.threads.release_all()
    assert refused(published)
    assert refused(withheld)
    a.disk.room = None
    settle(clock, 5)
    assert [listed(daemon, discovery_id) for daemon in (a, b, c)] == [["n1:1"]] * 3


def test_a_published_and_refused_change_is_corrected_with_the_first_durable_change(three: Three, clock: Clock) -> None:
    _, (a, b, _) = three
    discovery_id = create_id(a)
    registering(a, discovery_id, "n1:1")
    settle(clock, 3)
    a.disk.room = 0
    assert refused(registering(a, discovery_id, "n2:1"))
    assert listed(b, discovery_id) == ["n1:1", "n2:1"]
    a.disk.room = None
    create_id(a)
    a = a.restart()
    settle(clock, 10)
    assert listed(a, discovery_id) == listed(b, discovery_id) == ["n1:1"]


def test_a_stalled_disk_leaves_nobody_in_doubt(three: Three, clock: Clock) -> None:
    _, (a, b, _) = three
    discovery_id = create_id(a)
    registering(a, discovery_id, "n1:1")
    settle(clock, 90)
    a.threads.hold = True
    removing = begin(a.directory.remove(discovery_id, "n1:1"))
    asked = registering(a, discovery_id, "n2:1")
    for _ in range(20):
        clock.advance(0.1)
        assert a.is_ready
    a.threads.hold = False
    a.threads.release_all()
    settle(clock, 5)
    assert result(removing).removed
    assert result(asked).bootstrap == "granted"
    assert listed(b, discovery_id) == ["n2:1"]


def test_a_refused_change_keeps_nobody_from_claiming_a_new_key(three: Three, clock: Clock) -> None:
    _, (a, b, _) = three
    create_id(a)
    settle(clock, 90)
    a.disk.room = 0
    assert refused(begin(a.directory.create()))
    settle(clock, 2)
    a.disk.room = None
    settle(clock, 5)
    assert b.is_converged
    claiming = begin(b.directory.claim("name", decode_put(b'{"addr": "n1:2"}'), None))
    settle(clock, 2)
    assert result(claiming).won


def test_an_import_that_peers_have_and_the_disk_refused_tells_nobody_to_bootstrap(three: Three, clock: Clock) -> None:
    _, (a, b, _) = three
    # Without a reserved version nothing is sent before it is on the disk.
    create_id(a)
    brought = TransferredRecord(
        id="brought",
        created_at=1,
        nodes=(ImportedNode(addr="n1:1"),),
        decisions=Decisions(grant=TransferredGrant(addr="n1:1")),
    )
    a.disk.room = 0
    assert refused(begin(a.directory.adopt(brought, as_own=True)))
    a.disk.room = None
    settle(clock, 3)
    for daemon in (a, b):
        asked = registering(daemon, "brought", "n2:1")
        settle(clock, 2)
        assert result(asked).bootstrap is None
    assert listed(a, "brought") == listed(b, "brought") == ["n1:1", "n2:1"]


def test_a_node_whose_report_peers_showed_and_the_disk_refused_does_not_win_again(three: Three, clock: Clock) -> None:
    _, (a, b, _) = three
    create_id(a)
    name = next(each for each in map(str, count()) if a.state.members.owner_of_name(each) == a.owner)
    assert go(a.directory.claim(name, LEADER, None)).won
    settle(clock, 1)
    a.disk.room = 0
    assert refused(begin(a.directory.report(name, LEADER, None)))
    assert go(b.directory.look_up(name)).leader is not None, "other nodes are sent to it"
    a.disk.room = None
    with pytest.raises(Undecided, match="the disk refused a change of this ID"):
        go(a.directory.claim(name, LEADER, None))
    settle(clock, 3)
    assert not go(a.directory.claim(name, LEADER, None)).won
    assert go(a.directory.look_up(name)).leader == go(b.directory.look_up(name)).leader


def test_a_claim_of_a_new_key_that_peers_have_and_the_disk_refused_leaves_the_key_free(
    three: Three, clock: Clock
) -> None:
    _, (a, b, _) = three
    create_id(a)
    name = next(each for each in map(str, count()) if a.state.members.owner_of_name(each) == a.owner)
    a.disk.room = 0
    assert refused(begin(a.directory.claim(name, decode_put(b'{"addr": "127.0.0.1:2"}'), "10.0.0.1")))
    a.disk.room = None
    settle(clock, 3)
    assert listed(b, name) == []
    claiming = begin(b.directory.claim(name, decode_put(b'{"addr": "127.0.0.1:2"}'), "10.0.0.2"))
    settle(clock, 2)
    assert result(claiming).won


@pytest.mark.parametrize("is_created", [False, True])
def test_a_leader_that_peers_have_and_the_disk_refused_is_not_replaced_by_a_claim(
    is_created: bool, three: Three, clock: Clock
) -> None:
    _, (a, b, _) = three
    create_id(a)
    name = next(each for each in map(str, count()) if a.state.members.owner_of_name(each) == a.owner)
    if is_created:
        go(a.directory.create_named(name))
        settle(clock, 1)
    a.disk.room = 0
    assert refused(begin(a.directory.report(name, LEADER, None)))
    a.disk.room = None
    settle(clock, 3)
    for daemon in (a, b):
        claiming = begin(daemon.directory.claim(name, decode_put(b'{"addr": "n2:2"}'), None))
        settle(clock, 2)
        assert not result(claiming).won


@pytest.mark.parametrize("peers", ["a daemon alone", "two, of which one is down"])
def test_an_id_whose_change_the_disk_refused_is_served_once_it_takes_changes_again_without_a_peer(
    peers: str, clock: Clock
) -> None:
    _, (a, *others) = trio(clock, "a" if peers == "a daemon alone" else "ab")
    create_id(a)
    name = next(each for each in map(str, count()) if a.state.members.owner_of_name(each) == a.owner)
    assert go(a.directory.claim(name, LEADER, None)).won
    settle(clock, 1)
    a.disk.room = 0
    assert refused(begin(a.directory.report(name, LEADER, None)))
    for each in others:
        each.stop()
    settle(clock, 5)
    a.disk.room = None
    settle(clock, 5)
    assert go(a.directory.report(name, LEADER, None))
    assert not go(a.directory.claim(name, LEADER, None)).won


def test_a_node_that_asks_repeatedly_has_one_hint(three: Three, clock: Clock) -> None:
    _, (a, b, c) = three
    discovery_id = create_id(a)
    registering(a, discovery_id, "n1:1")
    settle(clock, 40)
    c.stop()
    a = a.restart()
    settle(clock, 5)
    for _ in range(5):
        asked = registering(b, discovery_id, "n2:1")
        settle(clock, 2)
        assert [node.addr for node in result(asked).listed] == ["n1:1", "n2:1"]
    assert b.hints == 1
