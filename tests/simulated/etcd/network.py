"""The network between daemons and the members of etcd: requests and answers are lost, late,
repeated and out of order, and errors come in place of answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from rqdisco.http_client.interfaces import ConnectionBroken, NotSent, PostReply
from tests.simulated.network import Net
from tests.simulated.timeline import Timeline
from tests.support.etcd.rendering import Answer, refuse
from tests.support.etcd.wire import Refusal, leader_changed, timed_out

if TYPE_CHECKING:
    from tests.simulated.etcd.hosts import EtcdBoot
    from tests.simulated.etcd.world import EtcdWorld

# What etcd answers although a request may have been applied.
_UNCLEAR = (
    leader_changed(),
    timed_out(),
    Refusal(4, "context deadline exceeded"),
    Refusal(2, "context canceled"),
    Refusal(13, "stream terminated by RST_STREAM"),
)
# What it answers in place of applying it.
_REFUSED = (
    Refusal(8, "etcdserver: too many requests"),
    Refusal(8, "etcdserver: mvcc: database space exceeded"),
)
_LINEARIZABLE = ("/v3/kv/range", "/v3/kv/txn")


class EtcdNet(Net):
    """`errors` is how often etcd answers with one, `cut` are pairs of a daemon and a member."""

    def __init__(self, world: EtcdWorld, timeline: Timeline, random: Random) -> None:
        super().__init__(timeline, random)
        self.world = world
        # What was sent over links that are cut, and is sent again once they are not.
        self.stuck: list[Callable[[], None]] = []

    def calm(self) -> None:
        super().calm()
        self.errors = 0.0

    def rejoin(self, pairs: set[tuple[str, str]]) -> None:
        super().rejoin(pairs)
        stuck, self.stuck = self.stuck, []
        for arrive in stuck:
            self.timeline.callLater(self.way(), arrive)

    def way(self) -> float:
        """Return the delay of a request or an answer, which may be longer than anybody waits."""
        return self.random.uniform(1, 60) if self.random.random() < self.late else self.delay()

    def happens(self, often: float) -> bool:
        return self.random.random() < often

    def transport(self, boot: EtcdBoot) -> SimTransport:
        return SimTransport(self, boot)


class SimTransport:
    """The Transport of one run of a daemon."""

    def __init__(self, net: EtcdNet, boot: EtcdBoot) -> None:
        self.net = net
        self.boot = boot

    def post(self, endpoint: str, path: str, body: bytes, token: str | None, seconds: float) -> Deferred[PostReply]:
        return _Exchange(self.net, self.boot, endpoint, path, body, seconds).answered

    def close(self) -> None:
        pass


class _Exchange:
    """A request of a daemon, its copies and its answer."""

    def __init__(self, net: EtcdNet, boot: EtcdBoot, endpoint: str, path: str, body: bytes, seconds: float) -> None:
        self.answered: Deferred[PostReply] = Deferred(lambda _: self._end())
        self._net, self._boot, self._path, self._body = net, boot, path, body
        self._store = net.world.store
        self._member = self._store.model.members[self._store.endpoints[endpoint]]
        self._seen = boot.seen
        self._is_over = False
        self._is_write = b'"request_put"' in body
        if not boot.is_alive:
            return
        if self._is_write:
            self._store.sent(body)
        net.world.faults.at_step(boot, "sends", self._is_write)
        self._timer = boot.clock.callLater(seconds, self._fail, ConnectionBroken(f"no answer within {seconds:g} s"))
        self._send()

    def _send(self) -> None:
        net = self._net
        if (self._boot.host.name, self._member.name) in net.cut:
            if net.happens(0.5):
                # A connection that was open already: the kernel sends it again later.
                net.stuck.append(self._arrive)
            else:
                self._timer.cancel()
                self._timer = self._boot.clock.callLater(1, self._fail, NotSent("no connection"))
        elif not self._member.running:
            self._receive(lambda: self._fail(NotSent("connection refused")))
        elif net.happens(net.loss):
            self._break()
        else:
            net.timeline.callLater(net.way(), self._arrive)
            if net.happens(net.repeats):
                net.timeline.callLater(net.random.uniform(0.001, 60), self._arrive_again)

    def _arrive(self) -> None:
        answer = self._apply(self._arrive)
        if answer is None:
            return
        net = self._net
        if net.happens(net.loss) or (self._boot.host.name, self._member.name) in net.cut:
            self._break()
            return
        if self._is_write and answer.status == 200 and net.happens(net.errors):
            answer = refuse(net.random.choice(_UNCLEAR))
        reply = PostReply(answer.status, answer.body)
        self._receive(lambda: self._answer(reply), net.way() + answer.after)

    def _arrive_again(self) -> None:
        self._apply(self._arrive_again)

    def _apply(self, again: Callable[[], None]) -> Answer | None:
        """Let the member deal with a copy; return its answer, if there is one now."""
        net, member = self._net, self._member
        if not member.running:
            self._receive(lambda: self._fail(ConnectionBroken("the connection ended")))
            return None
        if member.hanging:
            member.waiting.append(again)
            return None
        if net.happens(net.errors / 4):
            return refuse(net.random.choice(_REFUSED))
        answer = self._store.post(member.name, self._path, self._body, self._boot)
        if self._is_write:
            net.world.faults.at_step(self._boot, "was served", is_write=True)
        return answer

    def _break(self) -> None:
        """The connection ends, or nothing more is heard of it."""
        net = self._net
        if net.happens(0.5):
            self._receive(lambda: self._fail(ConnectionBroken("the connection ended")), net.way())

    def _receive(self, call: Callable[[], None], after: float | None = None) -> None:
        net = self._net
        net.timeline.callLater(net.delay() if after is None else after, self._boot.clock.receive, call)

    def _answer(self, reply: PostReply) -> None:
        if self._is_over:
            return
        self._net.world.faults.at_step(self._boot, "receives", self._is_write)
        if not self._boot.is_alive:
            return
        self._note_revision(reply)
        self._end()
        self.answered.callback(reply)

    def _note_revision(self, reply: PostReply) -> None:
        """E8: note an answer from before what this daemon had seen when it sent the request."""
        if reply.status != 200 or self._path not in _LINEARIZABLE:
            return
        revision = int(json.loads(reply.body)["header"]["revision"])
        self._boot.went_back |= revision < self._seen
        self._boot.seen = max(self._boot.seen, revision)

    def _fail(self, error: Exception) -> None:
        if not self._is_over:
            self._end()
            self.answered.errback(error)

    def _end(self) -> None:
        if not self._is_over:
            self._is_over = True
            if self._boot.is_alive and self._timer.active():
                self._timer.cancel()
