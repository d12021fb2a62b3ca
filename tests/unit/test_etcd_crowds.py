"""Many requests at once over etcd: few round trips, and each of them answered."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from rqdisco.backends.etcd import batch_queue
from rqdisco.core.errors import StoreUnavailable
from tests.support.daemon import give_up, result
from tests.support.etcd.asking import A, B, C, create, go, is_alone, listed, register, remove
from tests.support.etcd.daemon import Backend, Cluster, opened
from tests.support.etcd.faults import is_write
from tests.support.etcd.memory import HANG, LOSE_ANSWER, LOSE_REQUEST, REFUSE, Fate, Sent

SLOW = Fate(answered=0.01)


class Recorded:
    """Sends everything with a round trip of 10 ms, and keeps the writes."""

    def __init__(self, daemon: Backend) -> None:
        self.node_nonces: list[bytes] = []
        self.posts = 0
        daemon.transport.plan = self.plan

    def plan(self, sent: Sent) -> Fate:
        self.posts += 1
        if is_write(sent):
            self.node_nonces.append(sent.body)
        return SLOW


@pytest.fixture
def daemon() -> Backend:
    return opened(Cluster(), seed=1)


def wait(daemon: Backend, seconds: float) -> None:
    """Let time pass in small steps."""
    for _ in range(round(seconds * 100)):
        daemon.cluster.clock.advance(0.01)


def test_many_registrations_under_many_ids_take_few_round_trips(daemon: Backend) -> None:
    ids = [create(daemon) for _ in range(500)]
    recorded = Recorded(daemon)
    asking = [register(daemon, each, A) for each in ids]
    wait(daemon, 0.5)
    assert all(is_alone(each) for each in asking)
    assert recorded.posts < 60


def test_nodes_of_one_id_that_ask_at_once_are_all_listed_and_one_is_alone(daemon: Backend) -> None:
    discovery_id = create(daemon)
    Recorded(daemon)
    asking = [register(daemon, discovery_id, f"10.0.1.{number}:4001") for number in range(20)]
    wait(daemon, 6)
    assert sum(is_alone(each) for each in asking) == 1
    assert len(listed(opened(daemon.cluster, seed=2), discovery_id)) == 20


def test_a_batch_with_a_dead_lease_is_settled_one_by_one_and_each_grant_takes_another_lease(daemon: Backend) -> None:
    ids = [create(daemon) for _ in range(6)]
    register(daemon, ids[0], A)
    daemon.transport.plan = lambda sent: SLOW if is_write(sent) else Fate()
    for lease in tuple(daemon.cluster.model.leases):
        daemon.cluster.model.revoke(lease, None)
    granting = [register(daemon, each, B) for each in ids[1:]]
    removing = remove(daemon, ids[0], A)
    wait(daemon, 1)
    assert result(removing).removed
    assert all(is_alone(each) for each in granting)
    daemon.transport.plan = lambda sent: Fate()
    assert all(result(register(daemon, each, C)).bootstrap is None for each in ids[1:])


def test_a_batch_whose_answer_was_lost_is_repeated_as_it_was(daemon: Backend) -> None:
    ids = [create(daemon) for _ in range(8)]
    recorded = Recorded(daemon)
    lost = iter([SLOW, SLOW, LOSE_ANSWER, LOSE_ANSWER, LOSE_ANSWER])
    plan = recorded.plan
    daemon.transport.plan = lambda sent: next(lost, plan(sent)) if is_write(sent) else plan(sent)
    asking = [register(daemon, each, A) for each in ids]
    wait(daemon, 3)
    assert all(is_alone(each) for each in asking)
    other = opened(daemon.cluster, seed=2)
    assert [listed(other, each) for each in ids] == [[A]] * 8


def test_writes_are_refused_at_once_while_one_is_in_doubt_for_two_seconds_and_go_on_after_it(daemon: Backend) -> None:
    first, other = create(daemon), create(daemon)
    daemon.transport.plan = lambda sent: LOSE_REQUEST if is_write(sent) else Fate()
    asking = register(daemon, first, A)
    wait(daemon, 6)
    with pytest.raises(StoreUnavailable):
        result(asking)
    with pytest.raises(StoreUnavailable):
        result(register(daemon, other, B))
    assert listed(daemon, first) == [], "lists go on"
    daemon.transport.plan = lambda sent: Fate()
    wait(daemon, 1)
    assert is_alone(register(daemon, other, B))
    assert listed(daemon, first) == [], "the grant that nobody heard of was revoked"


def test_a_request_that_was_given_up_before_it_was_sent_is_not_sent(daemon: Backend) -> None:
    ids = [create(daemon) for _ in range(5)]
    recorded = Recorded(daemon)
    asking = [Deferred.fromCoroutine(daemon.directory.look_up(each)) for each in ids]
    for each in asking:
        give_up(each)
    wait(daemon, 1)
    assert recorded.posts <= 3


def test_more_requests_than_can_be_served_in_time_are_refused_at_once(
    daemon: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_queue, "MAX_WAITING", 50)
    discovery_id = create(daemon)
    daemon.transport.plan = lambda sent: HANG
    asking = [Deferred.fromCoroutine(daemon.directory.look_up(discovery_id)) for _ in range(60)]
    refused = [each for each in asking if each.called]
    assert len(refused) == 9, "one read is under way"
    for each in refused:
        with pytest.raises(StoreUnavailable) as refusal:
            result(each)
        assert refusal.value.reason == "etcd is slower than requests arrive"
    for each in asking:
        if not each.called:
            give_up(each)
    daemon.transport.plan = lambda sent: Fate()
    wait(daemon, 4)
    assert go(daemon.directory.look_up(discovery_id)).id == discovery_id


def test_an_etcd_that_refuses_connections_is_named_in_the_reason(daemon: Backend) -> None:
    discovery_id = create(daemon)
    daemon.transport.plan = lambda sent: REFUSE
    asking = register(daemon, discovery_id, A)
    wait(daemon, 6)
    with pytest.raises(StoreUnavailable) as refusal:
        result(asking)
    assert "m1:2379" in refusal.value.reason
    assert "connection refused" in refusal.value.reason
