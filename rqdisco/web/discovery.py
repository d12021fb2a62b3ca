"""The discovery API that rqlite 3.12-6.10 speak: `POST /` mints an ID, `GET|POST|DELETE /ID` show, register, remove."""

from __future__ import annotations

import encodings.idna  # noqa: F401, werkzeug needs it and it may be too late to open a file then
import json
import re
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.server import NOT_DONE_YET

from rqdisco import codec
from rqdisco.address import check_reachable, check_text
from rqdisco.directory import Directory
from rqdisco.errors import InvalidValue, MisleadingAddress, NoSuchID, RequestRefused, StoreUnavailable
from rqdisco.records import Node
from rqdisco.web.answers import Answer, BadBody, BodyTooLarge, MethodNotAllowed, answer_to
from rqdisco.web.deadlines import Deadlines

ANSWER_SECONDS = 7.0
_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,64}\Z")
_ONE_SEGMENT = re.compile(rb"/+([^/%]+)/*\Z")


class _Body(msgspec.Struct):
    addr: Any = msgspec.UNSET
    raft_addr: Any = None
    node_id: Any = None


class DiscoveryAPI:
    """The door itself: what HTTP says in, what the directory answers out.

    `describe` gives the members of the answer to `GET /`; `strict` refuses addresses that other machines can hardly
    reach instead of logging them.
    """

    app = Klein()

    def __init__(
        self,
        directory: Directory,
        deadlines: Deadlines,
        describe: Callable[[], dict[str, Any]],
        *,
        max_body: int,
        strict: bool,
    ) -> None:
        self._directory = directory
        self._deadlines = deadlines
        self._describe = describe
        self._max_body = max_body
        self._strict = strict
        # One for the instance: as a class attribute it makes another Logger each time it is looked at.
        self._log = Logger()

    def resource(self) -> KleinResource:
        """The root of a site."""
        return _Resource(self)

    @app.route("/")
    def service(self, request: IRequest) -> Deferred[bytes]:
        return self._through_klein(request, self._service(request))

    @app.route("/<path:discovery_id>")
    def record(self, request: IRequest, discovery_id: str) -> Deferred[bytes]:
        return self._through_klein(request, self.answer_for_id(request, discovery_id.rstrip("/")))

    @app.handle_errors
    def failed(self: Any, request: IRequest, failure: Failure) -> bytes:  # type: ignore[misc]
        return answer_to(failure).put_on(request)

    def answer(self, handling: Coroutine[Any, Any, Answer]) -> Deferred[Answer]:
        """Run a handler; fire with its answer, or with the answer to what went wrong, in time (P4)."""
        answering = Deferred.fromCoroutine(handling)
        if not answering.called:
            self._deadlines.watch(answering)
        return answering.addErrback(answer_to)

    async def answer_for_id(self, request: IRequest, discovery_id: str) -> Answer:
        """Answer a request for `/ID`. The order of checks is the original service's: ID, method, body."""
        if not _ID.match(discovery_id):
            raise NoSuchID(discovery_id)
        method = request.method
        if method == b"POST":
            return await self._register(request, discovery_id)
        if method in (b"GET", b"HEAD"):
            return Answer(200, codec.encode_full_document(await self._directory.look_up(discovery_id)))
        if method == b"DELETE":
            return await self._remove(request, discovery_id)
        await self._directory.look_up(discovery_id)
        raise MethodNotAllowed(method.decode("ascii", "replace"), "GET, HEAD, POST, DELETE")

    def _through_klein(self, request: IRequest, handling: Coroutine[Any, Any, Answer]) -> Deferred[bytes]:
        return self.answer(handling).addCallback(lambda answer: answer.put_on(request))

    async def _service(self, request: IRequest) -> Answer:
        if request.method == b"POST":
            with _Note(self._log, "mint", request) as note:
                record = await self._directory.create()
                note.discovery_id, note.result = record.id, "minted"
            return Answer(200, codec.encode_document(record, ()))
        if request.method in (b"GET", b"HEAD"):
            return Answer(200, codec.encode_object(self._describe()))
        raise MethodNotAllowed(request.method.decode("ascii", "replace"), "GET, HEAD, POST")

    async def _register(self, request: IRequest, discovery_id: str) -> Answer:
        with _Note(self._log, "registration", request, discovery_id) as note:
            await self._directory.look_up(discovery_id)
            body = self._body(request)
            node = Node(
                addr=_addr(body, note),
                raft_addr=_optional("raft_addr", body.raft_addr),
                node_id=_optional("node_id", body.node_id),
            )
            self._check_reachable(node.addr, note)
            outcome = await self._directory.register(discovery_id, node)
            note.result = outcome.alone or "listed"
        return Answer(200, codec.encode_document(outcome.record, outcome.listed))

    async def _remove(self, request: IRequest, discovery_id: str) -> Answer:
        with _Note(self._log, "removal", request, discovery_id) as note:
            await self._directory.look_up(discovery_id)
            outcome = await self._directory.remove(discovery_id, _addr(self._body(request), note))
            note.result = "removed" if outcome.removed else "absent"
        record = outcome.record
        if outcome.removed and not record.nodes:
            self._log.warn("no nodes left, the next to register is told it is alone", discovery_id=discovery_id)
        return Answer(200, codec.encode_document(record, record.nodes))

    def _body(self, request: IRequest) -> _Body:
        content: bytes = request.content.read(self._max_body + 1)
        if len(content) > self._max_body:
            raise BodyTooLarge("request body too large")
        body = _decoded(content)
        if body.addr is msgspec.UNSET:
            raise BadBody("address not specified")
        return body

    def _check_reachable(self, addr: str, note: _Note) -> None:
        try:
            check_reachable(addr, note.peer)
        except (InvalidValue, MisleadingAddress) as doubt:
            if self._strict:
                raise
            self._log.warn(
                "doubtful address", discovery_id=note.discovery_id, addr=addr, peer=note.peer, why=str(doubt)
            )


