"""Several daemons: one that came back with an empty disk is another one, and what it lost stays lost
(R7).
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from rqdisco.core.errors import NoSuccessor, Ownerless, Undecided
from tests.support.disk import ModelDisk
from tests.support.gossip import GossipDaemon, Three, create_id, go, register, settle, wait


def test_a_daemon_with_an_emptied_disk_does_not_speak_for_the_lost_one(three: Three, clock: Clock) -> None:
    network, (a, b, c) = three
    discovery_id, empty = create_id(a), create_id(c)
    register(a, discovery_id, "n1:1")
    network.split("a")
    settle(clock, 3)
    assert register(c, discovery_id, "n2:1") == ["n1:1", "n2:1"], "known to nobody but c, whose disk is lost then"
    lost = c.owner
    c = c.restart(ModelDisk())
    network.heal()
    settle(clock, 20)
    assert c.owner != lost
    assert not a.reaches(lost)
    contact = a.contact(lost)
    assert contact is not None
    assert contact > 20
    go(a.directory.remove(discovery_id, "n1:1"))
    with pytest.raises(Undecided):
        register(a, discovery_id, "n3:1")
    a = a.restart()
    settle(clock, 10)
    assert a.unconfirmed == [lost]
    assert wait(clock, b.forget("c")) == 1
    settle(clock, 3)
    assert register(a, discovery_id, "n3:1") == ["n3:1"]
    with pytest.raises(Ownerless):
        register(c, empty, "n1:1")


def test_a_daemon_that_came_back_empty_is_not_mistaken_for_its_former_self(three: Three, clock: Clock) -> None:
    _network, (a, b, _c) = three
    discovery_id, lost = create_id(a), a.owner
    a = a.restart(ModelDisk())
    settle(clock, 10)
    assert a.owner != lost
    assert not b.reaches(lost)
    assert b.reaches(a.owner)
    assert wait(clock, b.forget("a")) == 1
    with pytest.raises(Ownerless):
        register(a, discovery_id, "n1:1")


@pytest.mark.parametrize("seed", range(4))
def test_a_daemon_that_came_back_empty_and_is_cut_off_is_not_forgotten_for_its_former_self(
    three: Three, clock: Clock, seed: int
) -> None:
    network, (a, b, c) = three
    lost = c.owner
    c.stop()
    c = GossipDaemon(network, "c", ["a"], seed=seed + 1)
    settle(clock, 5)
    network.split("c")
    settle(clock, 3)
    with pytest.raises(NoSuccessor, match=f"no daemon called c answers.*{lost}"):
        wait(clock, a.forget("c"))
    with pytest.raises(NoSuccessor, match=r"^c .*must agree"):
        wait(clock, b.forget(lost))
    network.heal()
    settle(clock, 5)
    wait(clock, b.forget("c"))
    network.split("c")
    settle(clock, 3)
    with pytest.raises(NoSuccessor, match="no daemon called c answers"):
        wait(clock, b.forget("c"))
    network.heal()
    settle(clock, 5)
    states = {each.incarnation: each.state for each in a.members.all}
    assert (states[lost], states[c.owner]) == ("forgotten", "member")
    assert register(c, create_id(a), "n1:1") == ["n1:1"]
    assert register(a, create_id(c), "n1:1") == ["n1:1"]


def test_a_daemon_lost_twice_is_forgotten_where_it_runs_itself(three: Three, clock: Clock) -> None:
    _network, (_a, _b, c) = three
    create_id(c)
    for _ in range(2):
        c = c.restart(ModelDisk())
        settle(clock, 5)
    assert sorted(wait(clock, c.forget("c")) for _ in range(2)) == [0, 1]


def test_a_daemon_lost_twice_that_does_not_return_is_forgotten_by_its_incarnations(three: Three, clock: Clock) -> None:
    network, (a, _, c) = three
    once = c.owner
    c.stop()
    c = GossipDaemon(network, "c", ["a"], seed=1)
    settle(clock, 5)
    discovery_id, twice = create_id(c), c.owner
    settle(clock, 1)
    c.stop()
    settle(clock, 3)
    with pytest.raises(NoSuccessor, match=r"^c .*must agree"):
        wait(clock, a.forget(once))
    assert wait(clock, a.forget(twice)) == 1
    assert wait(clock, a.forget(once)) == 0
    settle(clock, 3)
    with pytest.raises(Ownerless):
        register(a, discovery_id, "n1:1")


def test_lost_daemons_need_not_agree_that_others_are_lost(three: Three, clock: Clock, logged_errors: list[Any]) -> None:
    _network, (a, b, c) = three
    of_a, of_c = create_id(a), create_id(c)
    register(a, of_a, "n1:1")
    register(c, of_c, "n1:1")
    a, c = a.restart(ModelDisk()), c.restart(ModelDisk())
    settle(clock, 5)
    c = c.restart(ModelDisk())
    settle(clock, 5)
    with pytest.raises(NoSuccessor, match=r"^c .*must agree"):
        wait(clock, b.forget("a"))
    # In any order; of the two that were lost as c only one had an ID.
    counts = [wait(clock, b.forget(name)) for name in ("c", "a", "c")]
    assert sorted(counts) == [0, 1, 1]
    settle(clock, 3)
    assert register(a, of_a, "n2:1") == ["n1:1", "n2:1"]
    assert register(c, of_c, "n2:1") == ["n1:1", "n2:1"]
    logged_errors.clear()


def test_what_was_handed_over_to_a_daemon_that_is_lost_then_is_lost_too(three: Three, clock: Clock) -> None:
    network, (a, b, c) = three
    discovery_id = create_id(c)
    settle(clock, 2)
    network.split("a")
    settle(clock, 3)
    assert wait(clock, c.drain("b")) == "b"
    # Only b, which owns the ID now, knows that this node was told to bootstrap.
    assert register(b, discovery_id, "n1:1") == ["n1:1"]
    lost = b.owner
    b.restart(ModelDisk())
    network.heal()
    settle(clock, 5)
    wait(clock, a.forget(lost))
    settle(clock, 3)
    with pytest.raises(Ownerless):
        register(a, discovery_id, "n2:1")
    assert not a.directory.has_owner(go(a.directory.look_up(discovery_id)))
