"""The forms in which the nodes of an ID are listed. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

from rqdisco.core.addresses import same_node

if TYPE_CHECKING:
    from rqdisco.client import NodeRegistration

Form = Literal["lines", "join", "json", "peers.json", "flags"]
FORMS: tuple[Form, ...] = get_args(Form)


class Incomplete(Exception):
    """A node lacks what the form needs; the text names the first and says what is missing."""


def others(nodes: Sequence[NodeRegistration], own: str | None) -> list[NodeRegistration]:
    """The nodes without the one at `own`, by its HTTP or its Raft address, compared as rqlited does
    it itself.
    """
    return [node for node in nodes if own is None or not any(same_node(own, addr) for addr in _addresses(node))]


def formatted(
    nodes: Sequence[NodeRegistration], form: Form, *, raft: bool, non_voters: Sequence[str] = ()
) -> list[str]:
    """The lines of a form, by Raft or by HTTP addresses; nodes without a Raft address are left out
    of the former.

    `non_voters` are the node IDs of read replicas, for peers.json. Raises Incomplete.
    """
    if form == "peers.json":
        unknown = [node_id for node_id in non_voters if node_id not in {node.node_id for node in nodes}]
        if unknown:
            raise Incomplete(f"no peers.json: no node has the node ID {unknown[0]}")
        return json.dumps([_peer(node, non_voters) for node in nodes], indent=2).splitlines()
    chosen = [node.raft_addr for node in nodes if node.raft_addr is not None] if raft else [node.addr for node in nodes]
    if form == "json":
        return [json.dumps(chosen)]
    if form == "lines":
        return chosen
    joined = ",".join(sorted(chosen))
    if not joined:
        return []
    return [joined] if form == "join" else [shlex.join(["-join", joined])]


def _addresses(node: NodeRegistration) -> list[str]:
    return [node.addr] if node.raft_addr is None else [node.addr, node.raft_addr]


def _peer(node: NodeRegistration, non_voters: Sequence[str]) -> dict[str, object]:
    """An entry of the file from which rqlited recovers a cluster whose nodes all have new
    addresses.
    """
    if node.raft_addr is None or node.node_id is None:
        missing = " and ".join(
            name for name, value in (("Raft address", node.raft_addr), ("node ID", node.node_id)) if value is None
        )
        raise Incomplete(f"no peers.json: {node.addr} has no {missing} (register it with --raft-addr and --node-id)")
    return {"id": node.node_id, "address": node.raft_addr, "non_voter": node.node_id in non_voters}
