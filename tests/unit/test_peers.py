"""Several daemons, each rule by itself: real directories and journals, messages brought at once unless they are cut."""

from __future__ import annotations

import copy
from collections.abc import Coroutine, Iterator
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco import ids
from rqdisco.codec import decode_put
from rqdisco.errors import CannotSucceed, NoSuchID, Orphaned, StoreUnavailable, Undecided
from rqdisco.local import Limits
from rqdisco.peers.messages import Outcome, Pull, decode, encode
from rqdisco.records import Node, Put
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


def go(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return result(Deferred.fromCoroutine(coroutine))


def mint(daemon: PeeredDaemon) -> str:
    discovery_id: str = go(daemon.directory.create()).id
    return discovery_id


def register(daemon: PeeredDaemon, discovery_id: str, addr: str) -> list[str]:
    return [node.addr for node in go(daemon.directory.register(discovery_id, Node(addr=addr))).listed]


def listed(daemon: PeeredDaemon, discovery_id: str) -> list[str]:
    return [node.addr for node in go(daemon.directory.look_up(discovery_id)).nodes]


def wait(clock: Clock, coroutine: Coroutine[Any, Any, Any], seconds: float = 8) -> Any:
    waiting = Deferred.fromCoroutine(coroutine)
    settle(clock, seconds)
    return result(waiting)


def test_one_seed_is_enough_to_learn_of_all(three: Three) -> None:
    _, daemons = three
    assert all(len(daemon.peered.peers.peers) == 2 for daemon in daemons)
    assert all(daemon.peered.peers.agreement.is_whole() for daemon in daemons)


def test_a_change_is_everywhere_at_once(three: Three, clock: Clock) -> None:
    _, (a, b, c) = three
    discovery_id = mint(a)
    assert register(c, discovery_id, "n1:1") == ["n1:1"]
    settle(clock, 0.2)
    assert a.store.settled(discovery_id) == b.store.settled(discovery_id) == c.store.settled(discovery_id)


def test_an_id_that_has_not_come_here_yet_is_asked_for_where_it_was_minted(three: Three, clock: Clock) -> None:
    network, (a, _, c) = three
    c.threads.hold = True
    discovery_id = mint(a)
    assert c.store.settled(discovery_id) is None
    assert listed(c, discovery_id) == []
    assert register(c, discovery_id, "n1:1") == ["n1:1"]
    c.threads.hold = False
    c.threads.release_all()
    network.split("a")
    settle(clock, 3)
    other = mint(a)
    with pytest.raises(Undecided):
        go(c.directory.look_up(other))


def test_a_request_that_comes_after_its_caller_gave_up_is_not_carried_out(three: Three, clock: Clock) -> None:
    network, (a, b, _) = three
    discovery_id = mint(a)
    settle(clock, 2)
    assert register(b, discovery_id, "n1:1") == ["n1:1"]
    wait(clock, a.directory.remove(discovery_id, "n1:1"))
    body = next(body for _, _, verb, body in reversed(network.messages) if verb == "call")
    late = Deferred.fromCoroutine(a.peered.answers.serve(_session(b, a), "call", body))
    assert decode(result(late), Outcome).reason == "came too late"
    assert listed(a, discovery_id) == []


def _session(speaker: PeeredDaemon, listener: PeeredDaemon) -> str:
    link: Any = speaker.peered.peers.peers[listener.home]._link
    session: str = link._session
    return session


def test_an_id_of_nobody_is_unknown_without_a_question(three: Three) -> None:
    network, (_, _, c) = three
    network.messages.clear()
    for discovery_id in ("nobody", "00000000-0000-4000-8000-000000000000"):
        with pytest.raises(NoSuchID):
            go(c.directory.look_up(discovery_id))
    assert not [message for message in network.messages if message[2] == "call"]


def test_a_home_that_is_silent_is_stood_in_for_and_hears_of_it_once(three: Three, clock: Clock) -> None:
    network, (a, _, c) = three
    discovery_id = mint(a)
    register(a, discovery_id, "n1:1")
    network.split("a")
    settle(clock, 3)
    assert register(c, discovery_id, "n2:1") == ["n1:1", "n2:1"]
    assert register(c, discovery_id, "n3:1") == ["n1:1", "n2:1", "n3:1"], "own hints are listed"
    network.heal()
    settle(clock, 3)
    assert listed(a, discovery_id) == ["n1:1", "n2:1", "n3:1"]
    assert c.peered.book.count == 0
    go(a.directory.remove(discovery_id, "n3:1"))
    settle(clock, 3)
    assert listed(c, discovery_id) == ["n1:1", "n2:1"], "a hint brings nobody back"


def test_who_registers_again_after_its_removal_is_promised_nothing_by_a_hint_that_was_told_before(
    three: Three, clock: Clock
) -> None:
    network, (a, b, c) = three
    discovery_id = mint(a)
    register(a, discovery_id, "n1:1")
    network.split("a")
    settle(clock, 3)
    register(c, discovery_id, "n2:1")
    # The home takes the hint, and c cannot note that it did, nor learn what comes of it.
    c.disk.room = 0
    network.heal()
    settle(clock, 3)
    assert listed(a, discovery_id) == ["n1:1", "n2:1"]
    Deferred.fromCoroutine(a.directory.remove(discovery_id, "n2:1"))
    settle(clock, 3)
    network.split("a")
    settle(clock, 3)
    with pytest.raises(StoreUnavailable):
        register(c, discovery_id, "n2:1")
    assert register(b, discovery_id, "n2:1") == ["n1:1", "n2:1"]


def test_peers_have_a_change_while_the_disk_of_its_home_is_still_at_work(three: Three, clock: Clock) -> None:
    _, (a, b, c) = three
    discovery_id = mint(a)
    register(a, discovery_id, "n1:1")
    settle(clock, 1)
    a.threads.hold = True
    registering = Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr="n2:1")))
    assert listed(b, discovery_id) == listed(c, discovery_id) == ["n1:1", "n2:1"]
    assert not registering.called
    assert listed(a, discovery_id) == ["n1:1"], "the home shows what its own disk has"
    a.threads.hold = False
    a.threads.release_all()
    assert [node.addr for node in result(registering).listed] == ["n1:1", "n2:1"]


