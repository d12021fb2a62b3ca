"""The meaning of an answer of etcd's gateway: the fate of a request (E2).

The gateway's JSON `code` decides, never the HTTP status. Source: etcd 3.4
etcdserver/api/v3rpc/rpctypes/error.go.
"""

from __future__ import annotations

from enum import Enum, auto

import msgspec

from rqdisco.core.codec import UNREADABLE
from rqdisco.http_client.interfaces import PostReply


class RefusalKind(Enum):
    """The knowledge about the copy of a request that was refused."""

    # Not applied, and a copy sent later would be refused in the same way.
    REFUSED = auto()
    # Not applied, but a copy sent later may be.
    BUSY = auto()
    # Not applied, for want of a valid token.
    NO_TOKEN = auto()
    # Not applied, since the database is full.
    NO_SPACE = auto()
    # Not applied; the user lacks a permission, or the password is wrong.
    FORBIDDEN = auto()
    # No copy was applied or ever will be.
    NO_LEASE = auto()
    # Authentication is switched off, so there are no tokens.
    NO_AUTH = auto()
    # Applied or not: the answer does not say.
    UNKNOWN = auto()


class GatewayRefusal(msgspec.Struct, frozen=True):
    """An answer other than the one asked for. `reason` is a sentence for operators."""

    fate: RefusalKind
    reason: str


class _Error(msgspec.Struct, frozen=True):
    code: int | None = None
    error: str = ""
    message: str = ""


_INVALID_ARGUMENT, _NOT_FOUND, _PERMISSION_DENIED, _EXHAUSTED, _PRECONDITION, _UNAUTHENTICATED = 3, 5, 7, 8, 9, 16
_MAX_TEXT = 200
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Error).decode

DATABASE_FULL = "etcd's database is full (NOSPACE alarm): compact and defragment it, then disarm the alarm"
DATA_CORRUPT = "etcd has found its data corrupt (CORRUPT alarm)"
# The first text that occurs in etcd's message decides.
_SENTENCES = (
    ("database space exceeded", DATABASE_FULL),
    ("no space", DATABASE_FULL),
    ("no leader", "etcd has no leader"),
    ("leader changed", "etcd changed its leader"),
    ("request timed out", "etcd did not answer within its own time limit; it may have lost its quorum"),
    ("too many requests", "etcd has too many requests waiting"),
    ("lease not found", "the lease has expired"),
    ("invalid user ID or password", "etcd refused the user name or the password"),
    ("permission denied", "etcd's user lacks the permission for these keys; its role must cover the whole prefix"),
    (
        "user name is empty",
        "etcd requires a user and a password: set --etcd-user and --etcd-password-file; a client certificate does not"
        " replace them",
    ),
    ("invalid auth token", "etcd does not accept the token"),
    ("auth store is old", "etcd's users or roles changed, and the token is older"),
    ("corrupt", DATA_CORRUPT),
)
_TOKEN_TEXTS = ("invalid auth token", "user name is empty", "auth store is old")
# gRPC's own refusals with the code of an exhausted resource may concern the answer to a transaction
# that was applied.
_ETCD_PREFIXES = ("etcdserver:", "mvcc:", "auth:")

GATEWAY_OFF = "there is no JSON gateway; etcd runs with --enable-grpc-gateway=false, or this is not etcd"
# Its gateway refuses all requests over such a connection while authentication is on. Source: etcd 3.4
# embed/serve.go.
_COMMON_NAME = b"CommonName of client sending a request against gateway"
_NAMED_CERTIFICATE = (
    "etcd's JSON gateway does not take client certificates with a common name while authentication is on;"
    " use one without"
)
MISFIT = "etcd's answer does not fit the request"


def read_refusal(reply: PostReply, secret: str | None = None) -> GatewayRefusal:
    """Read why the gateway did not answer as asked. What stands in etcd's place may repeat the
    request; the `secret` that was sent is never shown.
    """
    try:
        error = _decode(reply.body)
    except UNREADABLE:
        if reply.body.startswith(_COMMON_NAME):
            return GatewayRefusal(RefusalKind.FORBIDDEN, _NAMED_CERTIFICATE)
        reason = GATEWAY_OFF if reply.status == 404 else f"HTTP status {reply.status} without a message of etcd's"
        return GatewayRefusal(RefusalKind.UNKNOWN, reason)
    text = _without_secret(error.message or error.error, secret)
    if error.code is None:
        return GatewayRefusal(
            RefusalKind.UNKNOWN, _sentence(text) if text else f"HTTP status {reply.status} without an error code"
        )
    return GatewayRefusal(_fate(error.code, text), _sentence(text))


def _without_secret(text: str, secret: str | None) -> str:
    """Return a text, or another one if it has the secret, as it is or as JSON has it."""
    if secret and (secret in text or _encode(secret)[1:-1].decode() in text):
        return "the answer repeats what was sent, so this may not be etcd"
    return text


def refusal_of_text(text: str, secret: str | None = None) -> GatewayRefusal:
    """Read a message without a code, with which a watch ends. The secret is never shown."""
    text = _without_secret(text, secret)
    return GatewayRefusal(_fate(_UNAUTHENTICATED, text) if _names_token(text) else RefusalKind.UNKNOWN, _sentence(text))


def _fate(code: int, text: str) -> RefusalKind:
    if code == _UNAUTHENTICATED or (code == _INVALID_ARGUMENT and _names_token(text)):
        return RefusalKind.NO_TOKEN
    if code == _NOT_FOUND and "lease not found" in text:
        return RefusalKind.NO_LEASE
    if code == _EXHAUSTED:
        return _fate_of_exhausted(text)
    if code == _PERMISSION_DENIED or (code == _INVALID_ARGUMENT and "invalid user ID or password" in text):
        return RefusalKind.FORBIDDEN
    if code == _PRECONDITION and "authentication is not enabled" in text:
        return RefusalKind.NO_AUTH
    return RefusalKind.REFUSED if code == _INVALID_ARGUMENT else RefusalKind.UNKNOWN


def _fate_of_exhausted(text: str) -> RefusalKind:
    if "database space exceeded" in text or "no space" in text:
        return RefusalKind.NO_SPACE
    return RefusalKind.BUSY if text.startswith(_ETCD_PREFIXES) else RefusalKind.UNKNOWN


def _names_token(text: str) -> bool:
    return any(each in text for each in _TOKEN_TEXTS)


def _sentence(text: str) -> str:
    for part, sentence in _SENTENCES:
        if part in text:
            return sentence
    shown = "".join(each if each.isprintable() else " " for each in text[:_MAX_TEXT])
    return f"etcd refuses: {shown.removeprefix('etcdserver: ')}"
