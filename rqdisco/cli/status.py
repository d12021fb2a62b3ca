"""The command status: whether the service answers, and whether an ID is well."""

from __future__ import annotations

from rqdisco.address import check_reachable
from rqdisco.cli.app import DONE, REFUSED, App, patiently
from rqdisco.cli.nodes import state, what_comes_next
from rqdisco.client import Document, Registration
from rqdisco.dns.zone import left_out
from rqdisco.errors import InvalidValue, MisleadingAddress
from rqdisco.records import Node

_ANOTHER_MACHINE = "198.51.100.1"


async def status(app: App, discovery_id: str | None, patience: float, *, service: bool) -> int:
    """Print how the service is, or an ID, or both; REFUSED if the ID is not well.

    While the service is away it is waited for, `patience` seconds.
    """
    if service or discovery_id is None:
        info = await patiently(app, app.client.service, patience)
        ids = "" if info.ids is None else f", {info.ids} IDs"
        app.screen.line(f"service {app.url} is up for {info.uptime:.0f} s, version {info.version}{ids}")
    if discovery_id is None:
        return DONE
    document = await patiently(app, lambda: app.client.get(discovery_id), patience)
    app.screen.lines([_node_line(node) for node in document.registrations])
    if document.leader is not None:
        state = "reported itself" if document.leader.reported else "claimed, never reported itself"
        app.screen.line(f"leader {document.leader.addr} {state}, index {document.leader.index}")
    elif document.nodes:
        app.screen.line("leader none: nodes that ask by consul-kv wait until one reports itself")
    if document.orphaned:
        app.screen.line("orphaned: its home is lost, nodes are listed but nobody is told to bootstrap")
    app.screen.lines([line for node in document.registrations for line in _dns_lines(node)])
    found = problems(document)
    for problem in found:
        app.screen.say(f"{discovery_id}: {problem}")
    app.screen.line("unhealthy" if found else "healthy")
    return REFUSED if found else DONE


def problems(document: Document) -> list[str]:
    """What keeps the cluster of an ID from forming or growing, as far as the service knows."""
    found = []
    if not document.nodes:
        found.append(f"no nodes are registered, {what_comes_next(document)}")
    leader = document.leader
    if leader is not None and not leader.reported:
        found.append(
            f"{leader.addr} claimed to lead and never reported that it does, others wait for it; if it does not come"
            " up, stop all nodes and reset the ID"
        )
    return found + _down(document.registrations) + _misleading(document.registrations)


def _node_line(node: Registration) -> str:
    known = [("raft", node.raft_addr), ("id", node.node_id)]
    words = ["node", node.addr, *(f"{name} {value}" for name, value in known if value is not None)]
    seen = state(node)
    return " ".join(words + ["leader"] * node.leader + ([] if seen is None else [seen]))


def _dns_lines(node: Registration) -> list[str]:
    why = left_out(Node(addr=node.addr, raft_addr=node.raft_addr))
    return [] if why is None else [f"dns {node.addr} is not in every answer: {why}"]


def _down(nodes: tuple[Registration, ...]) -> list[str]:
    """Some nodes may be down, but who joins needs one that is up, and by consul-kv the leader."""
    if any(node.up is False for node in nodes) and not any(node.up for node in nodes):
        return ["no node is up, as far as the service sees"]
    return [
        f"{node.addr} leads, by the leader record, and is down" for node in nodes if node.leader and node.up is False
    ]


def _misleading(nodes: tuple[Registration, ...]) -> list[str]:
    """Nodes that others cannot reach: loopback addresses are fine where several nodes are all on one machine."""
    alone = len(nodes) > 1 and all(_misleads(node, _ANOTHER_MACHINE) for node in nodes)
    client = None if alone else _ANOTHER_MACHINE
    return [
        f"{node.addr} is an address that other machines cannot reach, set -http-adv-addr"
        for node in nodes
        if _misleads(node, client)
    ]


def _misleads(node: Registration, client: str | None) -> bool:
    try:
        check_reachable(node.addr, client)
    except MisleadingAddress:
        return True
    except InvalidValue:
        return False
    return False
