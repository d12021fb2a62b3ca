"""The checks of `rqdisco status ID`: why no cluster forms under an ID, or no node can join. Pure.

The service does not store which discovery mode an ID is used in, so the checks infer it: consul-kv
leaves a leader key; nodes registered for the DNS modes of rqlite 8 and later have Raft
addresses, those of rqlite 3 to 6 and of the DNS modes of 7 do not. Modes that are not used produce
no findings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from rqdisco.cli.claims import describe_claim, is_overdue, overdue_remedy
from rqdisco.client import Document, NodeRegistration
from rqdisco.core.addresses import check_reachable
from rqdisco.core.errors import InvalidValue, MisleadingAddress
from rqdisco.core.host_ports import parse_host_port
from rqdisco.core.ids import is_uuid
from rqdisco.core.records import Node
from rqdisco.dns.zone import omission_reason

# IP addresses of a client on the host of the nodes, and on another.
_SAME_HOST, _OTHER_HOST = "127.0.0.1", "198.51.100.1"


class Finding(NamedTuple):
    """One line of a diagnosis. A problem makes the ID unhealthy: until it is solved no cluster
    forms, or no node can join.
    """

    text: str
    is_problem: bool = False


def diagnose(document: Document, now: float, objections: Sequence[str] = ()) -> list[Finding]:
    """Return all findings; `now` is in seconds since 1970, `objections` are the reasons why the daemon
    grants nothing.
    """
    findings = [*_check_overdue_claim_or_empty(document, now, objections)]
    return findings + [finding for check in _CHECKS for finding in check(document, now)]


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


def _check_overdue_claim_or_empty(document: Document, now: float, objections: Sequence[str]) -> Iterator[Finding]:
    """Find an overdue claim, or else a lack of nodes. Every new cluster is empty for a moment,
    since a node that claimed to lead is hidden until it reports.
    """
    if document.claim is not None and is_overdue(document.claim, now):
        yield Finding(f"{describe_claim(document.claim)}; {overdue_remedy(document.disco_id)}", is_problem=True)
    elif not document.nodes:
        yield Finding(f"no nodes are registered, {describe_empty(document, objections)}", is_problem=True)


def _check_ownerless(document: Document, _: float) -> Iterator[Finding]:
    if document.ownerless and document.nodes:
        yield Finding("ownerless: its owner is lost; nodes are listed, but none is told to bootstrap")


def _check_unreported_leader(document: Document, _: float) -> Iterator[Finding]:
    """Find a visible claim that was granted and not reported. Every cluster in consul-kv mode
    starts like this.
    """
    leader = document.leader
    if leader is None or leader.reported:
        return
    up = next((node.up for node in document.registrations if node.leader), None)
    health = "" if up is None else ", though it is up" if up else ", and it is down: start it"
    yield Finding(
        f"{leader.addr} claimed to lead and has not reported{health}; other nodes wait for it. If that lasts more than"
        f" a minute, stop all nodes and run `rqdisco reset {document.disco_id}`",
        is_problem=True,
    )


def _check_leaderless(document: Document, _: float) -> Iterator[Finding]:
    """An ID that is a name is used in consul-kv mode, which alone creates names. How a created ID
    is used is unknown.
    """
    has_leader = document.leader is not None or document.claim is not None
    if document.nodes and not has_leader and not is_uuid(document.disco_id):
        yield Finding("note: no leader key, so nodes in consul-kv mode wait")


def _check_two_leaders(document: Document, _: float) -> Iterator[Finding]:
    if document.two_leaders:
        yield Finding(
            f"{' and '.join(document.two_leaders)} both report that they lead: two clusters share this ID;"
            " start no nodes, and keep one of the clusters",
            is_problem=True,
        )


def _check_down(document: Document, _: float) -> Iterator[Finding]:
    """Some nodes may be down, but a node that joins needs one that is up: in consul-kv mode the
    leader.
    """
    nodes = document.registrations
    down = [node for node in nodes if node.up is False]
    if not down:
        return
    if len(down) == len(nodes):
        yield Finding("no node is up, according to the probes", is_problem=True)
    elif document.leader is not None and document.leader.reported and any(node.leader for node in down):
        yield Finding(
            f"{document.leader.addr} leads, by the leader key, and is down: nodes can join once another node reports"
            " that it leads, within 10 s while most nodes are up (300 s up to rqlite 7.15)",
            is_problem=True,
        )
    elif not any(node.up for node in nodes):
        yield Finding("note: no probed node is up, and some nodes cannot be probed")


def _check_misleading(document: Document, _: float) -> Iterator[Finding]:
    """Find addresses that other nodes cannot join by. Loopback addresses are fine if all nodes
    share a host.
    """
    nodes = document.registrations
    on_one_host = all(_is_misleading(_join_address(node), _OTHER_HOST) for node in nodes)
    for node in nodes:
        addr = _join_address(node)
        if _is_misleading(addr, _SAME_HOST if on_one_host else _OTHER_HOST):
            flag = "-http-adv-addr" if addr == node.addr else "-raft-adv-addr"
            yield Finding(f"other machines cannot reach {addr}: set {flag}", is_problem=True)
        elif document.leader is not None and not on_one_host and _is_misleading(node.addr, _OTHER_HOST):
            yield Finding(
                f"note: rqlite 7 on other machines cannot join by {node.addr}; 8 and later join by Raft addresses"
            )
    if nodes and on_one_host and not any(_is_misleading(_join_address(node), _SAME_HOST) for node in nodes):
        yield Finding("note: only nodes on the same machine can join, since all addresses are loopback addresses")


def _check_dns_omissions(document: Document, _: float) -> Iterator[Finding]:
    """Find nodes that DNS answers omit, unless the ID has a leader key and so is used in
    consul-kv mode.
    """
    if document.leader is not None:
        return
    by_raft = any(node.raft_addr is not None for node in document.registrations)
    for node in document.registrations:
        reason = omission_reason(Node(addr=node.addr, raft_addr=node.raft_addr))
        if by_raft and reason is not None:
            yield Finding(f"dns: some answers omit {node.addr}: {reason}")
        elif parse_host_port(node.addr) is None and not _is_misleading(node.addr, _SAME_HOST):
            yield Finding(f"note: DNS answers omit {node.addr}: it is not HOST:PORT")


def _join_address(node: NodeRegistration) -> str:
    """Return the address that other nodes join by: the Raft address, if it is registered as rqlite
    8 and later need it.
    """
    return node.addr if node.raft_addr is None else node.raft_addr


def _is_misleading(addr: str, client_ip: str) -> bool:
    """Report whether `client_ip` cannot reach a node at `addr`; False if `addr` is invalid."""
    try:
        check_reachable(addr, client_ip)
    except MisleadingAddress:
        return True
    except InvalidValue:
        return False
    return False


# To add a check, write a function like these and list it here.
_CHECKS: tuple[Callable[[Document, float], Iterator[Finding]], ...] = (
    _check_unreported_leader,
    _check_leaderless,
    _check_two_leaders,
    _check_down,
    _check_misleading,
    _check_ownerless,
    _check_dns_omissions,
)
