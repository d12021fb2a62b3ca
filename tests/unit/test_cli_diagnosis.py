"""The remarks of `rqdisco status` beside the verdict of the service: each where it is true and of
use, and nowhere else.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from rqdisco.cli.diagnosis import remarks
from rqdisco.client import ClaimInfo, Document, LeaderInfo, NodeRegistration

ID = "9af5306d-5842-851c-a00f-72fe57b0eb16"
A, B, C = "10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"
RAFT_A, RAFT_B = "10.0.0.1:4002", "10.0.0.2:4002"


def node(addr: str = A, raft_addr: str | None = None, **seen: Any) -> NodeRegistration:
    return NodeRegistration(addr=addr, raft_addr=raft_addr, **seen)


def known(*nodes: NodeRegistration, leader: LeaderInfo | None = None) -> Document:
    addrs = tuple(each.addr for each in nodes)
    return Document(created_at="", disco_id=ID, nodes=addrs, registrations=nodes, leader=leader)


def led(*nodes: NodeRegistration) -> Document:
    """The first node leads."""
    first = nodes[0]
    leader = LeaderInfo(addr=str(first.raft_addr), api_addr=f"http://{first.addr}", index=1, reported=True)
    return known(*nodes, leader=leader)


@pytest.mark.parametrize(
    "document",
    [
        known(),
        # By legacy, and by DNS with rqlite 7: HTTP addresses.
        known(node(A)),
        known(node(A), node(B), node(C)),
        # By DNS.
        known(node(A, RAFT_A), node(B, RAFT_B)),
        # By consul-kv, which reports the leaders.
        led(node(A, RAFT_A, leader=True)),
        # Registered by hand once, and led by consul-kv now: nobody queries DNS.
        led(node(A, RAFT_A, leader=True), node(B)),
        led(node(A, RAFT_A, leader=True), node("opaque", "opaque")),
        # rqlite 8 and later join by Raft addresses: the other one may be for its own host.
        known(node("localhost:4001", RAFT_A), node("localhost:4001", RAFT_B)),
    ],
)
def test_a_cluster_that_all_nodes_can_join_has_no_remarks(document: Document) -> None:
    assert list(remarks(document)) == []


def test_a_name_that_lost_its_leader_key_keeps_nodes_waiting_and_a_created_id_gets_no_remark() -> None:
    named = msgspec.structs.replace(known(node(A, RAFT_A, node_id="n1")), disco_id="orders")
    assert list(remarks(named)) == ["note: no leader key, so nodes in consul-kv mode wait"]
    claim = ClaimInfo(since="2026-11-18T11:06:40Z", answered=1)
    for document in (led(node(A)), msgspec.structs.replace(known(node(A)), claim=claim), known()):
        assert list(remarks(msgspec.structs.replace(document, disco_id="orders"))) == []
    assert list(remarks(msgspec.structs.replace(named, disco_id=ID))) == []


def test_a_name_whose_nodes_registered_by_the_discovery_api_has_no_remark() -> None:
    registered = known(node(A), node(B), node(C))
    assert list(remarks(msgspec.structs.replace(registered, disco_id="orders"))) == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "http://localhost", "LOCALHOST."])
def test_the_limit_of_a_cluster_on_one_host_is_mentioned(host: str) -> None:
    for document in (
        known(node(f"{host}:4001")),
        known(node(f"{host}:4001"), node(f"{host}:4003")),
        known(node(f"{host}:4001", "localhost:4002"), node(f"{host}:4003", "localhost:4004")),
        led(node("localhost:4001", "localhost:4002", leader=True)),
    ):
        (remark,) = remarks(document)
        assert remark.startswith("note: only nodes on the same machine can join")


def test_nodes_left_out_of_dns_are_named_where_raft_addresses_are_known_and_none_leads() -> None:
    document = known(node(A, RAFT_A), node(B), node("10.0.0.4:4001", "raft"))
    assert list(remarks(document)) == [
        f"dns: some answers omit {B}: it has no Raft address",
        "dns: some answers omit 10.0.0.4:4001: its Raft address has no usable host and port",
    ]
