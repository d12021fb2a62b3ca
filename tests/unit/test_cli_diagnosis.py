"""The remarks of `rqdisco status` about an ID: each where it is true and of use, and nowhere
else.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from rqdisco.cli.diagnosis import diagnose
from rqdisco.client import ClaimInfo, Document, LeaderInfo, NodeRegistration

# 2026-11-18T11:06:40Z.
NOW = 1_795_000_000.0
ID = "9af5306d-5842-851c-a00f-72fe57b0eb16"
A, B, C = "10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"
RAFT_A, RAFT_B = "10.0.0.1:4002", "10.0.0.2:4002"


def node(addr: str = A, raft_addr: str | None = None, **seen: Any) -> NodeRegistration:
    return NodeRegistration(addr=addr, raft_addr=raft_addr, **seen)


def known(*nodes: NodeRegistration, leader: LeaderInfo | None = None, ownerless: bool = False) -> Document:
    addrs = tuple(each.addr for each in nodes)
    return Document(created_at="", disco_id=ID, nodes=addrs, registrations=nodes, leader=leader, ownerless=ownerless)


def led(*nodes: NodeRegistration, reported: bool = True) -> Document:
    """The first node leads, or has claimed to."""
    first = nodes[0]
    leader = LeaderInfo(addr=str(first.raft_addr), api_addr=f"http://{first.addr}", index=1, reported=reported)
    return known(*nodes, leader=leader)


def problems(document: Document) -> list[str]:
    """Return the problems."""
    return [finding.text for finding in diagnose(document, NOW) if finding.is_problem]


def notes(document: Document) -> list[str]:
    """Return the remarks for information."""
    return [finding.text for finding in diagnose(document, NOW) if not finding.is_problem]


@pytest.mark.parametrize(
    "healthy",
    [
        # By legacy, and by DNS with rqlite 7: HTTP addresses.
        known(node(A)),
        known(node(A), node(B), node(C)),
        # By DNS.
        known(node(A, RAFT_A), node(B, RAFT_B)),
        # By consul-kv, which reports the leaders.
        led(node(A, RAFT_A, leader=True)),
        led(node(A, RAFT_A, leader=True), node(B, RAFT_B)),
        # Registered by hand once, and led by consul-kv now: nobody queries DNS.
        led(node(A, RAFT_A, leader=True), node(B)),
        led(node(A, RAFT_A, leader=True), node("opaque", "opaque")),
        # Probed as up, or one of several as down.
        led(node(A, RAFT_A, leader=True, up=True, ready=True)),
        known(node(A, up=False), node(B, up=True)),
        led(node(A, RAFT_A, leader=True, up=True), node(B, RAFT_B, up=False)),
        # rqlite 8 and later join by Raft addresses: the other one may be for its own host.
        known(node("localhost:4001", RAFT_A), node("localhost:4001", RAFT_B)),
    ],
)
def test_a_healthy_cluster_has_no_remarks(healthy: Document) -> None:
    assert diagnose(healthy, NOW) == []


def claimed(since: str, *nodes: NodeRegistration, answered: int = 1) -> Document:
    return msgspec.structs.replace(known(*nodes), claim=ClaimInfo(since=since, answered=answered))


def test_an_unreported_claim_is_waited_for_and_is_to_be_cleared_after_a_minute() -> None:
    waiting = "no nodes are registered, and a node that claimed to lead has not reported yet"
    for since in ("2026-11-18T11:06:40Z", "2026-11-18T11:05:40Z", "2030-01-01T00:00:00Z", "whenever", "9" * 99):
        assert problems(claimed(since)) == [waiting]
    assert problems(claimed("2026-11-18T11:05:39Z", answered=3)) == [
        "a node claimed to lead at 2026-11-18T11:05:39Z, was granted the claim 3 times, and has not reported yet;"
        " the daemon's log names it: stop that node for good, or wipe its data directory, then run"
        f" `rqdisco leader clear {ID} --yes`"
    ]
    assert diagnose(claimed("2026-11-18T11:06:40Z", node(A)), NOW) == [], "it may be of an import"


def test_an_id_without_nodes_needs_one() -> None:
    assert problems(known()) == ["no nodes are registered, the next node to register is told to bootstrap"]
    (lost,) = problems(known(ownerless=True))
    assert "create a new ID" in lost
    assert notes(known()) == notes(known(ownerless=True)) == []


def test_a_name_without_a_leader_record_keeps_nodes_waiting_and_a_created_id_gets_no_remark() -> None:
    named = msgspec.structs.replace(known(node(A)), disco_id="orders")
    assert notes(named) == ["note: no leader key, so nodes in consul-kv mode wait"]
    assert problems(named) == notes(known(node(A))) == []
    for led_or_claimed in (led(node(A)), claimed("2026-11-18T11:06:40Z", node(A))):
        assert notes(msgspec.structs.replace(led_or_claimed, disco_id="orders")) == []
    assert notes(msgspec.structs.replace(known(), disco_id="orders")) == []


def test_an_ownerless_id_is_reported_and_may_be_healthy() -> None:
    document = known(node(A), ownerless=True)
    assert notes(document) == ["ownerless: its owner is lost; nodes are listed, but none is told to bootstrap"]
    assert problems(document) == []


@pytest.mark.parametrize(
    ("up", "seen"),
    [(None, ""), (True, ", though it is up"), (False, ", and it is down: start it")],
)
def test_an_unreported_claim_has_advice_that_fits_the_state_of_its_node(up: bool | None, seen: str) -> None:
    claim = problems(led(node(A, RAFT_A, leader=True, up=up), reported=False))[0]
    assert claim == (
        f"{RAFT_A} claimed to lead and has not reported{seen}; other nodes wait for it."
        f" If that lasts more than a minute, stop all nodes and run `rqdisco reset {ID}`"
    )


def test_a_claim_of_an_unlisted_node_is_reported_too() -> None:
    leader = LeaderInfo(addr=RAFT_B, index=1, reported=False)
    (claim,) = problems(known(node(A, up=True), leader=leader))
    assert claim.startswith(f"{RAFT_B} claimed to lead and has not reported; other nodes")


def test_a_leader_that_is_down_needs_action_while_no_other_reports() -> None:
    for up in (True, None):
        (down,) = problems(led(node(A, RAFT_A, leader=True, up=False), node(B, RAFT_B, up=up)))
        assert down.startswith(f"{RAFT_A} leads, by the leader key, and is down: nodes can join once another node")
    assert problems(led(node(A, RAFT_A, leader=True, up=False))) == ["no node is up, according to the probes"]


def test_a_cluster_with_nothing_up_needs_action() -> None:
    assert problems(known(node(A, up=False), node(B, up=False))) == ["no node is up, according to the probes"]


def test_a_node_that_was_never_probed_may_be_up() -> None:
    document = known(node(A, up=False), node(B))
    assert problems(document) == []
    assert notes(document) == ["note: no probed node is up, and some nodes cannot be probed"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "http://localhost", "LOCALHOST."])
def test_a_cluster_on_one_host_is_healthy_and_its_limit_is_mentioned(host: str) -> None:
    for document in (
        known(node(f"{host}:4001")),
        known(node(f"{host}:4001"), node(f"{host}:4003")),
        known(node(f"{host}:4001", "localhost:4002"), node(f"{host}:4003", "localhost:4004")),
        led(node("localhost:4001", "localhost:4002", leader=True)),
        led(node("localhost:4001", "localhost:4002", leader=True), node("localhost:4003", "localhost:4004")),
    ):
        assert problems(document) == []
        (note,) = notes(document)
        assert note.startswith("note: only nodes on the same machine can join")


@pytest.mark.parametrize(
    ("document", "addr", "flag"),
    [
        (known(node("localhost:4001"), node(B)), "localhost:4001", "-http-adv-addr"),
        (known(node("127.0.0.1:4001"), node(B), node(C)), "127.0.0.1:4001", "-http-adv-addr"),
        (known(node(A, "localhost:4002"), node(B, RAFT_B)), "localhost:4002", "-raft-adv-addr"),
        (led(node(A, RAFT_A, leader=True), node(B, "[::1]:4002")), "[::1]:4002", "-raft-adv-addr"),
        (known(node("0.0.0.0:4001")), "0.0.0.0:4001", "-http-adv-addr"),
        (known(node(A, "[::]:4002")), "[::]:4002", "-raft-adv-addr"),
    ],
)
def test_an_address_that_the_rest_of_the_cluster_cannot_reach_needs_action(
    document: Document, addr: str, flag: str
) -> None:
    (remark,) = problems(document)
    assert remark == f"other machines cannot reach {addr}: set {flag}"


def test_two_loopback_addresses_beside_another_are_two_diagnose() -> None:
    assert len(problems(known(node("localhost:4001"), node("localhost:4003"), node(B)))) == 2


def test_a_local_http_address_matters_to_rqlite_7_only() -> None:
    document = led(node("localhost:4001", RAFT_A, leader=True))
    assert problems(document) == []
    (note,) = notes(document)
    assert note == "note: rqlite 7 on other machines cannot join by localhost:4001; 8 and later join by Raft addresses"


def test_an_address_without_a_port_is_mentioned_where_dns_may_be_used() -> None:
    assert notes(known(node("opaque"), node(A))) == ["note: DNS answers omit opaque: it is not HOST:PORT"]


def test_nodes_left_out_of_dns_are_named_where_raft_addresses_are_known_and_none_leads() -> None:
    document = known(node(A, RAFT_A), node(B), node("10.0.0.4:4001", "raft"))
    assert notes(document) == [
        f"dns: some answers omit {B}: it has no Raft address",
        "dns: some answers omit 10.0.0.4:4001: its Raft address has no usable host and port",
    ]
    assert problems(document) == []


def test_two_leaders_that_both_report_themselves_need_action() -> None:
    document = msgspec.structs.replace(led(node(A, RAFT_A), node(B, RAFT_B)), two_leaders=(RAFT_A, RAFT_B))
    (found,) = problems(document)
    assert found.startswith(f"{RAFT_A} and {RAFT_B} both report that they lead: two clusters")
