"""Records as they travel from one daemon to another by hand: what an export holds, and an import
brings.
"""

from __future__ import annotations

import ipaddress
import re
import zlib

import msgspec
from msgspec.structs import replace

from rqdisco.core import codec, transitions
from rqdisco.core.addresses import check_text
from rqdisco.core.codec import Malformed
from rqdisco.core.errors import InvalidValue, TooManyNodes
from rqdisco.core.host_binding import exported, released
from rqdisco.core.ids import may_be_named
from rqdisco.core.records import Leader, Node, Record, UnreportedClaim, without_pending_grant

FORMAT = "rqdisco export"
VERSION = 1
_OWNER = re.compile(r"[0-9a-f]{16}\Z")
# The last moment of the year 9999, in microseconds since 1970.
_LATEST = 253_402_300_799_999_999

_FLAGS_END = 2**64
MOST_AT_ONCE = 500

_encoder = msgspec.json.Encoder()


class ExportedKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The leader key: its value and Consul's flags, the address its node is listed by, whether that
    reported itself.

    `claims` is how often its owner was told that it won a claim that is hidden until it reports
    itself (R5c).
    """

    value: str
    flags: int = 0
    addr: str | None = None
    reported: bool = True
    claims: int = 0


class ImportedNode(Node, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A node as an import says it, which may not say more than this release knows."""


class TransferredRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"owner": "home"}):
    """What there is to say of an ID to another daemon. Without a `owner` it is nobody's, so the
    importing daemon's.

    `host` is the address of the only machine that may register as long as loopback addresses are
    listed (R5d); which machine a daemon itself is on is not said.
    """

    id: str
    created_at: int
    owner: str | None = None
    nodes: tuple[ImportedNode, ...] = ()
    leader: ExportedKey | None = None
    host: str | None = None


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an import. `adopt` makes the importing daemon the home of IDs that were
    another's.
    """

    records: tuple[TransferredRecord, ...]
    adopt: bool = False


class Export:
    """The parts of an export, one record a line; the document is valid JSON, and ends with a count
    and a CRC.
    """

    def __init__(self, count: int) -> None:
        self._crc = 0
        self._written = 0
        self._count = count

    def begin(self) -> bytes:
        """What comes before the records; `count` is how many there are likely to be."""
        return self._summed(b'{"format":"%s","version":%d,"count":%d,"records":[' % (
            FORMAT.encode(), VERSION, self._count
        ))  # fmt: skip

    def line(self, record: Record) -> bytes:
        """A record, with what separates it from the one before."""
        separator = b"\n" if self._written == 0 else b",\n"
        self._written += 1
        return self._summed(separator + _encoder.encode(to_transferred(record)))

    def end(self) -> bytes:
        """The last line."""
        self._summed(b"\n")
        return b'\n],"count":%d,"crc":"%08x"}\n' % (self._written, self._crc)

    def _summed(self, data: bytes) -> bytes:
        self._crc = zlib.crc32(data, self._crc)
        return data


def decode_batch(content: bytes) -> Batch:
    """At most 500 records, so that nobody else has to wait for long. Raises Malformed."""
    try:
        batch = msgspec.json.decode(content, type=Batch)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None
    if len(batch.records) > MOST_AT_ONCE:
        raise Malformed(f"more than {MOST_AT_ONCE} records")
    return batch


def to_record(brought: TransferredRecord, owner: str, *, version: int, max_nodes: int) -> Record:
    """The record that `brought` makes here. Raises InvalidValue, TooManyNodes."""
    if not may_be_named(brought.id):
        raise InvalidValue("id", "not a text that an ID can have")
    if not _OWNER.match(owner):
        raise InvalidValue("home", "not 16 hex digits")
    if not 0 <= brought.created_at <= _LATEST:
        raise InvalidValue("created_at", "not in microseconds since 1970")
    # The list may have been empty in between, and whoever was alone was told elsewhere: no window
    # is open.
    record = Record(id=brought.id, owner=owner, version=version, created_at=brought.created_at, was_emptied=True)
    if len(brought.nodes) > max_nodes:
        raise TooManyNodes(brought.id)
    record = replace(record, nodes=tuple(map(_checked, brought.nodes)))
    _check_distinct(record.nodes)
    if brought.leader is not None:
        record = _with_leader(record, brought.leader, version, max_nodes)
    return record if brought.host is None else released(replace(record, host=_host(brought.host)))


def _with_leader(record: Record, key: ExportedKey, version: int, max_nodes: int) -> Record:
    if not 0 <= key.flags < _FLAGS_END:
        raise InvalidValue("flags", "not an unsigned number of 64 bits")
    if not 0 <= key.claims < _FLAGS_END:
        raise InvalidValue("claims", "not an unsigned number of 64 bits")
    try:
        put = codec.decode_put(key.value.encode(), key.flags)
    except (Malformed, UnicodeEncodeError) as error:
        raise InvalidValue("leader", str(error)) from None
    if key.addr is None:
        led = transitions.with_leader(record, put, version, max_nodes)
    elif key.addr in {node.addr for node in record.nodes}:
        # Its node may have registered with another address since it was put.
        leader = Leader(addr=key.addr, value=put.value, flags=put.flags, created=version, modified=version)
        led = replace(record, leader=leader)
    else:
        raise InvalidValue("leader", "its node is not listed")
    unreported = UnreportedClaim(times=key.claims, since=version) if key.claims else None
    return replace(led, confirmed=key.reported and unreported is None, unreported=unreported)


def is_equivalent(one: Record, other: Record) -> bool:
    """Whether both records have the same nodes and the same leader."""
    values = [None if record.leader is None else record.leader.value for record in (one, other)]
    return one.nodes == other.nodes and values[0] == values[1]


def to_transferred(record: Record) -> TransferredRecord:
    """What is exported of a record: no node whose grant may never have been answered, and the
    daemon that created it also where that was lost.
    """
    record = without_pending_grant(record)
    leader, unreported = record.leader, record.unreported
    key = (
        None
        if leader is None
        else ExportedKey(
            value=leader.value,
            flags=leader.flags,
            addr=leader.addr,
            reported=record.confirmed,
            claims=0 if unreported is None else unreported.times,
        )
    )
    nodes = tuple(ImportedNode(addr=node.addr, raft_addr=node.raft_addr, node_id=node.node_id) for node in record.nodes)
    owner = record.previous_owners[-1] if record.ownerless and record.previous_owners else record.owner
    return TransferredRecord(
        id=record.id, created_at=record.created_at, owner=owner, nodes=nodes, leader=key, host=exported(record.host)
    )


def _host(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise InvalidValue("host", "not an IP address") from None


def _checked(node: Node) -> Node:
    check_text("address", node.addr)
    for what, value in (("raft_addr", node.raft_addr), ("node_id", node.node_id)):
        if value is not None:
            check_text(what, value)
    return Node(addr=node.addr, raft_addr=node.raft_addr, node_id=node.node_id)


def _check_distinct(nodes: tuple[Node, ...]) -> None:
    seen: set[str] = set()
    for node in nodes:
        # As a registration would find them to be one node: by the address, with http:// or without,
        # or by the node ID.
        own = {f"addr {node.addr.removeprefix('http://')}"} | ({f"id {node.node_id}"} if node.node_id else set())
        if own & seen:
            raise InvalidValue("nodes", "one of them is listed twice")
        seen |= own
