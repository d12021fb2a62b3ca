"""The events of a stream: how soon they are sent, how often, and how many bytes in a turn."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from rqdisco.http.api import record_encoder
from rqdisco.http.requests.documents import encode_watched
from tests.support.daemon import create_id, register
from tests.support.dns_sockets import Reactor
from tests.support.watched_server import WatchedServer, Watcher

A, B = "10.0.0.1:4001", "10.0.0.2:4001"


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
