"""The client host of a request, and the answers to nodes that advertise loopback addresses."""

from __future__ import annotations

import socket
from typing import Any

import msgspec
import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from tests.http.conftest import ApiClient
from tests.http.test_proxied import ProxiedServer, binary, text
from tests.support.backends import new_daemon
from tests.support.connections import OWN, Connection, Server, request
from tests.support.daemon import create_id, inspected
from tests.support.listening import close
from tests.support.process import Reply, parse_replies

DEFAULT, SECOND, THIRD = "localhost:4001", "localhost:4003", "localhost:4005"
ANOTHER = "localhost:4001 is another machine's, set -http-adv-addr"
HIDDEN = "localhost:4001 came through a proxy that hides its machine, set -http-adv-addr"
# What rqlited 7 to 10 report when left at the default.
LEFT_AT_DEFAULT = {"id": "localhost:4002", "api_addr": "http://localhost:4001", "addr": "localhost:4002"}
KEY = "/v1/kv/rqlite/leader"
CLAIM = f"{KEY}?cas=0"


def reply(connection: Connection, method: str, path: str, document: object = None, **headers: str) -> Reply:
    """Return the answer to one request."""
    (answered,) = parse_replies(connection.send(request(method, path, document, **headers)))
    return answered


def posted(connection: Connection, discovery_id: str, addr: str, **headers: str) -> Any:
    """Return the list answered to a node, or the reason phrase of a refusal, whose text is the
    same.
    """
    answered = reply(connection, "POST", f"/{discovery_id}", {"addr": addr}, **headers)
    if answered.status == 200:
        return answered.document["nodes"]
    assert answered.status == 409
    assert answered.document == {"error": answered.reason}
    return answered.reason


@pytest.fixture
def server(each_backend: None) -> Server:
    """A server over either backend."""
    return Server()


@pytest.fixture
def proxied() -> ProxiedServer:
    return ProxiedServer()


def behind(server: ProxiedServer, client: str, *, proxy: str = "10.9.9.9") -> Connection:
    """Return a connection of a client that the proxy names."""
    connection = server.connect(proxy)
    connection.send(text(client) if ":" not in client else text(client, "TCP6", "fd00::9"))
    return connection


def test_one_of_three_hosts_behind_a_proxy_left_at_the_default_is_alone(proxied: ProxiedServer) -> None:
    discovery_id = create_id(proxied.daemon)
    assert posted(behind(proxied, "10.0.0.1"), discovery_id, DEFAULT) == [DEFAULT]
    assert posted(behind(proxied, "10.0.0.2"), discovery_id, DEFAULT) == ANOTHER
    assert posted(behind(proxied, "10.0.0.3"), discovery_id, DEFAULT) == ANOTHER
    assert posted(behind(proxied, "10.0.0.4"), discovery_id, "10.0.0.4:4001") == ANOTHER, "it is not sent to itself"
    assert posted(behind(proxied, "10.0.0.1"), discovery_id, SECOND) == [DEFAULT, SECOND]
    for addr in (DEFAULT, SECOND):
        assert reply(behind(proxied, "10.0.0.4"), "DELETE", f"/{discovery_id}", {"addr": addr}).status == 200
    assert posted(behind(proxied, "10.0.0.4"), discovery_id, "10.0.0.4:4001") == ["10.0.0.4:4001"]
    assert posted(behind(proxied, "10.0.0.5"), discovery_id, "10.0.0.5:4001") == ["10.0.0.4:4001", "10.0.0.5:4001"]


@pytest.mark.parametrize(
    "client", ["198.51.100.7", "2001:db8::7", "::ffff:198.51.100.7", "127.0.0.1", "::1", None, OWN]
)
def test_the_three_nodes_of_the_originals_example_form_a_cluster_on_any_one_host(
    server: Server, client: str | None
) -> None:
    discovery_id = create_id(server.daemon)
    connection = server.connect(client)
    assert posted(connection, discovery_id, DEFAULT) == [DEFAULT]
    assert posted(connection, discovery_id, SECOND) == [DEFAULT, SECOND]
    assert posted(server.connect(client), discovery_id, THIRD) == [DEFAULT, SECOND, THIRD]
    assert posted(server.connect("198.51.100.8"), discovery_id, DEFAULT) == ANOTHER