def test_what_the_disk_of_its_home_refused_is_put_right_at_peers(three: Three, clock: Clock) -> None:
    _, (a, b, c) = three
    discovery_id = mint(a)
    register(a, discovery_id, "n1:1")
    settle(clock, 1)
    a.disk.room = 0
    with pytest.raises(StoreUnavailable):
        register(a, discovery_id, "n2:1")
    with pytest.raises(StoreUnavailable):
        mint(a)
    assert listed(b, discovery_id) == ["n1:1", "n2:1"]
    a.disk.room = None
    settle(clock, 3)
    for daemon in (a, b, c):
        assert listed(daemon, discovery_id) == ["n1:1"]
    assert register(b, discovery_id, "n2:1") == ["n1:1", "n2:1"]
    settle(clock, 1)
    assert set(a.store.ids()) == set(b.store.ids()) == set(c.store.ids())


def test_a_home_that_is_killed_at_work_takes_from_its_peers_what_its_disk_never_got(three: Three, clock: Clock) -> None:
    network, (a, b, _) = three
    ids = [mint(a) for _ in range(20)]
    register(a, ids[0], "n1:1")
    settle(clock, 1)
    a.threads.hold = True
    Deferred.fromCoroutine(a.directory.register(ids[0], Node(addr="n2:1")))
    network.messages.clear()
    a = a.restart()
    settle(clock, 3)
    assert listed(a, ids[0]) == listed(b, ids[0]) == ["n1:1", "n2:1"]
    pushed = b"".join(body for sender, _, verb, body in network.messages if (sender, verb) == ("a", "push"))
    assert ids[0].encode() in pushed
    assert not any(each.encode() in pushed for each in ids[1:]), "the others stay as they are"


def test_a_home_that_was_stopped_before_its_last_change_was_told_grants_soon_after_its_start(
    three: Three, clock: Clock
) -> None:
    network, (a, _, _) = three
    discovery_id, other = mint(a), mint(a)
    network.cut |= {("a", "b"), ("a", "c")}
    Deferred.fromCoroutine(a.directory.register(other, Node(addr="n0:1"))).addErrback(lambda _: None)
    a.stop()
    network.heal()
    a = a.restart()
    while not a.peered.peers.standing.is_established:
        clock.advance(0.01)
    asked = Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr="n1:1")))
    settle(clock, 0.5)
    assert [node.addr for node in result(asked).listed] == ["n1:1"]


