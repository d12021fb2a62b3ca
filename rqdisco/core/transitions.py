"""How the record of one ID changes: pure functions, record and request in, new record and answer
out.

Who is told to bootstrap is decided here and nowhere else (P1).
"""

from __future__ import annotations

from typing import TypeVar

from msgspec.structs import replace

from rqdisco.core import host_binding
from rqdisco.core.addresses import same_node
from rqdisco.core.errors import TooManyNodes, Undecided
from rqdisco.core.records import (
    Claim,
    Grant,
    Leader,
    Moment,
    Node,
    Put,
    Record,
    Registration,
    UnreportedClaim,
    is_same_node,
    same_grant,
)

Held = TypeVar("Held", "Grant | None", "Leader | None")
# For as long as this after an owner was told of its claim, another client host is not told of it
# (R5c).
OWNER_RETRY_WINDOW_MS = 30_000


def register(
    record: Record, node: Node, *, host: str | None, now: Moment, retry_window_ms: int, max_nodes: int
) -> Registration:
    """Register `node`, asked for by a client at `host`, and say whom to list (P1, R3, R5).

    An entry of the same address, of the same address with http:// before or taken away, or of the
    same node ID is this node's own: it is replaced in its place, and a grant or the leader key that
    it holds goes along.

    Raises TooManyNodes, WrongHost; Undecided where a claim or a grant has to be settled first.
    """
    if record.unreported is not None:
        raise Undecided("a claim awaits its owner's first report")
    host_binding.check_list(record, node, host)
    grant = record.grant
    if grant is not None and _is_open(record, now, retry_window_ms):
        _check_granted(grant, record, node, host)
    changed = host_binding.bound(_with_node(record, node, max_nodes), node, host_binding.by_http, host)
    nodes, grant = changed.nodes, changed.grant
    if grant is not None and grant.addr == node.addr and _is_open(changed, now, retry_window_ms):
        listed = tuple(entry for entry in nodes if entry.addr == node.addr)
        return Registration(record=changed, listed=listed, bootstrap="again")
    if len(nodes) > 1:
        return Registration(record=changed, listed=nodes)
    granted = Grant(addr=node.addr, boot=now.boot, at=now.ms, host=host)
    if grant is not None and (granted.boot, granted.at) == (grant.boot, grant.at):
        # Of two grants in one millisecond a removal has to know the newer (R9).
        granted = replace(granted, at=now.ms + 1)
    return Registration(record=replace(changed, grant=granted), listed=nodes, bootstrap="granted")


def add(record: Record, node: Node, *, host: str | None, max_nodes: int) -> Record:
    """Put a node on the list that was answered elsewhere, asked for by a client at `host`, and told
    nothing here (R4).

    Raises TooManyNodes; WrongHost where the list has become another machine's meanwhile, or a
    loopback address would come beside others (R5d).
    """
    host_binding.check_host(record, node, host_binding.by_http, host)
    return host_binding.bound(_with_node(record, node, max_nodes), node, host_binding.by_http, host)


def claim(
    record: Record,
    put: Put,
    *,
    host: str | None,
    version: int,
    now: Moment,
    max_nodes: int,
    is_hidden: bool,
    may_repeat: bool = True,
    began_ms: int = 0,
) -> Claim:
    """Put the leader key where neither a leader nor a node is known; the claimant is registered and
    granted (P1, R3).

    With `is_hidden` the claim is known to its owner alone until a leader reports itself, and the
    owner is told again that it won (R5c): nobody else was ever sent to it, so that a second `true`
    cannot make a second cluster. Unless `may_repeat` somebody may have been. `began_ms` is when in
    this boot the daemon began. Without, nothing is told again: rqlited joins whom it finds under
    the key, itself included, and never repeats a claim that it won (rqlite v7.0 to v10.2.7
    cluster/disco/service.go).
    """
    if record.unreported is not None:
        if is_hidden and may_repeat:
            return _claim_again(record, record.unreported, put, host, now, began_ms)
        return Claim(record=record, won=False)
    if record.leader is not None or record.nodes or not _may_join(record, put, host):
        return Claim(record=record, won=False)
    grant = Grant(addr=put.node.addr, boot=now.boot, at=now.ms, host=host)
    unreported = UnreportedClaim(times=1, since=version) if is_hidden else None
    claimed = with_leader(record, put, version, max_nodes)
    claimed = host_binding.bound(claimed, put.node, host_binding.by_raft, host)
    return Claim(record=replace(claimed, grant=grant, unreported=unreported), won=True)


