"""Answers, and the one place where what went wrong becomes a status, a text and a reason phrase.

rqlited logs the status line and never a JSON body, so the phrase says what is wrong; it never
repeats what was sent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug.exceptions import HTTPException

from rqdisco.core.errors import (
    AlreadyKnown,
    AmbiguousName,
    CannotSucceed,
    ForeignHost,
    InvalidValue,
    MisleadingAddress,
    NoSuchID,
    NotAllowed,
    NotAuthenticated,
    Ownerless,
    StoreUnavailable,
    TooManyCreations,
    TooManyIDs,
    TooManyNodes,
    TooManyRequests,
    TooManyWatchers,
    Undecided,
    UnknownCreatedID,
    WrongHost,
)
from rqdisco.http.requests.documents import encode_object

_log = Logger()

Headers = tuple[tuple[bytes, bytes], ...]


class BadRequest(Exception):
    """The request is not one of this door's; the text says why."""


class BadBatch(Exception):
    """What was to be imported is no batch of records; the text says why, and may repeat what was
    sent.
    """


class NotFound(Exception):
    """There is nothing under that path; the text, if any, says what there could be."""


class Forbidden(Exception):
    """The request is understood, and not allowed here."""


class BodyTooLarge(Exception):
    """The request's body is larger than the operator allows."""


class MethodNotAllowed(Exception):
    """The resource has no such method; `allow` lists those it has."""

    def __init__(self, text: str, allow: str) -> None:
        super().__init__(text)
        self.allow = allow


class Response(msgspec.Struct, frozen=True, gc=False):
    """What goes back to the client: a body under a status line."""

    status: int
    body: bytes
    reason: bytes = b"OK"
    headers: Headers = ()
    content_type: bytes = b"application/json"

    def put_on(self, request: IRequest) -> bytes:
        """Set status and headers on `request` and return the body."""
        request.setResponseCode(self.status, self.reason)
        request.setHeader(b"content-type", self.content_type)
        request.setHeader(b"content-length", b"%d" % len(self.body))
        request.setHeader(b"cache-control", b"no-store")
        for name, value in self.headers:
            request.setHeader(name, value)
        return self.body


class Refusal(msgspec.Struct, frozen=True):
    """What is said of a request that failed. `detail` is more than the text tells, where there is
    more.
    """

    status: int
    text: str
    reason: str
    headers: Headers = ()
    detail: str | None = None

    def as_json(self) -> Response:
        """For clients of the discovery API."""
        members = {"error": self.text} if self.detail is None else {"error": self.text, "reason": self.detail}
        return Response(self.status, encode_object(members), self.reason.encode(), self.headers)

    def as_text(self) -> Response:
        """For clients of Consul's API: one line, which rqlited logs in parentheses."""
        return Response(
            self.status, self.text.encode(), self.reason.encode(), self.headers, b"text/plain; charset=utf-8"
        )


_CHALLENGE: Headers = ((b"www-authenticate", b'Basic realm="rqdisco", charset="UTF-8"'),)
_RETRY: Headers = ((b"retry-after", b"5"),)


def _same_text(status: int) -> Callable[[Exception], Refusal]:
    return lambda error: Refusal(status, str(error), str(error))


def _under(status: int, reason: str) -> Callable[[Exception], Refusal]:
    return lambda error: Refusal(status, str(error), reason)


def _method_not_allowed(error: Any) -> Refusal:
    return Refusal(405, str(error), "Method Not Allowed", ((b"allow", error.allow.encode()),))


def _undecided(error: Any) -> Refusal:
    return Refusal(503, error.reason, error.reason, _RETRY)


def _unavailable(error: Any) -> Refusal:
    return Refusal(503, "store unavailable", f"store unavailable: {error.reason}", _RETRY, detail=error.reason)


def _again_in(status: int) -> Callable[[Any], Refusal]:
    return lambda error: Refusal(
        status, str(error), "too many requests", ((b"retry-after", b"%d" % max(1, math.ceil(error.seconds))),)
    )


_REFUSALS: dict[type[BaseException], Callable[[Any], Refusal]] = {
    NotAuthenticated: lambda error: Refusal(401, str(error), str(error), _CHALLENGE),
    NotAllowed: _under(403, "token may not do this"),
    UnknownCreatedID: lambda error: Refusal(404, error.why, "no such discovery ID"),
    NoSuchID: _under(404, "no such discovery ID"),
    MethodNotAllowed: _method_not_allowed,
    BadRequest: _same_text(400),
    BadBatch: lambda error: Refusal(400, f"bad request body: {error}"[:500], "bad request body"),
    InvalidValue: lambda error: Refusal(400, str(error), f"invalid {error.what}"),
    MisleadingAddress: _same_text(400),
    NotFound: _under(404, "Not Found"),
    Forbidden: _under(403, "Forbidden"),
    ForeignHost: _under(403, "Host is not this machine, see --host"),
    CannotSucceed: _under(409, "no successor now"),
    TooManyNodes: _under(409, "too many nodes"),
    AlreadyKnown: _under(409, "exists already"),
    WrongHost: _same_text(409),
    AmbiguousName: _under(409, "ambiguous name"),
    Ownerless: _under(410, "lost its home, mint a new ID"),
    BodyTooLarge: _under(413, "request body too large"),
    Undecided: _undecided,
    StoreUnavailable: _unavailable,
    TooManyIDs: lambda error: Refusal(503, str(error), str(error), _RETRY),
    TooManyWatchers: lambda error: Refusal(503, str(error), "too many watchers", _RETRY),
    TooManyCreations: _again_in(429),
    TooManyRequests: _again_in(503),
    CancelledError: lambda _: _unavailable(StoreUnavailable("not decided in time")),
    HTTPException: lambda _: Refusal(400, "bad request", "bad request"),
}


_REASONS: dict[type[BaseException], str] = {
    NotAuthenticated: "not_authenticated",
    NotAllowed: "not_allowed",
    NoSuchID: "no_such_id",
    MethodNotAllowed: "method",
    BadRequest: "bad_request",
    BadBatch: "bad_request",
    InvalidValue: "invalid_value",
    MisleadingAddress: "misleading_address",
    NotFound: "not_found",
    Forbidden: "forbidden",
    ForeignHost: "foreign_host",
    CannotSucceed: "no_successor",
    TooManyNodes: "too_many_nodes",
    AlreadyKnown: "exists_already",
    WrongHost: "another_machine",
    AmbiguousName: "ambiguous_name",
    Ownerless: "ownerless",
    BodyTooLarge: "body_too_large",
    Undecided: "undecided",
    StoreUnavailable: "disk",
    TooManyIDs: "too_many_ids",
    TooManyWatchers: "too_many_watchers",
    TooManyRequests: "too_many_requests",
    CancelledError: "too_late",
    HTTPException: "bad_request",
}


def reason_of(failure: Failure) -> str:
    """What a request failed for, in one of a few words, to count it by."""
    return next((reason for kind, reason in _REASONS.items() if isinstance(failure.value, kind)), "fault")


def refusal_of(failure: Failure) -> Refusal:
    """What to say of a request that failed. What nobody foresaw is logged, and answered by 500."""
    for kind, refusal in _REFUSALS.items():
        if isinstance(failure.value, kind):
            return refusal(failure.value)
    _log.failure("request failed", failure)
    return Refusal(500, "internal error", "internal error")