def test_a_version_that_a_peer_had_before_the_disk_is_not_given_out_again(three: Three, clock: Clock) -> None:
    _, (a, b, _) = three
    discovery_id = mint(a)
    register(a, discovery_id, "n1:1")
    settle(clock, 1)
    a.threads.hold = True
    Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr="n2:1")))
    known = b.store.settled(discovery_id)
    assert known is not None
    assert [node.addr for node in known.nodes] == ["n1:1", "n2:1"]
    clock.advance(-0.5)
    a = a.restart()
    assert a.peered.local.next_version() > known.version


def test_a_home_that_was_killed_right_after_a_grant_says_the_same_of_it_as_its_peers_when_it_grants_again(
    three: Three, clock: Clock, logged_errors: list[Any]
) -> None:
    network, (a, b, _) = three
    discovery_id = mint(a)
    a.threads.hold = True
    asked = Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr="n1:1")))
    network.cut |= {("a", "b"), ("a", "c")}
    a.threads.release()
    assert [node.addr for node in result(asked).listed] == ["n1:1"]
    a = a.restart()
    network.heal()
    settle(clock, 40)
    again = Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr="n1:1")))
    settle(clock, 1)
    assert result(again).alone == "granted"
    assert not [event for event in logged_errors if "different things" in event["log_format"]]
    assert b.store.settled(discovery_id) == a.store.settled(discovery_id)


def test_an_old_hello_that_somebody_repeats_fences_nobody(three: Three, clock: Clock) -> None:
    network, (a, _, _) = three
    old = [body for sender, receiver, verb, body in network.messages if (sender, receiver, verb) == ("a", "b", "hello")]
    a = a.restart()
    settle(clock, 3)
    a.peered.answers.greet(old[0])
    settle(clock, 3)
    assert a.peered.peers.standing.fenced is None
    mint(a)


def test_a_hint_outlives_a_restart_of_who_keeps_it(three: Three, clock: Clock) -> None:
    network, (a, _, c) = three
    discovery_id = mint(a)
    register(a, discovery_id, "n1:1")
    network.split("a")
    settle(clock, 3)
    register(c, discovery_id, "n2:1")
    c.restart()
    network.heal()
    settle(clock, 3)
    assert listed(a, discovery_id) == ["n1:1", "n2:1"]


def test_nobody_is_told_that_it_is_alone_but_by_the_home(three: Three, clock: Clock) -> None:
    network, (a, _, c) = three
    discovery_id = mint(a)
    network.split("a")
    settle(clock, 3)
    with pytest.raises(Undecided):
        register(c, discovery_id, "n1:1")
    assert register(a, discovery_id, "n1:1") == ["n1:1"], "if no peer is up the home goes on"


def test_who_may_just_have_been_told_that_it_is_alone_is_not_sent_elsewhere(three: Three, clock: Clock) -> None:
    network, (a, _, c) = three
    discovery_id = mint(a)
    register(a, discovery_id, "n1:1")
    register(a, discovery_id, "n2:1")
    network.split("a")
    settle(clock, 3)
    with pytest.raises(Undecided, match="store unavailable"):
        register(c, discovery_id, "n1:1")
    settle(clock, 30)
    assert register(c, discovery_id, "n1:1") == ["n1:1", "n2:1"]


def test_alone_again_needs_every_member_and_what_those_promised(three: Three, clock: Clock) -> None:
    network, (a, _, c) = three
    discovery_id = mint(a)
    register(a, discovery_id, "n1:1")
    settle(clock, 40)
    network.cut |= {("a", "c"), ("c", "a")}
    settle(clock, 3)
    assert register(c, discovery_id, "n2:1") == ["n1:1", "n2:1"]
    with pytest.raises(Undecided):
        register(a, discovery_id, "n1:1")
    network.heal()
    settle(clock, 1.5)
    assert register(a, discovery_id, "n1:1") == ["n1:1", "n2:1"], "c had sent n2 there"


def test_a_member_that_is_silent_keeps_an_emptied_list_from_seeding_again(three: Three, clock: Clock) -> None:
    network, (a, _, _) = three
    discovery_id = mint(a)
    register(a, discovery_id, "n1:1")
    go(a.directory.remove(discovery_id, "n1:1"))
    network.split("c")
    settle(clock, 3)
    with pytest.raises(Undecided):
        register(a, discovery_id, "n2:1")
    network.heal()
    settle(clock, 3)
    assert register(a, discovery_id, "n2:1") == ["n2:1"]


