"""The event stream of an ID, byte by byte, on virtual time."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from rqdisco.core.codec import decode_put
from rqdisco.http.api import event_streams
from rqdisco.security.tokens import Access, TokenRing, describe
from tests.support.any_daemon import Probe
from tests.support.daemon import DAY, create_id, register, result
from tests.support.watched_server import WatchedServer

A, B, C = "10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"
NAMED = "n4.example.org:4001"


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
