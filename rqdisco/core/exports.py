"""Exports: records that an operator moves from one daemon to another."""

from __future__ import annotations

import ipaddress
import re
import zlib

import msgspec
from msgspec.structs import asdict, replace

from rqdisco.core import codec, transitions
from rqdisco.core.addresses import check_text
from rqdisco.core.codec import Malformed
from rqdisco.core.errors import InvalidValue, TooManyNodes
from rqdisco.core.host_binding import export_host, unbind
from rqdisco.core.ids import may_be_named
from rqdisco.core.records import Leader, Node, Record, UnreportedClaim, without_pending_grant

FORMAT = "rqdisco export"
VERSION = 1
_OWNER = re.compile(r"[0-9a-f]{16}\Z")
# The end of the year 9999, in microseconds since 1970.
_MAX_TIME = 253_402_300_799_999_999
_MAX_UINT64 = 2**64 - 1
# Records in a batch: few enough that other requests do not wait for long.
MAX_BATCH = 500

_encoder = msgspec.json.Encoder()


class ExportedKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The leader key: its value, Consul's flags, the listed address of its node, and whether the
    leader reported itself.

    `claims` counts the answers to a hidden claim, 0 if the claim is not hidden (R5c).
    """

    value: str
    flags: int = 0
    addr: str | None = None
    reported: bool = True
    claims: int = 0


class ImportedNode(Node, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A `Node` in an import, which must not have fields that this release does not know."""


class TransferredRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"owner": "home"}):
    """What moves of a record. A record without `owner` becomes the importing daemon's own.

    `host` is the address of the only machine that may register while loopback addresses are listed
    (R5d), left out if that is the machine of a daemon.
    """

    id: str
    created_at: int
    owner: str | None = None
    nodes: tuple[ImportedNode, ...] = ()
    leader: ExportedKey | None = None
    host: str | None = None


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an import. `adopt` makes the importing daemon the owner of all IDs."""

    records: tuple[TransferredRecord, ...]
    adopt: bool = False


class Export:
    """Encodes an export in parts, one record a line. The document is valid JSON, and ends with a
    count and a CRC.
    """

    def __init__(self, count: int) -> None:
        self._crc = 0
        self._written = 0
        self._count = count

    def begin(self) -> bytes:
        """Return what comes before the records, with the expected number of them."""
        return self._summed(b'{"format":"%s","version":%d,"count":%d,"records":[' % (
            FORMAT.encode(), VERSION, self._count
        ))  # fmt: skip

    def line(self, record: Record) -> bytes:
        """Return a record, with the separator before it."""
        separator = b"\n" if self._written == 0 else b",\n"
        self._written += 1
        return self._summed(separator + _encoder.encode(to_transferred(record)))

    def end(self) -> bytes:
        """Return the last line."""
        self._summed(b"\n")
        return b'\n],"count":%d,"crc":"%08x"}\n' % (self._written, self._crc)

    def _summed(self, data: bytes) -> bytes:
        self._crc = zlib.crc32(data, self._crc)
        return data


def decode_batch(content: bytes) -> Batch:
    """Decode a batch of at most MAX_BATCH records. Raises Malformed."""
    batch = codec.decode_json(content, Batch)
    if len(batch.records) > MAX_BATCH:
        raise Malformed(f"more than {MAX_BATCH} records")
    return batch


def to_record(transferred: TransferredRecord, owner: str, *, version: int, max_nodes: int) -> Record:
    """Return the record to store for an imported one. Raises InvalidValue, TooManyNodes."""
    if not may_be_named(transferred.id):
        raise InvalidValue("id", "not a text that an ID can have")
    if not _OWNER.match(owner):
        raise InvalidValue("home", "not 16 hex digits")
    if not 0 <= transferred.created_at <= _MAX_TIME:
        raise InvalidValue("created_at", "not in microseconds since 1970")
    # Another daemon made the grants so far, and the list may have been empty: no window is open.
    record = Record(
        id=transferred.id, owner=owner, version=version, created_at=transferred.created_at, was_emptied=True
    )
    if len(transferred.nodes) > max_nodes:
        raise TooManyNodes(transferred.id)
    record = replace(record, nodes=tuple(map(_checked, transferred.nodes)))
    _check_distinct(record.nodes)
    if transferred.leader is not None:
        record = _with_leader(record, transferred.leader, version, max_nodes)
    return record if transferred.host is None else unbind(replace(record, host=_host(transferred.host)))


def _with_leader(record: Record, key: ExportedKey, version: int, max_nodes: int) -> Record:
    if not 0 <= key.flags <= _MAX_UINT64:
        raise InvalidValue("flags", "not an unsigned number of 64 bits")
    if not 0 <= key.claims <= _MAX_UINT64:
        raise InvalidValue("claims", "not an unsigned number of 64 bits")
    try:
        put = codec.decode_put(key.value.encode(), key.flags)
    except (Malformed, UnicodeEncodeError) as error:
        raise InvalidValue("leader", str(error)) from None
    if key.addr is None:
        led = transitions.with_leader(record, put, version, max_nodes)
    elif key.addr in {node.addr for node in record.nodes}:
        # The node may have registered with another address since.
        leader = Leader(addr=key.addr, value=put.value, flags=put.flags, created=version, modified=version)
        led = replace(record, leader=leader)
    else:
        raise InvalidValue("leader", "its node is not listed")
    unreported = UnreportedClaim(times=key.claims, since=version) if key.claims else None
    return replace(led, confirmed=key.reported and unreported is None, unreported=unreported)


def is_equivalent(one: Record, other: Record) -> bool:
    """Report whether both records have the same nodes and the same leader."""
    values = [None if record.leader is None else record.leader.value for record in (one, other)]
    return one.nodes == other.nodes and values[0] == values[1]


def to_transferred(record: Record) -> TransferredRecord:
    """Return what is exported of a record: without a node whose grant may never have been answered,
    and with the last owner where that was lost.
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
    nodes = tuple(ImportedNode(**asdict(node)) for node in record.nodes)
    owner = record.previous_owners[-1] if record.ownerless and record.previous_owners else record.owner
    return TransferredRecord(
        id=record.id, created_at=record.created_at, owner=owner, nodes=nodes, leader=key, host=export_host(record.host)
    )


def _host(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise InvalidValue("host", "not an IP address") from None


def _checked(node: ImportedNode) -> Node:
    check_text("address", node.addr)
    for what, value in (("raft_addr", node.raft_addr), ("node_id", node.node_id)):
        if value is not None:
            check_text(what, value)
    return Node(**asdict(node))


def _check_distinct(nodes: tuple[Node, ...]) -> None:
    seen: set[str] = set()
    for node in nodes:
        # A registration would take them for one node: same address, with or without http://, or
        # same node ID.
        names = {f"addr {node.addr.removeprefix('http://')}"} | ({f"id {node.node_id}"} if node.node_id else set())
        if names & seen:
            raise InvalidValue("nodes", "one of them is listed twice")
        seen |= names
