"""The request rate of a client: what is delayed, what is refused, and who is not limited."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest

from rqdisco.core.records import Node
from rqdisco.http.requests.request import Request
from rqdisco.http.server.site import Site, SiteConfig
from rqdisco.http.server.throttling import MAX_DELAY_SECONDS, PricedApplication, ThrottledApplication
from rqdisco.service.options import DaemonOptions
from tests.support.backends import new_daemon
from tests.support.connections import CLIENT, CREATE_REQUEST, Connection
from tests.support.daemon import create_id, register, result, shown
from tests.support.dns_sockets import Reactor

OTHER = "198.51.100.8"
SHOW = b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n"


class Working:
    """An application whose requests take CPU time of a server."""

    def __init__(self, server: Server, application: PricedApplication) -> None:
        self._server = server
        self._application = application
        self.max_body, self.cost = application.max_body, application.cost

    def handle(self, request: Request) -> None:
        self._server.cpu += self._server.work
        self._application.handle(request)


class Server:
    """A site in memory with a limited rate of requests and created IDs."""

    def __init__(self, rate: float = 10.0, create_rate: float = 0.0) -> None:
        self.clock = Reactor()
        self.daemon = new_daemon(clock=self.clock, create_rate=create_rate)
        self.refused = 0
        # The CPU time of the thread so far, and what each request takes of it.
        self.cpu = self.work = 0.0
        working = Working(self, self.daemon.apis.public())
        self.throttled = ThrottledApplication(working, self.clock, rate, lambda: self.cpu, self._count)
        self.site = Site(self.throttled, self.clock, SiteConfig(), lambda: 0.0)
        self.discovery_id = create_id(self.daemon).encode()

    def _count(self) -> None:
        self.refused += 1

    def connect(self, host: str = CLIENT) -> Connection:
        return Connection(self.site, host)

    def show(self, host: str = CLIENT) -> Connection:
        connection = self.connect(host)
        connection.protocol.dataReceived(SHOW % self.discovery_id)
        return connection

    def spend(self) -> None:
        """Use up everything that a client may send in a short time, a while ago."""
        while not self.throttled._steady.take(CLIENT):
            pass


def answered(connection: Connection) -> int | None:
    """Return the status of the answer, None if there is none yet."""
    data = connection.transport.value()
    return int(data.split(b" ", 2)[1]) if data else None


def post(discovery_id: bytes, addr: str) -> bytes:
    body = json.dumps({"addr": addr}).encode()
    return b"POST /%b HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (discovery_id, len(body), body)


def test_requests_over_the_rate_are_answered_at_the_rate_and_in_order() -> None:
    server = Server()
    server.spend()
    waiting = [server.show() for _ in range(10)]
    assert [answered(each) for each in waiting] == [None] * 10
    for count in range(1, 11):
        server.clock.advance(0.1001)
        assert [answered(each) for each in waiting] == [200] * count + [None] * (10 - count)
    assert not server.daemon.clock.getDelayedCalls()


def test_a_client_that_would_wait_too_long_gets_503_with_a_retry_time() -> None:
    server = Server()
    server.spend()
    waiting = [server.show() for _ in range(10)]
    late = [server.show(), server.connect(), server.connect()]
    late[1].send(b"GET //v1/kv/x/leader HTTP/1.1\r\nHost: h\r\n\r\n")
    late[2].send(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
    server.clock.advance(0.99)
    assert [answered(each) for each in late] == [None] * 3, "otherwise it would ask again at once"
    server.clock.advance(0.02)
    assert all(answered(each) == 200 for each in waiting)
    received = late[0].transport.value()
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 too many requests\r\n")
    assert b"Retry-After: 1" in head
    assert json.loads(body) == {"error": "too many requests"}
    received = late[1].transport.value()
    assert received.startswith(b"HTTP/1.1 503 too many requests\r\n")
    assert received.endswith(b"\r\n\r\ntoo many requests")
    received = late[2].transport.value()
    assert received.startswith(b"HTTP/1.1 503 ")
    assert received.endswith(b"\r\n\r\n")
    assert server.refused == 3


def test_a_thousand_nodes_behind_one_address_start_at_once_and_all_are_served_within_half_a_second() -> None:
    parsed = DaemonOptions({})
    parsed.parseOptions([])
    bounds = parsed.config.bounds
    server = Server(bounds.client_rate, bounds.create_rate)
    connections = [server.connect() for _ in range(1000)]
    for number, connection in enumerate(connections):
        connection.protocol.dataReceived(post(server.discovery_id, f"10.0.{number >> 8}.{number & 255}:4001"))
    server.clock.pump([0.01] * 50)
    assert all(connection.transport.value().startswith(b"HTTP/1.1 200 OK") for connection in connections)
    assert len(shown(server.daemon, server.discovery_id.decode())) == 1000


def test_delayed_requests_continue_a_few_per_reactor_turn() -> None:
    server = Server(rate=1000)
    connections = [server.show() for _ in range(150)]
    assert [answered(each) for each in connections].count(200) == 100
    server.clock.rightNow += 0.5
    counts = []
    for _ in range(3):
        server.clock.turn()
        counts.append([answered(each) for each in connections].count(200))
    assert counts == [120, 140, 150]
    assert not server.clock.getDelayedCalls()


def test_clients_do_not_wait_for_each_other() -> None:
    server = Server()
    server.spend()
    assert answered(server.show()) is None
    assert answered(server.show(OTHER)) == 200


PAGE = b"GET /%b HTTP/1.1\r\nHost: h\r\nAccept: text/html\r\n\r\n"


def page(server: Server) -> Connection:
    connection = server.connect()
    connection.protocol.dataReceived(PAGE % server.discovery_id)
    return connection


def delay(server: Server) -> float:
    """Return the seconds that the client's next request would wait."""
    return max(bucket.take(CLIENT, patience=-1) for bucket in (server.throttled._steady, server.throttled._burst))