def test_a_grant_that_no_peer_has_in_time_is_revoked(three: Three, clock: Clock) -> None:
    network, (a, _b, _c) = three
    discovery_id = mint(a)
    network.silent |= {("a", "b"), ("a", "c")}
    with pytest.raises(Undecided):
        wait(clock, a.directory.register(discovery_id, Node(addr="n1:1")), 1.5)
    network.heal()
    settle(clock, 4)
    assert register(a, discovery_id, "n2:1") == ["n2:1"]


def test_where_an_acknowledgement_is_required_nobody_is_told_without_one(clock: Clock) -> None:
    _network, (a, b) = trio(clock, "ab", ack_required=True)
    discovery_id = mint(a)
    b.stop()
    settle(clock, 3)
    with pytest.raises(Undecided):
        register(a, discovery_id, "n1:1")
    a.stop()


def test_a_home_that_was_restarted_decides_nothing_old_before_it_heard_all(three: Three, clock: Clock) -> None:
    network, (a, _, _) = three
    discovery_id = mint(a)
    a.stop()
    network.cut |= {("a", "c"), ("c", "a")}
    a = a.restart()
    settle(clock, 3)
    with pytest.raises(Undecided):
        register(a, discovery_id, "n1:1")
    for daemon in (a, network.daemons["b"]):
        with pytest.raises(Undecided):
            go(daemon.directory.look_up_at_home(discovery_id))
    assert register(a, mint(a), "n9:1") == ["n9:1"], "what is new it knows all about"
    network.heal()
    settle(clock, 3)
    assert register(a, discovery_id, "n1:1") == ["n1:1"]


def test_a_home_on_an_older_disk_takes_back_what_its_peers_have(three: Three, clock: Clock) -> None:
    _network, (a, b, _) = three
    discovery_id = mint(a)
    older = _older(a.disk)
    register(a, discovery_id, "n1:1")
    a = a.restart(older)
    settle(clock, 3)
    assert listed(a, discovery_id) == ["n1:1"]
    assert register(a, discovery_id, "n2:1") == ["n1:1", "n2:1"]
    assert listed(b, discovery_id) == ["n1:1", "n2:1"]


def test_a_home_on_an_older_disk_takes_back_the_newest_that_any_peer_has(three: Three, clock: Clock) -> None:
    network, (a, b, c) = three
    discovery_id = mint(a)
    older = _older(a.disk)
    mint(a)
    network.split("b")
    settle(clock, 3)
    assert register(a, discovery_id, "n1:1") == ["n1:1"]
    a.stop()
    network.heal()
    network.split("c")
    a = a.restart(older)
    settle(clock, 3)
    network.heal()
    settle(clock, 5)
    assert listed(a, discovery_id) == listed(b, discovery_id) == listed(c, discovery_id) == ["n1:1"]
    assert register(a, discovery_id, "n2:1") == ["n1:1", "n2:1"]


def test_a_hint_for_an_id_that_the_home_has_yet_to_take_back_is_not_lost(three: Three, clock: Clock) -> None:
    network, (a, b, _) = three
    older = _older(a.disk)
    discovery_id = mint(a)
    register(a, discovery_id, "n1:1")
    a.stop()
    settle(clock, 3)
    assert register(b, discovery_id, "n2:1") == ["n1:1", "n2:1"]
    network.split("a")
    a = a.restart(older)
    # It is asked before it asks.
    a.peered.peers.stopService()
    network.heal()
    settle(clock, 3)
    a = a.restart()
    settle(clock, 5)
    assert listed(a, discovery_id) == ["n1:1", "n2:1"]


def _older(disk: ModelDisk) -> ModelDisk:
    older = ModelDisk.__new__(ModelDisk)
    disk.before = print  # a copy keeps no function of a test
    older.__dict__.update({**_copied(disk)})
    return older


def _copied(disk: ModelDisk) -> dict[str, Any]:
    copied = copy.deepcopy({key: value for key, value in disk.__dict__.items() if key != "before"})
    return {**copied, "locked": set(), "before": lambda operation: None}


