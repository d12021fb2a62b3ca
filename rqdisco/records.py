"""The record of one discovery ID and its transitions: pure functions, record and request in, new record and answer out.

Who is told that it is alone is decided here and nowhere else. A node is *alone* when its answer lists nobody but
itself, and bootstraps a cluster then; being told so is a *grant*.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec.structs import replace

from rqdisco.address import same_node
from rqdisco.errors import TooManyNodes


class Moment(msgspec.Struct, frozen=True, gc=False):
    """A point of monotonic time: milliseconds of one boot of the machine.

    Moments of different boots cannot be compared; wall clocks may jump and are never asked.
    """

    boot: int
    ms: int


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """What is known of one registered node. All text is the node's own, kept byte-identical."""

    addr: str
    raft_addr: str | None = None
    node_id: str | None = None


class Grant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """The address that was last told it is alone, and when."""

    addr: str
    boot: int
    at: int

    def is_open(self, now: Moment, window_ms: int) -> bool:
        """Whether the answer may still be lost on its way, so that the same address may be told again (rule R5a).

        A grant of an earlier boot of the machine is closed: its age is not known, and a second cluster is worse
        than one that does not form.
        """
        return self.boot == now.boot and 0 <= now.ms - self.at < window_ms


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """All that is known of one discovery ID.

    `home` is the incarnation that minted it and alone changes it, `version` rises with every change, `created_at` is in
    microseconds since 1970 by the wall clock, `nodes` are in
    the order of their first registration. `ever` says that the list was emptied once: the next grant is not the first.
    """

    id: str
    home: str
    version: int
    created_at: int
    nodes: tuple[Node, ...] = ()
    grant: Grant | None = None
    ever: bool = False


class Registration(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The outcome of a registration: the record after it, the nodes to answer with, and what was told.

    `alone` is "granted" where the caller is told that it is alone by a new grant, "again" where it is told so by one
    whose answer may have been lost, None where others are listed.
    """

    record: Record
    listed: tuple[Node, ...]
    alone: Literal["granted", "again"] | None = None


def register(record: Record, node: Node, *, now: Moment, window_ms: int, max_nodes: int) -> Registration:
    """Register `node` and say whom to list (P1, R3, R5).

    An entry of the same address, of the same address with http:// before or taken away, or of the same node ID is
    this node's own: it is replaced in its place, and a grant it holds goes along.

    Raises TooManyNodes.
    """
    own = [entry for entry in record.nodes if _is_own(entry, node)]
    nodes = _with_node(record.nodes, own, node)
    if len(nodes) > max_nodes and len(nodes) > len(record.nodes):
        raise TooManyNodes(record.id)
    grant = _moved(record.grant, own, node.addr)
    changed = record if (nodes, grant) == (record.nodes, record.grant) else replace(record, nodes=nodes, grant=grant)
    if grant is not None and grant.addr == node.addr and grant.is_open(now, window_ms):
        listed = tuple(entry for entry in nodes if entry.addr == node.addr)
        return Registration(record=changed, listed=listed, alone="again")
    if len(nodes) > 1:
        return Registration(record=changed, listed=nodes)
    grant = Grant(addr=node.addr, boot=now.boot, at=now.ms)
    return Registration(record=replace(record, nodes=nodes, grant=grant), listed=nodes, alone="granted")


def remove(record: Record, addr: str) -> Record:
    """Take the registration of `addr` off the list, and with it a grant that it holds (R9).

    `http://X` removes `X` where `http://X` itself is not listed. An address that is not listed changes nothing.
    """
    listed = {entry.addr for entry in record.nodes}
    if addr not in listed:
        addr = addr.removeprefix("http://")
    if addr not in listed:
        return record
    nodes = tuple(entry for entry in record.nodes if entry.addr != addr)
    grant = record.grant if record.grant is None or record.grant.addr != addr else None
    return replace(record, nodes=nodes, grant=grant, ever=record.ever or not nodes)


def is_newer(record: Record, than: Record, addr: str) -> bool:
    """Whether the registration of `addr` in `record` is one that was granted after `than` (R9)."""
    grant = record.grant
    return grant is not None and grant != than.grant and same_node(grant.addr, addr)


def _is_own(entry: Node, node: Node) -> bool:
    return same_node(entry.addr, node.addr) or (node.node_id is not None and entry.node_id == node.node_id)


def _with_node(nodes: tuple[Node, ...], own: list[Node], node: Node) -> tuple[Node, ...]:
    if not own:
        return (*nodes, node)
    first = own[0]
    merged = _merged(own, node)
    return tuple(merged if entry is first else entry for entry in nodes if entry is first or entry not in own)


def _merged(own: list[Node], node: Node) -> Node:
    """`node`, completed by what an entry of the same address knew; what belonged to another address is stale."""
    for entry in own:
        if same_node(entry.addr, node.addr):
            return Node(
                addr=node.addr,
                raft_addr=node.raft_addr if node.raft_addr is not None else entry.raft_addr,
                node_id=node.node_id if node.node_id is not None else entry.node_id,
            )
    return node


def _moved(grant: Grant | None, own: list[Node], addr: str) -> Grant | None:
    if grant is None or grant.addr == addr or all(entry.addr != grant.addr for entry in own):
        return grant
    return replace(grant, addr=addr)