@pytest.mark.parametrize(("milliseconds", "units"), [(0.1, 1), (1, 1), (2, 20), (50, 500)])
def test_a_request_that_takes_long_is_repaid_by_the_requests_after_it(milliseconds: float, units: int) -> None:
    server = Server(rate=1000)
    server.spend()
    server.clock.advance(0.01)
    server.work = milliseconds / 1000
    connection = server.show()
    assert answered(connection) == 200, "it begins while there is anything left"
    server.work = 0.0
    assert delay(server) == pytest.approx(max(0, units - 9) / 1000)
    assert answered(server.show(OTHER)) == 200


def test_a_delayed_request_is_charged_for_its_time_too() -> None:
    server = Server(rate=1000)
    server.spend()
    server.work = 0.05
    waiting = server.show()
    server.clock.advance(0.01)
    assert answered(waiting) == 200
    server.work = 0.0
    assert delay(server) == pytest.approx(0.491)


def test_a_client_never_waits_for_longer_than_five_seconds_for_what_it_took() -> None:
    server = Server(rate=1000)
    server.work = 60.0
    server.show()
    server.work = 0.0
    refused = server.show()
    server.clock.advance(1)
    assert answered(refused) == 503
    server.clock.advance(4.1)
    assert answered(server.show()) == 200


def test_a_page_costs_fifty_lookups_and_a_large_one_more() -> None:
    server = Server(rate=1000)
    server.spend()
    server.clock.advance(0.01)
    assert answered(page(server)) == 200
    assert delay(server) == pytest.approx(0.041)
    server.clock.advance(0.051)
    for number in range(200):
        register(server.daemon, server.discovery_id.decode(), f"10.0.0.{number}:4001")
    document = page(server).transport.value().partition(b"\r\n\r\n")[2]
    assert len(document) > 50 * 1024
    assert delay(server) == pytest.approx((len(document) / 1024 - 10) / 1000)


def test_many_pages_at_once_are_charged_before_they_are_rendered() -> None:
    server = Server(rate=1000)
    asked = [page(server) for _ in range(1000)]
    server.clock.pump([0.05] * 21)
    counts = Counter(map(answered, asked))
    # The burst of ten seconds pays for 200 pages, and each second for 20.
    assert 200 <= counts[200] <= 221
    assert counts[200] + counts[503] == 1000


@pytest.mark.parametrize("rate", [10, 500])
def test_a_page_does_not_delay_its_files(rate: int) -> None:
    server = Server(rate=rate)
    for _ in range(2):
        assert answered(page(server)) == 200
        server.clock.advance(1 / rate)
        files = [server.show() for _ in range(6)]
        server.clock.pump([0.01] * 20)
        assert [answered(each) for each in files] == [200] * 6
        server.clock.advance(5)