def test_the_daemons_host_is_one_client_host_by_every_route(server: Server) -> None:
    discovery_id = create_id(server.daemon)
    ways = [server.connect(host) for host in ("127.0.0.1", "127.0.0.9", "::1", "::ffff:127.0.0.1", OWN, None)]
    ways += [server.connect("::ffff:10.0.0.5", "::ffff:10.0.0.5"), server.connect("fe80::5%eth0", "fe80::5%eth0")]
    for number, connection in enumerate(ways, start=1):
        assert len(posted(connection, discovery_id, f"localhost:{4001 + 2 * number}")) == number


def test_one_host_is_the_same_by_ipv4_and_by_ipv4_in_ipv6(server: Server) -> None:
    discovery_id = create_id(server.daemon)
    assert posted(server.connect("10.0.0.1"), discovery_id, DEFAULT) == [DEFAULT]
    assert posted(server.connect("::ffff:10.0.0.1"), discovery_id, SECOND) == [DEFAULT, SECOND]
    assert posted(server.connect("fd00::a00:1"), discovery_id, DEFAULT) == ANOTHER


FORWARDED = [
    {"Via": "1.1 squid"},
    {"Forwarded": "for=10.0.0.1"},
    {"X_Forwarded_For": "10.0.0.1"},
    {"X_Real_IP": "10.0.0.1"},
    {"X_Forwarded_Proto": "http"},
    {"X_Envoy_External_Address": "10.0.0.1"},
    {"CF_Connecting_IP": "10.0.0.1"},
]


@pytest.mark.parametrize("header", FORWARDED)
@pytest.mark.parametrize("client", ["127.0.0.1", "10.9.9.9"])
def test_only_reachable_addresses_are_accepted_behind_a_proxy_that_names_the_client_in_a_header(
    server: Server, client: str, header: dict[str, str]
) -> None:
    discovery_id = create_id(server.daemon)
    assert posted(server.connect(client), discovery_id, DEFAULT, **header) == HIDDEN
    assert posted(server.connect(client), discovery_id, "10.0.0.1:4001", **header) == ["10.0.0.1:4001"]
    assert posted(server.connect(client), discovery_id, "n2:4001", **header) == ["10.0.0.1:4001", "n2:4001"]
    assert reply(server.connect(client), "PUT", CLAIM, LEFT_AT_DEFAULT, **header).body == b"false"
    proper = {"id": "1", "api_addr": "http://10.0.0.1:4001", "addr": "10.0.0.1:4002"}
    assert reply(server.connect(client), "PUT", CLAIM, proper, **header).body == b"true"


def test_nginx_without_header_configuration_is_recognized_by_its_http_1_0(server: Server) -> None:
    discovery_id = create_id(server.daemon)
    asked = request("POST", f"/{discovery_id}", {"addr": DEFAULT}).replace(b"HTTP/1.1", b"HTTP/1.0")
    (answered,) = parse_replies(server.connect("127.0.0.1").send(asked))
    assert (answered.status, answered.reason) == (409, HIDDEN)


def test_a_proxy_protocol_header_and_a_forwarded_header_may_both_name_the_client(proxied: ProxiedServer) -> None:
    discovery_id = create_id(proxied.daemon)
    same = {"X_Forwarded_For": "10.0.0.1", "X_Forwarded_Proto": "https"}
    assert posted(behind(proxied, "10.0.0.1"), discovery_id, DEFAULT, **same) == [DEFAULT]
    for header in ({"X_Forwarded_For": "10.0.0.9, 10.0.0.1"}, {**same, "Via": "1.1 squid"}, {"X_Real_IP": "10.0.0.9"}):
        assert posted(behind(proxied, "10.0.0.1"), create_id(proxied.daemon), DEFAULT, **header) == HIDDEN
    assert posted(behind(proxied, "10.0.0.1"), discovery_id, SECOND) == [DEFAULT, SECOND]


def test_a_proxy_on_the_daemons_host_counts_as_that_host(proxied: ProxiedServer) -> None:
    discovery_id = create_id(proxied.daemon)
    assert posted(behind(proxied, "127.0.0.1", proxy="127.0.0.1"), discovery_id, DEFAULT) == [DEFAULT]
    assert posted(behind(proxied, "::1", proxy="127.0.0.1"), discovery_id, SECOND) == [DEFAULT, SECOND]
    # From the address that it connected to.
    assert len(posted(behind(proxied, "10.9.9.9", proxy=OWN), discovery_id, THIRD)) == 3
    assert posted(behind(proxied, "10.0.0.1", proxy="127.0.0.1"), discovery_id, DEFAULT) == ANOTHER


