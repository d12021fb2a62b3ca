"""The directory over etcd: what is written, found, counted and forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.limits import Limits
from rqdisco.core.errors import AmbiguousName, IDExists, NoSuchID, StoreUnavailable, TooManyIDs, UnknownCreatedID
from rqdisco.core.records import Record
from tests.support.daemon import Daemon, create_id, give_up, inspected, result, transferred
from tests.support.daemon import register as register_at
from tests.support.etcd.asking import A, B, C, create, go, is_alone, listed, put_by, register, remove
from tests.support.etcd.daemon import Backend, Cluster, EtcdDaemon, opened
from tests.support.etcd.faults import requests_to, writes
from tests.support.etcd.memory import HANG, LOSE_ANSWER, LOSE_REQUEST, Fate

DAY = 86_400.0


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def daemon(cluster: Cluster) -> Backend:
    return opened(cluster, seed=1)


def wait(cluster: Cluster, seconds: float) -> None:
    """Let time pass in small steps."""
    for _ in range(round(seconds * 4)):
        cluster.clock.advance(0.25)


def all_records(backend: Backend) -> list[Record]:
    """Return all records, page by page."""

    async def read() -> list[Record]:
        return [record async for page in backend.directory.records() for record in page]

    records: list[Record] = go(read())
    return records


def revision(cluster: Cluster) -> int:
    return cluster.model.keyspace.revision


def test_a_leader_that_repeats_itself_writes_nothing_and_is_seen_nevertheless(daemon: Backend) -> None:
    assert go(daemon.directory.report("orders", put_by(A), None))
    before = revision(daemon.cluster)
    for _ in range(6):
        wait(daemon.cluster, 10)
        assert go(daemon.directory.report("orders", put_by(A), None))
    assert revision(daemon.cluster) == before
    assert len(daemon.observed.reports) == 7
    assert go(daemon.directory.report("orders", put_by(B), None))
    assert revision(daemon.cluster) == before + 1


def test_the_index_of_a_key_rises_with_each_change_although_wall_clocks_differ(cluster: Cluster) -> None:
    first, second = opened(cluster, seed=1), opened(cluster, seed=2)
    second.set_by = -1000.0
    indexes = []
    for daemon, addr in ((first, A), (second, B), (first, C)):
        assert go(daemon.directory.report("orders", put_by(addr), None))
        leader = go(daemon.directory.look_up("orders")).leader
        indexes.append(leader.modified)
    assert indexes == sorted(set(indexes))


def test_a_compared_report_is_refused_if_another_daemon_changed_the_key(cluster: Cluster) -> None:
    first, second = opened(cluster, seed=1), opened(cluster, seed=2)
    assert go(first.directory.report("orders", put_by(A), None))
    index = go(first.directory.look_up("orders")).leader.modified
    assert go(second.directory.report("orders", put_by(B), None, index))
    assert not go(first.directory.report("orders", put_by(C), None, index))
    assert go(first.directory.clear_leader("orders", index)).done is False


@pytest.mark.parametrize("lost", [LOSE_ANSWER, LOSE_REQUEST, Fate(arrives=(0.0, 0.7), answered=None, breaks=0.0)])
def test_a_compared_report_whose_answer_was_lost_is_true_once(cluster: Cluster, lost: Fate) -> None:
    first, second = opened(cluster, seed=1), opened(cluster, seed=2)
    go(first.directory.report("orders", put_by(A), None))
    index = go(first.directory.look_up("orders")).leader.modified
    first.transport.plan = writes(lost)
    reporting = Deferred.fromCoroutine(first.directory.report("orders", put_by(B), None, index))
    wait(cluster, 2)
    assert result(reporting)
    assert not go(second.directory.report("orders", put_by(C), None, index))


def test_a_cleared_key_that_was_put_again_meanwhile_stays(cluster: Cluster) -> None:
    first, second = opened(cluster, seed=1), opened(cluster, seed=2)
    go(first.directory.report("orders", put_by(A), None))
    first.transport.plan = writes(Fate(arrives=(0.8,)))
    clearing = Deferred.fromCoroutine(first.directory.clear_leader("orders"))
    go(second.directory.report("orders", put_by(B), None))
    wait(cluster, 2)
    assert result(clearing).removed is None
    assert go(second.directory.look_up("orders")).leader is not None


def test_an_id_without_a_node_is_forgotten_and_one_with_a_node_is_not(cluster: Cluster) -> None:
    daemon = opened(cluster, unused_seconds=10 * DAY)
    unused, used, emptied = (create(daemon) for _ in range(3))
    assert is_alone(register(daemon, used, A))
    register(daemon, emptied, A)
    result(remove(daemon, emptied, A))
    cluster.clock.advance(10 * DAY - 1)
    assert listed(daemon, unused) == []
    cluster.clock.advance(DAY / 2)
    with pytest.raises(NoSuchID):
        go(daemon.directory.look_up(unused))
    assert (listed(daemon, used), listed(daemon, emptied)) == ([A], [])


def test_a_claim_of_a_forgotten_id_does_not_create_it_again(cluster: Cluster) -> None:
    daemon = opened(cluster, unused_seconds=DAY)
    discovery_id = create(daemon)
    cluster.clock.advance(2 * DAY)
    with pytest.raises(UnknownCreatedID):
        go(daemon.directory.claim(discovery_id, put_by(A), None))


def test_a_revoked_first_grant_leaves_an_id_that_does_not_expire(cluster: Cluster) -> None:
    daemon = opened(cluster, unused_seconds=DAY)
    discovery_id = create(daemon)
    daemon.transport.plan = writes(Fate(arrives=(0.5,)))
    give_up(register(daemon, discovery_id, A))
    wait(cluster, 1)
    cluster.clock.advance(3 * DAY)
    assert listed(daemon, discovery_id) == []


def test_an_id_is_created_once_although_the_answer_was_lost(daemon: Backend) -> None:
    daemon.transport.plan = writes(LOSE_ANSWER, LOSE_ANSWER)
    creating = Deferred.fromCoroutine(daemon.directory.create())
    wait(daemon.cluster, 1)
    assert [record.id for record in all_records(daemon)] == [result(creating).id]


def test_a_name_is_created_once_although_the_answer_was_lost(daemon: Backend) -> None:
    daemon.transport.plan = writes(LOSE_ANSWER, LOSE_ANSWER)
    creating = Deferred.fromCoroutine(daemon.directory.create_named("orders"))
    wait(daemon.cluster, 1)
    assert result(creating).id == "orders"
    with pytest.raises(IDExists):
        go(opened(daemon.cluster, seed=2).directory.create_named("orders"))


def test_of_two_daemons_that_create_a_name_at_once_one_succeeds_and_the_other_learns_why(cluster: Cluster) -> None:
    first, second = opened(cluster, seed=1), opened(cluster, seed=2)
    first.transport.plan = writes(Fate(arrives=(0.5,)))
    late = Deferred.fromCoroutine(first.directory.create_named("orders"))
    owner = go(second.directory.create_named("orders")).owner
    wait(cluster, 1)
    with pytest.raises(IDExists, match="orders exists already"):
        result(late)
    assert go(first.directory.inspect("orders")).owner == owner


def test_a_name_is_created_at_once_and_nothing_is_left_of_it_if_etcd_never_received_it(daemon: Backend) -> None:
    daemon.transport.plan = writes(then=LOSE_REQUEST)
    creating = Deferred.fromCoroutine(daemon.directory.create_named("orders"))
    wait(daemon.cluster, 7)
    with pytest.raises(StoreUnavailable):
        result(creating)
    assert all_records(daemon) == []


def test_a_name_without_nodes_stays_where_unused_ids_expire_and_dns_finds_it(cluster: Cluster) -> None:
    daemon = opened(cluster, unused_seconds=DAY)
    go(daemon.directory.create_named("Orders.EU"))
    cluster.clock.advance(3 * DAY)
    assert listed(daemon, "Orders.EU") == []
    assert go(daemon.directory.look_up_name("orders.eu")).id == "Orders.EU"
    assert go(daemon.directory.has_subdomains("eu"))


def test_all_records_are_read_page_by_page_while_some_are_created(daemon: Backend) -> None:
    ids = {create(daemon) for _ in range(700)}
    assert {record.id for record in all_records(daemon)} == ids
    assert go(daemon.directory.count()) == 700


def test_more_ids_than_allowed_are_refused_once_they_are_counted(cluster: Cluster) -> None:
    daemon = EtcdDaemon(cluster, limits=Limits(max_ids=2))
    for _ in range(2):
        create_id(daemon)
    daemon.recount()
    with pytest.raises(TooManyIDs):
        create_id(daemon)
    with pytest.raises(TooManyIDs):
        go(daemon.directory.report("orders", put_by(A), None))
    assert go(daemon.directory.count()) == 2


def test_names_are_found_in_any_case_and_only_if_they_are_not_ambiguous(daemon: Backend) -> None:
    for name in ("Orders", "prod", "Prod", "MAIL", "a.Eu", "b.eu"):
        assert go(daemon.directory.report(name, put_by(A), None))
    assert go(daemon.directory.look_up_name("orders")).id == "Orders"
    assert go(daemon.directory.look_up_name("mail")).id == "MAIL"
    with pytest.raises(AmbiguousName):
        go(daemon.directory.look_up_name("prod"))
    with pytest.raises(NoSuchID):
        go(daemon.directory.look_up_name("order"))
    assert go(daemon.directory.has_subdomains("eu"))
    assert not go(daemon.directory.has_subdomains("u"))


def test_a_grant_stays_granted_when_it_moves_from_a_single_daemon_into_etcd(cluster: Cluster) -> None:
    single, etcd = Daemon(), EtcdDaemon(cluster)
    discovery_id = create_id(single)
    register_at(single, discovery_id, A)
    register_at(single, discovery_id, B)
    record = inspected(single, discovery_id)
    assert record is not None
    assert go(etcd.directory.adopt(transferred(discovery_id, *record.nodes), as_own=True))
    assert not go(etcd.directory.adopt(transferred(discovery_id, *record.nodes), as_own=True)), "it is there"
    assert not is_alone(register_at(etcd, discovery_id, A))
    assert not is_alone(register_at(etcd, discovery_id, C))


def test_two_leaders_are_noticed_although_they_report_at_two_daemons(
    cluster: Cluster, logged_errors: list[dict[str, Any]]
) -> None:
    first, second = EtcdDaemon(cluster, seed=1), EtcdDaemon(cluster, seed=2)
    for _ in range(3):
        go(first.directory.report("orders", put_by(A), None))
        cluster.clock.advance(5)
        go(second.directory.report("orders", put_by(B), None))
        cluster.clock.advance(5)
    assert [len(daemon.leaders) for daemon in (first, second)] == [1, 1]
    assert [event["leaders"] for event in logged_errors] == ["10.0.0.1:4002 and 10.0.0.2:4002"] * 2
    logged_errors.clear()


def test_without_a_quorum_everything_is_refused_with_the_reason_and_it_ends_at_once(cluster: Cluster) -> None:
    cluster = Cluster(Clock(), members=3)
    daemon = opened(cluster, seed=1)
    discovery_id = create(daemon)
    cluster.model.cut_off("m1", "m2", "m3")
    cluster.model.notice()
    asking: list[Deferred[Any]] = [
        Deferred.fromCoroutine(daemon.directory.look_up(discovery_id)),
        register(daemon, discovery_id, A),
        Deferred.fromCoroutine(daemon.directory.create()),
    ]
    wait(cluster, 8)
    for each in asking:
        with pytest.raises(StoreUnavailable) as refusal:
            result(each)
        assert refusal.value.reason
    cluster.model.rejoin()
    wait(cluster, 2)
    assert is_alone(register(daemon, discovery_id, A))
    assert listed(daemon, discovery_id) == [A]


def test_a_member_that_does_not_answer_costs_a_second(cluster: Cluster) -> None:
    cluster = Cluster(Clock(), members=3)
    daemon = opened(cluster, seed=1)
    discovery_id = create(daemon)
    cluster.model.hang("m1")
    registering = register(daemon, discovery_id, A)
    wait(cluster, 2.5)
    assert is_alone(registering)
    assert listed(daemon, discovery_id) == [A], "and the next request goes to another member at once"


def test_a_read_that_etcd_does_not_answer_ends_in_time_with_a_reason(daemon: Backend) -> None:
    discovery_id = create(daemon)
    daemon.transport.plan = requests_to("/v3/kv/txn", then=HANG)
    looking = Deferred.fromCoroutine(daemon.directory.look_up(discovery_id))
    wait(daemon.cluster, 5)
    with pytest.raises(StoreUnavailable) as refusal:
        result(looking)
    assert "no etcd endpoint answers" in refusal.value.reason
