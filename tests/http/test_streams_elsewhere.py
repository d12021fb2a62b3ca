"""Event streams of IDs that another daemon decides about, or that etcd holds."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.core.records import Node
from tests.support.backends import over
from tests.support.daemon import DAY, create_id, register, result
from tests.support.etcd.daemon import Cluster, EtcdDaemon
from tests.support.etcd.memory import Fate
from tests.support.gossip import Three, settle, trio, wait
from tests.support.watched_server import WatchedServer

A, B = "10.0.0.1:4001", "10.0.0.2:4001"


@pytest.fixture
def server(each_backend: None) -> WatchedServer:
    """A server over either backend."""
    return WatchedServer()


def test_watchers_at_a_daemon_that_is_not_the_owner_get_changes_too() -> None:
    clock = Clock()
    _, (a, b, _) = trio(clock)
    discovery_id = result(Deferred.fromCoroutine(a.directory.create())).id
    settle(clock, 2)
    notified: list[int] = []
    stop = b.directory.watch(discovery_id, lambda: notified.append(len(notified)))
    result(Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr=A), None)))
    settle(clock, 2)
    assert notified
    stop()
    before = len(notified)
    result(Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr=B), None)))
    settle(clock, 2)
    assert len(notified) == before


@pytest.fixture
def forgetful(server: WatchedServer) -> Three:
    """Daemons that forget after three minutes; the server's streams are those of the second."""
    network, peers = trio(server.clock, unused_days=180 / DAY)
    server.daemon.apis.streams.directory = peers[1].directory
    return network, peers


def test_watchers_at_another_daemon_are_told_that_the_owner_forgot_an_id(
    server: WatchedServer, forgetful: Three
) -> None:
    _, (a, _, _) = forgetful
    discovery_id = result(Deferred.fromCoroutine(a.directory.create())).id
    settle(server.clock, 2)
    watcher = server.watch(discovery_id)
    settle(server.clock, 320)
    assert watcher.received.endswith(b"0\r\n\r\n")
    assert server.watch(discovery_id).status == 404


def test_watchers_at_another_daemon_learn_that_an_id_is_gone_once_its_owner_answers_again(
    server: WatchedServer, forgetful: Three
) -> None:
    network, (a, _, _) = forgetful
    discovery_id = result(Deferred.fromCoroutine(a.directory.create())).id
    settle(server.clock, 2)
    watcher = server.watch(discovery_id)
    cut = {("a", "b"), ("b", "a")}
    network.cut |= cut
    settle(server.clock, 320)
    assert server.watch(discovery_id).status == 503
    assert not watcher.received.endswith(b"0\r\n\r\n")
    network.cut -= cut
    settle(server.clock, 5)
    assert watcher.received.endswith(b"0\r\n\r\n")
    assert server.watch(discovery_id).status == 404


def test_a_copy_that_arrives_before_the_answer_of_the_owner_is_an_event(server: WatchedServer) -> None:
    network, (a, b, _) = trio(server.clock)
    server.daemon.apis.streams.directory = b.directory
    settle(server.clock, 2)
    network.dropped |= {("a", "push"), ("b", "pull")}
    discovery_id = wait(server.clock, a.directory.create()).id
    network.held_answers["b", "call"] = answered = Deferred[None]()
    watcher = server.watch(discovery_id)
    network.dropped.clear()
    wait(server.clock, a.directory.register(discovery_id, Node(addr=A), None), 1)
    answered.callback(None)
    settle(server.clock, 2)
    assert watcher.lists[-1] == [A]


def test_a_change_that_is_reported_while_the_record_is_looked_up_is_an_event() -> None:
    clock = Clock()
    with over("etcd"):
        server = WatchedServer(clock)
    daemon = server.daemon
    discovery_id = create_id(daemon)
    watcher = server.watch(discovery_id)
    # Answers take longer than reports of changes, which come over another connection.
    daemon.transport.plan = lambda _: Fate(answered=0.5)
    daemon.apis.streams.refresh(discovery_id)
    server.clock.advance(0.1)
    register(EtcdDaemon(daemon.cluster, seed=1), discovery_id, A)
    server.wait(3)
    assert watcher.lists == [[], [A]]


def test_a_stream_outlives_an_etcd_without_quorum_and_then_shows_what_changed() -> None:
    clock = Clock()
    cluster = Cluster(clock, members=3)
    with over("etcd"):
        server = WatchedServer(clock, cluster=cluster)
    discovery_id = create_id(server.daemon)
    watcher = server.watch(discovery_id)
    for name in ("m2", "m3"):
        cluster.model.stop(name)
    # As a round of probes does.
    server.daemon.apis.streams.refresh(discovery_id)
    server.wait(60)
    assert watcher.body.endswith(b":\n\n")
    for name in ("m2", "m3"):
        cluster.model.start(name)
    server.wait(10)
    register(server.daemon, discovery_id, A)
    server.wait(1)
    assert watcher.lists == [[], [A]]