def test_a_lost_daemon_is_forgotten_when_all_agree_and_its_ids_never_seed_again(
    three: Three, clock: Clock, logged_errors: list[Any]
) -> None:
    _network, (a, b, c) = three
    led, empty = mint(a), mint(a)
    register(a, led, "n1:1")
    a.stop()
    settle(clock, 3)
    with pytest.raises(CannotSucceed, match="no peer called x"):
        wait(clock, b.peered.successions.forget("x"))
    assert wait(clock, b.peered.successions.forget("a")) == 2
    settle(clock, 3)
    assert register(c, led, "n2:1") == ["n1:1", "n2:1"]
    with pytest.raises(Orphaned):
        register(c, empty, "n1:1")
    back = a.restart()
    settle(clock, 3)
    assert back.peered.peers.standing.objection is not None
    logged_errors.clear()


def test_who_comes_back_with_an_empty_disk_does_not_speak_for_the_daemon_that_was_lost(
    three: Three, clock: Clock
) -> None:
    network, (a, b, c) = three
    discovery_id, empty = mint(a), mint(c)
    register(a, discovery_id, "n1:1")
    network.split("a")
    settle(clock, 3)
    assert register(c, discovery_id, "n2:1") == ["n1:1", "n2:1"], "known to nobody but c, whose disk is lost then"
    lost = c.home
    c = c.restart(ModelDisk())
    network.heal()
    settle(clock, 20)
    assert c.home != lost
    assert not a.peered.peers.is_up(lost)
    contact = a.peered.peers.contact(lost)
    assert contact is not None
    assert contact > 20
    go(a.directory.remove(discovery_id, "n1:1"))
    with pytest.raises(Undecided):
        register(a, discovery_id, "n3:1")
    a = a.restart()
    settle(clock, 10)
    assert [each.incarnation for each in a.peered.peers.standing.missing] == [lost]
    assert wait(clock, b.peered.successions.forget("c")) == 1
    settle(clock, 3)
    assert register(a, discovery_id, "n3:1") == ["n3:1"]
    with pytest.raises(Orphaned):
        register(c, empty, "n1:1")


def test_a_peer_that_does_not_answer_cannot_agree(three: Three, clock: Clock) -> None:
    network, (a, b, _c) = three
    a.stop()
    network.split("c")
    settle(clock, 3)
    with pytest.raises(CannotSucceed, match="c must agree"):
        wait(clock, b.peered.successions.forget("a"))
    network.heal()
    settle(clock, 3)
    assert wait(clock, b.peered.successions.forget("a")) == 0


def test_a_daemon_that_came_back_empty_is_not_taken_for_the_one_it_was(three: Three, clock: Clock) -> None:
    _network, (a, b, _c) = three
    discovery_id, lost = mint(a), a.home
    a = a.restart(ModelDisk())
    settle(clock, 10)
    assert a.home != lost
    assert not b.peered.peers.is_up(lost)
    assert b.peered.peers.is_up(a.home)
    assert wait(clock, b.peered.successions.forget("a")) == 1
    with pytest.raises(Orphaned):
        register(a, discovery_id, "n1:1")


def test_daemons_that_are_lost_need_not_agree_that_others_are(
    three: Three, clock: Clock, logged_errors: list[Any]
) -> None:
    _network, (a, b, c) = three
    of_a, of_c = mint(a), mint(c)
    register(a, of_a, "n1:1")
    register(c, of_c, "n1:1")
    a, c = a.restart(ModelDisk()), c.restart(ModelDisk())
    settle(clock, 5)
    c = c.restart(ModelDisk())
    settle(clock, 5)
    with pytest.raises(CannotSucceed, match="c must agree"):
        wait(clock, b.peered.successions.forget("a"))
    # In any order; of the two that were lost as c only one had an ID.
    counts = [wait(clock, b.peered.successions.forget(name)) for name in ("c", "a", "c")]
    assert sorted(counts) == [0, 1, 1]
    settle(clock, 3)
    assert register(a, of_a, "n2:1") == ["n1:1", "n2:1"]
    assert register(c, of_c, "n2:1") == ["n1:1", "n2:1"]
    logged_errors.clear()


def test_a_daemon_that_answers_is_not_forgotten(three: Three, clock: Clock) -> None:
    _, (_, b, _) = three
    with pytest.raises(CannotSucceed, match="can be drained"):
        wait(clock, b.peered.successions.forget("a"))