def test_a_client_on_the_host_of_a_remote_proxy_is_unknown_unless_it_shows_its_address(
    proxied: ProxiedServer,
) -> None:
    discovery_id = create_id(proxied.daemon)
    for client in ("127.0.0.1", "::1"):
        assert posted(behind(proxied, client), discovery_id, DEFAULT) == HIDDEN
    assert posted(behind(proxied, "10.9.9.9"), discovery_id, DEFAULT) == [DEFAULT]


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", binary(command=0x20), binary(family=0x31, more=b"x" * 210)])
def test_a_client_that_a_proxy_does_not_name_is_unknown(proxied: ProxiedServer, header: bytes) -> None:
    discovery_id = create_id(proxied.daemon)
    connection = proxied.connect("127.0.0.1")
    connection.send(header)
    assert posted(connection, discovery_id, DEFAULT) == HIDDEN


def kv(server: Server, client: str | None, method: str, path: str, document: object = None) -> tuple[int, bytes]:
    """Return status and body of Consul's answer to a client."""
    answered = reply(server.connect(client), method, path, document)
    return answered.status, answered.body


def test_one_of_several_hosts_left_at_the_default_wins_the_key_and_the_others_see_none(server: Server) -> None:
    assert kv(server, "10.0.0.1", "PUT", CLAIM, LEFT_AT_DEFAULT) == (200, b"true")
    assert kv(server, "10.0.0.2", "PUT", CLAIM, LEFT_AT_DEFAULT) == (200, b"false")
    assert kv(server, "10.0.0.1", "PUT", KEY, LEFT_AT_DEFAULT) == (200, b"true")
    assert kv(server, "10.0.0.1", "GET", f"{KEY}?raw")[0] == 200
    before = inspected(server.daemon, "rqlite")
    for client in ("10.0.0.2", "127.0.0.1", None):
        assert kv(server, client, "GET", KEY) == (404, b"")
        assert kv(server, client, "PUT", CLAIM, LEFT_AT_DEFAULT) == (200, b"false")
        proper = {"id": "2", "api_addr": "http://10.0.0.2:4001", "addr": "10.0.0.2:4002"}
        for value in (LEFT_AT_DEFAULT, proper):
            assert kv(server, client, "PUT", KEY, value) == (200, b"false")
    assert inspected(server.daemon, "rqlite") == before
    assert kv(server, "10.0.0.1", "GET", KEY)[0] == 200
    assert kv(server, "10.0.0.1", "GET", "/rqlite")[0] == 200
    assert reply(server.connect("10.0.0.2"), "DELETE", "/rqlite", {"addr": DEFAULT}).status == 200
    assert kv(server, "10.0.0.2", "PUT", CLAIM, {"addr": "10.0.0.2:4002"}) == (200, b"true")


def test_a_consul_kv_cluster_on_one_host_sees_its_leader(server: Server) -> None:
    for client in ("127.0.0.1", OWN, None):
        assert kv(server, client, "PUT", KEY, LEFT_AT_DEFAULT) == (200, b"true")
        assert kv(server, client, "GET", KEY)[0] == 200
    assert kv(server, "10.0.0.2", "GET", KEY)[0] == 404


def test_the_reason_why_a_leader_is_refused_is_logged_and_counted_because_rqlited_does_not_log_it(
    server: Server, log: list[dict[str, Any]]
) -> None:
    def why() -> list[str]:
        found = [event["why"] for event in log if "the leader key is refused" in str(event.get("log_format"))]
        log.clear()
        return found

    another = "localhost:4002 is another machine's, set -raft-adv-addr"
    kv(server, "10.0.0.1", "PUT", KEY, LEFT_AT_DEFAULT)
    assert why() == []
    kv(server, "10.0.0.2", "PUT", CLAIM, LEFT_AT_DEFAULT)
    kv(server, "10.0.0.3", "PUT", KEY, LEFT_AT_DEFAULT)
    assert why() == [another] * 2
    reply(server.connect("10.0.0.2"), "PUT", "/v1/kv/new/leader", LEFT_AT_DEFAULT, Via="1.1 squid")
    assert why() == ["localhost:4002 came through a proxy that hides its machine, set -raft-adv-addr"]
    for _ in range(3):
        kv(server, "10.0.0.2", "PUT", CLAIM, LEFT_AT_DEFAULT)
    assert why() == [], "rqlited asks every few seconds"
    server.daemon.clock.advance(60)
    kv(server, "10.0.0.2", "PUT", CLAIM, LEFT_AT_DEFAULT)
    assert why() == [another]
    assert server.daemon.telemetry.refusals["consul", "another_machine"] == 7
    kv(server, "10.0.0.1", "PUT", CLAIM, LEFT_AT_DEFAULT)
    assert why() == [], "the loser against a node of its own host waits for it"


