"""What every door does with a request: read it within bounds, answer it in time, and leave a line
in the log.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401, werkzeug needs it and it may be too late to open a file then
from collections import Counter
from collections.abc import Callable, Coroutine, Generator
from typing import Any
from urllib.parse import unquote_to_bytes

from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.server import NOT_DONE_YET

from rqdisco.core.addresses import check_reachable
from rqdisco.core.errors import InvalidValue, MisleadingAddress, RequestRefused, StoreUnavailable
from rqdisco.http.requests.deadlines import Deadlines
from rqdisco.http.requests.responses import (
    BadBatch,
    BadRequest,
    BodyTooLarge,
    Forbidden,
    NotFound,
    Refusal,
    Response,
    reason_of,
    refusal_of,
)
from rqdisco.limits.log_throttle import LogThrottle
from rqdisco.security.tokens import Token
from rqdisco.telemetry.counters import NOWHERE, Route
from rqdisco.telemetry.events import UNAVAILABLE, Event, Events

ANSWER_SECONDS = 7.0

# Most handlers need not wait, and a Deferred around each costs a fifth of a request.
Answering = Response | Deferred[Response]


class RequestTelemetry:
    """What the doors of a daemon keep of what goes on: `events` are told what happened, `refusals`
    are counted by door and reason, `name` gives a request the name that it goes by in the audit
    log.
    """

    def __init__(self, events: Events, name: Callable[[IRequest], str | None] = lambda _: None) -> None:
        self.events = events
        self.name = name
        self.refusals: Counter[tuple[str, str]] = Counter()

    def held_too_long(self) -> None:
        """A client asked so much that it was refused before any door saw it."""
        self.refusals["any", "too_many_requests"] += 1

    def host_refused(self) -> None:
        """A request was refused for the host that it was for, before any door saw it."""
        self.refusals["any", "foreign_host"] += 1


class ApiRunner:
    """How one door answers: `render_refusal` puts a refusal in its words, `finish` adds what all
    its answers have.

    `too_large` is the text for a body beyond `max_body` bytes; `strict` refuses addresses that
    other machines can hardly reach instead of logging them.
    """

    def __init__(
        self,
        api: str,
        telemetry: RequestTelemetry,
        deadlines: Deadlines,
        render_refusal: Callable[[Refusal], Response],
        *,
        max_body: int,
        too_large: str = "request body too large",
        strict: bool = False,
        finish: Callable[[Response], Response] | None = None,
    ) -> None:
        self.api = api
        self.telemetry = telemetry
        self._deadlines = deadlines
        self._render_refusal = render_refusal
        self._max_body = max_body
        self._too_large = too_large
        self._strict = strict
        self._finish = finish
        self._throttle = LogThrottle(deadlines.now)
        # One for the instance: as a class attribute it makes another Logger each time it is looked
        # at.
        self._log = Logger()

    def answer(self, runner: Coroutine[Any, Any, Response]) -> Answering:
        """Run a handler; give its answer, or the answer to what went wrong, at once or in time
        (P4).
        """
        try:
            waited = runner.send(None)
        except StopIteration as end:
            return self._finished(end.value)
        except Exception:
            return self._finished(self.refuse(Failure()))
        answering = Deferred.fromCoroutine(_rest(runner, waited))
        if not answering.called:
            self._deadlines.watch(answering)
        return answering.addErrback(self.refuse).addCallback(self._finished)

    def through_klein(self, request: IRequest, runner: Coroutine[Any, Any, Response]) -> Deferred[bytes] | bytes:
        """`answer`, as a route of Klein gives it."""
        answering = self.answer(runner)
        if isinstance(answering, Deferred):
            return answering.addCallback(lambda answer: answer.put_on(request))
        return answering.put_on(request)

    def _finished(self, answer: Response) -> Response:
        return answer if self._finish is None else self._finish(answer)

    def refuse(self, failure: Failure) -> Response:
        """The answer to what went wrong."""
        self.telemetry.refusals[self.api, reason_of(failure)] += 1
        return self._render_refusal(refusal_of(failure))

    def note(
        self, kind: str, request: IRequest, discovery_id: str = "", token: Token | None = None, asker: str | None = None
    ) -> Attempt:
        """For an attempt to change something; `kind` is one of `Event`, `asker` the name of the
        token if not that.
        """
        return Attempt(self, kind, request, discovery_id, asker if token is None else token.name)

    def body(self, request: IRequest) -> bytes:
        """All of the body. Raises BodyTooLarge."""
        content: bytes = request.content.read(self._max_body + 1)
        if len(content) > self._max_body:
            raise BodyTooLarge(self._too_large)
        return content

    def is_due(self, source: str) -> bool:
        """Whether nothing was said of `source` for a minute; it counts as said now."""
        return self._throttle.is_due(source)

    def check_reachable(self, addr: str, note: Attempt, *, is_known: bool = False) -> None:
        """Log an address that other machines can hardly reach, unless that is known, or refuse
        it.
        """
        try:
            check_reachable(addr, note.peer)
        except (InvalidValue, MisleadingAddress) as doubt:
            if self._strict:
                raise
            if is_known:
                return
            self._log.warn(
                "doubtful address", discovery_id=note.discovery_id, addr=addr, peer=note.peer, why=str(doubt)
            )


class ApiResource(KleinResource):
    """A door's Klein app, in front of which the paths that every node asks for are matched without
    Klein.

    Klein binds and runs werkzeug's router for each request, which costs about as much as all the
    rest of the request; and it fails with a traceback on a Host or path that is not UTF-8. `match`
    begins an answer or leaves the path to Klein, `unreadable` answers a path that Klein cannot
    read, `route` says what a path, its escapes decoded, is counted as.
    """

    def __init__(
        self,
        app: Klein,
        match: Callable[[Any], Answering | None],
        unreadable: Callable[[Any], Answering],
        route: Callable[[bytes], Route] = lambda _: NOWHERE,
    ) -> None:
        super().__init__(app)
        self._route = route
        self._match = match
        self._unreadable = unreadable

    def render(self, request: Any) -> Any:
        path = decoded_path(request)
        if path is request.path or _is_readable([path]):
            request.route = self._route(path)
            answering = self._match(request)
        else:
            request.route = self._route(b"")
            answering = self._unreadable(request)
        if answering is None:
            # Where Klein looks for the path.
            request.prepath, request.postpath = [], [unquote_to_bytes(each) for each in request.path[1:].split(b"/")]
            if not _is_readable(request.postpath):
                answering = self._unreadable(request)
        if answering is None:
            # Routes do not depend on the host; werkzeug raises on one it cannot encode, Klein on a
            # socket without one.
            request.requestHeaders.setRawHeaders(b"host", [b"localhost"])
            super().render(request)
        else:
            send(request, answering)
        return NOT_DONE_YET


class Attempt:
    """One event for one attempt to change something, whatever comes of it.

    `result` is what came of it if nothing went wrong, `more` what this kind of event has of its
    own. One that is `quiet` repeats what is known already, one of `many` is not logged for itself.
    """

    def __init__(self, runner: ApiRunner, kind: str, request: Any, discovery_id: str, asker: str | None) -> None:
        self._telemetry = runner.telemetry
        self._api = runner.api
        self._kind = kind
        self._asker = asker
        self._request = runner.telemetry.name(request)
        self.peer: str | None = getattr(request.getClientAddress(), "host", None)
        self.discovery_id = discovery_id
        self.addr: str | None = None
        self.result = ""
        self.more: dict[str, Any] = {}
        self.quiet = self.many = False

    def __enter__(self) -> Attempt:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        outcome, why = (self.result, None) if error is None else _in_words(error)
        quiet = self.quiet and error is None
        self._telemetry.events.publish(
            Event(
                kind=self._kind,
                outcome=outcome,
                api=self._api,
                id=self.discovery_id,
                addr=self.addr,
                client=self.peer,
                token=self._asker,
                request=self._request,
                why=why,
                more=self.more,
                logged=not (quiet or self.many),
                audited=not quiet,
            )
        )


def method_of(request: IRequest) -> str:
    """The method, as it may be shown."""
    return str(request.method, "ascii", "replace")


def has_flag(request: IRequest, name: bytes) -> bool:
    """Whether the query string says `name`, or `name=1`."""
    return name in request.args and request.args[name][-1] in (b"", b"1")


def decoded_path(request: Any) -> bytes:
    """The path without its percent-escapes, as Klein reads it: an escaped slash is a slash."""
    path: bytes = request.path
    return unquote_to_bytes(path) if b"%" in path else path


def path_of(request: IRequest) -> str:
    """The path without its first slash, as it may be shown."""
    return str(request.path[1:], "utf-8", "replace")


async def refused(error: Exception) -> Response:
    """A handler that refuses."""
    raise error


def write(answer: Response, request: IRequest) -> None:
    """Send all of an answer."""
    request.write(answer.put_on(request))
    request.finish()


def send(request: Any, answering: Answering, begin: Callable[[Response, Any], None] = write) -> None:
    """Have `begin` send an answer once it is there; who hangs up before that is not waited for any
    more.
    """
    if isinstance(answering, Response):
        begin(answering, request)
        return
    if answering.called:
        answering.addCallback(begin, request)
        return
    finished = request.notifyFinish()
    finished.addErrback(lambda _: answering.cancel())
    answering.addCallback(lambda answer: None if finished.called else begin(answer, request))


def _rest(runner: Coroutine[Any, Any, Response], waited: Deferred[Any]) -> Generator[Deferred[Any], Any, Response]:
    """What is left of a handler that was begun, and waits for `waited`."""
    try:
        while True:
            try:
                result = yield waited
            except Exception as error:
                waited = runner.throw(error)
            else:
                waited = runner.send(result)
    except StopIteration as end:
        answer: Response = end.value
        return answer


def _is_readable(segments: list[bytes]) -> bool:
    try:
        for segment in segments:
            segment.decode()
    except UnicodeDecodeError:
        return False
    return True


def _in_words(error: BaseException) -> tuple[str, str | None]:
    """The outcome and why."""
    if isinstance(error, CancelledError):
        return "given up", "client gone, or no time left"
    if isinstance(error, StoreUnavailable):
        return UNAVAILABLE, error.reason
    if isinstance(error, (RequestRefused, BadRequest, BadBatch, BodyTooLarge, Forbidden, NotFound)):
        return "refused", str(error)
    return "failed", None
