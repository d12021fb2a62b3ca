"""Daemons that are forgotten, and that answer again, or come back, before that is done (R7)."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.core.errors import NoSuccessor
from tests.support.daemon import result
from tests.support.gossip import Three, create_id, go, listed, register, settle, wait


def fail_to_forget(three: Three, clock: Clock) -> None:
    """Forget the first daemon, which is only cut off, at the second one, while the third cannot agree;
    then the first one is back.
    """
    network, (_, b, c) = three
    network.split("a")
    settle(clock, 3)
    c.disk.room = 0
    with pytest.raises(NoSuccessor, match=r"^c must agree"):
        wait(clock, b.forget("a"))
    c.disk.room = None
    network.heal()
    settle(clock, 3)


def test_of_two_daemons_told_to_forget_a_lost_one_one_does_even_if_the_other_waits_for_its_disk(
    three: Three, clock: Clock
) -> None:
    _network, (a, b, c) = three
    discovery_id = create_id(c)
    settle(clock, 2)
    c.stop()
    settle(clock, 3)
    b.threads.hold = True
    at_b = Deferred.fromCoroutine(b.forget("c"))
    at_a = Deferred.fromCoroutine(a.forget("c"))
    clock.advance(0.1)
    b.threads.hold = False
    b.threads.release_all()
    with pytest.raises(NoSuccessor, match="c is being forgotten already, by a: repeat the command there"):
        result(at_b)
    settle(clock, 3)
    assert result(at_a) == 1
    for daemon in (a, b):
        record = daemon.store.settled(discovery_id)
        assert record is not None
        assert record.owner == a.owner


def test_a_daemon_that_answers_again_while_it_is_being_forgotten_stays(three: Three, clock: Clock) -> None:
    network, (a, b, c) = three
    discovery_id = create_id(a)
    settle(clock, 2)
    network.split("a")
    settle(clock, 3)
    has_answered: Deferred[None] = Deferred()
    network.held_answers["b", "pull"] = has_answered
    forgetting = Deferred.fromCoroutine(b.forget("a"))
    clock.advance(0.1)
    del network.held_answers["b", "pull"]
    network.heal()
    settle(clock, 3)
    has_answered.callback(None)
    with pytest.raises(NoSuccessor, match=r"^a answers again$"):
        result(forgetting)
    assert register(c, discovery_id, "n1:1") == ["n1:1"]


def test_a_daemon_that_comes_back_after_a_failed_attempt_to_forget_it_decides_on_also_after_a_restart(
    three: Three, clock: Clock
) -> None:
    network, (a, b, c) = three
    discovery_id, at_b = create_id(a), create_id(b)
    register(b, at_b, "n1:1")
    settle(clock, 2)
    fail_to_forget(three, clock)
    assert (a.members.own.state, a.members.own.successor) == ("leaving", b.owner)
    assert register(c, discovery_id, "n1:1") == ["n1:1"]
    for _ in range(2):
        a = a.restart()
        settle(clock, 5)
        assert a.objection is None
        assert register(b, discovery_id, "n1:1") == ["n1:1"]
    # It lists nodes for others like any daemon.
    network.split("b")
    settle(clock, 3)
    assert register(a, at_b, "n2:1") == ["n1:1", "n2:1"]
    network.heal()
    settle(clock, 3)
    # Removed for good after all, it hands over to the daemon that had tried.
    assert wait(clock, a.drain()) == "b"
    settle(clock, 2)
    a.stop()
    assert register(c, discovery_id, "n2:1") == ["n1:1", "n2:1"]


def test_a_daemon_that_was_lost_after_all_is_forgotten_by_the_repeated_command(three: Three, clock: Clock) -> None:
    _, (a, b, c) = three
    discovery_id = create_id(a)
    settle(clock, 2)
    fail_to_forget(three, clock)
    assert register(a, discovery_id, "n1:1") == ["n1:1"]
    settle(clock, 2)
    a.stop()
    settle(clock, 3)
    with pytest.raises(NoSuccessor, match="by b: repeat the command there"):
        wait(clock, c.forget("a"))
    assert wait(clock, b.forget("a")) == 1
    settle(clock, 3)
    assert go(c.directory.look_up(discovery_id)).ownerless
    assert register(c, discovery_id, "n2:1") == ["n1:1", "n2:1"]


def test_a_daemon_that_came_back_after_an_attempt_to_forget_it_must_agree_again(three: Three, clock: Clock) -> None:
    network, (a, b, c) = three
    discovery_id = create_id(c)
    register(c, discovery_id, "n1:1")
    settle(clock, 2)
    fail_to_forget(three, clock)
    network.cut |= {("b", "c"), ("c", "b")}
    assert register(a, discovery_id, "n2:1") == ["n1:1", "n2:1"]
    c.stop()
    network.cut |= {("a", "b"), ("b", "a")}
    settle(clock, 5)
    with pytest.raises(NoSuccessor, match=r"^a must agree, and does not answer"):
        wait(clock, b.forget("c"))
    network.heal()
    settle(clock, 3)
    wait(clock, b.forget("c"))
    settle(clock, 3)
    assert listed(a, discovery_id) == listed(b, discovery_id) == ["n1:1", "n2:1"]
