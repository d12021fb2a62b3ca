"""The network between the daemons of a run: messages are late, lost, repeated, out of order or
refused.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from rqdisco.backends.gossip.core.effects import Send
from rqdisco.backends.gossip.core.inputs import Failed, Greeted, HungUp, Received
from rqdisco.backends.gossip.core.messages import VERBS, decode_message, encode_message
from rqdisco.backends.gossip.core.peer_errors import NotGreeted, PeerError, PeerUnreachable
from tests.simulated.choices import Choices, usual_delay
from tests.simulated.timeline import EventHeap, HasTime

if TYPE_CHECKING:
    from tests.simulated.boots import Boot, Link
    from tests.simulated.hosts import Host


# Those whose answers tell the state of a daemon.
_TELLING_VERBS = ("digest", "hello", "push")
_ROUND_SECONDS = 1.0


class Net:
    """The faults that messages meet. `loss`, `slow`, `late` and `repeats` are how often each
    happens.
    """

    def __init__(self, timeline: HasTime, random: Random) -> None:
        self.timeline: Any = timeline
        self.random = random
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


class PeerNet(Net):
    """The network of the machines of a run; messages between them are as in its choices."""

    def __init__(self, heap: EventHeap, choices: Choices, *, as_bytes: bool) -> None:
        self.hosts: dict[str, Host] = {}
        self.choices = choices
        self.as_bytes = as_bytes
        super().__init__(heap, Random(0))

    def calm(self) -> None:
        super().calm()
        self.choices.rates.set()

    def is_unreachable(self, one: str, other: str) -> bool:
        """Report whether no message of one host is answered by another one now."""
        return self.hosts[other].boot is None or (one, other) in self.cut or (other, one) in self.cut

    def note_delay(self, seconds: float) -> None:
        """Note that a message is under way for some time; if that is longer than a round takes, the
        network is not calm.
        """
        if seconds > _ROUND_SECONDS:
            self._disturbed_until = max(self._disturbed_until, self.timeline.now + seconds)

    def was_calm_since(self, moment: float) -> bool:
        rates = self.choices.rates
        return not self.cut and self._disturbed_until < moment and not rates.loss and not rates.late


class Deadlines:
    """The messages of one run of a daemon that nobody answered yet. Those that it waits for equally
    long share a timer.
    """

    def __init__(self, boot: Boot, heap: EventHeap) -> None:
        self._boot, self._heap = boot, heap
        self._waiting: dict[float, deque[tuple[float, Exchange]]] = {}

    def add(self, exchange: Exchange) -> None:
        """Let the sender give up in time."""
        at, waiting = self._heap.now + exchange.seconds, self._waiting.get(exchange.seconds)
        if waiting is None:
            waiting = self._waiting[exchange.seconds] = deque()
            self._heap.call_at(at, self._boot.when_awake, self._pass, (exchange.seconds,))
        waiting.append((at, exchange))

    def _pass(self, seconds: float) -> None:
        sends, waiting = self._boot.sends, self._waiting[seconds]
        while waiting:
            at, exchange = waiting[0]
            if exchange.number not in sends:
                waiting.popleft()
            elif at <= self._heap.now:
                waiting.popleft()
                exchange.time_out()
            else:
                self._heap.call_at(at, self._boot.when_awake, self._pass, (seconds,))
                return
        del self._waiting[seconds]


class Exchange:
    """A message from one daemon to whichever one is at a URL when it arrives, and its answer."""

    __slots__ = (
        "_call",
        "_counter",
        "_fate",
        "_from",
        "_is_closed",
        "_link",
        "_net",
        "_receiver",
        "_sender",
        "_session",
        "_usual",
        "_usual_back",
        "changes",
        "changes_there",
        "key",
        "message",
        "number",
        "seconds",
        "to",
        "verb",
    )

    def __init__(self, net: PeerNet, sender: Boot, link: Link, effect: Send) -> None:
        self._net, self._sender, self._link = net, sender, link
        self._from, self.to = sender.host.name, link.to
        self.number, self.key, self.verb, self.seconds = effect.number, effect.link, effect.verb, effect.seconds
        self.message: Any = effect.message
        self._session = link.session
        link.counter += 1
        self._counter = link.counter
        stream = link.streams.get(effect.verb)
        if stream is None:
            stream = link.streams[effect.verb] = net.choices.stream(f"{self._from} {self.to} {effect.verb}")
        self._fate, one, other = net.choices.message(stream)
        # How much had changed at both daemons when they sent their messages.
        self.changes, self.changes_there = sender.rests.changes, 0
        self._usual, self._usual_back = usual_delay(one), usual_delay(other)
        self._receiver: Boot | None = None
        self._call = 0
        self._is_closed = False
        if net.as_bytes:
            self.message = _through_bytes(effect.message, VERBS[effect.verb][0])

    def begin(self) -> None:
        """Send the message."""
        net, fate, heap = self._net, self._fate, self._net.timeline
        if not fate.lost and (self._from, self.to) not in net.cut:
            if fate.late:
                net.note_delay(fate.late)
            heap.callLater(fate.late or self._usual, self._arrive)
            if fate.again:
                heap.callLater(fate.again, self._arrive_again)
        self._sender.deadlines.add(self)

    def hang_up(self) -> None:
        """Close the connection, which the other side notices a little later, and not before the
        message.
        """
        if not self._fate.hang_up_lost and (self._from, self.to) not in self._net.cut:
            self._net.timeline.callLater(self._usual, self._close)

    def respond(self, message: Any) -> None:
        """Send the answer, or an error."""
        net, fate = self._net, self._fate
        if self._receiver is not None:
            self.changes_there = self._receiver.rests.changes
        if self._is_closed or fate.answer_lost or (self.to, self._from) in net.cut:
            return
        if net.as_bytes and not isinstance(message, PeerError):
            message = _through_bytes(message, VERBS[self.verb][1])
        if fate.answer_late:
            net.note_delay(fate.answer_late)
        net.timeline.callLater(fate.answer_late or self._usual_back, self._answer, message)

    def _arrive(self) -> None:
        boot = self._net.hosts[self.to].boot
        if boot is None:
            if (self.to, self._from) not in self._net.cut:
                self._net.timeline.callLater(self._usual_back, self._answer, PeerUnreachable("refused"))
        elif boot.awake_at > self._net.timeline.now:
            # It waits in the socket; of several nobody knows which is read first.
            self._net.timeline.callLater(boot.sleeps_for + self._usual, self._arrive)
        else:
            self._receiver, self._call = boot, boot.new_call()
            boot.calls[self._call] = self
            self._deliver(boot, self._call)
            if self._is_closed:
                boot.later(0.0, self._notice, boot)

    def _arrive_again(self) -> None:
        boot = self._net.hosts[self.to].boot
        if boot is None:
            return
        if boot.sleeps_for:
            self._net.timeline.callLater(boot.sleeps_for + self._usual, self._arrive_again)
        else:
            # Nobody waits for this answer.
            self._deliver(boot, boot.new_call())

    def _deliver(self, boot: Boot, call: int) -> None:
        if self.verb == "hello":
            session = boot.new_session()
            if call == self._call:
                self._session = session
            boot.put(Greeted(call, session, self.message))
            return
        window = boot.window(self._session or "")
        if window is None:
            self._refuse(boot, call, NotGreeted())
        elif not window.accept(self._counter):
            self._refuse(boot, call, PeerUnreachable("replayed message"))
        else:
            if self.verb == "digest":
                self._sender.rests.arrived(self.changes)
            boot.put(Received(call, self._session or "", self.verb, self.message))

    def _refuse(self, boot: Boot, call: int, error: PeerError) -> None:
        if boot.calls.pop(call, None) is not None:
            self.respond(error)

    def _answer(self, message: Any) -> None:
        sender = self._sender
        if sender.awake_at > self._net.timeline.now:
            self._net.timeline.callLater(sender.sleeps_for + self._usual_back, self._answer, message)
            return
        if not sender.is_alive or sender.sends.pop(self.number, None) is None:
            return
        link, rests = self._link, sender.rests
        before = rests.readiness if self.verb == "digest" else ()
        if isinstance(message, PeerError):
            if isinstance(message, NotGreeted) and link.session == self._session:
                link.session = None
            self._fail(message)
        else:
            link.is_down = False
            if self.verb == "hello":
                link.session, link.counter = self._session, 0
            sender.answered(self, message)
        if self._receiver is not None and self.verb in _TELLING_VERBS:
            rests.exchanged(self, self._receiver, message, before)

    def time_out(self) -> None:
        """The sender gives up."""
        del self._sender.sends[self.number]
        self.hang_up()
        self._fail(PeerUnreachable(f"no answer in {self.seconds:g} s"))

    def _fail(self, error: PeerError) -> None:
        self._link.is_down = isinstance(error, PeerUnreachable)
        self._sender.put(Failed(self.number, error))

    def _close(self) -> None:
        self._is_closed = True
        boot = self._receiver
        if boot is not None and self._call in boot.calls:
            boot.when_awake(self._notice, (boot,))

    def _notice(self, boot: Boot) -> None:
        """The receiver notices that nobody waits for its answer."""
        if boot.calls.pop(self._call, None) is not None:
            boot.put(HungUp(self._call))


def _through_bytes(message: Any, kind: type[msgspec.Struct]) -> Any:
    return decode_message(encode_message(message), kind)
