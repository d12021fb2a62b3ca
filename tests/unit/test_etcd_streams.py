"""WatchHub' streams, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import error
from twisted.internet.task import Clock

from rqdisco.backends.etcd.transport.streams import HEAD_SECONDS, AgentStreams, stream_agent
from rqdisco.http_client.interfaces import ConnectionBroken
from tests.support.etcd_wire import Link, PlayedNetwork

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Opened:
    """A stream that was opened, its lines and its end."""

    def __init__(
        self, *, accepts_at_once: bool = True, token: str | None = None, endpoint: str = "http://e1:2379"
    ) -> None:
        self.clock = Clock()
        self.network = PlayedNetwork(accepts_at_once=accepts_at_once)
        self.lines: list[bytes] = []
        self.ends: list[Any] = []
        self.closes_after_line = False
        streams = AgentStreams(stream_agent(self.clock, self.network), self.clock, max_line=1000)
        self.stream = streams.open(endpoint, "/v3/watch", b"{}", token, self._receive)
        self.stream.done.addCallbacks(self.ends.append, lambda failure: self.ends.append(failure.value))

    def _receive(self, line: bytes) -> None:
        self.lines.append(line)
        if self.closes_after_line:
            self.stream.close()

    @property
    def link(self) -> Link:
        return self.network.links[0]

    def chunk(self, data: bytes) -> None:
        """Send a part of the body."""
        self.link.answer(b"%x\r\n%b\r\n" % (len(data), data))

    def assert_broken(self, reason: str) -> None:
        """Check the failure that ended it."""
        assert [(type(end), str(end)) for end in self.ends] == [(ConnectionBroken, reason)]


def test_a_stream_is_a_post_that_asks_to_be_told_when_the_leader_is_lost() -> None:
    head, _, body = Opened(token="secret.1").link.take().partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v3/watch HTTP/1.1\r\n")
    assert {b"Grpc-Metadata-Hasleader: true", b"Authorization: secret.1", b"Host: e1:2379"} <= set(head.split(b"\r\n"))
    assert body == b"{}"


def test_the_endpoint_may_be_an_ipv6_address() -> None:
    opened = Opened(endpoint="http://[::1]:2379")
    assert b"\r\nHost: [::1]:2379\r\n" in opened.link.take()


def test_lines_arrive_one_by_one_however_they_are_cut() -> None:
    opened = Opened()
    opened.link.answer(HEAD)
    for part in (b"on", b"e\ntwo\n\nth", b"ree", b"\n"):
        opened.chunk(part)
    assert opened.lines == [b"one", b"two", b"three"]


def test_the_end_of_a_stream_is_no_error() -> None:
    opened = Opened()
    opened.link.answer(HEAD)
    opened.link.answer(b"0\r\n\r\n")
    assert opened.ends == [None]


def test_an_answer_that_is_no_stream_is_one_line() -> None:
    opened = Opened()
    opened.link.answer(b'HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\n{"code":5}')
    assert (opened.lines, opened.ends) == ([b'{"code":5}'], [None])


def test_a_broken_connection_delivers_no_half_line() -> None:
    opened = Opened()
    opened.link.answer(HEAD)
    opened.chunk(b"one\ntw")
    opened.link.end(error.ConnectionLost())
    assert opened.lines == [b"one"]
    opened.assert_broken("the connection ended")


def test_a_line_that_is_too_long_ends_the_stream() -> None:
    opened = Opened()
    opened.link.answer(HEAD)
    for _ in range(11):
        opened.chunk(b"x" * 100)
    opened.assert_broken("a line is longer than 1000 bytes")
    assert not opened.link.is_open


def test_a_member_that_says_nothing_is_given_up() -> None:
    opened = Opened()
    opened.clock.advance(HEAD_SECONDS)
    opened.assert_broken("no answer within 5 s")
    assert not opened.link.is_open


def test_a_stream_may_be_silent_for_as_long_as_it_likes_once_it_is_open() -> None:
    opened = Opened()
    opened.link.answer(HEAD)
    opened.clock.advance(100_000)
    opened.chunk(b"one\n")
    assert (opened.lines, opened.ends) == ([b"one"], [])


@pytest.mark.parametrize(
    ("why", "reason"),
    [(error.ConnectionRefusedError(osError=111), "connection refused"), (error.DNSLookupError(), "unknown host name")],
)
def test_operators_read_why_a_stream_cannot_be_opened(why: Exception, reason: str) -> None:
    opened = Opened(accepts_at_once=False)
    opened.network.refuse(why)
    opened.assert_broken(reason)


@pytest.mark.parametrize("data", [b"", HEAD, HEAD + b"3\r\none\r\n"])
def test_closing_a_stream_closes_its_connection_and_delivers_nothing_more(data: bytes) -> None:
    opened = Opened()
    opened.link.answer(data)
    opened.stream.close()
    assert (opened.lines, opened.ends) == ([], [None])
    assert not opened.link.is_open


def test_a_stream_that_is_closed_before_it_is_open_connects_no_more() -> None:
    opened = Opened(accepts_at_once=False)
    opened.stream.close()
    assert (opened.ends, opened.network.pending) == ([None], 0)


def test_a_receiver_may_close_the_stream() -> None:
    opened = Opened()
    opened.link.answer(HEAD)
    opened.closes_after_line = True
    opened.chunk(b"one\ntwo\n")
    assert (opened.lines, opened.ends) == ([b"one"], [None])
