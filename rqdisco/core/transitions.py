"""The transitions of one ID's record: pure functions from a record and a request to a new record
and an answer.

All bootstrap grants are decided here (P1).
"""

from __future__ import annotations

from typing import TypeVar

from msgspec.structs import replace

from rqdisco.core import host_binding
from rqdisco.core.addresses import same_addresses, same_node
from rqdisco.core.errors import TooManyNodes, Undecided
from rqdisco.core.records import (
    ClaimOutcome,
    Grant,
    Leader,
    Moment,
    Node,
    Put,
    Record,
    RegistrationOutcome,
    UnreportedClaim,
    own_entries,
    same_grant,
)

Held = TypeVar("Held", "Grant | None", "Leader | None")
# For so long after the winner of a claim was answered, a claim from another client host loses
# (R5c).
OWNER_RETRY_WINDOW_MS = 30_000


def register(
    record: Record, node: Node, *, host: str | None, now: Moment, retry_window_ms: int, max_nodes: int
) -> RegistrationOutcome:
    """Register `node` for a client at `host`, and decide whom to list (P1, R3, R5).

    Entries of the node itself (`own_entries`) are replaced in their place; a grant or leader key
    that they hold moves to the new address.

    Raises TooManyNodes, LoopbackConflict; Undecided while a claim or another grant is open.
    """
    if record.unreported is not None:
        raise Undecided("a claim awaits its owner's first report")
    host_binding.check_list(record, node, host)
    own, grant = own_entries(record.nodes, node), record.grant
    # A confirmed cluster has its first node, so its grant is never repeated (R5a).
    is_open = grant is not None and not record.confirmed and grant.is_open(now, retry_window_ms)
    if grant is not None and is_open:
        _check_granted(grant, own, node, host)
    changed = host_binding.bind(_with_node(record, node, own, max_nodes), node, node.addr, host)
    nodes, grant = changed.nodes, changed.grant
    if grant is not None and grant.addr == node.addr and is_open:
        listed = tuple(entry for entry in nodes if entry.addr == node.addr)
        return RegistrationOutcome(record=changed, listed=listed, bootstrap="again")
    if len(nodes) > 1:
        return RegistrationOutcome(record=changed, listed=nodes)
    granted = Grant(addr=node.addr, boot=now.boot, at=now.ms, host=host)
    if grant is not None and (granted.boot, granted.at) == (grant.boot, grant.at):
        # A removal must tell two grants of one millisecond apart (R9).
        granted = replace(granted, at=now.ms + 1)
    return RegistrationOutcome(record=replace(changed, grant=granted), listed=nodes, bootstrap="granted")


def add(record: Record, node: Node, *, host: str | None, max_nodes: int) -> Record:
    """List a node that another daemon answered for a client at `host`; nothing is granted (R4).

    Raises TooManyNodes; LoopbackConflict where the list is bound to another machine by now, or a
    loopback address would be listed beside others (R5d).
    """
    host_binding.check_host(record, node, host_binding.by_http, host)
    own = own_entries(record.nodes, node)
    return host_binding.bind(_with_node(record, node, own, max_nodes), node, node.addr, host)


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
) -> ClaimOutcome:
    """Put the leader key if neither a leader nor a node is known; register and grant the claimant
    (P1, R3).

    A hidden claim (`is_hidden`) is shown to its owner alone until a leader reports itself. Only
    such a claim can be won again by its owner, and only with `may_repeat`: no other node was sent
    to the owner, so a second `true` cannot make a second cluster (R5c). Other claims are won once:
    rqlited joins the node under the key, itself included, and never repeats a claim that it won
    (rqlite v7.0 to v10.2.7 cluster/disco/service.go). `began_ms` is when in this boot the daemon
    started.
    """
    if record.unreported is not None:
        if is_hidden and may_repeat:
            return _claim_again(record, record.unreported, put, host, now, began_ms)
        return ClaimOutcome(record=record, won=False)
    if record.leader is not None or record.nodes or not _may_join(record, put, host):
        return ClaimOutcome(record=record, won=False)
    grant = Grant(addr=put.node.addr, boot=now.boot, at=now.ms, host=host)
    unreported = UnreportedClaim(times=1, since=version) if is_hidden else None
    claimed = with_leader(record, put, version, max_nodes)
    claimed = host_binding.bind(claimed, put.node, host_binding.by_raft(put.node), host)
    return ClaimOutcome(record=replace(claimed, grant=grant, unreported=unreported), won=True)


def report(record: Record, put: Put, *, host: str | None, version: int, max_nodes: int) -> Record | None:
    """Put the leader key whatever it held: a leader reports for a cluster that exists.

    Registers the leader's node, and closes the retry window of any grant (R5a). Drops an unreported
    claim of another node, which may never have bootstrapped (R5c). Returns None where a client at
    `host` may not lead (R5d). Raises TooManyNodes.
    """
    if record.unreported is not None and not _owns(record, put):
        record = _without_claim(record)
    if not _may_join(record, put, host):
        return None
    led = with_leader(record, put, version, max_nodes)
    reported = host_binding.bind(led, put.node, host_binding.by_raft(put.node), host)
    return replace(reported, confirmed=True, unreported=None)


