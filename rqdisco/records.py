"""The record of one discovery ID and its transitions: pure functions, record and request in, new record and answer out.

Who is told that it is alone is decided here and nowhere else. A node is *alone* when its answer lists nobody but
itself, and bootstraps a cluster then; being told so is a *grant*. Winning the claim to the leader key is one too.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec
from msgspec.structs import replace

from rqdisco.address import same_node
from rqdisco.errors import TooManyNodes

Held = TypeVar("Held", "Grant | None", "Leader | None")


class Moment(msgspec.Struct, frozen=True, gc=False):
    """A point of monotonic time: milliseconds of one boot of the machine.

    Moments of different boots cannot be compared; wall clocks may jump and are never asked.
    """

    boot: int
    ms: int


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What is known of one registered node. All text is the node's own, kept byte-identical."""

    addr: str
    raft_addr: str | None = None
    node_id: str | None = None


class Grant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The address that was last told it is alone, and when.

    `pending` says, where there are peers, that its answer has not been sent yet: nobody is sent to that node (R6).
    """

    addr: str
    boot: int
    at: int
    pending: bool = False

    def is_open(self, now: Moment, window_ms: int) -> bool:
        """Whether the answer may still be lost on its way, so that the same address may be told again (rule R5a).

        A grant of an earlier boot of the machine is closed: its age is not known, and a second cluster is worse
        than one that does not form.
        """
        return self.boot == now.boot and 0 <= now.ms - self.at < window_ms


class Leader(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The leader key of consul-kv: what was last put there, and which listed node it speaks of.

    `value` is the text as it was sent, `flags` are Consul's, opaque to us. `created` and `modified` are the versions of
    the record at which the key came to be and was last put.
    """

    addr: str
    value: str
    created: int
    modified: int
    flags: int = 0


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """All that is known of one discovery ID.

    `home` is the incarnation that minted it and alone changes it, `version` rises with every change, `created_at` is in
    microseconds since 1970 by the wall clock, `nodes` are in the order of their first registration. `ever` says that
    the list was emptied once: the next grant is not the first. `confirmed` says that a leader has reported itself since
    the list was last empty, so a cluster exists.

    `tried` says that something was decided while nobody had registered yet, and taken back: others may have heard.

    `was` are the homes before this one, the oldest first; `lost` says that one of them lost its state, so that nobody
    is told any more that it is alone (R7).
    """

    id: str
    home: str
    version: int
    created_at: int
    nodes: tuple[Node, ...] = ()
    grant: Grant | None = None
    ever: bool = False
    leader: Leader | None = None
    confirmed: bool = False
    tried: bool = False
    was: tuple[str, ...] = ()
    lost: bool = False


