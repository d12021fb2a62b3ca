"""The verdict on a cluster and the warnings about addresses, over HTTP: in lookups, events and
metrics, with each backend; never in the answers that rqlite reads.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.http.test_client_hosts import reply
from tests.http.test_metrics import samples
from tests.http.test_openapi import check
from tests.support.any_daemon import Probe
from tests.support.connections import CLIENT, Connection
from tests.support.daemon import create_id
from tests.support.watched_server import WatchedServer, Watcher

A, B, C = "10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"
VALUE = {"id": "n1", "api_addr": f"http://{A}", "addr": "10.0.0.1:4002"}
READY = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
def probing(each_backend: None, probe: Probe) -> WatchedServer:
    """A server whose daemon probes nodes."""
    return WatchedServer(probe=probe)


@pytest.fixture
def server(each_backend: None) -> WatchedServer:
    """A server whose daemon probes nothing."""
    return WatchedServer()


def ask(server: WatchedServer, method: str, path: str, document: object = None) -> Any:
    """Return the decoded answer to a request."""
    return reply(server.connect(), method, path, document).document


def health(server: WatchedServer, discovery_id: str) -> tuple[str, str]:
    """Return the verdict and its reason."""
    document = ask(server, "GET", f"/{discovery_id}")
    check("open", {"$ref": "#/components/schemas/FullDocument"}, document)
    assert document["health"]["next_step"]
    return document["health"]["verdict"], document["health"]["reason"]


def register(server: WatchedServer, *addrs: str) -> str:
    discovery_id = create_id(server.daemon)
    for addr in addrs:
        ask(server, "POST", f"/{discovery_id}", {"addr": addr})
    return discovery_id


def wait(server: WatchedServer, seconds: float) -> None:
    """Let time pass, for probes and counts as well."""
    for service in (server.daemon.rounds, server.daemon.health_counter):
        if service is not None and not service.running:
            service.startService()
    server.clock.pump([0.25] * round(4 * seconds))


def test_one_of_three_nodes_down_is_degraded_and_two_are_no_quorum(probing: WatchedServer, probe: Probe) -> None:
    for ip in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
        probe.network.listens(ip, READY)
    discovery_id = register(probing, A, B, C)
    assert health(probing, discovery_id) == ("unknown", "3 of 3 nodes were not probed")
    wait(probing, 15)
    assert health(probing, discovery_id) == ("healthy", "3 of 3 nodes answer")
    probe.network.is_gone("10.0.0.3")
    wait(probing, 40)
    assert health(probing, discovery_id) == ("degraded", "1 of 3 nodes does not answer")
    probe.network.is_gone("10.0.0.2")
    wait(probing, 40)
    assert health(probing, discovery_id) == ("no quorum", "2 of 3 nodes do not answer: no quorum")
    assert f"start {B} and {C}" in ask(probing, "GET", f"/{discovery_id}")["health"]["next_step"]


def test_an_id_is_forming_until_nodes_register_and_unknown_without_probes(server: WatchedServer) -> None:
    discovery_id = create_id(server.daemon)
    assert health(server, discovery_id) == (
        "forming",
        "no nodes are registered yet: the first one bootstraps the cluster",
    )
    ask(server, "POST", f"/{discovery_id}", {"addr": A})
    assert health(server, discovery_id) == ("unknown", "1 of 1 node was not probed")


def test_a_claim_is_waited_for_after_a_minute_and_its_watchers_are_told(server: WatchedServer) -> None:
    discovery_id = create_id(server.daemon)
    assert ask(server, "PUT", f"/v1/kv/{discovery_id}/leader?cas=0", VALUE) is True
    watcher = server.watch(discovery_id)
    assert health(server, discovery_id) == (
        "forming",
        "a node won the claim to lead at 2026-11-18T11:06:40Z, was answered once and has not reported yet",
    )
    wait(server, 45)
    assert verdicts(watcher) == ["forming"], "an event for each change only"
    wait(server, 31)
    assert verdicts(watcher) == ["forming", "waiting"]
    assert health(server, discovery_id)[0] == "waiting"
    assert ask(server, "PUT", f"/v1/kv/{discovery_id}/leader", VALUE) is True
    wait(server, 1)
    assert verdicts(watcher) == ["forming", "waiting", "healthy"]
    assert health(server, discovery_id) == (
        "healthy",
        "the leader 10.0.0.1:4001 last reported at 2026-11-18T11:07:56Z and is not probed",
    )


def test_each_change_of_a_record_is_judged_anew(server: WatchedServer) -> None:
    discovery_id = create_id(server.daemon)
    for count, addr in enumerate((A, "10.0.0.2:4001", "10.0.0.3"), 1):
        ask(server, "POST", f"/{discovery_id}", {"addr": addr})
        for _ in range(2):
            document = ask(server, "GET", f"/{discovery_id}")
            assert document["health"]["reason"].startswith(f"{count} of {count} node")
            assert [each["addr"] for each in document["warnings"]] == [addr][: count == 3]


def test_a_leader_that_reports_every_ten_seconds_is_healthy_until_a_minute_after_its_last_report(
    server: WatchedServer,
) -> None:
    discovery_id = create_id(server.daemon)
    found = set()
    for _ in range(20):
        assert ask(server, "PUT", f"/v1/kv/{discovery_id}/leader", VALUE) is True
        wait(server, 10)
        found.add(health(server, discovery_id)[0])
    assert found == {"healthy"}
    wait(server, 55)
    assert health(server, discovery_id)[0] == "unknown"


def test_a_change_of_health_is_an_event_with_an_id_of_its_own(probing: WatchedServer, probe: Probe) -> None:
    for ip in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
        probe.network.listens(ip, READY)
    discovery_id = register(probing, A, B, C)
    wait(probing, 15)
    watcher = probing.watch(discovery_id)
    wait(probing, 120)
    assert verdicts(watcher) == ["healthy"], "no event while nothing changes"
    probe.network.is_gone("10.0.0.3")
    wait(probing, 60)
    assert list(dict.fromkeys(verdicts(watcher))) == ["healthy", "degraded"]
    assert len(set(watcher.names)) == len(watcher.events)
    again = probing.watch(discovery_id, Last_Event_ID=watcher.names[-1])
    assert again.events == []


def verdicts(watcher: Watcher) -> list[str]:
    return [event["health"]["verdict"] for event in watcher.events]


def test_the_answers_that_rqlite_reads_have_no_more_members_than_ever(server: WatchedServer) -> None:
    discovery_id = ask(server, "POST", "/")["disco_id"]
    for method in ("POST", "DELETE"):
        answer = ask(server, method, f"/{discovery_id}", {"addr": "10.0.0.1"})
        assert sorted(answer) == ["created_at", "disco_id", "nodes"]


def test_a_lookup_warns_of_addresses_that_will_not_work(server: WatchedServer) -> None:
    discovery_id = register(server, "10.0.0.1", B, "10.0.0.3:70000")
    document = ask(server, "GET", f"/{discovery_id}")
    check("open", {"$ref": "#/components/schemas/FullDocument"}, document)
    assert document["warnings"] == [
        {
            "addr": "10.0.0.1",
            "problem": "10.0.0.1 has no port",
            "fix": "restart its node with -http-adv-addr 10.0.0.1:4001, then run"
            f" `rqdisco remove {discovery_id} 10.0.0.1`",
        },
        {
            "addr": "10.0.0.3:70000",
            "problem": "10.0.0.3:70000 has a port that is not from 1 to 65535",
            "fix": "restart its node with -http-adv-addr 10.0.0.3:4001, then run"
            f" `rqdisco remove {discovery_id} 10.0.0.3:70000`",
        },
    ]
    assert server.watch(discovery_id).events[0]["warnings"] == document["warnings"]


def test_the_log_names_an_address_that_will_not_work_and_the_fix(
    server: WatchedServer, log: list[dict[str, Any]]
) -> None:
    discovery_id = create_id(server.daemon)
    ask(server, "POST", f"/{discovery_id}", {"addr": "10.0.0.1", "raft_addr": "10.0.0.1:70000"})
    warned = [(each["why"], each["fix"]) for each in log if each.get("log_format") == "doubtful address"]
    assert warned == [
        (
            "10.0.0.1 has no port",
            f"restart its node with -http-adv-addr 10.0.0.1:4001, then run `rqdisco remove {discovery_id} 10.0.0.1`",
        ),
        (
            "10.0.0.1:70000 has a port that is not from 1 to 65535",
            "restart its node with -raft-adv-addr 10.0.0.1:4002",
        ),
    ]


def test_a_lookup_warns_of_loopback_addresses_from_another_machine_only(server: WatchedServer) -> None:
    for host, warned in ((CLIENT, ["localhost:4001"]), ("127.0.0.1", [])):
        discovery_id = create_id(server.daemon)
        connection = Connection(server.site, host, "127.0.0.1" if host == "127.0.0.1" else "192.168.1.1", server.clock)
        assert reply(connection, "POST", f"/{discovery_id}", {"addr": "localhost:4001"}).status == 200
        assert [each["addr"] for each in ask(server, "GET", f"/{discovery_id}")["warnings"]] == warned


def test_clusters_are_counted_by_their_health(probing: WatchedServer, probe: Probe) -> None:
    assert not [name for name in samples(probing.daemon) if name.startswith("rqdisco_clusters")], "not counted yet"
    probe.network.listens("10.0.0.1", READY)
    for addrs in ((), (), (A,), (A, B), (B, C)):
        register(probing, *addrs)
    ask(probing, "PUT", f"/v1/kv/{create_id(probing.daemon)}/leader?cas=0", VALUE)
    wait(probing, 100)
    counted = {
        name.partition("health=")[2].rstrip("}"): value
        for name, value in samples(probing.daemon).items()
        if name.startswith("rqdisco_clusters")
    }
    assert counted == {
        "forming": 2,
        "healthy": 1,
        "degraded": 0,
        "no_quorum": 2,
        "waiting": 1,
        "two_leaders": 0,
        "ownerless": 0,
        "unknown": 0,
    }