def report(record: Record, put: Put, *, host: str | None, version: int, max_nodes: int) -> Record | None:
    """Put the leader key whatever it held: a leader speaks for a cluster, which therefore exists.

    The leader's node is registered, and no grant of the ID is told again (R5a). A claim by another
    node that was not reported yet is dropped: its owner may never have bootstrapped (R5c). None
    where a client at `host` must not do so (R5d). Raises TooManyNodes.
    """
    if record.unreported is not None and not _owns(record, put):
        record = _without_claim(record)
    if not _may_join(record, put, host):
        return None
    reported = host_binding.bound(with_leader(record, put, version, max_nodes), put.node, host_binding.by_raft, host)
    return replace(reported, confirmed=True, unreported=None)


def clear_leader(record: Record) -> Record:
    """Take the leader key away.

    The nodes stay listed, so nobody is told to bootstrap because of it; but a claim that was not
    reported goes with its node, which nobody else knows of (R5c).
    """
    if record.unreported is not None:
        return _without_claim(record)
    return record if record.leader is None else replace(record, leader=None)


def remove(record: Record, addr: str) -> Record:
    """Take the registration of `addr` off the list, and with it the grant and the leader key that
    it holds (R9).

    `http://X` removes `X` where `http://X` itself is not listed. An address that is not listed
    changes nothing. With the last node all goes that spoke of its cluster.
    """
    listed = {entry.addr for entry in record.nodes}
    if addr not in listed:
        addr = addr.removeprefix("http://")
    if addr not in listed:
        return record
    return _without(record, addr)


def is_newer(record: Record, than: Record, addr: str) -> bool:
    """Whether the registration of `addr` in `record` is one that was granted after `than` (R9)."""
    grant, before = record.grant, than.grant
    if grant is None or not same_node(grant.addr, addr):
        return False
    return before is None or not same_grant(grant, before)


def _is_open(record: Record, now: Moment, retry_window_ms: int) -> bool:
    """Whether the record's grant may be told again: a cluster that was confirmed has had its seed
    (R5a).
    """
    return record.grant is not None and not record.confirmed and record.grant.is_open(now, retry_window_ms)


def _check_granted(grant: Grant, record: Record, node: Node, host: str | None) -> None:
    """Raise Undecided where somebody else than the node that was told it is alone would be told so
    too (R5a).
    """
    if same_node(grant.addr, node.addr):
        if grant.host is not None and host is not None and grant.host != host:
            raise Undecided("another machine was told to bootstrap under this address a moment ago")
    elif any(entry.addr == grant.addr and is_same_node(entry, node) for entry in record.nodes):
        raise Undecided("a node of this ID was told to bootstrap under another address a moment ago")


def _claim_again(
    record: Record, unreported: UnreportedClaim, put: Put, host: str | None, now: Moment, began_ms: int
) -> Claim:
    grant, leader = record.grant, record.leader
    if leader is None or not _owns(record, put) or not _may_join(record, put, host):
        return Claim(record=record, won=False)
    is_same_host = grant is not None and host is not None and host == grant.host
    if grant is not None and not is_same_host and not _is_long_ago(grant, now, began_ms):
        # Two machines that advertise one name claim alike.
        return Claim(record=record, won=False)
    told = Grant(addr=leader.addr, boot=now.boot, at=now.ms, host=host)
    again = replace(unreported, times=unreported.times + 1)
    return Claim(record=replace(record, grant=told, unreported=again), won=True, again=True)


