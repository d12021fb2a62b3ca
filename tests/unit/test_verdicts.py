"""The verdict on the cluster under an ID: what an operator is told in each situation, and what to do
next.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from rqdisco.core.judgement import changes_with_time, judge
from rqdisco.core.records import Leader, Node
from rqdisco.core.verdicts import UNHEALTHY, Evidence, Health, Verdict
from rqdisco.core.views import View

ID = "9af5306d-5842-851c-a00f-72fe57b0eb16"
# 2026-11-18T11:06:40Z.
NOW_MS = 1_795_000_000_000
A, B, C, D, E = (f"10.0.0.{number}:4001" for number in range(1, 6))
LONG_AGO_MS = NOW_MS - 3_600_000


class Probed(msgspec.Struct, frozen=True):
    """The result of probing a node."""

    up: bool | None
    ready: bool | None = None
    unresolved: bool = False
    since: float = 300.0


UP, READY, NOT_READY = Probed(up=True), Probed(up=True, ready=True), Probed(up=True, ready=False)
DOWN, UNRESOLVED = Probed(up=False), Probed(up=None, unresolved=True)


def view(*addrs: str, **fields: Any) -> View:
    nodes = tuple(Node(addr=addr) for addr in addrs)
    return View(**{"id": ID, "owner": "h", "version": LONG_AGO_MS, "created_at": 0, "nodes": nodes, **fields})


def led(*addrs: str, seconds_ago: float = 5.0, confirmed: bool = True) -> View:
    """The view of an ID whose first node leads, or has claimed to, all nodes can see that."""
    at = NOW_MS - int(seconds_ago * 1000)
    leader = Leader(addr=addrs[0], value="{}", created=at, modified=at)
    return view(*addrs, leader=leader, confirmed=confirmed, version=at, granted=addrs[0])


def verdict(shown: View, probed: Mapping[str, Probed] | None = None, **known: Any) -> Verdict:
    """Judge a view; `probed` is None for a daemon that probes no nodes."""
    seen = {} if probed is None else probed
    facts: dict[str, Any] = {"has_owner": True, "two_leaders": None, "now_ms": NOW_MS, **known}
    return judge(shown, Evidence(probed=lambda node: seen.get(node.addr), is_probing=probed is not None, **facts))


@pytest.mark.parametrize(
    ("states", "health", "reason"),
    [
        ([READY, READY, READY], Health.HEALTHY, "3 of 3 nodes answer"),
        ([UP, UP, UP], Health.HEALTHY, "3 of 3 nodes answer"),
        ([UP], Health.HEALTHY, "1 of 1 node answers"),
        ([UP, UP, DOWN], Health.DEGRADED, "1 of 3 nodes does not answer"),
        ([UP, DOWN, DOWN], Health.NO_QUORUM, "2 of 3 nodes do not answer: no quorum"),
        ([DOWN, DOWN, DOWN], Health.NO_QUORUM, "3 of 3 nodes do not answer: no quorum"),
        ([DOWN], Health.NO_QUORUM, "1 of 1 node does not answer: no quorum"),
        ([UP, DOWN], Health.NO_QUORUM, "1 of 2 nodes does not answer: no quorum"),
        ([UP, UP, DOWN, DOWN], Health.NO_QUORUM, "2 of 4 nodes do not answer: no quorum"),
        ([UP, UP, UP, DOWN, DOWN], Health.DEGRADED, "2 of 5 nodes do not answer"),
        ([UP, UP, UNRESOLVED], Health.DEGRADED, "1 of 3 nodes does not resolve"),
        ([READY, READY, NOT_READY], Health.DEGRADED, "1 of 3 nodes does not reach a leader"),
        (
            [READY, NOT_READY, DOWN],
            Health.DEGRADED,
            "1 of 3 nodes does not answer; 1 of 3 nodes does not reach a leader",
        ),
        (
            [NOT_READY, NOT_READY, NOT_READY],
            Health.NO_QUORUM,
            "3 of 3 nodes answer, and none is ready: they have no leader, so no quorum",
        ),
        (
            [UP, DOWN, UNRESOLVED],
            Health.UNKNOWN,
            "1 of 3 nodes answers, and a quorum is 2; 1 of 3 nodes does not answer; 1 of 3 nodes does not resolve",
        ),
        (
            [UP, UNRESOLVED, UNRESOLVED],
            Health.UNKNOWN,
            "1 of 3 nodes answers, and a quorum is 2; 2 of 3 nodes do not resolve",
        ),
        ([UP, UP, None], Health.HEALTHY, "2 of 3 nodes answer"),
        (
            [UP, DOWN, None],
            Health.UNKNOWN,
            "1 of 3 nodes answers, and a quorum is 2; 1 of 3 nodes was not probed; 1 of 3 nodes does not answer",
        ),
        ([None, None, None], Health.UNKNOWN, "3 of 3 nodes were not probed"),
    ],
)
def test_a_probed_cluster_is_judged_by_how_many_nodes_answer(
    states: list[Probed | None], health: Health, reason: str
) -> None:
    addrs = [A, B, C, D, E][: len(states)]
    probed = {addr: state for addr, state in zip(addrs, states, strict=True) if state is not None}
    found = verdict(view(*addrs), probed)
    assert (found.health, found.reason) == (health, reason)


def test_no_probed_cluster_without_a_quorum_is_called_healthy_or_degraded() -> None:
    for count in range(1, 6):
        addrs = [A, B, C, D, E][:count]
        for states in itertools.product([READY, UP, NOT_READY, DOWN, UNRESOLVED, None], repeat=count):
            probed = {addr: state for addr, state in zip(addrs, states, strict=True) if state is not None}
            up = sum(state is not None and state.up is True for state in states)
            found = verdict(view(*addrs), probed)
            if up < count // 2 + 1:
                assert found.health in (Health.NO_QUORUM, Health.UNKNOWN), states
            if states.count(DOWN) > (count - 1) // 2:
                assert found.health is Health.NO_QUORUM, states
            assert found.reason
            assert found.next_step


def test_a_daemon_that_does_not_probe_knows_nothing_and_says_which_option_is_missing() -> None:
    found = verdict(view(A, B, C))
    assert found.health is Health.UNKNOWN
    assert found.reason == "3 of 3 nodes were not probed"
    assert "--probe" in found.next_step


def test_the_next_step_without_a_quorum_names_the_nodes_to_start() -> None:
    found = verdict(view(A, B, C), {A: NOT_READY, B: DOWN, C: DOWN})
    assert found.next_step == (
        f"start {B} and {C}; if too many nodes are gone for good, recover with"
        f" `rqdisco nodes {ID} --format peers.json` as in docs/rqlite.md"
    )


def test_a_ready_node_among_many_that_are_down_hints_at_nodes_that_are_gone_for_good() -> None:
    found = verdict(view(A, B, C), {A: READY, B: DOWN, C: DOWN})
    assert found.health is Health.NO_QUORUM
    assert f"`rqdisco prune {ID} --down-for 24h`" in found.next_step


def test_many_nodes_are_named_in_part() -> None:
    found = verdict(view(A, B, C, D, E), {A: DOWN, B: DOWN, C: DOWN, D: DOWN, E: DOWN})
    assert found.next_step == f"see that the machine of the daemon reaches them, and start {A}, {B}, {C} and 2 more"


def test_a_node_that_is_listed_with_and_without_a_scheme_counts_once() -> None:
    found = verdict(view(A, f"http://{A}", B, C), {A: DOWN, f"http://{A}": DOWN, B: UP, C: UP})
    assert (found.health, found.reason) == (Health.DEGRADED, "1 of 3 nodes does not answer")


@pytest.mark.parametrize("other", [f"https://{A}", f"http://{A}"])
def test_a_node_that_is_listed_twice_is_no_quorum_of_itself(other: str) -> None:
    """As after a move to TLS, which leaves the address that was registered before."""
    assert verdict(view(A, other, B), {A: UP, other: UP, B: DOWN}).health is Health.NO_QUORUM
    assert verdict(view("N1:4001", "n1.:4001", B), {"N1:4001": UP, "n1.:4001": UP, B: DOWN}).health is Health.NO_QUORUM


def test_an_id_without_nodes_is_forming() -> None:
    found = verdict(view())
    assert found == Verdict(
        Health.FORMING,
        "no nodes are registered yet: the first one bootstraps the cluster",
        f"start the nodes with the flags that `rqdisco flags {ID} --rqlite VERSION` prints",
    )


def test_nodes_that_have_no_leader_yet_are_forming_for_a_minute() -> None:
    states = {A: NOT_READY, B: NOT_READY, C: NOT_READY}
    assert verdict(view(A, B, C, version=NOW_MS - 60_000), states).health is Health.FORMING
    assert verdict(view(A, B, C, version=NOW_MS - 60_001), states).health is Health.NO_QUORUM


def test_a_node_that_was_told_to_bootstrap_and_never_answers_is_waited_for_after_a_minute() -> None:
    for age, health in ((20, Health.FORMING), (60, Health.FORMING), (61, Health.WAITING), (3600, Health.WAITING)):
        shown = view(A, granted=A, version=NOW_MS - age * 1000)
        found = verdict(shown, {A: Probed(up=False, since=age - 5.0)})
        assert found.health is health
        assert found.reason.startswith(f"{A} was told to bootstrap at 2026-11-18T")
        assert changes_with_time(shown)
    assert f"`rqdisco reset {ID} --yes`" in found.next_step


def test_a_cluster_of_one_node_that_ran_and_stopped_has_no_quorum() -> None:
    found = verdict(view(A, granted=A), {A: Probed(up=False, since=120.0)})
    assert (found.health, found.reason) == (Health.NO_QUORUM, "1 of 1 node does not answer: no quorum")


def test_a_claim_is_waited_for_after_a_minute() -> None:
    shown = view(claimed=1, claimed_since=NOW_MS - 60_000)
    assert verdict(shown) == Verdict(
        Health.FORMING,
        "a node won the claim to lead at 2026-11-18T11:05:40Z, was answered once and has not reported yet",
        "wait: a leader reports within a minute",
    )
    found = verdict(replace(shown, claimed=3, claimed_since=NOW_MS - 61_000))
    assert found == Verdict(
        Health.WAITING,
        "a node won the claim to lead at 2026-11-18T11:05:39Z, was answered 3 times and has not reported for over"
        " 60 s: all other nodes wait for it",
        "the log of the daemon names the node: stop it for good, or wipe its data directory, then run"
        f" `rqdisco leader clear {ID} --yes`",
    )
    assert changes_with_time(shown)


def test_a_claim_that_all_nodes_can_see_is_waited_for_after_a_minute() -> None:
    assert verdict(led(A, seconds_ago=60, confirmed=False)).health is Health.FORMING
    found = verdict(led(A, seconds_ago=61, confirmed=False), {A: DOWN})
    assert found.health is Health.WAITING
    assert found.reason.startswith(f"{A} claimed to lead at 2026-11-18T11:05:39Z, does not answer and has not reported")


@pytest.mark.parametrize(
    ("seconds_ago", "probed", "health", "ending"),
    [
        (5, READY, Health.HEALTHY, "11:06:35Z and answers"),
        (5, UP, Health.HEALTHY, "11:06:35Z and answers"),
        (300, UP, Health.HEALTHY, "11:01:40Z and answers"),
        (1000, UP, Health.DEGRADED, "10:50:00Z and answers"),
        (1000, READY, Health.HEALTHY, "10:50:00Z and answers"),
        (5, NOT_READY, Health.DEGRADED, "11:06:35Z and answers but is not ready"),
        (
            100,
            NOT_READY,
            Health.WAITING,
            "11:05:00Z and answers but is not ready: nodes that join wait for a leader that reports",
        ),
        (30, DOWN, Health.DEGRADED, "11:06:10Z and does not answer"),
        (100, DOWN, Health.WAITING, "11:05:00Z and does not answer: nodes that join wait for a leader that reports"),
        (5, None, Health.HEALTHY, "11:06:35Z and is not probed"),
        (100, None, Health.UNKNOWN, "11:05:00Z and is not probed"),
        (5, UNRESOLVED, Health.HEALTHY, "11:06:35Z and does not resolve"),
        (100, UNRESOLVED, Health.UNKNOWN, "11:05:00Z and does not resolve"),
    ],
)
def test_where_only_leaders_are_known_the_verdict_says_when_the_leader_reported_and_whether_it_answers(
    seconds_ago: float, probed: Probed | None, health: Health, ending: str
) -> None:
    shown = led(A, B, C, seconds_ago=seconds_ago)
    states = {B: DOWN, C: DOWN} | ({} if probed is None else {A: probed})
    found = verdict(shown, states)
    assert (found.health, found.reason) == (health, f"the leader {A} last reported at 2026-11-18T{ending}")
    assert "quorum" not in found.reason + found.next_step
    assert changes_with_time(shown)


def test_two_leaders_are_worse_than_all_else() -> None:
    for shown in (led(A, B), view(A)):
        for has_owner in (True, False):
            found = verdict(shown, {A: DOWN}, two_leaders=(A, B), has_owner=has_owner)
            assert found.health is Health.TWO_LEADERS
            assert found.reason == f"{A} and {B} both report that they lead: 2 clusters share this ID"


def test_an_ownerless_id_says_so_and_how_its_nodes_are() -> None:
    lost = "the owner of this ID is lost: no node is told to bootstrap under it any more"
    assert (verdict(view(), has_owner=False).health, verdict(view(), has_owner=False).reason) == (
        Health.OWNERLESS,
        lost,
    )
    found = verdict(view(A, B, C), {A: UP, B: UP, C: UP}, has_owner=False)
    assert (found.health, found.reason) == (Health.OWNERLESS, f"3 of 3 nodes answer; {lost}")
    assert "`rqdisco create`" in found.next_step
    assert verdict(view(A, B, C), {A: UP, B: DOWN, C: DOWN}, has_owner=False).health is Health.NO_QUORUM


def test_an_operator_has_to_act_in_four_of_eight_cases() -> None:
    assert [str(each) for each in Health if each in UNHEALTHY] == ["no quorum", "waiting", "two leaders", "ownerless"]


def test_a_verdict_does_not_change_while_nothing_happens() -> None:
    """Or each event of a stream would differ from the last one."""
    for shown in (led(A), view(claimed=1, claimed_since=NOW_MS), view(A, granted=A), view(A, B)):
        for states in ({}, {A: UP}, {A: DOWN}):
            first = verdict(shown, states)
            assert verdict(shown, states, now_ms=NOW_MS + 5000) == first


def test_a_quorum_of_a_settled_cluster_changes_only_with_probes() -> None:
    assert not changes_with_time(view(A, B, C))


@pytest.mark.parametrize("ahead", [86_400_000, 2**50, 2**63 - 1 - NOW_MS])
def test_what_happened_later_than_the_clock_says_is_not_recent(ahead: int) -> None:
    """The clock was set back: versions stay ahead of it for as long as it was wrong."""
    at = NOW_MS + ahead
    leader = Leader(addr=A, value="{}", created=at, modified=at)
    shown = view(A, B, leader=leader, confirmed=True, version=at)
    assert verdict(shown).health is Health.UNKNOWN
    assert verdict(shown, {A: DOWN}).health is Health.WAITING
    assert verdict(shown, {A: UP}).health is Health.DEGRADED
    for states in (None, {A: UP}):
        assert verdict(shown, states, reported_recently=True).health is Health.HEALTHY
    assert verdict(view(A, granted=A, version=at), {A: DOWN}).health is Health.NO_QUORUM
    assert verdict(view(A, B, version=at), {A: NOT_READY, B: NOT_READY}).health is Health.NO_QUORUM
    assert verdict(view(claimed=1, claimed_since=at)).health is Health.WAITING


def test_clocks_of_daemons_may_differ_a_little() -> None:
    assert verdict(led(A, seconds_ago=-30)).health is Health.HEALTHY
    assert verdict(view(claimed=1, claimed_since=NOW_MS + 30_000)).health is Health.FORMING
