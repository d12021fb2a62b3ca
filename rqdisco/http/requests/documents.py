"""JSON documents: a record as old rqlite reads it, in full, or as watchers receive it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from rqdisco.core.address_warnings import AddressWarning, address_warnings
from rqdisco.core.leaders import Leaders
from rqdisco.core.records import Leader, Node, Record
from rqdisco.core.verdicts import Health, Verdict, utc
from rqdisco.core.views import View
from rqdisco.probes.probe_state import NodeStatus

_encode = msgspec.json.Encoder().encode
# Without a time zone, so that none is formatted.
_EPOCH = datetime.fromtimestamp(0, UTC).replace(tzinfo=None)

LegacyTime = Annotated[str, Meta(description="UTC, in the format of the original service.")]


class LegacyDocument(msgspec.Struct):
    """A record as rqlite 3.12-6.10 read it: the nodes, in the order of their registration."""

    created_at: LegacyTime
    disco_id: str
    nodes: list[str]


class RegisteredNode(msgspec.Struct, omit_defaults=True):
    """A node; from `up` to `why` what probes found, with durations in seconds."""

    addr: str
    raft_addr: str | None = None
    node_id: str | None = None
    leader: bool = False
    up: bool | None = None
    unresolved: Annotated[
        bool, Meta(description="Its host name does not resolve here, so it is not known whether it is up.")
    ] = False
    ready: Annotated[bool | None, Meta(description="What the node itself reports.")] = None
    since: Annotated[float | None, Meta(description="Seconds since it became up, down or unresolved.")] = None
    checked: Annotated[float | None, Meta(description="Seconds since it was last probed.")] = None
    why: Annotated[str | None, Meta(description="The outcome of the last probe of a node that is down.")] = None
    unconfirmed: Annotated[
        bool,
        Meta(description="This daemon registered it on the owner's behalf, and the owner has not confirmed it yet."),
    ] = False
    alone: Annotated[bool, Meta(description="Only in events: it was the last to be told to bootstrap.")] = False
    heard: Annotated[str | None, Meta(description="Only in events: when it was first answered, in UTC.")] = None


class LeaderDocument(msgspec.Struct, kw_only=True):
    """The leader, as it described itself in the leader key; `reported` is false while it has only
    claimed to lead.
    """

    id: str | UnsetType = UNSET
    api_addr: str | UnsetType = UNSET
    addr: str
    index: int
    reported: bool


class ClaimDocument(msgspec.Struct):
    """A claim whose leader has not reported itself, and is hidden until then: when it was first
    won, in UTC, and how often that was answered.
    """

    since: str
    answered: int


class HealthDocument(msgspec.Struct):
    """The verdict on the cluster, from what this daemon knows."""

    verdict: Health
    reason: Annotated[str, Meta(description="Why, in words with numbers.")]
    next_step: Annotated[str, Meta(description="A command or a check for an operator.")]


class _Standing(msgspec.Struct):
    """The last members of a full document, most of which few records have."""

    leader: LeaderDocument | UnsetType = UNSET
    orphaned: bool | UnsetType = UNSET
    claim: ClaimDocument | UnsetType = UNSET
    two_leaders: Leaders | UnsetType = UNSET


class FullDocument(LegacyDocument):
    """A record with everything known of its nodes, and its leader."""

    registrations: list[RegisteredNode]
    health: HealthDocument
    warnings: Annotated[list[AddressWarning], Meta(description="Addresses that will not work, each with the fix.")]
    leader: LeaderDocument | UnsetType = UNSET
    orphaned: Annotated[
        bool | UnsetType, Meta(description="The ID is ownerless: no node is told to bootstrap under it.")
    ] = UNSET
    claim: ClaimDocument | UnsetType = UNSET
    two_leaders: Annotated[
        Leaders | UnsetType,
        Meta(description="The Raft addresses of two leaders that both report themselves: there are two clusters."),
    ] = UNSET


class ServiceDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `GET /`: seconds since the daemon's start, its number of IDs, and after how
    many days an ID without a node is deleted.
    """

    name: str = "rqdisco"
    version: str
    uptime: int = 0
    ids: int | UnsetType = UNSET
    unused_days: float | UnsetType = UNSET


def not_seen(_: Node) -> None:
    """The status of any node where there are no probes."""


def encode_document(record: Record | View, listed: tuple[Node, ...]) -> bytes:
    """Encode the answer that rqlite 3.12-6.10 read, with `listed` as its nodes."""
    return _begin(record, [_encode(node.addr) for node in listed]) + b"}"


def encode_assessment(record: View, verdict: Verdict) -> bytes:
    """Encode the members "health" and "warnings" of the full document."""
    warnings = b", ".join(map(encode_object, address_warnings(record)))
    return b'"health": %b, "warnings": [%b]' % (encode_object(_health(verdict)), warnings)