def test_a_drained_daemon_leaves_all_rights_to_its_successor(three: Three, clock: Clock) -> None:
    _, (a, _b, c) = three
    led, empty = mint(a), mint(a)
    register(a, led, "n1:1")
    assert wait(clock, a.peered.successions.drain("b")) == "b"
    settle(clock, 2)
    a.stop()
    assert register(c, led, "n2:1") == ["n1:1", "n2:1"]
    assert register(c, empty, "n9:1") == ["n9:1"]


def test_a_drain_goes_on_when_its_successor_was_drained_itself(three: Three, clock: Clock) -> None:
    network, (a, b, c) = three
    discovery_id = mint(a)
    network.cut.add(("a", "b"))
    with pytest.raises(CannotSucceed, match="ask again"):
        wait(clock, a.peered.successions.drain("b"))
    network.heal()
    settle(clock, 3)
    assert wait(clock, b.peered.successions.drain("c")) == "c"
    assert wait(clock, a.peered.successions.drain(None)) == "c"
    settle(clock, 3)
    assert register(c, discovery_id, "n1:1") == ["n1:1"]


def test_a_daemon_that_was_lost_while_it_was_drained_is_forgotten_though_its_successor_is_lost_too(
    three: Three, clock: Clock
) -> None:
    network, (a, b, c) = three
    discovery_id = mint(a)
    register(a, discovery_id, "n1:1")
    network.cut.add(("a", "b"))
    with pytest.raises(CannotSucceed, match="ask again"):
        wait(clock, a.peered.successions.drain("b"))
    network.heal()
    settle(clock, 3)
    a.stop()
    b.stop()
    settle(clock, 3)
    with pytest.raises(CannotSucceed, match="by b: ask there"):
        wait(clock, c.peered.successions.forget("a"))
    assert wait(clock, c.peered.successions.forget("b")) == 0
    assert wait(clock, c.peered.successions.forget("a")) == 1
    assert register(c, discovery_id, "n2:1") == ["n1:1", "n2:1"]


def test_names_that_nobody_minted_have_one_home_and_none_while_a_member_is_silent(three: Three, clock: Clock) -> None:
    network, daemons = three
    homes = {daemon.peered.peers.members.home_of_name("prod") for daemon in daemons}
    assert len(homes) == 1
    network.split("c")
    settle(clock, 3)
    for daemon in daemons:
        with pytest.raises(Undecided):
            wait(clock, daemon.directory.report("prod", _put("n1")), 1.5)


def test_a_new_key_waits_for_what_is_on_its_way_here(three: Three, clock: Clock) -> None:
    _, (a, b, _) = three
    a.threads.hold = True
    minting = Deferred.fromCoroutine(a.directory.create())
    settle(clock, 1.5)
    claiming = Deferred.fromCoroutine(b.directory.claim("name", _put("n1")))
    assert not claiming.called, "b knows that a gives something out, which is not here"
    a.threads.hold = False
    a.threads.release_all()
    settle(clock, 0.2)
    assert result(claiming).won
    result(minting)


def _put(name: str) -> Any:
    return decode_put(b'{"id":"%s","api_addr":"http://%s:1","addr":"%s:2"}' % ((name.encode(),) * 3))


def test_an_id_that_a_member_minted_and_lost_is_not_made_anew_by_a_claim(three: Three) -> None:
    _network, (a, b, _) = three
    lost = ids.mint(a.home, a.random.randbytes)
    with pytest.raises(NoSuchID):
        go(b.directory.claim(lost, _put("n1:1")))


def _put(addr: str) -> Put:
    return Put(node=Node(addr=addr), value=addr)


def test_two_daemons_of_one_name_both_stop_deciding(three: Three, clock: Clock, logged_errors: list[Any]) -> None:
    network, (a, b, _c) = three
    twin = PeeredDaemon(network, "d", ["b"], seed=9, called="a")
    settle(clock, 6)
    assert a.peered.peers.standing.fenced == twin.peered.peers.standing.fenced == "two daemons are called a"
    with pytest.raises(Undecided):
        mint(a)
    with pytest.raises(Undecided):
        go(a.peered.local.claim("named", decode_put(b'{"addr": "n1:2"}')))
    assert b.peered.peers.standing.fenced is None
    settle(clock, 20)
    complaints = [event["log_source"] for event in logged_errors if "told apart" in event["log_format"]]
    assert len(complaints) == len(set(complaints)) == 2, "by both others, and not each second"
    twin.stop()
    logged_errors.clear()


