"""The client: one method for each thing that the service can be asked."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import msgspec
from treq.client import HTTPClient
from twisted.internet.interfaces import IReactorTime

from rqdisco.client.documents import (
    Document,
    ExportedRecord,
    ImportResult,
    LeaderRecord,
    LeaderValue,
    NodeRegistration,
    ServiceInfo,
)
from rqdisco.client.errors import ClientError, NotWatchable, Refused, Unavailable, Unreachable
from rqdisco.client.events import EventReader
from rqdisco.client.exports import DamagedExport, ExportReader, LineSplitter
from rqdisco.client.peers import Drained, Forgotten, PeersState
from rqdisco.client.transport import RawResponse, Transport
from rqdisco.client.urls import check_token, parse_url

T = TypeVar("T")

MAX_IMPORT = 500
_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,64}\Z")
_EXPORT = "/operator/export"
_IMPORT = "/operator/import"
# A service that is well sends something every 15 seconds.
_SILENCE_SECONDS = 45.0


class DiscoveryClient:
    """Asks one rqdisco. Safe to share; it keeps no state between calls.

    `url` is `http://HOST:PORT`, `https://HOST:PORT` (both with `USER:PASSWORD@` if need be) or
    `unix:/PATH`, for which `http` must have an agent that goes there: `connect` makes both.
    `timeout` is in seconds, for a whole answer. `token` is one of the service's, if it asks for
    them; the password of the URL may be it, too.

    Every method raises Unreachable and Refused, of which Unavailable is a kind, and ValueError for
    what is no discovery ID. Nothing is sent twice; what is safe to repeat is everything but
    `create` and a `cas`.
    """

    def __init__(
        self, http: HTTPClient, url: str, *, clock: IReactorTime, timeout: float = 10.0, token: str | None = None
    ) -> None:
        checked = None if token is None else check_token(token)
        self._transport = Transport(http, parse_url(url), clock, timeout, checked)

    async def service(self) -> ServiceInfo:
        """What the service says of itself."""
        info = await self._json("GET", "/", ServiceInfo)
        if info.name != "rqdisco":
            raise Unreachable(f"not an rqdisco but {info.name!r}")
        return info

    async def create(self) -> Document:
        """Mint a discovery ID."""
        return await self._json("POST", "/", Document)

    async def get(self, discovery_id: str) -> Document:
        """All that is known of an ID; Refused with status 404 if it was never minted."""
        document = await self._json("GET", _path(discovery_id), Document)
        if document.registrations or not document.nodes:
            return document
        # The original service lists addresses only.
        return msgspec.structs.replace(
            document, registrations=tuple(NodeRegistration(addr=addr) for addr in document.nodes)
        )

    async def watch(self, discovery_id: str) -> AsyncGenerator[Document, None]:
        """The same now and at each change, and now and then again where nothing changes. Ends when
        the service lets its watchers go. Raises NotWatchable too; Unavailable where too many are
        watching.
        """
        reader, document = EventReader(), None
        path = f"{_path(discovery_id)}/events"
        async with aclosing(self._transport.stream(path, "text/event-stream", _SILENCE_SECONDS)) as parts:
            async for part in parts:
                if not isinstance(part, bytes):
                    _check_events(part)
                    continue
                for data in reader.feed(part):
                    document = _decoded(data, Document)
                if document is not None:
                    yield document

    async def register(
        self, discovery_id: str, addr: str, raft_addr: str | None = None, node_id: str | None = None
    ) -> Document:
        """Register a node as rqlited itself would: its answer may tell the node to bootstrap a
        cluster.
        """
        node = {"addr": addr, "raft_addr": raft_addr, "node_id": node_id}
        body = {name: value for name, value in node.items() if value is not None}
        return await self._json("POST", _path(discovery_id), Document, body)

    async def remove(self, discovery_id: str, addr: str) -> Document:
        """Remove a node. With the last one gone, the next to register is told to bootstrap."""
        return await self._json("DELETE", _path(discovery_id), Document, {"addr": addr})

    async def leader(self, discovery_id: str) -> LeaderRecord | None:
        """The leader record of an ID, None if there is none, or no such ID."""
        answer = await self._transport.exchange("GET", _leader_path(discovery_id))
        if answer.status == 404:
            return None
        entries = _decoded(_kv_body(answer), tuple[_KVValue, ...])
        if not entries:
            return None
        try:
            value = base64.b64decode(entries[0].value, validate=True)
        except ValueError:
            raise Unreachable("not an answer of rqdisco: the value is not base64") from None
        return LeaderRecord(value=_decoded(value, LeaderValue), index=entries[0].index)

    async def set_leader(self, discovery_id: str, value: LeaderValue, cas: int | None = None) -> bool:
        """Put the leader record; with `cas` only if its index is that (0: if there is none), False
        if it is not.

        Without `cas` the ID is created if there is none.
        """
        return await self._kv("PUT", discovery_id, cas, msgspec.json.encode(value))

    async def clear_leader(self, discovery_id: str, cas: int | None = None) -> bool:
        """Delete the leader record; with `cas` only if its index is that, False if it is not."""
        return await self._kv("DELETE", discovery_id, cas)

    async def export(self) -> AsyncGenerator[ExportedRecord, None]:
        """Every record of the daemon, through its operator socket; complete only if it ends without
        an error.
        """
        reader = ExportReader()
        try:
            async with aclosing(self.export_lines()) as lines:
                async for line in lines:
                    if (record := reader.feed(line)) is not None:
                        yield _decoded(record, ExportedRecord)
            reader.finish()
        except DamagedExport as error:
            raise Unreachable(f"the export is damaged: {error}") from None

    async def export_lines(self) -> AsyncGenerator[bytes, None]:
        """The same document line by line, unchecked: `ExportReader` tells whether it is whole."""
        splitter = LineSplitter()
        async with aclosing(self._transport.stream(_EXPORT)) as parts:
            async for part in parts:
                if isinstance(part, bytes):
                    for line in splitter.feed(part):
                        yield line
                elif part.status != 200:
                    raise _operator_refusal(part)
        if splitter.rest:
            yield splitter.rest

    async def import_records(self, records: Sequence[ExportedRecord], *, adopt: bool) -> ImportResult:
        """Import at most 500 records through the operator socket.

        Unless `adopt` is set, records keep their home: this daemon then lists them, and takes and
        removes nodes, but never tells a node that it is alone. With it this daemon becomes their
        home, and their old one must be gone.
        """
        body = msgspec.json.encode({"adopt": adopt, "records": records})
        answer = await self._transport.exchange("POST", _IMPORT, body)
        if answer.status != 200:
            raise _operator_refusal(answer)
        return _decoded(answer.body, ImportResult)

    async def peers(self) -> PeersState:
        """The peers of the daemon, through its operator socket."""
        return await self._json("GET", "/operator/peers", PeersState)

    async def forget_peer(self, name: str) -> Forgotten:
        """Say that a peer is lost for good. Repeated after no answer, it goes on."""
        return await self._json("POST", "/operator/peers/forget", Forgotten, {"name": name})

    async def drain(self, to: str | None = None) -> Drained:
        """Have the daemon hand its IDs to a peer, to one of that name if one is given. It may be
        repeated.
        """
        return await self._json("POST", "/operator/drain", Drained, {} if to is None else {"to": to})

    async def _json(self, method: str, path: str, kind: type[T], body: Any = None) -> T:
        content = None if body is None else msgspec.json.encode(body)
        answer = await self._transport.exchange(method, path, content)
        if answer.status != 200:
            raise _refusal(answer, _json_error(answer))
        return _decoded(answer.body, kind)

    async def _kv(self, method: str, discovery_id: str, cas: int | None, body: bytes | None = None) -> bool:
        query = "" if cas is None else f"?cas={cas}"
        answer = await self._transport.exchange(method, f"{_leader_path(discovery_id)}{query}", body)
        return _decoded(_kv_body(answer), bool)


class _KVValue(msgspec.Struct, rename={"value": "Value", "index": "ModifyIndex"}):
    value: str
    index: int


class _Error(msgspec.Struct):
    error: str
    reason: str = ""


def _path(discovery_id: str) -> str:
    # Nothing but a name may end up in a path: POST to an empty one would mint an ID.
    if not _ID.match(discovery_id):
        raise ValueError("not a discovery ID: it has up to 64 letters, digits, dots, '-' and '_'")
    return f"/{discovery_id}"


def _leader_path(discovery_id: str) -> str:
    return f"/v1/kv{_path(discovery_id)}/leader"


def _decoded(content: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unreachable("not an answer of rqdisco") from None


def _kv_body(answer: RawResponse) -> bytes:
    if answer.status != 200:
        raise _refusal(answer, answer.body.decode("utf-8", "replace").strip().partition("\n")[0])
    return answer.body


def _json_error(answer: RawResponse) -> str | None:
    try:
        said = msgspec.json.decode(answer.body, type=_Error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return f"{said.error}: {said.reason}" if said.reason else said.error


def _check_events(answer: RawResponse) -> None:
    if answer.status == 200 and answer.content_type.startswith("text/event-stream"):
        return
    if answer.status in (200, 404, 405):
        raise NotWatchable("it does not say by itself what changes")
    raise _refusal(answer, _json_error(answer))


def _operator_refusal(answer: RawResponse) -> ClientError:
    if answer.status == 404:
        return Refused(404, answer.reason, "export and import go through the daemon's operator socket only")
    return _refusal(answer, _json_error(answer))


def _refusal(answer: RawResponse, error: str | None) -> ClientError:
    if answer.status in (429, 503):
        return Unavailable(answer.status, answer.reason, error or "", _seconds(answer.retry_after))
    # A proxy answers so when there is no rqdisco behind it.
    if error is None or answer.status < 400 or answer.status in (502, 504):
        return Unreachable(f"not an answer of rqdisco: {answer.status} {answer.reason}".rstrip())
    return Refused(answer.status, answer.reason, error)


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after is not None and retry_after.isdecimal() else None
