"""The discovery API that rqlite 3.12-6.10 speak: `POST /` mints an ID, `GET|POST|DELETE /ID` show,
register, remove.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
from klein import Klein
from klein.resource import KleinResource
from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug.exceptions import HTTPException

from rqdisco.core.addresses import check_text
from rqdisco.core.directory import Directory
from rqdisco.core.errors import NoSuchID
from rqdisco.core.ids import RESERVED, is_id
from rqdisco.core.leaders import Leaders
from rqdisco.core.records import Node
from rqdisco.core.views import View
from rqdisco.http.api.explain import explanation
from rqdisco.http.requests.authorization import Authorizer, secrets_in
from rqdisco.http.requests.client_host import client_host
from rqdisco.http.requests.documents import encode_document, encode_full_document, encode_object, not_seen
from rqdisco.http.requests.responses import BadRequest, MethodNotAllowed, Response
from rqdisco.http.requests.runner import (
    Answering,
    ApiResource,
    ApiRunner,
    Attempt,
    decoded_path,
    has_flag,
    method_of,
    path_of,
    refused,
)
from rqdisco.http.server.throttling import CreationLimit
from rqdisco.probes.node_health import NodeHealth, down_last
from rqdisco.security.tokens import Right, Token
from rqdisco.telemetry.answer_history import AnswerHistory
from rqdisco.telemetry.counters import Route
from rqdisco.telemetry.events import ON_BEHALF

# Where nothing is known of an age, it is the highest that there is.
_OLDEST = 2**31
_RIGHTS: dict[bytes, Right] = {b"POST": "write", b"DELETE": "write"}
_ATTEMPTED = {b"POST": "registration", b"DELETE": "removal"}
_SERVICE: Route = ("discovery", "/")
_RECORD: Route = ("discovery", "/ID")


class _RegistrationBody(msgspec.Struct):
    addr: Any = msgspec.UNSET
    raft_addr: Any = None
    node_id: Any = None


class DiscoveryAPI:
    """The door itself: what HTTP says in, what the directory answers out.

    `describe` gives the members of the answer to `GET /`, `history` keeps what was answered,
    `creation_limit` counts those who make IDs; `explains` says that whoever asks here is an
    operator. `authorizer` lets in who has a token; without it everybody may everything.
    `node_health` tells which nodes are down: they are listed last, for who joins tries one after
    the other, and never left out. `two_leaders` gives those of an ID that both report themselves.
    """

    app = Klein()

    def __init__(
        self,
        directory: Directory,
        runner: ApiRunner,
        describe: Callable[[], dict[str, Any]],
        history: AnswerHistory,
        creation_limit: CreationLimit,
        *,
        explains: bool = False,
        authorizer: Authorizer | None = None,
        node_health: NodeHealth | None = None,
        two_leaders: Callable[[str], Leaders | None] = lambda _: None,
    ) -> None:
        self._directory = directory
        self._runner = runner
        self._describe = describe
        self._history = history
        self._creation_limit = creation_limit
        self._explains = explains
        self._authorizer = None if authorizer is None else authorizer.at(runner.api, _attempted)
        self._node_health = node_health
        self._two_leaders = two_leaders
        self._log = Logger()

    def resource(self) -> KleinResource:
        """All paths that are not another door's."""
        return ApiResource(self.app, self._match, self._unknown, lambda path: _SERVICE if path == b"/" else _RECORD)

    @app.route("/")
    def service(self, request: IRequest) -> Deferred[bytes] | bytes:
        return self._runner.through_klein(request, self._service(request))

    @app.route("/<path:discovery_id>")
    def record(self, request: IRequest, discovery_id: str) -> Deferred[bytes] | bytes:
        return self._runner.through_klein(request, self._answer(request, discovery_id.rstrip("/")))

    def failed(self, request: IRequest, failure: Failure) -> Deferred[bytes] | bytes:
        error: Any = failure.value
        nothing = refused(error) if failure.check(HTTPException) is None else self._nothing(request)
        return self._runner.through_klein(request, nothing)

    # Not as a decorator, which by its types gives back no method.
    app.handle_errors(failed)

    def _match(self, request: Any) -> Answering | None:
        path = decoded_path(request)
        name = path.strip(b"/")
        if not name:
            return None if path == b"/" else self._unknown(request)
        if b"/" in name:
            return None
        return self._runner.answer(self._answer(request, name.decode("utf-8", "replace")))

    def _unknown(self, request: IRequest) -> Answering:
        return self._runner.answer(self._nothing(request))

    async def _nothing(self, request: IRequest) -> Response:
        if self._authorizer is not None:
            self._authorizer.admit(request, "known")
        raise NoSuchID(path_of(request))

    async def _answer(self, request: IRequest, discovery_id: str) -> Response:
        """Answer a request for `/ID`. The checks are made in this order: token, ID, method,
        body.
        """
        method = request.method
        token = None
        if self._authorizer is not None:
            token = self._authorizer.admit(request, _RIGHTS.get(method, "read"), discovery_id)
        if not is_id(discovery_id) or discovery_id in RESERVED:
            raise NoSuchID(discovery_id)
        if method == b"POST":
            return await self._register(request, discovery_id, token)
        if method in (b"GET", b"HEAD"):
            return await self._show(request, discovery_id, token)
        if method == b"DELETE":
            return await self._remove(request, discovery_id, token)
        await self._directory.look_up(discovery_id)
        raise MethodNotAllowed(f'unsupported method "{method_of(request)}"', "GET, HEAD, POST, DELETE")

    async def _show(self, request: IRequest, discovery_id: str, token: Token | None) -> Response:
        if has_flag(request, b"consistent"):
            record = await self._directory.look_up_at_owner(discovery_id)
            age: float | None = 0.0
        else:
            record = await self._directory.look_up(discovery_id)
            age = self._directory.age(record)
        explains = self._explains if token is None else token.is_admin
        if explains and has_flag(request, b"explain"):
            return await self._explain(discovery_id, age)
        # A copy says how old it may be (RFC 9111 section 5.1); what the home itself says has no
        # age.
        headers = () if age == 0.0 else ((b"age", b"%d" % min(_OLDEST if age is None else age, _OLDEST)),)
        orphaned = not self._directory.is_owner_of(record)
        nodes = down_last(record.nodes, self._node_health)
        ordered = record if nodes is record.nodes else replace(record, nodes=nodes)
        seen = not_seen if self._node_health is None else self._node_health.seen
        two = self._two_leaders(record.id)
        return Response(
            200, encode_full_document(ordered, orphaned=orphaned, seen=seen, two_leaders=two), headers=headers
        )

    async def _explain(self, discovery_id: str, age: float | None) -> Response:
        record = await self._directory.inspect(discovery_id)
        may_grant, history = self._directory.is_owner_of(record), self._history.of(record.id)
        return Response(200, explanation(record, may_grant=may_grant, age=age, history=history))

    async def _service(self, request: IRequest) -> Response:
        if request.method == b"POST":
            token = None if self._authorizer is None else self._authorizer.admit(request, "mint")
            self._creation_limit.check_create(request)
            with self._runner.note("create", request, token=token) as note:
                record = await self._directory.create()
                note.discovery_id, note.result = record.id, "created"
            return Response(200, encode_document(record, ()))
        if request.method in (b"GET", b"HEAD"):
            return Response(200, encode_object(self._described(request)))
        if self._authorizer is not None:
            self._authorizer.admit(request, "known")
        raise MethodNotAllowed(f'unsupported method "{method_of(request)}"', "GET, HEAD, POST")

    def _described(self, request: IRequest) -> dict[str, Any]:
        """What is said of the service: to strangers not how much there is, so that probes need no
        token.
        """
        members = self._describe()
        if self._authorizer is not None:
            if not secrets_in(request.requestHeaders):
                return {name: value for name, value in members.items() if name != "ids"}
            self._authorizer.admit(request, "known")
        return members

    async def _register(self, request: IRequest, discovery_id: str, token: Token | None) -> Response:
        with self._runner.note("registration", request, discovery_id, token) as note:
            try:
                node = self._node(request, note)
            except Exception:
                # A missing ID is reported before an invalid body.
                await self._directory.look_up(discovery_id)
                raise
            outcome = await self._directory.register(discovery_id, node, client_host(request))
            note.result = outcome.bootstrap or (ON_BEHALF if outcome.on_behalf else "listed")
            self._history.note(discovery_id, node.addr, note.result, len(outcome.listed))
            if self._node_health is not None:
                self._node_health.heard(node)
        listed = down_last(outcome.listed, self._node_health)
        return Response(200, encode_document(outcome.record, listed))

    async def _remove(self, request: IRequest, discovery_id: str, token: Token | None) -> Response:
        with self._runner.note("removal", request, discovery_id, token) as note:
            await self._directory.look_up(discovery_id)
            outcome = await self._directory.remove(discovery_id, _addr(self._body(request), note))
            note.result = "removed" if outcome.removed else "absent"
            if outcome.removed and note.addr is not None:
                self._history.forget(discovery_id, note.addr)
        record = outcome.record
        if outcome.removed and not record.nodes:
            self._warn_of_the_end(record)
        return Response(200, encode_document(record, down_last(record.nodes, self._node_health)))

    def _warn_of_the_end(self, record: View) -> None:
        if self._directory.is_owner_of(record):
            self._log.warn("no nodes left, the next to register is told it is alone", discovery_id=record.id)
        else:
            self._log.warn("no nodes left, and the ID is orphaned: it seeds no cluster", discovery_id=record.id)

    def _node(self, request: IRequest, note: Attempt) -> Node:
        """Decode the node of a registration. Raises BadRequest, BodyTooLarge, InvalidValue,
        MisleadingAddress.
        """
        body = self._body(request)
        node = Node(
            addr=_addr(body, note),
            raft_addr=None if body.raft_addr is None else check_text("raft_addr", body.raft_addr),
            node_id=None if body.node_id is None else check_text("node_id", body.node_id),
        )
        self._runner.check_reachable(node.addr, note)
        return node

    def _body(self, request: IRequest) -> _RegistrationBody:
        body = _decoded(self._runner.body(request))
        if body.addr is msgspec.UNSET:
            raise BadRequest("address not specified")
        return body


def _attempted(request: Any) -> str:
    """What a request that is not let in would have been an event of."""
    name = decoded_path(request).strip(b"/")
    if not name:
        return "create" if request.method == b"POST" and request.path == b"/" else "request"
    return "request" if b"/" in name else _ATTEMPTED.get(request.method, "request")


def _decoded(content: bytes) -> _RegistrationBody:
    """The object in `content`, of which only the members we know are looked at.

    msgspec refuses a lone surrogate or a huge number anywhere; the standard library tells whether
    the body is an object all the same, so that the member is named that is at fault.
    """
    try:
        text = content.decode()
        try:
            return msgspec.json.decode(text, type=_RegistrationBody)
        except msgspec.DecodeError:
            members = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise BadRequest("bad request body") from None
    if not isinstance(members, dict):
        raise BadRequest("bad request body")
    return _RegistrationBody(**{name: members[name] for name in _RegistrationBody.__struct_fields__ if name in members})


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _addr(body: _RegistrationBody, note: Attempt) -> str:
    addr = check_text("address", body.addr)
    note.addr = addr
    return addr
