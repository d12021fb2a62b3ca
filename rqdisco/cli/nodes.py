"""Commands on the nodes of an ID: create, register, nodes, show, remove, reset."""

from __future__ import annotations

from functools import partial

import msgspec

from rqdisco.cli.app import DONE, FAILED, App, CommandFailed, UsageError, retry
from rqdisco.cli.diagnosis import describe_empty, may_be_granted
from rqdisco.cli.durations import format_duration
from rqdisco.cli.node_formats import IncompleteNode, NodeFormat, exclude_node, format_nodes
from rqdisco.client import ClientError, Document, NodeRegistration, Refused
from rqdisco.core.plurals import counted

RESET_WARNING = (
    "reset {id} removes its leader key, an unreported claim, and all its nodes: the next node that"
    " registers is told to bootstrap a new cluster. Stop all nodes of the old cluster first, for good, or wipe their"
    " data directories: they would form a second cluster beside the new one"
)


async def create(app: App, patience: float, name: str | None, *, as_json: bool) -> int:
    """Print a new ID, of this name if there is one."""
    try:
        document = await retry(
            app, app.client.create if name is None else partial(app.client.create_named, name), patience
        )
    except Refused as error:
        if name is not None and error.status in (404, 405):
            raise CommandFailed("this service cannot create IDs of a given name: it is too old") from None
        raise
    if as_json:
        _print_list(app, document)
    else:
        app.output.line(document.disco_id)
    return DONE


async def register(
    app: App,
    discovery_id: str,
    addr: str,
    raft_addr: str | None,
    node_id: str | None,
    patience: float,
    *,
    as_json: bool,
) -> int:
    """Register a node and print the list in the response."""
    document = await retry(app, lambda: app.client.register(discovery_id, addr, raft_addr, node_id), patience)
    if as_json:
        _print_list(app, document)
    else:
        app.output.lines(document.nodes)
    await _warn_of_addresses(app, discovery_id, addr, raft_addr)
    return DONE


async def _warn_of_addresses(app: App, discovery_id: str, addr: str, raft_addr: str | None) -> None:
    """Print the service's warnings about the addresses of a node that has registered."""
    try:
        document = await app.client.get(discovery_id)
    except ClientError:
        # The node is registered; a token that may register may not be one that may look up.
        return
    bare = addr.removeprefix("http://")
    for warning in document.warnings:
        if warning.addr in (bare, f"http://{bare}", raft_addr):
            app.output.message(f"{warning.problem}: {warning.fix}")


async def nodes(
    app: App, discovery_id: str, form: NodeFormat, excluded: str | None, *, raft: bool, non_voters: tuple[str, ...]
) -> int:
    """Print the addresses of an ID's nodes, without the node at `excluded`."""
    listed = exclude_node((await app.client.get(discovery_id)).registrations, excluded)
    try:
        lines = format_nodes(listed, form, raft=raft, non_voters=non_voters)
    except IncompleteNode as error:
        raise CommandFailed(str(error)) from None
    if form == "peers.json" and not non_voters:
        app.output.message(
            "all nodes are listed as voters: the service does not store which are read replicas, name them with"
            " --non-voter"
        )
    if raft and form != "peers.json":
        for node in listed:
            if node.raft_addr is None:
                app.output.message(f"omitted {node.addr}: it has no Raft address")
    for node in listed:
        if node.up is False or node.unresolved:
            app.output.message(f"{node.addr} is {describe_health(node)}")
    app.output.lines(lines)
    return DONE


async def show(app: App, discovery_id: str, *, as_json: bool) -> int:
    """Print the details of an ID's nodes."""
    document = await app.client.get(discovery_id)
    if as_json:
        app.output.document(document)
        return DONE
    columns: tuple[str, ...] = ("ADDRESS", "RAFT ADDRESS", "NODE ID", "LEADER")
    rows = [_node_row(node, document) for node in document.registrations]
    states = [describe_health(node) for node in document.registrations]
    if any(states):
        columns = (*columns, "STATE")
        rows = [(*row, state or "-") for row, state in zip(rows, states, strict=True)]
    title = f"{document.disco_id}, created at {document.created_at} UTC"
    app.output.table(title, columns, rows)
    if not document.nodes:
        objections = await app.client.grant_objections() if may_be_granted(document) else ()
        app.output.message(f"no nodes are registered, {describe_empty(document, objections)}")
    return DONE


