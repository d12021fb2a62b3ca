"""The part of Consul's key-value API that rqlite 7-10 speak: `GET|PUT|DELETE /v1/kv/ID/leader`.

The key holds the cluster's leader. `PUT ?cas=0` claims it, a plain `PUT` is a leader's report.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta
from twisted.logger import Logger

from rqdisco.core import host_binding
from rqdisco.core.addresses import is_local
from rqdisco.core.codec import Malformed, decode_put
from rqdisco.core.directory import Directory
from rqdisco.core.errors import NoSuchID, NotAllowed, NotAuthenticated, UnknownCreatedID
from rqdisco.core.ids import is_created_id, is_id, is_valid_name
from rqdisco.core.records import Leader, Put, Record
from rqdisco.core.views import View
from rqdisco.http.api.consul_query import KVQuery, QueryParser, query_parameters
from rqdisco.http.requests.api import Api
from rqdisco.http.requests.authorization import Authorizer
from rqdisco.http.requests.client_host import client_host
from rqdisco.http.requests.request import Request, decoded_path, method_of
from rqdisco.http.requests.responses import TEXT_PLAIN, BadRequest, Forbidden, MethodNotAllowed, NotFound, Response
from rqdisco.http.requests.runner import ApiRunner, Attempt
from rqdisco.http.server.throttling import CreationLimit
from rqdisco.security.tokens import Right, Token
from rqdisco.telemetry.answer_history import AnswerHistory

# Matched against a decoded path.
_KEY = re.compile(rb"/+v1/+kv/(.+)\Z", re.DOTALL)
_LEADER = re.compile(r"([^/]+)/leader\Z")
# Consul's own error texts, which its clients look for, and the reason, which rqlited logs.
_MISSING = "Permission denied: a token is required, set CONSUL_HTTP_TOKEN"
_UNKNOWN = "ACL not found: the token is unknown"
_NO_RIGHT = "Permission denied: the token lacks the scope {} for this ID"
_UNAUTHORIZED = (b"Permission denied", b"ACL not found")
# The view of an unknown ID.
_EMPTY_VIEW = View(id="", owner="", version=0, created_at=0)
# The consequences of removing a key, for the log.
_REMOVED = {
    "leader": "leader removed: its nodes stay listed, and nobody is told to bootstrap until they are removed too",
    "claim": "claim ended: the next to claim or to register is told to bootstrap",
}


class KVEntry(msgspec.Struct, frozen=True, rename="pascal"):
    """An entry as Consul encodes it."""

    lock_index: int
    key: str
    flags: int
    value: Annotated[str, Meta(description="The value in base64.")]
    create_index: int
    modify_index: int


class ConsulAPI(Api):
    """Translates between Consul's API and the directory.

    Without `authorizer` every request is allowed.
    """

    def __init__(
        self,
        directory: Directory,
        runner: ApiRunner,
        history: AnswerHistory,
        creation_limit: CreationLimit,
        authorizer: Authorizer | None = None,
    ) -> None:
        super().__init__(runner, authorizer, _kind_of)
        self._history = history
        self._creation_limit = creation_limit
        self._directory = directory
        self._log = Logger()
        self._queries = QueryParser(self._log)

    def admit(self, request: Request, right: Right, variable: str | None = None) -> Token | None:
        """Return the caller's token, None if tokens are not required. Raises Forbidden."""
        try:
            return super().admit(request, right, variable)
        except NotAuthenticated as error:
            raise Forbidden(_UNKNOWN if error.was_given else _MISSING) from None
        except NotAllowed:
            raise Forbidden(_NO_RIGHT.format(right)) from None

    def no_such_path(self, request: Request) -> Exception:
        return NotFound("not supported by rqdisco")

    async def refuse_method(self, request: Request, allow: str, variable: str | None = None) -> Response:
        raise MethodNotAllowed(f"method {method_of(request)} not allowed", allow)

    async def refuse_empty_key(self, request: Request, token: Token | None) -> Response:
        """Answer any request without a key."""
        raise BadRequest("Missing key name")

    async def read_other(self, request: Request, key: str, token: Token | None) -> Response:
        """Read a key that no ID has."""
        self._queries.parse(request)
        raise NotFound

    async def refuse_other(self, request: Request, key: str, token: Token | None) -> Response:
        """Refuse to change a key that no ID has."""
        self._queries.parse(request)
        raise _unsupported_key()

    async def read(self, request: Request, discovery_id: str, token: Token | None) -> Response:
        """Read the leader key of an ID. Check in this order: token, method, query, ID."""
        query = self._queries.parse(request)
        # Also an ID whose name a later version of the service reserved.
        leader = await self._leader(discovery_id, client_host(request)) if is_id(discovery_id) else None
        if leader is None:
            raise NotFound
        if query.raw:
            nosniff = ((b"x-content-type-options", b"nosniff"),)
            return Response(200, leader.value.encode(), headers=nosniff, content_type=TEXT_PLAIN)
        value = b64encode(leader.value.encode()).decode()
        entry = KVEntry(0, f"{discovery_id}/leader", leader.flags, value, leader.created, leader.modified)
        return Response(200, msgspec.json.encode([entry]))

    async def put(self, request: Request, discovery_id: str, token: Token | None) -> Response:
        """Claim the leader key, or report the leader. Check in this order: token, method, query,
        key, body, ID.
        """
        query = self._query_of_change(request, discovery_id)
        if query.cas == 0:
            return await self._claim(request, discovery_id, query, token)
        return await self._report(request, discovery_id, query, token)

    async def clear(self, request: Request, discovery_id: str, token: Token | None) -> Response:
        """Delete the leader key."""
        return await self._clear(request, discovery_id, self._query_of_change(request, discovery_id), token)

    def _query_of_change(self, request: Request, discovery_id: str) -> KVQuery:
        """The parameters of a change; the ID must be one that can be created."""
        query = self._queries.parse(request)
        if not is_valid_name(discovery_id):
            raise _unsupported_key()
        return query

    async def _leader(self, discovery_id: str, host: str | None) -> Leader | None:
        """The leader key, if a client at `host` may join its node (R5d)."""
        view = await self._find(discovery_id)
        leader, host = None if view is None else view.leader, self._directory.name_host(host)
        if view is None or leader is None:
            return None
        nodes = [node for node in view.nodes if node.addr == leader.addr]
        return leader if all(host_binding.may_join(view, node, host_binding.by_raft, host) for node in nodes) else None

    async def _find(self, discovery_id: str) -> View | None:
        try:
            return await self._directory.look_up(discovery_id)
        except NoSuchID:
            return None

    async def _check_creation(self, request: Request, discovery_id: str) -> None:
        """Count the creation of an ID that does not exist yet. Raises TooManyRequests."""
        try:
            await self._directory.look_up(discovery_id)
        except NoSuchID:
            self._creation_limit.check_named(request)

    async def _claim(self, request: Request, discovery_id: str, query: KVQuery, token: Token | None) -> Response:
        with Attempt(self._runner, "claim", request, discovery_id, token) as attempt:
            put = self._put(request, query, attempt)
            self._check_http(put, attempt)
            if not is_created_id(discovery_id):
                # A claim never creates an ID of the form that daemons create.
                await self._check_creation(request, discovery_id)
            host = client_host(request)
            try:
                outcome = await self._directory.claim(discovery_id, put, host)
            except UnknownCreatedID:
                raise
            except NoSuchID:
                raise _does_not_exist(discovery_id) from None
            attempt.result = ("again" if outcome.again else "granted") if outcome.won else "lost"
            self._history.note(discovery_id, put.node.addr, f"claim {attempt.result}", len(outcome.record.nodes))
        if outcome.won or self._is_refused(discovery_id, outcome.record, put, host):
            return _boolean(outcome.won)
        if outcome.record.leader is None:
            self._log.warn(
                "claims wait: nodes are registered, but no leader has reported itself",
                discovery_id=discovery_id,
            )
        return _boolean(False)

    async def _report(self, request: Request, discovery_id: str, query: KVQuery, token: Token | None) -> Response:
        with Attempt(self._runner, "leader report", request, discovery_id, token) as attempt:
            put = self._put(request, query, attempt)
            host = client_host(request)
            before = await self._leader(discovery_id, host)
            self._check_http(put, attempt, is_known=before is not None and before.value == put.value)
            if before is None:
                await self._check_creation(request, discovery_id)
            try:
                done = await self._directory.report(discovery_id, put, host, query.cas)
            except NoSuchID:
                raise _does_not_exist(discovery_id) from None
            attempt.result = "reported" if done else "lost"
            # A leader repeats its report every ten seconds.
            attempt.is_repeat = done and before is not None and before.value == put.value
        if not done and query.cas is None:
            self._is_refused(discovery_id, await self._find(discovery_id) or _EMPTY_VIEW, put, host)
        return _boolean(done)

    def _is_refused(self, discovery_id: str, record: Record | View, put: Put, host: str | None) -> bool:
        """Report whether a client at `host` may not lead from there (R5d).

        rqlited does not log an answer of `false`, so the refusal is counted, and logged once a
        minute.
        """
        why = host_binding.objection(record, put.node, host_binding.by_raft, self._directory.name_host(host))
        if why is None:
            return False
        self._runner.telemetry.refusals[self._runner.api, "another_machine"] += 1
        if self._runner.is_log_due(f"{discovery_id} {host}"):
            self._log.warn(
                "the leader key is refused: {why}",
                why=why,
                addr=put.node.raft_addr,
                peer=host,
                discovery_id=discovery_id,
            )
        return True

    async def _clear(self, request: Request, discovery_id: str, query: KVQuery, token: Token | None) -> Response:
        with Attempt(self._runner, "leader removal", request, discovery_id, token) as attempt:
            clearing = await self._directory.clear_leader(discovery_id, query.cas)
            attempt.result = "lost" if not clearing.done else "absent" if clearing.removed is None else "removed"
        if clearing.removed is not None:
            self._log.warn(_REMOVED[clearing.removed], discovery_id=discovery_id)
        return _boolean(clearing.done)

    def _put(self, request: Request, query: KVQuery, attempt: Attempt) -> Put:
        """Decode the body. Raises BadRequest, InvalidValue, BodyTooLarge."""
        try:
            put = decode_put(self._runner.body(request), query.flags)
        except Malformed as error:
            raise BadRequest(str(error)) from None
        attempt.addr = put.node.addr
        return put

    def _check_http(self, put: Put, attempt: Attempt, *, is_known: bool = False) -> None:
        """Log or refuse an HTTP address that others can hardly reach: rqlite 7 joins by it, while
        claims are judged by the Raft address (R5d). Raises InvalidValue, MisleadingAddress.
        """
        is_judged = is_local(host_binding.by_raft(put.node))
        self._runner.check_reachable(put.node.addr, attempt, is_known=is_known or is_judged)


