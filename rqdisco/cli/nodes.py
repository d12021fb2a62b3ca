"""Commands about the nodes of an ID: create, register, nodes, show, remove, reset."""

from __future__ import annotations

from rqdisco.cli.app import DONE, REFUSED, App, Failed, Misused, patiently
from rqdisco.cli.durations import format_duration
from rqdisco.cli.listing import Form, Incomplete, formatted, others
from rqdisco.cli.verdict import what_comes_next
from rqdisco.client import Document, NodeRegistration

RESET_MEANS = (
    "reset {id} removes its leader record, a claim that waits for its leader's first report, and all its nodes: the"
    " next node that asks is told to bootstrap a new cluster. Stop all nodes of the old cluster"
    " first, for good, or wipe their data directories: they would split from the new one"
)


async def create(app: App, patience: float) -> int:
    """Print a new ID."""
    document = await patiently(app, app.client.create, patience)
    app.screen.line(document.disco_id)
    return DONE


async def register(
    app: App, discovery_id: str, addr: str, raft_addr: str | None, node_id: str | None, patience: float
) -> int:
    """Register a node and print the list that it is answered."""
    document = await patiently(app, lambda: app.client.register(discovery_id, addr, raft_addr, node_id), patience)
    app.screen.lines(document.nodes)
    return DONE


async def nodes(
    app: App, discovery_id: str, form: Form, own: str | None, *, raft: bool, non_voters: tuple[str, ...]
) -> int:
    """Print the addresses of an ID's nodes."""
    found = others((await app.client.get(discovery_id)).registrations, own)
    try:
        lines = formatted(found, form, raft=raft, non_voters=non_voters)
    except Incomplete as error:
        raise Failed(str(error)) from None
    if form == "peers.json" and not non_voters:
        app.screen.say(
            "all nodes are voters here, as the service does not know: name each read replica with --non-voter"
        )
    if raft and form != "peers.json":
        for node in found:
            if node.raft_addr is None:
                app.screen.say(f"left out: {node.addr} has no Raft address")
    for node in found:
        if node.up is False or node.unresolved:
            app.screen.say(f"{node.addr} is {state(node)}")
    app.screen.lines(lines)
    return DONE


async def show(app: App, discovery_id: str) -> int:
    """Print all that is known of an ID's nodes."""
    document = await app.client.get(discovery_id)
    columns: tuple[str, ...] = ("ADDRESS", "RAFT ADDRESS", "NODE ID", "LEADER")
    rows = [_row(node, document) for node in document.registrations]
    states = [state(node) for node in document.registrations]
    if any(states):
        columns = (*columns, "STATE")
        rows = [(*row, seen or "-") for row, seen in zip(rows, states, strict=True)]
    title = f"{document.disco_id}, created at {document.created_at} UTC"
    app.screen.table(title, columns, rows)
    if not document.nodes:
        app.screen.say(f"no nodes are registered, {what_comes_next(document)}")
    return DONE


async def remove(app: App, discovery_id: str, addr: str, *, sure: bool) -> int:
    """Remove a node and print who is left; that the list gets empty is asked about first, or
    said.
    """
    before = await app.client.get(discovery_id)
    is_listed = not {addr, addr.removeprefix("http://")}.isdisjoint(before.nodes)
    if is_listed and len(before.nodes) == 1:
        warning = f"{addr} is the last node of {discovery_id}, {what_comes_next(before)}"
        if not sure and app.screen.ask is not None:
            if not app.screen.ask(f"{warning}. Remove it?"):
                raise Failed("not removed")
        else:
            app.screen.say(warning)
    document = await app.client.remove(discovery_id, addr)
    if not is_listed:
        ended = "" if before.claim is None else "; a claim of that node, if there was one, has ended"
        app.screen.say(f"{addr} was not listed{ended}")
    app.screen.lines(document.nodes)
    return DONE


async def reset(app: App, discovery_id: str, *, sure: bool) -> int:
    """Take an ID back to where it was minted, and print which nodes were removed."""
    if not sure:
        raise Misused(f"{RESET_MEANS.format(id=discovery_id)}; say --yes if you did")
    document = await app.client.get(discovery_id)
    if document.orphaned:
        raise Failed(f"{discovery_id} lost its home and seeds no cluster any more: mint a new ID, or use another key")
    app.screen.say(RESET_MEANS.format(id=discovery_id))
    # The nodes go last: as long as one is listed nobody is told to bootstrap.
    await app.client.clear_leader(discovery_id)
    if document.claim is not None:
        app.screen.say(f"{discovery_id}: the claim that waited has ended")
    left = document
    for addr in document.nodes:
        left = await app.client.remove(discovery_id, addr)
        app.screen.line(addr)
    if left.nodes:
        app.screen.say(f"registered meanwhile, so not all nodes were stopped: {', '.join(left.nodes)}")
        return REFUSED
    return DONE


def state(node: NodeRegistration) -> str | None:
    """Whether a node is up, and for how long, as the daemon has seen it; None where it has seen
    nothing.
    """
    if node.unresolved:
        return f"unresolved{_since(node)}"
    if node.up is None:
        return None
    if not node.up:
        return f"down{_since(node)}"
    return f"up{_since(node)}" + ("" if node.ready is not False else ", not ready")


def _since(node: NodeRegistration) -> str:
    why = "" if node.why is None else f" ({node.why})"
    return ("" if node.since is None else f" for {format_duration(node.since)}") + why


def _row(node: NodeRegistration, document: Document) -> tuple[str, ...]:
    leader = "-"
    if node.leader:
        leader = "leader" if document.leader is None or document.leader.reported else "claimed"
    return node.addr, node.raft_addr or "-", node.node_id or "-", leader
