"""Connections that begin with a PROXY header, byte by byte, on virtual time."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock

from rqdisco.http.server.proxy_protocol import BadHeader, Header, read_header
from rqdisco.limits.connection_limiter import ConnectionLimiter
from rqdisco.security.certificates import Certificates
from rqdisco.service.listeners import endpoint
from tests.support.connections import OWN, Connection, Server
from tests.support.daemon import create_id, result

PROXY = "192.168.1.1"
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def text(source: str, kind: str = "TCP4", destination: str = "10.9.9.9", ports: str = "4711 4000") -> bytes:
    return f"PROXY {kind} {source} {destination} {ports}\r\n".encode()


def binary(source: str = "10.1.2.3", *, command: int = 0x21, family: int | None = None, more: bytes = b"") -> bytes:
    if ":" in source:
        addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, "fd00::9")
    else:
        addresses = socket.inet_aton(source) + socket.inet_aton("10.9.9.9")
    known = 0x21 if ":" in source else 0x11
    content = addresses + struct.pack("!HH", 4711, 4000) + more
    return SIGNATURE + struct.pack("!BBH", command, known if family is None else family, len(content)) + content


# A proxy's own health checks, and connections from address families it cannot express.
NAMELESS = [
    b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
    SIGNATURE + b"\x20\x00\0\0",
    binary(command=0x20),
    SIGNATURE + b"\x21\x00\0\0",
    binary(family=0x31, more=b"x" * 210),
]
NAMED = [
    (text("10.1.2.3"), "10.1.2.3"),
    (text("2001:db8::1", "TCP6", "fd00::9"), "2001:db8::1"),
    (text("2001:DB8:0::1", "TCP6", "fd00::9"), "2001:db8::1"),
    (binary("10.1.2.3"), "10.1.2.3"),
    (binary("2001:db8::1"), "2001:db8::1"),
    (binary("10.1.2.3", more=b"\x04\0\3abc"), "10.1.2.3"),
]
BAD = [
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\x16\x03\x01\x02\0\x01",
    b"PROXY \r\n",
    b"PROXY TCP4\r\n",
    b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
    text("hello"),
    text("10.1.2"),
    text("10.1.2.3", "TCP6"),
    text("::1"),
    text("10.1.2.3", ports="1 65536"),
    text("10.1.2.3", ports="x 1"),
    text("10.1.2.3", ports="1"),
    text("10.1.2.3", ports="1 2 3"),
    text("10.1.2.3", ports="\u0661 2"),
    b"PROXY TCP4 10.1.2.\xff 10.9.9.9 1 2\r\n",
    b"PROXY UNKNOWN " + b"x" * 200 + b"\r\n",
    b"PROXY TCP4 " + b"x" * 200,
    SIGNATURE + b"\x11\x11\0\x0c" + b"x" * 12,
    SIGNATURE + b"\x22\x11\0\x0c" + b"x" * 12,
    SIGNATURE + b"\x21\x11\0\x0b" + b"x" * 11,
    SIGNATURE + b"\x21\x21\0\x0c" + b"x" * 12,
    SIGNATURE + b"\x21\x11\xff\xff",
]


class ProxiedServer(Server):
    """A daemon that listens on `haproxy:tcp:0`, in memory."""

    def __init__(self, limiter: ConnectionLimiter | None = None) -> None:
        super().__init__(limiter=limiter, clock=MemoryReactorClock())

    def listening(self) -> Any:
        reactor: Any = self.clock
        result(endpoint(reactor, "listen", "haproxy:tcp:0", Certificates(Clock().seconds))[1].listen(self.site))
        return reactor.tcpServers[0][1]

    def connect(self, host: str | None = PROXY, own: str = OWN) -> Connection:
        """Return a connection from the proxy."""
        return super().connect(host, own)


@pytest.fixture
def server() -> ProxiedServer:
    return ProxiedServer()


def register(discovery_id: str) -> bytes:
    body = b'{"addr": "n1:4001"}'
    return b"POST /%b HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (discovery_id.encode(), len(body), body)


def peers(log: list[dict[str, Any]]) -> list[str]:
    return [event["peer"] for event in log if event.get("log_format") == "registration"]


@pytest.mark.parametrize(("header", "client"), [*NAMED, *((header, PROXY) for header in NAMELESS)])
@pytest.mark.parametrize("how", ["at once", "apart", "byte by byte"])
def test_the_log_names_the_client_and_not_the_proxy(
    server: ProxiedServer, log: list[dict[str, Any]], header: bytes, client: str, how: str
) -> None:
    request = register(create_id(server.daemon))
    parts = [header + request] if how == "at once" else [header, request]
    if how == "byte by byte":
        parts = [bytes([byte]) for byte in header + request]
    connection = server.connect()
    received = b"".join(map(connection.send, parts))
    assert received.startswith(b"HTTP/1.1 200 OK\r\n"), received
    assert peers(log) == [client]
    # What follows on the connection is from the same client.
    assert connection.send(request).startswith(b"HTTP/1.1 200 OK\r\n")
    assert peers(log) == [client] * 2


@pytest.mark.parametrize("bad", BAD)
def test_a_connection_without_a_proxy_header_is_closed_without_an_answer(
    server: ProxiedServer, log: list[dict[str, Any]], bad: bytes
) -> None:
    connection = server.connect()
    assert connection.send(bad + GET) == b""
    assert connection.transport.disconnected
    assert [event["peer"] for event in log if "PROXY" in str(event.get("log_format"))] == [PROXY]


def test_refused_proxy_connections_do_not_fill_the_log(server: ProxiedServer, log: list[dict[str, Any]]) -> None:
    for _ in range(50):
        server.connect().send(GET)
    server.wait(61)
    server.connect().send(GET)
    assert len([event for event in log if "PROXY" in str(event.get("log_format"))]) == 2


@pytest.mark.parametrize("header", [header for header, _ in NAMED] + NAMELESS)
def test_half_a_header_and_silence_is_closed_after_ten_seconds(server: ProxiedServer, header: bytes) -> None:
    connections = [server.connect() for _ in range(len(header) - 1)]
    for count, connection in enumerate(connections, start=1):
        connection.send(header[:count])
    server.wait(9)
    assert not any(connection.closed for connection in connections)
    server.wait(2)
    assert all(connection.closed for connection in connections)


def test_a_header_that_drips_is_closed_after_ten_seconds_all_the_same(server: ProxiedServer) -> None:
    connection = server.connect()
    for byte in text("10.1.2.3")[:12]:
        connection.send(bytes([byte]))
        server.wait(1)
    assert connection.closed


def test_a_silent_proxy_connection_is_closed(server: ProxiedServer) -> None:
    connection = server.connect()
    server.wait(70)
    assert not connection.closed
    server.wait(10)
    assert connection.closed


def test_limits_apply_to_clients_behind_a_header_as_to_all_others(server: ProxiedServer) -> None:
    connection = server.connect()
    connection.send(text("10.1.2.3"))
    server.wait(70)
    assert connection.send(GET).startswith(b"HTTP/1.1 200 OK")
    connection.send(GET[:5])
    server.wait(9)
    assert not connection.closed
    server.wait(2)
    assert connection.closed


def test_stopping_treats_proxied_connections_like_all_others(server: ProxiedServer) -> None:
    unreachable, half, resting, busy = (server.connect() for _ in range(4))
    half.send(b"PROX")
    resting.send(text("10.1.2.3") + GET)
    server.daemon.threads.hold = True
    busy.send(text("10.1.2.3") + b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
    server.factory.doStop()
    drained = server.site.drain()
    assert resting.closed
    assert not any(each.closed for each in (unreachable, half, busy))
    server.clock.advance(1.1)
    assert unreachable.closed
    assert half.closed
    assert not busy.closed
    server.daemon.threads.release_all()
    assert busy.transport.value().startswith(b"HTTP/1.1 200 OK")
    assert busy.closed
    for connection in (unreachable, half, resting, busy):
        connection.hang_up()
    result(drained)
    assert not server.clock.getDelayedCalls()
    server.daemon.deadlines.stop()


def test_proxied_connections_that_do_not_end_are_cut(server: ProxiedServer) -> None:
    connection = server.connect()
    server.daemon.threads.hold = True
    connection.send(text("10.1.2.3") + b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
    server.site.drain()
    server.site.abort_connections()
    assert connection.transport.disconnected
    server.daemon.deadlines.stop()


def test_a_client_whose_proxy_hangs_up_was_not_answered(server: ProxiedServer, log: list[dict[str, Any]]) -> None:
    request = register(create_id(server.daemon))
    server.daemon.threads.hold = True
    connection = server.connect()
    connection.send(text("10.1.2.3") + request)
    connection.hang_up()
    server.daemon.threads.hold = False
    server.daemon.threads.release_all()
    assert [event["result"] for event in log if event.get("log_format") == "registration"] == [
        "given up: client gone, or no time left"
    ]
    assert server.connect().send(text("10.1.2.4") + request).endswith(b'"nodes": ["n1:4001"]}')
    server.daemon.deadlines.stop()


@given(st.lists(st.one_of(st.sampled_from([header for header, _ in NAMED] + NAMELESS + BAD), st.binary(max_size=40))))
def test_whatever_bytes_arrive_nothing_is_logged_as_an_error(parts: list[bytes]) -> None:
    server = ProxiedServer()
    connection = server.connect()
    for part in parts:
        if not connection.closed:
            connection.send(part)
    assert server.connect().send(text("10.1.2.3") + GET).startswith(b"HTTP/1.1 200 OK")
    connection.hang_up()
    server.daemon.deadlines.stop()


@given(st.binary(max_size=150), st.sampled_from([b"", SIGNATURE, SIGNATURE + b"\x21\x11\0\x0c", b"PROXY TCP4 "]))
def test_a_header_is_read_whole_or_not_at_all(data: bytes, beginning: bytes) -> None:
    whole = beginning + data
    try:
        header = read_header(whole)
    except BadHeader:
        return
    if isinstance(header, Header):
        assert read_header(whole[: header.size]) == header
        assert read_header(whole[: header.size - 1]) is None


def test_connections_are_counted_for_the_client_that_the_proxy_names() -> None:
    server = ProxiedServer(ConnectionLimiter(100, 2, Clock().seconds))
    head = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    waiting = [server.connect() for _ in range(5)]
    first, second, third = (server.connect() for _ in range(3))
    other = server.connect()
    for connection in (first, second, third):
        assert connection.send(text("10.1.2.3") + head).startswith(b"HTTP/1.1 200")
        server.wait(1)
    assert other.send(text("10.1.2.4") + head).startswith(b"HTTP/1.1 200")
    assert [connection.closed for connection in (first, second, third, other)] == [True, False, False, False]
    assert not any(connection.closed for connection in waiting), "their clients are still unknown"


def test_an_ipv4_client_of_a_proxy_that_speaks_ipv6_has_an_ipv4_address() -> None:
    text = read_header(b"PROXY TCP6 ::ffff:203.0.113.5 ::ffff:10.0.0.1 1 2\r\n")
    assert text is not None
    assert (text.source, text.destination) == ("203.0.113.5", "10.0.0.1")
    mapped = [b"\0" * 10 + b"\xff\xff" + bytes(each) for each in ([203, 0, 113, 5], [10, 0, 0, 1])]
    binary = read_header(b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24" + b"".join(mapped) + b"\0\1\0\2")
    assert binary is not None
    assert (binary.source, binary.destination) == ("203.0.113.5", "10.0.0.1")
