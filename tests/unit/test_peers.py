"""Several daemons, each rule by itself: owners, copies and hints, members; messages are delivered
at once unless cut.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.gossip.core.messages import Call, decode_message
from rqdisco.backends.limits import Limits
from rqdisco.core import ids
from rqdisco.core.errors import NoSuchID, StoreUnavailable, Undecided
from rqdisco.core.records import Node, Put
from tests.support.daemon import result
from tests.support.disk import ModelDisk
from tests.support.gossip import GossipDaemon, Three, create_id, go, listed, register, settle, trio, wait


def test_one_seed_is_enough_to_meet_all_members(three: Three) -> None:
    _, daemons = three
    assert all(len(daemon.state.peers) == 2 for daemon in daemons)
    assert all(daemon.is_converged for daemon in daemons)


def test_a_change_is_everywhere_at_once(three: Three, clock: Clock) -> None:
    _, (a, b, c) = three
    discovery_id = create_id(a)
    assert register(c, discovery_id, "n1:1") == ["n1:1"]
    settle(clock, 0.2)
    assert a.store.settled(discovery_id) == b.store.settled(discovery_id) == c.store.settled(discovery_id)


def test_an_id_that_has_not_arrived_yet_is_looked_up_at_its_creator(three: Three, clock: Clock) -> None:
    network, (a, _, c) = three
    c.threads.hold = True
    discovery_id = create_id(a)
    assert c.store.settled(discovery_id) is None
    assert listed(c, discovery_id) == []
    assert register(c, discovery_id, "n1:1") == ["n1:1"]
    c.threads.hold = False
    c.threads.release_all()
    network.split("a")
    settle(clock, 3)
    other = create_id(a)
    with pytest.raises(Undecided):
        go(c.directory.look_up(other))


def test_a_registration_where_the_id_is_unknown_takes_one_message_to_the_owner(three: Three) -> None:
    network, (a, _, c) = three
    c.threads.hold = True
    discovery_id = create_id(a)
    network.messages.clear()
    assert register(c, discovery_id, "n1:1") == ["n1:1"]
    assert [(sender, to) for sender, to, verb, _ in network.messages if verb == "call"] == [("c", "a")]
    for unknown in (ids.new_id(a.owner, bytes), ids.new_id(c.owner, bytes)):
        network.messages.clear()
        with pytest.raises(NoSuchID):
            register(c, unknown, "n1:1")
        assert len([message for message in network.messages if message[2] == "call"]) == (unknown[:4] == a.owner[:4])
    c.threads.hold = False
    c.threads.release_all()


def test_a_request_that_arrives_after_its_caller_gave_up_is_not_carried_out(three: Three, clock: Clock) -> None:
    network, (a, b, _) = three
    discovery_id = create_id(a)
    settle(clock, 2)
    assert register(b, discovery_id, "n1:1") == ["n1:1"]
    wait(clock, a.directory.remove(discovery_id, "n1:1"))
    body = next(body for _, _, verb, body in reversed(network.messages) if verb == "call")
    assert result(b.send(a, "call", decode_message(body, Call))).reason == "came too late"
    assert listed(a, discovery_id) == []


@pytest.mark.parametrize("before", ["nothing", "a change", "an exchange"])
def test_a_node_that_asks_another_daemon_right_after_the_owners_host_booted_is_answered(
    three: Three, clock: Clock, before: str
) -> None:
    _network, (a, b, c) = three
    discovery_id = create_id(a)
    assert register(c, discovery_id, "n1:1") == ["n1:1"]
    settle(clock, 2)
    a = a.restart(boot_id="boot-b", booted=clock.seconds())
    if before == "a change":
        # It begins the session with the owner.
        create_id(c)
    elif before == "an exchange":
        settle(clock, 2)
    clock.pump([0.01] * 20)
    assert a.is_ready
    assert register(c, discovery_id, "n2:1") == ["n1:1", "n2:1"]
    assert listed(b, discovery_id) == ["n1:1", "n2:1"]


def test_an_id_with_an_unknown_tag_is_unknown_without_a_query(three: Three) -> None:
    network, (_, _, c) = three
    network.messages.clear()
    for discovery_id in ("nobody", "00000000-0000-4000-8000-000000000000"):
        with pytest.raises(NoSuchID):
            go(c.directory.look_up(discovery_id))
    assert not [message for message in network.messages if message[2] == "call"]


def test_peers_answer_for_an_unreachable_owner_which_gets_the_hint_once(three: Three, clock: Clock) -> None:
    network, (a, _, c) = three
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    network.split("a")
    settle(clock, 3)
    assert register(c, discovery_id, "n2:1") == ["n1:1", "n2:1"]
    assert register(c, discovery_id, "n3:1") == ["n1:1", "n2:1", "n3:1"], "own hints are listed"
    network.heal()
    settle(clock, 3)
    assert listed(a, discovery_id) == ["n1:1", "n2:1", "n3:1"]
    assert c.hints == 0
    go(a.directory.remove(discovery_id, "n3:1"))
    settle(clock, 3)
    assert listed(c, discovery_id) == ["n1:1", "n2:1"], "a hint restores nobody"


def test_the_log_of_an_owner_names_the_daemon_that_answered_on_its_behalf(
    three: Three, clock: Clock, log: list[dict[str, Any]]
) -> None:
    network, (a, _, c) = three
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    network.split("a")
    settle(clock, 3)
    register(c, discovery_id, "n2:1")
    network.heal()
    settle(clock, 3)
    (added,) = (event for event in log if event["log_format"] == "registrations from elsewhere added")
    assert (added["sender"], added["count"]) == (c.owner, 1)


def test_a_node_sent_to_a_list_after_it_was_emptied_is_in_the_log_of_the_owner(
    three: Three, clock: Clock, log: list[dict[str, Any]]
) -> None:
    network, (a, _, c) = three
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    network.split("c")
    settle(clock, 3)
    go(a.directory.remove(discovery_id, "n1:1"))
    assert register(c, discovery_id, "n2:1") == ["n1:1", "n2:1"]
    network.heal()
    settle(clock, 3)
    (warning,) = [event for event in log if "was emptied" in event["log_format"]]
    assert (warning["discovery_id"], warning["addr"]) == (discovery_id, "n2:1")
    assert register(a, discovery_id, "n2:1") == ["n2:1"], "it is the only one, so that it can still be granted"


def test_a_node_that_registers_again_after_its_removal_is_not_covered_by_an_older_hint(
    three: Three, clock: Clock
) -> None:
    network, (a, b, c) = three
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    network.split("a")
    settle(clock, 3)
    register(c, discovery_id, "n2:1")
    # The owner takes the hint, and c can neither record that nor learn what comes of it.
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


def test_a_hint_counts_although_the_clock_was_set_back_since_the_last_one(three: Three, clock: Clock) -> None:
    network, (a, _, c) = three
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    settle(clock, 40)
    for addr in ("n2:1", "n3:1"):
        network.split("a")
        settle(clock, 3)
        assert addr in register(c, discovery_id, addr)
        network.heal()
        settle(clock, 3)
        assert addr in listed(a, discovery_id)
        c = c.restart()
        settle(clock, 3)
        network.set_by -= 3600


def test_a_hint_survives_a_restart_of_its_daemon(three: Three, clock: Clock) -> None:
    network, (a, _, c) = three
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    network.split("a")
    settle(clock, 3)
    register(c, discovery_id, "n2:1")
    c.restart()
    network.heal()
    settle(clock, 3)
    assert listed(a, discovery_id) == ["n1:1", "n2:1"]


def test_names_that_nobody_created_have_one_owner_and_none_while_a_member_is_unreachable(
    three: Three, clock: Clock
) -> None:
    network, daemons = three
    owners = {daemon.members.owner_of_name("prod") for daemon in daemons}
    assert len(owners) == 1
    network.split("c")
    settle(clock, 3)
    for daemon in daemons:
        with pytest.raises(Undecided):
            wait(clock, daemon.directory.report("prod", _put("n1"), None), 1.5)


def test_a_new_key_waits_for_claims_on_their_way_here(three: Three, clock: Clock) -> None:
    _, (a, b, _) = three
    a.threads.hold = True
    creating = Deferred.fromCoroutine(a.directory.create())
    settle(clock, 1.5)
    claiming = Deferred.fromCoroutine(b.directory.claim("name", _put("n1"), None))
    assert not claiming.called, "b knows of a grant in flight at a that is not here"
    a.threads.hold = False
    a.threads.release_all()
    settle(clock, 0.2)
    assert result(claiming).won
    result(creating)


def test_an_id_that_a_member_created_and_lost_is_not_recreated_by_a_claim(three: Three) -> None:
    _network, (a, b, _) = three
    lost = ids.new_id(a.owner, a.random.randbytes)
    with pytest.raises(NoSuchID):
        go(b.directory.claim(lost, _put("n1:1"), None))


def _put(addr: str) -> Put:
    return Put(node=Node(addr=addr), value=addr)


def test_nothing_is_sent_twice_where_nothing_happens(three: Three, clock: Clock) -> None:
    network, (a, _, _) = three
    create_id(a)
    settle(clock, 3)
    network.messages.clear()
    settle(clock, 10)
    assert {message[2] for message in network.messages} == {"digest"}
    assert len(network.messages) <= 10 * 3 * 1.3


def test_an_isolated_daemon_logs_that_and_logs_the_end(three: Three, clock: Clock, log: list[dict[str, Any]]) -> None:
    network, (_, _, c) = three

    def logged() -> list[str]:
        of_c = [event["log_format"] for event in log if event.get("log_source") is c.backend.driver]
        return [text for text in of_c if text.startswith("peers ")]

    network.split("c")
    settle(clock, 3)
    assert logged() == ["peers do not agree, or one is unreachable"]
    network.heal()
    settle(clock, 3)
    assert logged()[1:] == ["peers agree"]


def test_a_daemon_that_met_no_member_yet_cannot_deny_an_id(three: Three, clock: Clock) -> None:
    network, (a, _, c) = three
    discovery_id = create_id(c)
    register(c, discovery_id, "n1:1")
    network.split("c")
    c = c.restart(ModelDisk())
    with pytest.raises(Undecided):
        register(c, discovery_id, "n2:1")
    with pytest.raises(NoSuchID):
        register(c, "never-created", "n2:1")
    network.heal()
    settle(clock, 3)
    assert register(c, discovery_id, "n2:1") == ["n1:1", "n2:1"]
    with pytest.raises(NoSuchID):
        register(c, create_id(a)[:-1] + "x", "n2:1")


def test_a_retry_window_of_zero_reaches_copies(clock: Clock) -> None:
    network, (a, b) = trio(clock, "ab", limits=Limits(retry_window_ms=0))
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    register(a, discovery_id, "n2:1")
    network.split("a")
    settle(clock, 3)
    assert register(b, discovery_id, "n1:1") == ["n1:1", "n2:1"]
    for daemon in (a, b):
        daemon.stop()


def test_a_claim_is_hidden_although_a_member_was_not_met_since_the_start(three: Three, clock: Clock) -> None:
    _network, (a, b, c) = three
    c.stop()
    settle(clock, 3)
    a = a.restart()
    settle(clock, 3)
    discovery_id = create_id(a)
    assert go(a.directory.claim(discovery_id, _put("n1:1"), None)).won
    settle(clock, 1)
    assert [go(each.directory.look_up(discovery_id)).leader for each in (a, b)] == [None, None]
    settle(clock, 40)
    assert go(a.directory.claim(discovery_id, _put("n1:1"), None)).again, "its answer may be lost"


def test_a_member_that_the_full_disk_did_not_take_is_still_known_after_a_restart(clock: Clock) -> None:
    """Its IDs would be taken for those of a lost daemon otherwise."""
    network, (a, _) = trio(clock, "ab")
    a.disk.room = 0
    c = GossipDaemon(network, "c", ["a"])
    settle(clock, 3)
    a.disk.room = None
    discovery_id = create_id(c)
    assert register(c, discovery_id, "n1:1") == ["n1:1"]
    settle(clock, 3)
    network.split("a")
    a = a.restart()
    assert {each.name for each in a.members.all} == {"a", "b", "c"}
    assert a.directory.has_owner(go(a.directory.look_up(discovery_id)))


def test_a_daemon_that_was_suspended_forwards_requests_again_at_once(three: Three, clock: Clock) -> None:
    network, (a, b, _) = three
    discovery_id = create_id(b)
    settle(clock, 2)
    answered: Deferred[None] = Deferred()
    network.held_answers["a", "digest"] = answered
    while a.state.peers[b.owner].step is None:
        clock.advance(0.1)
    del network.held_answers["a", "digest"]
    # Its process is stopped while an answer is on its way, and reads that before its timers.
    clock.rightNow += 6
    answered.callback(None)
    assert register(a, discovery_id, "n1:1") == ["n1:1"]
    assert listed(a, discovery_id) == ["n1:1"]
