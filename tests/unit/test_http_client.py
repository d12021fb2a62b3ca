"""The HTTP client of the daemon: the headers of answers, and slow requests. What else it does is tested through its
users, in test_etcd_connections.py and tests/http/test_peer_connections.py.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from rqdisco.http_client.client import HTTPClient, head_of
from rqdisco.http_client.interfaces import PostReply
from rqdisco.http_client.pool import PoolConfig
from tests.support.etcd_wire import PlayedNetwork

A = "http://a:4003"
SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Client:
    """A client that keeps the header `seal`, and gives slow requests one of three connections."""

    def __init__(self) -> None:
        self.network = PlayedNetwork()
        config = PoolConfig(max_connections=3, max_waiting_for_others=1, kept_headers=frozenset({b"seal"}))
        self._client = HTTPClient(self.network, Clock(), config)

    def post(self, *, waits_for_others: bool = False) -> list[Any]:
        outcomes: list[Any] = []
        posted = self._client.post(A, head_of(A, "/x"), b"", 1.0, waits_for_others=waits_for_others)
        posted.addCallbacks(outcomes.append, outcomes.append)
        return outcomes

    @property
    def received(self) -> int:
        """The number of requests that arrived since the last time."""
        return sum(link.take().count(b"POST") for link in self.network.links)


@pytest.mark.parametrize("piece", [1, 3, 1000])
@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (b"HTTP/1.1 200 OK\r\nSeal: 1 2\r\nContent-Length: 0\r\n\r\n", {b"seal": b"1 2"}),
        (b"HTTP/1.1 200 OK\r\nOther: 1\r\nContent-Length: 0\r\n\r\n", {}),
        (b"HTTP/1.1 200 OK\r\nSEAL:1\r\nseal: 2\r\nContent-Length: 0\r\n\r\n", {b"seal": b"1"}),
        (b"HTTP/1.1 103 Early Hints\r\nSeal: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", {}),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nSeal: 1\r\n\r\n", {}),
    ],
    ids=["one", "none", "two", "interim", "trailer"],
)
def test_an_answer_has_the_headers_that_its_reader_needs(data: bytes, headers: dict[bytes, bytes], piece: int) -> None:
    client = Client()
    for _ in range(2):
        outcomes = client.post()
        (link,) = client.network.links
        for begin in range(0, len(data), piece):
            link.answer(data[begin : begin + piece])
        assert outcomes == [PostReply(200, b"", headers)]


def test_headers_behind_an_answer_belong_to_none() -> None:
    client = Client()
    outcomes = client.post()
    client.network.links[0].answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nSeal: 1\r\n\r\n")
    assert outcomes == [PostReply(200, b"")]
    assert not client.network.links[0].is_open


def test_a_path_of_a_server_is_a_target_and_a_host() -> None:
    assert head_of(A, "/x") == b"POST /x HTTP/1.1\r\nHost: a:4003\r\n"
    assert head_of("https://[::1]/under", "/x") == b"POST /under/x HTTP/1.1\r\nHost: [::1]\r\n"


@pytest.mark.parametrize("is_ended", [False, True])
def test_requests_that_wait_for_others_never_take_more_than_their_connections(is_ended: bool) -> None:
    client = Client()
    client.post(waits_for_others=True)
    client.network.links[0].answer(SHORT)
    if is_ended:
        client.network.links[0].end()
    assert client.received == 1
    for _ in range(3):
        client.post(waits_for_others=True)
    assert client.received == 1
    client.post()
    client.post()
    assert client.received == 2


def test_other_requests_go_first_where_all_connections_are_taken() -> None:
    client = Client()
    for _ in range(3):
        client.post()
    assert client.received == 3
    slow, other = client.post(waits_for_others=True), client.post()
    client.network.links[1].answer(SHORT)
    client.network.links[1].answer(SHORT)
    assert (slow, other) == ([], [PostReply(200, b"")])
    client.network.links[1].answer(SHORT)
    assert slow == [PostReply(200, b"")]


@pytest.mark.parametrize("waits_for_others", [False, True])
def test_a_refused_connection_fails_all_that_wait_for_one(waits_for_others: bool) -> None:
    client = Client()
    client.network.accepts_at_once = False
    outcomes = [client.post(waits_for_others=waits_for_others) for _ in range(2)]
    client.network.refuse()
    assert [type(each) for (each,) in outcomes] == [Failure] * 2
