"""The event stream of an ID, byte by byte, on virtual time."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import Mock

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.core.codec import decode_put
from rqdisco.core.records import Node
from rqdisco.http.api import event_streams, record_encoder
from rqdisco.http.requests.documents import encode_watched
from rqdisco.security.tokens import Access, TokenRing, describe
from tests.support.backends import new_daemon, over
from tests.support.connections import Connection, Server, unchunked
from tests.support.daemon import DAY, Probe, create_id, register, result
from tests.support.dns_sockets import Reactor
from tests.support.etcd.daemon import Cluster, EtcdDaemon
from tests.support.etcd.memory import Fate
from tests.support.gossip import Three, settle, trio, wait

A, B, C = "10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"
NAMED = "n4.example.org:4001"


class Watcher(Connection):
    """A client that watches an ID; `events` are all that it received."""

    def __init__(self, server: WatchedServer, discovery_id: str, **headers: str) -> None:
        super().__init__(server.site)
        self._received = b""
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        self._received += self.send(f"GET /{discovery_id}/events HTTP/1.1\r\nHost: h\r\n{lines}\r\n".encode())

    @property
    def received(self) -> bytes:
        self._received += self.take()
        return self._received

    @property
    def status(self) -> int:
        return int(self.received.split(b" ")[1])

    @property
    def body(self) -> bytes:
        """Decode the chunks."""
        return unchunked(self.received.partition(b"\r\n\r\n")[2])

    @property
    def names(self) -> list[str]:
        return [line[4:].decode() for line in self.body.split(b"\n") if line.startswith(b"id: ")]

    @property
    def events(self) -> list[Any]:
        return [json.loads(line[6:]) for line in self.body.split(b"\n") if line.startswith(b"data: ")]

    @property
    def lists(self) -> list[list[str]]:
        return [event["nodes"] for event in self.events]


class WatchedServer(Server):
    """A site and a daemon on one clock."""

    def __init__(self, clock: Clock | None = None, **apis: Any) -> None:
        super().__init__(clock=clock)
        self.daemon = new_daemon(clock=self.clock, **apis)
        self.site.application = self.daemon.apis.public()

    def watch(self, discovery_id: str, **headers: str) -> Watcher:
        watcher = Watcher(self, discovery_id, **headers)
        self.clock.pump(self.daemon.watch_delays)
        return watcher


@pytest.fixture
def server(each_backend: None) -> WatchedServer:
    """A server over either backend."""
    return WatchedServer()


@pytest.fixture
def stored_server() -> WatchedServer:
    """A server whose daemon stores its records itself."""
    return WatchedServer()


@pytest.fixture
def some_id(server: WatchedServer) -> str:
    discovery_id = create_id(server.daemon)
    register(server.daemon, discovery_id, A)
    return discovery_id


def test_a_watcher_gets_the_record_now_and_at_each_change(server: WatchedServer, some_id: str) -> None:
    watcher = server.watch(some_id)
    assert b"content-type: text/event-stream" in watcher.received.lower()
    assert watcher.lists == [[A]]
    register(server.daemon, some_id, B)
    server.clock.advance(0)
    assert watcher.lists[1:] == [[A, B]]
    server.clock.advance(1)
    result(Deferred.fromCoroutine(server.daemon.directory.remove(some_id, B)))
    server.clock.advance(1)
    assert watcher.lists[2:] == [[A]]


def test_an_event_shows_who_was_granted_and_since_when_a_node_is_known(server: WatchedServer) -> None:
    discovery_id = create_id(server.daemon)
    body = b'{"addr":"10.0.0.1:4001","node_id":"n1","raft_addr":"10.0.0.1:4002"}'
    server.connect().send(
        b"POST /%b HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (discovery_id.encode(), len(body), body)
    )
    register(server.daemon, discovery_id, B)
    (event,) = server.watch(discovery_id).events
    assert event["registrations"] == [
        {
            "addr": A,
            "raft_addr": "10.0.0.1:4002",
            "node_id": "n1",
            "alone": True,
            "heard": "2026-11-18T11:06:40Z",
        },
        {"addr": B},
    ]


def test_a_claim_is_an_event_without_its_node_and_its_report_is_one_with_it(server: WatchedServer) -> None:
    directory = server.daemon.directory
    discovery_id = create_id(server.daemon)
    watcher = server.watch(discovery_id)
    put = decode_put(b'{"id":"n1","api_addr":"http://10.0.0.1:4001","addr":"10.0.0.1:4002"}')
    for times in (1, 2):
        assert result(Deferred.fromCoroutine(directory.claim(discovery_id, put, "10.0.0.1"))).won
        server.clock.advance(1)
        assert watcher.events[-1]["claim"] == {"since": "2026-11-18T11:06:40Z", "answered": times}
    assert watcher.lists == [[], [], []]
    assert b"10.0.0.1" not in watcher.body
    assert result(Deferred.fromCoroutine(directory.report(discovery_id, put, None)))
    server.clock.advance(1)
    assert watcher.lists[-1] == [A]
    assert "claim" not in watcher.events[-1]


def test_a_grant_that_may_never_be_answered_is_no_event(stored_server: WatchedServer) -> None:
    server = stored_server
    discovery_id = create_id(server.daemon)
    watcher = server.watch(discovery_id)
    server.daemon.threads.hold = True
    registering = register(server.daemon, discovery_id, A)
    server.clock.advance(0.5)
    registering.addErrback(lambda _: None).cancel()
    server.daemon.threads.release()
    server.clock.advance(0.5)
    assert watcher.lists == [[]]
    server.daemon.threads.hold = False
    server.daemon.threads.release_all()
    server.clock.advance(0.5)
    register(server.daemon, discovery_id, B)
    server.clock.advance(0.5)
    assert watcher.lists[-1] == [B]
    assert all(A not in each for each in watcher.lists)


def test_a_watcher_that_returns_with_the_current_event_id_gets_nothing_again(
    server: WatchedServer, some_id: str
) -> None:
    (name,) = server.watch(some_id).names
    again = server.watch(some_id, Last_Event_ID=name)
    assert again.events == []
    register(server.daemon, some_id, B)
    server.clock.advance(0)
    assert again.lists == [[A, B]]
    assert server.watch(some_id, Last_Event_ID=name).lists == [[A, B]]


def test_a_change_is_encoded_once_for_all_watchers(
    server: WatchedServer, some_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    watchers = [server.watch(some_id) for _ in range(250)]
    encoded = Mock(wraps=encode_watched)
    monkeypatch.setattr(record_encoder, "encode_watched", encoded)
    register(server.daemon, some_id, B)
    server.clock.pump([0] * 4)
    assert all(watcher.lists == [[A], [A, B]] for watcher in watchers)
    assert encoded.call_count == 1


def test_the_first_change_is_an_event_at_once_and_those_within_250_ms_become_one(
    server: WatchedServer, some_id: str
) -> None:
    watcher = server.watch(some_id)
    for number in range(100):
        register(server.daemon, some_id, f"10.0.1.{number}:4001")
        server.clock.advance(0.001)
    assert [len(each) for each in watcher.lists] == [1, 2]
    server.clock.advance(0.145)
    assert len(watcher.lists) == 2
    server.clock.advance(0.01)
    assert [len(each) for each in watcher.lists] == [1, 2, 101]
    server.clock.advance(0.25)
    register(server.daemon, some_id, B)
    server.clock.advance(0)
    assert len(watcher.lists[-1]) == 102, "after a quiet time it is at once again"


def received(watchers: list[Watcher]) -> int:
    """Return the number of bytes that the watchers received since the last call."""
    return sum(len(watcher.take()) for watcher in watchers)


def test_four_writers_and_a_thousand_watchers_of_an_id_make_8_mb_of_traffic_a_second(
    stored_server: WatchedServer,
) -> None:
    server, some_id = stored_server, with_nodes(stored_server, 1)
    watchers = [server.watch(some_id) for _ in range(1000)]
    received(watchers)
    events = []
    for step in range(48):
        for number in range(20 * step, 20 * step + 20):
            register(server.daemon, some_id, f"10.0.{number >> 8}.{number & 255}:4001")
        server.clock.advance(0.25)
        events.append(received(watchers))
    assert sum(events) - max(events) < 12 * 8_000_000
    assert sum(events) > 50_000_000


def with_nodes(server: WatchedServer, count: int) -> str:
    """Return an ID with `count` nodes."""
    discovery_id = create_id(server.daemon)
    for number in range(count):
        register(server.daemon, discovery_id, f"10.0.{number >> 8}.{number & 255}:4001")
    return discovery_id


def test_a_large_event_is_sent_to_a_few_watchers_in_a_turn() -> None:
    reactor = Reactor()
    server = WatchedServer(reactor)
    discovery_id = with_nodes(server, 500)
    watchers = [server.watch(discovery_id) for _ in range(100)]
    register(server.daemon, discovery_id, "10.1.0.9:4001")
    turns = [1]
    while turns[-1]:
        reactor.turn()
        turns.append(received(watchers))
    assert sum(turns) > 100 * 20_000
    assert max(turns) < 1_100_000


def test_a_watcher_of_a_small_id_sees_changes_at_once_while_others_watch_a_large_one(
    server: WatchedServer, some_id: str
) -> None:
    large = with_nodes(server, 900)
    crowd = [server.watch(large) for _ in range(400)]
    watcher = server.watch(some_id)
    received(crowd)
    register(server.daemon, large, "10.1.0.9:4001")
    server.clock.advance(0)
    first = received(crowd)
    assert first > 400 * 30_000
    for number in range(4):
        register(server.daemon, large, f"10.1.0.{number}:4001")
        register(server.daemon, some_id, f"10.1.0.{number}:4001")
        server.clock.advance(0)
        assert len(watcher.lists[-1]) == number + 2
        server.clock.advance(0.25)
    assert received(crowd) < 1000, "heartbeats; its next event waits for two seconds"
    server.clock.advance(1.1)
    assert received(crowd) == pytest.approx(first, rel=0.02), "one event for all four"


def test_an_idle_stream_stays_open_with_a_heartbeat_every_15_seconds(server: WatchedServer, some_id: str) -> None:
    watcher = server.watch(some_id)
    before = watcher.body
    server.wait(300)
    assert not watcher.closed
    assert watcher.body == before + b":\n\n" * 20


def test_nothing_is_buffered_for_a_watcher_that_does_not_read_and_it_is_cut_off(
    server: WatchedServer, some_id: str
) -> None:
    watcher, other = server.watch(some_id), server.watch(some_id)
    watcher.protocol.pauseProducing()
    for addr in (B, C):
        register(server.daemon, some_id, addr)
        server.wait(1)
    assert watcher.lists == [[A]]
    watcher.protocol.resumeProducing()
    assert watcher.lists == [[A], [A, B, C]]
    watcher.protocol.pauseProducing()
    server.wait(16)
    assert not watcher.transport.disconnected
    server.wait(15)
    assert watcher.transport.disconnected
    assert not other.closed


@pytest.mark.parametrize("most", [2, 2000])
def test_a_watcher_over_the_limit_is_refused_and_all_others_are_served(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_streams, "MAX_WATCHERS_PER_ID", 2)
    server = WatchedServer(max_watchers=most)
    discovery_id = create_id(server.daemon)
    watchers = [server.watch(discovery_id) for _ in range(2)]
    refused = server.watch(discovery_id)
    assert refused.status == 503
    assert b"Retry-After: 5" in refused.received
    assert (server.watch(create_id(server.daemon)).status == 200) == (most > 2)
    watchers[0].hang_up()
    assert server.watch(discovery_id).status == 200


def test_stopping_ends_all_streams_at_once(server: WatchedServer, some_id: str) -> None:
    watchers = [server.watch(some_id), server.watch(create_id(server.daemon))]
    server.site.drain()
    assert all(watcher.received.endswith(b"0\r\n\r\n") and watcher.closed for watcher in watchers)
    late = server.watch(some_id)
    assert late.closed


def test_nothing_is_left_of_a_watcher_that_hung_up(server: WatchedServer, some_id: str) -> None:
    watchers = [server.watch(some_id) for _ in range(3)]
    register(server.daemon, some_id, B)
    for watcher in watchers:
        watcher.hang_up()
    assert server.daemon.apis.streams.watchers == []
    server.wait(6)
    assert server.daemon.clock.getDelayedCalls() == [server.site._sweeper.call]


def test_a_watch_that_is_not_possible_is_refused_in_json(server: WatchedServer, some_id: str) -> None:
    assert server.watch("unknown").status == 404
    answer = server.connect().send(
        b"PUT /%b/events HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n" % some_id.encode()
    )
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"unsupported method" in answer


def test_a_token_lets_watch_for_as_long_as_it_is_valid() -> None:
    access = Access(TokenRing([describe("reader", ["read"], "secret"), describe("minter", ["mint"], "other")]))
    server = WatchedServer(access=access)
    discovery_id = create_id(server.daemon)
    assert server.watch(discovery_id).status == 401
    assert server.watch(discovery_id, Authorization="Bearer other").status == 403
    watcher = server.watch(discovery_id, Authorization="Bearer secret")
    assert watcher.lists == [[]]
    server.wait(20)
    assert not watcher.closed
    access.ring = TokenRing()
    server.wait(15)
    assert watcher.body.endswith(b":\n\n")
    assert server.daemon.apis.streams.watchers == []


def test_a_watcher_learns_within_a_heartbeat_that_a_node_is_down_and_not_of_each_probe() -> None:
    probe = Probe()
    probe.network.listens("10.0.0.2")
    server = WatchedServer(probe=probe)
    discovery_id = create_id(server.daemon)
    for addr in (A, B, NAMED):
        register(server.daemon, discovery_id, addr)
    watcher = server.watch(discovery_id)
    rounds = server.daemon.rounds
    assert rounds is not None
    rounds.startService()
    server.clock.pump([0.25] * 4 * 45)
    down = {"addr": A, "up": False, "why": "refused", "alone": True}
    unresolved = {"addr": NAMED, "unresolved": True}
    assert watcher.events[-1]["registrations"] == [down, {"addr": B, "up": True, "ready": True}, unresolved]
    count = len(watcher.events)
    server.clock.pump([0.25] * 4 * 60)
    assert len(watcher.events) == count <= 4
    rounds.stopService()


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


def test_watchers_of_a_forgotten_id_are_disconnected_and_find_it_gone() -> None:
    server = WatchedServer(unused_days=600 / DAY)
    discovery_id = create_id(server.daemon)
    watcher = server.watch(discovery_id)
    server.daemon.sweep.startService()
    while server.daemon.size:
        server.wait(60)
    server.wait(1)
    assert watcher.received.endswith(b"0\r\n\r\n")
    assert watcher.lists == [[]]
    assert server.daemon.apis.streams.watchers == []
    assert server.watch(discovery_id).status == 404


@pytest.fixture
def forgetful(server: WatchedServer) -> Three:
    """Daemons that forget after three minutes; the server's streams are those of the second."""
    network, peers = trio(server.clock, unused_days=180 / DAY)
    server.daemon.apis.streams.directory = peers[1].directory
    return network, peers


def test_watchers_at_another_daemon_find_gone_what_its_owner_forgot(server: WatchedServer, forgetful: Three) -> None:
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
