"""The transport of single requests: their bytes, their deadlines, and a pool for each endpoint."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.web.client import URI

from rqdisco.backends.etcd.deadlines import RequestDeadlines
from rqdisco.backends.etcd.transport.interfaces import NotSent, PostReply
from rqdisco.backends.etcd.transport.pending_post import PendingPost
from rqdisco.backends.etcd.transport.pool import CLOSED, EndpointPool

MAX_ANSWER = 16 << 20
# A head is cached for each token; there are few at a time.
_MAX_HEADS = 100


class EndpointFactory(Protocol):
    """Returns the endpoint of a URL, such as `network.Network`."""

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint: ...


class PooledTransport:
    """Implements `transport.PostTransport`. An answer has at most `max_answer` bytes; redirects are
    answers like others.
    """

    def __init__(self, network: EndpointFactory, clock: IReactorTime, max_answer: int = MAX_ANSWER) -> None:
        self._network = network
        self._clock = clock
        self._max_answer = max_answer
        self._deadlines = RequestDeadlines(clock)
        self._pools: dict[str, EndpointPool] = {}
        self._is_closed = False
        self._heads: dict[tuple[str, str, str | None], bytes] = {}

    def post(self, endpoint: str, path: str, body: bytes, token: str | None, seconds: float) -> Deferred[PostReply]:
        """Send a POST, as `transport.PostTransport` describes."""
        if self._is_closed:
            return fail(NotSent(CLOSED))
        pool = self._pools.get(endpoint) or self._open_pool(endpoint)
        head = self._heads.get((endpoint, path, token)) or self._make_head(endpoint, path, token)
        pending = PendingPost(b"%b%d\r\n\r\n%b" % (head, len(body), body), seconds, pool.withdraw)
        now = self._clock.seconds()
        self._deadlines.add(now + seconds, pending)
        pool.send(pending, now)
        return pending.answered

    def close(self) -> None:
        """Close all connections; requests fail."""
        self._is_closed = True
        self._deadlines.close()
        for pool in self._pools.values():
            pool.close()

    def _open_pool(self, endpoint: str) -> EndpointPool:
        uri = URI.fromBytes(endpoint.encode())
        pool = EndpointPool(self._clock, lambda: self._network.endpointForURI(uri), self._max_answer)
        self._pools[endpoint] = pool
        return pool

    def _make_head(self, endpoint: str, path: str, token: str | None) -> bytes:
        """Return the head of a request up to the length of its body."""
        if len(self._heads) >= _MAX_HEADS:
            self._heads.clear()
        authorization = "" if token is None else f"Authorization: {token}\r\n"
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {URI.fromBytes(endpoint.encode()).netloc.decode()}\r\n{authorization}"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self._heads[endpoint, path, token] = head
        return head