def test_an_unreachable_http_address_is_logged_where_the_raft_address_is_good(
    server: Server, log: list[dict[str, Any]]
) -> None:
    value = {"id": "1", "api_addr": "http://localhost:4001", "addr": "10.0.0.1:4002"}
    assert kv(server, "10.0.0.1", "PUT", CLAIM, value) == (200, b"true")
    assert kv(server, "10.0.0.1", "PUT", KEY, value) == (200, b"true")
    assert kv(server, "10.0.0.2", "GET", KEY)[0] == 200
    for _ in range(3):
        assert kv(server, "10.0.0.1", "PUT", KEY, value) == (200, b"true")
    assert kv(server, "10.0.0.1", "PUT", "/v1/kv/local/leader", LEFT_AT_DEFAULT) == (200, b"true")
    doubts = [(each["discovery_id"], each["addr"]) for each in log if each.get("log_format") == "doubtful address"]
    assert doubts == [("rqlite", "localhost:4001")] * 2, "once for the claim, and for the first report"


def test_addresses_are_still_checked_strictly() -> None:
    server = Server()
    strict = new_daemon(strict=True)
    server.site.application = strict.apis.public()
    discovery_id = create_id(strict)
    refused = reply(server.connect("10.0.0.1"), "POST", f"/{discovery_id}", {"addr": DEFAULT})
    assert (refused.status, refused.reason) == (400, "loopback address, set -http-adv-addr")
    assert posted(server.connect("127.0.0.1"), discovery_id, DEFAULT) == [DEFAULT]
    assert posted(server.connect("10.0.0.1"), discovery_id, "10.0.0.1:4001") == ANOTHER


def test_a_refusal_is_an_event_and_is_counted(server: Server, log: list[dict[str, Any]]) -> None:
    discovery_id = create_id(server.daemon)
    posted(server.connect("10.0.0.1"), discovery_id, DEFAULT)
    posted(server.connect("10.0.0.2"), discovery_id, DEFAULT)
    assert server.daemon.telemetry.refusals["discovery", "another_machine"] == 1
    events = [event["result"] for event in log if event.get("log_format") == "registration"]
    assert events == ["granted", f"refused: {ANOTHER}"]


@ensureDeferred
async def test_a_local_client_is_recognized(api: ApiClient) -> None:
    discovery_id = await api.create_id()
    for number, addr in enumerate((DEFAULT, SECOND, THIRD), start=1):
        assert len((await api("POST", f"/{discovery_id}", {"addr": addr})).json["nodes"]) == number
    record = inspected(api.daemon, discovery_id)
    assert record is not None
    assert record.host == f"@{api.daemon.machine}"
    answer = await api("POST", f"/{discovery_id}", {"addr": DEFAULT}, Via="1.1 squid")
    assert (answer.status, answer.reason, answer.json) == (409, ANOTHER, {"error": ANOTHER})
    for method, path, status, body in (
        ("PUT", CLAIM, 200, b"false"),
        ("PUT", KEY, 200, b"false"),
        ("GET", KEY, 404, b""),
    ):
        answer = await api(
            method, path, msgspec.json.encode(LEFT_AT_DEFAULT) if method == "PUT" else b"", Via="1.1 squid"
        )
        assert (answer.status, answer.body) == (status, body)
    assert (await api("PUT", CLAIM, msgspec.json.encode(LEFT_AT_DEFAULT))).body == b"true"


@ensureDeferred
async def test_a_unix_socket_client_is_local(tmp_path: Any) -> None:
    from twisted.internet import reactor
    from twisted.internet.interfaces import IReactorUNIX

    server = Server()
    discovery_id = create_id(server.daemon)
    path = str(tmp_path / "socket")

    def ask() -> Reply:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            connection.sendall(request("POST", f"/{discovery_id}", {"addr": DEFAULT}, Connection="close"))
            parts = iter(lambda: connection.recv(4096), b"")
            (answered,) = parse_replies(b"".join(parts))
            return answered

    assert IReactorUNIX.providedBy(reactor)
    site: Any = server.site
    port = reactor.listenUNIX(path, site)
    answered = await deferToThread(ask)
    await close(port)
    server.daemon.deadlines.stop()
    assert answered.document["nodes"] == [DEFAULT]
    record = inspected(server.daemon, discovery_id)
    assert record is not None
    assert record.host == f"@{server.daemon.machine}"
