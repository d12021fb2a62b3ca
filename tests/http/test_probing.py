"""Probes change answers over HTTP: the order, the state of a node, and never who is granted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.protocol import Factory, Protocol

from rqdisco.core.records import Node
from rqdisco.http.server.site import Site, SiteConfig
from rqdisco.probes.prober import Prober, tcp_endpoints
from rqdisco.probes.targets import target_of
from rqdisco.security.certificates import Certificates
from rqdisco.service.listeners import endpoint
from tests.http.conftest import ApiClient
from tests.support.any_daemon import Probe
from tests.support.certificates import Authority
from tests.support.daemon import Daemon
from tests.support.listening import close, listen_tcp, port_number

A, B, C = "10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"
NAMED = "n4.example.org:4001"


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
def options(probe: Probe) -> dict[str, Any]:
    return {"probe": probe}


def advance(api: ApiClient, seconds: float) -> None:
    """Let time pass for the probes."""
    rounds = api.daemon.rounds
    assert rounds is not None
    if not rounds.running:
        rounds.startService()
    api.daemon.clock.pump([0.25] * round(4 * seconds))


async def with_nodes(api: ApiClient, *addrs: str) -> str:
    discovery_id = await api.create_id()
    for addr in addrs:
        await api("POST", f"/{discovery_id}", {"addr": addr})
    return discovery_id


@ensureDeferred
async def test_each_node_is_shown_with_its_probed_state_and_nodes_that_are_down_come_last(
    api: ApiClient, probe: Probe
) -> None:
    probe.network.listens("10.0.0.2")
    probe.network.listens("10.0.0.3", b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
    discovery_id = await with_nodes(api, A, B, C)
    advance(api, 25)
    answer = await api("GET", f"/{discovery_id}")
    assert answer.json["nodes"] == [B, C, A]
    assert [
        (node["addr"], node["up"], node.get("ready"), node.get("why")) for node in answer.json["registrations"]
    ] == [(B, True, True, None), (C, True, False, None), (A, False, None, "refused")]
    assert all(0 <= node["checked"] <= node["since"] <= 25 for node in answer.json["registrations"])


@ensureDeferred
async def test_no_state_is_shown_for_a_node_that_was_not_probed(api: ApiClient) -> None:
    discovery_id = await with_nodes(api, A, "192.0.2.1:4001", "opaque")
    advance(api, 5)
    for node in (await api("GET", f"/{discovery_id}")).json["registrations"]:
        assert node == {"addr": node["addr"]}


@ensureDeferred
async def test_a_node_whose_name_does_not_resolve_is_shown_as_unresolved(api: ApiClient, probe: Probe) -> None:
    probe.network.listens("10.0.0.2")
    discovery_id = await with_nodes(api, A, NAMED, B)
    advance(api, 25)
    answer = await api("GET", f"/{discovery_id}")
    assert answer.json["nodes"] == [NAMED, B, A], "it is not last"
    (shown,) = [node for node in answer.json["registrations"] if node["addr"] == NAMED]
    assert 0 <= shown.pop("checked") <= shown.pop("since") <= 25
    assert shown == {"addr": NAMED, "unresolved": True}
    page = (await api("GET", f"/{discovery_id}", Accept="text/html")).body.decode()
    assert page.count('data-state="unclear">name does not resolve') == 1
    assert page.count('data-state="down">does not answer') == 1


@ensureDeferred
async def test_a_joining_node_gets_all_nodes_with_those_that_are_down_last(api: ApiClient, probe: Probe) -> None:
    probe.network.listens("10.0.0.2")
    discovery_id = await with_nodes(api, A, B)
    advance(api, 30)
    answer = await api("POST", f"/{discovery_id}", {"addr": C})
    assert answer.json["nodes"] == [B, C, A]
    removed = await api("DELETE", f"/{discovery_id}", {"addr": C})
    assert removed.json["nodes"] == [B, A]


@ensureDeferred
async def test_a_node_that_was_down_and_registers_is_not_last_for_itself(api: ApiClient, probe: Probe) -> None:
    probe.network.listens("10.0.0.2")
    discovery_id = await with_nodes(api, A, B)
    advance(api, 30)
    assert (await api("GET", f"/{discovery_id}")).json["nodes"] == [B, A]
    answer = await api("POST", f"/{discovery_id}", {"addr": A})
    assert answer.json["nodes"] == [A, B]
    assert (await api("GET", f"/{discovery_id}")).json["nodes"] == [A, B]
    advance(api, 30)
    assert (await api("GET", f"/{discovery_id}")).json["nodes"] == [B, A]


@ensureDeferred
async def test_nobody_is_granted_because_all_others_are_down(api: ApiClient) -> None:
    discovery_id = await with_nodes(api, A)
    advance(api, 100)
    assert not (await api("GET", f"/{discovery_id}")).json["registrations"][0]["up"]
    answer = await api("POST", f"/{discovery_id}", {"addr": B})
    assert sorted(answer.json["nodes"]) == [A, B]


@ensureDeferred
async def test_a_single_node_that_is_down_is_still_granted(api: ApiClient) -> None:
    discovery_id = await with_nodes(api, A)
    advance(api, 100)
    answer = await api("POST", f"/{discovery_id}", {"addr": A})
    assert answer.json["nodes"] == [A]


@ensureDeferred
async def test_the_consul_leader_key_ignores_probes(api: ApiClient, probe: Probe) -> None:
    discovery_id = await api.create_id()
    value = {"id": "n1", "api_addr": f"http://{A}", "addr": "10.0.0.1:4002"}
    assert (await api("PUT", f"/v1/kv/{discovery_id}/leader?cas=0", value)).body == b"true"
    advance(api, 40)
    assert (await api("GET", f"/{discovery_id}")).json["registrations"] == []
    assert (await api("PUT", f"/v1/kv/{discovery_id}/leader", value)).body == b"true"
    advance(api, 40)
    assert (await api("GET", f"/{discovery_id}")).json["registrations"][0]["up"] is False
    assert (await api("GET", f"/v1/kv/{discovery_id}/leader")).status == 200
    assert (await api("PUT", f"/v1/kv/{discovery_id}/leader?cas=0", value)).body == b"false"


async def outcome_at(port: int, scheme: str, host: str = "127.0.0.1") -> str:
    """Return the outcome of a probe of a real port, over the transports of the daemon."""
    from twisted.internet import reactor

    target = target_of(Node(addr=f"{scheme}://{host}:{port}"))
    assert target is not None
    clock: Any = reactor
    return await Prober(tcp_endpoints(reactor), clock)(target, "127.0.0.1")


class _HangsUp(Protocol):
    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.loseConnection()


class _WithoutTLS(Protocol):
    """Answers with HTTP to any bytes, even to the beginning of TLS."""

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")


@ensureDeferred
async def test_probes_over_tls_verify_no_certificate_and_count_any_answer(tmp_path: Path) -> None:
    from twisted.internet import reactor

    authority = Authority()
    key, certificate = authority.write(tmp_path, "node", ["elsewhere.example.org"])
    (tmp_path / "ca").write_bytes(Authority("another").pem)
    certificates = Certificates(lambda: 0.0)
    tls = f"ssl:0:privateKey={key}:certKey={certificate}:interface=127.0.0.1"
    site = Site(Daemon().apis.public(), reactor, SiteConfig(), lambda: 0.0)
    ports = []
    for description in (tls, f"{tls}:clientCA={tmp_path / 'ca'}", "tcp:0:interface=127.0.0.1"):
        _, made = endpoint(reactor, "listen", description, certificates)
        ports.append(await made.listen(site))
    doubles = map(Factory.forProtocol, (_HangsUp, _WithoutTLS))
    ports.extend(map(listen_tcp, doubles))
    verified, mutual, plain, closing, without = map(port_number, ports)
    try:
        assert await outcome_at(verified, "https") == "ready"
        assert await outcome_at(verified, "https", "localhost") == "ready"
        assert await outcome_at(mutual, "https") == "answered"
        assert await outcome_at(plain, "http") == "ready"
        assert await outcome_at(without, "https") == "answered"
        assert await outcome_at(closing, "http") == "closed"
        assert await outcome_at(closing, "https") == "closed"
    finally:
        for port in ports:
            await close(port)
        await site.drain()
    assert await outcome_at(plain, "http") == "refused"
