"""The part of Consul's key-value API that rqlite 7-10 speak: `GET|PUT|DELETE /v1/kv/ID/leader`.

The key holds who leads the cluster. `PUT ?cas=0` claims it, a plain `PUT` is a leader's report.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug.exceptions import HTTPException

from rqdisco.core import host_binding
from rqdisco.core.addresses import is_local
from rqdisco.core.codec import Malformed, decode_put
from rqdisco.core.directory import Directory
from rqdisco.core.errors import NoSuchID, NotAllowed, NotAuthenticated, UnknownCreatedID
from rqdisco.core.ids import is_created_id, is_id, may_be_named
from rqdisco.core.records import Leader, Put, Record
from rqdisco.core.views import View
from rqdisco.http.requests.authorization import Authorizer
from rqdisco.http.requests.client_host import client_host
from rqdisco.http.requests.responses import BadRequest, Forbidden, MethodNotAllowed, NotFound, Response
from rqdisco.http.requests.runner import Answering, ApiResource, ApiRunner, Attempt, decoded_path, method_of
from rqdisco.http.server.throttling import CreationLimit
from rqdisco.security.tokens import Right, Token
from rqdisco.telemetry.answer_history import AnswerHistory
from rqdisco.telemetry.counters import Route

# In a path without its escapes.
_KEY = re.compile(rb"/+v1/+kv/(.+)\Z", re.DOTALL)
_LEADER = re.compile(r"([^/]+)/leader\Z")
# In Consul's words.
_NO_TOKEN, _NO_RIGHT = b"ACL not found", b"Permission denied"
_ROUTE: Route = ("consul", "/v1/kv/KEY")
_OTHER: Route = ("consul", "other")
_ALLOW = "GET, PUT, DELETE"
_MOST = 2**64
_ELSEWHERE = ("dc", "ns", "partition")
# What there is of an ID that is not known.
_NOTHING = View(id="", owner="", version=0, created_at=0)
# What comes of a key that was removed.
_REMOVED = {
    "leader": "leader removed: its nodes stay listed, and nobody is told to bootstrap until they are removed too",
    "claim": "claim ended: the next to claim or to register is told to bootstrap",
}


class _KVEntry(msgspec.Struct, frozen=True, rename="pascal"):
    """An entry as Consul gives it."""

    lock_index: int
    key: str
    flags: int
    value: str
    create_index: int
    modify_index: int


class _Ask(msgspec.Struct, frozen=True):
    """What the query string asks for; what only other keys or other services could give is refused
    before.
    """

    cas: int | None
    flags: int
    raw: bool


class ConsulAPI:
    """The door itself: what Consul's clients say in, what the directory answers out.

    `authorizer` lets in who has a token; without it everybody may everything.
    """

    app = Klein()

    def __init__(
        self,
        directory: Directory,
        runner: ApiRunner,
        history: AnswerHistory,
        creation_limit: CreationLimit,
        authorizer: Authorizer | None = None,
    ) -> None:
        self._authorizer = None if authorizer is None else authorizer.at(runner.api, _attempted)
        self._history = history
        self._creation_limit = creation_limit
        self._directory = directory
        self._runner = runner
        self._log = Logger()
        self._ignored: set[str] = set()

    def resource(self) -> KleinResource:
        """All paths below `/v1`."""
        return ApiResource(self.app, self._match, self._unknown, lambda _: _OTHER)

    @app.route("/v1/kv/", strict_slashes=False)
    def no_key(self, request: IRequest) -> Deferred[bytes] | bytes:
        return self._runner.through_klein(request, self._nothing(request, BadRequest("Missing key name")))

    @app.route("/v1/kv/<path:key>")
    def entry(self, request: IRequest, key: str) -> Deferred[bytes] | bytes:
        return self._runner.through_klein(request, self._answer(request, key))

    def failed(self, request: IRequest, failure: Failure) -> Deferred[bytes] | bytes:
        error: Any = failure.value if failure.check(HTTPException) is None else _not_supported()
        return self._runner.through_klein(request, self._nothing(request, error))

    # Not as a decorator, which by its types gives back no method.
    app.handle_errors(failed)

    def _match(self, request: Any) -> Answering | None:
        match = _KEY.match(decoded_path(request))
        if match is None:
            return None
        request.route = _ROUTE
        return self._runner.answer(self._answer(request, match[1].decode("utf-8", "replace")))

    def _unknown(self, request: IRequest) -> Answering:
        return self._runner.answer(self._nothing(request, _not_supported()))

    def _admit(self, request: IRequest, right: Right, discovery_id: str | None = None) -> Token | None:
        """The caller's token, if tokens are asked for. Raises Forbidden."""
        if self._authorizer is None:
            return None
        try:
            return self._authorizer.admit(request, right, discovery_id)
        except NotAuthenticated as error:
            raise Forbidden((_NO_TOKEN if error.was_given else _NO_RIGHT).decode()) from None
        except NotAllowed:
            raise Forbidden(_NO_RIGHT.decode()) from None

    async def _nothing(self, request: IRequest, error: Exception) -> Response:
        self._admit(request, "known")
        raise error

    async def _answer(self, request: IRequest, key: str) -> Response:
        """Answer a request for a key. The checks are made in this order: token, method, query, key,
        body, ID.
        """
        method = method_of(request)
        match = _LEADER.match(key)
        right: Right = "write" if method in ("PUT", "DELETE") else "read"
        token = None if self._authorizer is None else self._admit(request, right, key if match is None else match[1])
        if method not in ("GET", "HEAD", "PUT", "DELETE"):
            raise MethodNotAllowed(f"method {method} not allowed", _ALLOW)
        ask = self._ask(request)
        discovery_id = match[1] if match is not None and is_id(match[1]) else None
        if method in ("GET", "HEAD"):
            # Also under a name that the service kept for itself only after somebody had taken it.
            return await self._read(request, discovery_id, key, ask)
        if discovery_id is None or not may_be_named(discovery_id):
            raise BadRequest("unsupported key, only <ID>/leader")
        if method == "DELETE":
            return await self._clear(request, discovery_id, ask, token)
        if ask.cas == 0:
            return await self._claim(request, discovery_id, ask, token)
        return await self._report(request, discovery_id, ask, token)

    async def _read(self, request: IRequest, discovery_id: str | None, key: str, ask: _Ask) -> Response:
        leader = None if discovery_id is None else await self._leader(discovery_id, client_host(request))
        if leader is None:
            raise NotFound
        if ask.raw:
            nosniff = ((b"x-content-type-options", b"nosniff"),)
            return Response(200, leader.value.encode(), headers=nosniff, content_type=b"text/plain; charset=utf-8")
        value = b64encode(leader.value.encode()).decode()
        entry = _KVEntry(0, key, leader.flags, value, leader.created, leader.modified)
        return Response(200, msgspec.json.encode([entry]))

    async def _leader(self, discovery_id: str, host: str | None) -> Leader | None:
        """The leader key, where a client at `host` may be sent to its node (R5d)."""
        view = await self._known(discovery_id)
        leader, host = None if view is None else view.leader, self._directory.name_host(host)
        if view is None or leader is None:
            return None
        nodes = [node for node in view.nodes if node.addr == leader.addr]
        return leader if all(host_binding.may_join(view, node, host_binding.by_raft, host) for node in nodes) else None

    async def _known(self, discovery_id: str) -> View | None:
        try:
            return await self._directory.look_up(discovery_id)
        except NoSuchID:
            return None

    async def _check_new(self, request: IRequest, discovery_id: str) -> None:
        """Count an ID that comes to be now. Raises TooManyRequests."""
        try:
            await self._directory.look_up(discovery_id)
        except NoSuchID:
            self._creation_limit.check_named(request)

    async def _claim(self, request: IRequest, discovery_id: str, ask: _Ask, token: Token | None) -> Response:
        with self._runner.note("claim", request, discovery_id, token) as note:
            put = self._put(request, ask, note)
            self._check_http(put, note)
            if not is_created_id(discovery_id):
                # A claim makes none of those that daemons mint.
                await self._check_new(request, discovery_id)
            host = client_host(request)
            try:
                outcome = await self._directory.claim(discovery_id, put, host)
            except UnknownCreatedID:
                raise
            except NoSuchID:
                raise _not_made(discovery_id) from None
            note.result = ("again" if outcome.again else "granted") if outcome.won else "lost"
            self._history.note(discovery_id, put.node.addr, f"claim {note.result}", len(outcome.record.nodes))
        if outcome.won or self._is_refused(discovery_id, outcome.record, put, host):
            return _yes_or_no(outcome.won)
        if outcome.record.leader is None:
            self._log.warn(
                "nodes are registered but no leader is known: who claims leadership waits until one reports itself",
                discovery_id=discovery_id,
            )
        return _yes_or_no(False)

    async def _report(self, request: IRequest, discovery_id: str, ask: _Ask, token: Token | None) -> Response:
        with self._runner.note("leader report", request, discovery_id, token) as note:
            put = self._put(request, ask, note)
            host = client_host(request)
            before = await self._leader(discovery_id, host)
            self._check_http(put, note, is_known=before is not None and before.value == put.value)
            if before is None:
                await self._check_new(request, discovery_id)
            try:
                done = await self._directory.report(discovery_id, put, host, ask.cas)
            except NoSuchID:
                raise _not_made(discovery_id) from None
            note.result = "reported" if done else "lost"
            # A leader repeats itself every ten seconds.
            note.quiet = done and before is not None and before.value == put.value
        if not done and ask.cas is None:
            self._is_refused(discovery_id, await self._known(discovery_id) or _NOTHING, put, host)
        return _yes_or_no(done)

    def _is_refused(self, discovery_id: str, record: Record | View, put: Put, host: str | None) -> bool:
        """Whether a client at `host` may not lead from where it is (R5d).

        rqlited does not say that it was answered `false`, so this is counted, and logged once a
        minute.
        """
        why = host_binding.objection(record, put.node, host_binding.by_raft, self._directory.name_host(host))
        if why is None:
            return False
        self._runner.telemetry.refusals[self._runner.api, "another_machine"] += 1
        if self._runner.is_due(f"{discovery_id} {host}"):
            self._log.warn(
                "the leader key is refused: {why}",
                why=why,
                addr=put.node.raft_addr,
                peer=host,
                discovery_id=discovery_id,
            )
        return True

    async def _clear(self, request: IRequest, discovery_id: str, ask: _Ask, token: Token | None) -> Response:
        with self._runner.note("leader removal", request, discovery_id, token) as note:
            clearing = await self._directory.clear_leader(discovery_id, ask.cas)
            note.result = "lost" if not clearing.done else "absent" if clearing.removed is None else "removed"
        if clearing.removed is not None:
            self._log.warn(_REMOVED[clearing.removed], discovery_id=discovery_id)
        return _yes_or_no(clearing.done)

    def _put(self, request: IRequest, ask: _Ask, note: Attempt) -> Put:
        """What the body says. Raises BadRequest, InvalidValue, BodyTooLarge."""
        try:
            put = decode_put(self._runner.body(request), ask.flags)
        except Malformed as error:
            raise BadRequest(str(error)) from None
        note.addr = put.node.addr
        return put

    def _check_http(self, put: Put, note: Attempt, *, is_known: bool = False) -> None:
        """Log an HTTP address that others can hardly reach, or refuse it: rqlite 7 joins by it, and
        the Raft address is what a claim is judged by (R5d). Raises InvalidValue, MisleadingAddress.
        """
        is_judged = is_local(host_binding.by_raft(put.node))
        self._runner.check_reachable(put.node.addr, note, is_known=is_known or is_judged)

    def _ask(self, request: IRequest) -> _Ask:
        given = _given(request)
        if "acquire" in given or "release" in given:
            both = "cas" in given or {"acquire", "release"} <= given.keys()
            raise BadRequest("Conflicting flags" if both else "sessions are not supported by rqdisco")
        if "recurse" in given or "keys" in given:
            raise BadRequest("recurse and keys are not supported by rqdisco")
        for name in _ELSEWHERE:
            if name in given and name not in self._ignored:
                self._ignored.add(name)
                self._log.info("consul-kv: a parameter is ignored, there is one of it only", parameter=name)
        return _Ask(
            cas=_number(given["cas"], "Invalid cas index") if "cas" in given else None,
            flags=_number(given["flags"], "Invalid flags") if "flags" in given else 0,
            raw="raw" in given,
        )


