"""The documents that the service answers with. Unknown members, which a newer service may add, are
ignored.
"""

from __future__ import annotations

import msgspec


class ServiceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The service itself."""

    # Always "rqdisco".
    name: str
    # The release of the daemon.
    version: str
    # Seconds since the daemon started.
    uptime: float
    # How many IDs the daemon stores. A service with tokens reports it to holders of a token only.
    ids: int | None = None


class NodeRegistration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One registered node.

    The members from `up` on are the results of the queried daemon's own health checks, if it probes
    nodes; None is unknown.
    """

    # The HTTP address.
    addr: str
    # The Raft address, None if the node did not send it.
    raft_addr: str | None = None
    # The node ID, None if the node did not send it.
    node_id: str | None = None
    # Whether the leader key names this node.
    leader: bool = False
    # Whether the daemon's probes find the node up; None if that is unknown.
    up: bool | None = None
    # Whether the host name has no addresses at the daemon, so that the node may be up or down.
    unresolved: bool = False
    # Whether rqlited itself reports that it is ready.
    ready: bool | None = None
    # For how many seconds the node has been up, down or unresolved.
    since: float | None = None
    # How many seconds ago the node was last probed.
    checked: float | None = None
    # Why the node is down.
    why: str | None = None


class LeaderInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The leader key of an ID."""

    # The Raft address.
    addr: str
    # The modify index, which `cas` is compared with.
    index: int
    # False while a node has claimed to lead but not reported that it does.
    reported: bool
    # The node ID.
    id: str | None = None
    # The HTTP address, after http:// or https://.
    api_addr: str | None = None


class ClaimInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A claim to lead whose node is hidden until it reports that it leads."""

    # The time of the first claim in UTC, as in 2026-11-23T01:12:57Z.
    since: str
    # How often the claim was granted.
    answered: int


class ClusterHealth(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's verdict on the cluster under an ID."""

    # forming, healthy, degraded, no quorum, waiting, two leaders, ownerless or unknown; a newer
    # service may add others.
    verdict: str
    # Why, in words with numbers.
    reason: str
    # A command or a check for an operator.
    next_step: str


class AddressProblem(msgspec.Struct, frozen=True, kw_only=True):
    """A registered address that will not work."""

    # The address as it is registered.
    addr: str
    # The problem, in words.
    problem: str
    # The way to solve it.
    fix: str


class Document(msgspec.Struct, frozen=True, kw_only=True, rename={"ownerless": "orphaned"}):
    """A discovery ID and its nodes.

    In response to a registration `nodes` is what the node acts on: a list of only itself tells it
    to bootstrap. `registrations` and the members after it come with a lookup only.
    """

    # When the ID was created, in UTC, as in "2017-02-20 01:25:45.589277".
    created_at: str
    # The ID.
    disco_id: str
    # The nodes' HTTP addresses in the order of their first registration, those known to be down
    # last.
    nodes: tuple[str, ...]
    # All nodes with their details, in the order of `nodes`.
    registrations: tuple[NodeRegistration, ...] = ()
    # None from a service that is too old.
    health: ClusterHealth | None = None
    # Addresses that will not work.
    warnings: tuple[AddressProblem, ...] = ()
    # The leader key, None if there is none.
    leader: LeaderInfo | None = None
    # The claim to lead that has not been reported, None if there is none.
    claim: ClaimInfo | None = None
    # Whether the ID's owner is lost: nodes are still listed, added and removed, but none is ever
    # told to bootstrap.
    ownerless: bool = False
    # The Raft addresses of two leaders that both report: two clusters share this ID.
    two_leaders: tuple[str, ...] = ()


class ClusterSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A discovery ID in a list."""

    # The ID.
    disco_id: str
    # When the ID was created, in UTC, as in "2017-02-20 01:25:45.589277".
    created_at: str
    # Seconds since then, by the daemon's clock.
    age: int
    # The number of registered nodes.
    nodes: int
    # The verdict on its cluster, as in `ClusterHealth`; empty if the daemon is too old to judge.
    health: str = ""
    # The reason of the verdict.
    reason: str = ""
    # The HTTP address of the node that leads, None if no node does.
    leader: str | None = None
    # When it last reported that it leads, in UTC, as in 2026-11-23T01:12:57Z.
    reported: str | None = None


class ClustersDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the list of all IDs, in the order of the IDs."""

    # The IDs of this page; it may have none and still have a next one.
    clusters: tuple[ClusterSummary, ...]
    # The value of `after` for the next page, None at the end.
    next: str | None


class LeaderValue(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The leader key that rqlited 7 and later write."""

    # The Raft address.
    addr: str
    # The node ID.
    id: str | None = None
    # The HTTP address, after http:// or https://.
    api_addr: str | None = None


class LeaderRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A leader key in the key-value store."""

    # The value that the leader put.
    value: LeaderValue
    # The modify index, which `cas` is compared with.
    index: int


class ExportedNode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One registered node of an exported record."""

    # The HTTP address.
    addr: str
    # The Raft address, None if the node did not send it.
    raft_addr: str | None = None
    # The node ID, None if the node did not send it.
    node_id: str | None = None


class ExportedLeader(msgspec.Struct, frozen=True, kw_only=True):
    """The leader key of an exported record."""

    # The JSON text that was put.
    value: str
    # Consul's flags, a number that is stored with the value.
    flags: int = 0
    # The listed address of the leader's node, None for the node that `value` names.
    addr: str | None = None
    # As in `LeaderInfo`.
    reported: bool = True
    # How often the claim was granted; 0 if the claim is not hidden.
    claims: int = 0
    # When it was first granted, in milliseconds since 1970; 0 if unknown.
    claimed_since: int = 0


class ExportedGrant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The last time that a node of an exported record was told to bootstrap."""

    # The HTTP address of the node.
    addr: str
    # The IP address of the client that was told.
    host: str | None = None


class ExportedDecisions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The decisions under an exported ID, so that another daemon decides alike."""

    # The last time that a node was told to bootstrap, None if none was.
    grant: ExportedGrant | None = None
    # Whether the list was empty again after it had nodes.
    emptied: bool = False
    # Whether a leader has reported itself since the list was last empty.
    confirmed: bool = False
    # Whether a node was to be told to bootstrap, and was not reached.
    attempted: bool = False
    # As in `Document`.
    ownerless: bool = False


class ExportedRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"owner": "home"}):
    """Everything that an export contains of one discovery ID."""

    # The ID.
    id: str
    # Microseconds since 1970.
    created_at: int
    # The incarnation that owns the ID, None for that of the importing daemon.
    owner: str | None = None
    # The nodes in the order of their first registration.
    nodes: tuple[ExportedNode, ...] = ()
    # The leader key, None if there is none.
    leader: ExportedLeader | None = None
    # The IP address of the only host that may register while loopback addresses are listed.
    host: str | None = None
    # None in exports of version 1.
    decisions: ExportedDecisions | None = None


class RefusedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record that was not imported, and why."""

    # The ID.
    id: str
    # Why it was refused.
    why: str


class ImportResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one import: how many records were imported, were present already, and were
    refused.
    """

    # The number of imported records.
    imported: int
    # The number of records that were present already.
    unchanged: int
    # Those that were refused.
    refused: tuple[RefusedRecord, ...] = ()
