"""Answers, and the one place where what went wrong becomes a status, a JSON error and a reason phrase.

rqlited logs the status line and never the body, so the phrase says what is wrong; it never repeats what was sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug.exceptions import HTTPException

from rqdisco.codec import encode_object
from rqdisco.errors import (
    InvalidValue,
    MisleadingAddress,
    NoSuchID,
    Orphaned,
    StoreUnavailable,
    TooManyIDs,
    TooManyNodes,
)

_log = Logger()


class MethodNotAllowed(Exception):
    """The resource has no such method; `allow` lists those it has."""

    def __init__(self, method: str, allow: str) -> None:
        super().__init__(f'unsupported method "{method}"')
        self.allow = allow


class BadBody(Exception):
    """The request's body is not the JSON object that it should be."""


class BodyTooLarge(Exception):
    """The request's body is larger than the operator allows."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What goes back to the client: a JSON body under a status line."""

    status: int
    body: bytes
    reason: bytes = b"OK"
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def put_on(self, request: IRequest) -> bytes:
        """Set status and headers on `request` and return the body."""
        request.setResponseCode(self.status, self.reason)
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"content-length", b"%d" % len(self.body))
        request.setHeader(b"cache-control", b"no-store")
        for name, value in self.headers:
            request.setHeader(name, value)
        return self.body


_RETRY = ((b"retry-after", b"5"),)


def _same_text(status: int) -> Callable[[Exception], Answer]:
    return lambda error: _refusal(status, str(error), str(error))


def _under(status: int, reason: str) -> Callable[[Exception], Answer]:
    return lambda error: _refusal(status, str(error), reason)


def _method_not_allowed(error: Any) -> Answer:
    return _refusal(405, str(error), "Method Not Allowed", ((b"allow", error.allow.encode()),))


def _invalid_value(error: Any) -> Answer:
    return _refusal(400, str(error), f"invalid {error.what}")


def _unavailable(error: Any) -> Answer:
    return _refusal(503, "store unavailable", f"store unavailable: {error.reason}", _RETRY, detail=error.reason)


_ANSWERS: dict[type[BaseException], Callable[[Any], Answer]] = {
    NoSuchID: _under(404, "no such discovery ID"),
    MethodNotAllowed: _method_not_allowed,
    BadBody: _same_text(400),
    InvalidValue: _invalid_value,
    MisleadingAddress: _same_text(400),
    TooManyNodes: _under(409, "too many nodes"),
    Orphaned: _under(410, "lost its home, mint a new ID"),
    BodyTooLarge: _same_text(413),
    StoreUnavailable: _unavailable,
    TooManyIDs: lambda error: _refusal(503, str(error), str(error), _RETRY),
    CancelledError: lambda _: _unavailable(StoreUnavailable("not decided in time")),
    HTTPException: lambda _: _refusal(400, "bad request", "bad request"),
}


def answer_to(failure: Failure) -> Answer:
    """The answer to a request that failed. What nobody foresaw is logged, and answered by 500."""
    for kind, answer in _ANSWERS.items():
        if isinstance(failure.value, kind):
            return answer(failure.value)
    _log.failure("request failed", failure)
    return _refusal(500, "internal error", "internal error")


def _refusal(
    status: int,
    error: str,
    reason: str,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    *,
    detail: str | None = None,
) -> Answer:
    members = {"error": error} if detail is None else {"error": error, "reason": detail}
    return Answer(status, encode_object(members), reason.encode(), headers)
