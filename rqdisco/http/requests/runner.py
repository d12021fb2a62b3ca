"""Runs the handlers of an API: reads requests within limits, answers them in time, and reports what
they change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from rqdisco.core.address_warnings import warn_of_address
from rqdisco.core.addresses import check_reachable, is_loopback
from rqdisco.core.errors import InvalidValue, MisleadingAddress, RequestRefused, StoreUnavailable
from rqdisco.core.host_binding import THIS_MACHINE
from rqdisco.core.ids import RESERVED_IDS
from rqdisco.coroutines import Running
from rqdisco.http.requests.deadlines import Deadlines
from rqdisco.http.requests.request import Request, method_of, path_of
from rqdisco.http.requests.responses import (
    BadBatch,
    BadRequest,
    BodyTooLarge,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    Refusal,
    Response,
    StreamedResponse,
    label_of,
    refusal_of,
)
from rqdisco.limits.log_throttle import LogThrottle
from rqdisco.security.tokens import Token
from rqdisco.telemetry.events import UNAVAILABLE, Event, Events

# A request ends after this, so that it is answered within 8 s (P4).
ANSWER_SECONDS = 7.0

# A handler. Any: it awaits Deferreds of various results.
Handler = Coroutine[Deferred[Any], Any, Response]
# Most handlers need not wait.
EventualResponse = Response | Running[Response]


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
        response = self._start(handler)
        if isinstance(response, Running) and not response.is_over:
            self._deadlines.watch(response)
        return response

    def run_to_end(self, handler: Handler) -> EventualResponse:
        """Run a handler without a deadline, and finish it even if the client is gone: operators
        wait, and half an operation would need repair.
        """
        return self._start(handler, is_shielded=True)

    def _start(self, handler: Handler, *, is_shielded: bool = False) -> EventualResponse:
        try:
            waited = handler.send(None)
        except StopIteration as end:
            return self._complete(end.value)
        except Exception:
            return self._complete(Failure())
        return Running(handler, waited, self._complete, is_shielded=is_shielded)

    def _complete(self, outcome: Response | Failure) -> Response:
        response = self.refuse(outcome) if isinstance(outcome, Failure) else outcome
        return response if self._config.finish is None else self._config.finish(response)

    def refuse(self, failure: Failure) -> Response:
        """Count a failure and return the response to it."""
        self.telemetry.refusals[self.api, label_of(failure)] += 1
        return self._config.format_refusal(refusal_of(failure))

    def body(self, request: Request) -> bytes:
        """Return the whole body. Raises BodyTooLarge."""
        if request.is_body_too_large or len(request.body) > self._config.max_body:
            raise BodyTooLarge(self._config.too_large)
        return request.body

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
            self._warn_of_address(addr, attempt, doubt)

    def check_raft_address(self, addr: str, attempt: Attempt) -> None:
        """Log a Raft address that other machines can hardly reach."""
        try:
            check_reachable(addr, attempt.peer)
        except (InvalidValue, MisleadingAddress) as doubt:
            self._warn_of_address(addr, attempt, doubt, raft=True)

    def _warn_of_address(self, addr: str, attempt: Attempt, doubt: Exception, *, raft: bool = False) -> None:
        is_here = attempt.peer is None or is_loopback(attempt.peer)
        host = THIS_MACHINE if is_here else attempt.peer
        warning = warn_of_address(attempt.discovery_id, addr, host, raft=raft)
        self._log.warn(
            "doubtful address",
            discovery_id=attempt.discovery_id,
            addr=addr,
            peer=attempt.peer,
            why=str(doubt) if warning is None else warning.problem,
            fix=None if warning is None else warning.fix,
        )


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
        self.peer = request.client
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
    """The error for a method that is not in `allow`. PUT creates IDs, so it says why not this one."""
    name = path_of(request).strip("/")
    why = f": {name} is reserved, choose another name" if request.method == b"PUT" and name in RESERVED_IDS else ""
    return MethodNotAllowed(f'unsupported method "{method_of(request)}"{why}', allow)


def respond(response: Response, request: Request) -> None:
    """Send a response, or start to."""
    if isinstance(response, StreamedResponse):
        response.begin()
    else:
        request.respond(response)


def send(request: Request, response: EventualResponse) -> None:
    """Send a response once it is there; cancel it if the client hangs up before."""
    if isinstance(response, Response):
        respond(response, request)
        return

    def deliver(response: Response) -> None:
        if not request.is_gone:
            try:
                respond(response, request)
            except Exception:
                request.fail(Failure())

    if not response.is_over:
        request.wait_for(response)
    response.then(deliver)
