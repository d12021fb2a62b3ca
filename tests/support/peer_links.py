"""Two peers in memory, and the HTTP between them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from rqdisco.backends.gossip.transport.connections import peer_client
from rqdisco.backends.gossip.transport.http_link import HTTPLink, Keys
from rqdisco.backends.gossip.transport.keyring import KeyRing, parse_keys
from rqdisco.backends.gossip.transport.resource import PeerResource
from rqdisco.http_client.interfaces import PostReply
from tests.support.daemon import result
from tests.support.in_memory_http import InMemoryAgent


def ring(*numbers: int) -> KeyRing:
    return parse_keys(b"\n".join(base64.b64encode(bytes([number]) * 32) for number in numbers))


class Answering:
    """A handler that answers as the test sets it."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str, bytes]] = []
        self.answer: Any = b"answer"
        self.waiting: list[Deferred[bytes]] = []
        # Delays the answer to a greeting.
        self.greeted: Deferred[None] = succeed(None)
        self.sessions = 0
        self.cancelled = 0

    def greet(self, hello: bytes) -> Deferred[tuple[str, bytes]]:
        greeted, self.greeted = self.greeted, succeed(None)
        if isinstance(self.answer, Exception):
            return fail(self.answer)
        self.sessions += 1
        session = f"s{self.sessions}"
        return greeted.addCallback(lambda _: (session, b"greeted " + hello))

    def serve(self, session: str, verb: str, body: bytes) -> Deferred[bytes]:
        self.received.append((session, verb, body))
        if self.answer is None:
            self.waiting.append(Deferred(lambda _: self._cancel()))
            return self.waiting[-1]
        if isinstance(self.answer, Exception):
            return fail(self.answer)
        return succeed(self.answer)

    def _cancel(self) -> None:
        self.cancelled += 1


class Wire:
    """A client of a listener in memory, which lets a test see, change and repeat what is sent. It
    arrives at once.

    A message is a server, the head of a request, and its body.
    """

    def __init__(self, resource: PeerResource, clock: Clock) -> None:
        self.agent = InMemoryAgent(resource)
        self.sent: list[tuple[str, bytes, bytes]] = []
        self.change_head: Callable[[bytes], bytes] = lambda head: head
        self.change_reply: Callable[[PostReply], PostReply] = lambda reply: reply
        self._client = peer_client(self.agent, clock)

    def post(
        self, server: str, head: bytes, body: bytes, seconds: float, *, waits_for_others: bool = False
    ) -> Deferred[PostReply]:
        self.sent.append((server, head, body))
        posted = self._client.post(server, self.change_head(head), body, seconds, waits_for_others=waits_for_others)
        posted.addCallback(self.change_reply)
        self.agent.flush()
        return posted

    def send(self, server: str, head: bytes, body: bytes) -> PostReply:
        """Send a message as it is; return the answer."""
        posted = self._client.post(server, head, body, 2)
        self.agent.flush()
        reply: PostReply = result(posted)
        return reply


class Pair:
    """A link, and the listener that it leads to."""

    def __init__(self, one: KeyRing | None = None, other: KeyRing | None = None) -> None:
        self.clock = Clock()
        self.handler = Answering()
        self.theirs = Keys(other or ring(1))
        self.resource = PeerResource(self.handler, self.theirs, self.clock, Random(1).randbytes)
        self.wire = Wire(self.resource, self.clock)
        self.ours = Keys(one or ring(1))
        self.link = HTTPLink("http://b:1", self.wire, self.ours, Random(2).randbytes)

    def flush(self, deferred: Deferred[bytes]) -> bytes:
        for _ in range(5):
            self.wire.agent.flush()
        answer: bytes = result(deferred)
        return answer

    def greet(self) -> bytes:
        return self.flush(self.link.greet(b"hello", 2))

    def ask(self, body: bytes = b"body") -> bytes:
        return self.flush(self.link.request("verb", body, 2))
