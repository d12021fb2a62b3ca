"""A daemon and its peers in the monitored numbers."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client.metrics_core import Metric
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.gossip.admin import MAX_LAG
from rqdisco.backends.gossip.core.change_log import ChangeLog
from rqdisco.backends.gossip.metrics import peer_metrics
from rqdisco.core.errors import Ownerless, Undecided
from rqdisco.core.records import Node, Record
from rqdisco.core.verdicts import Health
from rqdisco.probes.cluster_judge import ClusterJudge
from rqdisco.probes.health_counter import HealthCounter
from tests.support.any_daemon import WALL_US
from tests.support.daemon import result
from tests.support.gossip import GossipDaemon, Three, create_id, go, settle


def watched(daemon: GossipDaemon) -> dict[str, Any]:
    """Return the samples by name; those of peers as what each peer has."""
    found: dict[str, Any] = {}
    families: list[Metric] = list(peer_metrics(daemon.report.status)())
    for sample in (sample for family in families for sample in family.samples):
        if "peer" in sample.labels:
            found.setdefault(sample.name, {})[sample.labels["peer"]] = sample.value
        else:
            found[sample.name] = sample.value
    return found


def register(daemon: GossipDaemon, discovery_id: str, addr: str) -> Deferred[Any]:
    return Deferred.fromCoroutine(daemon.directory.register(discovery_id, Node(addr=addr), None))


def test_healthy_peers_are_up_agree_and_lack_nothing(three: Three, clock: Clock) -> None:
    _network, (a, _b, _c) = three
    result(register(a, create_id(a), "n1:1"))
    settle(clock, 2)
    seen = watched(a)
    assert seen["rqdisco_peer_up"] == {"b": 1, "c": 1}
    assert seen["rqdisco_peer_lag_changes"] == {"b": 0, "c": 0}
    assert max(seen["rqdisco_peer_last_contact_seconds"].values()) < 1.5
    assert (seen["rqdisco_peers_agree"], seen["rqdisco_ready"], seen["rqdisco_fenced"]) == (1, 1, 0)
    assert seen["rqdisco_unreplicated_grants_total"] == seen["rqdisco_unreplicated_changes_total"] == 0


def test_an_unreachable_peer_is_shown_with_what_it_lacks_and_since_when(three: Three, clock: Clock) -> None:
    network, (a, _b, c) = three
    network.split("c")
    settle(clock, 3)
    for _ in range(3):
        create_id(a)
    settle(clock, 2)
    seen = watched(a)
    assert seen["rqdisco_peer_up"] == {"b": 1, "c": 0}
    assert seen["rqdisco_peer_lag_changes"] == {"b": 0, "c": 3}
    assert seen["rqdisco_peer_last_contact_seconds"]["c"] > 4
    assert seen["rqdisco_peers_agree"] == watched(c)["rqdisco_peers_agree"] == 0


def test_a_registration_stored_for_an_unreachable_owner_is_a_hint_until_it_is_taken(three: Three, clock: Clock) -> None:
    network, (a, b, _c) = three
    discovery_id = create_id(a)
    result(register(a, discovery_id, "n1:1"))
    settle(clock, 2)
    network.split("a")
    settle(clock, 3)
    result(register(b, discovery_id, "n2:1"))
    assert watched(b)["rqdisco_hints"] == 1
    network.heal()
    settle(clock, 3)
    assert watched(b)["rqdisco_hints"] == 0


def test_a_grant_answered_while_no_peer_was_up_is_counted(three: Three, clock: Clock) -> None:
    network, (a, _b, _c) = three
    network.split("a")
    settle(clock, 3)
    discovery_id = create_id(a)
    assert watched(a)["rqdisco_unreplicated_grants_total"] == 0, "creating an ID is no grant"
    result(register(a, discovery_id, "n1:1"))
    assert watched(a)["rqdisco_unreplicated_grants_total"] == 1


def test_a_grant_that_peers_were_too_slow_for_is_revoked_and_counted(three: Three, clock: Clock) -> None:
    network, (a, _b, _c) = three
    discovery_id = create_id(a)
    network.unreachable |= {("a", "b"), ("a", "c")}
    network.dropped |= {("b", "digest"), ("c", "digest")}
    registering = register(a, discovery_id, "n1:1")
    settle(clock, 1.5)
    with pytest.raises(Undecided):
        result(registering)
    seen = watched(a)
    assert (seen["rqdisco_unreplicated_changes_total"], seen["rqdisco_unreplicated_grants_total"]) == (1, 0)


def test_a_daemon_with_a_duplicate_is_fenced_and_reports_that_once(
    three: Three, clock: Clock, logged_errors: list[Any]
) -> None:
    _network, (a, b, c) = three
    a.fence(b, "two daemons are called a")
    a.fence(c, "two daemons are called a")
    assert a.fences == ["two daemons are called a"]
    assert watched(a)["rqdisco_fenced"] == 1
    logged_errors.clear()


def test_ids_of_a_member_have_an_owner_and_those_of_a_stranger_have_none(three: Three) -> None:
    _network, (a, b, _c) = three
    assert not a.report.is_ownerless(b.owner)
    assert a.report.is_ownerless("f" * 16)


def judge_of(daemon: GossipDaemon) -> ClusterJudge:
    return ClusterJudge(daemon.directory, None, None, lambda: WALL_US)


def test_each_peer_counts_the_clusters_that_it_holds_a_copy_of(three: Three, clock: Clock) -> None:
    _network, daemons = three
    for daemon in daemons[:2]:
        create_id(daemon)
    result(register(daemons[0], create_id(daemons[0]), "10.0.0.1:4001"))
    settle(clock, 2)
    for daemon in daemons:
        counter = HealthCounter(daemon.directory, judge_of(daemon), clock)
        counter.startService()
        settle(clock, 1)
        assert counter.counts == {Health.FORMING: 2, Health.UNKNOWN: 1}
        counter.stopService()


def test_an_id_of_an_unknown_owner_is_shown_as_ownerless_like_nodes_are_answered(three: Three) -> None:
    _network, (a, _b, _c) = three
    # As after a backup of another daemon was restored over a new one's.
    record = Record(id="orders", owner="f" * 16, version=1, created_at=1)
    a.store.settle([a.store.put(record)])
    view = go(a.directory.look_up("orders"))
    assert not a.directory.has_owner(view)
    assert judge_of(a)(view).health is Health.OWNERLESS
    with pytest.raises(Ownerless):
        result(register(a, "orders", "n1:1"))


def test_an_id_has_an_owner_while_that_is_unreachable_and_none_once_it_is_forgotten(three: Three, clock: Clock) -> None:
    _network, (a, b, _c) = three
    discovery_id = create_id(b)
    settle(clock, 2)
    b.stop()
    settle(clock, 5)
    record = go(a.directory.look_up(discovery_id))
    assert a.directory.has_owner(record)
    member = a.members.get(b.owner)
    assert member is not None
    a.members.put(replace(member, state="forgotten"))
    assert not a.directory.has_owner(record)


def test_the_count_of_missing_records_at_a_peer_is_bounded() -> None:
    changes = ChangeLog(floor=0)
    for version in range(2 * MAX_LAG):
        changes.add(version + 1, b"%d" % version)
    assert len(changes.since(0, MAX_LAG) or ()) == MAX_LAG
    assert len(changes.since(0) or ()) == 2 * MAX_LAG
