"""Records as they travel from one daemon to another by hand: what an export holds, and an import brings."""

from __future__ import annotations

import re
import zlib

import msgspec
from msgspec.structs import replace

from rqdisco import codec, records
from rqdisco.address import check_text, same_node
from rqdisco.codec import Malformed
from rqdisco.errors import InvalidValue, TooManyNodes
from rqdisco.ids import may_be_named
from rqdisco.records import Node, Record

FORMAT = "rqdisco export"
VERSION = 1
_HOME = re.compile(r"[0-9a-f]{16}\Z")
# The last moment of the year 9999, in microseconds since 1970.
_LATEST = 253_402_300_799_999_999

_encoder = msgspec.json.Encoder()


class Key(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The leader key: its value and Consul's flags."""

    value: str
    flags: int = 0


class Transferred(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What there is to say of an ID to another daemon. Without a `home` it is nobody's, so the importing daemon's."""

    id: str
    created_at: int
    home: str | None = None
    nodes: tuple[Node, ...] = ()
    leader: Key | None = None


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an import. `adopt` makes the importing daemon the home of IDs that were another's."""

    records: tuple[Transferred, ...]
    adopt: bool = False


class Export:
    """The parts of an export, one record a line; the document is valid JSON, and ends with a count and a CRC."""

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
        return self._summed(separator + _encoder.encode(_transferred(record)))

    def end(self) -> bytes:
        """The last line."""
        self._summed(b"\n")
        return b'\n],"count":%d,"crc":"%08x"}\n' % (self._written, self._crc)

    def _summed(self, data: bytes) -> bytes:
        self._crc = zlib.crc32(data, self._crc)
        return data


def decode_batch(content: bytes) -> Batch:
    """Raises Malformed."""
    try:
        return msgspec.json.decode(content, type=Batch)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None


def to_record(brought: Transferred, home: str, *, version: int, max_nodes: int) -> Record:
    """The record that `brought` makes here. Raises InvalidValue, TooManyNodes."""
    if not may_be_named(brought.id):
        raise InvalidValue("id", "not a text that an ID can have")
    if not _HOME.match(home):
        raise InvalidValue("home", "not 16 hex digits")
    if not 0 <= brought.created_at <= _LATEST:
        raise InvalidValue("created_at", "not in microseconds since 1970")
    # The list may have been empty in between, and whoever was alone was told elsewhere: no window is open.
    record = Record(id=brought.id, home=home, version=version, created_at=brought.created_at, ever=True)
    if len(brought.nodes) > max_nodes:
        raise TooManyNodes(brought.id)
    record = replace(record, nodes=tuple(map(_checked, brought.nodes)))
    _check_distinct(record.nodes)
    if brought.leader is None:
        return record
    try:
        put = codec.decode_put(brought.leader.value.encode(), brought.leader.flags)
    except (Malformed, UnicodeEncodeError) as error:
        raise InvalidValue("leader", str(error)) from None
    return records.report(record, put, version=version, max_nodes=max_nodes)


def says_the_same(one: Record, other: Record) -> bool:
    """Whether both records have the same nodes and the same leader."""
    values = [None if record.leader is None else record.leader.value for record in (one, other)]
    return one.nodes == other.nodes and values[0] == values[1]


def _transferred(record: Record) -> Transferred:
    leader = None if record.leader is None else Key(value=record.leader.value, flags=record.leader.flags)
    return Transferred(id=record.id, created_at=record.created_at, home=record.home, nodes=record.nodes, leader=leader)


def _checked(node: Node) -> Node:
    check_text("address", node.addr)
    for what, value in (("raft_addr", node.raft_addr), ("node_id", node.node_id)):
        if value is not None:
            check_text(what, value)
    return node


def _check_distinct(nodes: tuple[Node, ...]) -> None:
    seen: set[str] = set()
    for node in nodes:
        bare = node.addr.removeprefix("http://")
        if bare in seen or (same_node(node.addr, bare) and node.addr in seen):
            raise InvalidValue("nodes", "one of them is listed twice")
        seen |= {bare, node.addr}
