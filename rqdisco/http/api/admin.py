"""The operator's API: export and import records, show, forget and drain peers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import msgspec
from klein import Klein
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rqdisco.core.codec import Malformed, decode_json
from rqdisco.core.directory import Directory
from rqdisco.core.errors import RequestRefused
from rqdisco.core.exports import TransferredRecord, decode_batch
from rqdisco.http.api.export_stream import ExportStream
from rqdisco.http.requests.authorization import Authorizer
from rqdisco.http.requests.documents import encode_object
from rqdisco.http.requests.request import Request, decoded_path, method_of
from rqdisco.http.requests.responses import BadBatch, MethodNotAllowed, NotFound, Response
from rqdisco.http.requests.runner import (
    ApiApplication,
    ApiRunner,
    Attempt,
    EventualResponse,
    Handler,
    route,
    unsupported_method,
)
from rqdisco.limits.slots import Slots
from rqdisco.security.tokens import Token
from rqdisco.telemetry.counters import Route

# Each export keeps as much of the CPU busy as is left. The others wait for as long as clients do.
EXPORTS_AT_ONCE = 4
EXPORT_PATIENCE_SECONDS = 5.0
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
_KINDS = {b"/operator/import": "import", b"/operator/peers/forget": "forget", b"/operator/drain": "drain"}
T = TypeVar("T")


class ClusterAdmin(Protocol):
    """The operations on peers for an operator. `forget` and `drain` raise RequestRefused,
    StoreUnavailable.
    """

    def show(self) -> Mapping[str, object]:
        """Return all peers and their state."""

    async def forget(self, name: str) -> int:
        """Take over the IDs of a peer that is lost; return their number."""

    async def drain(self, to: str | None) -> str:
        """Hand over this daemon's IDs, to the peer named `to` if given; return their new owner."""


class _Forget(msgspec.Struct):
    name: str


class _Drain(msgspec.Struct):
    to: str | None = None