def test_a_hello_of_before_a_restart_that_somebody_repeats_stops_nobody(three: Three, clock: Clock) -> None:
    """Whoever is on the way can keep a sealed hello, and send it to whom he likes, its own sender included."""
    network, (a, b, c) = three
    old = [body for sender, _, verb, body in network.messages if (sender, verb) == ("a", "hello")][-1]
    a = a.restart()
    settle(clock, 3)
    for daemon in (a, b, c):
        daemon.peered.answers.greet(old)
    settle(clock, 3)
    assert [daemon.peered.peers.standing.objection for daemon in (a, b, c)] == [None] * 3
    assert register(a, mint(a), "n1:1") == ["n1:1"]


def test_what_a_hello_says_is_believed_when_its_sender_is_heard_again(three: Three, clock: Clock) -> None:
    _, (a, b, _) = three
    moved = encode(msgspec.structs.replace(a.peered.peers.hello(), url="http://elsewhere"))
    session, _ = b.peered.answers.greet(moved)
    assert b.peered.peers.members.get(a.home).url == "http://a"
    go(b.peered.answers.serve(session, "pull", encode(Pull(home=b.home, after=0))))
    assert b.peered.peers.members.get(a.home).url == "http://elsewhere"


def test_a_twin_of_one_incarnation_that_greets_its_original_stops_both(
    three: Three, clock: Clock, logged_errors: list[Any]
) -> None:
    network, (a, *_) = three
    # It reaches nobody else, who would find out, too.
    network.cut |= {("d", name) for name in "bc"}
    twin = PeeredDaemon(network, "d", ["a"], seed=9, disk=copy.deepcopy(a.disk).kill(), called="a")
    settle(clock, 6)
    why = f"two daemons run as incarnation {a.home}"
    assert a.peered.peers.standing.fenced == twin.peered.peers.standing.fenced == why
    twin.stop()
    logged_errors.clear()


def test_nothing_is_said_twice_where_nothing_happens(three: Three, clock: Clock) -> None:
    network, (a, _, _) = three
    mint(a)
    settle(clock, 3)
    network.messages.clear()
    settle(clock, 10)
    assert {message[2] for message in network.messages} == {"digest"}
    assert len(network.messages) <= 10 * 3 * 1.3


def test_who_is_cut_off_from_all_says_so_and_says_when_it_is_over(
    three: Three, clock: Clock, log: list[dict[str, Any]]
) -> None:
    network, (_, _, c) = three

    def said() -> list[str]:
        return [event["log_format"] for event in log if event.get("log_source") is c.peered.peers]

    network.split("c")
    settle(clock, 3)
    assert said() == ["peers do not agree, or one of them is silent"]
    network.heal()
    settle(clock, 3)
    assert said()[1:] == ["peers agree"]


def test_who_has_not_met_anybody_yet_cannot_say_that_an_id_does_not_exist(three: Three, clock: Clock) -> None:
    network, (a, _, c) = three
    discovery_id = mint(c)
    register(c, discovery_id, "n1:1")
    network.split("c")
    c = c.restart(ModelDisk())
    with pytest.raises(Undecided):
        register(c, discovery_id, "n2:1")
    with pytest.raises(NoSuchID):
        register(c, "never-minted", "n2:1")
    network.heal()
    settle(clock, 3)
    assert register(c, discovery_id, "n2:1") == ["n1:1", "n2:1"]
    with pytest.raises(NoSuchID):
        register(c, mint(a)[:-1] + "x", "n2:1")


def test_a_window_of_nothing_is_passed_on_to_copies(clock: Clock) -> None:
    network, (a, b) = trio(clock, "ab", limits=Limits(window_ms=0))
    discovery_id = mint(a)
    register(a, discovery_id, "n1:1")
    register(a, discovery_id, "n2:1")
    network.split("a")
    settle(clock, 3)
    assert register(b, discovery_id, "n1:1") == ["n1:1", "n2:1"]
    for daemon in (a, b):
        daemon.stop()
