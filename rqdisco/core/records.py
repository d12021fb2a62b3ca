"""The record of one discovery ID and the structs in it; `transitions` defines how it changes.

A node whose answer lists only itself bootstraps a cluster: such an answer is a *grant*. Winning the
claim to the leader key is a grant, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec.structs import replace

from rqdisco.core.addresses import same_addresses
from rqdisco.core.ids import is_created_id

# No moment of this machine: boots are numbered from 0.
NO_BOOT = -1


class Moment(msgspec.Struct, frozen=True, gc=False):
    """A point of monotonic time: milliseconds of one boot of the machine.

    Moments of different boots cannot be compared. Wall clocks may jump and are never used.
    """

    boot: int
    ms: int


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One registered node. All text is the node's own, stored byte-identical."""

    addr: str
    raft_addr: str | None = None
    node_id: str | None = None


class Grant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The last bootstrap grant: its address, and its moment, `at` milliseconds of `boot`.

    With peers, `pending` marks a grant that is not answered yet: no node may join its node (R6).
    `host` is the client host of the last answer, None if it is not known.
    """

    addr: str
    boot: int
    at: int
    pending: bool = False
    host: str | None = None

    def is_open(self, now: Moment, retry_window_ms: int) -> bool:
        """Report whether the retry window is open: the answer may have been lost, so the grant is
        repeated to the same address (rule R5a).

        A grant of an earlier boot of the machine is closed: its age is not known, and a second
        cluster is worse than none.
        """
        return self.boot == now.boot and 0 <= now.ms - self.at < retry_window_ms


class Leader(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The leader key of consul-kv: its last value, and the address of the node in it.

    `value` is the text as it was sent, `flags` are Consul's and opaque. `created` and `modified`
    are the versions of the record at which the key was created and last put.
    """

    addr: str
    value: str
    created: int
    modified: int
    flags: int = 0


class UnreportedClaim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A claim whose winner has not reported itself as leader; only the winner sees it (rule R5c).

    `times` counts the answers to the winner; `since` is the version at the first of them, in
    milliseconds of the wall clock, for people to read.
    """

    times: int
    since: int


# A leader reports itself some seconds after it won its claim. After this time an operator has to
# act.
LONG_CLAIM_SECONDS = 60.0


# Names of fields on disk and between peers, where they differ.
STORED_NAMES = {
    "owner": "home",
    "was_emptied": "ever",
    "attempted": "tried",
    "previous_owners": "was",
    "ownerless": "lost",
}


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, rename=STORED_NAMES):
    """The state of one discovery ID.

    `owner` is the incarnation that created the ID and alone changes the record. `version` rises
    with every change, `created_at` is in microseconds since 1970 by the wall clock, `nodes` are in
    the order of their first registration. `was_emptied`: the list was emptied once, so the next
    grant is not the first. `confirmed`: a leader has reported itself since the list was last empty,
    so a cluster exists. `attempted`: a grant was revoked before any node was listed, and peers may
    have received the record; of a name with several peers, also: not all of them have confirmed yet
    that it is new.

    `unreported` hides the node in the leader key, which has claimed it and not reported itself yet.
    `host` is the only client host that may register while a loopback address is listed.

    `previous_owners` are in order, the oldest first; `ownerless` means that one of them lost its
    state, so that nothing is granted any more (R7).
    """

    id: str
    owner: str
    version: int
    created_at: int
    nodes: tuple[Node, ...] = ()
    grant: Grant | None = None
    was_emptied: bool = False
    leader: Leader | None = None
    confirmed: bool = False
    attempted: bool = False
    unreported: UnreportedClaim | None = None
    host: str | None = None
    previous_owners: tuple[str, ...] = ()
    ownerless: bool = False


class RegistrationOutcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The outcome of a registration: the record after it, and the nodes to answer with.

    `bootstrap` is "granted" for a new grant, "again" for a repeated one whose answer may have been
    lost, None if other nodes are listed. `on_behalf` marks an answer on the owner's behalf, which
    may be out of date (R4).
    """

    record: Record
    listed: tuple[Node, ...]
    bootstrap: Literal["granted", "again"] | None = None
    on_behalf: bool = False


class ClaimOutcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The outcome of a claim to the leader key: the record after it, and whether it was won, which
    is a grant.

    `again` means that the winner of an unreported claim repeated it and won again (R5c).
    """

    record: Record
    won: bool
    again: bool = False


class Put(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A value for the leader key: the node in it, the text itself and Consul's flags."""

    node: Node
    value: str
    flags: int = 0


def with_grant_answered(record: Record) -> Record:
    """Return the record once its grant, if any, is answered."""
    if record.grant is None or not record.grant.pending:
        return record
    return replace(record, grant=replace(record.grant, pending=False))


def without_pending_grant(record: Record) -> Record:
    """Return the record without a grant that may never have been answered, and its node (R6)."""
    grant = record.grant
    return without_node(record, grant.addr) if grant is not None and grant.pending else record


def without_node(record: Record, addr: str) -> Record:
    """Return the record without any trace of the node at `addr`."""
    return replace(
        record,
        nodes=tuple(node for node in record.nodes if node.addr != addr),
        grant=None if record.grant is not None and record.grant.addr == addr else record.grant,
        leader=None if record.leader is not None and record.leader.addr == addr else record.leader,
    )


def same_grant(one: Grant, other: Grant) -> bool:
    """Report whether both are the same grant, even if one is answered, or has its retry window
    closed by a new owner.
    """
    is_same_boot = one.boot == other.boot or NO_BOOT in (one.boot, other.boot)
    return is_same_boot and (one.addr, one.at) == (other.addr, other.at)


def own_entries(nodes: Iterable[Node], node: Node) -> list[Node]:
    """Return the entries that are `node` itself: the same address, with or without http://, or the
    same node ID.
    """
    addresses, node_id = same_addresses(node.addr), node.node_id
    return [each for each in nodes if each.addr in addresses or (node_id is not None and each.node_id == node_id)]


def is_unused(record: Record) -> bool:
    """Report whether nothing was ever decided under the ID, so that it may expire (P7).

    Every copy, of any version, is then unused and has this owner. An ID with previous owners is
    used: it may have had nodes that only those had stored.
    """
    used = record.nodes or record.grant or record.was_emptied or record.leader or record.confirmed
    return not (used or record.attempted or record.previous_owners or record.ownerless)


def with_grant_revoked(record: Record) -> Record:
    """Return the record from before a grant that was revoked and that peers may have received
    (R6). A name never expires, and stays as confirmed as it was.
    """
    return replace(record, attempted=True) if is_unused(record) and is_created_id(record.id) else record


def with_new_owner(record: Record, owner: str, *, version: int, lost: bool) -> Record:
    """Return the record under a new owner, after the previous one handed it over or was lost
    (R7).
    """
    grant = record.grant
    if grant is not None and not lost:
        # Moments of another machine mean nothing here: close the retry window.
        grant = replace(grant, boot=NO_BOOT)
    # The machine of a lost daemon is gone, so the next client host to register a loopback address
    # takes its place (R5d). A record that was handed over may still grant, so it keeps its host.
    host = None if lost and record.host == f"@{record.owner}" else record.host
    previous_owners, ownerless = (*record.previous_owners, record.owner), record.ownerless or lost
    return replace(
        record,
        owner=owner,
        version=version,
        grant=grant,
        previous_owners=previous_owners,
        ownerless=ownerless,
        host=host,
    )


def precedence(known: Record, received: Record) -> Literal["newer", "older", "same", "clash"]:
    """Compare `received` to `known`, of the same ID. Two records clash if neither owner could have
    made one of the other.
    """
    if known.owner == received.owner:
        if known.version != received.version:
            return "newer" if received.version > known.version else "older"
        return "same" if known == received else "clash"
    if known.owner in received.previous_owners:
        return "newer"
    return "older" if received.owner in known.previous_owners else "clash"
