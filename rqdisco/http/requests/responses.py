"""Responses, and the one place where an exception becomes a status, a text and a reason phrase.

rqlited logs the status line and never a JSON body, so the reason phrase names the problem. It never
repeats input.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure

from rqdisco.core.errors import (
    AlreadyFrozen,
    AmbiguousName,
    EtcdDenied,
    EtcdFull,
    EtcdUnavailable,
    Frozen,
    HostNotAllowed,
    IDExists,
    ImportConflict,
    InvalidValue,
    LoopbackConflict,
    MisleadingAddress,
    NoSuccessor,
    NoSuchID,
    NotAllowed,
    NotAuthenticated,
    Ownerless,
    StoreUnavailable,
    TooBusy,
    TooManyCreations,
    TooManyIDs,
    TooManyNodes,
    TooManyRequests,
    TooManyWatchers,
    Undecided,
    UnknownCreatedID,
)
from rqdisco.http.requests.documents import encode_object

_log = Logger()

Headers = tuple[tuple[bytes, bytes], ...]

TEXT_PLAIN = b"text/plain; charset=utf-8"
_MAX_PHRASE = 500


class BadRequest(Exception):
    """The request is invalid for this API; the text gives the reason."""


class BadBatch(Exception):
    """The body of an import is not a batch of records; the text gives the reason, and may repeat
    input.
    """


class NotFound(Exception):
    """There is nothing at this path; the text, if any, names what could be there."""


class Forbidden(Exception):
    """The request is understood, but not allowed here."""


class BodyTooLarge(Exception):
    """The request's body is larger than the operator allows."""


class MethodNotAllowed(Exception):
    """The resource does not support the method; `allow` lists those that it does."""

    def __init__(self, text: str, allow: str) -> None:
        super().__init__(text)
        self.allow = allow


class Response(msgspec.Struct, frozen=True, gc=False):
    """A status line, headers and a body. Without `cache-control` among the headers the response may
    not be stored. The length of the body of a HEAD request's response may be unknown.
    """

    status: int
    body: bytes
    reason: bytes = b"OK"
    headers: Headers = ()
    content_type: bytes = b"application/json"
    is_length_known: bool = True


class StreamedResponse(Response, frozen=True, kw_only=True, gc=True):
    """A response of unknown length, which `begin` starts to send."""

    status: int = 200
    body: bytes = b""
    begin: Callable[[], None]


class ErrorDocument(msgspec.Struct, frozen=True):
    """An error. If `error` is `store unavailable`, `reason` is the reason, and nothing was
    changed.
    """

    error: str
    reason: str | UnsetType = UNSET


class Refusal(msgspec.Struct, frozen=True):
    """The response to a failed request, before an API formats it. `detail` adds to `text`."""

    status: int
    text: str
    reason: str
    headers: Headers = ()
    detail: str | None = None

    def as_json(self) -> Response:
        """Format for clients of the discovery API."""
        document = ErrorDocument(self.text, UNSET if self.detail is None else self.detail)
        return Response(self.status, encode_object(document), _phrase(self.reason), self.headers)

    def as_text(self) -> Response:
        """Format for clients of Consul's API: one line, which rqlited logs in parentheses."""
        return Response(self.status, self.text.encode(), _phrase(self.reason), self.headers, TEXT_PLAIN)


def _phrase(reason: str) -> bytes:
    """Return a reason phrase, which is part of a line; other programs may have written the text."""
    if len(reason) > _MAX_PHRASE or not reason.isprintable():
        reason = "".join(each if each.isprintable() else " " for each in reason[:_MAX_PHRASE])
    return reason.encode()


class _ErrorKind(msgspec.Struct, frozen=True):
    """The metric label and the answer for exceptions of one class."""

    label: str
    # Any: each function accepts the class that it is listed under, or a base of it.
    refusal: Callable[[Any], Refusal]


_CHALLENGE: Headers = ((b"www-authenticate", b'Basic realm="rqdisco", charset="UTF-8"'),)
_RETRY: Headers = ((b"retry-after", b"5"),)


def _same_text(status: int, headers: Headers = ()) -> Callable[[Exception], Refusal]:
    """The exception's text is the reason phrase, too."""
    return lambda error: Refusal(status, str(error), str(error), headers)


def _with_reason(status: int, reason: str, headers: Headers = ()) -> Callable[[Exception], Refusal]:
    return lambda error: Refusal(status, str(error), reason, headers)


def _unavailable(error: StoreUnavailable) -> Refusal:
    return Refusal(503, "store unavailable", f"store unavailable: {error.reason}", _RETRY, detail=error.reason)


