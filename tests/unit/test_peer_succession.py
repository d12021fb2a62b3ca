"""Several daemons: a lost one is forgotten, once all others agree (R7)."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from rqdisco.backends.gossip.core.messages import SuccessionProposal
from rqdisco.backends.gossip.core.peer_errors import BadMessage
from rqdisco.core.errors import NoSuccessor, Ownerless
from tests.support.daemon import result
from tests.support.gossip import Three, create_id, go, register, settle, trio, wait


def test_a_lost_daemon_is_forgotten_when_all_agree_and_its_ids_never_bootstrap_again(
    three: Three, clock: Clock, logged_errors: list[Any]
) -> None:
    _network, (a, b, c) = three
    led, empty = create_id(a), create_id(a)
    register(a, led, "n1:1")
    a.stop()
    settle(clock, 3)
    with pytest.raises(NoSuccessor, match="no peer is called x"):
        wait(clock, b.forget("x"))
    assert wait(clock, b.forget("a")) == 2
    settle(clock, 3)
    assert register(c, led, "n2:1") == ["n1:1", "n2:1"]
    with pytest.raises(Ownerless):
        register(c, empty, "n1:1")
    back = a.restart()
    settle(clock, 3)
    assert back.objection is not None
    logged_errors.clear()


def test_a_peer_that_does_not_answer_cannot_agree(three: Three, clock: Clock) -> None:
    network, (a, b, c) = three
    a.stop()
    network.split("c")
    settle(clock, 3)
    with pytest.raises(NoSuccessor, match=f"^c must agree, .*forget {c.owner} first if it is lost too"):
        wait(clock, b.forget("a"))
    network.heal()
    settle(clock, 3)
    assert wait(clock, b.forget("a")) == 0


def test_a_daemon_that_answers_is_not_forgotten(three: Three, clock: Clock) -> None:
    _, (_, b, _) = three
    with pytest.raises(NoSuccessor, match="drain a peer"):
        wait(clock, b.forget("a"))


def test_a_daemon_lost_while_it_drained_is_forgotten_although_its_successor_is_lost_too(
    three: Three, clock: Clock
) -> None:
    network, (a, b, c) = three
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    network.cut.add(("a", "b"))
    with pytest.raises(NoSuccessor, match="try again"):
        wait(clock, a.drain("b"))
    network.heal()
    settle(clock, 3)
    a.stop()
    b.stop()
    settle(clock, 3)
    with pytest.raises(NoSuccessor, match="by b: repeat the command there"):
        wait(clock, c.forget("a"))
    assert wait(clock, c.forget("b")) == 0
    assert wait(clock, c.forget("a")) == 1
    assert register(c, discovery_id, "n2:1") == ["n1:1", "n2:1"]


def test_two_lost_daemons_declared_lost_at_two_others_are_both_forgotten(clock: Clock) -> None:
    _network, (a, b, c, d) = trio(clock, "abcd")
    c.stop()
    d.stop()
    settle(clock, 5)
    with pytest.raises(NoSuccessor, match="d must agree"):
        wait(clock, a.forget("c"))
    assert wait(clock, b.forget("d")) == 0, "a was told of c"
    assert wait(clock, a.forget("c")) == 0
    settle(clock, 3)
    for daemon in (a, b):
        assert sorted(each.name for each in daemon.members.active) == ["a", "b"]
        daemon.stop()


def test_a_daemon_agrees_only_to_what_it_still_knows_after_a_restart(three: Three, clock: Clock) -> None:
    network, (a, b, c) = three
    lost, proposal = c.owner, SuccessionProposal(incarnation=c.owner, successor=a.owner)
    c.stop()
    settle(clock, 3)
    network.split("b")
    b.disk.room = 0
    with pytest.raises(BadMessage):
        result(a.send(b, "agree", proposal))
    with pytest.raises(BadMessage):
        result(a.send(b, "agree", proposal))
    b.disk.room = None
    assert result(a.send(b, "agree", proposal)).successor == a.owner
    b = b.restart()
    member = b.members.get(lost)
    assert member is not None
    assert (member.state, member.successor) == ("leaving", a.owner)


def test_a_peer_that_refuses_to_agree_is_quoted(three: Three, clock: Clock) -> None:
    _network, (a, b, c) = three
    c.stop()
    settle(clock, 3)
    go(b.directory.freeze("a migration"))
    with pytest.raises(NoSuccessor, match=r"^b must agree, and does not: a migration$"):
        wait(clock, a.forget("c"))
    go(b.directory.thaw())
    b.disk.room = 0
    with pytest.raises(NoSuccessor, match=r"^b must agree, and does not: no space left on device$"):
        wait(clock, a.forget("c"))
    b.disk.room = None
    b.stop()
    with pytest.raises(NoSuccessor, match=r"^b must agree, and does not answer: "):
        wait(clock, a.forget("c"))
