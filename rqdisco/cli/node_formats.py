"""The output formats of `rqdisco nodes`: lines, join, json, peers.json and flags. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

from rqdisco.core.addresses import same_node

if TYPE_CHECKING:
    from rqdisco.client import NodeRegistration

NodeFormat = Literal["lines", "join", "json", "peers.json", "flags"]
FORMATS: tuple[NodeFormat, ...] = get_args(NodeFormat)
# Those of `rqdisco list`.
ListFormat = Literal["text", "json", "ids"]
LIST_FORMATS: tuple[ListFormat, ...] = get_args(ListFormat)


class IncompleteNode(Exception):
    """A node lacks what the format requires; the text names the first one and what is missing."""


def exclude_node(nodes: Sequence[NodeRegistration], addr: str | None) -> list[NodeRegistration]:
    """Return the nodes without the one at `addr`, its HTTP or Raft address, compared as rqlited
    compares addresses.
    """
    return [
        node
        for node in nodes
        if addr is None or not any(same_node(addr, own) for own in (node.addr, node.raft_addr) if own is not None)
    ]


def format_nodes(
    nodes: Sequence[NodeRegistration], form: NodeFormat, *, raft: bool, non_voters: Sequence[str] = ()
) -> list[str]:
    """Return the lines that list the nodes, by Raft or HTTP addresses; the former omit nodes
    without a Raft address.

    `non_voters` are the node IDs of read replicas, for peers.json. Raises IncompleteNode.
    """
    if form == "peers.json":
        unknown = [node_id for node_id in non_voters if node_id not in {node.node_id for node in nodes}]
        if unknown:
            raise IncompleteNode(f"cannot make peers.json: no node has the node ID {unknown[0]}")
        return json.dumps([_peers_json_entry(node, non_voters) for node in nodes], indent=2).splitlines()
    addrs = [node.raft_addr for node in nodes if node.raft_addr is not None] if raft else [node.addr for node in nodes]
    if form == "json":
        return [json.dumps(addrs)]
    if form == "lines":
        return addrs
    joined = ",".join(sorted(addrs))
    if not joined:
        return []
    return [joined] if form == "join" else [shlex.join(["-join", joined])]


def _peers_json_entry(node: NodeRegistration, non_voters: Sequence[str]) -> dict[str, object]:
    """Return an entry of the file that rqlited recovers a cluster from."""
    if node.raft_addr is None or node.node_id is None:
        missing = " and ".join(
            name for name, value in (("Raft address", node.raft_addr), ("node ID", node.node_id)) if value is None
        )
        raise IncompleteNode(
            f"cannot make peers.json: {node.addr} has no {missing}, register it with --raft-addr and --node-id"
        )
    return {"id": node.node_id, "address": node.raft_addr, "non_voter": node.node_id in non_voters}