def clear_leader(record: Record) -> Record:
    """Remove the leader key.

    The nodes stay listed, so no grant follows from it. An unreported claim is removed with its
    node, which no other node knows (R5c).
    """
    if record.unreported is not None:
        return _without_claim(record)
    return record if record.leader is None else replace(record, leader=None)


def remove(record: Record, addr: str) -> Record:
    """Remove the registration of `addr`, with the grant and the leader key that it holds (R9).

    `http://X` removes `X` where `http://X` itself is not listed; an address that is not listed
    changes nothing. Removing the last node also clears what was known of its cluster.
    """
    listed = {entry.addr for entry in record.nodes}
    if addr not in listed:
        addr = addr.removeprefix("http://")
    if addr not in listed:
        return record
    return _without(record, addr)


def is_newer(record: Record, than: Record, addr: str) -> bool:
    """Report whether `addr` was granted in `record` after `than` (R9)."""
    grant, before = record.grant, than.grant
    if grant is None or not same_node(grant.addr, addr):
        return False
    return before is None or not same_grant(grant, before)


def _check_granted(grant: Grant, own: list[Node], node: Node, host: str | None) -> None:
    """Raise Undecided where the open grant would be repeated to another node (R5a)."""
    if grant.addr in same_addresses(node.addr):
        if grant.host is not None and host is not None and grant.host != host:
            raise Undecided("another machine was told to bootstrap under this address a moment ago")
    elif any(entry.addr == grant.addr for entry in own):
        raise Undecided("a node of this ID was told to bootstrap under another address a moment ago")


def _claim_again(
    record: Record, unreported: UnreportedClaim, put: Put, host: str | None, now: Moment, began_ms: int
) -> ClaimOutcome:
    grant, leader = record.grant, record.leader
    if leader is None or not _owns(record, put) or not _may_join(record, put, host):
        return ClaimOutcome(record=record, won=False)
    is_same_host = grant is not None and host is not None and host == grant.host
    if grant is not None and not is_same_host and not _is_owner_window_over(grant, now, began_ms):
        # Two machines that advertise one name send equal claims.
        return ClaimOutcome(record=record, won=False)
    renewed = Grant(addr=leader.addr, boot=now.boot, at=now.ms, host=host)
    repeated = replace(unreported, times=unreported.times + 1)
    return ClaimOutcome(record=replace(record, grant=renewed, unreported=repeated), won=True, again=True)


def _is_owner_window_over(grant: Grant, now: Moment, began_ms: int) -> bool:
    """Report whether the owner's retry window has passed. For a grant of another boot it begins
    when the daemon started in this one: the state may come from another machine.
    """
    since = grant.at if grant.boot == now.boot else began_ms
    return now.ms - since >= OWNER_RETRY_WINDOW_MS


def may_see_leader(record: Record | None, put: Put) -> bool:
    """Report whether the node of `put` may see the leader key: a hidden claim is shown to its owner
    alone (R5c).
    """
    return record is not None and (record.unreported is None or _owns(record, put))


def _owns(record: Record, put: Put) -> bool:
    """Report whether the node of `put` holds the leader key, by node ID and Raft address."""
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
    return host_binding.unbind(replace(record, nodes=nodes, grant=grant, leader=leader, unreported=unreported))


def with_leader(record: Record, put: Put, version: int, max_nodes: int) -> Record:
    """Return the record with the leader key put and its node listed. Raises TooManyNodes."""
    changed = _with_node(record, put.node, own_entries(record.nodes, put.node), max_nodes)
    created = version if record.leader is None else record.leader.created
    leader = Leader(addr=put.node.addr, value=put.value, flags=put.flags, created=created, modified=version)
    return replace(changed, leader=leader)


def _with_node(record: Record, node: Node, own: list[Node], max_nodes: int) -> Record:
    """Return the record with `node` listed in place of its `own` entries; the same object where
    that changes nothing. Raises TooManyNodes.
    """
    if not own:
        if len(record.nodes) >= max_nodes:
            raise TooManyNodes(record.id)
        return host_binding.unbind(replace(record, nodes=(*record.nodes, node)))
    first, merged = own[0], _merged(own, node)
    nodes = tuple(merged if entry is first else entry for entry in record.nodes if entry is first or entry not in own)
    grant, leader = _moved(record.grant, own, node.addr), _moved(record.leader, own, node.addr)
    if nodes == record.nodes and grant is record.grant and leader is record.leader:
        return record
    return host_binding.unbind(replace(record, nodes=nodes, grant=grant, leader=leader))


def _merged(own: list[Node], node: Node) -> Node:
    """Complete `node` from an entry of the same address. What belonged to another address is
    stale.
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
    """Return a grant or the leader key, moved to `addr` where one of the node's own entries holds
    it.
    """
    if held is None or held.addr == addr or all(entry.addr != held.addr for entry in own):
        return held
    return replace(held, addr=addr)
