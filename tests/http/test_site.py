"""The connections of a site on virtual time: how long they last, how many there are, their ends."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from rqdisco.limits.connection_limiter import ConnectionLimiter
from tests.support.connections import CREATE_REQUEST, Connection, Server, is_bad_request
from tests.support.daemon import result
from tests.support.dns_sockets import Reactor


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.mark.parametrize(
    "part", [b"P", b"POST / HTTP/1.1\r\n", CREATE_REQUEST[:-2], CREATE_REQUEST.replace(b": 0", b": 5") + b"abc"]
)
def test_half_a_request_and_silence_is_closed_after_ten_seconds(server: Server, part: bytes) -> None:
    connection = server.connect()
    connection.send(part)
    server.wait(9)
    assert not connection.closed
    server.wait(2)
    assert connection.closed


def test_a_request_that_drips_is_closed_after_ten_seconds_all_the_same(server: Server) -> None:
    connection = server.connect()
    for byte in CREATE_REQUEST[:12]:
        connection.send(bytes([byte]))
        server.wait(1)
    assert connection.closed


def test_a_keep_alive_connection_may_idle_and_then_send_again(server: Server) -> None:
    connection = server.connect()
    for _ in range(3):
        assert connection.send(CREATE_REQUEST).startswith(b"HTTP/1.1 200 OK")
        server.wait(60)
        assert not connection.closed
    server.wait(20)
    assert connection.closed


def test_a_connection_that_never_sends_anything_is_closed(server: Server) -> None:
    connection = server.connect()
    server.wait(80)
    assert connection.closed


def test_an_answer_may_take_longer_than_a_request(server: Server) -> None:
    connection = server.connect()
    server.daemon.threads.hold = True
    assert connection.send(CREATE_REQUEST) == b""
    server.wait(30)
    assert not connection.closed
    server.daemon.threads.release_all()
    assert connection.transport.value().startswith(b"HTTP/1.1 200 OK")
    server.daemon.deadlines.stop()


@pytest.mark.parametrize("half", [b"G", b"GET /half HTTP/1.1\r\nHo", CREATE_REQUEST.replace(b": 0", b": 5") + b"abc"])
@pytest.mark.parametrize("at_once", [True, False])
def test_pipelined_requests_are_answered_in_order_and_a_partial_request_after_them_has_ten_seconds(
    server: Server, half: bytes, at_once: bool
) -> None:
    connection = server.connect()
    server.daemon.threads.hold = not at_once
    connection.protocol.dataReceived(CREATE_REQUEST)
    connection.protocol.dataReceived(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" + half)
    server.daemon.threads.release_all()
    connection.turn()
    received = connection.transport.value()
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert received.index(b"disco_id") < received.index(b"uptime")
    server.wait(8)
    assert not connection.closed
    server.wait(4)
    assert connection.closed
    server.daemon.deadlines.stop()


def stuck(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the client read nothing of what is written from now on."""
    write = connection.transport.write

    def full(data: bytes) -> None:
        write(data)
        connection.protocol.pauseProducing()

    monkeypatch.setattr(connection.transport, "write", full)


def test_a_client_that_takes_no_answers_gets_no_more_of_them(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = server.connect()
    stuck(connection, monkeypatch)
    received = connection.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 1000)
    assert received.count(b"HTTP/1.1 200 OK") == 1
    assert connection.closed


def test_a_peer_that_reads_a_large_answer_slowly_keeps_its_connection() -> None:
    connection = Server(trusting=True).connect()
    connection.protocol.pauseProducing()
    assert connection.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200")
    connection.protocol.resumeProducing()
    assert not connection.closed
    assert connection.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("trusting", [False, True])
