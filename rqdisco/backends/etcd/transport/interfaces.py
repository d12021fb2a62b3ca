"""The interfaces through which `EtcdClient` reaches etcd; `connections` and `streams` implement
them over sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred

from rqdisco.http_client.interfaces import PostReply


class PostTransport(Protocol):
    """Sends single requests over pooled connections."""

    def post(self, endpoint: str, path: str, body: bytes, token: str | None, seconds: float) -> Deferred[PostReply]:
        """Send a POST of JSON to `path` at an endpoint such as `https://e1:2379`, and fire with the
        answer.

        `token` is the Authorization header, if any. Fails with NotSent or ConnectionBroken, the
        latter also after `seconds`. Cancelling it closes its connection.
        """

    def close(self) -> None:
        """Close all connections."""


class EtcdStream(Protocol):
    """An answer that goes on: one JSON document per line."""

    done: Deferred[None]

    def close(self) -> None:
        """End it; `done` fires."""


class StreamTransport(Protocol):
    """Opens streams, each over a connection of its own."""

    def open(
        self, endpoint: str, path: str, body: bytes, token: str | None, received: Callable[[bytes], None]
    ) -> EtcdStream:
        """Send a POST and call `received` with each line of the answer.

        `done` fires when the other side ends the stream, and fails with NotSent or
        ConnectionBroken; an answer with another status than 200 is one line, then the end.
        """
