"""The health of a daemon with peers, and its remarks about them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.task import Clock

from rqdisco.backends.gossip.core.messages import Member
from rqdisco.core.codec import Metadata
from rqdisco.core.records import Node
from rqdisco.telemetry.health import Condition, DaemonHealth
from tests.support.gossip import DirectNetwork, GossipDaemon, Three, settle, trio, wait

WELL = Condition((), ())


def health_of(daemon: GossipDaemon) -> DaemonHealth:
    return DaemonHealth(lambda: daemon.journal.refused, daemon.report)


def test_a_healthy_daemon_has_no_remarks(three: Three) -> None:
    for daemon in three[1]:
        assert health_of(daemon).for_lists() == health_of(daemon).for_grants() == WELL


def test_an_unreachable_peer_is_no_reason_to_be_taken_out(three: Three, clock: Clock) -> None:
    _, (a, b, c) = three
    c.stop()
    settle(clock, 3)
    for daemon in (a, b):
        assert health_of(daemon).for_lists() == health_of(daemon).for_grants() == Condition((), ("c does not answer",))


def test_a_daemon_restarted_among_unreachable_peers_lists_and_grants_nobody(three: Three, clock: Clock) -> None:
    _, (a, b, c) = three
    b.stop()
    c.stop()
    a = a.restart()
    settle(clock, 3)
    undecided = "no decisions yet about IDs from before the start, no contact with: "
    lists, grants = health_of(a).for_lists(), health_of(a).for_grants()
    assert lists.wrong == ()
    assert lists.notes[0].startswith(undecided)
    assert sorted(lists.notes[1:]) == ["b does not answer", "c does not answer"]
    assert grants.wrong == lists.notes[:1]
    assert grants.notes == lists.notes[1:]
    b.restart()
    c.restart()
    settle(clock, 3)
    assert health_of(a).for_grants() == WELL


def test_registrations_that_wait_for_their_owner_are_shown(three: Three, clock: Clock) -> None:
    _, (a, b, _) = three
    discovery_id = wait(clock, a.directory.create()).id
    wait(clock, a.directory.register(discovery_id, Node(addr="n1:1"), None))
    a.stop()
    settle(clock, 40)
    wait(clock, b.directory.register(discovery_id, Node(addr="n2:1"), None))
    assert health_of(b).for_lists() == Condition((), ("a does not answer", "1 registrations wait for their owners"))


def test_a_duplicate_is_fenced_and_continues_to_list(three: Three, logged_errors: list[Any]) -> None:
    _, (a, b, _) = three
    a.fence(b, "two daemons run as incarnation x")
    why = "no decisions here: two daemons run as incarnation x"
    assert health_of(a).for_lists() == Condition((), (why,))
    assert health_of(a).for_grants() == Condition((why,), ())
    logged_errors.clear()


def test_a_daemon_that_handed_its_ids_over_is_to_be_taken_out(three: Three, clock: Clock) -> None:
    _, (_, _, c) = three
    assert wait(clock, c.drain("b")) == "b"
    for condition in (health_of(c).for_lists(), health_of(c).for_grants()):
        assert condition.wrong[0] == "this daemon was drained"


def test_a_required_acknowledgement_needs_a_peer_that_is_up(clock: Clock) -> None:
    _, (a, b) = trio(clock, "ab", ack_required=True)
    assert health_of(a).for_grants() == WELL
    b.stop()
    settle(clock, 3)
    assert health_of(a).for_grants().wrong == ("no peer is up to replicate a grant, and --grant-ack is required",)
    assert health_of(a).for_lists().wrong == ()
    a.stop()
    settle(clock, 1)


def test_a_daemon_without_records_is_ready_once_it_has_those_of_a_peer(three: Three, clock: Clock) -> None:
    network, (a, _, _) = three
    discovery_id = wait(clock, a.directory.create()).id
    network.cut.add(("d", "a"))
    d = GossipDaemon(network, "d", ["a"])
    assert health_of(d).for_lists().wrong == (), "otherwise it would wait for ever"
    network.cut.clear()
    d.threads.hold = True
    settle(clock, 1.5)
    assert "the records of http://a are not here yet" in health_of(d).for_lists().wrong
    d.threads.hold = False
    d.threads.release_all()
    settle(clock, 3)
    assert health_of(d).for_lists() == WELL
    assert d.store.settled(discovery_id) is not None


def test_a_daemon_without_records_is_ready_when_nobody_has_any_for_it(three: Three, clock: Clock) -> None:
    network, _ = three
    network.unreachable.add(("d", "a"))
    network.cut = {(name, "d") for name in "abc"}
    d = GossipDaemon(network, "d", ["a"])
    assert health_of(d).for_lists().wrong == ("the records of http://a are not here yet",)
    settle(clock, 3)
    assert health_of(d).for_lists() == Condition((), ("http://a was never met",))


def test_the_first_daemon_of_a_new_set_serves_without_the_others(clock: Clock) -> None:
    network = DirectNetwork(clock)
    a = GossipDaemon(network, "a", ["b"])
    settle(clock, 1)
    assert health_of(a).for_lists() == health_of(a).for_grants() == Condition((), ("http://b was never met",))
    a.stop()
    settle(clock, 1)


def test_differing_member_lists_are_shown_and_logged_once(
    three: Three, clock: Clock, log: list[dict[str, Any]]
) -> None:
    _, (a, b, c) = three
    members = b.members
    known, learn = dict(members._known), members.learn

    def learn_all_but_c(listed: Iterable[Member], *, first_hand: str | None = None) -> list[Metadata]:
        return learn([each for each in listed if each.incarnation != c.owner], first_hand=first_hand)

    # As if another release of `b` did not adopt the members it receives.
    members.learn = learn_all_but_c  # type: ignore[method-assign]
    del members._known[c.owner]
    members._index()
    settle(clock, 1.5)
    note = f"b lists other members: does not list c ({c.owner})"
    assert note in a.report.notes()
    assert note in health_of(a).for_lists().notes
    assert health_of(a).for_lists().wrong == ()
    settle(clock, 8)
    logged = [event for event in log if event.get("log_format") == "lists of members differ"]
    assert sorted((event["url"], event["how"]) for event in logged) == [
        ("http://a", f"lists c ({c.owner}), which is unknown here"),
        ("http://b", f"does not list c ({c.owner})"),
    ]
    members.learn = learn  # type: ignore[method-assign]
    members._known.update(known)
    members._index()
    settle(clock, 3)
    again = [event["url"] for event in log if event.get("log_format") == "lists of members are the same again"]
    assert sorted(again) == ["http://a", "http://b"]
    assert health_of(a).for_lists() == WELL