class OperatorAPI:
    """`GET /operator/export` and `POST /operator/import`; with `peers` also the operations on them.

    `authorizer` admits admins; without it every client that reaches this API is the operator.
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
        self._authorizer = None if authorizer is None else authorizer.for_api(runner.api, _kind_of)
        self._peers = peers
        self._directory = directory
        self._clock = clock
        self._runner = runner
        self._log = Logger()
        self._exports = Slots(EXPORTS_AT_ONCE, EXPORT_PATIENCE_SECONDS, clock)

    def application(self) -> ApiApplication:
        """The application of all paths below `/operator`."""
        return ApiApplication(self.app, lambda request, path: None, self._unknown, _route)

    @route(app, "/operator/export")
    def export(self, request: Request) -> EventualResponse | None:
        try:
            token = self._admit(request, "GET")
        except (RequestRefused, MethodNotAllowed) as error:
            return self._runner.refuse(Failure(error))
        self._log.info("export", peer=request.client, token=_name(token))
        exporting = Deferred.fromCoroutine(self._export(request))
        request.on_abandoned(exporting.cancel)
        exporting.addErrback(lambda failure: request.respond(self._runner.refuse(failure)))
        return None

    async def _export(self, request: Request) -> None:
        """Write an export. Raises TooBusy."""
        async with self._exports.take():
            stream = ExportStream(request, self._directory, self._clock)
            stream.begin()
            await stream.done

    @route(app, "/operator/import")
    def import_(self, request: Request) -> EventualResponse:
        return self._runner.run(self._admitted(request, "POST", self._import))

    @route(app, "/operator/peers")
    def peers(self, request: Request) -> EventualResponse:
        """`GET`: return all peers and their state."""
        return self._runner.run(self._admitted(request, "GET", self._show_peers))

    @route(app, "/operator/peers/forget")
    def forget(self, request: Request) -> EventualResponse:
        """`POST {"name": NAME}`: forget a peer that is lost for good."""
        return self._runner.run_to_end(self._admitted(request, "POST", self._forget))

    @route(app, "/operator/drain")
    def drain(self, request: Request) -> EventualResponse:
        """`POST {"to": NAME}`, or `{}`: hand over this daemon's IDs to another peer."""
        return self._runner.run_to_end(self._admitted(request, "POST", self._drain))

    def _unknown(self, request: Request) -> EventualResponse:
        return self._runner.run(self._refuse(request, _no_such_resource()))

    async def _refuse(self, request: Request, error: BaseException) -> Response:
        """Raise `error` if the client is an admin."""
        self._admit(request)
        raise error

    def _admit(self, request: Request, method: str | None = None) -> Token | None:
        """Return the caller's token, None if tokens are not required. Raises NotAuthenticated,
        NotAllowed, MethodNotAllowed.
        """
        token = None if self._authorizer is None else self._authorizer.admit(request, "admin")
        if method is not None and method_of(request) != method:
            raise unsupported_method(request, method)
        return token

    async def _admitted(
        self, request: Request, method: str, handle: Callable[[Request, Token | None], Handler]
    ) -> Response:
        """Run a handler with the caller's token, after checking both."""
        return await handle(request, self._admit(request, method))

    def _cluster_admin(self) -> ClusterAdmin:
        if self._peers is None:
            raise NotFound("this daemon has no peers")
        return self._peers

    async def _show_peers(self, request: Request, token: Token | None) -> Response:
        return Response(200, encode_object(self._cluster_admin().show()))

    async def _forget(self, request: Request, token: Token | None) -> Response:
        with Attempt(self._runner, "forget", request, token=token) as attempt:
            body = self._decoded(request, _Forget)
            attempt.details = {"name": body.name}
            count = await self._cluster_admin().forget(body.name)
            attempt.result, attempt.details = "forgotten", {"name": body.name, "ids": count}
        return Response(200, encode_object({"forgotten": body.name, "ids": count}))

    async def _drain(self, request: Request, token: Token | None) -> Response:
        with Attempt(self._runner, "drain", request, token=token) as attempt:
            body = self._decoded(request, _Drain)
            attempt.details = {"to": body.to}
            successor = await self._cluster_admin().drain(body.to)
            attempt.result, attempt.details = "drained", {"to": successor}
        return Response(200, encode_object({"drained": True, "to": successor}))

    def _decoded(self, request: Request, kind: type[T]) -> T:
        try:
            return decode_json(self._runner.body(request) or b"{}", kind)
        except Malformed as error:
            raise BadBatch(str(error)) from None

    async def _import(self, request: Request, token: Token | None) -> Response:
        try:
            batch = decode_batch(self._runner.body(request))
        except Malformed as error:
            raise BadBatch(str(error)) from None
        imports = [
            Deferred.fromCoroutine(self._import_one(request, token, record, adopt=batch.adopt))
            for record in batch.records
        ]
        try:
            outcomes = await gatherResults(imports, consumeErrors=True)
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
            peer=request.client,
            token=_name(token),
        )
        return Response(200, encode_object({"imported": imported, "unchanged": unchanged, "refused": refusals}))

    async def _import_one(
        self, request: Request, token: Token | None, record: TransferredRecord, *, adopt: bool
    ) -> str | dict[str, str]:
        try:
            with Attempt(self._runner, "import", request, record.id[:64], token) as attempt:
                attempt.is_bulk, attempt.details = True, {"adopt": adopt}
                is_new = await self._directory.adopt(record, as_own=adopt)
                attempt.result = "imported" if is_new else "unchanged"
            return attempt.result
        except RequestRefused as refusal:
            return {"id": record.id[:64], "why": str(refusal)}


def _kind_of(request: Request) -> str:
    """The kind of event that a request attempts."""
    path = _single_slash(decoded_path(request))
    return _KINDS.get(path, "request") if request.method == b"POST" else "request"


def _route(path: bytes) -> Route:
    return _ROUTES.get(_single_slash(path), _OTHER)


def _single_slash(path: bytes) -> bytes:
    return b"/" + path.lstrip(b"/")


def _name(token: Token | None) -> str | None:
    return None if token is None else token.name


def _no_such_resource() -> NotFound:
    return NotFound("no such operator's resource")
