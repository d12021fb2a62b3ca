"""Owners on older disks: what they recover from their peers before they decide anything (R8)."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.core.errors import ImportConflict, NoSuchID, Undecided
from rqdisco.core.exports import TransferredRecord
from rqdisco.core.records import Node
from tests.support.daemon import result
from tests.support.gossip import GossipDaemon, Three, create_id, go, listed, older, register, settle, wait


def test_an_owner_on_an_older_disk_recovers_what_its_peers_have(three: Three, clock: Clock) -> None:
    _network, (a, b, _) = three
    discovery_id = create_id(a)
    before = older(a.disk)
    register(a, discovery_id, "n1:1")
    a = a.restart(before)
    settle(clock, 3)
    assert listed(a, discovery_id) == ["n1:1"]
    assert register(a, discovery_id, "n2:1") == ["n1:1", "n2:1"]
    assert listed(b, discovery_id) == ["n1:1", "n2:1"]


def test_an_owner_on_an_older_disk_does_not_mistake_a_grant_of_another_boot_for_a_new_one(
    three: Three, clock: Clock
) -> None:
    _, (a, _, _) = three
    discovery_id = create_id(a)
    settle(clock, 2)
    before = older(a.disk)
    a = a.restart(boot_id="boot-b", booted=clock.seconds())
    settle(clock, 15)
    for number in range(1, 4):
        register(a, discovery_id, f"n{number}:1")
    settle(clock, 600)
    # The host boots once more, and as long after that as then the first node registers again.
    a = a.restart(before, boot_id="boot-c", booted=clock.seconds())
    settle(clock, 20)
    assert register(a, discovery_id, "n1:1") == ["n1:1", "n2:1", "n3:1"]


def test_an_owner_on_a_host_restored_with_its_clock_does_not_mistake_an_old_grant_for_a_new_one(
    three: Three, clock: Clock
) -> None:
    _, (a, _, _) = three
    discovery_id = create_id(a)
    settle(clock, 2)
    before, uptime = older(a.disk), clock.seconds()
    settle(clock, 15)
    for number in range(1, 4):
        register(a, discovery_id, f"n{number}:1")
    settle(clock, 600)
    a = a.restart(before, booted=clock.seconds() - uptime)
    settle(clock, 20)
    assert register(a, discovery_id, "n1:1") == ["n1:1", "n2:1", "n3:1"]


def test_an_owner_on_an_older_disk_recovers_the_newest_version_that_any_peer_has(three: Three, clock: Clock) -> None:
    network, (a, b, c) = three
    discovery_id = create_id(a)
    before = older(a.disk)
    create_id(a)
    network.split("b")
    settle(clock, 3)
    assert register(a, discovery_id, "n1:1") == ["n1:1"]
    a.stop()
    network.heal()
    network.split("c")
    a = a.restart(before)
    settle(clock, 3)
    network.heal()
    settle(clock, 5)
    assert listed(a, discovery_id) == listed(b, discovery_id) == listed(c, discovery_id) == ["n1:1"]
    assert register(a, discovery_id, "n2:1") == ["n1:1", "n2:1"]


def test_a_hint_for_an_id_that_the_owner_has_yet_to_recover_is_not_lost(three: Three, clock: Clock) -> None:
    network, (a, b, _) = three
    before = older(a.disk)
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    a.stop()
    settle(clock, 3)
    assert register(b, discovery_id, "n2:1") == ["n1:1", "n2:1"]
    network.split("a")
    a = a.restart(before)
    # It gets a query before it sends one.
    a.backend.driver.stopService()
    network.heal()
    settle(clock, 3)
    a = a.restart()
    settle(clock, 5)
    assert listed(a, discovery_id) == ["n1:1", "n2:1"]


def test_an_owner_on_an_older_disk_that_creates_ids_and_restarts_again_bootstraps_no_second_cluster(
    three: Three, clock: Clock
) -> None:
    network, (a, _, _) = three
    discovery_id = create_id(a)
    settle(clock, 1)
    before = older(a.disk)
    assert go(a.directory.register(discovery_id, Node(addr="n1:1"), None)).bootstrap == "granted"
    settle(clock, 40)
    a.stop()
    network.split("a")
    a = a.restart(before)
    create_id(a)
    a = a.restart()
    network.heal()
    settle(clock, 10)
    asked = Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr="n2:1"), None))
    settle(clock, 5)
    assert [node.addr for node in result(asked).listed] == ["n1:1", "n2:1"]


def test_an_owner_on_an_older_disk_denies_no_id_before_it_reached_all_others(three: Three, clock: Clock) -> None:
    network, (a, b, c) = three
    create_id(a)
    before = older(a.disk)
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    settle(clock, 1)
    network.split("a")
    a = a.restart(before)
    with pytest.raises(Undecided):
        register(a, discovery_id, "n2:1")
    with pytest.raises(Undecided):
        go(a.directory.look_up(discovery_id))
    network.heal()
    settle(clock, 5)
    assert register(a, discovery_id, "n2:1") == ["n1:1", "n2:1"]
    nobodys = f"{a.owner[:4]}0000-0000-8000-8000-000000000000"
    for each in (a, b, c):
        with pytest.raises(NoSuchID):
            go(each.directory.look_up(nobodys))


@pytest.fixture
def behind(three: Three, clock: Clock) -> tuple[GossipDaemon, GossipDaemon]:
    """An owner on an older disk, whose writes stall, in contact with its peers; and one of these. It
    lacks the name `orders`, under which the node n1:1 was told to bootstrap.
    """
    network, daemons = three
    owner = next(each for each in daemons if each.members.owner_of_name("orders") == each.owner)
    other = daemons[daemons.index(owner) - 1]
    before = older(owner.disk)
    go(owner.directory.create_named("orders"))
    assert register(owner, "orders", "n1:1") == ["n1:1"]
    settle(clock, 2)
    network.split(owner.name)
    owner = owner.restart(before)
    settle(clock, 0.5)
    owner.threads.hold = True
    network.heal()
    while not (owner.is_converged and other.is_converged):
        clock.advance(0.1)
    assert not owner.is_ready
    return owner, other


def continue_writing(daemon: GossipDaemon, clock: Clock) -> None:
    daemon.threads.hold = False
    daemon.threads.release_all()
    settle(clock, 5)


def test_an_import_replaces_no_id_that_the_daemon_has_yet_to_recover(
    behind: tuple[GossipDaemon, GossipDaemon], clock: Clock
) -> None:
    owner, _ = behind
    importing = Deferred.fromCoroutine(owner.directory.adopt(TransferredRecord(id="orders", created_at=1), as_own=True))
    continue_writing(owner, clock)
    with pytest.raises(ImportConflict):
        result(importing)
    assert register(owner, "orders", "x:1") == ["n1:1", "x:1"]


def test_a_name_that_its_owner_has_yet_to_recover_is_listed_by_its_peers_and_denied_by_nobody(
    behind: tuple[GossipDaemon, GossipDaemon], clock: Clock
) -> None:
    owner, other = behind
    assert wait(clock, other.directory.register("orders", Node(addr="n2:1"), None), 1).on_behalf
    for change in (other.directory.remove("orders", "n1:1"), other.directory.look_up_at_owner("orders")):
        with pytest.raises(Undecided):
            wait(clock, change, 1)
    continue_writing(owner, clock)
    assert listed(owner, "orders") == ["n1:1", "n2:1"]
