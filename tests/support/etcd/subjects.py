"""The model in memory, the model behind sockets, and the real etcd, as one thing to be tested."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from twisted.internet.task import Clock
from twisted.python.failure import Failure

from rqdisco.http_client.interfaces import ConnectionBroken, PostReply
from tests.support.etcd.gateway import Gateway
from tests.support.etcd.memory import ModelStream, ModelStreams, ModelTransport, model_on
from tests.support.etcd.model import ModelEtcd
from tests.support.etcd.real import RealMember
from tests.support.etcd.server import ModelServer
from tests.support.process import PATIENCE

MEMBER = "e1"
ENDPOINT = "http://e1:2379"


class Answered(NamedTuple):
    """An answer: its HTTP status and its JSON."""

    status: int
    document: Any


class Watching(Protocol):
    """A stream of watches."""

    def next(self) -> Any:
        """Return the next line."""

    def broken(self) -> bool:
        """Report whether the connection broke, instead of another line."""

    def close(self) -> None:
        """End it."""


class Subject(Protocol):
    """One member of etcd."""

    def post(self, path: str, document: object, token: str | None = None) -> Answered:
        """Send a request; bytes are sent as they are."""

    def watch(self, requests: Sequence[object], token: str | None = None) -> Watching:
        """Open a stream that needs a leader."""

    def pass_time(self, seconds: float) -> None:
        """Have time pass where it is not the real one."""

    def close(self) -> None:
        """End it."""


def _encode(document: object) -> bytes:
    return document if isinstance(document, bytes) else json.dumps(document).encode()


def watch_body(requests: Sequence[object]) -> bytes:
    return b" ".join(map(_encode, requests))


class MemoryWatching:
    """A stream of the model in memory."""

    def __init__(self, streams: ModelStreams, endpoint: str, body: bytes, token: str | None) -> None:
        self._lines: deque[bytes] = deque()
        self._failures: list[Failure] = []
        self._stream: ModelStream = streams.open(endpoint, "/v3/watch", body, token, self._lines.append)
        self._stream.done.addErrback(self._failures.append)

    def next(self) -> Any:
        return json.loads(self._lines.popleft())

    def broken(self) -> bool:
        return not self._lines and any(failure.check(ConnectionBroken) for failure in self._failures)

    def close(self) -> None:
        self._stream.close()


class InMemory:
    """The model in memory."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.model = model_on(self.clock, (MEMBER,))
        gateway = Gateway(self.model)
        self.transport = ModelTransport(gateway, {ENDPOINT: MEMBER}, self.clock)
        self.streams = ModelStreams(gateway, {ENDPOINT: MEMBER}, self.clock)

    def post(self, path: str, document: object, token: str | None = None) -> Answered:
        replies: list[PostReply] = []
        self.transport.post(ENDPOINT, path, _encode(document), token, 1.0).addCallback(replies.append)
        (reply,) = replies
        return Answered(reply.status, _parse(reply.body))

    def watch(self, requests: Sequence[object], token: str | None = None) -> Watching:
        return MemoryWatching(self.streams, ENDPOINT, watch_body(requests), token)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def close(self) -> None:
        """Nothing is open."""


class _HTTPWatching:
    def __init__(self, connection: HTTPConnection, response: HTTPResponse) -> None:
        self._connection = connection
        self._response = response

    def next(self) -> Any:
        line = self._response.readline()
        while line == b"\n":
            line = self._response.readline()
        return json.loads(line)

    def broken(self) -> bool:
        try:
            return self._response.read() == b""
        except (HTTPException, OSError):
            return True

    def close(self) -> None:
        self._response.close()
        self._connection.close()


class OverHTTP:
    """A member behind a socket."""

    def __init__(self, endpoint: str) -> None:
        self._url = urlsplit(endpoint)
        self._connection = self._connect()

    def post(self, path: str, document: object, token: str | None = None) -> Answered:
        headers = {} if token is None else {"Authorization": token}
        self._connection.request("POST", path, _encode(document), headers)
        response = self._connection.getresponse()
        return Answered(response.status, _parse(response.read()))

    def watch(self, requests: Sequence[object], token: str | None = None) -> Watching:
        connection = self._connect()
        headers = {"Grpc-Metadata-Hasleader": "true", **({} if token is None else {"Authorization": token})}
        connection.request("POST", "/v3/watch", watch_body(requests), headers)
        return _HTTPWatching(connection, connection.getresponse())

    def disconnect(self) -> None:
        """Have the next request make another connection."""
        self._connection.close()

    def close(self) -> None:
        self._connection.close()

    def _connect(self) -> HTTPConnection:
        assert self._url.hostname is not None
        return HTTPConnection(self._url.hostname, self._url.port, timeout=PATIENCE)


class BehindSocket(OverHTTP):
    """The model behind a socket."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.server = ModelServer(ModelEtcd(self.clock.seconds, (MEMBER,)), self.clock.seconds)
        super().__init__(self.server.endpoints[MEMBER])

    def pass_time(self, seconds: float) -> None:
        with self.server.changing():
            self.clock.advance(seconds)

    def close(self) -> None:
        super().close()
        self.server.close()


class Real(OverHTTP):
    """A real member, which others use too."""

    def __init__(self, member: RealMember) -> None:
        super().__init__(member.endpoint)

    def pass_time(self, seconds: float) -> None:
        """It passes by itself."""


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body