async def remove(app: App, discovery_id: str, addr: str, *, yes: bool, as_json: bool) -> int:
    """Remove a node and print the remaining nodes; ask before removing the last one."""
    before = await app.client.get(discovery_id)
    is_listed = not {addr, addr.removeprefix("http://")}.isdisjoint(before.nodes)
    is_last = is_listed and len(before.nodes) == 1
    if is_last and not yes and app.output.ask is not None:
        warning = f"{addr} is the last node of {discovery_id}, {describe_empty(before)}"
        if not app.output.ask(f"{warning}. Remove it?"):
            raise CommandFailed("not removed")
    document = await app.client.remove(discovery_id, addr)
    if not is_listed:
        ended = "" if before.claim is None else "; any claim of that node has ended"
        app.output.message(f"{addr} was not listed{ended}")
    elif is_last and not document.nodes:
        app.output.message(f"removed {addr}, the last node of {discovery_id}: {describe_empty(before)}")
    if as_json:
        _print_list(app, document)
    else:
        app.output.lines(document.nodes)
    return DONE


async def reset(app: App, discovery_id: str, *, yes: bool, as_json: bool) -> int:
    """Return an ID to its state after creation, and print the nodes that were removed."""
    if not yes:
        raise UsageError(f"{RESET_WARNING.format(id=discovery_id)}; confirm with --yes")
    document = await app.client.get(discovery_id)
    if document.ownerless:
        raise CommandFailed(
            f"{discovery_id} has no owner and cannot bootstrap a cluster any more: create a new ID, or use another key"
        )
    # Remove the nodes last: while one is listed no node is told to bootstrap.
    await app.client.clear_leader(discovery_id)
    after = document
    for addr in document.nodes:
        after = await app.client.remove(discovery_id, addr)
        if not as_json:
            app.output.line(addr)
    if as_json:
        app.output.document(
            {
                "disco_id": discovery_id,
                "removed": document.nodes,
                "leader_removed": document.leader is not None,
                "claim_ended": document.claim is not None,
                "nodes": after.nodes,
            }
        )
    app.output.message(_reset_summary(document))
    if after.nodes:
        app.output.message(f"not all nodes were stopped, registered meanwhile: {', '.join(after.nodes)}")
        return FAILED
    return DONE


def _reset_summary(before: Document) -> str:
    """Say what was removed, and what happens next."""
    removed = [counted(len(before.nodes), "node")] if before.nodes else []
    if before.leader is not None:
        removed.append("the leader key")
    if before.claim is not None:
        removed.append("the unreported claim")
    if not removed:
        return f"{before.disco_id} has nothing to remove: {describe_empty(before)}"
    fresh = msgspec.structs.replace(before, nodes=(), leader=None, claim=None)
    return f"{before.disco_id}: removed {' and '.join(removed)}; {describe_empty(fresh)}"


def _print_list(app: App, document: Document) -> None:
    """Print the answer of the discovery API, which has less than that of a lookup."""
    app.output.document({"created_at": document.created_at, "disco_id": document.disco_id, "nodes": document.nodes})


def describe_health(node: NodeRegistration) -> str | None:
    """Return whether the daemon's probes find the node up, and for how long; None if it was not
    probed.
    """
    if node.unresolved:
        return f"unresolved{_duration_and_cause(node)}"
    if node.up is None:
        return None
    if not node.up:
        return f"down{_duration_and_cause(node)}"
    return f"up{_duration_and_cause(node)}" + ("" if node.ready is not False else ", not ready")


def _duration_and_cause(node: NodeRegistration) -> str:
    cause = "" if node.why is None else f" ({node.why})"
    return ("" if node.since is None else f" for {format_duration(node.since)}") + cause


def _node_row(node: NodeRegistration, document: Document) -> tuple[str, ...]:
    leader = "-"
    if node.leader:
        leader = "leader" if document.leader is None or document.leader.reported else "claimed"
    return node.addr, node.raft_addr or "-", node.node_id or "-", leader
