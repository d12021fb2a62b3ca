"""Requirements of RFC 9112 and RFC 9110 besides the outcome of a single request."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.connections import CREATE_REQUEST, Connection, Server
from tests.support.daemon import create_id
from tests.support.nasty_requests.rows import GOOD
from tests.support.raw_responses import RawResponse, check_response, read_responses

NODE = b'{"addr":"10.1.1.1:4001"}'
LOCAL_NODE = b'{"addr":"127.0.0.1:4001"}'
CLIENT_HELLO = b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03" + bytes(32) + b"\x00\x00\x04\x13\x01\x00\xff\x01\x00"


@pytest.fixture
def server() -> Server:
    return Server()


def answers(server: Server, connection: Connection, data: bytes) -> list[RawResponse]:
    """Return the responses of this turn of the reactor and of all later ones that are due."""
    received = connection.send(data)
    while any(call.getTime() <= server.clock.seconds() for call in server.clock.getDelayedCalls()):
        server.clock.advance(0)
    return read_responses(received + connection.take())


def answer(server: Server, *lines: bytes, body: bytes = b"") -> RawResponse:
    """Return the one response to a request over a connection of its own."""
    (response,) = answers(server, server.connect(), b"\r\n".join((*lines, b"", b"")) + body)
    check_response(response)
    return response


def chunked(server: Server, path: bytes, body: bytes, *lines: bytes, trailer: bytes = b"") -> RawResponse:
    """Return the response to a chunked request."""
    head = b"POST %b HTTP/1.1" % path, b"Host: h", b"Transfer-Encoding: chunked", *lines
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return answer(server, *head, body=chunk + b"0\r\n" + trailer + b"\r\n")


# Trailers


@pytest.mark.parametrize(
    ("path", "body", "header", "status"),
    [
        (b"/", b"", b"Origin: http://evil.example", 403),
        (b"/", b"", b"Sec-Fetch-Site: cross-site", 403),
        (b"/%b", LOCAL_NODE, b"Via: 1.1 proxy", 409),
        (b"/%b", LOCAL_NODE, b"X-Forwarded-For: 192.0.2.1", 409),
    ],
)
def test_a_header_that_decides_about_a_request_decides_nothing_as_a_trailer(
    server: Server, path: bytes, body: bytes, header: bytes, status: int
) -> None:
    path = path.replace(b"%b", create_id(server.daemon).encode())
    assert chunked(server, path, body, header).status == status
    assert chunked(server, path, body, trailer=header + b"\r\n").status == 200


def test_no_trailer_changes_what_becomes_of_the_next_request(server: Server) -> None:
    connection = server.connect()
    head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    trailers = b"Host: evil\r\nConnection: close\r\nUpgrade: h2c\r\nOrigin: http://evil\r\n"
    found = answers(server, connection, (head + b"0\r\n" + trailers + b"\r\n") * 2 + CREATE_REQUEST)
    assert [response.status for response in found] == [200, 200, 200]
    assert not connection.closed


# OPTIONS


@pytest.mark.parametrize("path", [b"/", b"/%b", b"/healthz", b"/readyz", b"/v1/kv/x/leader"])
def test_options_lists_the_methods_that_a_405_lists(server: Server, path: bytes) -> None:
    path = path.replace(b"%b", create_id(server.daemon).encode())
    offered = answer(server, b"OPTIONS %b HTTP/1.1" % path, b"Host: h")
    refused = answer(server, b"PATCH %b HTTP/1.1" % path, b"Host: h")
    assert (offered.status, refused.status) == (204, 405)
    allowed = [{*b"".join(each.values(b"allow")).replace(b" ", b"").split(b",")} for each in (offered, refused)]
    assert allowed[0] - {b"OPTIONS"} == allowed[1] - {b"OPTIONS"}
    assert b"GET" in allowed[0]


@pytest.mark.parametrize("line", [b"OPTIONS / HTTP/1.0", b"OPTIONS * HTTP/1.0", b"OPTIONS /healthz HTTP/1.0"])
def test_a_load_balancer_that_asks_for_options_learns_that_the_daemon_stops(server: Server, line: bytes) -> None:
    assert answer(server, line).status == 204
    server.daemon.health.stop()
    late = server.connect()
    server.site.drain()
    (response,) = answers(server, late, line + b"\r\n\r\n")
    assert response.status == 503
    assert late.closed


# HEAD


@pytest.mark.parametrize("path", [b"/", b"/%b", b"/healthz", b"/nothing-here"])
def test_head_is_answered_as_get_without_the_body(server: Server, path: bytes) -> None:
    path = path.replace(b"%b", create_id(server.daemon).encode())
    connection = server.connect()
    get = answers(server, connection, b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path)
    head = answers(server, connection, b"HEAD %b HTTP/1.1\r\nHost: h\r\n\r\n" % path)
    assert head[0].body == b""
    assert get[0].body != b""
    assert (head[0].status, head[0].headers) == (get[0].status, get[0].headers)


# Who closes, and what is said before


def test_a_refusal_says_in_json_what_is_wrong_and_that_the_connection_closes(server: Server) -> None:
    response = answer(server, b"GET / HTTP/1.1", b"X Y: z", b"Host: h")
    assert response.status == 400
    assert response.says_close
    assert response.values(b"content-type") == [b"application/json"]
    assert b'"error"' in response.body


def test_a_stopping_daemon_says_that_it_closes(server: Server) -> None:
    connection = server.connect()
    server.site.drain()
    (response,) = answers(server, connection, GOOD)
    assert response.says_close
    assert connection.closed


def test_a_resting_connection_is_closed_and_not_cut(server: Server) -> None:
    resting = [server.connect(), server.connect()]
    answers(server, resting[1], GOOD)
    server.wait(90)
    for connection in resting:
        assert connection.transport.disconnecting
        assert not connection.transport.disconnected, "abortConnection sends RST"


def test_a_client_that_has_closed_its_side_gets_its_answers(server: Server) -> None:
    connection = server.connect()
    server.daemon.threads.hold = True
    connection.protocol.dataReceived(CREATE_REQUEST + GOOD)
    connection.protocol.readConnectionLost()
    assert not connection.closed
    server.daemon.threads.release_all()
    assert [response.status for response in answers(server, connection, b"")] == [200, 200]
    assert connection.closed
    server.daemon.deadlines.stop()


@pytest.mark.parametrize("part", [b"", b"GET / HT", CREATE_REQUEST.replace(b": 0", b": 5") + b"ab"])
def test_a_client_that_has_closed_its_side_within_a_request_is_closed_without_an_answer(
    server: Server, part: bytes
) -> None:
    connection = server.connect()
    if part:
        connection.send(part)
    connection.protocol.readConnectionLost()
    assert connection.closed
    assert connection.take() == b""


@pytest.mark.parametrize("more", [GOOD, b"\x00\xff", CREATE_REQUEST * 50])
def test_whatever_arrives_after_a_refusal_is_not_answered(server: Server, more: bytes) -> None:
    connection = server.connect()
    (refused,) = answers(server, connection, b"GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\nX Y: z\r\n\r\n")
    assert refused.status == 400
    assert answers(server, connection, more) == []


# Expect


def expect(path: bytes, length: int) -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    return head % (path, length)


def test_a_client_that_waits_is_told_to_go_on_once_and_only_when_the_head_is_whole(server: Server) -> None:
    connection = server.connect()
    head = expect(b"/" + create_id(server.daemon).encode(), len(NODE))
    assert b"".join(connection.send(head[place : place + 1]) for place in range(len(head) - 1)) == b""
    assert [response.status for response in answers(server, connection, head[-1:])] == [100]
    for place in range(len(NODE) - 1):
        assert connection.send(NODE[place : place + 1]) == b""
    assert [response.status for response in answers(server, connection, NODE[-1:])] == [200]


def test_a_client_that_waits_behind_another_request_is_told_to_go_on_after_its_answer(server: Server) -> None:
    connection = server.connect()
    server.daemon.threads.hold = True
    path = b"/" + b"0a5306d9-5842-851c-a00f-72fe57b0eb16"
    connection.protocol.dataReceived(CREATE_REQUEST + expect(path, 5))
    assert connection.take() == b""
    server.daemon.threads.release_all()
    assert [response.status for response in answers(server, connection, b"")] == [200, 100]
    server.daemon.deadlines.stop()


def test_a_body_that_would_be_refused_is_not_asked_for(server: Server) -> None:
    connection = server.connect()
    (response,) = answers(server, connection, expect(b"/" + create_id(server.daemon).encode(), 10**9))
    assert response.status == 413
    assert connection.closed
    assert response.says_close


# Hosts and origins


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (b"x:80", b"http://x"),
        (b"x", b"http://x:80"),
        (b"x", b"http://x"),
        (b"X:4001", b"http://x:4001"),
        (b"[::1]:80", b"http://[::1]"),
        (b"x", b"https://x"),
        (b"x:443", b"https://x"),
        (b"x", b"https://x:443"),
    ],
)
def test_a_port_that_is_the_default_of_its_scheme_makes_no_other_origin(
    server: Server, host: bytes, origin: bytes
) -> None:
    assert answer(server, b"POST / HTTP/1.1", b"Host: " + host, b"Origin: " + origin).status == 200


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (b"x:81", b"http://x"),
        (b"x", b"http://x:81"),
        (b"x:443", b"http://x:444"),
        (b"x", b"http://y"),
        (b"x", b"null"),
        (b"x", b"x"),
        (b"x:80", b"http://x.evil"),
        (b"x", b"http://evil@x.example"),
    ],
)
def test_another_port_or_host_is_another_origin(server: Server, host: bytes, origin: bytes) -> None:
    assert answer(server, b"POST / HTTP/1.1", b"Host: " + host, b"Origin: " + origin).status == 403


# HTTP/1.0


def test_a_client_of_http_1_0_gets_an_answer_that_it_understands(server: Server) -> None:
    response = answer(server, b"GET / HTTP/1.0")
    assert response.status == 200
    assert response.says_close


def test_an_event_stream_to_a_client_of_http_1_0_is_not_chunked(server: Server) -> None:
    connection = server.connect()
    path = create_id(server.daemon).encode()
    head = connection.send(b"GET /%b/events HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n" % path)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding" not in head.lower()
    connection.hang_up()


# TLS on a plain port


def test_a_tls_client_on_a_plain_port_gets_nothing_and_the_log_says_so_once(
    server: Server, log: list[dict[str, Any]]
) -> None:
    for _ in range(3):
        connection = server.connect()
        assert connection.send(CLIENT_HELLO) == b""
        assert connection.closed
    lines = [event for event in log if "TLS" in str(event.get("log_format"))]
    assert len(lines) == 1, "once a minute for each client"