def encode_full_document(
    record: View,
    assessment: bytes,
    *,
    orphaned: bool,
    seen: Callable[[Node], NodeStatus | None] = not_seen,
    two_leaders: Leaders | None = None,
) -> bytes:
    """Encode the legacy document with all nodes under "registrations", the encoded `assessment`, and
    the leader under "leader".

    `orphaned` marks an ownerless ID, which seeds no cluster. `seen` returns what probes found,
    `two_leaders` are two leaders that both report themselves.
    """
    addresses = [_encode(node.addr) for node in record.nodes]
    if seen is not_seen and record.leader is None and not record.unconfirmed:
        registrations = [
            b'{"addr": %b}' % addr if node.raft_addr is None and node.node_id is None else encode_object(node)
            for node, addr in zip(record.nodes, addresses, strict=True)
        ]
    else:
        registrations = [encode_object(each) for each in _registrations(record, seen)]
    document = b'%b, "registrations": [%b], %b' % (_begin(record, addresses), b", ".join(registrations), assessment)
    if not (record.leader or orphaned or record.claimed or two_leaders):
        return document + b"}"
    return document + b", " + encode_object(_standing(record, orphaned, two_leaders))[1:]


def encode_watched(
    record: View,
    verdict: Verdict,
    *,
    orphaned: bool,
    heard: Mapping[str, int],
    seen: Callable[[Node], NodeStatus | None] = not_seen,
    two_leaders: Leaders | None = None,
) -> bytes:
    """Encode the full document in one line for watchers, with "alone" at the node that was last
    told to bootstrap, and "heard" where it is known when an address was first answered, in
    microseconds since 1970. The ages of probes are left out, or each event would differ from the
    last.
    """
    document = _full_document(record, verdict, orphaned, seen, two_leaders)
    for node in document.registrations:
        node.since = node.checked = None
        node.alone = record.granted == node.addr
        if (at := heard.get(node.addr)) is not None:
            node.heard = utc_second(at)
    return _encode(document)


def _begin(record: Record | View, addresses: list[bytes]) -> bytes:
    """Return a document from its beginning to the encoded addresses. The ID has no character that
    JSON escapes.
    """
    head = f'{{"created_at": "{legacy_time(record.created_at)}", "disco_id": "{record.id}", "nodes": ['
    return b"%b%b]" % (head.encode(), b", ".join(addresses))


def _full_document(
    record: View,
    verdict: Verdict,
    orphaned: bool,
    seen: Callable[[Node], NodeStatus | None],
    two_leaders: Leaders | None,
) -> FullDocument:
    standing = _standing(record, orphaned, two_leaders)
    return FullDocument(
        legacy_time(record.created_at),
        record.id,
        [node.addr for node in record.nodes],
        _registrations(record, seen),
        _health(verdict),
        address_warnings(record),
        standing.leader,
        standing.orphaned,
        standing.claim,
        standing.two_leaders,
    )


def _health(verdict: Verdict) -> HealthDocument:
    return HealthDocument(verdict.health, verdict.reason, verdict.next_step)


def _standing(record: View, orphaned: bool, two_leaders: Leaders | None) -> _Standing:
    return _Standing(
        UNSET if record.leader is None else _leader(record.leader, record.confirmed),
        orphaned or UNSET,
        ClaimDocument(utc(record.claimed_since), record.claimed) if record.claimed else UNSET,
        two_leaders or UNSET,
    )


def _registrations(record: View, seen: Callable[[Node], NodeStatus | None]) -> list[RegisteredNode]:
    leader = None if record.leader is None else record.leader.addr
    registrations = [_registered(node, seen(node), leads=node.addr == leader) for node in record.nodes]
    for addr in record.unconfirmed:
        next(each for each in registrations if each.addr == addr).unconfirmed = True
    return registrations


def _registered(node: Node, status: NodeStatus | None, *, leads: bool) -> RegisteredNode:
    registered = RegisteredNode(node.addr, node.raft_addr, node.node_id, leads)
    if status is not None:
        registered.up = status.up
        registered.unresolved = status.unresolved
        registered.ready = status.ready
        registered.since = status.since
        registered.checked = status.checked
        registered.why = status.why
    return registered


def _leader(leader: Leader, reported: bool) -> LeaderDocument:
    members = msgspec.json.decode(leader.value)
    id_, api_addr = (members.get(name) or UNSET for name in ("id", "api_addr"))
    return LeaderDocument(id=id_, api_addr=api_addr, addr=members["addr"], index=leader.modified, reported=reported)


def encode_object(document: Mapping[str, object] | msgspec.Struct) -> bytes:
    """Encode a JSON object, spaced as the original service did."""
    return msgspec.json.format(_encode(document), indent=0)


def utc_second(microseconds: int) -> str:
    """Format a time to the second, in ISO 8601."""
    return utc(microseconds // 1000)


# The nodes of a cluster ask for one record again and again.
@lru_cache(maxsize=4096)
def legacy_time(microseconds: int) -> str:
    """Format a time as the original service did, but always with six digits."""
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat(" ", "microseconds")
