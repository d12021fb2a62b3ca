"""Two clusters under one ID: which reports show them, for how long, and who notices."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.leader_monitor import LeaderMonitor, reported_leader
from rqdisco.backends.limits import Limits
from rqdisco.core.leaders import WINDOW_SECONDS, LeaderReports, Report, alternating
from rqdisco.core.records import Leader, Node, Put, Record
from rqdisco.telemetry.events import Event, Events
from tests.support.daemon import Daemon, create_id, register, result
from tests.support.gossip import Three, go, settle, wait

A, B, C = "10.0.0.1:4002", "10.0.0.2:4002", "10.0.0.3:4002"
ALARM = "two clusters under one ID"


def put(raft_addr: str, node_id: str | None = None) -> Put:
    addr = f"{raft_addr.partition(':')[0]}:4001"
    return Put(
        node=Node(addr=addr, raft_addr=raft_addr, node_id=node_id or raft_addr), value=f'{{"addr":"{raft_addr}"}}'
    )


def seen(order: str, every: float = 10.0) -> list[bool]:
    """Return whether an ID has two leaders after each report, by the letters of the reporting
    nodes.
    """
    reports = LeaderReports()
    found = []
    for number, letter in enumerate(order):
        now = number * every
        reports.expire(now)
        reports.report("x", letter, now)
        found.append(reports.of("x") is not None)
    return found


@pytest.mark.parametrize("order", ["A", "AAAA", "AB", "AABB", "ABBB", "ABA", "AABAA", "ABC", "ABCCC", "AABBCC", "ABAC"])
def test_a_cluster_and_its_elections_raise_no_alarm(order: str) -> None:
    assert not any(seen(order))


@pytest.mark.parametrize("order", ["ABAB", "ABBA", "AABBA", "ABAAB", "ABCAB", "CABAB", "CCCABBA", "AABAAB"])
def test_two_alternating_leaders_that_report_twice_each_are_two_leaders_from_then_on(order: str) -> None:
    *before, last = seen(order, every=5.0)
    assert last
    assert not any(before)


@pytest.mark.parametrize(("gap", "is_seen"), [(60.0, True), (60.1, False)])
def test_two_leaders_are_noticed_only_within_a_minute(gap: float, is_seen: bool) -> None:
    reports = LeaderReports()
    for leader, at in (("A", 100.0), ("B", 101.0), ("B", 102.0), ("A", 100.0 + gap)):
        reports.report("x", leader, at)
    assert (reports.of("x") is not None) is is_seen


def test_the_first_of_the_two_is_the_one_seen_first_and_stays_so() -> None:
    reports = LeaderReports()
    for number, letter in enumerate("CABABABAB"):
        reports.report("x", letter, number)
        assert reports.of("x") in (None, ("A", "B"))
    assert reports.of("x") == ("A", "B")


def test_two_leaders_are_reported_once_and_over_when_one_alone_has_reported_for_a_minute() -> None:
    reports = LeaderReports()
    news = [at for at in range(0, 120, 5) if reports.report("x", "AB"[at // 5 % 2], at)]
    assert news == [15]
    last_change = 115
    for at in range(120, last_change + 60, 10):
        reports.report("x", "B", at)
        assert reports.expire(at) == []
    assert reports.next_end == last_change + WINDOW_SECONDS
    assert reports.expire(last_change + 60) == ["x"]
    assert (reports.of("x"), len(reports)) == (None, 0)
    assert reports.next_end is None
    assert not reports.report("x", "B", 180)
    again = [at for at in range(181, 300, 5) if reports.report("x", "AB"[at % 2], at)]
    assert len(again) == 1


def test_ids_do_not_affect_each_other() -> None:
    reports = LeaderReports()
    for number, letter in enumerate("ABAB"):
        for name, leader in (("x", letter), ("y", "A"), ("z", "B")):
            reports.report(name, leader, number)
    assert [reports.of(name) for name in "xyz"] == [("A", "B"), None, None]


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from("ABC"), st.floats(0, 30)), max_size=80))
def test_stored_reports_are_bounded_and_give_the_same_result_as_all(steps: list[tuple[int, str, float]]) -> None:
    reports, all_of, now = LeaderReports(max_ids=8), dict[str, list[Report]](), 0.0
    for number, leader, pause in steps:
        now += pause
        name = f"id{number % 3}"
        reports.expire(now)
        known = all_of.setdefault(name, [])
        known.append(Report(now, leader))
        previous_owners = reports.of(name)
        reports.report(name, leader, now)
        if previous_owners is None:
            within = [each for each in known if each.at >= now - WINDOW_SECONDS]
            assert (reports.of(name) is not None) == (alternating(within) is not None)
    for number in range(50):
        reports.report(f"more{number}", "A", now)
    assert len(reports._reports) <= 8
    assert all(len(kept) <= 16 for kept in reports._reports.values())


def test_ids_whose_leader_stopped_reporting_are_forgotten() -> None:
    reports = LeaderReports()
    for number in range(100):
        reports.report(f"id{number}", "A", number)
    assert len(reports._reports) == 61


def record(version: int = 5, modified: int = 5, **known: Any) -> Record:
    leader = Leader(addr="10.0.0.1:4001", value=f'{{"addr":"{A}"}}', created=1, modified=modified)
    nodes = (Node(addr="10.0.0.1:4001", raft_addr=A),)
    return Record(id="x", owner="h", version=version, created_at=1, leader=leader, nodes=nodes, **known)


def test_a_report_is_distinguished_from_a_claim_and_from_other_changes() -> None:
    assert reported_leader(record(confirmed=True)) == A
    assert reported_leader(record(confirmed=False)) is None, "a claim"
    assert reported_leader(record(version=6, confirmed=True)) is None, "a node registered"
    assert reported_leader(Record(id="x", owner="h", version=5, created_at=1, confirmed=True)) is None


def report(daemon: Daemon, discovery_id: str, *leaders: str, every: float = 5.0) -> None:
    for leader in leaders:
        daemon.clock.advance(every)
        assert result(Deferred.fromCoroutine(daemon.directory.report(discovery_id, put(leader), None)))


def test_a_daemon_logs_two_leaders_once_counts_them_and_logs_the_end(log: list[Any], logged_errors: list[Any]) -> None:
    daemon, logged = Daemon(), list[Event]()
    daemon.telemetry.events.observers.append(logged.append)
    asked_for: list[str] = []
    daemon.leaders.subscribe(asked_for.append)
    report(daemon, "kv", A, B, A)
    assert not logged
    report(daemon, "kv", B, A, B, A, B)
    assert daemon.leaders.of("kv") == (A, B)
    (error,) = logged_errors
    assert (error["leaders"], error["discovery_id"]) == (f"{A} and {B}", "kv")
    report(daemon, "kv", *[A] * 12)
    assert [(event.kind, event.outcome, event.id, event.why) for event in logged] == [
        ("two leaders", "noticed", "kv", f"{A} and {B}")
    ]
    daemon.clock.advance(5)
    assert (daemon.leaders.of("kv"), len(daemon.leaders)) == (None, 0)
    assert [event.outcome for event in logged] == ["noticed", "over"]
    assert asked_for == ["kv", "kv"]
    assert [event for event in log if "two leaders no longer seen" in str(event.get("log_format"))]
    logged_errors.clear()
    daemon.leaders.stopService()


def test_two_leaders_with_one_node_id_are_distinguished_by_address(logged_errors: list[Any]) -> None:
    daemon = Daemon()
    for leader in (A, B, A, B):
        assert go(daemon.directory.report("kv", put(leader, "n1"), None))
    assert daemon.leaders.of("kv") == (A, B)
    logged_errors.clear()
    daemon.leaders.stopService()


def test_claims_and_registrations_between_reports_are_no_reports() -> None:
    daemon = Daemon(limits=Limits(visible_claims=True))
    assert go(daemon.directory.claim("kv", put(A), None)).won
    report(daemon, "kv", B)
    result(register(daemon, "kv", "10.0.0.7:4001"))
    report(daemon, "kv", A)
    result(register(daemon, "kv", "10.0.0.8:4001"))
    report(daemon, "kv", B)
    assert daemon.leaders.of("kv") is None


def test_two_leaders_decide_nothing(logged_errors: list[Any]) -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    report(daemon, discovery_id, A, B, A, B)
    logged_errors.clear()
    listed = [node.addr for node in result(register(daemon, discovery_id, "10.0.0.9:4001")).listed]
    assert listed == ["10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.9:4001"]
    report(daemon, discovery_id, C)
    daemon.leaders.stopService()


def test_a_stopped_monitor_leaves_no_timer(logged_errors: list[Any]) -> None:
    clock = Clock()
    watch = LeaderMonitor(clock, Events())
    watch.startService()
    daemon = Daemon(clock=clock)
    daemon.store.on_settled[:] = [watch.settled]
    report(daemon, "kv", A, B, A, B)
    assert watch.of("kv")
    watch.stopService()
    assert not clock.getDelayedCalls()
    watch.stopService()
    logged_errors.clear()


def test_a_monitor_that_is_not_running_starts_no_timer(logged_errors: list[Any]) -> None:
    clock = Clock()
    events: list[Event] = []
    watch = LeaderMonitor(clock, Events(events.append))
    daemon = Daemon(clock=clock)
    daemon.store.on_settled[:] = [watch.settled]
    report(daemon, "kv", A, B, A, B)
    assert not clock.getDelayedCalls()
    watch.startService()
    watch.stopService()
    report(daemon, "other", A, B, A, B)
    assert not clock.getDelayedCalls()
    watch.startService()
    clock.advance(60)
    assert [event.outcome for event in events] == ["noticed", "noticed", "over", "over"]
    watch.stopService()
    logged_errors.clear()


# Peers.


def test_all_peers_notice_whichever_of_them_the_leaders_report_to(
    three: Three, clock: Clock, logged_errors: list[Any]
) -> None:
    _, (a, b, c) = three
    for daemon, leader in ((b, A), (c, B), (b, A), (c, B)):
        assert wait(clock, daemon.directory.report("kv", put(leader), None), 5)
    settle(clock, 1)
    assert [daemon.leaders.of("kv") for daemon in (a, b, c)] == [(A, B)] * 3
    assert [error["leaders"] for error in logged_errors if ALARM in error["log_format"]] == [f"{A} and {B}"] * 3
    for _ in range(6):
        wait(clock, b.directory.report("kv", put(A), None), 10)
    settle(clock, 5)
    assert [daemon.leaders.of("kv") for daemon in (a, b, c)] == [None] * 3
    noticed = [[event.outcome for event in daemon.events if event.kind == "two leaders"] for daemon in (a, b, c)]
    assert noticed == [["noticed", "over"]] * 3
    logged_errors.clear()


def test_an_election_among_peers_is_no_alarm(three: Three, clock: Clock) -> None:
    _, (a, b, c) = three
    for daemon, leader in ((a, A), (b, A), (c, A), (a, B), (b, B), (c, B), (a, C), (b, C)):
        assert wait(clock, daemon.directory.report("kv", put(leader), None), 10)
    assert not any(len(daemon.leaders) for daemon in (a, b, c))
