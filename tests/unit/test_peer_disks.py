"""Homes whose disks refuse, stall or are older ones, and what their peers hold of that meanwhile."""

from __future__ import annotations

import copy
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.codec import decode_put
from rqdisco.errors import StoreUnavailable
from rqdisco.records import Node
from tests.support.daemon import result
from tests.support.disk import ModelDisk
from tests.support.peered import DirectNetwork, PeeredDaemon, settle, trio


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def three(clock: Clock) -> Iterator[tuple[DirectNetwork, list[PeeredDaemon]]]:
    network, daemons = trio(clock)
    yield network, daemons
    for daemon in network.daemons.values():
        daemon.stop()


Three = tuple[DirectNetwork, list[PeeredDaemon]]


def begin(coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
    return Deferred.fromCoroutine(coroutine)


def mint(daemon: PeeredDaemon) -> str:
    discovery_id: str = result(begin(daemon.directory.create())).id
    return discovery_id


def register(daemon: PeeredDaemon, discovery_id: str, addr: str) -> Deferred[Any]:
    return begin(daemon.directory.register(discovery_id, Node(addr=addr)))


def listed(daemon: PeeredDaemon, discovery_id: str) -> list[str]:
    return [node.addr for node in result(begin(daemon.directory.look_up(discovery_id))).nodes]


def refused(deferred: Deferred[Any]) -> bool:
    with pytest.raises(StoreUnavailable):
        result(deferred)
    return True


def test_a_home_on_an_older_disk_that_minted_before_it_was_started_again_seeds_no_second_cluster(
    three: Three, clock: Clock
) -> None:
    network, (a, _, _) = three
    discovery_id = mint(a)
    settle(clock, 1)
    older = _copied(a.disk)
    assert result(register(a, discovery_id, "n1:1")).alone == "granted"
    settle(clock, 40)
    a.stop()
    network.split("a")
    a = a.restart(older)
    mint(a)
    a = a.restart()
    network.heal()
    settle(clock, 10)
    registering = register(a, discovery_id, "n2:1")
    settle(clock, 5)
    assert [node.addr for node in result(registering).listed] == ["n1:1", "n2:1"]


def test_what_was_told_and_refused_is_put_right_though_something_newer_was_refused_with_it(
    three: Three, clock: Clock
) -> None:
    _, (a, b, c) = three
    discovery_id = mint(a)
    register(a, discovery_id, "n1:1")
    settle(clock, 3)
    a.threads.hold = True
    told = register(a, discovery_id, "n2:1")
    assert listed(b, discovery_id) == ["n1:1", "n2:1"]
    over_it = register(a, discovery_id, "n3:1")
    a.disk.room = 0
    a.threads.hold = False
    a.threads.release_all()
    assert refused(told)
    assert refused(over_it)
    a.disk.room = None
    settle(clock, 5)
    assert listed(a, discovery_id) == listed(b, discovery_id) == listed(c, discovery_id) == ["n1:1"]


def test_what_was_told_and_refused_is_put_right_with_the_first_change_that_the_disk_takes(
    three: Three, clock: Clock
) -> None:
    _, (a, b, _) = three
    discovery_id = mint(a)
    register(a, discovery_id, "n1:1")
    settle(clock, 3)
    a.disk.room = 0
    assert refused(register(a, discovery_id, "n2:1"))
    assert listed(b, discovery_id) == ["n1:1", "n2:1"]
    a.disk.room = None
    mint(a)
    a = a.restart()
    settle(clock, 10)
    assert listed(a, discovery_id) == listed(b, discovery_id) == ["n1:1"]


def test_a_disk_that_stalls_puts_nobody_in_doubt(three: Three, clock: Clock) -> None:
    _, (a, b, _) = three
    discovery_id = mint(a)
    register(a, discovery_id, "n1:1")
    settle(clock, 90)
    a.threads.hold = True
    removing = begin(a.directory.remove(discovery_id, "n1:1"))
    registering = register(a, discovery_id, "n2:1")
    for _ in range(20):
        clock.advance(0.1)
        assert a.peered.peers.standing.is_established
    a.threads.hold = False
    a.threads.release_all()
    settle(clock, 5)
    assert result(removing).removed
    assert result(registering).alone == "granted"
    assert listed(b, discovery_id) == ["n2:1"]


def test_a_refused_change_keeps_nobody_from_naming_a_new_key(three: Three, clock: Clock) -> None:
    _, (a, b, _) = three
    mint(a)
    settle(clock, 90)
    a.disk.room = 0
    assert refused(begin(a.directory.create()))
    settle(clock, 2)
    a.disk.room = None
    settle(clock, 5)
    assert b.peered.peers.agreement.is_whole()
    claiming = begin(b.directory.claim("name", decode_put(b'{"addr": "n1:2"}')))
    settle(clock, 2)
    assert result(claiming).won


def test_a_node_that_asks_again_and_again_has_one_hint(three: Three, clock: Clock) -> None:
    _, (a, b, c) = three
    discovery_id = mint(a)
    register(a, discovery_id, "n1:1")
    settle(clock, 40)
    c.stop()
    a = a.restart()
    settle(clock, 5)
    for _ in range(5):
        registering = register(b, discovery_id, "n2:1")
        settle(clock, 2)
        assert [node.addr for node in result(registering).listed] == ["n1:1", "n2:1"]
    assert b.peered.book.count == 1


def _copied(disk: ModelDisk) -> ModelDisk:
    before, disk.before = disk.before, print
    older = ModelDisk.__new__(ModelDisk)
    kept = copy.deepcopy({key: value for key, value in disk.__dict__.items() if key != "before"})
    older.__dict__.update({**kept, "locked": set(), "before": lambda operation: None})
    disk.before = before
    return older
