"""The messages of etcd's JSON gateway (`/v3/...`) that this backend uses.

Bytes are base64 in JSON. etcd writes 64-bit integers as strings and omits fields that are zero. It
ignores unknown fields, and a transaction without operations succeeds: so requests are built from
these structs alone, and `EtcdClient` checks that an answer has as many responses as were asked for.
Source: etcd 3.4 etcdserver/etcdserverpb/rpc.proto and mvcc/mvccpb/kv.proto.
"""

from __future__ import annotations

from typing import Literal

import msgspec

_encode = msgspec.json.Encoder().encode


class EtcdHeader(msgspec.Struct, frozen=True, gc=False):
    """The head of every answer: the cluster and member that answered, and its newest revision."""

    cluster_id: int = 0
    member_id: int = 0
    revision: int = 0
    raft_term: int = 0


NO_HEADER = EtcdHeader()


class KeyValue(msgspec.Struct, frozen=True, gc=False):
    """A key and its value. `mod_revision` is the revision of its last change."""

    key: bytes
    value: bytes = b""
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0
    lease: int = 0


class Range(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Read a key, or all keys from `key` up to but without `range_end`. Linearizable."""

    key: bytes
    range_end: bytes = b""
    limit: int = 0
    keys_only: bool = False
    count_only: bool = False


class KeyPut(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Write a key. With `lease` the key is deleted when that lease expires."""

    key: bytes
    value: bytes
    lease: int = 0


class Delete(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Delete a key, or all from `key` up to but without `range_end`."""

    key: bytes
    range_end: bytes = b""


class Compare(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Require that a key was last changed at `mod_revision`; 0 if it does not exist."""

    key: bytes
    mod_revision: int
    target: Literal["MOD"] = "MOD"
    result: Literal["EQUAL"] = "EQUAL"


class TxnOperation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One operation of a transaction: exactly one of these."""

    request_range: Range | None = None
    request_put: KeyPut | None = None
    request_delete_range: Delete | None = None
    request_txn: Txn | None = None


class Txn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A transaction: `success` if everything in `compare` holds, else `failure`."""

    compare: tuple[Compare, ...] = ()
    success: tuple[TxnOperation, ...] = ()
    failure: tuple[TxnOperation, ...] = ()


class RangeResponse(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The keys that were read; `count` is the number of all in the range."""

    header: EtcdHeader = NO_HEADER
    kvs: tuple[KeyValue, ...] = ()
    more: bool = False
    count: int = 0


class PutResponse(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A key was written."""

    header: EtcdHeader = NO_HEADER


class DeleteResponse(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The number of keys deleted."""

    header: EtcdHeader = NO_HEADER
    deleted: int = 0


class OperationResponse(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The response to one operation: exactly one of these."""

    response_range: RangeResponse | None = None
    response_put: PutResponse | None = None
    response_delete_range: DeleteResponse | None = None
    response_txn: TxnResponse | None = None


class TxnResponse(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The outcome of a transaction: `succeeded` if the comparison held, and the responses of the
    branch that was taken.
    """

    header: EtcdHeader = NO_HEADER
    succeeded: bool = False
    responses: tuple[OperationResponse, ...] = ()


class LeaseGrant(msgspec.Struct, frozen=True, kw_only=True):
    """Create a lease of `ttl` seconds."""

    ttl: int = msgspec.field(name="TTL")


class LeaseGrantResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A lease and its time to live in seconds, which may be longer than was asked for."""

    header: EtcdHeader = NO_HEADER
    id: int = msgspec.field(name="ID", default=0)
    ttl: int = msgspec.field(name="TTL", default=0)


class LeaseQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Revoke a lease, or ask for its time to live."""

    id: int = msgspec.field(name="ID")


class LeaseTimeToLive(msgspec.Struct, frozen=True, kw_only=True):
    """The seconds left of a lease, -1 if it has expired, and the seconds that it was granted for."""

    header: EtcdHeader = NO_HEADER
    ttl: int = msgspec.field(name="TTL", default=0)
    granted_ttl: int = msgspec.field(name="grantedTTL", default=0)


class WatchCreate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Watch a key or a range of keys, from `start_revision` on; 0 means from now on."""

    key: bytes
    range_end: bytes = b""
    start_revision: int = 0
    watch_id: int = 0


class WatchEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A change of a key."""

    kv: KeyValue
    type: Literal["PUT", "DELETE"] = "PUT"


class WatchResponse(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Changes of one watch. If `compact_revision` is set, changes before it are not known any
    more, and the watch has ended.
    """

    header: EtcdHeader = NO_HEADER
    watch_id: int = 0
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    cancel_reason: str = ""
    events: tuple[WatchEvent, ...] = ()


class Status(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The state of one member. `leader` is 0 where it knows none; sizes are in bytes. `errors` are
    texts, with one for each alarm of the cluster.
    """

    header: EtcdHeader = NO_HEADER
    version: str = ""
    leader: int = 0
    db_size: int = 0
    db_size_in_use: int = 0
    errors: tuple[str, ...] = ()


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm of a member, such as NOSPACE."""

    member_id: int = msgspec.field(name="memberID", default=0)
    alarm: str = "NONE"


class Alarms(msgspec.Struct, frozen=True, kw_only=True):
    """All alarms of a cluster."""

    header: EtcdHeader = NO_HEADER
    alarms: tuple[Alarm, ...] = ()


def encode(message: msgspec.Struct) -> bytes:
    """Encode a request."""
    return _encode(message)


def range_op(request: Range) -> TxnOperation:
    """Return the operation that reads a range."""
    return TxnOperation(request_range=request)


def put_op(key: bytes, value: bytes, lease: int = 0) -> TxnOperation:
    """Return the operation that writes a key."""
    return TxnOperation(request_put=KeyPut(key=key, value=value, lease=lease))


def delete_op(key: bytes) -> TxnOperation:
    """Return the operation that deletes a key."""
    return TxnOperation(request_delete_range=Delete(key=key))


def prefix_end(prefix: bytes) -> bytes:
    """Return the end of the range of all keys that start with `prefix`, which ends with a byte
    below 255.
    """
    return prefix[:-1] + bytes([prefix[-1] + 1])