def test_events_are_charged_to_their_watcher_as_they_are_sent() -> None:
    server = Server(rate=1000)
    watcher = server.connect()
    for number in range(800):
        register(server.daemon, server.discovery_id.decode(), f"10.0.{number >> 8}.{number & 255}:4001")
    watcher.protocol.dataReceived(b"GET /%b/events HTTP/1.1\r\nHost: h\r\n\r\n" % server.discovery_id)
    size = len(watcher.take())
    server.spend()
    for number in range(4):
        register(server.daemon, server.discovery_id.decode(), f"10.1.0.{number}:4001")
        server.clock.advance(0.25)
    count = 0
    while not server.throttled._steady.take(CLIENT):
        count += 1
    # The request itself has paid for one unit.
    assert count == 1000 - math.ceil(5 * (0.25 + size / 65536) - 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_the_local_host_is_not_limited(host: str) -> None:
    server = Server()
    assert all(answered(server.show(host)) == 200 for _ in range(300))


def test_a_client_that_hangs_up_while_it_is_delayed_leaves_nothing_behind_and_nothing_is_done() -> None:
    server = Server()
    server.spend()
    connection = server.connect()
    connection.protocol.dataReceived(post(server.discovery_id, "a:1"))
    connection.hang_up()
    server.clock.advance(MAX_DELAY_SECONDS)
    assert shown(server.daemon, server.discovery_id.decode()) == []


def test_a_delayed_registration_is_like_any_other() -> None:
    server = Server()
    server.spend()
    connection = server.connect()
    assert connection.send(post(server.discovery_id, "a:1") + post(server.discovery_id, "b:1")) == b""
    server.clock.advance(0.1001)
    assert connection.transport.value().endswith(b'"nodes": ["a:1"]}')
    server.clock.advance(0.1001)
    assert connection.transport.value().endswith(b'"nodes": ["a:1", "b:1"]}')


@pytest.mark.parametrize("path", [b"/healthz", b"//readyz", b"/readyz/?grant=1"])
def test_probes_are_never_delayed(path: bytes) -> None:
    server = Server()
    server.spend()
    for _ in range(30):
        server.show()
    assert server.connect().send(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path)


def test_a_client_that_creates_too_many_ids_gets_429_and_may_do_all_else() -> None:
    server = Server(rate=1000, create_rate=1)
    connection = server.connect()
    for _ in range(10):
        assert connection.send(CREATE_REQUEST).startswith(b"HTTP/1.1 200 OK")
    received = connection.send(CREATE_REQUEST)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 429 too many requests\r\n")
    assert b"Retry-After: 1" in head
    assert json.loads(body) == {"error": "too many requests"}
    assert connection.send(b"PUT /orders HTTP/1.1\r\nHost: h\r\n\r\n").startswith(b"HTTP/1.1 429 ")
    assert connection.send(post(server.discovery_id, "a:1")).startswith(b"HTTP/1.1 200 OK")
    assert server.connect(OTHER).send(CREATE_REQUEST).startswith(b"HTTP/1.1 200 OK")
    for _ in range(30):
        assert server.connect("127.0.0.1").send(CREATE_REQUEST).startswith(b"HTTP/1.1 200 OK")
    server.clock.advance(1)
    assert connection.send(CREATE_REQUEST).startswith(b"HTTP/1.1 200 OK")
    server.daemon.deadlines.stop()


@pytest.mark.parametrize("query", [b"", b"?cas=0"])
def test_keys_that_create_ids_count_too_and_existing_ones_do_not(query: bytes) -> None:
    server = Server(rate=1000, create_rate=1)
    connection = server.connect()

    def put(key: bytes) -> bytes:
        body = b'{"addr": "n1:4002"}'
        head = b"PUT /v1/kv/%b/leader%b HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (key, query, len(body))
        return connection.send(head + body)

    for number in range(10):
        assert put(b"key-%d" % number).startswith(b"HTTP/1.1 200 OK")
    refused = put(b"another")
    assert refused.startswith(b"HTTP/1.1 503 too many requests\r\n"), "429 is for creating IDs"
    assert refused.endswith(b"\r\n\r\ntoo many requests")
    assert put(b"key-1").startswith(b"HTTP/1.1 200 OK")
    assert put(server.discovery_id).startswith(b"HTTP/1.1 200 OK")
    server.daemon.deadlines.stop()


def test_a_claim_under_an_unknown_created_id_creates_nothing_and_is_not_counted_as_creation() -> None:
    server = Server(rate=1000, create_rate=1)
    connection = server.connect()
    body = b'{"addr": "n1:4002"}'

    def claim(key: bytes) -> bytes:
        return connection.send(
            b"PUT /v1/kv/%b/leader?cas=0 HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (key, len(body)) + body
        )

    for _ in range(20):
        assert claim(b"ffff306d-5842-851c-a00f-72fe57b0eb16").startswith(b"HTTP/1.1 404 no such discovery ID\r\n")
    assert claim(b"orders").startswith(b"HTTP/1.1 200 OK")
    server.daemon.deadlines.stop()


def test_ids_on_their_way_to_the_disk_count_whatever_becomes_of_them() -> None:
    server = Server()
    server.daemon.threads.hold = True
    before = server.daemon.store.count_all()
    connections = [server.connect("127.0.0.1") for _ in range(5)]
    for connection in connections:
        connection.protocol.dataReceived(CREATE_REQUEST)
    assert server.daemon.store.count_all() == before + 5
    server.daemon.threads.release()
    assert server.daemon.store.count_all() == before + 5
    registering = register(server.daemon, server.discovery_id.decode(), "a:1")
    assert server.daemon.store.count_all() == before + 5
    server.daemon.disk.room = 0
    server.daemon.threads.release_all()
    assert [answered(each) for each in connections].count(200) == server.daemon.store.count_all() - before
    assert registering.called
    registering.addErrback(lambda _: None)
    server.daemon.disk.room = None
    server.daemon.threads.hold = False
    assert result(register(server.daemon, server.discovery_id.decode(), "a:1")).record.nodes == (Node(addr="a:1"),)
    server.daemon.deadlines.stop()
