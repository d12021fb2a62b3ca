"""`rqdisco status`: its output for the service and for an ID, and when an ID is not healthy."""

from __future__ import annotations

import pytest

from rqdisco.backends.limits import Limits
from tests.support.command import RAFT_A, URL, A, B, Service, Shell, lead
from tests.support.daemon import create_id, register, result


def test_status_reports_that_the_service_is_up(service: Service, shell: Shell) -> None:
    service.daemon.recount()
    assert shell("status") == 0
    assert shell.lines == [f"service {URL} is up for 0 s, version 0, 0 IDs"]
    service.away = True
    assert shell("status", "--service") == 3


def test_status_of_an_id_lists_its_nodes_and_its_leader(shell: Shell, some_id: str) -> None:
    lead(shell, some_id)
    assert shell("status", some_id, "--service") == 0
    service, first, second, leader, verdict = shell.lines
    assert service.startswith("service ")
    assert first == f"node {A} raft {RAFT_A} id n1 leader"
    assert second == f"node {B}"
    assert leader.startswith(f"leader {RAFT_A} reported, index ")
    assert verdict == "healthy"


def test_status_of_an_id_served_by_dns_names_nodes_that_dns_leaves_out(shell: Shell, some_id: str) -> None:
    assert shell("status", some_id) == 0
    assert shell.lines[2:] == [f"dns: some answers omit {B}: it has no Raft address", "healthy"]
    assert shell.messages == ""


def test_a_consul_kv_cluster_on_one_host_is_healthy(shell: Shell) -> None:
    value = ("--id", "1", "--api-addr", "http://localhost:4001", "--addr", "localhost:4002")
    assert shell("leader", "set", "kv", *value) == 0
    assert shell("status", "kv") == 0
    assert shell.lines[-1] == "healthy"
    assert shell.messages == ""


def test_an_unknown_id_is_not_healthy(shell: Shell) -> None:
    assert shell("status", "unknown") == 1
    assert "unknown does not exist" in shell.messages


def test_an_id_without_nodes_is_not_healthy(service: Service, shell: Shell) -> None:
    assert shell("status", create_id(service.daemon)) == 1
    assert shell.lines == ["unhealthy"]
    assert "no nodes are registered" in shell.messages


@pytest.mark.parametrize("command", ["status", "show"])
def test_no_grant_is_promised_while_the_daemon_may_not_grant(command: str) -> None:
    shell = Shell(Service(operator=True))
    discovery_id = create_id(shell.service.daemon)
    shell(command, discovery_id)
    assert "no nodes are registered, the next node to register is told to bootstrap" in shell.messages
    assert shell("freeze", "the disk is replaced") == 0
    shell(command, discovery_id)
    assert "no nodes are registered, and this daemon tells no node to bootstrap now: " in shell.messages
    assert "the disk is replaced" in shell.messages


def test_a_leader_that_claimed_and_never_reported_is_not_healthy() -> None:
    shell = Shell(Service(limits=Limits(visible_claims=True)))
    assert lead(shell, "kv", "--cas", "0") == 0
    assert shell("status", "kv") == 1
    assert f"{RAFT_A} claimed to lead and has not reported" in shell.messages
    assert lead(shell, "kv") == 0
    assert shell("status", "kv") == 0


def test_one_id_is_counted_in_the_singular(service: Service, shell: Shell) -> None:
    create_id(service.daemon)
    service.daemon.recount()
    assert shell("status") == 0
    assert shell.lines == [f"service {URL} is up for 0 s, version 0, 1 ID"]


def test_a_claim_that_waits_for_a_minute_is_reported_with_advice(service: Service, shell: Shell) -> None:
    assert lead(shell, "kv", "--cas", "0") == 0
    service.advance(60)
    assert shell("status", "kv") == 1
    claim = "a node claimed to lead at 2026-11-18T11:06:40Z, was granted the claim once, and has not reported yet"
    assert shell.lines == ["claim since 2026-11-18T11:06:40Z, granted once, not reported yet", "unhealthy"]
    assert "no nodes are registered, and a node that claimed to lead has not reported yet" in shell.messages
    service.advance(1)
    assert shell("status", "kv") == 1
    assert shell.messages == (
        f"rqdisco: kv: {claim}; the daemon's log names it: stop that node for good, or wipe its data directory, then"
        " run `rqdisco leader clear kv --yes`\n"
    )
    assert lead(shell, "kv") == 0
    assert shell("status", "kv") == 0


@pytest.mark.parametrize(
    ("addrs", "status"),
    [
        (("localhost:4001", "localhost:4003"), 0),
        (("localhost:4001",), 0),
        (("localhost:4001", B), 1),
        (("0.0.0.0:4001",), 1),
        (("opaque",), 0),
    ],
)
def test_an_address_that_others_cannot_reach_is_not_healthy(
    service: Service, shell: Shell, addrs: tuple[str, ...], status: int
) -> None:
    discovery_id = create_id(service.daemon)
    for addr in addrs:
        result(register(service.daemon, discovery_id, addr, "10.0.0.2"))
    assert shell("status", discovery_id) == status
    assert ("-http-adv-addr" in shell.messages) == bool(status)
