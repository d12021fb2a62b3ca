"""Answers as JSON: a record as old rqlite reads it, with all that is known of it, or as it is
watched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec.structs import replace

from rqdisco.core.leaders import Leaders
from rqdisco.core.records import Leader, Node, Record
from rqdisco.core.views import View
from rqdisco.probes.probe_state import NodeStatus

_encoder = msgspec.json.Encoder()
# Of no zone, so that none is written.
_EPOCH = datetime.fromtimestamp(0, UTC).replace(tzinfo=None)


class _LegacyDocument(msgspec.Struct):
    created_at: str
    disco_id: str
    nodes: list[str]


class _Registration(msgspec.Struct, omit_defaults=True):
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
    unconfirmed: bool = False
    alone: bool = False
    heard: str | None = None


class _LeaderShown(msgspec.Struct):
    id: str | msgspec.UnsetType
    api_addr: str | msgspec.UnsetType
    addr: str
    index: int
    reported: bool


class _Claim(msgspec.Struct):
    """A claim whose leader has not reported itself: when it was won first, and how often that was
    answered.
    """

    since: str
    answered: int


class _FullDocument(_LegacyDocument):
    registrations: list[_Registration]
    leader: _LeaderShown | msgspec.UnsetType
    orphaned: bool | msgspec.UnsetType
    claim: _Claim | msgspec.UnsetType
    two_leaders: tuple[str, str] | msgspec.UnsetType


def not_seen(_: Node) -> None:
    """What probes met where there are none."""


def encode_document(record: Record | View, listed: tuple[Node, ...]) -> bytes:
    """The answer rqlite 3.12-6.10 read, listing `listed`, spaced as the original service wrote
    it.
    """
    document = _LegacyDocument(legacy_time(record.created_at), record.id, [node.addr for node in listed])
    return msgspec.json.format(_encoder.encode(document), indent=0)


def encode_full_document(
    record: View,
    *,
    orphaned: bool,
    seen: Callable[[Node], NodeStatus | None] = not_seen,
    two_leaders: Leaders | None = None,
) -> bytes:
    """The same with every node, all that is known of each under "registrations", and who leads
    under "leader".

    An orphaned ID says so: its home is lost, and it seeds no cluster. `seen` gives what probes met,
    `two_leaders` those that both report themselves.
    """
    document = _full_document(record, orphaned, seen, two_leaders)
    return msgspec.json.format(_encoder.encode(document), indent=0)


def encode_watched(
    record: View,
    *,
    orphaned: bool,
    heard: Mapping[str, int],
    seen: Callable[[Node], NodeStatus | None] = not_seen,
    two_leaders: Leaders | None = None,
) -> bytes:
    """The same in one line for who watches an ID, with "alone" at the node that was last told to
    bootstrap, and "heard" where it is known when an address was first answered, in microseconds
    since 1970. How long ago a probe was is left out, or there would be something new all the time.
    """
    document = _full_document(record, orphaned, seen, two_leaders)
    for shown in document.registrations:
        shown.since = shown.checked = None
        shown.alone = record.granted == shown.addr
        if (at := heard.get(shown.addr)) is not None:
            shown.heard = utc_second(at)
    return _encoder.encode(document)


def _full_document(
    record: View, orphaned: bool, seen: Callable[[Node], NodeStatus | None], two_leaders: Leaders | None
) -> _FullDocument:
    leader = record.leader
    addresses = [node.addr for node in record.nodes]
    registrations = [
        _registration(node, seen(node), leads=leader is not None and node.addr == leader.addr) for node in record.nodes
    ]
    for addr in record.unconfirmed:
        registrations[addresses.index(addr)].unconfirmed = True
    return _FullDocument(
        legacy_time(record.created_at),
        record.id,
        addresses,
        registrations,
        msgspec.UNSET if leader is None else _shown(leader, record.confirmed),
        orphaned or msgspec.UNSET,
        _Claim(utc_second(record.claimed_since * 1000), record.claimed) if record.claimed else msgspec.UNSET,
        two_leaders or msgspec.UNSET,
    )


def _registration(node: Node, seen: NodeStatus | None, *, leads: bool) -> _Registration:
    known = _Registration(node.addr, node.raft_addr, node.node_id, leads)
    if seen is None:
        return known
    return replace(
        known,
        up=seen.up,
        unresolved=seen.unresolved,
        ready=seen.ready,
        since=seen.since,
        checked=seen.checked,
        why=seen.why,
    )


def _shown(leader: Leader, reported: bool) -> _LeaderShown:
    members = msgspec.json.decode(leader.value)
    id_, api_addr = (members.get(name) or msgspec.UNSET for name in ("id", "api_addr"))
    return _LeaderShown(id_, api_addr, members["addr"], leader.modified, reported)


def encode_object(members: dict[str, Any]) -> bytes:
    """Any JSON object, spaced as the documents are."""
    return msgspec.json.format(_encoder.encode(members), indent=0)


def utc_second(microseconds: int) -> str:
    """The time to the second, as ISO 8601 has it."""
    return f"{datetime.fromtimestamp(microseconds // 1_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def legacy_time(microseconds: int) -> str:
    """The time as the original service wrote it, but always with six digits."""
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat(" ", "microseconds")
