"""A double of rqlited 7.0-10.2 with `-disco-mode consul-kv`: sends the same bytes, and behaves
alike afterwards.

Its requests are those of Consul's Go client in the release that each rqlite was built with; its
behaviour follows rqlite cmd/rqlited/main.go createCluster and cluster/disco/service.go
(disco/service.go before v8.40). All in virtual time.
"""

from __future__ import annotations

import binascii
import json
import select
import socket
from base64 import b64decode
from collections.abc import Coroutine
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import quote

from tests.support.process import Reply
from tests.support.virtual import (
    BOTH_ENDPOINTS,
    NEW_ENDPOINTS,
    OLD_ENDPOINTS,
    PATIENCE,
    Endpoint,
    InFlight,
    Peer,
    Process,
    Service,
    VirtualNetwork,
    World,
)

HOST = "127.0.0.1:8500"
JOIN_ATTEMPTS = 5
REGISTER_SECONDS = 3.0
# Opening Raft with a first configuration writes to the disk.
BOOTSTRAP_SECONDS = 0.05


class Failed(Exception):
    """A request failed; the text is what rqlited logs."""


@dataclass(frozen=True)
class ConsulRelease:
    """The differences between releases: how they send requests, where and how often they join and
    report.

    `reads_as` is the Content-Type of their GETs; those before v8.39 have none.
    """

    name: str
    joins_by: Endpoint
    endpoints: frozenset[Endpoint]
    reads_as: str = ""
    join_seconds: float = 3
    report_seconds: float = 10
    only_voters_claim: bool = False

    def read(self, key: str, query: str = "", token: str = "") -> bytes:
        """Return the request for the leader key, as it is on the wire."""
        return self._request("GET", key, query, token, self.reads_as)

    def put(self, key: str, value: bytes, query: str = "", token: str = "") -> bytes:
        """Return the request that puts the leader key; `cas=0` in `query` makes it a claim."""
        return self._request("PUT", key, query, token, "application/octet-stream", value)

    def _request(self, method: str, key: str, query: str, token: str, content_type: str, body: bytes = b"") -> bytes:
        headers = [
            f"{method} {quote(f'/v1/kv/{key}/leader')}{query and f'?{query}'} HTTP/1.1",
            f"Host: {HOST}",
            "User-Agent: Go-http-client/1.1",
            *([f"Content-Length: {len(body)}"] if body else []),
            *([f"Content-Type: {content_type}"] if content_type else []),
            *([f"X-Consul-Token: {token}"] if token else []),
            "Accept-Encoding: gzip",
        ]
        return "\r\n".join(headers).encode() + b"\r\n\r\n" + body


RELEASES = (
    ConsulRelease("7.0", "http", OLD_ENDPOINTS, join_seconds=5, report_seconds=300),
    ConsulRelease("7.21", "http", BOTH_ENDPOINTS),
    ConsulRelease("8.0", "raft", NEW_ENDPOINTS),
    ConsulRelease("8.39", "raft", NEW_ENDPOINTS, "application/json", only_voters_claim=True),
    ConsulRelease("10.2", "raft", NEW_ENDPOINTS, "application/json; charset=utf-8", only_voters_claim=True),
)


