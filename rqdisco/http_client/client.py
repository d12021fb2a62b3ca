"""Sends requests: their bytes, their deadlines, and a pool for each server."""

from __future__ import annotations

import re
from typing import Protocol

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.web.client import URI

from rqdisco.http_client.deadlines import RequestDeadlines
from rqdisco.http_client.interfaces import NotSent, PostReply
from rqdisco.http_client.pending_post import PendingPost
from rqdisco.http_client.pool import CLOSED, ConnectionPool, PoolConfig

# Others could end the head of a request.
_URL = re.compile(r"https?://[!-~]+")


class EndpointFactory(Protocol):
    """Returns the endpoint of a URL, such as `network.Network`."""

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint: ...


class HTTPClient:
    """Sends POSTs, each once: nothing is repeated, nor sent elsewhere. Redirects are answers like
    others. `config` applies to each server.
    """

    def __init__(self, network: EndpointFactory, clock: IReactorTime, config: PoolConfig) -> None:
        self._network = network
        self._clock = clock
        self._config = config
        self._deadlines = RequestDeadlines(clock)
        self._pools: dict[str, ConnectionPool] = {}
        self._is_closed = False

    def post(
        self, server: str, head: bytes, body: bytes, seconds: float, *, waits_for_others: bool = False
    ) -> Deferred[PostReply]:
        """Send a POST to a server such as `https://a:4003`, and fire with the answer.

        `head` is `head_of` a path there and any more lines of headers. A request `waits_for_others`
        if the server may answer it only after others, which must then find a connection. Fails with
        NotSent or ConnectionBroken, also after `seconds`. Cancelling it closes its connection.
        """
        if self._is_closed:
            return fail(NotSent(CLOSED))
        pool = self._pools.get(server) or self._open_pool(server)
        request = b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
        pending = PendingPost(request, seconds, pool.withdraw, waits_for_others=waits_for_others)
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

    def _open_pool(self, server: str) -> ConnectionPool:
        uri = URI.fromBytes(server.encode())
        pool = ConnectionPool(self._clock, lambda: self._network.endpointForURI(uri), self._config)
        self._pools[server] = pool
        return pool


def head_of(server: str, path: str) -> bytes:
    """Return the first two lines of a POST to a path of a server. Raises ValueError if the server is
    no URL.
    """
    url = server + path
    if _URL.fullmatch(url) is None:
        raise ValueError("not a URL of a server")
    uri = URI.fromBytes(url.encode())
    return b"POST %b HTTP/1.1\r\nHost: %b\r\n" % (uri.originForm, uri.netloc)
