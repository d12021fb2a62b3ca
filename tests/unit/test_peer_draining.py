"""Several daemons: one that leaves hands its IDs over (R7)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.gossip.core.messages import Delta, Hint, Hints, Page
from rqdisco.backends.gossip.core.peer_errors import BadMessage
from rqdisco.core import codec, records
from rqdisco.core.errors import NoSuccessor, Undecided
from rqdisco.core.records import Node
from tests.support.daemon import give_up, result
from tests.support.gossip import (
    DirectNetwork,
    GossipDaemon,
    Three,
    create_id,
    go,
    listed,
    older,
    register,
    settle,
    trio,
    wait,
)


def fail_to_drain(network: DirectNetwork, clock: Clock, daemon: GossipDaemon, successor: str) -> None:
    """Let a drain begin that fails, since the successor does not answer."""
    network.cut.add((daemon.name, successor))
    with pytest.raises(NoSuccessor, match=f"{successor} cannot take over yet"):
        wait(clock, daemon.drain(successor))
    network.heal()
    settle(clock, 3)


def test_a_drained_daemon_leaves_all_rights_to_its_successor(three: Three, clock: Clock) -> None:
    _, (a, _b, c) = three
    led, empty = create_id(a), create_id(a)
    register(a, led, "n1:1")
    assert wait(clock, a.drain("b")) == "b"
    settle(clock, 2)
    a.stop()
    assert register(c, led, "n2:1") == ["n1:1", "n2:1"]
    assert register(c, empty, "n9:1") == ["n9:1"]


def test_a_daemon_that_drains_says_by_name_who_takes_over_also_after_a_restart(three: Three, clock: Clock) -> None:
    network, (a, _b, _c) = three
    network.cut.add(("a", "b"))
    with pytest.raises(NoSuccessor, match="try again"):
        wait(clock, a.drain("b"))
    assert a.objection == "handed over to b"
    assert a.restart().objection == "handed over to b"


def test_a_drain_continues_when_its_successor_was_drained_itself(three: Three, clock: Clock) -> None:
    network, (a, b, c) = three
    discovery_id = create_id(a)
    network.cut.add(("a", "b"))
    with pytest.raises(NoSuccessor, match="try again"):
        wait(clock, a.drain("b"))
    network.heal()
    settle(clock, 3)
    assert wait(clock, b.drain("c")) == "c"
    assert wait(clock, a.drain(None)) == "c"
    settle(clock, 3)
    assert register(c, discovery_id, "n1:1") == ["n1:1"]


def test_a_drained_daemon_on_an_older_disk_keeps_no_hints_that_nobody_takes(
    three: Three, clock: Clock, logged_errors: list[Any]
) -> None:
    _network, (_a, b, c) = three
    discovery_id = create_id(c)
    register(c, discovery_id, "n1:1")
    settle(clock, 40)
    before = older(c.disk)
    wait(clock, c.drain("b"))
    c = c.restart(before)
    settle(clock, 5)
    with pytest.raises(Undecided):
        register(c, discovery_id, "n2:1")
    assert register(b, discovery_id, "n2:1") == ["n1:1", "n2:1"]
    logged_errors.clear()


def test_a_daemon_whose_chosen_successor_was_drained_to_it_decides_again(three: Three, clock: Clock) -> None:
    """Two drains cross: one fails after it has begun, the other ends."""
    network, (a, b, c) = three
    discovery_id = create_id(a)
    settle(clock, 2)
    c.stop()
    network.cut.add(("a", "b"))
    failing = Deferred.fromCoroutine(a.drain("b"))
    network.heal()
    assert wait(clock, b.drain("a")) == "a"
    with pytest.raises(NoSuccessor):
        result(failing)
    settle(clock, 3)
    assert a.objection is None
    again = a.restart()
    assert again.objection is None
    c.restart()
    settle(clock, 5)
    assert register(again, discovery_id, "n1:1") == ["n1:1"]


def test_of_two_daemons_that_drain_one_waits_for_the_other_also_after_a_restart(three: Three, clock: Clock) -> None:
    """The second one still has nodes for the first one, whose successor it is."""
    network, (a, b, c) = three
    discovery_id = create_id(c)
    register(c, discovery_id, "n1:1")
    settle(clock, 2)
    fail_to_drain(network, clock, c, "a")
    assert register(a, discovery_id, "n2:1") == ["n1:1", "n2:1"]
    with pytest.raises(NoSuccessor, match="registrations wait here for c, which is being drained too: repeat that"):
        wait(clock, a.drain("b"))
    a = a.restart()
    settle(clock, 5)
    assert wait(clock, c.drain()) == "a"
    assert wait(clock, a.drain()) == "b"
    settle(clock, 3)
    assert register(b, discovery_id, "n3:1") == ["n1:1", "n2:1", "n3:1"]


def test_a_daemon_that_handed_its_ids_over_takes_no_others_after_a_restart(three: Three, clock: Clock) -> None:
    """Its successor took what there was, and the answer was lost."""
    network, (a, b, c) = three
    discovery_id = create_id(c)
    register(c, discovery_id, "n1:1")
    settle(clock, 2)
    fail_to_drain(network, clock, c, "a")
    network.dropped.add(("a", "succeed"))
    with pytest.raises(NoSuccessor):
        wait(clock, a.drain("b"))
    a = a.restart()
    settle(clock, 5)
    with pytest.raises(NoSuccessor, match="this daemon hands its own IDs over"):
        wait(clock, c.drain())
    network.dropped.clear()
    assert wait(clock, a.drain()) == "b"
    settle(clock, 3)
    assert wait(clock, c.drain()) == "b"
    settle(clock, 3)
    assert register(b, discovery_id, "n2:1") == ["n1:1", "n2:1"]


def test_the_last_daemon_lists_what_it_answered_for_one_that_handed_over_meanwhile(clock: Clock) -> None:
    network, (a, b) = trio(clock, "ab")
    discovery_id = create_id(b)
    register(b, discovery_id, "n1:1")
    settle(clock, 2)
    network.swallowed.add(("a", "call"))
    registering = Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr="n2:1"), None))
    assert wait(clock, b.drain(), 2) == "a"
    settle(clock, 5)
    assert [node.addr for node in result(registering).listed] == ["n1:1", "n2:1"]
    assert a.hints == 0
    assert [node.addr for node in go(a.directory.look_up(discovery_id)).nodes] == ["n1:1", "n2:1"]


def test_of_two_daemons_that_drain_to_each_other_at_the_same_moment_one_takes_over(three: Three, clock: Clock) -> None:
    network, daemons = three
    first, second = sorted(daemons[:2], key=lambda each: each.owner)
    discovery_id = create_id(second)
    settle(clock, 2)
    network.dropped.add((second.name, "succeed"))
    with pytest.raises(NoSuccessor):
        wait(clock, second.drain(first.name))
    # The first one had not heard of that when it was drained.
    first.members.put(msgspec.structs.replace(second.members.own, state="member", successor=None))
    with pytest.raises(NoSuccessor, match="this daemon hands its own IDs over"):
        wait(clock, first.drain(second.name))
    network.dropped.clear()
    assert wait(clock, second.drain()) == first.name
    settle(clock, 3)
    assert wait(clock, first.drain()) == "c"
    settle(clock, 3)
    assert register(daemons[2], discovery_id, "n1:1") == ["n1:1"]


def test_no_drain_begins_towards_a_fenced_daemon(three: Three, clock: Clock, logged_errors: list[Any]) -> None:
    _, (a, b, c) = three
    b.fence(c, "two daemons run as it")
    settle(clock, 3)
    with pytest.raises(NoSuccessor, match="no peer that could take over"):
        wait(clock, a.drain("b"))
    assert a.objection is None
    assert wait(clock, a.drain()) == "c"
    logged_errors.clear()


def test_a_drain_whose_client_goes_at_once_has_the_same_effect_now_as_after_a_restart(
    three: Three, clock: Clock
) -> None:
    _, (a, b, c) = three
    discovery_id = create_id(a)
    a.threads.hold = True
    draining = Deferred.fromCoroutine(a.drain("b"))
    clock.advance(0)
    give_up(draining)
    a.threads.hold = False
    a.threads.release_all()
    for _ in range(2):
        settle(clock, 5)
        assert a.objection == "handed over to b"
        with pytest.raises(Undecided, match="handed over to b"):
            register(a, discovery_id, "n1:1")
        a = a.restart()
    settle(clock, 5)
    assert wait(clock, a.drain()) == "b"
    assert register(c, discovery_id, "n1:1") == ["n1:1"]
    assert register(b, discovery_id, "n2:1") == ["n1:1", "n2:1"]


def test_a_daemon_whose_successor_agreed_after_the_client_had_gone_is_drained(three: Three, clock: Clock) -> None:
    network, (a, b, _) = three
    agreed: Deferred[None] = Deferred()
    network.held_answers["a", "succeed"] = agreed
    draining = Deferred.fromCoroutine(a.drain("b"))
    clock.advance(0.1)
    assert a.state.is_handing_over
    give_up(draining)
    agreed.callback(None)
    settle(clock, 2)
    assert a.members.own.state == "drained"
    assert a.fences == []
    assert wait(clock, a.drain()) == "b"
    assert b.members.current_owner(a.owner) == b.owner


def test_a_second_drain_of_a_daemon_is_refused_until_the_successor_has_answered_the_first(
    three: Three, clock: Clock
) -> None:
    network, (a, _b, _) = three
    agreed: Deferred[None] = Deferred()
    network.held_answers["a", "succeed"] = agreed
    draining = Deferred.fromCoroutine(a.drain("b"))
    clock.advance(0.1)
    for is_waiting in (True, False):
        with pytest.raises(NoSuccessor, match="this daemon is being drained already"):
            go(a.drain())
        if is_waiting:
            give_up(draining)
    agreed.callback(None)
    settle(clock, 2)
    assert wait(clock, a.drain()) == "b"


def test_a_drain_is_repeated_after_the_answer_of_the_successor_was_lost(
    three: Three, clock: Clock, logged_errors: list[Any]
) -> None:
    network, (a, b, _c) = three
    discovery_id = create_id(a)
    settle(clock, 2)
    network.swallowed.add(("a", "succeed"))
    with pytest.raises(NoSuccessor, match="b cannot take over yet"):
        wait(clock, a.drain("b"))
    network.swallowed.clear()
    settle(clock, 10)
    assert wait(clock, a.drain()) == "b"
    a = a.restart()
    settle(clock, 3)
    assert wait(clock, a.drain()) == "b"
    assert register(b, discovery_id, "n1:1") == ["n1:1"]
    logged_errors.clear()


def test_a_node_kept_for_a_daemon_that_hands_its_ids_over_is_left_to_the_successor(three: Three, clock: Clock) -> None:
    network, (a, b, c) = three
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    settle(clock, 2)
    network.dropped.add(("a", "succeed"))
    with pytest.raises(NoSuccessor):
        wait(clock, a.drain("b"))
    before = a.store.newest(discovery_id)
    assert before is not None
    # The successor has taken over, and its records are here before anything else tells so.
    taken = records.with_new_owner(before, b.owner, version=before.version + 1, lost=False)
    delta = Delta(owner=b.owner, after=0, upto=taken.version, records=[msgspec.Raw(codec.encode_record(taken))])
    pushed, hint = b.send(a, "push", Page(delta=delta)), Hint(number=1, id=discovery_id, node=Node(addr="n2:1"))
    clock.advance(0)
    result(pushed)
    with pytest.raises(BadMessage, match="handed over to b"):
        result(c.send(a, "hints", Hints(owner=a.owner, of=a.owner, hints=(hint,))))
    assert not any(a.state.hints.added.values())


def drain_all_at_once(network: DirectNetwork, clock: Clock, daemons: list[GossipDaemon]) -> list[str]:
    """Drain three daemons, each to the next, so that each is asked after it has asked the next one.
    Return what each command answers.
    """
    draining, waiting = [], []
    successors = [*daemons[1:], daemons[0]]
    for daemon, successor in zip(daemons, successors, strict=True):
        daemon.threads.hold = True
        draining.append(Deferred.fromCoroutine(daemon.drain(successor.name)))
    for daemon, successor in zip(daemons, successors, strict=True):
        answered: Deferred[None] = Deferred()
        waiting.append(answered)
        network.held_answers[successor.name, "digest"] = answered
        daemon.threads.hold = False
        daemon.threads.release_all()
        clock.advance(0)
        del network.held_answers[successor.name, "digest"]
    assert all(each.state.is_handing_over for each in daemons)
    for answered in waiting:
        answered.callback(None)
    settle(clock, 5)
    return [str(result(each.addErrback(lambda failure: failure.value))) for each in draining]


def test_of_three_daemons_drained_at_once_each_to_the_next_one_gets_all_ids(three: Three, clock: Clock) -> None:
    network, daemons = three
    a, b, c = daemons
    ids = [create_id(each) for each in daemons]
    for discovery_id in ids:
        register(a, discovery_id, "n1:1")
    settle(clock, 2)
    assert drain_all_at_once(network, clock, daemons) == [
        "b cannot take over yet, try again: this daemon hands its own IDs over",
        "c cannot take over yet, try again: this daemon hands its own IDs over",
        "a",
    ]
    # Nobody agreed, and it decides again.
    assert a.objection is None
    assert register(a, ids[0], "n2:1") == ["n1:1", "n2:1"]
    for daemon in (c, b):
        assert wait(clock, daemon.drain()) == "a"
    with pytest.raises(NoSuccessor, match="no peer that could take over answers"):
        wait(clock, a.drain())
    again = a.restart()
    settle(clock, 3)
    assert again.objection is None
    assert [len(register(again, each, "n2:1")) for each in ids] == [2, 2, 2]


def test_two_daemons_that_keep_nodes_for_each_other_are_drained_one_after_the_other(three: Three, clock: Clock) -> None:
    network, (a, b, c) = three
    at_a, at_b = create_id(a), create_id(b)
    register(a, at_a, "n1:1")
    register(b, at_b, "n1:1")
    settle(clock, 2)
    network.cut |= {("a", "b"), ("b", "a")}
    settle(clock, 3)
    assert register(a, at_b, "n2:1") == register(b, at_a, "n2:1") == ["n1:1", "n2:1"]
    for daemon in (a, b):
        with pytest.raises(NoSuccessor, match=r"registrations wait here for [ab]: try again when it has taken them"):
            wait(clock, daemon.drain("c"))
    network.heal()
    settle(clock, 3)
    for daemon in (a, b):
        assert wait(clock, daemon.drain()) == "c"
    settle(clock, 3)
    assert listed(c, at_a) == listed(c, at_b) == ["n1:1", "n2:1"]