def leader_value(peer: Peer) -> bytes:
    """Return the value of the leader key as Go writes it: without spaces and empty members, escaped
    for HTML.
    """
    members = {"id": peer.node_id, "api_addr": f"http://{peer.http_addr}", "addr": peer.raft_addr}
    text = json.dumps({name: text for name, text in members.items() if text}, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode()


def leader_in(content: bytes) -> dict[Endpoint, str] | None:
    """Return the address at which to join the leader, from the answer to a GET; None if it names
    none. Raises Failed.
    """
    try:
        entries = json.loads(content)
        if not entries or entries[0] is None:
            return None
        (value,) = (text for name, text in entries[0].items() if name.lower() == "value")
        members = json.loads(b64decode(value, validate=True))
        found = {name.lower(): text for name, text in members.items()}
    except (ValueError, TypeError, AttributeError, KeyError, binascii.Error) as error:
        raise Failed(repr(error)) from None
    return {"http": found.get("api_addr", ""), "raft": found.get("addr", "")}


class Connections:
    """Go's http.Transport towards one service: a connection is reused unless the service closed it
    in the meantime.
    """

    def __init__(self, service: Service) -> None:
        self.sent: list[bytes] = []
        self._service = service
        self._open: list[socket.socket] = []
        self._idle: list[socket.socket] = []

    async def ask(self, request: bytes) -> Reply:
        """Send a request and await its answer. Raises OSError, HTTPException."""
        while self._idle:
            connection = self._idle.pop()
            if select.select([connection], [], [], 0)[0]:
                self._drop(connection)
                continue
            try:
                return await self._exchange(connection, request)
            except (OSError, HTTPException):
                # Go repeats a request where the service may have closed the idle connection, but
                # never a PUT.
                if not request.startswith(b"GET"):
                    raise
        return await self._exchange(self._dial(), request)

    def lose_answers(self) -> None:
        """Wait until every request is answered, and break the connections before anything is
        read.
        """
        for connection in set(self._open) - set(self._idle):
            assert select.select([connection], [], [], PATIENCE)[0]
            connection.shutdown(socket.SHUT_RDWR)
            connection.recv(1 << 16)

    def close(self) -> None:
        """Close all connections, as the kernel does for a dead process."""
        for connection in list(self._open):
            self._drop(connection)
        self._idle.clear()

    def _dial(self) -> socket.socket:
        if self._service.http is None:
            raise ConnectionRefusedError("connect: connection refused")
        connection = socket.create_connection(("127.0.0.1", self._service.http), PATIENCE)
        self._open.append(connection)
        return connection

    async def _exchange(self, connection: socket.socket, request: bytes) -> Reply:
        try:
            connection.sendall(request)
            self.sent.append(request)
            received: tuple[Reply, bool] = await InFlight(lambda: _receive(connection))
        except (OSError, HTTPException):
            self._drop(connection)
            raise
        reply, is_kept = received
        if is_kept:
            self._idle.append(connection)
        else:
            self._drop(connection)
        return reply

    def _drop(self, connection: socket.socket) -> None:
        self._open.remove(connection)
        connection.close()


def _receive(connection: socket.socket) -> tuple[Reply, bool]:
    """Return the next answer, and whether the connection can be reused."""
    response = HTTPResponse(connection)
    try:
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        reply = Reply(response.status, response.reason, headers, response.read())
    except TimeoutError:
        raise AssertionError("no answer, for which rqlited waits for ever") from None
    return reply, not response.will_close


class ConsulNode(Process):
    """One rqlited with its data directory. It has won once it was answered that it may bootstrap,
    whatever happens next.
    """

    def __init__(
        self, release: ConsulRelease, number: int, key: str, service: Service, world: World, network: VirtualNetwork
    ):
        peer = Peer(f"n{number}", f"10.0.0.{number}:4001", f"10.0.0.{number}:4002", release.endpoints)
        super().__init__(peer, world, network)
        self.release = release
        self.key = key
        self.has_won = False
        self.connections = Connections(service)
        peer.on_leading = lambda: self._run(self._report)

    def kill(self) -> None:
        super().kill()
        self.connections.close()

    async def main(self) -> None:
        """A node whose data directory has a configuration sends no request, and reports when it
        leads.
        """
        self._run(self._report_regularly)
        if self.peer.cluster is None:
            await self._find_cluster()

    async def _find_cluster(self) -> None:
        has_won, leader = await self._register()
        if has_won:
            await self._world.sleep(BOOTSTRAP_SECONDS)
            self._network.bootstrap([self.peer])
            return
        while not await self._join(leader):
            await self._world.sleep(1)
            # All releases discard the result of this claim: such a node joins itself for ever.
            _, leader = await self._register()

    async def _register(self) -> tuple[bool, dict[Endpoint, str]]:
        """Return whether this node won the claim, and whom to join if not; repeats until there is
        an answer to that.
        """
        while True:
            leader = await self._attempt("get leader", self._read())
            if leader is not None:
                return False, leader
            may_claim = self.peer.votes or not self.release.only_voters_claim
            if may_claim and await self._attempt("initialize as Leader", self._put("cas=0")):
                self.has_won = True
                return True, {"http": f"http://{self.peer.http_addr}", "raft": self.peer.raft_addr}
            await self._world.sleep(self._world.jitter(REGISTER_SECONDS))

    async def _join(self, leader: dict[Endpoint, str]) -> bool:
        addr, endpoint = leader[self.release.joins_by], self.release.joins_by
        for attempt in range(JOIN_ATTEMPTS):
            if attempt:
                await self._world.sleep(self.release.join_seconds)
            if self._network.join(self.peer, addr, endpoint):
                return True
        self.log.append(f"failed to join cluster at {addr}")
        return False

    async def _report_regularly(self) -> None:
        while True:
            await self._world.sleep(self.release.report_seconds)
            if self.peer.cluster is not None and self.peer.cluster.leader is self.peer:
                await self._report()

    async def _report(self) -> None:
        await self._attempt("update discovery service with Leader details", self._put())

    async def _read(self) -> dict[Endpoint, str] | None:
        reply = await self._ask(self.release.read(self.key))
        return None if reply.status == 404 else leader_in(_ok(reply).body)

    async def _put(self, query: str = "") -> bool:
        reply = await self._ask(self.release.put(self.key, leader_value(self.peer), query))
        return b"true" in _ok(reply).body

    async def _ask(self, request: bytes) -> Reply:
        try:
            return await self.connections.ask(request)
        except (OSError, HTTPException) as error:
            raise Failed(repr(error)) from None

    async def _attempt(self, what: str, asking: Coroutine[Any, Any, Any]) -> Any:
        """Return the result of `asking`; None, and a line in the log, if it fails."""
        try:
            return await asking
        except Failed as error:
            self.log.append(f"failed to {what}: {error}")
            return None


def _ok(reply: Reply) -> Reply:
    if reply.status != 200:
        raise Failed(f"Unexpected response code: {reply.status} ({reply.body.decode()})")
    return reply
