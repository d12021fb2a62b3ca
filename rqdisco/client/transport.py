"""The HTTP transport of DiscoveryClient: over treq, bounded in time and size, with every failure
of the network as an Unreachable of one line.
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

MAX_BODY = 64 << 20
_READ_AHEAD = 256 << 10
# In OpenSSL's words: what came was no TLS.
_NO_TLS = "wrong version number"
_NETWORK_ERRORS = (
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
    ConnectError,
    ConnectionClosed,
    ConnectingCancelledError,
    DNSLookupError,
    SSL.Error,
    socket.gaierror,
)


class RawResponse(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP response, with the body undecoded."""

    status: int
    reason: str
    retry_after: str | None
    content_type: str
    body: bytes = b""


class Transport:
    """Send requests to one service.

    `timeout` is in seconds: for a whole response, and for each pause of a stream. `token` is sent
    with every request, in Consul's header if the URL has credentials too.

    Every method raises Unreachable.
    """

    def __init__(
        self, http: HTTPClient, target: ServiceURL, clock: IReactorTime, timeout: float, token: str | None = None
    ) -> None:
        # treq's type requires a reactor that connects, but treq only uses it for its own timeout.
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

    async def request(self, method: str, path: str, body: bytes | None = None) -> RawResponse:
        """Send a request and read the whole response."""

        async def send_and_read() -> RawResponse:
            return await _read_all(*await self._send(method, path, body))

        return await self._within(send_and_read(), self._timeout)

    async def stream(
        self,
        path: str,
        accept: str = "application/json",
        max_pause: float | None = None,
        max_wait: float | None = None,
    ) -> AsyncGenerator[RawResponse | bytes, None]:
        """Send a GET request and yield the response, then its body in chunks if the status is 200.
        A response of another status is yielded whole.

        `max_pause` is how many seconds may pass between chunks, `max_wait` how many before the
        response, both by default `timeout`.
        """
        wait = self._timeout if max_wait is None else max_wait
        response, body = await self._within(self._send("GET", path, None, accept), wait)
        try:
            if response.status != 200:
                yield await self._within(_read_all(response, body), self._timeout)
                return
            yield response
            while chunk := await self._within(body.read(), self._timeout if max_pause is None else max_pause):
                yield chunk
        finally:
            body.close()

    async def _send(
        self, method: str, path: str, body: bytes | None, accept: str = "application/json"
    ) -> tuple[RawResponse, _Body]:
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
        reader = _Body()
        response.deliverBody(reader)
        head = RawResponse(
            status=response.code,
            reason=response.phrase.decode("utf-8", "replace"),
            retry_after=response.headers.getRawHeaders("retry-after", [None])[0],
            content_type=response.headers.getRawHeaders("content-type", [""])[0],
        )
        return head, reader

    async def _within(self, work: Coroutine[Deferred[object], object, T], seconds: float) -> T:
        try:
            return await Deferred.fromCoroutine(work).addTimeout(seconds, self._clock, _raise_unreachable)
        except _NETWORK_ERRORS as error:
            raise Unreachable(f"{_describe_failure(error)}{_other_scheme(error, self._target)}") from error


class _Body(Protocol):
    """The body of one response, read on demand. treq only pushes bodies (`treq.collect`); this one
    pauses the sender while nothing is read.
    """

    # Twisted has no type for the transport of a body. It is set before anything is received.
    transport: Any

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self._end: Failure | None = None
        self._reader: Deferred[None] | None = None

    def dataReceived(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        if self._size > _READ_AHEAD:
            self.transport.pauseProducing()
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end = reason
        self._wake()

    async def read(self) -> bytes:
        """Wait for data and return what has arrived; nothing at the end."""
        while not self._chunks and self._end is None:
            self._reader = Deferred()
            await self._reader
        if not self._chunks and self._end is not None:
            self._end.trap(ResponseDone, PotentialDataLoss)
        data = b"".join(self._chunks)
        self._chunks.clear()
        if self._size > _READ_AHEAD:
            self.transport.resumeProducing()
        self._size = 0
        return data

    def close(self) -> None:
        """Drop the connection unless the body has ended."""
        if self._end is None:
            self.transport.loseConnection()

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(None)


async def _read_all(response: RawResponse, body: _Body) -> RawResponse:
    """Return the response with its body. Raises Unreachable if the body is longer than
    rqdisco ever sends.
    """
    content = bytearray()
    try:
        while chunk := await body.read():
            content += chunk
            if len(content) > MAX_BODY:
                raise Unreachable("not a response from rqdisco: it is too long")
    finally:
        body.close()
    return msgspec.structs.replace(response, body=bytes(content))


def _raise_unreachable(_: object, seconds: float) -> NoReturn:
    raise Unreachable(f"no response within {seconds:g} s")


def _other_scheme(error: Exception, target: ServiceURL) -> str:
    """Return a hint at the other scheme where the port may not speak that of the URL."""
    if not isinstance(error, ResponseNeverReceived) or target.socket is not None or not error.reasons:
        return ""
    cause = error.reasons[0].value
    is_tls = target.base.startswith("https:")
    if isinstance(cause, ConnectionClosed) or (isinstance(cause, SSL.Error) and _NO_TLS in str(cause)):
        return (
            "; if the port speaks HTTP without TLS, use http://" if is_tls else "; if the port speaks TLS, use https://"
        )
    return ""


def _describe_failure(error: Exception) -> str:
    """Return why there was no response. Raises CancelledError if the caller gave up."""
    causes = [reason.value for reason in getattr(error, "reasons", ()) or ()]
    if isinstance(error, ConnectingCancelledError) or any(isinstance(cause, CancelledError) for cause in causes):
        raise CancelledError from error
    cause = causes[0] if causes else error
    if isinstance(cause, DNSLookupError):
        return "unknown host name"
    if isinstance(cause, socket.gaierror):
        # Names are resolved elsewhere: this is an address with an unknown zone.
        return "no such network interface"
    if isinstance(cause, ConnectionClosed):
        return "the connection was closed before the response was complete"
    if isinstance(cause, ConnectError):
        return os.strerror(cause.osError) if isinstance(cause.osError, int) else str(cause).rstrip(".")
    if isinstance(cause, SSL.Error):
        return f"TLS: {', '.join(str(entry[-1]) for entry in cause.args[0]) if cause.args else 'refused'}"
    return f"{type(cause).__name__}: {cause}"
