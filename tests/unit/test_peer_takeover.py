"""Several daemons: a successor takes the IDs of a lost one over, whatever its disk does (R7)."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.core.errors import NoSuccessor, StoreUnavailable
from rqdisco.core.records import Node
from tests.support.daemon import result
from tests.support.gossip import GossipDaemon, Three, create_id, go, listed, older, register, settle, trio, wait


def test_a_successor_has_records_that_the_lost_daemon_itself_lacked_on_an_older_disk(
    three: Three, clock: Clock
) -> None:
    network, (a, b, c) = three
    before = [older(each.disk) for each in (a, b)]
    led = create_id(a)
    register(a, led, "n1:1")
    settle(clock, 2)
    network.split("c")
    apart = {("a", "b"), ("b", "a")}
    network.cut |= apart
    a, b = (each.restart(disk) for each, disk in zip((a, b), before, strict=True))
    network.cut -= apart
    settle(clock, 5)
    # What it creates now is newer than what it lacks, so that b assumes it has all.
    create_id(a)
    settle(clock, 2)
    a.stop()
    network.heal()
    GossipDaemon(network, "a", ["b"], seed=7)
    settle(clock, 5)
    assert listed(c, led) == ["n1:1"]
    wait(clock, b.forget("a"))
    settle(clock, 3)
    assert listed(b, led) == listed(c, led) == ["n1:1"]


def test_of_two_daemons_told_to_forget_a_lost_one_at_the_same_time_only_one_takes_its_ids(clock: Clock) -> None:
    network, daemons = trio(clock, "abcd")
    lost = daemons[3]
    discovery_id = create_id(lost)
    register(lost, discovery_id, "n1:1")
    settle(clock, 2)
    lost.stop()
    settle(clock, 3)
    first, wins, loses = sorted(daemons[:3], key=lambda each: each.owner)
    has_answered: Deferred[None] = Deferred()
    network.held_answers[loses.name, "pull"] = has_answered
    losing = Deferred.fromCoroutine(loses.forget("d"))
    del network.held_answers[loses.name, "pull"]
    assert go(wins.forget("d")) == 1
    has_answered.callback(None)
    settle(clock, 3)
    with pytest.raises(NoSuccessor, match="is being forgotten"):
        result(losing)
    owners = set()
    for daemon in (first, wins, loses):
        record = daemon.store.settled(discovery_id)
        assert record is not None
        owners.add((record.owner, len(record.previous_owners)))
    assert owners == {(wins.owner, 1)}


def test_a_node_whose_grant_is_in_doubt_is_read_nowhere_also_before_the_successor_has_stored_its_id(
    three: Three, clock: Clock
) -> None:
    network, (a, b, c) = three
    discovery_id = create_id(a)
    settle(clock, 2)
    network.swallowed.add(("a", "push"))
    asked = Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr="n1:1"), None))
    asked.addErrback(lambda _: None)
    clock.advance(0.1)
    # Both peers have the grant, and cannot know whether its node was answered.
    a.stop()
    settle(clock, 5)
    b.threads.hold = True
    forgetting = Deferred.fromCoroutine(b.forget("a"))
    while (record := b.store.newest(discovery_id)) is None or record.owner != b.owner:
        b.threads.release()
    settle(clock, 3)
    settled = b.store.settled(discovery_id)
    assert settled is not None
    assert settled.owner == a.owner
    for daemon in (b, c):
        view = wait(clock, daemon.directory.look_up_at_owner(discovery_id))
        assert view.nodes == ()
        assert view.ownerless
    b.threads.hold = False
    b.threads.release_all()
    assert result(forgetting) == 1
    settle(clock, 3)
    assert wait(clock, c.directory.look_up_at_owner(discovery_id)).nodes == ()


def test_a_fenced_daemon_takes_over_no_ids(three: Three, clock: Clock, logged_errors: list[Any]) -> None:
    _, (a, b, c) = three
    discovery_id = create_id(a)
    b.fence(c, "two daemons run as it")
    # a has not heard of that yet.
    with pytest.raises(NoSuccessor, match="two daemons run as it"):
        wait(clock, a.drain("b"))
    c.stop()
    settle(clock, 3)
    with pytest.raises(NoSuccessor, match="two daemons run as it"):
        wait(clock, b.forget("c"))
    b = b.restart()
    c = c.restart()
    settle(clock, 5)
    assert wait(clock, a.drain()) == "b"
    assert register(b, discovery_id, "n1:1") == ["n1:1"]
    logged_errors.clear()


def test_the_last_daemon_takes_over_after_a_restart_what_it_had_not_taken_yet(clock: Clock) -> None:
    _, (a, b) = trio(clock, "ab")
    discovery_id = create_id(b)
    register(b, discovery_id, "n1:1")
    settle(clock, 2)
    b.stop()
    settle(clock, 3)
    a.threads.hold = True
    forgetting = Deferred.fromCoroutine(a.forget("b"))
    while (record := a.store.newest(discovery_id)) is None or record.owner != a.owner:
        a.threads.release()
    assert not forgetting.called
    # It is killed while the disk takes the first IDs.
    a.seeds = ["b"]
    a = a.restart()
    settle(clock, 5)
    record = a.store.settled(discovery_id)
    assert record is not None
    assert record.owner == a.owner


def hold_until_forgotten(daemon: GossipDaemon, clock: Clock) -> None:
    """Let the disk of a daemon write everything before "forgotten", and hold that."""
    while not any(b"forgotten" in line for lines in daemon.threads.held_writes() for line in lines):
        if daemon.threads.held:
            daemon.threads.release()
        else:
            clock.advance(0.01)


def test_a_lost_daemon_is_forgotten_after_a_restart_too_if_the_disk_refused_to_store_it_at_first(clock: Clock) -> None:
    _network, (a, b) = trio(clock, "ab")
    discovery_id = create_id(b)
    settle(clock, 2)
    b.stop()
    settle(clock, 3)
    a.threads.hold = True
    forgetting = Deferred.fromCoroutine(a.forget("b"))
    hold_until_forgotten(a, clock)
    a.disk.room, a.threads.hold = 0, False
    a.threads.release_all()
    with pytest.raises(StoreUnavailable):
        result(forgetting)
    a.disk.room = None
    assert wait(clock, a.forget("b"), 0.5) == 1
    a = a.restart()
    settle(clock, 3)
    assert a.is_ready
    assert go(a.directory.look_up(discovery_id)).ownerless
    a.stop()


def test_forgetting_says_how_many_ids_it_took_over_on_a_slow_disk_too(three: Three, clock: Clock) -> None:
    _network, (a, _b, c) = three
    ids = [create_id(c) for _ in range(3)]
    settle(clock, 3)
    c.stop()
    settle(clock, 3)
    a.threads.hold = True
    forgetting = Deferred.fromCoroutine(a.forget("c"))
    hold_until_forgotten(a, clock)
    settle(clock, 3)
    for discovery_id in ids:
        record = a.store.newest(discovery_id)
        assert record is not None
        assert record.owner == c.owner, "nothing begins before that is durable"
    a.threads.hold = False
    a.threads.release_all()
    settle(clock, 1)
    assert result(forgetting) == 3
