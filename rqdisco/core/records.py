"""The record of one discovery ID: what it holds, and what can be said of it. `transitions` has how
it changes.

A node is *alone* when its answer lists nobody but itself, and bootstraps a cluster then; being told
so is a *grant*. Winning the claim to the leader key is one too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec.structs import replace

from rqdisco.core.addresses import same_addresses

# Boots are numbered from 0.
_NO_BOOT = -1


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

    `pending` says, where there are peers, that its answer has not been sent yet: nobody is sent to
    that node (R6). `host` is the client host that was told last, None where that is not known.
    """

    addr: str
    boot: int
    at: int
    pending: bool = False
    host: str | None = None

    def is_open(self, now: Moment, retry_window_ms: int) -> bool:
        """Whether the answer may still be lost on its way, so that the same address may be told
        again (rule R5a).

        A grant of an earlier boot of the machine is closed: its age is not known, and a second
        cluster is worse than one that does not form.
        """
        return self.boot == now.boot and 0 <= now.ms - self.at < retry_window_ms


class Leader(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The leader key of consul-kv: what was last put there, and which listed node it speaks of.

    `value` is the text as it was sent, `flags` are Consul's, opaque to us. `created` and `modified`
    are the versions of the record at which the key came to be and was last put.
    """

    addr: str
    value: str
    created: int
    modified: int
    flags: int = 0


class UnreportedClaim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A claim that was won and whose leader has not reported itself yet: known to its owner alone
    (rule R5c).

    `times` is how often the owner was told that it won; `since` is the version at the first time,
    in milliseconds of the wall clock, for people to read.
    """

    times: int
    since: int


# Where no answer is lost a leader reports itself some seconds after it won its claim. One that did
# not for so long is told of: an operator has to end it.
LONG_CLAIM_SECONDS = 60.0


# The fields' names on disk and between peers, where they differ.
STORED_NAMES = {
    "owner": "home",
    "was_emptied": "ever",
    "attempted": "tried",
    "previous_owners": "was",
    "ownerless": "lost",
}


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, rename=STORED_NAMES):
    """All that is known of one discovery ID.

    `owner` is the incarnation that minted it and alone changes it, `version` rises with every
    change, `created_at` is in microseconds since 1970 by the wall clock, `nodes` are in the order
    of their first registration. `was_emptied` says that the list was emptied once: the next grant
    is not the first. `confirmed` says that a leader has reported itself since the list was last
    empty, so a cluster exists.

    `attempted` says that something was decided while nobody had registered yet, and taken back:
    others may have heard.

    `unreported` hides the node under the leader key, which claimed it and did not report itself
    yet; `host` is the only client host that may register, as long as a loopback address is listed.

    `previous_owners` are the homes before this one, the oldest first; `lost` says that one of them
    lost its state, so that nobody is told any more that it is alone (R7).
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


class Registration(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The outcome of a registration: the record after it, the nodes to answer with, and what was
    told.

    `bootstrap` is "granted" where the caller is told to bootstrap by a new grant, "again" where it
    is told so by one whose answer may have been lost, None where others are listed. `on_behalf`
    says that the list was answered on the owner's behalf, so that it may be an older one (R4).
    """

    record: Record
    listed: tuple[Node, ...]
    bootstrap: Literal["granted", "again"] | None = None
    on_behalf: bool = False


class Claim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The outcome of a claim to the leader key: the record after it, and whether it was won, which
    is a grant.

    `again` says that the owner of an unreported claim was told once more that it won it (R5c).
    """

    record: Record
    won: bool
    again: bool = False


class Put(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is put under the leader key: the node it speaks of, the text itself and Consul's
    flags.
    """

    node: Node
    value: str
    flags: int = 0


def with_grant_answered(record: Record) -> Record:
    """The record once its grant, if any, is on its way to the node."""
    if record.grant is None or not record.grant.pending:
        return record
    return replace(record, grant=replace(record.grant, pending=False))


def without_pending_grant(record: Record) -> Record:
    """The record without a grant that may never have been answered, and the node that holds it
    (R6).
    """
    grant = record.grant
    return without_node(record, grant.addr) if grant is not None and grant.pending else record


def without_node(record: Record, addr: str) -> Record:
    """The record as those see it who must not know of the node at `addr`."""
    return replace(
        record,
        nodes=tuple(node for node in record.nodes if node.addr != addr),
        grant=None if record.grant is not None and record.grant.addr == addr else record.grant,
        leader=None if record.leader is not None and record.leader.addr == addr else record.leader,
    )


def same_grant(one: Grant, other: Grant) -> bool:
    """Whether both are one grant, though it was answered by now, or a successor closed its
    window.
    """
    is_same_boot = one.boot == other.boot or _NO_BOOT in (one.boot, other.boot)
    return is_same_boot and (one.addr, one.at) == (other.addr, other.at)


def own_entries(nodes: Iterable[Node], node: Node) -> list[Node]:
    """Return the entries that are `node` itself: the same address, with or without http://, or the
    same node ID.
    """
    addresses, node_id = same_addresses(node.addr), node.node_id
    return [each for each in nodes if each.addr in addresses or (node_id is not None and each.node_id == node_id)]


def is_unused(record: Record) -> bool:
    """Whether nothing was ever decided under it: what may be forgotten where somebody switched that
    on (P7).

    So whoever has a copy, of whatever version, has one that is unused, and under this home. What
    had another home may have had nodes that nobody else knew of.
    """
    used = record.nodes or record.grant or record.was_emptied or record.leader or record.confirmed
    return not (used or record.attempted or record.previous_owners or record.ownerless)


def revoked(record: Record) -> Record:
    """The record as it was before a decision that came to nothing, though somebody may have heard
    of that (R6).
    """
    return replace(record, attempted=True) if is_unused(record) else record


def succeed(record: Record, owner: str, *, version: int, lost: bool) -> Record:
    """The record under a new home, after the one before handed it over or was lost (R7)."""
    grant = record.grant
    if grant is not None and not lost:
        # Moments of another machine say nothing here: the window is closed.
        grant = replace(grant, boot=_NO_BOOT)
    # Nobody is on the machine of a daemon that is no more: the next one that registers a loopback
    # address is (R5d). Not where somebody might be told to bootstrap.
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


def precedence(known: Record, told: Record) -> Literal["newer", "older", "same", "clash"]:
    """What `told` is to `known`, of the same ID. Two that neither home could have made of the other
    clash.
    """
    if known.owner == told.owner:
        if known.version != told.version:
            return "newer" if told.version > known.version else "older"
        return "same" if known == told else "clash"
    if known.owner in told.previous_owners:
        return "newer"
    return "older" if told.owner in known.previous_owners else "clash"
