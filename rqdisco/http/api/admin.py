"""The operator's API: back up, export and import records, freeze the daemon, show, forget and drain
peers.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qs

import msgspec
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rqdisco.core.codec import Malformed, decode_json
from rqdisco.core.directory import Directory
from rqdisco.core.errors import InvalidValue, RequestRefused
from rqdisco.core.exports import VERSION, Batch, TransferredRecord, decode_batch
from rqdisco.http.api.document_stream import DocumentStream, export_parts
from rqdisco.http.api.operator_documents import (
    DrainAnswer,
    DrainRequest,
    ForgetAnswer,
    ForgetPreviewAnswer,
    ForgetRequest,
    FreezeAnswer,
    FreezeRequest,
    ImportAnswer,
    ImportRefusal,
    PeersAnswer,
)
from rqdisco.http.requests.api import Api
from rqdisco.http.requests.authorization import Authorizer
from rqdisco.http.requests.documents import encode_object
from rqdisco.http.requests.request import Request, decoded_path
from rqdisco.http.requests.responses import BadBatch, BadRequest, NotFound, Response, StreamedResponse
from rqdisco.http.requests.runner import ApiRunner, Attempt
from rqdisco.limits.slots import Slots
from rqdisco.security.tokens import Token
from rqdisco.storage.backup import Backups

# Each export keeps as much of the CPU busy as is left. The others wait for as long as clients do.
EXPORTS_AT_ONCE = 4
EXPORT_PATIENCE_SECONDS = 5.0
_KINDS = {
    b"/operator/import": "import",
    b"/operator/peers/forget": "forget",
    b"/operator/drain": "drain",
    b"/operator/freeze": "freeze",
    b"/operator/thaw": "thaw",
}
# Every refusal repeats the reason of a freeze, on its status line too.
_FREEZE_REASON = re.compile(r"[!-~](?:[ -~]{0,298}[!-~])?\Z")
T = TypeVar("T")


class ClusterAdmin(Protocol):
    """The operations on peers for an operator. All but `show` raise RequestRefused, `forget` and
    `drain` also StoreUnavailable.
    """

    def show(self) -> Mapping[str, object]:
        """Return all peers and their state."""

    async def preview_forget(self, name: str) -> Mapping[str, object]:
        """Return the fields of a `ForgetPreviewAnswer`, and change nothing."""

    async def forget(self, name: str) -> Mapping[str, object]:
        """Take over the IDs of a peer that is lost; return the fields of a `ForgetAnswer`."""

    async def drain(self, to: str | None) -> str:
        """Hand over this daemon's IDs, to the peer named `to` if given; return their new owner."""


