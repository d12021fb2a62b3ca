"""The discovery API that rqlite 3.12-6.10 speak: `POST /` creates an ID, `GET|POST|DELETE /ID`
show, register, remove. `PUT /ID`, which rqlite does not send, creates an ID of that name.
"""

from __future__ import annotations

import json

import msgspec
from msgspec.structs import replace
from twisted.logger import Logger

from rqdisco.core.addresses import check_text
from rqdisco.core.errors import InvalidValue, NoSuchID
from rqdisco.core.ids import RESERVED_IDS, is_id, name_objection
from rqdisco.core.records import Node
from rqdisco.core.views import View
from rqdisco.http.api.explain import explanation
from rqdisco.http.api.record_encoder import RecordEncoder
from rqdisco.http.context import HTTPContext
from rqdisco.http.requests.api import Api
from rqdisco.http.requests.authorization import Authorizer, secrets_in
from rqdisco.http.requests.client_host import client_host
from rqdisco.http.requests.documents import ServiceDocument, encode_document, encode_object
from rqdisco.http.requests.request import Request, decoded_path, has_flag, path_of
from rqdisco.http.requests.responses import BadRequest, Response
from rqdisco.http.requests.runner import ApiRunner, Attempt, unsupported_method
from rqdisco.http.server.throttling import CreationLimit
from rqdisco.probes.node_health import down_last
from rqdisco.security.tokens import Token
from rqdisco.telemetry.answer_history import AnswerHistory
from rqdisco.telemetry.events import ON_BEHALF

# The Age header of a copy whose age is not known; also the highest that is sent.
_MAX_AGE = 2**31
_KINDS = {b"POST": "registration", b"DELETE": "removal", b"PUT": "create"}
_decode_node = msgspec.json.Decoder(Node).decode


class _RegistrationBody(msgspec.Struct):
    """The members that are used. Their types are checked one by one, so that an error names the
    member.
    """

    addr: object = msgspec.UNSET
    raft_addr: object = None
    node_id: object = None


