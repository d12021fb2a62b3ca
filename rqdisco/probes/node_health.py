"""The use of node health in answers: nodes that are down are listed last, and are never removed
from a list that nodes join by. Pure.
"""

from __future__ import annotations

from typing import Protocol

from msgspec.structs import replace

from rqdisco.core.records import Node
from rqdisco.core.views import View
from rqdisco.probes.probe_state import NodeStatus


class NodeHealth(Protocol):
    """The results of this daemon's health checks."""

    def status(self, node: Node) -> NodeStatus | None:
        """Return the status of a node, None if it is unknown or the node is not probed."""

    def on_registration(self, node: Node) -> None:
        """Discard the failures of a node that has just registered: it runs, and is about to
        listen.
        """


def down_last(nodes: tuple[Node, ...], node_health: NodeHealth | None) -> tuple[Node, ...]:
    """Return the nodes with those that are down at the end, otherwise in the same order."""
    if node_health is None or len(nodes) < 2:
        return nodes
    down = {node.addr for node in nodes if _is_down(node, node_health)}
    if not down:
        return nodes
    return (*(n for n in nodes if n.addr not in down), *(n for n in nodes if n.addr in down))


def without_down(record: View, node_health: NodeHealth | None) -> View:
    """Return the record without the nodes that are down, possibly without any nodes."""
    if node_health is None:
        return record
    left = tuple(node for node in record.nodes if not _is_down(node, node_health))
    return record if len(left) == len(record.nodes) else replace(record, nodes=left)


def _is_down(node: Node, node_health: NodeHealth) -> bool:
    status = node_health.status(node)
    return status is not None and status.up is False
