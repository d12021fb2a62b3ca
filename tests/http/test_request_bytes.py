"""Requests byte by byte: limits of heads and bodies, garbage, and what is served all the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqdisco.http.server.heads import MAX_HEAD_BYTES, BadHead
from rqdisco.http.server.parser import RequestParser
from tests.support.connections import CREATE_REQUEST, MAX_BODY, Server, is_bad_request


@pytest.fixture
def server() -> Server:
    return Server()


def test_garbage_behind_a_good_request_is_400_and_closed(server: Server) -> None:
    connection = server.connect()
    received = connection.send(CREATE_REQUEST + b"\x00\xff garbage\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200 OK")
    assert is_bad_request(received[received.rindex(b"HTTP/1.1") :])
    assert connection.closed


def test_garbage_that_waits_behind_an_answer_is_400_and_closed_all_the_same(server: Server) -> None:
    connection = server.connect()
    server.daemon.threads.hold = True
    connection.send(CREATE_REQUEST + b"\x00\xff garbage\r\n\r\n" + CREATE_REQUEST)
    server.daemon.threads.release_all()
    connection.turn()
    received = connection.transport.value()
    assert received.startswith(b"HTTP/1.1 200 OK")
    assert is_bad_request(received[received.rindex(b"HTTP/1.1") :])
    assert connection.closed
    server.daemon.deadlines.stop()


def test_a_length_of_thousands_of_digits_is_400(server: Server) -> None:
    received = server.connect().send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n")
    assert is_bad_request(received)


@pytest.mark.parametrize(
    "headers",
    [
        b"X: %b\r\n" % (b"y" * 17_000),
        b"X" * 17_000 + b": y\r\n",
        b"".join(b"X-%d: y\r\n" % number for number in range(101)),
        b"".join(b"X-%d: %b\r\n" % (number, b"y" * 1000) for number in range(17)),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_headers_over_their_limits_are_431_and_closed(server: Server, headers: bytes, at_once: bool) -> None:
    connection = server.connect()
    data = b"GET / HTTP/1.1\r\n" + headers + b"\r\n"
    received = b""
    for start in range(0, len(data), len(data) if at_once else 100):
        if not connection.closed:
            received += connection.send(data[start : start + (len(data) if at_once else 100)])
    assert received.startswith(b"HTTP/1.1 431 ")
    assert received.count(b"HTTP/1.1") == 1
    assert connection.closed


def test_a_hundred_headers_and_16_kib_of_them_are_fine(server: Server) -> None:
    headers = b"".join(b"X-%d: %b\r\n" % (number, b"y" * 150) for number in range(99))
    assert server.connect().send(b"GET / HTTP/1.1\r\nHost: h\r\n" + headers + b"\r\n").startswith(b"HTTP/1.1 200")


def test_an_enormous_body_is_read_to_its_end_but_not_stored(server: Server) -> None:
    connection = server.connect()
    discovery_id = connection.send(CREATE_REQUEST).split(b'disco_id": "')[1][:36]
    connection.send(b"POST /%b HTTP/1.1\r\nHost: h\r\nContent-Length: 50000000\r\n\r\n" % discovery_id)
    chunk = b"x" * 500_000
    for _ in range(99):
        assert connection.send(chunk) == b""
    assert connection.protocol.buffered == MAX_BODY + 1
    assert connection.send(chunk).startswith(b"HTTP/1.1 413 request body too large\r\n")


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: a..b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: " + b"x" * 300 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET http://discovery.rqlite.com/ HTTP/1.1\r\nHost: discovery.rqlite.com\r\n\r\n",
        b"GET http://discovery.rqlite.com HTTP/1.1\r\nHost: discovery.rqlite.com\r\n\r\n",
    ],
)
def test_any_valid_host_is_served(server: Server, head: bytes) -> None:
    assert b" 200 OK\r\n" in server.connect().send(head)


@pytest.mark.parametrize(
    ("target", "status"),
    [(b"/\xff\xfe", 400), (b"/%ff%fe", 404), (b"*", 400), (b"host:443", 400), (b"/%", 404), (b"/a%2Fb", 404)],
)
def test_strange_targets_are_answered_without_a_traceback(server: Server, target: bytes, status: int) -> None:
    received = server.connect().send(b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 %d " % status)
    for method in (b"OPTIONS", b"CONNECT"):
        received = server.connect().send(method + b" " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n")
        assert received.startswith((b"HTTP/1.1 204 ", b"HTTP/1.1 400 ", b"HTTP/1.1 404 ", b"HTTP/1.1 405 "))


def test_methods_are_case_sensitive(server: Server) -> None:
    assert server.connect().send(CREATE_REQUEST.replace(b"POST", b"post")).startswith(b"HTTP/1.1 405 ")


@pytest.mark.parametrize("content_type", [b"multipart/form-data", b"multipart/form-data; boundary=x", b"\xff"])
def test_a_body_is_never_parsed_as_a_form(server: Server, content_type: bytes) -> None:
    connection = server.connect()
    discovery_id = connection.send(CREATE_REQUEST).split(b'disco_id": "')[1][:36]
    received = connection.send(
        b'POST /%b HTTP/1.1\r\nHost: h\r\nContent-Type: %b\r\nContent-Length: 14\r\n\r\n{"addr":"a:1"}'
        % (discovery_id, content_type)
    )
    assert received.endswith(b'"nodes": ["a:1"]}')


def test_a_chunked_body_is_a_body(server: Server) -> None:
    connection = server.connect()
    discovery_id = connection.send(CREATE_REQUEST).split(b'disco_id": "')[1][:36]
    received = connection.send(
        b'POST /%b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n{"addr\r\n8\r\n":"a:1"}\r\n0\r\n\r\n'
        % discovery_id
    )
    assert received.endswith(b'"nodes": ["a:1"]}')


CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_a_body_of_empty_lines_is_parsed_in_many_turns_of_the_reactor(server: Server) -> None:
    connection = server.connect()
    connection.send(CHUNKED_HEAD + b"%x\r\n" % (1 << 20))
    connection.protocol.dataReceived(b"\r\n" * (1 << 15))
    assert connection.transport.producerState == "paused"
    assert connection.protocol.buffered > 1 << 15
    connection.turn()
    assert connection.transport.producerState == "producing"
    server.wait(11)
    assert connection.closed, "it is not whole after ten seconds"


def test_empty_lines_before_a_request_cost_nothing(server: Server) -> None:
    connection = server.connect()
    connection.protocol.dataReceived(b"\r\n" * (1 << 15))
    assert connection.transport.producerState == "producing"
    assert connection.send(CREATE_REQUEST).startswith(b"HTTP/1.1 200 OK")


def test_a_head_that_is_too_large_is_not_parsed_beyond_the_limit() -> None:
    class Counting(RequestParser):
        count = 0

        def on_header(self, name: bytes, value: bytes) -> None:
            self.count += 1

    parser = Counting()
    with pytest.raises(BadHead, match="too large"):
        parser.feed(b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 16_000)
    assert parser.count <= MAX_HEAD_BYTES / 4


def test_many_small_chunks_earn_no_huge_trailer(server: Server) -> None:
    connection = server.connect()
    connection.send(CHUNKED_HEAD + b"1\r\nx\r\n" * 10_000)
    assert connection.send(b"0\r\nA: " + b"a" * 20_000).startswith(b"HTTP/1.1 431 ")


REQUESTS = st.sampled_from(
    [
        CREATE_REQUEST,
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b'POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 14\r\n\r\n{"addr":"a:1"}',
        b"\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"GET /%zz HTTP/9.9\r\n\r\n",
        b"GET //..//%2e?\xff HTTP/1.1\r\n: \r\n\r\n",
    ]
)


@given(st.lists(st.one_of(REQUESTS, st.binary(max_size=60)), max_size=12))
def test_whatever_bytes_arrive_nothing_is_logged_as_an_error_and_the_next_client_is_served(parts: list[bytes]) -> None:
    server = Server()
    connection = server.connect()
    for part in parts:
        if not connection.closed:
            assert b"HTTP/1.1 500" not in connection.send(part)
    assert server.connect().send(CREATE_REQUEST).startswith(b"HTTP/1.1 200 OK")
    connection.hang_up()
    server.daemon.deadlines.stop()


def test_headers_are_spelled_as_most_software_does(server: Server) -> None:
    received = server.connect().send(b"GET /v1/kv/x/leader HTTP/1.1\r\nHost: h\r\n\r\n")
    for name in (b"Date", b"Content-Type", b"Content-Length", b"Cache-Control", b"X-Consul-Index"):
        assert b"\r\n%b: " % name in received
    assert b"\r\nX-Consul-KnownLeader: true\r\n" in received
    assert b"\r\nETag: " in server.connect().send(b"GET /openapi.json HTTP/1.1\r\nHost: h\r\n\r\n")
