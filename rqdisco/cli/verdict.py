"""What there is to remark about an ID, by what the service knows of it. Pure.

The service does not know which way an ID is used, so it is told from what is there: consul-kv
leaves a leader record, nodes that are registered for the DNS modes of rqlite 8 and later have Raft
addresses, those of rqlite 3 to 6, and of the DNS modes of 7, do not. Nothing is remarked about a
way that is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from rqdisco.cli.claims import advice, describe_claim, waits_for_long
from rqdisco.client import Document, NodeRegistration
from rqdisco.core.addresses import check_reachable
from rqdisco.core.errors import InvalidValue, MisleadingAddress
from rqdisco.core.host_ports import parse_host_port
from rqdisco.core.ids import is_uuid
from rqdisco.core.records import Node
from rqdisco.dns.zone import left_out

_THIS_MACHINE, _ANOTHER_MACHINE = "127.0.0.1", "198.51.100.1"


class Remark(NamedTuple):
    """One line. What `needs_a_hand` makes the ID unhealthy: without it no cluster forms, or nobody
    can join.
    """

    text: str
    needs_a_hand: bool = False


def remarks(document: Document, now: float) -> list[Remark]:
    """All there is to remark; `now` is in seconds since 1970."""
    return [remark for judge in _JUDGES for remark in judge(document, now)]


def what_comes_next(document: Document) -> str:
    """What an ID without nodes means for the next node that asks."""
    if document.orphaned:
        return "and the ID lost its home: nobody is told to bootstrap any more, mint a new ID"
    if document.claim is not None:
        return "and a node that claimed to lead is waited for until it reports itself"
    return "the next to ask is told to bootstrap"


def _waiting(document: Document, now: float) -> Iterator[Remark]:
    """A claim whose node should have reported itself by now."""
    if document.claim is not None and waits_for_long(document.claim, now):
        yield Remark(f"{describe_claim(document.claim)}; {advice(document.disco_id)}", needs_a_hand=True)


def _empty(document: Document, now: float) -> Iterator[Remark]:
    """For a moment every cluster so begins: whoever claimed to lead is not shown before it reports
    itself.
    """
    if not document.nodes and not list(_waiting(document, now)):
        yield Remark(f"no nodes are registered, {what_comes_next(document)}", needs_a_hand=True)


def _ownerless(document: Document, _: float) -> Iterator[Remark]:
    if document.orphaned and document.nodes:
        yield Remark("orphaned: its home is lost, nodes are listed but nobody is told to bootstrap")


def _claimed(document: Document, _: float) -> Iterator[Remark]:
    """By consul-kv, where claims are visible: one that was won and not reported. So begins every
    cluster there.
    """
    leader = document.leader
    if leader is None or leader.reported:
        return
    up = next((node.up for node in document.registrations if node.leader), None)
    seen = "" if up is None else ", though it is up" if up else ", and it is down: start it"
    yield Remark(
        f"{leader.addr} claimed to lead and never reported that it does{seen}; others wait for it. Where that lasts for"
        f" more than a minute, stop all nodes and `rqdisco reset {document.disco_id}`",
        needs_a_hand=True,
    )


def _leaderless(document: Document, _: float) -> Iterator[Remark]:
    """A name is an ID of consul-kv, since nothing else makes one. How a minted ID is used is not
    known.
    """
    is_led = document.leader is not None or document.claim is not None
    if document.nodes and not is_led and not is_uuid(document.disco_id):
        yield Remark("note no leader record: nodes in consul-kv mode wait")


def _two_leaders(document: Document, _: float) -> Iterator[Remark]:
    if document.two_leaders:
        yield Remark(
            f"{' and '.join(document.two_leaders)} both report that they lead: there are two clusters under this ID;"
            " start no nodes, keep one cluster",
            needs_a_hand=True,
        )


def _down(document: Document, _: float) -> Iterator[Remark]:
    """Some nodes may be down, but who joins needs one that is up, and by consul-kv the leader."""
    nodes = document.registrations
    down = [node for node in nodes if node.up is False]
    if not down:
        return
    if len(down) == len(nodes):
        yield Remark("no node is up, as far as is seen", needs_a_hand=True)
    elif document.leader is not None and document.leader.reported and any(node.leader for node in down):
        yield Remark(
            f"{document.leader.addr} leads, by the leader record, and is down: others join once another node reports"
            " that it leads, which takes 10 s while most nodes are up (300 s up to rqlite 7.15)",
            needs_a_hand=True,
        )
    elif not any(node.up for node in nodes):
        yield Remark("note no node that was looked at is up, and some cannot be looked at")


def _unreachable(document: Document, _: float) -> Iterator[Remark]:
    """Addresses that others join by. Those of one machine are fine where all are on it."""
    nodes = document.registrations
    on_one_machine = all(_is_misleading(_joined_by(node), _ANOTHER_MACHINE) for node in nodes)
    for node in nodes:
        addr = _joined_by(node)
        if _is_misleading(addr, _THIS_MACHINE if on_one_machine else _ANOTHER_MACHINE):
            flag = "-http-adv-addr" if addr == node.addr else "-raft-adv-addr"
            yield Remark(f"{addr} is an address that other machines cannot reach, set {flag}", needs_a_hand=True)
        elif document.leader is not None and not on_one_machine and _is_misleading(node.addr, _ANOTHER_MACHINE):
            yield Remark(
                f"note rqlite 7 on other machines cannot join by {node.addr}, 8 and later join by Raft addresses"
            )
    if nodes and on_one_machine and not any(_is_misleading(_joined_by(node), _THIS_MACHINE) for node in nodes):
        yield Remark("note only nodes on the same machine can join: all addresses are loopback addresses")


def _dns(document: Document, _: float) -> Iterator[Remark]:
    """Who is left out of DNS answers, where they may be asked for: an ID with a leader record is
    used by consul-kv.
    """
    if document.leader is not None:
        return
    by_raft = any(node.raft_addr is not None for node in document.registrations)
    for node in document.registrations:
        why = left_out(Node(addr=node.addr, raft_addr=node.raft_addr))
        if by_raft and why is not None:
            yield Remark(f"dns {node.addr} is not in every answer: {why}")
        elif parse_host_port(node.addr) is None and not _is_misleading(node.addr, _THIS_MACHINE):
            yield Remark(f"note {node.addr} is no HOST:PORT: it is in no DNS answer")


def _joined_by(node: NodeRegistration) -> str:
    """The address by which others join a node, as far as is known: rqlite 8 and later register
    their Raft address.
    """
    return node.addr if node.raft_addr is None else node.raft_addr


def _is_misleading(addr: str, client_ip: str) -> bool:
    try:
        check_reachable(addr, client_ip)
    except MisleadingAddress:
        return True
    except InvalidValue:
        return False
    return False


# A further verdict is a function like these: what is known goes in, and the time; remarks come out.
_JUDGES: tuple[Callable[[Document, float], Iterator[Remark]], ...] = (
    _waiting,
    _empty,
    _claimed,
    _leaderless,
    _two_leaders,
    _down,
    _unreachable,
    _ownerless,
    _dns,
)
