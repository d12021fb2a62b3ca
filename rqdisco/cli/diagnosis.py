"""The remarks of `rqdisco status ID` beside the daemon's verdict: what nodes in some discovery modes
will not find. Pure.

The service does not store which discovery mode an ID is used in, so the remarks infer it: consul-kv
leaves a leader key; nodes registered for the DNS modes of rqlite 8 and later have Raft
addresses, those of rqlite 3 to 6 and of the DNS modes of 7 do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rqdisco.client import Document
from rqdisco.core.addresses import is_local
from rqdisco.core.host_ports import parse_host_port
from rqdisco.core.ids import is_uuid
from rqdisco.core.records import Node
from rqdisco.dns.zone import omission_reason


def remarks(document: Document) -> Iterator[str]:
    """Return the remarks about an ID."""
    yield from _remark_leaderless(document)
    yield from _remark_one_machine(document)
    yield from _remark_dns_omissions(document)


def may_be_granted(document: Document) -> bool:
    """Report whether the next node to register is told to bootstrap, if the daemon may do that."""
    return not (document.nodes or document.ownerless or document.claim is not None)


def describe_empty(document: Document, objections: Sequence[str] = ()) -> str:
    """Return a clause about what happens next under an ID without nodes."""
    if document.ownerless:
        return "and the ID has no owner: no node is told to bootstrap any more, create a new ID"
    if document.claim is not None:
        return "and a node that claimed to lead has not reported yet"
    if objections:
        return f"and this daemon tells no node to bootstrap now: {'; '.join(objections)}"
    return "the next node to register is told to bootstrap"


def _remark_leaderless(document: Document) -> Iterator[str]:
    """Only nodes in consul-kv mode register node IDs by themselves, and only they create names."""
    has_leader = document.leader is not None or document.claim is not None
    has_led = any(node.node_id is not None for node in document.registrations)
    if has_led and not has_leader and not is_uuid(document.disco_id):
        yield "note: no leader key, so nodes in consul-kv mode wait"


def _remark_one_machine(document: Document) -> Iterator[str]:
    joined_at = [node.addr if node.raft_addr is None else node.raft_addr for node in document.registrations]
    if joined_at and all(map(is_local, joined_at)):
        yield "note: only nodes on the same machine can join, since all addresses are loopback addresses"


def _remark_dns_omissions(document: Document) -> Iterator[str]:
    """Find nodes that DNS answers omit, unless the ID has a leader key and so is used in
    consul-kv mode. The daemon warns of addresses that are not HOST:PORT.
    """
    if document.leader is not None or not any(node.raft_addr for node in document.registrations):
        return
    for node in document.registrations:
        reason = omission_reason(Node(addr=node.addr, raft_addr=node.raft_addr))
        if reason is not None and parse_host_port(node.addr) is not None:
            yield f"dns: some answers omit {node.addr}: {reason}"