def with_consul_headers(directory: Directory) -> Callable[[Response], Response]:
    """Puts on an answer what every answer of Consul's has to who may ask."""

    def finish(answer: Response) -> Response:
        if answer.body in (_NO_TOKEN, _NO_RIGHT):
            # Nor does Consul, and who may know nothing may not know either how often something
            # changes.
            return answer
        index = (b"x-consul-index", b"%d" % directory.index)
        others = ((b"x-consul-knownleader", b"true"), (b"x-consul-lastcontact", b"0"))
        return msgspec.structs.replace(answer, headers=(*answer.headers, index, *others))

    return finish


def _attempted(request: Any) -> str:
    """What a request that is not let in would have been an event of."""
    key = _KEY.match(decoded_path(request))
    leader = None if key is None else _LEADER.match(key[1].decode("utf-8", "replace"))
    if leader is None or not is_id(leader[1]):
        return "request"
    if request.method == b"PUT":
        cas = _given(request).get("cas", "")
        return "claim" if cas and not cas.strip("0") else "leader report"
    return "leader removal" if request.method == b"DELETE" else "request"


def _given(request: Any) -> dict[str, str]:
    """The query string, as Consul reads it: of a parameter that is given twice the first counts."""
    query = request.uri.partition(b"?")[2].decode("utf-8", "replace")
    return dict(reversed(parse_qsl(query, keep_blank_values=True)))


def _number(text: str, complaint: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 30 and int(text) < _MOST):
        raise BadRequest(complaint)
    return int(text)


def _yes_or_no(yes: bool) -> Response:
    return Response(200, b"true" if yes else b"false")


def _not_made(discovery_id: str) -> Forbidden:
    return Forbidden(f"discovery ID {discovery_id} does not exist")


def _not_supported() -> NotFound:
    return NotFound("not supported by rqdisco")
