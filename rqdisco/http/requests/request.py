"""The request as handlers use it, and functions that read it."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Protocol
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProducer, ITCPTransport
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource

from rqdisco.telemetry.counters import Route


class Stream(Protocol):
    """A response that goes on until it is ended."""

    def end(self) -> None:
        """Finish the response."""


class Request(Protocol):
    """The part of `BoundedRequest` that handlers use; most of it is Twisted's `Request`.

    `route` is what the request is counted as, `stream` the response if it is an endless one;
    `charge` charges the client units of the rate limit (`costs`) for what goes on later. The
    channel of a request whose client is gone is None (Twisted's Request.connectionLost).
    """

    method: bytes
    uri: bytes
    path: bytes
    args: dict[bytes, list[bytes]]
    clientproto: bytes
    content: BytesIO
    requestHeaders: Headers
    responseHeaders: Headers
    client: IAddress
    prepath: list[bytes]
    postpath: list[bytes]
    transport: ITCPTransport
    route: Route | None
    stream: Stream | None
    charge: Callable[[float], None]

    @property
    def site(self) -> object: ...

    @property
    def channel(self) -> object: ...

    def getHeader(self, key: bytes, /) -> bytes | None: ...
    def setHeader(self, name: bytes, value: bytes, /) -> None: ...
    def setResponseCode(self, code: int, message: bytes | None = None, /) -> None: ...
    def getClientAddress(self) -> IAddress: ...
    def getHost(self) -> IAddress: ...
    def isSecure(self) -> bool: ...
    def notifyFinish(self) -> Deferred[None]: ...
    def registerProducer(self, producer: IProducer, streaming: bool, /) -> None: ...
    def unregisterProducer(self) -> None: ...
    def write(self, data: bytes, /) -> None: ...
    def finish(self) -> None: ...
    def render(self, resource: IResource, /) -> None: ...
    def processingFailed(self, reason: Failure, /) -> object: ...


def charge_nothing(units: float) -> None:
    """Charge a client that is not limited."""


def client_ip(request: Request) -> str | None:
    """The IP address of the client; None if it uses a UNIX socket."""
    return getattr(request.getClientAddress(), "host", None)


def method_of(request: Request) -> str:
    """The method, safe to show."""
    return str(request.method, "ascii", "replace")


def path_of(request: Request) -> str:
    """The path without its first slash, safe to show."""
    return str(request.path[1:], "utf-8", "replace")


def decoded_path(request: Request) -> bytes:
    """The path without its percent-escapes, as Klein reads it: an escaped slash is a slash."""
    path = request.path
    return unquote_to_bytes(path) if b"%" in path else path


def is_consul_path(request: Request) -> bool:
    """Report whether the path belongs to the consul-kv API, whose errors are text."""
    return request.path.lstrip(b"/").startswith(b"v1/")


def has_flag(request: Request, name: bytes) -> bool:
    """Report whether the query string contains `name` or `name=1`."""
    return name in request.args and request.args[name][-1] in (b"", b"1")