class OperatorAPI(Api):
    """Exports, imports and freezes; with `peers` also the operations on them, with `backups` also
    those.

    `authorizer` admits admins; without it every client that reaches this API is the operator.
    """

    not_found_right = "admin"

    def __init__(
        self,
        directory: Directory,
        runner: ApiRunner,
        clock: IReactorTime,
        peers: ClusterAdmin | None = None,
        backups: Backups | None = None,
        authorizer: Authorizer | None = None,
    ) -> None:
        super().__init__(runner, authorizer, _kind_of)
        self._peers = peers
        self._backups = backups
        self._directory = directory
        self._clock = clock
        self._log = Logger()
        self._exports = Slots(EXPORTS_AT_ONCE, EXPORT_PATIENCE_SECONDS, clock)

    def no_such_path(self, request: Request) -> Exception:
        return NotFound("no such operator's resource")

    async def export(self, request: Request, token: Token | None) -> Response:
        """Export all IDs."""
        self._log.info("export", peer=request.client, token=_name(token))
        return self._streamed(request, partial(self._export, request))

    async def back_up(self, request: Request, token: Token | None) -> Response:
        """Make a backup."""
        if self._backups is None:
            raise NotFound("the records are in etcd: back up etcd (docs/etcd.md)")
        self._log.info("backup", peer=request.client, token=_name(token))
        return self._streamed(request, partial(self._back_up, request, self._backups))

    def _streamed(self, request: Request, write: Callable[[], Coroutine[Any, Any, None]]) -> Response:
        """Return the response that `write` writes. If it raises an error before it begins, that is
        the response.
        """

        def begin() -> None:
            written = Deferred.fromCoroutine(write())
            request.on_abandoned(written.cancel)
            written.addErrback(lambda failure: request.respond(self._runner.refuse(failure)))

        return StreamedResponse(begin=begin)

    async def _export(self, request: Request) -> None:
        """Write an export. Raises TooBusy."""
        async with self._exports.take():
            await self._write(request, export_parts(self._directory))

    async def _back_up(self, request: Request, backups: Backups) -> None:
        """Write a backup. Raises TooBusy, StoreUnavailable."""
        async with backups.make() as parts:
            await self._write(request, parts)

    async def _write(self, request: Request, parts: AsyncIterator[bytes]) -> None:
        stream = DocumentStream(request, parts, self._clock)
        stream.begin()
        await stream.done

    async def show_freeze(self, request: Request, token: Token | None) -> Response:
        """Show whether the daemon is frozen."""
        return self._freeze_answer()

    async def freeze(self, request: Request, token: Token | None) -> Response:
        """Stop all changes."""
        with Attempt(self._runner, "freeze", request, token=token) as attempt:
            body = self._decoded(request, FreezeRequest)
            if not _FREEZE_REASON.match(body.reason):
                raise InvalidValue("reason", "use 1 to 300 printable ASCII characters")
            attempt.details = {"reason": body.reason}
            await self._directory.freeze(body.reason)
            attempt.result = "frozen"
        return self._freeze_answer()

    async def thaw(self, request: Request, token: Token | None) -> Response:
        """Allow changes again."""
        with Attempt(self._runner, "thaw", request, token=token) as attempt:
            attempt.details = {"reason": self._directory.frozen}
            await self._directory.thaw()
            attempt.result = "thawed"
        return self._freeze_answer()

    def _freeze_answer(self) -> Response:
        return Response(200, encode_object(FreezeAnswer(self._directory.frozen, self._directory.store_id, VERSION)))

    def _cluster_admin(self) -> ClusterAdmin:
        if self._peers is None:
            raise NotFound("this daemon has no peers")
        return self._peers

    async def show_peers(self, request: Request, token: Token | None) -> Response:
        """Show all peers and their state."""
        return Response(200, encode_object(msgspec.convert(self._cluster_admin().show(), PeersAnswer)))

    async def preview_forget(self, request: Request, token: Token | None) -> Response:
        """Show what it would mean to forget a peer."""
        cluster_admin = self._cluster_admin()
        names = parse_qs(request.query.decode("utf-8", "replace")).get("name", [])
        if len(names) != 1:
            raise BadRequest("`name` must be given, once")
        return Response(
            200, encode_object(msgspec.convert(await cluster_admin.preview_forget(names[0]), ForgetPreviewAnswer))
        )

    async def forget(self, request: Request, token: Token | None) -> Response:
        """Forget a peer that is lost for good."""
        with Attempt(self._runner, "forget", request, token=token) as attempt:
            body = self._decoded(request, ForgetRequest)
            attempt.details = {"name": body.name}
            answer = msgspec.convert(await self._cluster_admin().forget(body.name), ForgetAnswer)
            details = {"name": answer.forgotten, "incarnation": answer.incarnation, "ids": answer.ids}
            attempt.result, attempt.details = "forgotten", details
        return Response(200, encode_object(answer))

    async def drain(self, request: Request, token: Token | None) -> Response:
        """Hand over this daemon's IDs to another peer."""
        with Attempt(self._runner, "drain", request, token=token) as attempt:
            body = self._decoded(request, DrainRequest)
            attempt.details = {"to": body.to}
            successor = await self._cluster_admin().drain(body.to)
            attempt.result, attempt.details = "drained", {"to": successor}
        return Response(200, encode_object(DrainAnswer(drained=True, to=successor)))

    def _decoded(self, request: Request, kind: type[T]) -> T:
        try:
            return decode_json(self._runner.body(request) or b"{}", kind)
        except Malformed as error:
            raise BadBatch(str(error)) from None

    async def import_(self, request: Request, token: Token | None) -> Response:
        """Import records."""
        try:
            batch = decode_batch(self._runner.body(request))
        except Malformed as error:
            raise BadBatch(str(error)) from None
        imports = [Deferred.fromCoroutine(self._import_one(request, token, record, batch)) for record in batch.records]
        try:
            outcomes = await gatherResults(imports, consumeErrors=True)
        except FirstError as first:
            first.subFailure.raiseException()
            raise
        refusals = [outcome for outcome in outcomes if isinstance(outcome, ImportRefusal)]
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
        return Response(200, encode_object(ImportAnswer(imported, unchanged, refusals)))

    async def _import_one(
        self, request: Request, token: Token | None, record: TransferredRecord, batch: Batch
    ) -> str | ImportRefusal:
        try:
            with Attempt(self._runner, "import", request, record.id[:64], token) as attempt:
                attempt.is_bulk, attempt.details = True, {"adopt": batch.adopt}
                is_new = await self._directory.adopt(record, as_own=batch.adopt, during=batch.frozen)
                attempt.result = "imported" if is_new else "unchanged"
            return attempt.result
        except RequestRefused as refusal:
            return ImportRefusal(record.id[:64], str(refusal))


def _kind_of(request: Request) -> str:
    """The kind of event that a request attempts."""
    path = _single_slash(decoded_path(request))
    return _KINDS.get(path, "request") if request.method == b"POST" else "request"


def _single_slash(path: bytes) -> bytes:
    return b"/" + path.lstrip(b"/")


def _name(token: Token | None) -> str | None:
    return None if token is None else token.name
