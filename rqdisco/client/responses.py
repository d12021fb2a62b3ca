"""The answers of the service: decoded, and the errors for its refusals."""

from __future__ import annotations

import base64
from typing import TypeVar

import msgspec

from rqdisco.client.documents import LeaderRecord, LeaderValue
from rqdisco.client.errors import ClientError, NotWatchable, Refused, Unavailable, Unreachable
from rqdisco.client.transport import RawResponse

T = TypeVar("T")


class _KVValue(msgspec.Struct, rename={"value": "Value", "index": "ModifyIndex"}):
    """An entry of the key-value store, whose value is in base64."""

    value: str
    index: int


class _GrantReadiness(msgspec.Struct):
    """The answer of /readyz?grant=1."""

    ready: bool
    wrong: tuple[str, ...] = ()


class _ErrorBody(msgspec.Struct):
    error: str
    reason: str = ""


def decode(content: bytes, kind: type[T]) -> T:
    """Decode JSON. Raises Unreachable if it is not of this kind."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unreachable("not a response from rqdisco") from None


def kv_body(response: RawResponse) -> bytes:
    """Return the body of an answer of the key-value store. Raises a subclass of ClientError."""
    if response.status != 200:
        raise _to_client_error(response, response.body.decode("utf-8", "replace").strip().partition("\n")[0])
    return response.body


def leader_record_of(response: RawResponse) -> LeaderRecord | None:
    """Return the leader key of an ID, None without a record or without the ID. Raises a subclass of
    ClientError.
    """
    if response.status == 404:
        return None
    entries = decode(kv_body(response), tuple[_KVValue, ...])
    if not entries:
        return None
    try:
        value = base64.b64decode(entries[0].value, validate=True)
    except ValueError:
        raise Unreachable("not a response from rqdisco: the value is not base64") from None
    return LeaderRecord(value=decode(value, LeaderValue), index=entries[0].index)


def objections_of(response: RawResponse) -> tuple[str, ...]:
    """Return the reasons in an answer of /readyz?grant=1."""
    if response.status != 503:
        return ()
    try:
        readiness = decode(response.body, _GrantReadiness)
    except Unreachable:
        return ()
    return () if readiness.ready else readiness.wrong or ("it tells only admins the reason",)


def _json_error(response: RawResponse) -> str | None:
    try:
        body = decode(response.body, _ErrorBody)
    except Unreachable:
        return None
    return f"{body.error}: {body.reason}" if body.reason else body.error


def check_event_stream(response: RawResponse) -> None:
    """Raise NotWatchable, or another ClientError, unless the response is an event stream."""
    if response.status == 200 and response.content_type.startswith("text/event-stream"):
        return
    if response.status in (200, 404, 405):
        raise NotWatchable("the service does not stream changes")
    raise error_of(response)


def error_of(response: RawResponse) -> ClientError:
    """Return the error for a refusal with a JSON body."""
    return _to_client_error(response, _json_error(response))


def operator_error(response: RawResponse) -> ClientError:
    """Return the error for a refused export or import."""
    if response.status == 404:
        return Refused(404, response.reason, "export and import work only through the daemon's operator socket")
    return error_of(response)


def _to_client_error(response: RawResponse, error: str | None) -> ClientError:
    if response.status in (429, 503):
        return Unavailable(response.status, response.reason, error or "", _seconds(response.retry_after))
    # These come from a proxy that cannot reach rqdisco, or from another service.
    if error is None or response.status < 400 or response.status in (502, 504):
        return Unreachable(f"not a response from rqdisco: {response.status} {response.reason}".rstrip())
    return Refused(response.status, response.reason, error)


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after is not None and retry_after.isdecimal() else None
