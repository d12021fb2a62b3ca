"""Several daemons: a lost one is forgotten, and another takes its IDs over (R7)."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.gossip.core.messages import SuccessionProposal
from rqdisco.backends.gossip.core.peer_errors import BadMessage
from rqdisco.core.errors import NoSuccessor, Ownerless, StoreUnavailable, Undecided
from rqdisco.core.records import Node
from tests.support.daemon import result
from tests.support.disk import ModelDisk
from tests.support.gossip import GossipDaemon, Three, create_id, go, listed, older, register, settle, trio, wait


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
    network.split("a")
    settle(clock, 3)
    c.disk.room = 0
    with pytest.raises(NoSuccessor, match=r"^c must agree"):
        wait(clock, b.forget("a"))
    c.disk.room = None
    network.heal()
    settle(clock, 3)
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
    network, (a, b, c) = three
    discovery_id = create_id(a)
    settle(clock, 2)
    network.split("a")
    settle(clock, 3)
    c.disk.room = 0
    with pytest.raises(NoSuccessor, match=r"^c must agree"):
        wait(clock, b.forget("a"))
    c.disk.room = None
    network.heal()
    settle(clock, 3)
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
