"""Clients behind proxies that name them in a header."""

from __future__ import annotations

import ipaddress
from random import Random
from typing import Any

import pytest

from rqdisco.http.server.forwarded import TrustedProxies
from rqdisco.http.server.site import Site, SiteConfig
from rqdisco.http.server.throttling import ThrottledApplication
from rqdisco.http.server.trusted_proxies import ForwardedHeadersApplication
from rqdisco.security.certificates import Certificates
from rqdisco.service.options import DaemonOptions
from rqdisco.service.wiring.listeners import ListenerContext, build_public_listener
from tests.http.test_client_hosts import ANOTHER, DEFAULT, FORWARDED, HIDDEN, SECOND, posted
from tests.support.any_daemon import memory_system
from tests.support.connections import CREATE_REQUEST, OWN, Connection, request
from tests.support.daemon import Daemon, create_id
from tests.support.dns_sockets import Reactor

PROXY = "10.9.0.1"
TRUSTED = TrustedProxies([ipaddress.ip_network("10.9.0.0/24"), ipaddress.ip_network("127.0.0.0/8")])
# A rate and a burst that one client uses up with some twenty requests at once.
RATE = 200


class ForwardedServer:
    """A site in memory behind trusted proxies."""

    def __init__(self) -> None:
        self.clock = Reactor()
        self.daemon = Daemon(clock=self.clock, create_rate=1)
        self.throttled = ThrottledApplication(self.daemon.apis.public(), self.clock, RATE, lambda: 0.0)
        self.site = Site(ForwardedHeadersApplication(self.throttled, TRUSTED), self.clock, SiteConfig(), lambda: 0.0)

    def connect(self, host: str = PROXY) -> Connection:
        return Connection(self.site, host)


@pytest.fixture
def server() -> ForwardedServer:
    return ForwardedServer()


@pytest.fixture
def some_id(server: ForwardedServer) -> str:
    return create_id(server.daemon)


def test_one_of_three_hosts_behind_a_trusted_proxy_left_at_the_default_is_alone(
    server: ForwardedServer, some_id: str
) -> None:
    proxy = server.connect()
    assert posted(proxy, some_id, DEFAULT, X_Forwarded_For="10.0.0.1") == [DEFAULT]
    assert posted(proxy, some_id, DEFAULT, X_Forwarded_For="10.0.0.2") == ANOTHER
    assert posted(proxy, some_id, DEFAULT, Forwarded="for=10.0.0.3;proto=http") == ANOTHER
    assert posted(proxy, some_id, SECOND, Forwarded='for="10.0.0.1:4711";proto=http') == [DEFAULT, SECOND]
    assert posted(server.connect("10.0.0.1"), some_id, SECOND) == [DEFAULT, SECOND], "directly, it is the same host"


@pytest.mark.parametrize("header", FORWARDED)
def test_headers_from_other_hosts_only_show_that_there_is_a_proxy(
    server: ForwardedServer, some_id: str, header: dict[str, str]
) -> None:
    assert posted(server.connect("10.9.1.1"), some_id, DEFAULT, **header) == HIDDEN
    assert posted(server.connect("10.9.1.1"), some_id, "10.0.0.1:4001", **header) == ["10.0.0.1:4001"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X_Forwarded_Proto": "https"},
        {"X_Forwarded_For": "unknown"},
        {"X_Forwarded_For": "x"},
        {"X_Forwarded_For": "10.0.0.1, "},
        {"Forwarded": "for=_hidden"},
        {"Forwarded": "for=10.0.0.1:80"},
        {"Forwarded": "for=10.0.0.2", "X_Forwarded_For": "10.0.0.1"},
        # A client's own invention, passed on by a careless proxy or sent from its machine.
        {"X_Forwarded_For": "127.0.0.1"},
        {"X_Forwarded_For": "::1, 127.0.0.1"},
        {"X_Forwarded_For": "10.0.0.1, ::1, 10.9.0.2"},
        {"Forwarded": 'for="[::1]"'},
        {"X_Forwarded_For": "0.0.0.0"},
        # A client that is a proxy itself.
        {"X_Forwarded_For": "10.0.0.2, 10.0.0.1"},
        {"X_Forwarded_For": "10.0.0.1", "Via": "1.1 squid, 1.1 google"},
    ],
)
@pytest.mark.parametrize("proxy", [PROXY, "127.0.0.1"])
def test_a_client_whose_machine_a_trusted_proxy_does_not_show_is_unknown(
    server: ForwardedServer, some_id: str, proxy: str, headers: dict[str, str]
) -> None:
    assert posted(server.connect(proxy), some_id, DEFAULT, **headers) == HIDDEN
    assert posted(server.connect(proxy), some_id, "10.0.0.1:4001", **headers) == ["10.0.0.1:4001"]


