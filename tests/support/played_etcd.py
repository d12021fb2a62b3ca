"""A client of etcd whose transport and streams are played by hand, in virtual time."""

from __future__ import annotations

import json
from collections.abc import Coroutine
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.etcd.auth import PATH as AUTHENTICATE
from rqdisco.backends.etcd.auth import Credentials
from rqdisco.backends.etcd.client import ClientConfig, EtcdClient
from rqdisco.backends.etcd.counts import EtcdCounts
from rqdisco.backends.etcd.messages import Compare, Range, Txn, put_op, range_op
from rqdisco.backends.etcd.revisions import RevisionGuard, Seen
from rqdisco.http_client.interfaces import NotSent, PostReply

E1, E2, E3 = "https://e1:2379", "https://e2:2379", "https://e3:2379"
READ = Range(key=b"a")
WRITE = Txn(compare=(Compare(key=b"a", mod_revision=0),), success=(put_op(b"a", b"1"),), failure=(range_op(READ),))
HEADER = {"cluster_id": "7", "member_id": "1", "revision": "5", "raft_term": "2"}
WRITTEN = {"succeeded": True, "responses": [{"response_put": {"header": {"revision": "5"}}}]}
OTHERS = {"responses": [{"response_range": {"header": {"revision": "5"}, "count": "1"}}]}
PASSWORD = "correct horse"
NO_LEADER = 14, "etcdserver: no leader"
LEADER_CHANGED = 14, "etcdserver: leader changed"
NO_LEASE = 5, "etcdserver: requested lease not found"
NO_SPACE = 8, "etcdserver: mvcc: database space exceeded"
DENIED = 7, "etcdserver: permission denied"
DUPLICATE = 3, "etcdserver: duplicate key given in txn request"
BUSY = 8, "etcdserver: too many requests"
INVALID_TOKEN = 16, "etcdserver: invalid auth token"
NO_USER = 3, "etcdserver: user name is empty"
OLD_AUTH = 3, "etcdserver: revision of auth store is old"
WRONG_PASSWORD = 3, "etcdserver: authentication failed, invalid user ID or password"
NO_AUTH = 9, "etcdserver: authentication is not enabled"


class Post(msgspec.Struct):
    """A request that was sent, and how to answer it."""

    endpoint: str
    path: str
    body: bytes
    token: str | None
    seconds: float
    answered: Deferred[PostReply]
    was_cancelled: bool = False

    def answer(self, **members: Any) -> None:
        """Answer as etcd does."""
        self.answered.callback(PostReply(200, json.dumps({"header": HEADER, **members}).encode()))

    def refuse(self, error: tuple[int, str]) -> None:
        """Refuse as etcd does. The status is another one than etcd's, since it says nothing."""
        code, text = error
        self.answered.callback(PostReply(500, json.dumps({"error": text, "message": text, "code": code}).encode()))

    def fail(self, why: Exception) -> None:
        """Lose the request or its answer."""
        self.answered.errback(why)


class Played:
    """A client, and its transport and streams, which the test plays by hand."""

    def __init__(self, *endpoints: str, password: str | None = None) -> None:
        self.clock = Clock()
        self.sent: list[Post] = []
        self.streams: list[PlayedStream] = []
        self.counts = EtcdCounts()
        self.noticed: list[str] = []
        self.guard = RevisionGuard(Seen(), self.noticed.append)
        self.password = password
        credentials = None if password is None else lambda: Credentials("rqdisco", str(self.password))
        config = ClientConfig(endpoints or (E1,), credentials)
        self.client = EtcdClient(config, self, self, self.clock, self.guard, self.counts)

    def post(self, endpoint: str, path: str, body: bytes, token: str | None, seconds: float) -> Deferred[PostReply]:
        post = Post(endpoint, path, body, token, seconds, Deferred(lambda _: setattr(post, "was_cancelled", True)))
        self.sent.append(post)
        return post.answered

    def open(self, endpoint: str, path: str, body: bytes, token: str | None, received: Any) -> PlayedStream:
        stream = PlayedStream(endpoint, body, token, received)
        self.streams.append(stream)
        return stream

    def close(self) -> None:
        raise AssertionError("the transport belongs to another")

    @property
    def last(self) -> Post:
        return self.sent[-1]

    @property
    def asked(self) -> list[str]:
        """The endpoints of all requests."""
        return [post.endpoint for post in self.sent]

    def wait(self) -> None:
        """Let the longest pause pass."""
        self.clock.advance(0.5)


class PlayedStream:
    """A stream that the test plays by hand."""

    def __init__(self, endpoint: str, body: bytes, token: str | None, received: Any) -> None:
        self.endpoint, self.body, self.token, self.received = endpoint, body, token, received
        self.done: Deferred[None] = Deferred()

    def close(self) -> None:
        if not self.done.called:
            self.done.callback(None)


class Asked:
    """A request of the client that was started."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.outcomes: list[Any] = []
        self.deferred = Deferred.fromCoroutine(coroutine)
        self.deferred.addCallbacks(self.outcomes.append, lambda failure: self.outcomes.append(failure.value))

    @property
    def result(self) -> Any:
        """Return the result, or the exception."""
        (outcome,) = self.outcomes
        return outcome

    @property
    def failure(self) -> tuple[type[Exception], str]:
        return type(self.result), str(self.result)


def grant(etcd: Played, token: str) -> None:
    """Answer the request for a token."""
    assert etcd.last.path == AUTHENTICATE
    assert json.loads(etcd.last.body) == {"name": "rqdisco", "password": etcd.password}
    assert etcd.last.token is None
    etcd.last.answer(token=token)


def fail_until_over(etcd: Played, asked: Asked, reasons: dict[str, Exception]) -> None:
    """Refuse the connection of every attempt until the request is over."""
    while not asked.outcomes:
        etcd.last.fail(reasons.get(etcd.last.endpoint, NotSent("connection refused")))
        while not asked.outcomes and etcd.last.answered.called:
            etcd.clock.advance(0.01)
