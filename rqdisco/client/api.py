"""DiscoveryClient, with one method per request to the service.

`transport` sends the requests, `responses` decodes the answers, `documents` and `peers` define what
they return.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar
from urllib.parse import urlencode

import msgspec
from treq.client import HTTPClient
from twisted.internet.interfaces import IReactorTime

from rqdisco.client.documents import (
    ClustersDocument,
    ClusterSummary,
    Document,
    ExportedRecord,
    ImportResult,
    LeaderRecord,
    LeaderValue,
    NodeRegistration,
    ServiceInfo,
)
from rqdisco.client.errors import ClientError, Unreachable
from rqdisco.client.exports import DamagedExport, ExportReader, LineSplitter
from rqdisco.client.peers import Drained, ForgetPreview, Forgotten, FreezeState, PeersDocument
from rqdisco.client.responses import (
    check_event_stream,
    decode,
    error_of,
    kv_body,
    leader_record_of,
    objections_of,
    operator_error,
)
from rqdisco.client.server_sent_events import EventReader
from rqdisco.client.transport import RawResponse, Transport
from rqdisco.client.urls import check_token, parse_url

T = TypeVar("T")

# Records per import request.
MAX_IMPORT = 500
_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,64}\Z")
_EXPORT = "/operator/export"
_BACKUP = "/operator/backup"
_CLUSTERS_AT_ONCE = 1000
_IMPORT = "/operator/import"
_FREEZE = "/operator/freeze"
# The daemon makes a snapshot first.
_MAX_BACKUP_WAIT = 600.0
# An event stream carries at least a comment every 15 seconds.
_MAX_STREAM_PAUSE = 45.0


class DiscoveryClient:
    """A client of one service. It keeps no state between calls and is safe to share.

    `url` is `http://HOST:PORT`, `https://HOST:PORT` (both optionally with `USER:PASSWORD@`) or
    `unix:/PATH`, for which `http` needs an agent that connects there; `connect` makes both.
    `timeout` is in seconds, for a whole response. `token` is a token of the service, if it requires
    one; it may also be the password of the URL.

    Every method raises Unreachable, Refused (or its subclass Unavailable), and ValueError if the ID
    is not a discovery ID. No request is sent twice. All requests but `create`, `create_named` and
    those with `cas` are safe to repeat.
    """

    def __init__(
        self, http: HTTPClient, url: str, *, clock: IReactorTime, timeout: float = 10.0, token: str | None = None
    ) -> None:
        checked = None if token is None else check_token(token)
        self._transport = Transport(http, parse_url(url), clock, timeout, checked)

    async def service(self) -> ServiceInfo:
        """Return name, version and uptime of the service."""
        info = await self._json("GET", "/", ServiceInfo)
        if info.name != "rqdisco":
            raise Unreachable(f"not a response from rqdisco: the service is {info.name!r}")
        return info

    async def grant_objections(self) -> tuple[str, ...]:
        """Return why the daemon tells no node to bootstrap now; nothing if it may, or cannot say."""
        return objections_of(await self._transport.request("GET", "/readyz?grant=1"))

    async def create(self) -> Document:
        """Create a discovery ID."""
        return await self._json("POST", "/", Document)

    async def create_named(self, name: str) -> Document:
        """Create a discovery ID of this name. Raises Refused with status 409 if it exists already,
        possibly by an earlier request without a response.
        """
        return await self._json("PUT", _path(name), Document, success=201)

    async def get(self, discovery_id: str) -> Document:
        """Look up an ID. Raises Refused with status 404 if it does not exist."""
        document = await self._json("GET", _path(discovery_id), Document)
        if document.registrations or not document.nodes:
            return document
        # The original service only lists addresses.
        return msgspec.structs.replace(
            document, registrations=tuple(NodeRegistration(addr=addr) for addr in document.nodes)
        )

    async def watch(self, discovery_id: str) -> AsyncGenerator[Document, None]:
        """Yield the document now, at each change, and occasionally without a change, until the
        service closes the stream.

        Raises NotWatchable if the service cannot stream, and Unavailable if it has too many
        watchers.
        """
        reader, document = EventReader(), None
        path = f"{_path(discovery_id)}/events"
        async with aclosing(self._transport.stream(path, "text/event-stream", _MAX_STREAM_PAUSE)) as chunks:
            async for chunk in chunks:
                if not isinstance(chunk, bytes):
                    check_event_stream(chunk)
                    continue
                for data in reader.feed(chunk):
                    document = decode(data, Document)
                if document is not None:
                    yield document

    async def register(
        self, discovery_id: str, addr: str, raft_addr: str | None = None, node_id: str | None = None
    ) -> Document:
        """Register a node, as rqlited itself would: the response may tell it to bootstrap a
        cluster.
        """
        node = {"addr": addr, "raft_addr": raft_addr, "node_id": node_id}
        body = {name: value for name, value in node.items() if value is not None}
        return await self._json("POST", _path(discovery_id), Document, body)

    async def remove(self, discovery_id: str, addr: str) -> Document:
        """Remove a node. After the last one, the next node to register is told to bootstrap."""
        return await self._json("DELETE", _path(discovery_id), Document, {"addr": addr})

    async def leader(self, discovery_id: str) -> LeaderRecord | None:
        """Return the leader key of an ID, None without a record or without the ID."""
        return leader_record_of(await self._transport.request("GET", _leader_path(discovery_id)))

    async def set_leader(self, discovery_id: str, value: LeaderValue, cas: int | None = None) -> bool:
        """Put the leader key. With `cas` put it only if its index equals `cas` (0: only if there
        is no record), else return False.

        Without `cas` the ID is created if it does not exist.
        """
        return await self._kv("PUT", discovery_id, cas, msgspec.json.encode(value))

    async def clear_leader(self, discovery_id: str, cas: int | None = None) -> bool:
        """Delete the leader key. With `cas` only if its index equals `cas`, else return
        False.
        """
        return await self._kv("DELETE", discovery_id, cas)

    async def clusters(self, search: str = "", *, health: str = "") -> AsyncGenerator[ClusterSummary, None]:
        """Yield all IDs in their order, or those of which the ID or a node's address contains
        `search` in any case, and those of one `health`. Needs the operator socket, or a token with
        the scope admin.
        """
        after: str | None = ""
        while after is not None:
            page = await self.cluster_page(search, health=health, after=after, limit=_CLUSTERS_AT_ONCE)
            if page.next is not None and page.next <= after:
                raise Unreachable("not a response from rqdisco: the list does not end")
            for cluster in page.clusters:
                yield cluster
            after = page.next

    async def cluster_page(
        self, search: str = "", *, health: str = "", after: str = "", limit: int = 100
    ) -> ClustersDocument:
        """Return a page of that list: up to `limit` IDs, 1000 at most, that follow `after`, which is
        the `next` of the page before. A page may be short or empty and have a next one.
        """
        query = urlencode({"search": search, "health": health, "after": after, "limit": limit})
        return await self._json("GET", f"/operator/clusters?{query}", ClustersDocument)

    async def export(self) -> AsyncGenerator[ExportedRecord, None]:
        """Yield every record of the daemon, through its operator socket. The export is complete
        only if the generator ends without an error.
        """
        reader = ExportReader()
        try:
            async with aclosing(self.export_lines()) as lines:
                async for line in lines:
                    if (record := reader.feed(line)) is not None:
                        yield decode(record, ExportedRecord)
            reader.finish()
        except DamagedExport as error:
            raise Unreachable(f"the export is damaged: {error}") from None

    async def export_lines(self) -> AsyncGenerator[bytes, None]:
        """Yield the lines of the export, unchecked; `ExportReader` checks them."""
        async with aclosing(self._lines(_EXPORT, operator_error)) as lines:
            async for line in lines:
                yield line

    async def backup_lines(self) -> AsyncGenerator[bytes, None]:
        """Yield the lines of a backup of the daemon, unchecked. Needs the operator socket, or a token
        with the scope admin.
        """
        async with aclosing(self._lines(_BACKUP, error_of, _MAX_BACKUP_WAIT)) as lines:
            async for line in lines:
                yield line

    async def import_records(
        self, records: Sequence[ExportedRecord], *, adopt: bool, frozen: str | None = None
    ) -> ImportResult:
        """Import up to 500 records through the operator socket.

        Without `adopt` records keep their owner: the daemon lists, adds and removes nodes, but
        never tells a node to bootstrap. With `adopt` the daemon becomes their owner, and the
        previous owner must be gone. With `frozen` the import is part of a migration: the daemon
        must be frozen for that reason.
        """
        during = {} if frozen is None else {"frozen": frozen}
        body = msgspec.json.encode({"adopt": adopt, **during, "records": records})
        response = await self._transport.request("POST", _IMPORT, body)
        if response.status != 200:
            raise operator_error(response)
        return decode(response.body, ImportResult)

    async def freeze_state(self) -> FreezeState:
        """Return whether the daemon is frozen, through its operator socket."""
        return await self._json("GET", _FREEZE, FreezeState)

    async def freeze(self, reason: str) -> FreezeState:
        """Stop all changes at the daemon, durably; it answers them with 503 and the reason. Safe to
        repeat.
        """
        return await self._json("POST", _FREEZE, FreezeState, {"reason": reason})

    async def thaw(self) -> FreezeState:
        """Allow changes at the daemon again. Safe to repeat."""
        return await self._json("POST", "/operator/thaw", FreezeState)

    async def peers(self) -> PeersDocument:
        """Return the peers of the daemon, through its operator socket."""
        return await self._json("GET", "/operator/peers", PeersDocument)

    async def preview_forget_peer(self, name: str) -> ForgetPreview:
        """Return what `forget_peer` would do, and change nothing."""
        return await self._json("GET", f"/operator/peers/forget?{urlencode({'name': name})}", ForgetPreview)

    async def forget_peer(self, name: str) -> Forgotten:
        """Forget a peer that is lost for good, given by its name, its incarnation, or the first
        digits of that. Repeat the request if there was no response.
        """
        return await self._json("POST", "/operator/peers/forget", Forgotten, {"name": name})

    async def drain(self, to: str | None = None) -> Drained:
        """Hand all IDs of the daemon over to a peer, the one named `to` if given. Safe to
        repeat.
        """
        return await self._json("POST", "/operator/drain", Drained, {} if to is None else {"to": to})

    async def _lines(
        self, path: str, refusal: Callable[[RawResponse], ClientError], max_wait: float | None = None
    ) -> AsyncGenerator[bytes, None]:
        splitter = LineSplitter()
        async with aclosing(self._transport.stream(path, max_wait=max_wait)) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, bytes):
                    for line in splitter.feed(chunk):
                        yield line
                elif chunk.status != 200:
                    raise refusal(chunk)
        if splitter.rest:
            yield splitter.rest

    async def _json(self, method: str, path: str, kind: type[T], body: object = None, *, success: int = 200) -> T:
        content = None if body is None else msgspec.json.encode(body)
        response = await self._transport.request(method, path, content)
        if response.status != success:
            raise error_of(response)
        return decode(response.body, kind)

    async def _kv(self, method: str, discovery_id: str, cas: int | None, body: bytes | None = None) -> bool:
        query = "" if cas is None else f"?cas={cas}"
        response = await self._transport.request(method, f"{_leader_path(discovery_id)}{query}", body)
        return decode(kv_body(response), bool)


def _path(discovery_id: str) -> str:
    # POST to an empty path would create an ID.
    if not _ID.match(discovery_id):
        raise ValueError("not a discovery ID: use up to 64 letters, digits, dots, '-' and '_'")
    return f"/{discovery_id}"


def _leader_path(discovery_id: str) -> str:
    return f"/v1/kv{_path(discovery_id)}/leader"