def _is_long_ago(grant: Grant, now: Moment, began_ms: int) -> bool:
    """Whether the owner's window has passed; of a grant of another boot, since the daemon began in
    this one: the state may have come from another machine.
    """
    since = grant.at if grant.boot == now.boot else began_ms
    return now.ms - since >= OWNER_RETRY_WINDOW_MS


def may_see_leader(record: Record | None, put: Put) -> bool:
    """Whether the node of `put` may know what is under the leader key: of a hidden claim its owner
    alone (R5c).
    """
    return record is not None and (record.unreported is None or _owns(record, put))


def _owns(record: Record, put: Put) -> bool:
    """Whether `put` speaks of the node that holds the leader key: by node ID and Raft address."""
    leader = record.leader
    owner = None if leader is None else next((each for each in record.nodes if each.addr == leader.addr), None)
    return owner is not None and _identity(owner) == _identity(put.node)


def _identity(node: Node) -> tuple[str | None, str]:
    return node.node_id, node.raft_addr or node.addr.removeprefix("http://")


def _may_join(record: Record, put: Put, host: str | None) -> bool:
    return host_binding.objection(record, put.node, host_binding.by_raft, host) is None


def _without_claim(record: Record) -> Record:
    return record if record.leader is None else _without(record, record.leader.addr)


def _without(record: Record, addr: str) -> Record:
    nodes = tuple(entry for entry in record.nodes if entry.addr != addr)
    if not nodes:
        return replace(
            record, nodes=(), grant=None, leader=None, was_emptied=True, confirmed=False, unreported=None, host=None
        )
    grant = None if record.grant is not None and record.grant.addr == addr else record.grant
    is_leader = record.leader is not None and record.leader.addr == addr
    leader, unreported = (None, None) if is_leader else (record.leader, record.unreported)
    return host_binding.released(replace(record, nodes=nodes, grant=grant, leader=leader, unreported=unreported))


def with_leader(record: Record, put: Put, version: int, max_nodes: int) -> Record:
    """The record with the leader key put, and its node listed. Raises TooManyNodes."""
    changed = _with_node(record, put.node, max_nodes)
    created = version if record.leader is None else record.leader.created
    leader = Leader(addr=put.node.addr, value=put.value, flags=put.flags, created=created, modified=version)
    return replace(changed, leader=leader)


def _with_node(record: Record, node: Node, max_nodes: int) -> Record:
    """The record with `node` on its list; itself where that changes nothing. Raises
    TooManyNodes.
    """
    own = [entry for entry in record.nodes if is_same_node(entry, node)]
    nodes = _listed_with(record.nodes, own, node)
    if len(nodes) > max_nodes and len(nodes) > len(record.nodes):
        raise TooManyNodes(record.id)
    grant, leader = _moved(record.grant, own, node.addr), _moved(record.leader, own, node.addr)
    if nodes == record.nodes and grant is record.grant and leader is record.leader:
        return record
    return host_binding.released(replace(record, nodes=nodes, grant=grant, leader=leader))


def _listed_with(nodes: tuple[Node, ...], own: list[Node], node: Node) -> tuple[Node, ...]:
    if not own:
        return (*nodes, node)
    first = own[0]
    merged = _merged(own, node)
    return tuple(merged if entry is first else entry for entry in nodes if entry is first or entry not in own)


def _merged(own: list[Node], node: Node) -> Node:
    """`node`, completed by what an entry of the same address knew; what belonged to another address
    is stale.
    """
    for entry in own:
        if same_node(entry.addr, node.addr):
            return Node(
                addr=node.addr,
                raft_addr=node.raft_addr if node.raft_addr is not None else entry.raft_addr,
                node_id=node.node_id if node.node_id is not None else entry.node_id,
            )
    return node


def _moved(held: Held, own: list[Node], addr: str) -> Held:
    """A grant or the leader key, held by `addr` from now on where one of its own entries held
    it.
    """
    if held is None or held.addr == addr or all(entry.addr != held.addr for entry in own):
        return held
    return replace(held, addr=addr)
