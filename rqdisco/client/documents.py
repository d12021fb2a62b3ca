"""What the service answers, as records. Members that a newer service adds are passed over."""

from __future__ import annotations

import msgspec


class ServiceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The service itself: its seconds since start, and how many IDs it holds, which is told to who
    has a token.
    """

    name: str
    version: str
    uptime: float
    ids: int | None = None


class NodeRegistration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One registered node: its HTTP address, Raft address and node ID; `leader` where the leader
    record names it.

    The rest is what the asked daemon itself has seen, if it probes nodes: `up`, for `since`
    seconds, last looked at `checked` seconds ago, `ready` as the node says of itself, and `why` it
    is down. None is what is not known. Of a node that is `unresolved`, since its host name has no
    addresses there, it is not known whether it is up.
    """

    addr: str
    raft_addr: str | None = None
    node_id: str | None = None
    leader: bool = False
    up: bool | None = None
    unresolved: bool = False
    ready: bool | None = None
    since: float | None = None
    checked: float | None = None
    why: str | None = None


class LeaderInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The leader record of an ID: node ID, `http://` and HTTP address, Raft address.

    `index` is what `cas` is compared with. `reported` is False while a node has claimed to become
    the leader and never said that it is.
    """

    addr: str
    index: int
    reported: bool
    id: str | None = None
    api_addr: str | None = None


class ClaimInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A claim to lead whose node is not shown, because it has not reported yet that it leads.

    `since` is the time of the first claim in UTC, as 2026-11-23T01:12:57Z; `answered` is how often
    the node was told that it won.
    """

    since: str
    answered: int


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A discovery ID with its nodes' addresses, in the order of their first registration, those
    known down last.

    The answer to a registration is what the node has to act on: a list of nobody but itself tells
    it to bootstrap. `registrations` and what follows only come with a look-up. An orphaned ID lost
    its home: nodes are listed, added and removed, and none is ever told to bootstrap. `two_leaders`
    are the Raft addresses of two that both report themselves: there are two clusters under this ID.
    """

    created_at: str
    disco_id: str
    nodes: tuple[str, ...]
    registrations: tuple[NodeRegistration, ...] = ()
    leader: LeaderInfo | None = None
    claim: ClaimInfo | None = None
    orphaned: bool = False
    two_leaders: tuple[str, ...] = ()


class LeaderValue(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What rqlited 7 and later keep as the leader: node ID, `http://` and HTTP address, Raft
    address.
    """

    addr: str
    id: str | None = None
    api_addr: str | None = None


class LeaderRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A leader record as the key-value API holds it; `index` is what `cas` is compared with."""

    value: LeaderValue
    index: int


class ExportedNode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One registered node of an exported record."""

    addr: str
    raft_addr: str | None = None
    node_id: str | None = None


class ExportedLeader(msgspec.Struct, frozen=True, kw_only=True):
    """The leader record of an exported record: the JSON text that was put, and its Consul flags.

    `addr` is the listed address of its node, None for the one that the text names; `reported` is as
    in `Leader`. `claims` is how often the node was told that it won its claim, 0 if the claim is
    not hidden.
    """

    value: str
    flags: int = 0
    addr: str | None = None
    reported: bool = True
    claims: int = 0


class ExportedRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"owner": "home"}):
    """All that is moved of a discovery ID.

    `owner` is the incarnation that created it, None for that of the daemon it is imported into;
    `created_at` is in microseconds since 1970. `host` is the address of the only machine that may
    register while loopback addresses are listed.
    """

    id: str
    created_at: int
    owner: str | None = None
    nodes: tuple[ExportedNode, ...] = ()
    leader: ExportedLeader | None = None
    host: str | None = None


class RefusedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record that was not imported, and why."""

    id: str
    why: str


class ImportResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the records of one batch."""

    imported: int
    unchanged: int
    refused: tuple[RefusedRecord, ...] = ()
