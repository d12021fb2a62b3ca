"""`rqdisco status`: its output for the service and for an ID, and when an ID is not healthy."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from rqdisco.backends.limits import Limits
from rqdisco.security.tokens import Access, TokenRing, describe
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
    service, first, second, leader, health, next_step = shell.lines
    assert service.startswith("service ")
    assert first == f"node {A} raft {RAFT_A} id n1 leader"
    assert second == f"node {B}"
    assert leader.startswith(f"leader {RAFT_A} reported, index ")
    assert health == f"health healthy: the leader {A} last reported at 2026-11-18T11:06:40Z and is not probed"
    assert next_step == "next step: nothing to do"


def test_status_of_an_id_served_by_dns_names_nodes_that_dns_leaves_out(shell: Shell, some_id: str) -> None:
    assert shell("status", some_id) == 0
    assert shell.lines[2:4] == [
        f"dns: some answers omit {B}: it has no Raft address",
        "health unknown: 2 of 2 nodes were not probed",
    ]
    assert shell.messages == ""


def test_a_consul_kv_cluster_on_one_host_is_healthy(shell: Shell) -> None:
    value = ("--id", "1", "--api-addr", "http://localhost:4001", "--addr", "localhost:4002")
    assert shell("leader", "set", "kv", *value) == 0
    assert shell("status", "kv") == 0
    assert (
        shell.lines[-3] == "note: only nodes on the same machine can join, since all addresses are loopback addresses"
    )
    assert shell.lines[-2].startswith("health healthy: ")
    assert shell.messages == ""


def test_an_unknown_id_is_not_healthy(shell: Shell) -> None:
    assert shell("status", "unknown") == 1
    assert "unknown does not exist" in shell.messages


def test_an_id_without_nodes_is_forming(service: Service, shell: Shell) -> None:
    discovery_id = create_id(service.daemon)
    assert shell("status", discovery_id) == 0
    assert shell.lines == [
        "health forming: no nodes are registered yet: the first one bootstraps the cluster",
        f"next step: start the nodes with the flags that `rqdisco flags {discovery_id} --rqlite VERSION` prints",
    ]
    assert shell.messages == ""


@pytest.mark.parametrize("command", ["status", "show"])
def test_no_grant_is_promised_while_the_daemon_may_not_grant(command: str) -> None:
    shell = Shell(Service(operator=True))
    discovery_id = create_id(shell.service.daemon)
    shell(command, discovery_id)
    if command == "show":
        assert "no nodes are registered, the next node to register is told to bootstrap" in shell.messages
    assert shell("freeze", "the disk is replaced") == 0
    shell(command, discovery_id)
    assert "no nodes are registered, and this daemon tells no node to bootstrap now: " in shell.messages
    assert "the disk is replaced" in shell.messages


def test_a_leader_that_claimed_and_never_reported_is_not_healthy() -> None:
    shell = Shell(Service(limits=Limits(visible_claims=True)))
    assert lead(shell, "kv", "--cas", "0") == 0
    assert shell("status", "kv") == 0
    assert shell.lines[-2].startswith(f"health forming: {A} claimed to lead at 2026-11-18T11:06:40Z, is not probed")
    shell.service.advance(61)
    assert shell("status", "kv") == 1
    assert shell.lines[-2].startswith(f"health waiting: {A} claimed to lead at 2026-11-18T11:06:40Z, is not probed")
    assert (
        shell.lines[-1] == f"next step: start {A}; if it never leads, stop all nodes and run `rqdisco reset kv --yes`"
    )
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
    assert shell("status", "kv") == 0
    claim = "a node won the claim to lead at 2026-11-18T11:06:40Z, was answered once and has not reported"
    assert shell.lines == [
        "claim since 2026-11-18T11:06:40Z, granted once, not reported yet",
        f"health forming: {claim} yet",
        "next step: wait: a leader reports within a minute",
    ]
    service.advance(1)
    assert shell("status", "kv") == 1
    assert shell.lines[1:] == [
        f"health waiting: {claim} for over 60 s: all other nodes wait for it",
        "next step: the log of the daemon names the node: stop it for good, or wipe its data directory, then run"
        " `rqdisco leader clear kv --yes`",
    ]
    assert lead(shell, "kv") == 0
    assert shell("status", "kv") == 0


@pytest.mark.parametrize(
    ("addrs", "host", "warned"),
    [
        (("localhost:4001", "localhost:4003"), "@", 0),
        (("localhost:4001", "localhost:4003"), "10.0.0.2", 2),
        (("0.0.0.0:4001",), "10.0.0.2", 1),
        (("opaque", A, "10.0.0.2:70000"), "10.0.0.2", 2),
    ],
)
def test_an_address_that_others_cannot_reach_is_warned_of(
    service: Service, shell: Shell, addrs: tuple[str, ...], host: str, warned: int
) -> None:
    discovery_id = create_id(service.daemon)
    for addr in addrs:
        result(register(service.daemon, discovery_id, addr, host))
    assert shell("status", discovery_id) == 0
    assert shell.messages.count("-http-adv-addr") == warned


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        ("forming", 0),
        ("healthy", 0),
        ("degraded", 0),
        ("unknown", 0),
        ("a newer one", 0),
        ("no quorum", 1),
        ("waiting", 1),
        ("two leaders", 1),
        ("ownerless", 1),
    ],
)
def test_the_exit_status_is_that_of_the_verdict_of_the_service(
    service: Service, shell: Shell, verdict: str, status: int
) -> None:
    document: dict[str, Any] = {"created_at": "", "disco_id": "kv", "nodes": [A], "registrations": [{"addr": A}]}
    document["health"] = {"verdict": verdict, "reason": "2 of 3", "next_step": "start it"}
    service.answers["/kv"] = 200, msgspec.json.encode(document)
    assert shell("status", "kv") == status
    assert shell.lines[-2:] == [f"health {verdict}: 2 of 3", "next step: start it"]
    assert shell.messages == ""


def test_a_service_that_is_too_old_to_judge_says_so(service: Service, shell: Shell) -> None:
    document: dict[str, Any] = {"created_at": "", "disco_id": "kv", "nodes": [A], "registrations": [{"addr": A}]}
    service.answers["/kv"] = 200, msgspec.json.encode(document)
    assert shell("status", "kv") == 0
    assert shell.lines[-2] == "health unknown: this service is too old to judge the cluster"


@pytest.mark.parametrize(("verdict", "color"), [("healthy", "32"), ("degraded", "33"), ("no quorum", "1;31")])
def test_a_terminal_shows_the_verdict_in_color_and_in_words(
    service: Service, verdict: str, color: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    shell = Shell(service, terminal=True)
    document: dict[str, Any] = {"created_at": "", "disco_id": "kv", "nodes": [A], "registrations": [{"addr": A}]}
    document["health"] = {"verdict": verdict, "reason": "2 of 3", "next_step": "start it"}
    service.answers["/kv"] = 200, msgspec.json.encode(document)
    shell("status", "kv")
    assert f"health \x1b[{color}m{verdict}\x1b[0m: 2 of 3\n" in shell.out.text
    monkeypatch.setenv("NO_COLOR", "1")
    shell("status", "kv")
    assert f"health {verdict}: 2 of 3\n" in shell.out.text.replace("\x1b[1m", "").replace("\x1b[0m", "")


def test_register_warns_on_stderr_of_addresses_that_will_not_work(service: Service, shell: Shell) -> None:
    discovery_id = create_id(service.daemon)
    result(register(service.daemon, discovery_id, "opaque"))
    assert shell("register", discovery_id, "10.0.0.1", "--raft-addr", "10.0.0.1:70000") == 0
    assert shell.lines[-1] == "10.0.0.1"
    assert shell.messages == (
        "rqdisco: 10.0.0.1 has no port: restart its node with -http-adv-addr 10.0.0.1:4001, then run"
        f" `rqdisco remove {discovery_id} 10.0.0.1`\n"
        "rqdisco: 10.0.0.1:70000 has a port that is not from 1 to 65535: restart its node with -raft-adv-addr"
        " 10.0.0.1:4002\n"
    )
    assert shell("register", discovery_id, A) == 0
    assert shell.messages == ""


def test_a_node_is_registered_although_its_token_may_not_look_it_up() -> None:
    service = Service(access=Access(TokenRing([describe("nodes", ["write"], "secret")])))
    shell = Shell(service)
    shell.token = "secret"
    assert shell("register", create_id(service.daemon), "10.0.0.1") == 0
    assert (shell.lines, shell.messages) == (["10.0.0.1"], "")


def test_a_healthy_id_with_a_doubtful_address_still_has_a_next_step(shell: Shell) -> None:
    assert shell("leader", "set", "kv", "--id", "1", "--api-addr", "http://10.0.0.1:4001", "--addr", "10.0.0.1") == 0
    assert shell("status", "kv") == 0
    assert shell.lines[-2].startswith("health healthy: ")
    assert shell.lines[-1] == "next step: restart its node with -raft-adv-addr 10.0.0.1:4002"
    assert shell.messages == ("rqdisco: kv: 10.0.0.1 has no port: restart its node with -raft-adv-addr 10.0.0.1:4002\n")
