"""Anything sent to the port is answered or closed, no other client notices, and the log stays
clean.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.process import PATIENCE, DaemonProcess, Environment, Reply, parse_replies
from tests.support.reference import Reference

pytestmark = pytest.mark.process


@contextmanager
def connected(daemon: DaemonProcess) -> Iterator[socket.socket]:
    """A plain connection."""
    with socket.create_connection(("127.0.0.1", daemon.port), PATIENCE) as connection:
        yield connection


def read_to_end(connection: socket.socket) -> bytes:
    """Return everything until the other side closes, or cuts, the connection."""
    parts = []
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def exchange(daemon: DaemonProcess, data: bytes) -> list[Reply]:
    """Return the answer to `data` until the daemon closes the connection."""
    with connected(daemon) as connection:
        with suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(data)
        return parse_replies(read_to_end(connection))


def post(path: str, body: bytes, *headers: str, version: str = "1.1") -> bytes:
    """Return a request with a body."""
    lines = [f"POST {path} HTTP/{version}", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def addr(text: str) -> bytes:
    return json.dumps({"addr": text}).encode()


def get(path: bytes, *headers: bytes) -> bytes:
    """Return a request after which the connection is closed."""
    return b"\r\n".join((b"GET " + path + b" HTTP/1.1", b"Connection: close", *headers)) + b"\r\n\r\n"


def test_half_a_request_is_cut_off_in_time(daemon: DaemonProcess) -> None:
    """Ten seconds for a request, whatever part of it is missing, and whatever was answered
    before.
    """
    path = f"/{daemon.create_id()}"
    whole = post(path, addr("10.0.0.1:4001"))
    chunked = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"
    answered = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    halves = [whole[:1], whole[:30], whole[:-1], chunked, whole + whole[:20], answered + whole[:20]]
    with Reference() as reference:
        began = time.monotonic()
        connections = [socket.create_connection(("127.0.0.1", daemon.port), PATIENCE) for _ in halves]
        for connection, half in zip(connections, halves, strict=True):
            connection.sendall(half)
        replies = [parse_replies(read_to_end(connection)) for connection in connections]
        assert 9 < time.monotonic() - began < reference.limit(16)
    assert [len(answers) for answers in replies] == [0, 0, 0, 0, 1, 1]
    for connection in connections:
        connection.close()
    assert daemon.nodes(path[1:]) == ["10.0.0.1:4001"]


def test_garbage_after_a_good_request_does_not_harm_it(daemon: DaemonProcess) -> None:
    path = f"/{daemon.create_id()}"
    replies = exchange(daemon, post(path, addr("10.0.0.1:4001")) + b"\x00\xff garbage\r\n\r\n" + post(path, b"{}"))
    assert [reply.status for reply in replies] == [200, 400]
    assert replies[0].document["nodes"] == ["10.0.0.1:4001"]


def test_pipelined_requests_are_answered_in_order(daemon: DaemonProcess) -> None:
    path = f"/{daemon.create_id()}"
    addresses = [f"10.0.0.{number}:4001" for number in range(50)]
    requests = [post(path, addr(address)) for address in addresses]
    replies = exchange(daemon, b"".join(requests) + get(path.encode(), b"Host: localhost"))
    assert [reply.document["nodes"] for reply in replies[:-1]] == [addresses[:count] for count in range(1, 51)]
    assert replies[-1].document["nodes"] == addresses


@pytest.mark.parametrize("known", [True, False])
def test_a_huge_body_is_refused_and_never_stored(daemon: DaemonProcess, known: bool) -> None:
    discovery_id = daemon.create_id() if known else "unknown"
    (reply,) = exchange(daemon, post(f"/{discovery_id}", bytes(50_000_000), "Connection: close"))
    error = "request body too large" if known else "unknown does not exist"
    assert (reply.status, reply.document) == (413 if known else 404, {"error": error})
    with open(f"/proc/{daemon.process.pid}/status") as status:
        (peak,) = (int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    assert peak < 150_000


def test_a_huge_chunked_body_is_refused(daemon: DaemonProcess) -> None:
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    head = (
        b"POST /%b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        % daemon.create_id().encode()
    )
    (reply,) = exchange(daemon, head + chunk * 100 + b"0\r\n\r\n")
    assert (reply.status, reply.document) == (413, {"error": "request body too large"})


def test_a_chunked_body_is_read(daemon: DaemonProcess) -> None:
    body = addr("10.0.0.1:4001")
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    head = (
        b"POST /%b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        % daemon.create_id().encode()
    )
    (reply,) = exchange(daemon, head + chunks)
    assert (reply.status, reply.document["nodes"]) == (200, ["10.0.0.1:4001"])


@pytest.mark.parametrize("chunk", [b"zz\r\nab\r\n", b"-1\r\n", b"2\r\nabcd\r\n", b"f" * 2000 + b"\r\n"])
def test_a_broken_chunk_is_refused(daemon: DaemonProcess, chunk: bytes) -> None:
    discovery_id = daemon.create_id()
    head = b"POST /%b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" % discovery_id.encode()
    assert [reply.status for reply in exchange(daemon, head + chunk)] == [400]
    assert daemon.nodes(discovery_id) == []


HOSTS = [b"Host: a..b", b"Host: ", b"Host: " + b"a" * 300]
MALFORMED_HOSTS = [b"Host: \xff\xfe", b"X: y", b"Host: a\r\nHost: b"]


def test_the_host_header_is_ignored_on_a_public_listener(installed: Environment, tmp_path: Path) -> None:
    daemon = installed.start(*installed.twistd(tmp_path / "state", "--open", listen="tcp:0"))
    try:
        for path in (b"/", b"/" + daemon.create_id().encode()):
            for host in HOSTS:
                assert [reply.status for reply in exchange(daemon, get(path, host))] == [200], host
    finally:
        daemon.kill()


@pytest.mark.parametrize("host", HOSTS)
def test_an_odd_host_header_is_at_most_refused_on_a_loopback_listener(daemon: DaemonProcess, host: bytes) -> None:
    expected = [200] if host == b"Host: " else [403]
    for path in (b"/", b"/v1/kv/x/leader", b"/" + daemon.create_id().encode()):
        found = [reply.status for reply in exchange(daemon, get(path, host))]
        assert found == ([404] if path.startswith(b"/v1") and expected == [200] else expected)


@pytest.mark.parametrize("host", MALFORMED_HOSTS)
def test_a_request_without_one_valid_host_is_refused(daemon: DaemonProcess, host: bytes) -> None:
    assert [reply.status for reply in exchange(daemon, get(b"/", host))] == [400]


@pytest.mark.parametrize(
    "path",
    [b"/%ff%fe", b"/%00", b"/a%00b", b"/a/b", b"/..", b"/.", b"//", b"/a%2fb", b"/" + b"a" * 65, b"/%"],
)
def test_an_odd_path_is_not_found(daemon: DaemonProcess, path: bytes) -> None:
    (reply,) = exchange(daemon, get(path, b"Host: localhost"))
    assert (reply.status, reply.reason) == (404, "no such discovery ID")
    assert reply.document["error"].endswith(" does not exist")


@pytest.mark.parametrize(
    "request_line",
    [
        b"\x00\x00\x00",
        b"GET /\x00 HTTP/1.1",
        b"GET",
        b"GET / HTTP/9.9",
        b"GET / HTTP",
        b"\x16\x03\x01",
        b"GET /\xff\xfe HTTP/1.1",
    ],
)
def test_a_malformed_request_line_is_refused_or_closed(daemon: DaemonProcess, request_line: bytes) -> None:
    replies = exchange(daemon, request_line + b"\r\n\r\n")
    assert all(reply.status >= 400 for reply in replies)


@pytest.mark.parametrize("header", [b"X: " + b"a" * 100_000, b"X" * 100_000, b"no colon", b"X\x00: y"])
def test_a_malformed_header_is_refused_or_closed(daemon: DaemonProcess, header: bytes) -> None:
    assert all(reply.status >= 400 for reply in exchange(daemon, get(b"/", b"Host: localhost", header)))


def test_many_headers_are_refused_or_closed(daemon: DaemonProcess) -> None:
    headers = [b"X-%d: y" % number for number in range(10_000)]
    assert all(reply.status >= 400 for reply in exchange(daemon, get(b"/", b"Host: localhost", *headers)))


@pytest.mark.parametrize("length", [b"-1", b"1e3", b"ten", b"3\r\nContent-Length: 4"])
def test_an_impossible_length_is_refused(daemon: DaemonProcess, length: bytes) -> None:
    (reply,) = exchange(daemon, b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + length + b"\r\n\r\nabc")
    assert reply.status == 400


@pytest.mark.parametrize(
    "body", [b"\x00", b'{"addr": "a\x00b:1"}', b'{"addr": "a\xff:1"}', b"[" * 16_000, b'{"addr":' * 2_000, b""]
)
def test_a_body_that_is_not_json_is_refused(daemon: DaemonProcess, body: bytes) -> None:
    (reply,) = exchange(daemon, post(f"/{daemon.create_id()}", body, "Connection: close"))
    assert (reply.status, reply.document) == (400, {"error": "bad request body"})


def test_http_1_0_is_served_and_closed(daemon: DaemonProcess) -> None:
    (reply,) = exchange(daemon, post(f"/{daemon.create_id()}", addr("10.0.0.1:4001"), version="1.0"))
    assert (reply.status, reply.document["nodes"]) == (200, ["10.0.0.1:4001"])


def test_a_reset_within_a_body_registers_nothing(daemon: DaemonProcess) -> None:
    discovery_id = daemon.create_id()
    for _ in range(20):
        with connected(daemon) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(post(f"/{discovery_id}", addr("10.0.0.1:4001"))[:-3])
    reply = daemon.request("POST", f"/{discovery_id}", {"addr": "10.0.0.2:4001"})
    assert reply.document["nodes"] == ["10.0.0.2:4001"]


def test_idle_connections_block_nobody(daemon: DaemonProcess) -> None:
    connections = [socket.create_connection(("127.0.0.1", daemon.port), PATIENCE) for _ in range(200)]
    assert daemon.nodes(daemon.create_id()) == []
    for connection in connections:
        connection.close()


def test_a_node_that_is_gone_before_its_answer_is_not_told_to_bootstrap_but_the_next_one_is(
    daemon: DaemonProcess,
) -> None:
    path = f"/{daemon.create_id()}"
    with connected(daemon) as connection:
        # The end of the request is there as soon as the request.
        os.kill(daemon.process.pid, signal.SIGSTOP)
        connection.sendall(post(path, addr("10.0.0.1:4001")))
    os.kill(daemon.process.pid, signal.SIGCONT)
    daemon.wait_for("grant revoked, its client was gone", discovery_id=path[1:])
    (reply,) = exchange(daemon, post(path, addr("10.0.0.2:4001"), "Connection: close"))
    assert reply.document["nodes"] == ["10.0.0.2:4001"]


def test_a_node_that_closes_its_end_early_is_told_to_bootstrap(daemon: DaemonProcess) -> None:
    path = f"/{daemon.create_id()}"
    with connected(daemon) as connection:
        connection.sendall(post(path, addr("10.0.0.1:4001")))
        connection.shutdown(socket.SHUT_WR)
        (reply,) = parse_replies(read_to_end(connection))
    assert reply.document["nodes"] == ["10.0.0.1:4001"]
