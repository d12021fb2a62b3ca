"""The network between the daemons of a run: messages are late, lost, repeated, out of order or
refused.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.python.failure import Failure

from rqdisco.backends.gossip.transport.links import NotGreeted, PeerUnreachable
from tests.simulated.timeline import Timeline

if TYPE_CHECKING:
    from tests.simulated.hosts import Boot, Host


class Net:
    """The faults that messages meet. `loss`, `slow`, `late` and `repeats` are how often each
    happens.
    """

    def __init__(self, timeline: Timeline, random: Random) -> None:
        self.timeline = timeline
        self.random = random
        self.hosts: dict[str, Host] = {}
        self.cut: set[tuple[str, str]] = set()
        self.calm()

    def calm(self) -> None:
        """Let messages suffer no fault except their delay."""
        self.cut.clear()
        self._disturbed_until = self.timeline.now
        self.loss = self.slow = self.late = self.repeats = 0.0

    def sever(self, pairs: set[tuple[str, str]]) -> None:
        """Let nothing pass from one of a pair to the other."""
        self.cut |= pairs

    def rejoin(self, pairs: set[tuple[str, str]]) -> None:
        self.cut -= pairs
        self._disturbed_until = self.timeline.now

    def was_calm_since(self, moment: float) -> bool:
        """Report whether all messages have passed since then."""
        return not self.cut and self._disturbed_until < moment and not self.loss and not self.late

    def delay(self) -> float:
        if self.random.random() < self.slow:
            return self.random.uniform(0.05, 3.0)
        return self.random.uniform(0.0005, 0.01)

    def way(self) -> float:
        """Return the delay of a message between daemons, which may be longer than anybody waits for
        its answer.
        """
        if self.random.random() < self.late:
            return self.random.uniform(4, 20)
        return self.delay()

    def is_lost(self, one: str, other: str) -> bool:
        return (one, other) in self.cut or self.random.random() < self.loss

    def link(self, boot: Boot, url: str) -> SimLink:
        return SimLink(self, boot, url)


class SimLink:
    """The link from one boot of a daemon to whichever daemon is at a URL then."""

    def __init__(self, net: Net, sender: Boot, url: str) -> None:
        self._net = net
        self._sender = sender
        self._to = url.removeprefix("http://")
        self._session: str | None = None
        self._counter = 0

    def greet(self, hello: bytes, seconds: float) -> Deferred[bytes]:
        def deliver(receiver: Boot) -> Deferred[Any]:
            return maybeDeferred(receiver.backend.request_handler.greet, hello)

        def keep(answer: tuple[str, bytes]) -> bytes:
            self._session, self._counter = answer[0], 0
            return answer[1]

        return self._exchange(deliver, seconds).addCallback(keep)

    def request(self, verb: str, body: bytes, seconds: float) -> Deferred[bytes]:
        session = self._session
        if session is None:
            return fail(NotGreeted())
        self._counter += 1
        counter = self._counter

        def deliver(receiver: Boot) -> Deferred[Any]:
            if not receiver.accepts(session, counter):
                return fail(PeerUnreachable("replayed message"))
            return Deferred.fromCoroutine(receiver.backend.request_handler.serve(session, verb, body))

        return self._exchange(deliver, seconds)

    def _exchange(self, deliver: Callable[[Boot], Deferred[Any]], seconds: float) -> Deferred[Any]:
        net, one, other = self._net, self._sender.host.name, self._to
        timeline = net.timeline
        serving: list[Deferred[Any]] = []
        is_closed = False

        def close() -> None:
            nonlocal is_closed
            is_closed = True
            for each in serving:
                each.cancel()

        def hang_up(_: Deferred[Any]) -> None:
            # The connection is closed, which the other side notices a little later, and not before
            # the message.
            if not net.is_lost(one, other):
                timeline.callLater(net.delay(), close)

        answered: Deferred[Any] = Deferred(hang_up)

        def arrive(is_repeated: bool = False) -> None:
            boot = net.hosts[other].boot
            if boot is None:
                if not is_repeated and (other, one) not in net.cut:
                    timeline.callLater(net.delay(), reply, Failure(PeerUnreachable("refused")))
            elif boot.clock.sleeps_for > 0:
                # It waits in the socket; of several nobody knows which is read first.
                timeline.callLater(boot.clock.sleeps_for + net.delay(), arrive, is_repeated)
            elif is_repeated:
                deliver(boot).addErrback(lambda _: None)
            else:
                serving.append(deliver(boot))
                serving[0].addBoth(send_back, boot)
                if is_closed:
                    boot.clock.callLater(0, serving[0].cancel)

        def send_back(result: Any, boot: Boot) -> None:
            if boot.is_alive and not net.is_lost(other, one):
                timeline.callLater(net.way(), reply, result)

        def reply(result: Any) -> None:
            sender = self._sender
            if sender.clock.sleeps_for > 0:
                timeline.callLater(sender.clock.sleeps_for + net.delay(), reply, result)
            elif not answered.called and sender.is_alive:
                answered.callback(result) if not isinstance(result, Failure) else answered.errback(result)

        if not net.is_lost(one, other):
            timeline.callLater(net.way(), arrive)
            if net.random.random() < net.repeats:
                timeline.callLater(net.random.uniform(0.001, 20), arrive, True)
        return answered.addTimeout(seconds, self._sender.clock, _in_no_time)


def _in_no_time(result: Any, seconds: float) -> Any:
    return Failure(PeerUnreachable("no answer in time")) if isinstance(result, Failure) else result
