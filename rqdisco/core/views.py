"""Views: the part of a record that any API may show.

A record also holds nodes that no other node may join: one whose grant may never have been answered
(rule R6), and one that claimed the leader key and has not reported itself (rule R5c). Every list,
leader key, DNS name, page and event is made from a view, at the owner of an ID and at its peers.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rqdisco.core.addresses import same_node
from rqdisco.core.records import Leader, Node, Record, with_grant_answered, without_node, without_pending_grant


class View(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The public part of a record.

    `granted` is the address of the last bootstrap grant; `confirmed` means that a leader reported
    itself, `ownerless` that no node is granted any more (R7). `unconfirmed` are the addresses among
    `nodes` that this daemon answered on the owner's behalf and the owner does not list yet (R4).
    `claimed` counts the answers to a hidden claim, 0 if there is none; `claimed_since` is the time
    of the first, in milliseconds since 1970. `host` is the only client host that may join the nodes
    (R5d).
    """

    id: str
    owner: str
    version: int
    created_at: int
    nodes: tuple[Node, ...] = ()
    leader: Leader | None = None
    granted: str | None = None
    confirmed: bool = False
    ownerless: bool = False
    unconfirmed: tuple[str, ...] = ()
    claimed: int = 0
    claimed_since: int = 0
    host: str | None = None


def view_of(record: Record, *, is_owner: bool, hinted: Sequence[Node] = ()) -> View:
    """Return the public view of a record, with the nodes `hinted` that this daemon answered on the
    owner's behalf.

    The owner itself leaves out grants that are not answered. One that is still marked as pending
    there is from an earlier start, and counts as answered.
    """
    record = with_grant_answered(record) if is_owner and not record.ownerless else without_pending_grant(record)
    if record.unreported is not None and record.leader is not None:
        record = without_node(record, record.leader.addr)
    nodes, grant, unreported = record.nodes, record.grant, record.unreported
    added = _missing(nodes, hinted) if hinted else []
    return View(
        id=record.id,
        owner=record.owner,
        version=record.version,
        created_at=record.created_at,
        nodes=(*nodes, *added) if added else nodes,
        leader=record.leader,
        granted=None if grant is None else grant.addr,
        confirmed=record.confirmed,
        ownerless=record.ownerless,
        unconfirmed=tuple(node.addr for node in added),
        claimed=0 if unreported is None else unreported.times,
        claimed_since=0 if unreported is None else unreported.since,
        host=record.host,
    )


def _missing(nodes: Sequence[Node], hinted: Sequence[Node]) -> list[Node]:
    """Return the nodes of `hinted` that are not in `nodes`, each once."""
    missing: list[Node] = []
    for node in hinted:
        if not any(same_node(each.addr, node.addr) for each in (*nodes, *missing)):
            missing.append(node)
    return missing