class _Resource(KleinResource):
    """Klein's resource, in front of which the one path that every node asks for is matched without Klein.

    Klein binds and runs werkzeug's router for each request, which costs about as much as all the rest of the request;
    and it fails with a traceback on a Host or path that is not UTF-8.
    """

    def __init__(self, api: DiscoveryAPI) -> None:
        super().__init__(api.app)
        self._api = api

    def render(self, request: Any) -> Any:
        match = _ONE_SEGMENT.match(request.path)
        if match is not None:
            handling = self._api.answer_for_id(request, match[1].decode("utf-8", "replace"))
            self._send(request, self._api.answer(handling))
        elif request.path.strip(b"/") == b"" and request.path != b"/":
            self._send(request, self._api.answer(_refused(NoSuchID(_printable(request.path)))))
        else:
            self._route(request)
        return NOT_DONE_YET

    def _send(self, request: Any, answering: Deferred[Answer]) -> None:
        if answering.called:
            answering.addCallback(_write, request)
            return
        finished = request.notifyFinish()
        finished.addErrback(lambda _: answering.cancel())
        answering.addCallback(lambda answer: None if finished.called else _write(answer, request))

    def _route(self, request: Any) -> None:
        try:
            for part in request.postpath:
                part.decode()
        except UnicodeDecodeError:
            self._send(request, self._api.answer(_refused(NoSuchID(_printable(request.path)))))
            return
        # Routes do not depend on the host; werkzeug raises on one that it cannot encode, Klein on a socket without one.
        request.requestHeaders.setRawHeaders(b"host", [b"localhost"])
        super().render(request)


class _Note:
    """One line in the log for one attempt to change something, whatever comes of it."""

    def __init__(self, log: Logger, event: str, request: IRequest, discovery_id: str = "") -> None:
        self._log = log
        self._event = event
        self.peer: str | None = getattr(request.getClientAddress(), "host", None)
        self.discovery_id = discovery_id
        self.addr: str | None = None
        self.result = ""

    def __enter__(self) -> _Note:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._log.info(
            self._event,
            discovery_id=self.discovery_id,
            addr=self.addr,
            peer=self.peer,
            result=self.result if error is None else _in_words(error),
        )


def _in_words(error: BaseException) -> str:
    if isinstance(error, CancelledError):
        return "given up: client gone, or no time left"
    if isinstance(error, StoreUnavailable):
        return f"unavailable: {error.reason}"
    if isinstance(error, (RequestRefused, BadBody, BodyTooLarge)):
        return f"refused: {error}"
    return "failed"


def _write(answer: Answer, request: IRequest) -> None:
    request.write(answer.put_on(request))
    request.finish()


async def _refused(error: RequestRefused) -> Answer:
    raise error


def _decoded(content: bytes) -> _Body:
    """The object in `content`, of which only the members we know are looked at.

    msgspec refuses a lone surrogate or a huge number anywhere; the standard library tells whether the body is an
    object all the same, so that the member is named that is at fault.
    """
    try:
        text = content.decode()
        try:
            return msgspec.json.decode(text, type=_Body)
        except msgspec.DecodeError:
            members = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise BadBody("bad request body") from None
    if not isinstance(members, dict):
        raise BadBody("bad request body")
    return _Body(**{name: members[name] for name in _Body.__struct_fields__ if name in members})


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _addr(body: _Body, note: _Note) -> str:
    addr = check_text("address", body.addr)
    note.addr = addr
    return addr


def _optional(what: str, value: object) -> str | None:
    return None if value is None else check_text(what, value)


def _printable(path: bytes) -> str:
    return path[1:].decode("utf-8", "replace")