@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"]
)
def test_a_client_that_reads_nothing_of_an_answer_is_cut_off_after_half_a_minute(
    head: bytes, trusting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(trusting=trusting)
    connection = server.connect()
    stuck(connection, monkeypatch)
    connection.send(head)
    server.wait(29)
    assert not connection.transport.disconnected
    server.wait(2)
    assert connection.transport.disconnected


def test_a_client_that_reads_a_large_answer_slowly_is_not_cut_off() -> None:
    server = Server(trusting=True)
    connection = server.connect()
    server.daemon.threads.hold = True
    connection.protocol.dataReceived(CREATE_REQUEST)
    for _ in range(5):
        connection.protocol.pauseProducing()
        server.wait(29)
        connection.protocol.resumeProducing()
    server.wait(60)
    assert not connection.closed
    server.daemon.threads.release_all()
    assert connection.transport.value().startswith(b"HTTP/1.1 200 OK")
    server.daemon.deadlines.stop()


def test_a_connection_over_the_limit_of_its_client_replaces_an_idle_one() -> None:
    server = Server(limiter=ConnectionLimiter(10, 2, Clock().seconds))
    first, second, other = server.connect(), server.connect(), server.connect("198.51.100.8")
    server.wait(2)
    first.send(CREATE_REQUEST)
    assert server.connect().send(CREATE_REQUEST).startswith(b"HTTP/1.1 200")
    assert second.closed
    assert not first.closed
    assert not other.closed


def test_a_connection_over_the_limit_is_503_while_all_others_wait_for_answers() -> None:
    server = Server(limiter=ConnectionLimiter(10, 2, Clock().seconds))
    server.daemon.threads.hold = True
    for _ in range(2):
        server.connect().send(CREATE_REQUEST)
    late = server.connect()
    received = late.send(CREATE_REQUEST)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 too many connections\r\n")
    assert b"Retry-After: 5" in head
    assert b"Content-Length: %d\r\n" % len(body) in head
    assert late.closed
    assert not server.connect("198.51.100.8").closed
    server.daemon.threads.release_all()
    assert not server.connect().closed
    server.daemon.deadlines.stop()


def test_many_expired_connections_are_cut_a_few_at_a_time() -> None:
    clock = Reactor()
    server = Server(clock=clock)
    connections = [server.connect() for _ in range(250)]
    server.wait(74)
    clock.rightNow += 1
    cut = []
    for _ in range(3):
        clock.turn()
        cut.append(sum(connection.closed for connection in connections))
    assert cut == [100, 200, 250]


def test_of_many_connections_that_rested_too_long_one_with_a_new_request_is_not_closed(server: Server) -> None:
    connections = [server.connect("127.0.0.1") for _ in range(150)]
    server.daemon.threads.hold = True
    server.wait(74)
    busy: list[Connection] = []

    def send() -> None:
        """All that were not closed in the first turn send a request before the next one."""
        busy.extend(connection for connection in connections if not connection.closed)
        for connection in busy:
            connection.protocol.dataReceived(CREATE_REQUEST)

    server.clock.callLater(1, send)
    server.wait(1)
    assert busy
    assert not any(connection.closed for connection in busy)
    server.daemon.threads.release_all()
    server.daemon.deadlines.stop()


def test_a_client_that_hangs_up_leaves_nothing_behind(server: Server) -> None:
    for part in (b"", b"POST / HT", CREATE_REQUEST):
        server.daemon.threads.hold = True
        connection = server.connect()
        connection.send(part)
        connection.hang_up()
        server.daemon.threads.release_all()
    assert not server.site.connections
    server.daemon.deadlines.stop()


def test_stopping_closes_idle_connections_and_answers_requests_that_arrived(server: Server) -> None:
    resting, busy, half, new = (server.connect() for _ in range(4))
    resting.send(CREATE_REQUEST)
    half.send(CREATE_REQUEST[:20])
    server.daemon.threads.hold = True
    busy.send(CREATE_REQUEST)
    server.site.doStop()
    drained = server.site.drain()
    assert resting.closed
    assert not any(each.closed for each in (busy, half, new))
    assert new.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").startswith(b"HTTP/1.1 200 OK"), "it was in flight"
    assert new.closed
    server.clock.advance(1.1)
    assert half.closed
    assert not busy.closed
    server.daemon.threads.release_all()
    assert busy.transport.value().startswith(b"HTTP/1.1 200 OK")
    assert busy.closed
    assert not drained.called
    for connection in (resting, busy, half, new):
        connection.hang_up()
    result(drained)
    assert not server.clock.getDelayedCalls()
    server.daemon.deadlines.stop()


def test_a_request_while_the_daemon_stops_is_answered_once_and_closed(server: Server) -> None:
    connection = server.connect()
    server.site.drain()
    late = server.connect()
    assert b"HTTP/1.1 200 OK" in late.send(CREATE_REQUEST)
    assert late.closed
    connection.hang_up()


def test_connections_that_do_not_end_are_cut(server: Server) -> None:
    connection = server.connect()
    server.daemon.threads.hold = True
    connection.send(CREATE_REQUEST)
    server.site.drain()
    server.site.abort_connections()
    assert connection.closed
    server.daemon.deadlines.stop()


def test_a_connection_answers_one_request_in_each_turn() -> None:
    clock = Reactor()
    server = Server(clock=clock)
    flood, other = server.connect(), server.connect()
    flood.protocol.dataReceived(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 100)
    for turn in range(2, 10):
        other.protocol.dataReceived(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert other.take().startswith(b"HTTP/1.1 200 OK")
        clock.turn()
        assert flood.transport.value().count(b"HTTP/1.1 200 OK") == turn
    assert flood.transport.producerState == "paused", "nothing more is read from it"
    flood.turn()
    assert flood.transport.value().count(b"HTTP/1.1 200 OK") == 100
    assert flood.transport.producerState == "producing"


def test_a_client_that_sends_many_bad_requests_waits_for_each_answer_up_to_a_second() -> None:
    clock = Clock()
    server = Server(clock=clock)
    answered = 0
    for _ in range(60):
        answered += server.connect().send(b"GET\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert answered == 20
    assert server.connect("198.51.100.9").send(b"GET\r\n\r\n").startswith(b"HTTP/1.1 400 "), "another client"
    late = server.connect()
    assert late.send(b"GET\r\n\r\n") == b""
    clock.advance(1.0)
    assert is_bad_request(late.take())
    assert late.closed


def test_this_machine_does_not_wait_for_refusals(server: Server) -> None:
    for _ in range(60):
        assert server.connect("127.0.0.1", "127.0.0.1").send(b"GET\r\n\r\n").startswith(b"HTTP/1.1 400 ")
