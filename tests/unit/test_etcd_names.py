"""Answers to DNS over etcd: asked once, used for a second, and longer only while etcd is away."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from rqdisco.core.errors import NoSuchID, StoreUnavailable
from rqdisco.core.views import View
from tests.support.daemon import result, transferred
from tests.support.etcd.asking import A, B, create, go, register
from tests.support.etcd.daemon import Backend, Cluster, opened
from tests.support.etcd.memory import HANG, REFUSE, Fate, Sent


def wait(daemon: Backend, seconds: float) -> None:
    """Let time pass in small steps."""
    for _ in range(round(seconds * 20)):
        daemon.cluster.clock.advance(0.05)


def ask(daemon: Backend, discovery_id: str) -> Deferred[View]:
    return Deferred.fromCoroutine(daemon.names.look_up(discovery_id))


def addrs(asking: Deferred[View]) -> list[str]:
    view: View = result(asking)
    return [node.addr for node in view.nodes]


def set_up(stale_seconds: float = 0.0) -> tuple[Backend, str]:
    daemon = opened(Cluster(), seed=1, stale_seconds=stale_seconds)
    discovery_id = create(daemon)
    register(daemon, discovery_id, A)
    return daemon, discovery_id


def test_an_answer_is_used_for_a_second_and_no_longer() -> None:
    daemon, discovery_id = set_up()
    assert addrs(ask(daemon, discovery_id)) == [A]
    posts = daemon.transport.posts
    register(opened(daemon.cluster, seed=2), discovery_id, B)
    wait(daemon, 0.9)
    assert addrs(ask(daemon, discovery_id)) == [A]
    assert daemon.transport.posts == posts
    wait(daemon, 0.15)
    assert addrs(ask(daemon, discovery_id)) == [A, B]


def test_queries_for_one_name_at_once_are_one_read() -> None:
    daemon, discovery_id = set_up()
    daemon.transport.plan = lambda sent: Fate(answered=0.1)
    posts = daemon.transport.posts
    asking = [ask(daemon, discovery_id) for _ in range(100)]
    wait(daemon, 0.2)
    assert all(addrs(each) == [A] for each in asking)
    assert daemon.transport.posts == posts + 1


def test_a_query_that_was_given_up_does_not_end_the_others() -> None:
    daemon, discovery_id = set_up()
    daemon.transport.plan = lambda sent: Fate(answered=0.1)
    first, second = ask(daemon, discovery_id), ask(daemon, discovery_id)
    first.addErrback(lambda failure: None)
    first.cancel()
    wait(daemon, 0.2)
    assert addrs(second) == [A]


def test_an_absent_name_is_absent_for_a_second() -> None:
    daemon, _ = set_up()
    with pytest.raises(NoSuchID):
        result(ask(daemon, "orders"))
    go(daemon.directory.adopt(transferred("orders"), as_own=True))
    with pytest.raises(NoSuchID):
        result(ask(daemon, "orders"))
    wait(daemon, 1.1)
    assert addrs(ask(daemon, "orders")) == []


def test_without_stale_answers_a_query_fails_while_etcd_is_away() -> None:
    daemon, discovery_id = set_up()
    assert addrs(ask(daemon, discovery_id)) == [A]
    daemon.transport.plan = lambda sent: REFUSE
    wait(daemon, 1.5)
    asking = ask(daemon, discovery_id)
    wait(daemon, 5)
    with pytest.raises(StoreUnavailable):
        result(asking)


@pytest.mark.parametrize("fate", [REFUSE, HANG], ids=["refused", "hanging"])
def test_a_stale_answer_is_served_for_as_long_as_the_operator_allows(fate: Fate) -> None:
    daemon, discovery_id = set_up(stale_seconds=60)
    assert addrs(ask(daemon, discovery_id)) == [A]
    daemon.transport.plan = lambda sent: fate
    wait(daemon, 2)
    first = ask(daemon, discovery_id)
    wait(daemon, 1.9)
    assert addrs(first) == [A], "within the time that resolvers wait"
    wait(daemon, 3)
    assert addrs(ask(daemon, discovery_id)) == [A], "at once, now that it is known"
    wait(daemon, 60)
    asking = ask(daemon, discovery_id)
    wait(daemon, 5)
    with pytest.raises(StoreUnavailable):
        result(asking)


def test_a_name_that_was_never_asked_for_has_no_stale_answer() -> None:
    daemon, discovery_id = set_up(stale_seconds=60)
    daemon.transport.plan = lambda sent: REFUSE
    asking = ask(daemon, discovery_id)
    wait(daemon, 5)
    with pytest.raises(StoreUnavailable):
        result(asking)


def test_fresh_answers_are_back_soon_after_etcd_is_back() -> None:
    daemon, discovery_id = set_up(stale_seconds=600)
    ask(daemon, discovery_id)
    plans: list[Fate] = [REFUSE]

    def plan(sent: Sent) -> Fate:
        return plans[-1]

    daemon.transport.plan = plan
    wait(daemon, 2)
    ask(daemon, discovery_id)
    wait(daemon, 5)
    register(opened(daemon.cluster, seed=2), discovery_id, B)
    plans.append(Fate())
    ask(daemon, discovery_id)
    wait(daemon, 6)
    assert addrs(ask(daemon, discovery_id)) == [A, B]
