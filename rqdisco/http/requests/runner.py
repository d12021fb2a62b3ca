"""Runs the handlers of an API: reads requests within limits, answers them in time, and reports what
they change.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401, werkzeug needs it and may import it when no file can be opened
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, cast
from urllib.parse import unquote_to_bytes

import msgspec
from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.server import NOT_DONE_YET
from werkzeug.exceptions import HTTPException

from rqdisco.core.addresses import check_reachable
from rqdisco.core.errors import InvalidValue, MisleadingAddress, RequestRefused, StoreUnavailable
from rqdisco.coroutines import resume
from rqdisco.http.requests.deadlines import Deadlines
from rqdisco.http.requests.leaf import LeafResource
from rqdisco.http.requests.request import Request, client_ip, decoded_path, method_of
from rqdisco.http.requests.responses import (
    BadBatch,
    BadRequest,
    BodyTooLarge,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    Refusal,
    Response,
    label_of,
    refusal_of,
)
from rqdisco.limits.log_throttle import LogThrottle
from rqdisco.security.tokens import Token
from rqdisco.telemetry.counters import UNKNOWN_ROUTE, Route
from rqdisco.telemetry.events import UNAVAILABLE, Event, Events

ANSWER_SECONDS = 7.0

# A handler. Any: it awaits Deferreds of various results.
Handler = Coroutine[Deferred[Any], Any, Response]
# Most handlers need not wait, and a Deferred around each costs a fifth of a request.
EventualResponse = Response | Deferred[Response]
# What a Klein route returns.
RouteResult = Deferred[bytes] | bytes


class RequestTelemetry:
    """The event sinks of a daemon's APIs: `events` receives what happened, `refusals` counts
    refused requests by API and label, `request_id` returns the ID of a request in the audit log.
    """

    def __init__(self, events: Events, request_id: Callable[[Request], str | None] = lambda _: None) -> None:
        self.events = events
        self.request_id = request_id
        self.refusals: Counter[tuple[str, str]] = Counter()

    def count_throttled(self) -> None:
        """Count a request that was refused for its client's rate, before any API received it."""
        self.refusals["any", "too_many_requests"] += 1

    def count_foreign_host(self) -> None:
        """Count a request that was refused for its Host, before any API received it."""
        self.refusals["any", "foreign_host"] += 1


class ApiConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The conventions of one API's answers.

    `name` appears in metrics and events. `format_refusal` formats errors, `finish` completes every
    response. `too_large` is the text for a body beyond `max_body` bytes.
    `strict_addresses` refuses addresses that other machines can hardly reach instead of logging
    them.
    """

    name: str
    max_body: int
    format_refusal: Callable[[Refusal], Response] = Refusal.as_json
    too_large: str = "request body too large"
    strict_addresses: bool = False
    finish: Callable[[Response], Response] | None = None


class ApiRunner:
    """Runs the handlers of one API."""

    def __init__(self, config: ApiConfig, telemetry: RequestTelemetry, deadlines: Deadlines) -> None:
        self.api = config.name
        self.telemetry = telemetry
        self._config = config
        self._deadlines = deadlines
        self._throttle = LogThrottle(deadlines.now)
        # Per instance: as a class attribute it creates another Logger at each access.
        self._log = Logger()

    def run(self, handler: Handler) -> EventualResponse:
        """Run a handler; return its response, or that to its exception, at once or in time (P4)."""
        finish = self._config.finish
        try:
            waited = handler.send(None)
        except StopIteration as end:
            response: Response = end.value
        except Exception:
            response = self.refuse(Failure())
        else:
            deferred = resume(handler, waited, self.refuse)
            if not deferred.called:
                self._deadlines.watch(deferred)
            return deferred if finish is None else deferred.addCallback(finish)
        return response if finish is None else finish(response)

    def run_route(self, request: Request, handler: Handler) -> RouteResult:
        """Run a handler for a Klein route."""
        response = self.run(handler)
        if isinstance(response, Deferred):
            return response.addCallback(lambda response: response.put_on(request))
        return response.put_on(request)

    def refuse(self, failure: Failure) -> Response:
        """Count a failure and return the response to it."""
        self.telemetry.refusals[self.api, label_of(failure)] += 1
        return self._config.format_refusal(refusal_of(failure))

    def body(self, request: Request) -> bytes:
        """Return the whole body. Raises BodyTooLarge."""
        content = request.content.read(self._config.max_body + 1)
        if len(content) > self._config.max_body:
            raise BodyTooLarge(self._config.too_large)
        return content

    def is_log_due(self, key: str) -> bool:
        """Report whether nothing was logged for `key` for a minute, and count it as logged now."""
        return self._throttle.is_due(key)

    def check_reachable(self, addr: str, attempt: Attempt, *, is_known: bool = False) -> None:
        """Log an address that other machines can hardly reach, unless it is known already; refuse
        it if addresses are strict. Raises InvalidValue, MisleadingAddress.
        """
        try:
            check_reachable(addr, attempt.peer)
        except (InvalidValue, MisleadingAddress) as doubt:
            if self._config.strict_addresses:
                raise
            if is_known:
                return
            self._log.warn(
                "doubtful address", discovery_id=attempt.discovery_id, addr=addr, peer=attempt.peer, why=str(doubt)
            )


class ApiResource(LeafResource):
    """An API's Klein app, in front of which the paths of nodes are matched without Klein.

    Klein binds and runs werkzeug's router for each request, which costs about as much as all the
    rest of the request; and it fails with a traceback on a Host or path that is not UTF-8. `match`
    gets the decoded path, and starts a response or leaves it to Klein, `unreadable` answers a path
    that Klein cannot read, `route` returns what a decoded path is counted as.
    """

    def __init__(
        self,
        app: Klein,
        match: Callable[[Request, bytes], EventualResponse | None],
        unreadable: Callable[[Request], EventualResponse],
        route: Callable[[bytes], Route] = lambda _: UNKNOWN_ROUTE,
    ) -> None:
        super().__init__()
        self._klein = KleinResource(app)
        self._route = route
        self._match = match
        self._unreadable = unreadable

    def render(self, request: Request) -> object:
        path = decoded_path(request)
        if path is request.path or _is_readable([path]):
            request.route = self._route(path)
            response = self._match(request, path)
        else:
            request.route = self._route(b"")
            response = self._unreadable(request)
        if response is None:
            response = self._prepare_for_klein(request)
        if response is None:
            self._klein.render(cast("IRequest", request))
        else:
            send(request, response)
        return NOT_DONE_YET

    def _prepare_for_klein(self, request: Request) -> EventualResponse | None:
        """Set the attributes that Klein uses; start a response if Klein cannot read the path."""
        request.prepath, request.postpath = [], [unquote_to_bytes(each) for each in request.path[1:].split(b"/")]
        if not _is_readable(request.postpath):
            return self._unreadable(request)
        # Routes do not depend on the host; werkzeug raises on one it cannot encode, Klein on a
        # socket without one.
        request.requestHeaders.setRawHeaders(b"host", [b"localhost"])
        return None


class ReadOnlyResource(LeafResource):
    """A resource that supports GET and HEAD; `respond` returns its response at once."""

    def __init__(self, respond: Callable[[Request], Response], runner: ApiRunner) -> None:
        super().__init__()
        self._respond = respond
        self._runner = runner

    def render(self, request: Request) -> object:
        if request.method in (b"GET", b"HEAD"):
            response = self._respond(request)
        else:
            response = self._runner.refuse(Failure(unsupported_method(request, "GET, HEAD")))
        write(response, request)
        return NOT_DONE_YET


class Attempt:
    """A context manager for an attempt to change something, reported as one event when it ends.

    `kind` is one of `Event`'s. `result` is the outcome unless an exception is raised, `details` are
    fields of this kind of event. `is_repeat` is set for a successful change that changes nothing,
    which is neither logged nor audited; `is_bulk` for one of many, which is not logged by itself.
    """

    __slots__ = (
        "_kind",
        "_request_id",
        "_runner",
        "_token_name",
        "addr",
        "details",
        "discovery_id",
        "is_bulk",
        "is_repeat",
        "peer",
        "result",
    )

    def __init__(
        self, runner: ApiRunner, kind: str, request: Request, discovery_id: str = "", token: Token | None = None
    ) -> None:
        self._runner = runner
        self._kind = kind
        self._token_name = None if token is None else token.name
        self._request_id = runner.telemetry.request_id(request)
        self.peer = client_ip(request)
        self.discovery_id = discovery_id
        self.addr: str | None = None
        self.result = ""
        self.details: dict[str, object] = {}
        self.is_repeat = self.is_bulk = False

    def __enter__(self) -> Attempt:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        outcome, why = (self.result, None) if error is None else _outcome_of(error)
        is_repeat = self.is_repeat and error is None
        self._runner.telemetry.events.publish(
            Event(
                kind=self._kind,
                outcome=outcome,
                api=self._runner.api,
                id=self.discovery_id,
                addr=self.addr,
                client=self.peer,
                token=self._token_name,
                request=self._request_id,
                why=why,
                more=self.details,
                logged=not (is_repeat or self.is_bulk),
                audited=not is_repeat,
            )
        )


def _outcome_of(error: BaseException) -> tuple[str, str | None]:
    """The outcome of a failed attempt, and why it failed."""
    if isinstance(error, CancelledError):
        return "given up", "client gone, or no time left"
    if isinstance(error, StoreUnavailable):
        return UNAVAILABLE, error.reason
    if isinstance(error, (RequestRefused, BadRequest, BadBatch, BodyTooLarge, Forbidden, NotFound)):
        return "refused", str(error)
    return "failed", None


def unsupported_method(request: Request, allow: str) -> MethodNotAllowed:
    """The error for a method that is not in `allow`."""
    return MethodNotAllowed(f'unsupported method "{method_of(request)}"', allow)


def from_klein(request: IRequest) -> Request:
    """The request that Klein passes to an error handler; every site makes BoundedRequests."""
    return cast("Request", request)


def error_of(failure: Failure, no_route: Exception) -> BaseException:
    """The exception of a failed Klein route; `no_route` if werkzeug found none for the path."""
    return no_route if failure.value is None or failure.check(HTTPException) is not None else failure.value


def write(response: Response, request: Request) -> None:
    """Send a response."""
    request.write(response.put_on(request))
    request.finish()


def send(request: Request, response: EventualResponse, begin: Callable[[Response, Request], object] = write) -> None:
    """Call `begin` with the response once it is there; cancel it if the client hangs up before."""
    if isinstance(response, Response):
        begin(response, request)
        return
    if response.called:
        response.addCallback(begin, request)
        return
    finished = request.notifyFinish()
    finished.addErrback(lambda _: response.cancel())
    response.addCallback(lambda response: None if finished.called else begin(response, request))


def _is_readable(segments: list[bytes]) -> bool:
    try:
        for segment in segments:
            segment.decode()
    except UnicodeDecodeError:
        return False
    return True
