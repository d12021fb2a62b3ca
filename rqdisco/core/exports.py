"""The format of `rqdisco export` and `rqdisco import`: its fields, and the checks of what is imported.

Open it to change the fields or the checks of an export. `export_encoder` writes it. The HTTP admin
API streams exports and receives imports in batches.
"""

from __future__ import annotations

import ipaddress
import re

import msgspec
from msgspec.structs import asdict, replace

from rqdisco.core import codec, transitions
from rqdisco.core.addresses import check_text
from rqdisco.core.codec import Malformed
from rqdisco.core.errors import InvalidValue, TooManyNodes
from rqdisco.core.host_binding import unbind
from rqdisco.core.ids import is_valid_name
from rqdisco.core.records import NO_BOOT, Grant, Leader, Node, Record, UnreportedClaim

FORMAT = "rqdisco export"
# 2: records have `decisions`, claims the time of their first answer.
VERSION = 2
_OWNER = re.compile(r"[0-9a-f]{16}\Z")
# The end of the year 9999, in microseconds since 1970.
_MAX_TIME = 253_402_300_799_999_999
_MAX_UINT64 = 2**64 - 1
# Records in a batch: few enough that other requests do not wait for long.
MAX_BATCH = 500


class ExportedLeaderKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The leader key: its value, Consul's flags, the listed address of its node, and whether that
    node has reported itself as leader.

    `claims` counts the answers to a hidden claim, 0 if the claim is not hidden (R5c);
    `claimed_since` is the time of the first, in milliseconds since 1970, 0 if it is unknown.
    """

    value: str
    flags: int = 0
    addr: str | None = None
    reported: bool = True
    claims: int = 0
    claimed_since: int = 0


class TransferredGrant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The last bootstrap grant: its address, and the IP address of the client host that got it, if
    that is known. Its retry window is closed: no moment of another machine means anything here.
    """

    addr: str
    host: str | None = None


class Decisions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The decisions under an ID, for the importing daemon to decide as the exporting one would.

    `grant`, `emptied`, `confirmed`, `attempted` and `ownerless` are the fields of `Record`;
    `emptied` is its `was_emptied`. `ownerless` is also set where the exporting daemon may not grant.
    """

    grant: TransferredGrant | None = None
    emptied: bool = False
    confirmed: bool = False
    attempted: bool = False
    ownerless: bool = False


class ImportedNode(Node, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A `Node` in an import, which must not have fields that this release does not know."""


class TransferredRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"owner": "home"}):
    """The exported fields of a record. Without `owner`, the importing daemon becomes the owner.

    `host` is the address of the only client host that may register while loopback addresses are
    listed (R5d); omitted if that is the machine of a daemon. Without `decisions`, as in version 1
    and in the documents of other services, grants may have been made.
    """

    id: str
    created_at: int
    owner: str | None = None
    nodes: tuple[ImportedNode, ...] = ()
    leader: ExportedLeaderKey | None = None
    host: str | None = None
    decisions: Decisions | None = None


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """The body of one import request. `adopt` makes the importing daemon the owner of all IDs.

    With `frozen` the records are imported only while the daemon is frozen for that reason.
    """

    records: tuple[TransferredRecord, ...]
    adopt: bool = False
    frozen: str | None = None


def decode_batch(content: bytes) -> Batch:
    """Decode a batch of at most MAX_BATCH records. Raises Malformed."""
    batch = codec.decode_json(content, Batch)
    if len(batch.records) > MAX_BATCH:
        raise Malformed(f"more than {MAX_BATCH} records")
    return batch


def to_record(transferred: TransferredRecord, owner: str, *, version: int, max_nodes: int) -> Record:
    """Return the record to store for an imported one. Raises InvalidValue, TooManyNodes."""
    if not is_valid_name(transferred.id):
        raise InvalidValue("id", "not a discovery ID")
    if not _OWNER.match(owner):
        raise InvalidValue("home", "not 16 hex digits")
    if not 0 <= transferred.created_at <= _MAX_TIME:
        raise InvalidValue("created_at", "not in microseconds since 1970")
    decisions = transferred.decisions
    # Without them another daemon may have made grants, and the list may have been empty.
    was_emptied = decisions is None or decisions.emptied
    record = Record(
        id=transferred.id, owner=owner, version=version, created_at=transferred.created_at, was_emptied=was_emptied
    )
    if len(transferred.nodes) > max_nodes:
        raise TooManyNodes(transferred.id)
    record = replace(record, nodes=tuple(map(_checked_node, transferred.nodes)))
    _check_distinct(record.nodes)
    if transferred.leader is not None:
        record = _with_leader(record, transferred.leader, version, max_nodes)
    if transferred.host is not None:
        record = unbind(replace(record, host=_host(transferred.host)))
    return record if decisions is None else _with_decisions(record, decisions)


def _with_decisions(record: Record, decisions: Decisions) -> Record:
    return replace(
        record,
        grant=None if decisions.grant is None else _closed_grant(decisions.grant, record.nodes),
        confirmed=decisions.confirmed,
        attempted=decisions.attempted,
        ownerless=decisions.ownerless,
    )


def _closed_grant(exported: TransferredGrant, nodes: tuple[Node, ...]) -> Grant:
    if exported.addr not in {node.addr for node in nodes}:
        raise InvalidValue("grant", "its node is not listed")
    # No grant of this daemon has this moment.
    return Grant(addr=exported.addr, boot=NO_BOOT, at=-1, host=None if exported.host is None else _host(exported.host))


def _with_leader(record: Record, exported: ExportedLeaderKey, version: int, max_nodes: int) -> Record:
    if not 0 <= exported.flags <= _MAX_UINT64:
        raise InvalidValue("flags", "not an unsigned number of 64 bits")
    if not 0 <= exported.claims <= _MAX_UINT64:
        raise InvalidValue("claims", "not an unsigned number of 64 bits")
    if not 0 <= exported.claimed_since <= _MAX_TIME:
        raise InvalidValue("claimed_since", "not in milliseconds since 1970")
    try:
        put = codec.decode_put(exported.value.encode(), exported.flags)
    except (Malformed, UnicodeEncodeError) as error:
        raise InvalidValue("leader", str(error)) from None
    if exported.addr is None:
        led = transitions.with_leader(record, put, version, max_nodes)
    elif exported.addr in {node.addr for node in record.nodes}:
        # The node may have registered with another address since.
        leader = Leader(addr=exported.addr, value=put.value, flags=put.flags, created=version, modified=version)
        led = replace(record, leader=leader)
    else:
        raise InvalidValue("leader", "its node is not listed")
    since = exported.claimed_since or version
    unreported = UnreportedClaim(times=exported.claims, since=since) if exported.claims else None
    return replace(led, confirmed=exported.reported and unreported is None, unreported=unreported)


def _host(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise InvalidValue("host", "not an IP address") from None


def _checked_node(node: ImportedNode) -> Node:
    check_text("address", node.addr)
    for what, value in (("raft_addr", node.raft_addr), ("node_id", node.node_id)):
        if value is not None:
            check_text(what, value)
    return Node(**asdict(node))


def _check_distinct(nodes: tuple[Node, ...]) -> None:
    seen: set[str] = set()
    for node in nodes:
        # Registration treats nodes as one if they share an address, with or without http://, or a
        # node ID.
        names = {f"addr {node.addr.removeprefix('http://')}"} | ({f"id {node.node_id}"} if node.node_id else set())
        if names & seen:
            raise InvalidValue("nodes", "one of them is listed twice")
        seen |= names
