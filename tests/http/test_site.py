"""The limits of a connection, byte by byte, on virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from rqdisco.http.server.heads import MAX_HEAD_BYTES, BadHead
from rqdisco.http.server.parser import RequestParser
from rqdisco.limits.connection_limiter import ConnectionLimiter
from tests.support.connections import CREATE_REQUEST, MAX_BODY, Connection, Server, request
from tests.support.daemon import create_id, register, result
from tests.support.dns_sockets import Reactor
from tests.support.etcd.daemon import EtcdDaemon


def is_bad_request(answer: bytes) -> bool:
    """Report whether an answer is 400, and the last one."""
    return answer.startswith(b"HTTP/1.1 400 Bad Request\r\n") and b"\r\nConnection: close\r\n" in answer


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


def test_a_client_that_takes_no_answers_gets_no_more_of_them(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = server.connect()
    write = connection.transport.write

    def full(data: bytes) -> None:
        write(data)
        connection.protocol.pauseProducing()

    monkeypatch.setattr(connection.transport, "write", full)
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


def stuck(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the client read nothing of what is written from now on."""
    write = connection.transport.write

    def full(data: bytes) -> None:
        write(data)
        connection.protocol.pauseProducing()

    monkeypatch.setattr(connection.transport, "write", full)


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


def test_a_client_that_half_closes_gets_the_delayed_answer_to_a_bad_request(server: Server) -> None:
    for _ in range(30):
        connection = server.connect()
        connection.send(b"GET / HTTP/1.1\r\n\r\n")
    connection.protocol.readConnectionLost()
    assert not connection.closed
    server.wait(2)
    assert is_bad_request(connection.take())
    assert connection.closed


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


@pytest.mark.parametrize("at_once", [True, False])
def test_a_client_that_sends_all_its_requests_and_half_closes_gets_all_answers(server: Server, at_once: bool) -> None:
    connection = server.connect()
    server.daemon.threads.hold = not at_once
    connection.protocol.dataReceived(CREATE_REQUEST + b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 3)
    connection.protocol.readConnectionLost()
    server.daemon.threads.release_all()
    connection.turn()
    received = connection.take()
    assert received.count(b"HTTP/1.1 200 OK") == 4
    assert received.count(b"Connection: close") == 1
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


def registration(discovery_id: str, addr: str) -> bytes:
    return request("POST", f"/{discovery_id}", {"addr": addr})


def test_a_client_that_half_closes_while_it_waits_gets_its_answer_however_long_it_takes(server: Server) -> None:
    connection = server.connect()
    server.daemon.threads.hold = True
    connection.protocol.dataReceived(CREATE_REQUEST)
    connection.protocol.readConnectionLost()
    server.wait(20)
    assert connection.transport.value() == b"HTTP/1.1 ", "a client that is gone resets the connection at this"
    server.daemon.threads.release_all()
    received = connection.take()
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.count(b"HTTP/1.1 ") == 1
    assert connection.closed
    server.daemon.deadlines.stop()


@pytest.mark.parametrize("is_durable_first", [True, False])
def test_a_node_that_is_told_to_bootstrap_may_have_half_closed(server: Server, is_durable_first: bool) -> None:
    discovery_id = create_id(server.daemon)
    connection = server.connect()
    server.daemon.threads.hold = True
    connection.protocol.dataReceived(registration(discovery_id, "10.0.0.1:4001"))
    connection.protocol.readConnectionLost()
    if is_durable_first:
        server.daemon.threads.release_all()
        assert connection.transport.value() == b"HTTP/1.1 "
    server.clock.pump([0.1, 0.3])
    server.daemon.threads.release_all()
    assert connection.take().endswith(b'"nodes": ["10.0.0.1:4001"]}')
    server.daemon.deadlines.stop()


@pytest.mark.parametrize("is_durable_first", [True, False])
def test_a_grant_to_a_client_that_half_closed_and_turns_out_to_be_gone_is_revoked(
    server: Server, is_durable_first: bool
) -> None:
    discovery_id = create_id(server.daemon)
    first, second = server.connect(), server.connect()
    server.daemon.threads.hold = True
    first.protocol.dataReceived(registration(discovery_id, "10.0.0.1:4001"))
    first.protocol.readConnectionLost()
    second.protocol.dataReceived(registration(discovery_id, "10.0.0.2:4001"))
    if is_durable_first:
        server.daemon.threads.release_all()
    first.hang_up()
    server.daemon.threads.release_all()
    assert second.take().endswith(b'"nodes": ["10.0.0.2:4001"]}')
    assert first.take() == b"HTTP/1.1 "
    server.daemon.deadlines.stop()


def test_a_grant_to_a_client_that_half_closed_before_its_request_was_started_may_be_revoked(server: Server) -> None:
    discovery_id = create_id(server.daemon)
    first, second = server.connect(), server.connect()
    lookup = request("GET", f"/{discovery_id}")
    first.protocol.dataReceived(lookup + registration(discovery_id, "10.0.0.1:4001"))
    first.protocol.readConnectionLost()
    server.daemon.threads.hold = True
    first.turn()
    server.daemon.threads.release_all()
    assert first.take().count(b"HTTP/1.1 200") == 1, "whether the client is there is not known yet"
    first.hang_up()
    second.send(registration(discovery_id, "10.0.0.2:4001"))
    server.daemon.threads.release_all()
    assert second.take().endswith(b'"nodes": ["10.0.0.2:4001"]}')
    server.daemon.deadlines.stop()


def test_a_grant_whose_client_half_closed_when_its_time_was_up_is_revoked() -> None:
    clock = Clock()
    server = Server(clock=clock)
    server.daemon = daemon = EtcdDaemon(clock=clock)
    server.site.application = daemon.apis.public()
    discovery_id = create_id(daemon)
    first, second = server.connect(), server.connect()
    daemon.transport.hold = True
    first.send(registration(discovery_id, "10.0.0.1:4001"))
    clock.pump([0.1] * 49)
    first.protocol.readConnectionLost()
    daemon.transport.hold = False
    daemon.transport.release_all()
    clock.pump([0.1] * 10)
    assert b" 503 " in first.take().splitlines()[0]
    assert second.send(registration(discovery_id, "10.0.0.2:4001")).endswith(b'"nodes": ["10.0.0.2:4001"]}')


def test_a_node_that_is_listed_for_a_client_that_half_closed_gets_its_list_at_once(server: Server) -> None:
    discovery_id = create_id(server.daemon)
    register(server.daemon, discovery_id, "10.0.0.1:4001")
    connection = server.connect()
    server.daemon.threads.hold = True
    connection.protocol.dataReceived(registration(discovery_id, "10.0.0.2:4001"))
    connection.protocol.readConnectionLost()
    server.daemon.threads.release_all()
    assert connection.take().endswith(b'"nodes": ["10.0.0.1:4001", "10.0.0.2:4001"]}')
    server.daemon.deadlines.stop()


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


def test_headers_are_spelled_as_most_software_does(server: Server) -> None:
    received = server.connect().send(b"GET /v1/kv/x/leader HTTP/1.1\r\nHost: h\r\n\r\n")
    for name in (b"Date", b"Content-Type", b"Content-Length", b"Cache-Control", b"X-Consul-Index"):
        assert b"\r\n%b: " % name in received
    assert b"\r\nX-Consul-KnownLeader: true\r\n" in received
    assert b"\r\nETag: " in server.connect().send(b"GET /openapi.json HTTP/1.1\r\nHost: h\r\n\r\n")
