"""The pooled connections to etcd, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from rqdisco.backends.etcd.transport.connections import PooledTransport
from rqdisco.http_client.interfaces import AnswerTooLarge, ConnectionBroken, NotSent, PostReply
from rqdisco.http_client.pool import IDLE_SECONDS, PoolConfig
from tests.support.etcd_wire import PlayedNetwork

MAX_CONNECTIONS = 4
E1, E2 = "http://e1:2379", "http://e2:2379"
PATH = "/v3/kv/range"
SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
# As etcd 3.4 sends errors.
WITH_TRAILER = (
    b"HTTP/1.1 404 Not Found\r\nTrailer: Grpc-Trailer-Content-Type\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'a\r\n{"code":5}\r\n0\r\nGrpc-Trailer-Content-Type: application/grpc\r\n\r\n'
)


class Posts:
    """A transport over a played network, and what became of its requests."""

    def __init__(self, *, accepts_at_once: bool = True, max_answer: int = 1000) -> None:
        self.clock = Clock()
        self.network = PlayedNetwork(accepts_at_once=accepts_at_once)
        config = PoolConfig(max_connections=MAX_CONNECTIONS, max_answer=max_answer)
        self.transport = PooledTransport(self.network, self.clock, config)

    def __call__(self, body: bytes = b"{}", endpoint: str = E1, token: str | None = None) -> list[Any]:
        """Send a request; return a list that its outcome is added to."""
        return outcome_of(self.transport.post(endpoint, PATH, body, token, 1.0))


def outcome_of(answered: Deferred[PostReply]) -> list[Any]:
    outcomes: list[Any] = []
    answered.addCallbacks(outcomes.append, lambda failure: outcomes.append(failure.value))
    return outcomes


@pytest.fixture
def posts() -> Posts:
    return Posts()


@pytest.fixture
def slow() -> Posts:
    """Connections are only made when the test makes them."""
    return Posts(accepts_at_once=False)


def test_a_request_is_one_post_of_json_with_the_token(posts: Posts) -> None:
    posts(b'{"key":"YQ=="}', token="secret.7")
    assert posts.network.links[0].take() == (
        b"POST /v3/kv/range HTTP/1.1\r\nHost: e1:2379\r\nAuthorization: secret.7\r\n"
        b'Content-Type: application/json\r\nContent-Length: 14\r\n\r\n{"key":"YQ=="}'
    )


def test_the_endpoint_may_be_an_ipv6_address(posts: Posts) -> None:
    posts(endpoint="http://[::1]:2379")
    assert b"\r\nHost: [::1]:2379\r\n" in posts.network.links[0].take()


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (SHORT, PostReply(200, b"{}")),
        (WITH_TRAILER, PostReply(404, b'{"code":5}')),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + SHORT, PostReply(200, b"{}")),
        (b"HTTP/1.1 302 Found\r\nLocation: http://e2/\r\nContent-Length: 0\r\n\r\n", PostReply(302, b"")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", PostReply(204, b"")),
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_answers_arrive_whole_however_they_are_cut_and_their_connection_is_used_again(
    posts: Posts, data: bytes, reply: PostReply, piece: int
) -> None:
    for _ in range(3):
        outcomes = posts()
        (link,) = posts.network.links
        for begin in range(0, len(data), piece):
            assert outcomes == []
            link.answer(data[begin : begin + piece])
        assert outcomes == [reply]


def test_requests_at_the_same_time_have_connections_of_their_own_and_those_are_kept(posts: Posts) -> None:
    first = [posts(), posts(), posts()]
    for link in posts.network.links:
        link.answer(SHORT)
    again = [posts(), posts(), posts()]
    for link in posts.network.links:
        link.answer(SHORT)
    assert first == again == [[PostReply(200, b"{}")]] * 3
    assert len(posts.network.links) == 3


def test_each_endpoint_has_its_own_connections(posts: Posts) -> None:
    posts(endpoint=E1)
    posts.network.links[0].answer(SHORT)
    posts(endpoint=E2)
    assert posts.network.asked == [b"e1:2379", b"e2:2379"]


def test_requests_beyond_the_limit_of_connections_wait_for_one_in_the_order_of_arrival(posts: Posts) -> None:
    for _ in range(MAX_CONNECTIONS):
        posts()
    waiting = [posts(b"1"), posts(b"2")]
    assert len(posts.network.links) == MAX_CONNECTIONS
    link = posts.network.links[3]
    link.take()
    link.answer(SHORT)
    assert link.take().endswith(b"\r\n\r\n1")
    link.answer(SHORT)
    assert link.take().endswith(b"\r\n\r\n2")
    link.answer(SHORT)
    assert waiting == [[PostReply(200, b"{}")]] * 2


def test_a_connection_that_ends_while_it_is_idle_is_not_used_again(posts: Posts) -> None:
    posts()
    posts.network.links[0].answer(SHORT)
    posts.network.links[0].end()
    outcomes = posts()
    posts.network.links[1].answer(SHORT)
    assert outcomes == [PostReply(200, b"{}")]


def test_a_connection_that_was_idle_for_long_is_not_used_again(posts: Posts) -> None:
    posts()
    posts.network.links[0].answer(SHORT)
    posts.clock.advance(IDLE_SECONDS + 1)
    posts()
    assert [link.is_open for link in posts.network.links] == [False, True]


@pytest.mark.parametrize(
    ("received", "reason"), [(b"", "the connection ended"), (SHORT[:30], "the connection ended within the answer")]
)
def test_a_request_whose_connection_ends_may_have_been_received(posts: Posts, received: bytes, reason: str) -> None:
    outcomes = posts()
    posts.network.links[0].answer(received)
    posts.network.links[0].end()
    assert_failed(outcomes, ConnectionBroken, reason)


@pytest.mark.parametrize("received", [b"", SHORT[:30]])
def test_a_request_that_is_not_answered_in_time_fails_and_its_connection_is_closed(
    posts: Posts, received: bytes
) -> None:
    outcomes = posts()
    posts.network.links[0].answer(received)
    posts.clock.advance(0.9)
    assert outcomes == []
    posts.clock.advance(0.1)
    assert_failed(outcomes, ConnectionBroken, "no answer within 1 s")
    assert not posts.network.links[0].is_open


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 400,
    ],
)
def test_an_answer_that_is_too_large_is_not_kept(posts: Posts, data: bytes) -> None:
    outcomes = posts()
    link = posts.network.links[0]
    for begin in range(0, len(data), 100):
        if link.is_open:
            link.answer(data[begin : begin + 100])
    assert_failed(outcomes, AnswerTooLarge, "the answer is larger than 1000 bytes")
    assert not link.is_open


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH\r\n", b"\x15\x03\x01", b"HTTP/1.1 101 Go\r\nUpgrade: h2c\r\n\r\n"])
def test_what_is_no_answer_of_http_is_named(posts: Posts, data: bytes) -> None:
    outcomes = posts()
    posts.network.links[0].answer(data)
    assert_failed(outcomes, ConnectionBroken, "the answer is not HTTP/1.1")


@pytest.mark.parametrize("extra", [SHORT, b"x", b"\r\n\r\nHTTP/1.1"])
@pytest.mark.parametrize("head", [b"", b"Connection: close\r\n"])
def test_bytes_behind_an_answer_end_the_connection_and_belong_to_no_later_request(
    posts: Posts, extra: bytes, head: bytes
) -> None:
    outcomes = posts()
    posts.network.links[0].answer(b"HTTP/1.1 200 OK\r\n" + head + b"Content-Length: 2\r\n\r\n{}" + extra)
    assert outcomes == [PostReply(200, b"{}")]
    assert not posts.network.links[0].is_open


def test_bytes_to_an_idle_connection_end_it(posts: Posts) -> None:
    posts()
    posts.network.links[0].answer(SHORT)
    posts.network.links[0].answer(SHORT)
    assert not posts.network.links[0].is_open


def test_an_answer_may_ask_for_the_end_of_its_connection(posts: Posts) -> None:
    outcomes = posts()
    posts.network.links[0].answer(SHORT.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert outcomes == [PostReply(200, b"{}")]
    assert not posts.network.links[0].is_open


def test_a_refused_connection_means_that_nothing_waiting_was_sent(slow: Posts) -> None:
    outcomes = [slow(), slow()]
    slow.network.refuse(error.ConnectionRefusedError(osError=111))
    assert [each[0].args for each in outcomes] == [("connection refused",)] * 2
    assert all(isinstance(each[0], NotSent) for each in outcomes)


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        (error.ConnectionRefusedError(osError=111), "connection refused"),
        (error.DNSLookupError("no results"), "unknown host name"),
        (error.NoRouteError(osError=113), "no route to host"),
        (error.TimeoutError(), "no connection in time"),
    ],
)
def test_operators_read_why_there_is_no_connection(slow: Posts, why: Exception, reason: str) -> None:
    outcomes = slow()
    slow.network.refuse(why)
    assert_failed(outcomes, NotSent, reason)


def test_a_connection_that_is_not_made_in_time_means_that_nothing_was_sent(slow: Posts) -> None:
    outcomes = slow()
    slow.clock.advance(1)
    assert_failed(outcomes, NotSent, "no connection within 1 s")
    slow.clock.advance(10)
    assert slow.network.pending == 0


def test_a_connection_made_too_late_for_its_request_serves_the_next_one(slow: Posts) -> None:
    slow()
    slow.clock.advance(1)
    link = slow.network.accept()
    assert link.take() == b""
    outcomes = slow()
    link.answer(SHORT)
    assert outcomes == [PostReply(200, b"{}")]


def test_a_request_takes_the_connection_that_becomes_idle_first(slow: Posts) -> None:
    slow(b"1")
    link = slow.network.accept()
    slow(b"2")
    link.take()
    link.answer(SHORT)
    assert link.take().endswith(b"\r\n\r\n2")


def test_a_request_that_is_cancelled_closes_its_connection(posts: Posts) -> None:
    answered = posts.transport.post(E1, PATH, b"{}", None, 1.0)
    outcomes = outcome_of(answered)
    answered.cancel()
    assert_failed(outcomes, CancelledError)
    assert not posts.network.links[0].is_open


def test_a_request_that_is_cancelled_while_it_waits_for_a_connection_is_never_sent(slow: Posts) -> None:
    answered = slow.transport.post(E1, PATH, b"{}", None, 1.0)
    outcomes = outcome_of(answered)
    answered.cancel()
    assert_failed(outcomes, CancelledError)
    assert slow.network.accept().take() == b""


def test_closing_ends_all_connections_and_fails_all_requests(posts: Posts) -> None:
    idle, busy = posts(), posts()
    posts.network.links[0].answer(SHORT)
    posts.network.accepts_at_once = False
    posts()
    waiting = posts()
    posts.transport.close()
    assert idle == [PostReply(200, b"{}")]
    assert_failed(busy, ConnectionBroken, "the client was closed")
    assert_failed(waiting, NotSent, "the client was closed")
    assert not any(link.is_open for link in posts.network.links)
    assert posts.clock.getDelayedCalls() == []
    assert_failed(posts(), NotSent, "the client was closed")


def test_no_request_of_the_past_keeps_memory_or_a_timer(posts: Posts) -> None:
    for _ in range(100):
        posts()
        posts.network.links[0].answer(SHORT)
    assert len(posts.transport._client._deadlines._heap) == 1
    posts.clock.advance(10)
    assert posts.clock.getDelayedCalls() == []


def test_requests_with_different_time_limits_each_fail_at_their_own(posts: Posts) -> None:
    late = outcome_of(posts.transport.post(E1, PATH, b"{}", None, 3.0))
    early = outcome_of(posts.transport.post(E1, PATH, b"{}", None, 0.5))
    posts.clock.advance(0.5)
    assert (len(early), len(late)) == (1, 0)
    posts.clock.advance(2.5)
    assert len(late) == 1


def test_an_answer_that_came_in_time_counts_though_the_process_was_too_busy_to_read_it(posts: Posts) -> None:
    outcomes = posts()
    posts.clock.callLater(1.2, posts.network.links[0].answer, SHORT)
    # The reactor runs the timers that are due before it reads sockets.
    posts.clock.advance(1.5)
    assert outcomes == [PostReply(200, b"{}")]


def assert_failed(outcomes: list[Any], kind: type[Exception], reason: str = "") -> None:
    assert [type(each) for each in outcomes] == [kind]
    assert str(outcomes[0]) == reason
