"""The kinds of requests to etcd's JSON gateway: their paths, and the decoding of the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import msgspec

from rqdisco.backends.etcd.messages import (
    Alarms,
    EtcdHeader,
    LeaseGrantResponse,
    LeaseTimeToLive,
    RangeResponse,
    Status,
    TxnResponse,
)
from rqdisco.backends.etcd.refusals import MISFIT, GatewayRefusal, RefusalKind, read_refusal
from rqdisco.core.codec import UNREADABLE
from rqdisco.http_client.interfaces import PostReply

_WRONG_ANSWER = GatewayRefusal(RefusalKind.UNKNOWN, MISFIT)


class _Answer(Protocol):
    @property
    def header(self) -> EtcdHeader: ...


class _Revoked(msgspec.Struct, frozen=True):
    header: EtcdHeader


A = TypeVar("A", bound=_Answer)


class RequestKind(Generic[A]):
    """A kind of request. `is_checked` reports whether its answers are linearizable (E8)."""

    def __init__(
        self, name: str, path: str, answer: type[A], *, is_read: bool = True, is_checked: bool = False
    ) -> None:
        self.name = name
        self.path = path
        self.is_read = is_read
        self.is_checked = is_checked
        # Not strict, for integers in strings.
        self.decode: Callable[[bytes], A] = msgspec.json.Decoder(answer, strict=False).decode


RANGE = RequestKind("range", "/v3/kv/range", RangeResponse, is_checked=True)
READ = RequestKind("read", "/v3/kv/txn", TxnResponse, is_checked=True)
TXN = RequestKind("txn", "/v3/kv/txn", TxnResponse, is_read=False, is_checked=True)
# A lease that nobody uses does no harm, so requests for one are repeated like reads.
GRANT = RequestKind("lease_grant", "/v3/lease/grant", LeaseGrantResponse)
REVOKE = RequestKind("lease_revoke", "/v3/lease/revoke", _Revoked)
TIME_TO_LIVE = RequestKind("lease_time_to_live", "/v3/lease/timetolive", LeaseTimeToLive)
STATUS = RequestKind("status", "/v3/maintenance/status", Status)
ALARMS = RequestKind("alarms", "/v3/maintenance/alarm", Alarms)


def read_reply(
    kind: RequestKind[A], reply: PostReply, fits: Callable[[A], bool] | None, token: str | None
) -> A | GatewayRefusal:
    """Return the answer, or what else the reply says."""
    if reply.status != 200:
        return read_refusal(reply, token)
    try:
        answer = kind.decode(reply.body)
    except UNREADABLE:
        return _WRONG_ANSWER
    # Only the list of alarms comes without a header.
    if (answer.header.cluster_id == 0 and kind is not ALARMS) or (fits is not None and not fits(answer)):
        return _WRONG_ANSWER
    return answer
