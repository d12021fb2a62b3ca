"""What only the operator of this daemon may ask: all records out, records in."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

import msgspec
from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug.exceptions import HTTPException

from rqdisco.core.codec import Malformed
from rqdisco.core.directory import Directory
from rqdisco.core.errors import RequestRefused
from rqdisco.core.exports import TransferredRecord, decode_batch
from rqdisco.http.api.export_stream import ExportStream
from rqdisco.http.requests.authorization import Authorizer
from rqdisco.http.requests.documents import encode_object
from rqdisco.http.requests.responses import BadBatch, MethodNotAllowed, NotFound, Response
from rqdisco.http.requests.runner import Answering, ApiResource, ApiRunner, decoded_path, method_of, refused
from rqdisco.security.tokens import Token
from rqdisco.storage.shielding import shielded
from rqdisco.telemetry.counters import Route

_ROUTES: dict[bytes, Route] = {
    path.encode(): ("operator", path)
    for path in (
        "/operator/export",
        "/operator/import",
        "/operator/peers",
        "/operator/peers/forget",
        "/operator/drain",
    )
}
_OTHER: Route = ("operator", "other")
_ATTEMPTED = {b"/operator/import": "import", b"/operator/peers/forget": "forget", b"/operator/drain": "drain"}
T = TypeVar("T")
_log = Logger()


class ClusterAdmin(Protocol):
    """What an operator may ask of peers. The last two raise RequestRefused, StoreUnavailable."""

    def show(self) -> dict[str, Any]:
        """All peers and their state."""

    async def forget(self, name: str) -> int:
        """A peer is lost: take over its IDs; returns how many they are."""

    async def drain(self, to: str | None) -> str:
        """Hand over this daemon's IDs, to the peer of that name if one is given; returns who has
        them now.
        """


class _Forget(msgspec.Struct):
    name: str


class _Drain(msgspec.Struct):
    to: str | None = None


class OperatorAPI:
    """`GET /operator/export` and `POST /operator/import`; `peers` adds what there is to be asked of
    those.

    `authorizer` lets in who has an admin's token; without it whoever reaches this door is the
    operator.
    """

    app = Klein()

    def __init__(
        self,
        directory: Directory,
        runner: ApiRunner,
        clock: IReactorTime,
        peers: ClusterAdmin | None = None,
        authorizer: Authorizer | None = None,
    ) -> None:
        self._authorizer = None if authorizer is None else authorizer.at(runner.api, _attempted)
        self._peers = peers
        self._directory = directory
        self._clock = clock
        self._runner = runner
        self._log = Logger()

    def resource(self) -> KleinResource:
        """All paths below `/operator`."""
        return ApiResource(self.app, lambda _: None, self._unknown, _route)

    @app.route("/operator/export")
    def export(self, request: IRequest) -> Deferred[bytes] | bytes:
        try:
            token = self._admit(request, "GET")
        except (RequestRefused, MethodNotAllowed) as error:
            return self._runner.through_klein(request, refused(error))
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"cache-control", b"no-store")
        self._log.info("export", peer=_peer(request), token=_name(token))
        exporting = ExportStream(request, self._directory, self._clock)
        exporting.begin()
        return exporting.done

    @app.route("/operator/import")
    def import_(self, request: IRequest) -> Deferred[bytes] | bytes:
        return self._runner.through_klein(request, self._admitted(request, "POST", self._import))

    @app.route("/operator/peers")
    def peers(self, request: IRequest) -> Deferred[bytes] | bytes:
        """`GET`: all peers and their state."""
        return self._runner.through_klein(request, self._admitted(request, "GET", self._show_peers))

    @app.route("/operator/peers/forget")
    def forget(self, request: IRequest) -> Deferred[bytes] | bytes:
        """`POST {"name": NAME}`: a peer is lost for good."""
        return self._at_leisure(request, self._admitted(request, "POST", self._forget))

    @app.route("/operator/drain")
    def drain(self, request: IRequest) -> Deferred[bytes] | bytes:
        """`POST {"to": NAME}`, or `{}`: another peer becomes the home of this daemon's IDs."""
        return self._at_leisure(request, self._admitted(request, "POST", self._drain))

    def failed(self, request: IRequest, failure: Failure) -> Deferred[bytes] | bytes:
        error: Any = failure.value if failure.check(HTTPException) is None else _no_such_resource()
        return self._runner.through_klein(request, self._nothing(request, error))

    # Not as a decorator, which by its types gives back no method.
    app.handle_errors(failed)

    def _unknown(self, request: IRequest) -> Answering:
        return self._runner.answer(self._nothing(request, _no_such_resource()))

    async def _nothing(self, request: IRequest, error: Exception) -> Response:
        self._admit(request)
        raise error

    def _admit(self, request: IRequest, method: str | None = None) -> Token | None:
        """The caller's token, if tokens are asked for. Raises NotAuthenticated, NotAllowed,
        MethodNotAllowed.
        """
        token = None if self._authorizer is None else self._authorizer.admit(request, "admin")
        if method is not None and method_of(request) != method:
            raise MethodNotAllowed(f'unsupported method "{method_of(request)}"', method)
        return token

    async def _admitted(
        self, request: IRequest, method: str, handle: Callable[[IRequest, str | None], Coroutine[Any, Any, Response]]
    ) -> Response:
        """What `handle` answers to the request and the name of its token."""
        return await handle(request, _name(self._admit(request, method)))

    def _at_leisure(self, request: IRequest, runner: Coroutine[Any, Any, Response]) -> Deferred[bytes] | bytes:
        """Answer however long it takes: an operator waits, and what was begun is brought to its
        end.
        """
        answering = shielded(Deferred.fromCoroutine(runner)).addErrback(self._runner.refuse)
        return answering.addCallback(lambda answer: answer.put_on(request))

    def _cluster_admin(self) -> ClusterAdmin:
        if self._peers is None:
            raise NotFound("this daemon has no peers")
        return self._peers

    async def _show_peers(self, request: IRequest, token: str | None) -> Response:
        return Response(200, encode_object(self._cluster_admin().show()))

    async def _forget(self, request: IRequest, token: str | None) -> Response:
        with self._runner.note("forget", request, asker=token) as note:
            asked = self._decoded(request, _Forget)
            note.more = {"name": asked.name}
            count = await self._cluster_admin().forget(asked.name)
            note.result, note.more = "forgotten", {"name": asked.name, "ids": count}
        return Response(200, encode_object({"forgotten": asked.name, "ids": count}))

    async def _drain(self, request: IRequest, token: str | None) -> Response:
        with self._runner.note("drain", request, asker=token) as note:
            asked = self._decoded(request, _Drain)
            note.more = {"to": asked.to}
            successor = await self._cluster_admin().drain(asked.to)
            note.result, note.more = "drained", {"to": successor}
        return Response(200, encode_object({"drained": True, "to": successor}))

    def _decoded(self, request: IRequest, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(self._runner.body(request) or b"{}", type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadBatch(str(error)) from None

    async def _import(self, request: IRequest, token: str | None) -> Response:
        try:
            batch = decode_batch(self._runner.body(request))
        except Malformed as error:
            raise BadBatch(str(error)) from None
        importing = [
            Deferred.fromCoroutine(self._import_one(request, token, brought, adopt=batch.adopt))
            for brought in batch.records
        ]
        try:
            outcomes = await gatherResults(importing, consumeErrors=True)
        except FirstError as first:
            first.subFailure.raiseException()
            raise
        refusals = [outcome for outcome in outcomes if isinstance(outcome, dict)]
        imported, unchanged = outcomes.count("imported"), outcomes.count("unchanged")
        self._log.info(
            "import",
            imported=imported,
            unchanged=unchanged,
            refused=len(refusals),
            adopt=batch.adopt,
            peer=_peer(request),
            token=token,
        )
        return Response(200, encode_object({"imported": imported, "unchanged": unchanged, "refused": refusals}))

    async def _import_one(
        self, request: IRequest, token: str | None, brought: TransferredRecord, *, adopt: bool
    ) -> str | dict[str, str]:
        try:
            with self._runner.note("import", request, brought.id[:64], asker=token) as note:
                note.many, note.more = True, {"adopt": adopt}
                note.result = "imported" if await self._directory.adopt(brought, as_own=adopt) else "unchanged"
            return note.result
        except RequestRefused as refusal:
            return {"id": brought.id[:64], "why": str(refusal)}


def _attempted(request: Any) -> str:
    """What a request that is not let in would have been an event of."""
    path = _single_slash(decoded_path(request))
    return _ATTEMPTED.get(path, "request") if request.method == b"POST" else "request"


def _route(path: bytes) -> Route:
    return _ROUTES.get(_single_slash(path), _OTHER)


def _single_slash(path: bytes) -> bytes:
    return b"/" + path.lstrip(b"/")


def _name(token: Token | None) -> str | None:
    return None if token is None else token.name


def _peer(request: IRequest) -> str | None:
    return getattr(request.getClientAddress(), "host", None)


def _no_such_resource() -> NotFound:
    return NotFound("no such operator's resource")
