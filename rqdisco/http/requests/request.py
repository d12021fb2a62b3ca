"""A request, as the server hands it to an application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from urllib.parse import unquote_to_bytes

from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure

from rqdisco.http.requests.responses import Headers, Response
from rqdisco.http.server.forwarded import ForwardedClient
from rqdisco.telemetry.counters import Route

# Names in lower case, in the order in which they were sent.
RequestHeaders = list[tuple[bytes, bytes]]

_log = Logger()


class Stream(Protocol):
    """A response that goes on until it is ended."""

    def end(self) -> None:
        """Finish the response."""


class PendingAnswer(Protocol):
    """An answer that is not there yet."""

    def cancel(self) -> None:
        """Give up: the client is gone."""

    def hold_results(self) -> None:
        """Note that the client has closed its end, and may be gone."""

    def release_results(self) -> None:
        """Note that the client is still there."""


class ClientConnection(Protocol):
    """The connection that a request arrived on.

    `client` is the IP address of the client, None for a UNIX socket or if the proxy does not name
    it; `local_host` is the address that the client connected to. `proxy` is the same pair for the
    connection of a trusted proxy, None if no proxy is known. Unless `knows_client`, the proxy does
    not know the client, and `client` is the proxy.
    """

    client: str | None
    local_host: str | None
    knows_client: bool
    is_secure: bool

    @property
    def proxy(self) -> tuple[str | None, str | None] | None: ...

    @property
    def is_draining(self) -> bool: ...

    def respond(self, request: Request, response: Response) -> None: ...
    def start(self, request: Request, response: Response) -> None: ...
    def write(self, data: bytes) -> None: ...
    def finish(self, request: Request) -> None: ...
    def produce(self, producer: IPushProducer) -> None: ...
    def fail(self, request: Request, failure: Failure) -> None: ...
    def abort(self) -> None: ...


def charge_nothing(units: float) -> None:
    """Charge a client that is not limited."""


class Request:
    """A request whose head is complete; `body` is complete when an application handles it.

    `target` is as the client sent it; `path` begins with a slash, even for an absolute target (RFC
    9112 section 3.2.2). `body` is cut, and `is_body_too_large` set, if there is more than the
    application allows, `max_body` bytes. `route` is what the request is counted as, `stream` the
    response if it is an endless one, `status` the status of the response once it is sent. `since`
    is when the request was complete, in seconds of a monotonic clock. `charge` charges the client
    units of its rate limit (`costs`) for what the request does later. `forwarded` is what a trusted
    proxy says of the client, None for a request that comes from no such proxy.
    """

    __slots__ = (
        "_abandoned",
        "_answer",
        "_parameters",
        "added",
        "body",
        "charge",
        "client",
        "connection",
        "forwarded",
        "handler",
        "headers",
        "is_body_too_large",
        "is_chunked",
        "is_finished",
        "is_gone",
        "is_half_closed",
        "max_body",
        "method",
        "path",
        "producer",
        "query",
        "route",
        "since",
        "status",
        "stream",
        "target",
        "version",
    )

    def __init__(
        self,
        connection: ClientConnection,
        method: bytes,
        target: bytes,
        headers: RequestHeaders,
        version: bytes = b"1.1",
    ) -> None:
        self.connection = connection
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
        path, _, self.query = target.partition(b"?")
        self.path = path if path.startswith(b"/") else _path_of_target(path)
        self.body = b""
        self.max_body = 0
        self.client = connection.client
        self.forwarded: ForwardedClient | None = None
        self.route: Route | None = None
        # What the application found for the request, if it keeps anything.
        self.handler: object = None
        self.stream: Stream | None = None
        self.charge: Callable[[float], None] = charge_nothing
        self.since = 0.0
        self.status = 0
        self.is_body_too_large = self.is_chunked = self.is_finished = self.is_gone = self.is_half_closed = False
        self.producer: IPushProducer | None = None
        self.added: list[tuple[bytes, bytes]] | None = None
        self._abandoned: list[Callable[[], object]] | None = None
        self._answer: PendingAnswer | None = None
        self._parameters: dict[bytes, list[bytes]] | None = None

    def header(self, name: bytes) -> bytes | None:
        """Return the last value of a header, whose name is in lower case; None if there is none."""
        found = None
        for each, value in self.headers:
            if each == name:
                found = value
        return found

    def headers_named(self, name: bytes) -> list[bytes]:
        """Return all values of a header, whose name is in lower case."""
        return [value for each, value in self.headers if each == name]

    def parameters(self) -> dict[bytes, list[bytes]]:
        """Return the parameters of the query string."""
        if self._parameters is None:
            self._parameters = parse_query(self.query)
        return self._parameters

    def add_header(self, name: bytes, value: bytes) -> None:
        """Set a header of the response, besides those that the response has."""
        added = [] if self.added is None else [each for each in self.added if each[0] != name]
        self.added = [*added, (name, value)]

    def respond(self, response: Response) -> None:
        """Send the whole response. Nothing is sent to a client that is gone."""
        if not self.is_gone:
            self.connection.respond(self, response)

    def answer(self, status: int, reason: bytes, body: bytes, headers: Headers = ()) -> None:
        """Send a whole response without a content type."""
        self.respond(Response(status, body, reason, headers, b""))

    def start(self, response: Response) -> None:
        """Send the head of a response whose length is not known, and its body as far as it is."""
        self.connection.start(self, response)

    def write(self, data: bytes) -> None:
        """Send a part of the body of a response that was started."""
        if not self.is_gone and data:
            self.connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self.is_chunked else data)

    def finish(self) -> None:
        """End a response that was started."""
        if not self.is_gone:
            if self.is_chunked:
                self.connection.write(b"0\r\n\r\n")
            self.connection.finish(self)

    def register_producer(self, producer: IPushProducer) -> None:
        """Pause `producer` while the client does not read; until the response is finished."""
        self.producer = producer
        self.connection.produce(producer)

    def fail(self, failure: Failure) -> None:
        """Log an unexpected exception, and answer 500 if nothing has been answered."""
        self.connection.fail(self, failure)

    def on_abandoned(self, call: Callable[[], object]) -> None:
        """Call `call` if the client is gone before it got the whole response."""
        if self._abandoned is None:
            self._abandoned = []
        self._abandoned.append(call)

    def wait_for(self, answer: PendingAnswer) -> None:
        """Tell `answer`, until it is there, whether the client is."""
        self._answer = answer
        if self.is_half_closed:
            answer.hold_results()

    def suspect_gone(self) -> None:
        """Note that the client sends nothing more, and may be gone."""
        self.is_half_closed = True
        if self._answer is not None:
            self._answer.hold_results()

    def confirm_present(self) -> None:
        """Note that the client is still there."""
        self.is_half_closed = False
        if self._answer is not None:
            self._answer.release_results()

    def abandon(self) -> None:
        """Note that the client is gone."""
        self.is_gone = True
        calls, self._abandoned, self.producer = self._abandoned or [], None, None
        if self._answer is not None:
            calls.insert(0, self._answer.cancel)
        for call in calls:
            try:
                call()
            except Exception:
                _log.failure("callback of an abandoned request failed", Failure())


def parse_query(query: bytes) -> dict[bytes, list[bytes]]:
    """Return the values of each parameter of a query string; they may be of any encoding."""
    parameters: dict[bytes, list[bytes]] = {}
    for each in query.split(b"&"):
        name, _, value = each.replace(b"+", b" ").partition(b"=")
        if each:
            parameters.setdefault(unquote_to_bytes(name), []).append(unquote_to_bytes(value))
    return parameters


def _path_of_target(path: bytes) -> bytes:
    _, is_absolute, rest = path.partition(b"://")
    return b"/" + (rest.partition(b"/")[2] if is_absolute else path)


def method_of(request: Request) -> str:
    """The method, safe to show."""
    return str(request.method, "ascii", "replace")


def path_of(request: Request) -> str:
    """The path without its first slash, safe to show."""
    return str(request.path[1:], "utf-8", "replace")


def decoded_path(request: Request) -> bytes:
    """The path without its percent-escapes; an escaped slash is a slash."""
    path = request.path
    return unquote_to_bytes(path) if b"%" in path else path


def is_consul_path(request: Request) -> bool:
    """Report whether the path belongs to the consul-kv API, whose errors are text."""
    return request.path.lstrip(b"/").startswith(b"v1/")


def has_flag(request: Request, name: bytes) -> bool:
    """Report whether the query string contains `name` or `name=1`."""
    if not request.query:
        return False
    values = request.parameters().get(name)
    return values is not None and values[-1] in (b"", b"1")