class Registration(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The outcome of a registration: the record after it, the nodes to answer with, and what was told.

    `alone` is "granted" where the caller is told that it is alone by a new grant, "again" where it is told so by one
    whose answer may have been lost, None where others are listed. `in_stead` says that the ID's home did not answer, so
    that the list may be an older one (R4).
    """

    record: Record
    listed: tuple[Node, ...]
    alone: Literal["granted", "again"] | None = None
    in_stead: bool = False


class Claim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The outcome of a claim to the leader key: the record after it, and whether it was won, which is a grant."""

    record: Record
    won: bool


class Put(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is put under the leader key: the node it speaks of, the text itself and Consul's flags."""

    node: Node
    value: str
    flags: int = 0


def register(record: Record, node: Node, *, now: Moment, window_ms: int, max_nodes: int) -> Registration:
    """Register `node` and say whom to list (P1, R3, R5).

    An entry of the same address, of the same address with http:// before or taken away, or of the same node ID is
    this node's own: it is replaced in its place, and a grant or the leader key that it holds goes along.

    Raises TooManyNodes.
    """
    changed = _with_node(record, node, max_nodes)
    nodes, grant = changed.nodes, changed.grant
    if grant is not None and grant.addr == node.addr and _is_open(changed, now, window_ms):
        listed = tuple(entry for entry in nodes if entry.addr == node.addr)
        return Registration(record=changed, listed=listed, alone="again")
    if len(nodes) > 1:
        return Registration(record=changed, listed=nodes)
    granted = Grant(addr=node.addr, boot=now.boot, at=now.ms)
    if granted == grant:
        # Of two grants in one millisecond a removal has to know the newer (R9).
        granted = replace(granted, at=now.ms + 1)
    return Registration(record=replace(changed, grant=granted), listed=nodes, alone="granted")


def add(record: Record, node: Node, *, max_nodes: int) -> Record:
    """Put a node on the list that was answered elsewhere, and told nothing here (R4). Raises TooManyNodes."""
    return _with_node(record, node, max_nodes)


def said(record: Record) -> Record:
    """The record once its grant, if any, is on its way to the node."""
    if record.grant is None or not record.grant.pending:
        return record
    return replace(record, grant=replace(record.grant, pending=False))


def heard(record: Record) -> tuple[Node, ...]:
    """The nodes that others may be sent to: all but one whose grant may never have been sent (R6)."""
    grant = record.grant
    if grant is None or not grant.pending:
        return record.nodes
    return tuple(node for node in record.nodes if node.addr != grant.addr)


def is_unused(record: Record) -> bool:
    """Whether nothing was ever decided under it: what may be forgotten where somebody switched that on (P7).

    So whoever has a copy, of whatever version, has one that is unused, and under this home. What had another home may
    have had nodes that nobody else knew of.
    """
    used = record.nodes or record.grant or record.ever or record.leader or record.confirmed
    return not (used or record.tried or record.was or record.lost)


def taken_back(record: Record) -> Record:
    """The record as it was before a decision that came to nothing, though somebody may have heard of that (R6)."""
    return replace(record, tried=True) if is_unused(record) else record


def succeed(record: Record, home: str, *, version: int, lost: bool) -> Record:
    """The record under a new home, after the one before handed it over or was lost (R7)."""
    return replace(record, home=home, version=version, was=(*record.was, record.home), lost=record.lost or lost)


def precedence(known: Record, told: Record) -> Literal["newer", "older", "same", "clash"]:
    """What `told` is to `known`, of the same ID. Two that neither home could have made of the other clash."""
    if known.home == told.home:
        if known.version != told.version:
            return "newer" if told.version > known.version else "older"
        return "same" if known == told else "clash"
    if known.home in told.was:
        return "newer"
    return "older" if told.home in known.was else "clash"


def claim(record: Record, put: Put, *, version: int, now: Moment, max_nodes: int) -> Claim:
    """Put the leader key where neither a leader nor a node is known; the claimant is registered and granted (P1, R3).

    Nothing is told again: rqlited joins whom it finds under the key, itself included, and never repeats a claim that
    it won (rqlite cluster/disco/service.go).
    """
    if record.leader is not None or record.nodes:
        return Claim(record=record, won=False)
    grant = Grant(addr=put.node.addr, boot=now.boot, at=now.ms)
    claimed = replace(_with_leader(record, put, version, max_nodes), grant=grant)
    return Claim(record=claimed, won=True)


def report(record: Record, put: Put, *, version: int, max_nodes: int) -> Record:
    """Put the leader key whatever it held: a leader speaks for a cluster, which therefore exists.

    The leader's node is registered, and no grant of the ID is told again (R5a). Raises TooManyNodes.
    """
    return replace(_with_leader(record, put, version, max_nodes), confirmed=True)


def clear_leader(record: Record) -> Record:
    """Take the leader key away. The nodes stay listed, so nobody is told that it is alone because of it."""
    return record if record.leader is None else replace(record, leader=None)


def remove(record: Record, addr: str) -> Record:
    """Take the registration of `addr` off the list, and with it the grant and the leader key that it holds (R9).

    `http://X` removes `X` where `http://X` itself is not listed. An address that is not listed changes nothing. With
    the last node all goes that spoke of its cluster.
    """
    listed = {entry.addr for entry in record.nodes}
    if addr not in listed:
        addr = addr.removeprefix("http://")
    if addr not in listed:
        return record
    nodes = tuple(entry for entry in record.nodes if entry.addr != addr)
    if not nodes:
        return replace(record, nodes=(), grant=None, leader=None, ever=True, confirmed=False)
    grant = None if record.grant is not None and record.grant.addr == addr else record.grant
    leader = None if record.leader is not None and record.leader.addr == addr else record.leader
    return replace(record, nodes=nodes, grant=grant, leader=leader)


def is_newer(record: Record, than: Record, addr: str) -> bool:
    """Whether the registration of `addr` in `record` is one that was granted after `than` (R9)."""
    # That it is said by now, or must be taken for said, makes no other grant of it.
    grant = said(record).grant
    return grant is not None and grant != said(than).grant and same_node(grant.addr, addr)


def _is_open(record: Record, now: Moment, window_ms: int) -> bool:
    """Whether the record's grant may be told again: a cluster that was confirmed has had its seed (R5a)."""
    return record.grant is not None and not record.confirmed and record.grant.is_open(now, window_ms)


def _with_leader(record: Record, put: Put, version: int, max_nodes: int) -> Record:
    changed = _with_node(record, put.node, max_nodes)
    created = version if record.leader is None else record.leader.created
    leader = Leader(addr=put.node.addr, value=put.value, flags=put.flags, created=created, modified=version)
    return replace(changed, leader=leader)


def _with_node(record: Record, node: Node, max_nodes: int) -> Record:
    """The record with `node` on its list; itself where that changes nothing. Raises TooManyNodes."""
    own = [entry for entry in record.nodes if _is_own(entry, node)]
    nodes = _listed_with(record.nodes, own, node)
    if len(nodes) > max_nodes and len(nodes) > len(record.nodes):
        raise TooManyNodes(record.id)
    grant, leader = _moved(record.grant, own, node.addr), _moved(record.leader, own, node.addr)
    if nodes == record.nodes and grant is record.grant and leader is record.leader:
        return record
    return replace(record, nodes=nodes, grant=grant, leader=leader)


def _is_own(entry: Node, node: Node) -> bool:
    return same_node(entry.addr, node.addr) or (node.node_id is not None and entry.node_id == node.node_id)


def _listed_with(nodes: tuple[Node, ...], own: list[Node], node: Node) -> tuple[Node, ...]:
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


def _moved(held: Held, own: list[Node], addr: str) -> Held:
    """A grant or the leader key, held by `addr` from now on where one of its own entries held it."""
    if held is None or held.addr == addr or all(entry.addr != held.addr for entry in own):
        return held
    return replace(held, addr=addr)
