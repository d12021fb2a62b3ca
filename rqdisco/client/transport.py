"""One request and its answer over treq: bounded in time and size, and whatever goes wrong is said
in one line.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, NoReturn, TypeVar

import msgspec
from OpenSSL import SSL
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http import PotentialDataLoss

from rqdisco.client.errors import Unreachable
from rqdisco.client.urls import ServiceURL

T = TypeVar("T")

MAX_ANSWER = 64 << 20
_AHEAD = 256 << 10
_WRAPPERS = (RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed, ResponseNeverReceived)
_NETWORK = (
    *_WRAPPERS,
    ConnectError,
    ConnectionClosed,
    ConnectingCancelledError,
    DNSLookupError,
    SSL.Error,
    socket.gaierror,
)


class RawResponse(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP answer as it came."""

    status: int
    reason: str
    retry_after: str | None
    content_type: str = ""
    body: bytes = b""


class Transport:
    """Sends requests to one service. `timeout` is in seconds: for an answer, and for each silence
    of a stream.

    A `token` goes along with every request; where the URL has credentials too, in Consul's header.

    Every method raises Unreachable.
    """

    def __init__(
        self, http: HTTPClient, target: ServiceURL, clock: IReactorTime, timeout: float, token: str | None = None
    ) -> None:
        self._http: Any = http
        self._target = target
        self._clock = clock
        self._timeout = timeout
        self._credentials: dict[str | bytes, str | bytes] = {}
        if target.authorization is not None:
            self._credentials["Authorization"] = target.authorization
        if token is not None:
            header, value = ("X-Consul-Token", token) if self._credentials else ("Authorization", f"Bearer {token}")
            self._credentials[header] = value

    async def exchange(self, method: str, path: str, body: bytes | None = None) -> RawResponse:
        """Send a request and read the whole answer."""
        return await self._in_time(self._exchange(method, path, body))

    async def stream(
        self, path: str, accept: str = "application/json", silence: float | None = None
    ) -> AsyncGenerator[RawResponse | bytes, None]:
        """The answer to a GET: head first, then its body in pieces if the status is 200, else the
        head has it all.

        `silence` is in seconds, how long nothing may come if not `timeout`.
        """
        head, reader = await self._in_time(self._send("GET", path, None, accept))
        try:
            if head.status != 200:
                yield await self._in_time(_completed(head, reader))
                return
            yield head
            while part := await self._in_time(reader.take(), silence):
                yield part
        finally:
            reader.close()

    async def _exchange(self, method: str, path: str, body: bytes | None) -> RawResponse:
        head, reader = await self._send(method, path, body)
        return await _completed(head, reader)

    async def _send(
        self, method: str, path: str, body: bytes | None, accept: str = "application/json"
    ) -> tuple[RawResponse, _BodyReader]:
        headers: dict[str | bytes, str | bytes] = {"Accept": accept, **self._credentials}
        if body is not None:
            headers["Content-Type"] = "application/json"
        response = await self._http.request(
            method,
            self._target.url(path),
            headers=headers,
            data=body,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._clock,
        )
        reader = _BodyReader()
        response.deliverBody(reader)
        retry_after = response.headers.getRawHeaders("retry-after")
        content_type = response.headers.getRawHeaders("content-type")
        head = RawResponse(
            status=response.code,
            reason=response.phrase.decode("utf-8", "replace"),
            retry_after=retry_after[0] if retry_after else None,
            content_type=content_type[0] if content_type else "",
        )
        return head, reader

    async def _in_time(self, work: Coroutine[Any, Any, T], seconds: float | None = None) -> T:
        try:
            within = self._timeout if seconds is None else seconds
            return await Deferred.fromCoroutine(work).addTimeout(within, self._clock, _out_of_time)
        except _NETWORK as error:
            raise Unreachable(_in_words(error)) from error


class _BodyReader(Protocol):
    """Takes the body of one answer in, and holds its sender back while nobody asks for more."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._pending = 0
        self._end: Failure | None = None
        self._waiting: Deferred[None] | None = None

    def dataReceived(self, data: bytes) -> None:
        self._parts.append(data)
        self._pending += len(data)
        if self._pending > _AHEAD:
            self._transport("pauseProducing")
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end = reason
        self._wake()

    async def take(self) -> bytes:
        """What has come since the last call, waiting for something to come; nothing at the end."""
        while not self._parts and self._end is None:
            self._waiting = Deferred()
            await self._waiting
        if self._parts:
            taken = b"".join(self._parts)
            self._parts.clear()
            if self._pending > _AHEAD:
                self._transport("resumeProducing")
            self._pending = 0
            return taken
        assert self._end is not None
        self._end.trap(ResponseDone, PotentialDataLoss)
        return b""

    def close(self) -> None:
        """Let the connection go if there is more to come."""
        if self._end is None:
            self._transport("loseConnection")

    def _transport(self, action: str) -> None:
        if self.transport is not None:
            getattr(self.transport, action)()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)


async def _completed(head: RawResponse, reader: _BodyReader) -> RawResponse:
    """The answer with its whole body. Raises Unreachable where that is longer than any of
    rqdisco.
    """
    parts = []
    size = 0
    try:
        while part := await reader.take():
            parts.append(part)
            size += len(part)
            if size > MAX_ANSWER:
                raise Unreachable("not an answer of rqdisco: it is too long")
    finally:
        reader.close()
    return msgspec.structs.replace(head, body=b"".join(parts))


def _out_of_time(_: object, seconds: float) -> NoReturn:
    raise Unreachable(f"no answer within {seconds:g} s")


def _in_words(error: Exception) -> str:
    """Why there was no answer. Raises CancelledError where it was our own caller who gave up."""
    causes = [reason.value for reason in getattr(error, "reasons", ()) or ()]
    if isinstance(error, ConnectingCancelledError) or any(isinstance(cause, CancelledError) for cause in causes):
        raise CancelledError from error
    cause = causes[0] if causes else error
    if isinstance(cause, DNSLookupError):
        return "its host name is not known"
    if isinstance(cause, socket.gaierror):
        # Names are asked for elsewhere: this is an address, and what is not known is its zone.
        return "there is no such network interface"
    if isinstance(cause, ConnectionClosed):
        return "the connection was closed before all of the answer came"
    if isinstance(cause, ConnectError):
        return os.strerror(cause.osError) if isinstance(cause.osError, int) else str(cause).rstrip(".")
    if isinstance(cause, SSL.Error):
        return f"TLS: {', '.join(str(entry[-1]) for entry in cause.args[0]) if cause.args else 'refused'}"
    return f"{type(cause).__name__}: {cause}"