def _retry_later(status: int) -> Callable[[TooManyRequests], Refusal]:
    return lambda error: Refusal(
        status, str(error), "too many requests", ((b"retry-after", b"%d" % max(1, math.ceil(error.seconds))),)
    )


# The first class that matches counts, so subclasses stand before their bases.
_ERROR_KINDS: dict[type[BaseException], _ErrorKind] = {
    NotAuthenticated: _ErrorKind("not_authenticated", _same_text(401, _CHALLENGE)),
    NotAllowed: _ErrorKind("not_allowed", _with_reason(403, "token may not do this")),
    UnknownCreatedID: _ErrorKind("no_such_id", lambda error: Refusal(404, error.why, "no such discovery ID")),
    NoSuchID: _ErrorKind("no_such_id", _with_reason(404, "no such discovery ID")),
    MethodNotAllowed: _ErrorKind(
        "method", lambda error: Refusal(405, str(error), "Method Not Allowed", ((b"allow", error.allow.encode()),))
    ),
    BadRequest: _ErrorKind("bad_request", _same_text(400)),
    BadBatch: _ErrorKind(
        "bad_request", lambda error: Refusal(400, f"bad request body: {error}"[:500], "bad request body")
    ),
    InvalidValue: _ErrorKind("invalid_value", lambda error: Refusal(400, str(error), f"invalid {error.what}")),
    MisleadingAddress: _ErrorKind("misleading_address", _same_text(400)),
    NotFound: _ErrorKind("not_found", _with_reason(404, "Not Found")),
    Forbidden: _ErrorKind("forbidden", _with_reason(403, "Forbidden")),
    HostNotAllowed: _ErrorKind("foreign_host", _with_reason(403, "Host is not this machine, see --host")),
    NoSuccessor: _ErrorKind("no_successor", _with_reason(409, "no successor now")),
    AlreadyFrozen: _ErrorKind("already_frozen", _with_reason(409, "already frozen")),
    TooManyNodes: _ErrorKind("too_many_nodes", _with_reason(409, "too many nodes")),
    IDExists: _ErrorKind("exists_already", _with_reason(409, "exists already")),
    ImportConflict: _ErrorKind("exists_already", _with_reason(409, "exists already")),
    LoopbackConflict: _ErrorKind("another_machine", _same_text(409)),
    AmbiguousName: _ErrorKind("ambiguous_name", _with_reason(409, "ambiguous name")),
    Ownerless: _ErrorKind("ownerless", _with_reason(410, "no owner, create a new ID")),
    BodyTooLarge: _ErrorKind("body_too_large", _with_reason(413, "request body too large")),
    Frozen: _ErrorKind("frozen", lambda error: Refusal(503, error.reason, error.reason, _RETRY)),
    Undecided: _ErrorKind("undecided", lambda error: Refusal(503, error.reason, error.reason, _RETRY)),
    EtcdFull: _ErrorKind("etcd_full", _unavailable),
    EtcdDenied: _ErrorKind("etcd_denied", _unavailable),
    EtcdUnavailable: _ErrorKind("etcd", _unavailable),
    StoreUnavailable: _ErrorKind("disk", _unavailable),
    TooManyIDs: _ErrorKind("too_many_ids", _same_text(503, _RETRY)),
    TooManyWatchers: _ErrorKind("too_many_watchers", _with_reason(503, "too many watchers", _RETRY)),
    TooBusy: _ErrorKind("too_busy", _with_reason(503, "too busy", _RETRY)),
    TooManyCreations: _ErrorKind("too_many_requests", _retry_later(429)),
    TooManyRequests: _ErrorKind("too_many_requests", _retry_later(503)),
    CancelledError: _ErrorKind("too_late", lambda _: _unavailable(StoreUnavailable("not decided in time"))),
}


def _error_kind(failure: Failure) -> _ErrorKind | None:
    return next((kind for error, kind in _ERROR_KINDS.items() if isinstance(failure.value, error)), None)


def label_of(failure: Failure) -> str:
    """Return one of a few labels to count a failed request by."""
    kind = _error_kind(failure)
    return "fault" if kind is None else kind.label


def refusal_of(failure: Failure) -> Refusal:
    """Return the refusal of a failed request. An unexpected exception is logged and answered
    with 500.
    """
    kind = _error_kind(failure)
    if kind is not None:
        return kind.refusal(failure.value)
    _log.failure("request failed", failure)
    return Refusal(500, "internal error", "internal error")
