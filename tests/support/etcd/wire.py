"""The requests and answers of etcd's JSON gateway, as the model reads and writes them.

They are apart from `rqdisco.backends.etcd.messages` on purpose: a mistake there must not hide in
the model too.
"""

from __future__ import annotations

from binascii import b2a_base64
from typing import Literal

import msgspec

Result = Literal["EQUAL", "GREATER", "LESS", "NOT_EQUAL"]
Target = Literal["VERSION", "CREATE", "MOD", "VALUE", "LEASE"]


class Refusal(Exception):
    """An error of etcd: a gRPC code and its text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


def key_not_provided() -> Refusal:
    return Refusal(3, "etcdserver: key is not provided")


def lease_not_found() -> Refusal:
    return Refusal(5, "etcdserver: requested lease not found")


def no_space() -> Refusal:
    return Refusal(8, "etcdserver: mvcc: database space exceeded")


def compacted() -> Refusal:
    return Refusal(11, "etcdserver: mvcc: required revision has been compacted")


def future_revision() -> Refusal:
    return Refusal(11, "etcdserver: mvcc: required revision is a future revision")


def no_leader() -> Refusal:
    return Refusal(14, "etcdserver: no leader")


def timed_out() -> Refusal:
    return Refusal(14, "etcdserver: request timed out")


def leader_failed() -> Refusal:
    return Refusal(14, "etcdserver: request timed out, possibly due to previous leader failure")


def leader_changed() -> Refusal:
    # For reads: writes are told that they timed out.
    return Refusal(14, "etcdserver: leader changed")


def accounts_have_changed() -> Refusal:
    return Refusal(3, "etcdserver: revision of auth store is old")


class RangeRequest(msgspec.Struct, gc=False):
    key: bytes = b""
    range_end: bytes = b""
    limit: int = 0
    revision: int = 0
    sort_order: Literal["NONE", "ASCEND", "DESCEND"] = "NONE"
    sort_target: Literal["KEY", "VERSION", "CREATE", "MOD", "VALUE"] = "KEY"
    serializable: bool = False
    keys_only: bool = False
    count_only: bool = False


class PutRequest(msgspec.Struct, gc=False):
    key: bytes = b""
    value: bytes = b""
    lease: int = 0
    prev_kv: bool = False


class DeleteRequest(msgspec.Struct, gc=False):
    key: bytes = b""
    range_end: bytes = b""
    prev_kv: bool = False


class CompareRequest(msgspec.Struct, gc=False):
    key: bytes = b""
    range_end: bytes = b""
    result: Result = "EQUAL"
    target: Target = "VERSION"
    version: int = 0
    create_revision: int = 0
    mod_revision: int = 0
    value: bytes = b""
    lease: int = 0


class OperationRequest(msgspec.Struct, gc=False):
    request_range: RangeRequest | None = None
    request_put: PutRequest | None = None
    request_delete_range: DeleteRequest | None = None
    request_txn: TxnRequest | None = None


class TxnRequest(msgspec.Struct, gc=False):
    compare: list[CompareRequest] = []
    success: list[OperationRequest] = []
    failure: list[OperationRequest] = []


class LeaseRequest(msgspec.Struct):
    id: int = msgspec.field(name="ID", default=0)
    ttl: int = msgspec.field(name="TTL", default=0)
    keys: bool = False


class CompactionRequest(msgspec.Struct):
    revision: int = 0


class AlarmRequest(msgspec.Struct):
    action: Literal["GET", "ACTIVATE", "DEACTIVATE"] = "GET"
    member_id: int = msgspec.field(name="memberID", default=0)
    alarm: Literal["NONE", "NOSPACE", "CORRUPT"] = "NONE"


class Permission(msgspec.Struct):
    kind: Literal["READ", "WRITE", "READWRITE"] = msgspec.field(name="permType", default="READ")
    key: bytes = b""
    range_end: bytes = b""


class AuthRequest(msgspec.Struct):
    """Any request to /v3/auth/."""

    name: str = ""
    password: str = ""
    user: str = ""
    role: str = ""
    perm: Permission = msgspec.field(default_factory=Permission)


class WatchCreateRequest(msgspec.Struct):
    key: bytes = b""
    range_end: bytes = b""
    start_revision: int = 0
    watch_id: int = 0
    prev_kv: bool = False


class WatchCancelRequest(msgspec.Struct):
    watch_id: int = 0


class WatchRequest(msgspec.Struct):
    create_request: WatchCreateRequest | None = None
    cancel_request: WatchCancelRequest | None = None


class KeyValue:
    """A key at one revision. A deleted key has version 0. Its JSON is made once."""

    __slots__ = ("_json", "create", "key", "lease", "mod", "value", "version")

    def __init__(self, key: bytes, create: int, mod: int, version: int, value: bytes, lease: int) -> None:
        self.key = key
        self.create = create
        self.mod = mod
        self.version = version
        self.value = value
        self.lease = lease
        self._json: str | None = None

    def json(self) -> str:
        if self._json is None:
            self._json = self._render(self.value)
        return self._json

    def json_without_value(self) -> str:
        return self._render(b"")

    def _render(self, value: bytes) -> str:
        text = f'{{"key":"{base64(self.key)}"'
        if self.create:
            text += f',"create_revision":"{self.create}"'
        text += f',"mod_revision":"{self.mod}"'
        if self.version:
            text += f',"version":"{self.version}"'
        if value:
            text += f',"value":"{base64(value)}"'
        if self.lease:
            text += f',"lease":"{self.lease}"'
        return text + "}"


def base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()
