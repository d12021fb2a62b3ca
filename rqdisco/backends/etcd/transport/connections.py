"""The transport of single requests to etcd."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from rqdisco.http_client.client import EndpointFactory, HTTPClient, head_of
from rqdisco.http_client.interfaces import PostReply
from rqdisco.http_client.pool import PoolConfig

_MAX_CONNECTIONS = 32
_CONFIG = PoolConfig(max_connections=_MAX_CONNECTIONS)
# A head is cached for each token; there are few at a time.
_MAX_HEADS = 100


class PooledTransport:
    """Implements `transport.PostTransport`."""

    def __init__(self, network: EndpointFactory, clock: IReactorTime, config: PoolConfig = _CONFIG) -> None:
        self._client = HTTPClient(network, clock, config)
        self._heads: dict[tuple[str, str, str | None], bytes] = {}

    def post(self, endpoint: str, path: str, body: bytes, token: str | None, seconds: float) -> Deferred[PostReply]:
        """Send a POST, as `transport.PostTransport` describes."""
        head = self._heads.get((endpoint, path, token)) or self._make_head(endpoint, path, token)
        return self._client.post(endpoint, head, body, seconds)

    def close(self) -> None:
        """Close all connections; requests fail."""
        self._client.close()

    def _make_head(self, endpoint: str, path: str, token: str | None) -> bytes:
        if len(self._heads) >= _MAX_HEADS:
            self._heads.clear()
        authorization = b"" if token is None else f"Authorization: {token}\r\n".encode()
        head = b"%b%bContent-Type: application/json\r\n" % (head_of(endpoint, path), authorization)
        self._heads[endpoint, path, token] = head
        return head
