"""The Host headers that a loopback listener accepts, so that no page can make its own name point
there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock

from rqdisco.http.server.host_allowlist import HostAllowlist
from rqdisco.http.server.site import Site, SiteConfig
from rqdisco.security.certificates import Certificates
from rqdisco.service.listeners import HTTPListener, endpoint
from rqdisco.service.option_values import own_host
from tests.support.certificates import Authority
from tests.support.connections import Connection
from tests.support.daemon import Daemon, create_id, result
from tests.support.tls import Client, anybody

GIVEN = ("disco.example.com", "10.0.0.9", "fd00::9")
OWN = [
    "127.0.0.1:4000",
    "127.0.0.1",
    "localhost:4000",
    "localhost",
    "LocalHost.:4000",
    "localhost:",
    "localhost:4001",
    "127.8.9.10:4000",
    "[::1]:4000",
    "[::1]",
    "[0:0:0:0:0:0:0:1]:4000",
    "[::ffff:127.0.0.1]:4000",
    "[::ffff:7f00:1]",
    "localhost.localdomain:4000",
    "localhost6",
    "ip6-localhost:4000",
    "ip6-loopback",
    "ipv6-localhost:4000",
    "ipv6-loopback",
    "app.localhost:4000",
    "A.B.LOCALHOST.",
    "disco.example.com",
    "Disco.Example.COM.:4000",
    "10.0.0.9:4000",
    "[fd00::9]:4000",
    "[FD00:0::9]",
    "",
]
FOREIGN = [
    "evil.example:4000",
    "evil.example",
    "localhost.evil.example",
    "localhost.evil.example:4000",
    "evil-localhost",
    "evillocalhost:4000",
    ".localhost.evil",
    "disco.example.com.evil.example",
    "a.disco.example.com",
    "127.0.0.1.evil.example",
    "127.0.0.1.nip.io:4000",
    "192.0.2.1:4000",
    "0.0.0.0:4000",
    "[::]:4000",
    "[fd00::8]:4000",
    "169.254.169.254",
    "127.0.0.1,evil.example",
    "localhost..",
    "..",
]
# No hosts at all (RFC 3986 section 3.2.2).
MALFORMED = [
    "localhost:4000:4000",
    "localhost:x",
    "localhost@evil.example",
    "evil.example/localhost",
    "[::1",
    "::1",
    "[localhost]",
    "[127.0.0.1]",
    "localhost evil.example",
    "\xff\xfe",
    "disc\xf6.example",
]


class Local:
    """A daemon in memory that listens as described."""

    def __init__(self, description: str = "tcp6:4000:interface=\\:\\:1", *, is_metrics: bool = False) -> None:
        self.daemon = Daemon()
        self.clock: Any = MemoryReactorClock()
        resource = self.daemon.page if is_metrics else self.daemon.apis.public()
        site = Site(resource, self.clock, SiteConfig(), lambda: 0.0, self.daemon.counts.requests)
        hosts = HostAllowlist(map(own_host, GIVEN), self.clock.seconds, self.daemon.telemetry.count_foreign_host)
        at = endpoint(self.clock, "listen", description, Certificates(Clock().seconds))
        result(Deferred.fromCoroutine(HTTPListener("endpoints", self.clock, [at], site, hosts=hosts).open()))
        self.factory = self.clock.tcpServers[0][1]

    def ask(self, *hosts: str, method: str = "GET", path: str = "/", begun: bytes = b"") -> tuple[int, str, bytes]:
        """Return status, reason and body of the answer to a request with these Host headers, on a
        separate connection.
        """
        connection = Connection(self.factory, "::1")
        lines = [f"{method} {path} HTTP/1.1", *(f"Host: {host}" for host in hosts), "Content-Length: 0", "", ""]
        head, _, body = connection.send(begun + "\r\n".join(lines).encode("latin-1")).partition(b"\r\n\r\n")
        _, status, reason = head.split(b"\r\n")[0].decode().split(" ", 2)
        connection.hang_up()
        return int(status), reason, body

    def refused(self) -> int:
        """Return the number of refused requests."""
        return self.daemon.telemetry.refusals["any", "foreign_host"]


@pytest.mark.parametrize("host", OWN)
def test_a_loopback_listener_answers_to_its_names_and_addresses_and_to_the_configured_ones(host: str) -> None:
    local = Local()
    assert local.ask(host)[0] == 200
    assert local.refused() == 0


@pytest.mark.parametrize("host", FOREIGN)
def test_it_refuses_any_other_host_and_says_what_to_do(host: str) -> None:
    local = Local()
    discovery_id = create_id(local.daemon)
    paths = ("/", f"/{discovery_id}", f"/{discovery_id}%2F", f"/{discovery_id}/events", "/healthz", "/static/x", "/x/y")
    for number, path in enumerate(paths, start=1):
        status, reason, body = local.ask(host, path=path)
        assert (status, reason) == (403, "Host is not this machine, see --host")
        assert list(msgspec.json.decode(body)) == ["error"]
        assert local.refused() == number
    assert local.ask(host, method="POST")[0] == 403
    assert local.daemon.size == 1


@pytest.mark.parametrize("host", MALFORMED)
def test_a_malformed_host_is_a_bad_request(host: str) -> None:
    local = Local()
    status, _, body = local.ask(host, method="POST")
    assert (status, body) == (400, b'{"error": "invalid Host"}')
    assert local.daemon.size == 0


def test_an_empty_host_is_served_because_no_browser_sends_one() -> None:
    assert Local().ask("")[0] == 200


@pytest.mark.parametrize(
    "hosts", [(), ("localhost", "evil.example"), ("evil.example", "localhost"), ("localhost",) * 2]
)
def test_a_request_has_one_host(hosts: tuple[str, ...]) -> None:
    local = Local()
    assert local.ask(*hosts, method="POST")[0] == 400
    assert local.daemon.size == 0


def test_an_absolute_target_names_the_host_whatever_the_header_says() -> None:
    local = Local()
    assert local.ask("localhost", path="http://evil.example/")[0] == 403
    assert local.ask("evil.example", path="http://localhost:4000/")[0] == 200


def test_a_refusal_names_the_host_and_the_option_that_admits_it() -> None:
    local = Local()
    error = msgspec.json.decode(local.ask("Proxied.Example:8080")[2])["error"]
    assert (
        error == "proxied.example is not a name of this machine; to allow it, start rqdisco with --host proxied.example"
    )
    assert local.ask("a,b")[2] == b'{"error": "the Host header names no machine"}'
    assert len(local.ask("x" * 5000)[2]) < 300


@pytest.mark.parametrize("path", ["/v1/kv/x/leader", "//v1/kv/x%2Fleader", "/v1/agent/self"])
def test_a_client_of_consul_kv_is_refused_in_one_line_which_rqlited_logs(path: str) -> None:
    status, reason, body = Local().ask("evil.example", path=path)
    assert (status, reason) == (403, "Host is not this machine, see --host")
    assert body == b"evil.example is not a name of this machine; to allow it, start rqdisco with --host evil.example"


def test_a_refused_head_has_no_body_and_the_connection_continues() -> None:
    local = Local()
    connection = Connection(local.factory, "::1")
    assert connection.send(b"HEAD / HTTP/1.1\r\nHost: evil\r\n\r\n").endswith(b"\r\n\r\n")
    assert connection.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 200 OK")


def test_refusals_are_logged_once_a_minute_and_each_is_counted(log: list[dict[str, Any]]) -> None:
    local = Local()

    def logged() -> list[tuple[str, str]]:
        return [(event["peer"], event["why"]) for event in log if event.get("log_format") == "refused"]

    for number in range(50):
        local.ask(f"evil{number}.example")
    assert [(peer, why.partition(" ")[0]) for peer, why in logged()] == [("::1", "evil0.example")]
    local.clock.advance(61)
    local.ask("evil.example")
    assert len(logged()) == 2
    assert local.refused() == 51


def test_metrics_on_a_loopback_listener_are_not_shown_to_pages_of_other_hosts() -> None:
    local = Local(is_metrics=True)
    assert local.ask("localhost:9400", path="/metrics")[0] == 200
    assert local.ask("evil.example", path="/metrics")[0] == 403


@pytest.mark.parametrize(
    ("description", "begun"),
    [
        ("tcp:4000", b""),
        ("tcp6:4000:interface=fd00\\:\\:1", b""),
        ("haproxy:tcp6:4000:interface=\\:\\:1", b"PROXY TCP4 10.1.2.3 10.9.9.9 4711 4000\r\n"),
    ],
)
def test_a_listener_reachable_from_other_hosts_answers_to_any_name(description: str, begun: bytes) -> None:
    """Old fleets send the name of the service that they were made for."""
    local = Local(description)
    assert local.ask("discovery.rqlite.com", begun=begun)[0] == 200
    assert local.ask("", begun=begun)[0] == 200


@pytest.mark.parametrize("wants_certificates", [False, True])
def test_tls_changes_nothing_unless_clients_need_a_certificate(
    authority: Authority, tmp_path: Path, wants_certificates: bool
) -> None:
    key, certificate = authority.write(tmp_path, "a")
    (tmp_path / "clients").write_bytes(authority.pem)
    described = f"tls:tcp6:4000:interface=\\:\\:1:privateKey={key}:certKey={certificate}"
    listener: Any = Local(f"{described}:clientCA={tmp_path / 'clients'}" if wants_certificates else described)
    answered = Client(listener, anybody(authority, pair=authority.write(tmp_path, "known"))).ask()
    refused = b"HTTP/1.1 403 Host is not this machine, see --host"
    assert answered == (b"HTTP/1.1 200 OK" if wants_certificates else refused)


@given(st.binary(max_size=60))
def test_any_host_header_is_served_or_refused(host: bytes) -> None:
    local = Local()
    connection = Connection(local.factory, "::1")
    received = connection.send(b"GET / HTTP/1.1\r\nHost: " + host.replace(b"\n", b"") + b"\r\n\r\n")
    assert received.split(b" ")[1] in (b"200", b"400", b"403")
    connection.hang_up()