def with_consul_headers(directory: Directory) -> Callable[[Response], Response]:
    """Return a function that adds the headers of Consul's responses to authorized clients."""

    def finish(response: Response) -> Response:
        if response.status == 403 and response.body.startswith(_UNAUTHORIZED):
            # Consul adds none, either; and the index would reveal how often something changes.
            return response
        index = (b"x-consul-index", b"%d" % directory.index)
        others = ((b"x-consul-knownleader", b"true"), (b"x-consul-lastcontact", b"0"))
        return msgspec.structs.replace(response, headers=(*response.headers, index, *others))

    return finish


def _kind_of(request: Request) -> str:
    """The kind of event that a request attempts."""
    key = _KEY.match(decoded_path(request))
    leader = None if key is None else _LEADER.match(key[1].decode("utf-8", "replace"))
    if leader is None or not is_id(leader[1]):
        return "request"
    if request.method == b"PUT":
        cas = query_parameters(request).get("cas", "")
        return "claim" if cas and not cas.strip("0") else "leader report"
    return "leader removal" if request.method == b"DELETE" else "request"


def _boolean(value: bool) -> Response:
    return Response(200, b"true" if value else b"false")


def _does_not_exist(discovery_id: str) -> Forbidden:
    return Forbidden(f"discovery ID {discovery_id} does not exist")


def _unsupported_key() -> BadRequest:
    return BadRequest("unsupported key, only <ID>/leader")