def test_a_node_at_the_daemons_own_address_is_not_taken_for_the_daemons_machine(
    server: ForwardedServer, some_id: str
) -> None:
    assert posted(server.connect(), some_id, DEFAULT, X_Forwarded_For=OWN) == [DEFAULT]
    assert posted(server.connect(OWN), some_id, SECOND) == ANOTHER, "others could have sent that header"


def test_nginx_may_use_http_1_0(server: ForwardedServer, some_id: str) -> None:
    asked = request("POST", f"/{some_id}", {"addr": DEFAULT}, X_Forwarded_For="10.0.0.1")
    assert b'"nodes": ["localhost:4001"]' in server.connect().send(asked.replace(b"HTTP/1.1", b"HTTP/1.0"))


def test_the_log_has_the_clients_address(server: ForwardedServer, some_id: str, log: list[dict[str, Any]]) -> None:
    for header in ("10.0.0.1", "10.0.0.2, 10.0.0.3", "unknown"):
        posted(server.connect(), some_id, f"{header[:8]}:4001".replace(",", ""), X_Forwarded_For=header)
    clients = [event["peer"] for event in log if event.get("log_format") == "registration"]
    assert clients == ["10.0.0.1", "10.0.0.3", PROXY]


def show(server: ForwardedServer, discovery_id: str, client: str | None) -> bool:
    """Report whether a lookup was answered at once."""
    headers = {} if client is None else {"X_Forwarded_For": client}
    return server.connect().send(request("GET", f"/{discovery_id}", **headers)) != b""


def test_limits_count_each_client_behind_a_proxy_and_the_unknown_as_one(server: ForwardedServer, some_id: str) -> None:
    for client in ("10.0.0.1", None):
        while show(server, some_id, client):
            pass
    assert not show(server, some_id, "10.0.0.1")
    assert not show(server, some_id, "127.0.0.1"), "it is limited with the unknown"
    assert not show(server, some_id, "unknown")
    assert show(server, some_id, "10.0.0.2")
    server.clock.advance(2)


def test_created_ids_are_counted_for_each_client(server: ForwardedServer) -> None:
    def create(client: str) -> bytes:
        answer = server.connect().send(CREATE_REQUEST[:-2] + f"X-Forwarded-For: {client}\r\n\r\n".encode())
        server.clock.advance(1 / RATE)
        return answer[9:12]

    assert {create("10.0.0.1") for _ in range(9)} == {b"200"}
    while create("10.0.0.1") == b"200":
        pass
    assert create("10.0.0.1") == b"429"
    assert create("10.0.0.2") == b"200"
    server.daemon.deadlines.stop()


def test_the_options_name_the_proxies_which_have_no_limit_of_connections_and_keep_them_for_long() -> None:
    clock = Reactor()
    daemon = Daemon(clock=clock)
    options = DaemonOptions({})
    options.parseOptions(["--trusted-proxy=10.9.0.0/24", "--idle-timeout=620", "--max-client-connections=2"])
    system = memory_system(clock, Random(0), wall_us=daemon.wall_us, fail=daemon.failures.append)
    context = ListenerContext(
        options.config, system, Certificates(clock.seconds), daemon.counts, daemon.telemetry, None
    )
    site = build_public_listener(context, [], daemon.apis).site
    site.doStart()
    discovery_id = create_id(daemon)
    connections = [Connection(site, PROXY) for _ in range(3)]
    assert posted(connections[0], discovery_id, DEFAULT, X_Forwarded_For="10.0.0.1") == [DEFAULT]
    assert posted(connections[1], discovery_id, DEFAULT, X_Forwarded_For="10.0.0.2") == ANOTHER
    clock.pump([1] * 615)
    assert not any(connection.closed for connection in connections)
    clock.pump([1] * 10)
    assert all(connection.closed for connection in connections)