class DiscoveryAPI(Api):
    """Translates between HTTP and the directory.

    `history` stores answers, `creation_limit` limits how many IDs each client creates. `explains`
    answers `?explain=1` to every client, not only to admins. Without `authorizer` every request is
    allowed. Nodes that are down are listed last, because joiners try one after the other; they are
    never left out.
    """

    def __init__(
        self,
        context: HTTPContext,
        runner: ApiRunner,
        encoder: RecordEncoder,
        history: AnswerHistory,
        creation_limit: CreationLimit,
        authorizer: Authorizer | None = None,
        *,
        explains: bool = False,
    ) -> None:
        super().__init__(runner, authorizer, _kind_of)
        self._directory = context.directory
        self._describe = context.describe
        self._node_health = context.node_health
        self._encoder = encoder
        self._history = history
        self._creation_limit = creation_limit
        self._explains = explains
        self._log = Logger()

    def check(self, variable: str | None = None) -> None:
        if variable is not None and (not is_id(variable) or variable in RESERVED_IDS):
            raise NoSuchID(variable)

    async def refuse_method(self, request: Request, allow: str, variable: str | None = None) -> Response:
        if variable is not None:
            await self._directory.look_up(variable)
        raise unsupported_method(request, allow)

    async def show(self, request: Request, discovery_id: str, token: Token | None) -> Response:
        """Show the nodes of an ID."""
        if has_flag(request, b"consistent"):
            record = await self._directory.look_up_at_owner(discovery_id)
            age: float | None = 0.0
        else:
            record = await self._directory.look_up(discovery_id)
            age = self._directory.age(record)
        explains = self._explains if token is None else token.is_admin
        if explains and has_flag(request, b"explain"):
            return await self._explain(discovery_id, age)
        # A copy has an age (RFC 9111 section 5.1), the owner's record has none.
        headers = () if age == 0.0 else ((b"age", b"%d" % min(_MAX_AGE if age is None else age, _MAX_AGE)),)
        return Response(200, self._encoder.full(record), headers=headers)

    async def _explain(self, discovery_id: str, age: float | None) -> Response:
        record = await self._directory.inspect(discovery_id)
        may_grant, history = self._directory.has_owner(record), self._history.of(record.id)
        return Response(200, explanation(record, may_grant=may_grant, age=age, history=history))

    async def refuse_page(self, request: Request, token: Token | None) -> Response:
        """Answer at the path of a page clients that want none."""
        raise NoSuchID(path_of(request).strip("/"))

    async def create(self, request: Request, token: Token | None) -> Response:
        """Create an ID."""
        self._creation_limit.check_create(request)
        with Attempt(self._runner, "create", request, token=token) as attempt:
            record = await self._directory.create()
            attempt.discovery_id, attempt.result = record.id, "created"
        return Response(200, encode_document(record, ()))

    async def create_named(self, request: Request, discovery_id: str, token: Token | None) -> Response:
        """Create an ID of a given name."""
        if (objection := name_objection(discovery_id)) is not None:
            raise InvalidValue("name", objection)
        self._creation_limit.check_create(request)
        with Attempt(self._runner, "create", request, discovery_id, token) as attempt:
            record = await self._directory.create_named(discovery_id)
            attempt.result = "created"
        return Response(201, encode_document(record, ()), b"Created")

    async def describe(self, request: Request, token: Token | None) -> Response:
        """Describe the service."""
        return Response(200, encode_object(self._service_info(request)))

    def _service_info(self, request: Request) -> ServiceDocument:
        """Describe the service; without the number of IDs to clients without a token, so that
        probes need none.
        """
        info = self._describe()
        if self._authorizer is not None:
            if not secrets_in(request):
                return replace(info, ids=msgspec.UNSET)
            self._authorizer.admit(request, "known")
        return info

    async def register(self, request: Request, discovery_id: str, token: Token | None) -> Response:
        """Register a node."""
        with Attempt(self._runner, "registration", request, discovery_id, token) as attempt:
            try:
                node = self._node(request, attempt)
            except Exception:
                # A missing ID is reported before an invalid body.
                await self._directory.look_up(discovery_id)
                raise
            outcome = await self._directory.register(discovery_id, node, client_host(request))
            attempt.result = outcome.bootstrap or (ON_BEHALF if outcome.on_behalf else "listed")
            self._history.note(discovery_id, node.addr, attempt.result, len(outcome.listed))
            if self._node_health is not None:
                self._node_health.on_registration(node)
        listed = down_last(outcome.listed, self._node_health)
        return Response(200, encode_document(outcome.record, listed))

    async def remove(self, request: Request, discovery_id: str, token: Token | None) -> Response:
        """Remove a node."""
        with Attempt(self._runner, "removal", request, discovery_id, token) as attempt:
            await self._directory.look_up(discovery_id)
            body = _decoded(self._runner.body(request))
            outcome = await self._directory.remove(discovery_id, _addr(body, attempt))
            attempt.result = "removed" if outcome.removed else "absent"
            if outcome.removed and attempt.addr is not None:
                self._history.forget(discovery_id, attempt.addr)
        record = outcome.record
        if outcome.removed and not record.nodes:
            self._log_emptied(record)
        return Response(200, encode_document(record, down_last(record.nodes, self._node_health)))

    def _log_emptied(self, record: View) -> None:
        if self._directory.has_owner(record):
            self._log.warn("no nodes left, the next to register is told to bootstrap", discovery_id=record.id)
        else:
            self._log.warn(
                "no nodes left, and the ID is ownerless: no node is told to bootstrap", discovery_id=record.id
            )

    def _node(self, request: Request, attempt: Attempt) -> Node:
        """Decode the node of a registration. Raises BadRequest, BodyTooLarge, InvalidValue,
        MisleadingAddress.
        """
        content = self._runner.body(request)
        body = _decoded_node(content) or _decoded(content)
        node = Node(
            addr=_addr(body, attempt),
            raft_addr=None if body.raft_addr is None else check_text("raft_addr", body.raft_addr),
            node_id=None if body.node_id is None else check_text("node_id", body.node_id),
        )
        self._runner.check_reachable(node.addr, attempt)
        if node.raft_addr is not None:
            self._runner.check_raft_address(node.raft_addr, attempt)
        return node


def _kind_of(request: Request) -> str:
    """The kind of event that a request attempts."""
    name = decoded_path(request).strip(b"/")
    if not name:
        return "create" if request.method == b"POST" and request.path == b"/" else "request"
    return "request" if b"/" in name else _KINDS.get(request.method, "request")


def _decoded_node(content: bytes) -> Node | None:
    """Decode a JSON object whose members are of the right types; return None for any other body."""
    try:
        return _decode_node(content.decode())
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _decoded(content: bytes) -> _RegistrationBody:
    """Decode a JSON object with an address; unknown members are ignored. Raises BadRequest.

    msgspec refuses a lone surrogate or a huge number anywhere. The standard library accepts them,
    so that the error names the member at fault.
    """
    try:
        text = content.decode()
        try:
            body = msgspec.json.decode(text, type=_RegistrationBody)
        except msgspec.DecodeError:
            body = _picked(json.loads(text, parse_constant=_no_constant))
    except (ValueError, RecursionError):
        raise BadRequest("bad request body") from None
    if body.addr is msgspec.UNSET:
        raise BadRequest("address not specified")
    return body


def _picked(members: object) -> _RegistrationBody:
    if not isinstance(members, dict):
        raise BadRequest("bad request body")
    return _RegistrationBody(**{name: members[name] for name in _RegistrationBody.__struct_fields__ if name in members})


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _addr(body: Node | _RegistrationBody, attempt: Attempt) -> str:
    addr = check_text("address", body.addr)
    attempt.addr = addr
    return addr
