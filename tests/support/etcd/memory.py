"""The backend's transports over the model etcd, without sockets.

By default everything is synchronous: `post` returns a Deferred that has fired, and what a request
changes has reached all streams by then. A `plan` loses, delays and duplicates requests and answers;
what takes time needs a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from rqdisco.http_client.interfaces import ConnectionBroken, NotSent, PostReply
from tests.support.etcd.gateway import Gateway
from tests.support.etcd.gateway_stream import GatewayStream
from tests.support.etcd.model import ModelEtcd
from tests.support.etcd.rendering import Answer, refuse
from tests.support.etcd.serving import Member
from tests.support.etcd.wire import Refusal


class _LeaseTimer:
    """Expires leases by a clock, with one delayed call at a time."""

    def __init__(self, clock: IReactorTime, names: Sequence[str]) -> None:
        self.model = ModelEtcd(clock.seconds, names, self._armed)
        self._clock = clock
        self._call: Any = None

    def _armed(self, at: float) -> None:
        if self._call is not None and self._call.active():
            if self._call.getTime() <= at:
                return
            self._call.cancel()
        self._call = self._clock.callLater(max(0.0, at - self._clock.seconds()), self._expire)

    def _expire(self) -> None:
        self.model.tick()
        at = self.model.next_expiry()
        # Without a leader nothing expires; an election arms it again.
        if at is not None and self.model.leader is not None:
            self._armed(at)


def model_on(clock: IReactorTime, names: Sequence[str] = ("e1",)) -> ModelEtcd:
    """Return a model whose leases expire as the clock goes on, also when no request comes."""
    return _LeaseTimer(clock, names).model


class Sent(msgspec.Struct, frozen=True):
    """A request that is about to be sent."""

    endpoint: str
    path: str
    body: bytes
    token: str | None


class Fate(msgspec.Struct, frozen=True):
    """The fate of a request.

    A copy of it arrives after each of the times `arrives` (seconds). The answer to the first one
    comes `answered` seconds later, or never (None). Before that, the connection may break after
    `breaks` seconds. `instead` is the error that replaces the first answer; the request is applied
    nevertheless, unless `applied` is false. With `refused` nothing is sent at all.
    """

    arrives: tuple[float, ...] = (0.0,)
    answered: float | None = 0.0
    breaks: float | None = None
    instead: Refusal | None = None
    applied: bool = True
    refused: bool = False


DELIVER = Fate()
REFUSE = Fate(refused=True)
HANG = Fate(arrives=())
LOSE_REQUEST = Fate(arrives=(), breaks=0.0)
LOSE_ANSWER = Fate(answered=None, breaks=0.0)


def deliver(_: Sent) -> Fate:
    return DELIVER


class _Exchange:
    """A request and its answer."""

    def __init__(self, transport: ModelTransport, member: Member, sent: Sent, fate: Fate, seconds: float) -> None:
        self._transport = transport
        self._member = member
        self._sent = sent
        self._fate = fate
        self._calls: list[Any] = []
        self.waiting = True
        self.answered: Deferred[PostReply] = Deferred(self._cancelled)
        for copy, at in enumerate(fate.arrives):
            # Copies arrive even if the client has gone.
            transport.after(at, self._arrive if copy == 0 else self._arrive_again)
        if self.waiting and fate.breaks is not None:
            self._later(fate.breaks, self.break_connection)
        if self.waiting and transport.clock is not None:
            self._later(seconds, lambda: self._fail(f"no answer within {seconds:g} s"))

    def break_connection(self) -> None:
        self._fail("the connection ended")

    def _arrive(self) -> None:
        if self._hangs(self._arrive):
            return
        answer = self._post() if self._fate.applied else Answer(200, b"{}")
        if answer is None:
            self.break_connection()
            return
        if self._fate.instead is not None:
            answer = refuse(self._fate.instead)
        if self._fate.answered is not None and self.waiting:
            reply = PostReply(answer.status, answer.body)
            self._later(self._fate.answered + answer.after, lambda: self._answer(reply))

    def _arrive_again(self) -> None:
        if not self._hangs(self._arrive_again):
            self._post()

    def _hangs(self, arrive: Callable[[], None]) -> bool:
        if self._member.running and self._member.hanging:
            self._member.waiting.append(arrive)
            return True
        return False

    def _post(self) -> Answer | None:
        if not self._member.running:
            return None
        return self._transport.gateway.post(self._member.name, self._sent.path, self._sent.body, self._sent.token)

    def _answer(self, reply: PostReply) -> None:
        if self._end():
            self.answered.callback(reply)

    def _fail(self, reason: str) -> None:
        if self._end():
            self.answered.errback(ConnectionBroken(reason))

    def _cancelled(self, _: Deferred[PostReply]) -> None:
        self._end()

    def _end(self) -> bool:
        was, self.waiting = self.waiting, False
        self._member.connections.pop(self, None)
        for call in self._calls:
            if call.active():
                call.cancel()
        return was

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        call = self._transport.after(seconds, act)
        if call is not None:
            self._calls.append(call)


class ModelTransport:
    """A Transport to the members of a model etcd. `members` names them by endpoint.

    Without a clock, what takes time never happens: a request that is not answered at once stays
    unanswered.
    """

    def __init__(
        self,
        gateway: Gateway,
        members: dict[str, str],
        clock: IReactorTime | None = None,
        plan: Callable[[Sent], Fate] = deliver,
    ) -> None:
        self.gateway = gateway
        self.clock = clock
        self.plan = plan
        self.posts = 0
        self._members = members

    def post(self, endpoint: str, path: str, body: bytes, token: str | None, seconds: float) -> Deferred[PostReply]:
        self.posts += 1
        member = self.gateway.model.members[self._members[endpoint]]
        sent = Sent(endpoint, path, body, token)
        fate = self.plan(sent)
        failed: Deferred[PostReply] = Deferred()
        if fate.refused or not member.running:
            failed.errback(NotSent(f"{endpoint}: connection refused"))
            return failed
        exchange = _Exchange(self, member, sent, fate, seconds)
        if exchange.waiting:
            member.connections[exchange] = exchange.break_connection
        return exchange.answered

    def break_connections(self) -> None:
        """Break all connections with a request that is not answered yet; it may still arrive. They
        may be another transport's.
        """
        for name in dict.fromkeys(self._members.values()):
            for broken in list(self.gateway.model.members[name].connections.values()):
                broken()

    def close(self) -> None:
        self.break_connections()

    def after(self, seconds: float, act: Callable[[], None]) -> Any:
        """Act now or later, by the clock; return the delayed call, if there is one."""
        if seconds <= 0.0:
            act()
            return None
        return None if self.clock is None else self.clock.callLater(seconds, act)


class ModelStream:
    """A Stream of watches over the model."""

    def __init__(self, streams: ModelStreams, received: Callable[[bytes], None]) -> None:
        self.done: Deferred[None] = Deferred(lambda _: self.close())
        self._streams = streams
        self._received = received
        self._opened: GatewayStream | None = None
        self._ended = False
        self._last_at = 0.0

    def open(self, member: str, body: bytes, token: str | None) -> None:
        if not self._streams.gateway.model.members[member].running:
            self.fail(ConnectionBroken("the connection ended"))
            return
        opened = self._streams.gateway.open(member, body, token, self._streams.needs_leader, self._send, self._end)
        if self._ended:
            opened.close()
        else:
            self._opened = opened

    def close(self) -> None:
        if not self._ended:
            self._ended = True
            if self._opened is not None:
                self._opened.close()
            if not self.done.called:
                self.done.callback(None)

    def fail(self, error: Exception) -> None:
        if not self._ended:
            self._ended = True
            self.done.errback(error)

    def _send(self, line: bytes) -> None:
        self._in_order(lambda: self._received(line))

    def _end(self, broken: bool) -> None:
        self._in_order(lambda: self.fail(ConnectionBroken("the connection ended")) if broken else self.close())

    def _in_order(self, act: Callable[[], None]) -> None:
        clock, delay = self._streams.clock, self._streams.delay()
        if clock is None or (delay <= 0.0 and self._last_at <= clock.seconds()):
            self._unless_ended(act)
            return
        self._last_at = max(self._last_at, clock.seconds() + delay)
        clock.callLater(self._last_at - clock.seconds(), self._unless_ended, act)

    def _unless_ended(self, act: Callable[[], None]) -> None:
        if not self._ended:
            act()


class ModelStreams:
    """A StreamTransport to the members of a model etcd. `delay` says how long each line takes; it
    needs a clock. Lines stay in order.
    """

    def __init__(
        self,
        gateway: Gateway,
        members: dict[str, str],
        clock: IReactorTime | None = None,
        delay: Callable[[], float] = float,
        needs_leader: bool = True,
    ) -> None:
        self.gateway = gateway
        self.clock = clock
        self.delay = delay
        self.needs_leader = needs_leader
        self.refuses = False
        self.opened = 0
        self._members = members

    def open(
        self, endpoint: str, path: str, body: bytes, token: str | None, received: Callable[[bytes], None]
    ) -> ModelStream:
        self.opened += 1
        member = self.gateway.model.members[self._members[endpoint]]
        stream = ModelStream(self, received)
        if self.refuses or not member.running:
            stream.fail(NotSent(f"{endpoint}: connection refused"))
        elif member.hanging:
            member.waiting.append(lambda: stream.open(member.name, body, token))
        else:
            stream.open(member.name, body, token)
        return stream
