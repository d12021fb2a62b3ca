"""What doors make of it: nodes that are down come last, and are never left out of a list that nodes
join by. Pure.
"""

from __future__ import annotations

from typing import Protocol

from msgspec.structs import replace

from rqdisco.core.records import Node
from rqdisco.core.views import View
from rqdisco.probes.probe_state import NodeStatus


class NodeHealth(Protocol):
    """What this daemon has seen of nodes."""

    def seen(self, node: Node) -> NodeStatus | None:
        """What is known of a node; None as long as nothing is, or if it is not to be probed."""

    def heard(self, node: Node) -> None:
        """A node registered here: it is alive, and about to listen; what was held against it is
        forgotten.
        """


def down_last(nodes: tuple[Node, ...], node_health: NodeHealth | None) -> tuple[Node, ...]:
    """The same nodes, those that are down behind the others, else in their order."""
    if node_health is None or len(nodes) < 2:
        return nodes
    down = {node.addr for node in nodes if _is_down(node, node_health)}
    if not down:
        return nodes
    return (*(n for n in nodes if n.addr not in down), *(n for n in nodes if n.addr in down))


def without_down(record: View, node_health: NodeHealth | None) -> View:
    """The record without the nodes that are down, which may be all."""
    if node_health is None:
        return record
    left = tuple(node for node in record.nodes if not _is_down(node, node_health))
    return record if len(left) == len(record.nodes) else replace(record, nodes=left)


def _is_down(node: Node, node_health: NodeHealth) -> bool:
    seen = node_health.seen(node)
    return seen is not None and seen.up is False
