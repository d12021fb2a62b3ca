"""Watches of the client of etcd: one stream carries several, and says why it ends."""

from __future__ import annotations

from typing import Any

import pytest

from rqdisco.backends.etcd.failures import NotApplied
from rqdisco.backends.etcd.messages import WatchCreate, WatchResponse
from rqdisco.http_client.interfaces import ConnectionBroken
from tests.support.played_etcd import E1, E2, E3, PASSWORD, Played, grant


@pytest.fixture
def etcd() -> Played:
    return Played(E1, E2, E3)


@pytest.fixture
def guarded() -> Played:
    """etcd with authentication."""
    return Played(E1, password=PASSWORD)


class Watched:
    """A watch of two keys."""

    def __init__(self, etcd: Played) -> None:
        self.received: list[WatchResponse] = []
        self.ends: list[Any] = []
        creates = [WatchCreate(key=b"a"), WatchCreate(key=b"b", watch_id=2)]
        self.watch = etcd.client.watch(creates, self.received.append)
        self.watch.done.addCallbacks(self.ends.append, lambda failure: self.ends.append(failure.value))


def test_one_stream_carries_several_watches(etcd: Played) -> None:
    watched = Watched(etcd)
    (stream,) = etcd.streams
    assert stream.body == b'{"create_request":{"key":"YQ=="}} {"create_request":{"key":"Yg==","watch_id":2}}'
    stream.received(b'{"result":{"header":{"revision":"5"},"watch_id":"2","events":[{"kv":{"key":"Yg=="}}]}}')
    assert [(each.watch_id, each.events[0].kv.key) for each in watched.received] == [(2, b"b")]
    watched.watch.close()
    assert watched.ends == [None]
    assert stream.done.called
    assert etcd.counts.switches == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"error":{"grpc_code":14,"message":"etcdserver: no leader"}}', "etcd has no leader"),
        (b'{"error":"etcdserver: no leader","code":14}', "etcd has no leader"),
        (b"404 page not found", "there is no JSON gateway"),
        (b'{"result":{"events":5}}', "etcd's answer does not fit the request"),
    ],
)
def test_a_watch_that_etcd_ends_says_why_and_the_next_one_asks_another_member(
    etcd: Played, line: bytes, reason: str
) -> None:
    watched = Watched(etcd)
    etcd.streams[0].received(line)
    (end,) = watched.ends
    assert type(end) is NotApplied
    assert str(end).startswith(reason)
    Watched(etcd)
    assert etcd.streams[1].endpoint == E2


def test_a_watch_whose_connection_breaks_ends(etcd: Played) -> None:
    watched = Watched(etcd)
    etcd.streams[0].done.errback(ConnectionBroken("the connection ended"))
    assert [str(end) for end in watched.ends] == ["the connection ended"]


def test_a_watch_has_a_token_and_a_refused_one_is_replaced_for_the_next_watch(guarded: Played) -> None:
    watched = Watched(guarded)
    assert guarded.streams == []
    grant(guarded, "abc.1")
    assert guarded.streams[0].token == "abc.1"
    guarded.streams[0].received(b'{"error":{"message":"etcdserver: invalid auth token"}}')
    assert [type(end) for end in watched.ends] == [NotApplied]
    Watched(guarded)
    grant(guarded, "abc.2")
    assert guarded.streams[1].token == "abc.2"


def test_a_watch_that_is_closed_while_it_waits_for_a_token_opens_no_stream(guarded: Played) -> None:
    watched = Watched(guarded)
    watched.watch.close()
    grant(guarded, "abc.1")
    assert (watched.ends, guarded.streams) == ([None], [])


def test_what_a_watcher_raises_ends_its_watch(etcd: Played) -> None:
    def fail(_: WatchResponse) -> None:
        raise ZeroDivisionError

    ends: list[Any] = []
    etcd.client.watch([WatchCreate(key=b"a")], fail).done.addErrback(lambda failure: ends.append(failure.type))
    etcd.streams[0].received(b'{"result":{}}')
    assert ends == [ZeroDivisionError]
    assert etcd.streams[0].done.called
