"""Several daemons as state machines, and everything under way between them, which arrives when the
test says so.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

from rqdisco.backends.gossip.core.effects import Abandon, ClientReply, Effect, Fence, Log, Persist, Respond, Send, Wake
from rqdisco.backends.gossip.core.inputs import (
    Answered,
    Cancelled,
    Command,
    Failed,
    Greeted,
    HungUp,
    Input,
    Received,
    Requested,
    Ticked,
)
from rqdisco.backends.gossip.core.messages import Hello
from rqdisco.backends.gossip.core.peer_errors import NotGreeted, PeerError, PeerUnreachable
from rqdisco.backends.limits import Limits
from tests.simulated.machines import Daemon

_MOST_TURNS = 2000


@dataclass(eq=False)
class Exchange:
    """A message from one daemon to another, and its answer once there is one. `sender` waits for it
    until `deadline`, in this `run` of it, unless it `is_abandoned`.
    """

    sender: Daemon
    run: int
    send: int
    receiver: Daemon | None
    verb: str
    session: str | None
    content: Any
    deadline: float
    is_abandoned: bool = False
    answer: Any = None
    new_session: str | None = None


@dataclass
class Asked:
    """A client's request at a daemon, and the answer."""

    number: int
    daemon: Daemon
    command: Command
    is_open: bool = True
    result: Any = None


@dataclass
class Wires:
    """Daemons on one clock. `messages` have not arrived; `answers` have not either; `in_progress` are
    messages that a daemon works on, by daemon and call; `cut` are the pairs of names that hear
    nothing of each other.
    """

    daemons: list[Daemon]
    messages: list[Exchange] = field(default_factory=list)
    answers: list[Exchange] = field(default_factory=list)
    in_progress: dict[tuple[str, int], Exchange] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    cut: set[frozenset[str]] = field(default_factory=set)
    clock: float = 0.0
    errors: list[str] = field(default_factory=list)
    _lost: list[Exchange] = field(default_factory=list)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    @classmethod
    def of(cls, count: int, limits: Limits | None = None) -> Self:
        """Start some daemons that know of each other, and let them meet."""
        names = "abcde"[:count]
        seeds = {name: tuple(f"http://{each}" for each in names if each != name) for name in names}
        wires = cls([Daemon(name, seeds[name], limits or Limits()) for name in names])
        for daemon in wires.daemons:
            wires.start(daemon)
        wires.settle(4.0)
        return wires

    @property
    def running(self) -> list[Daemon]:
        return [each for each in self.daemons if each.machine is not None]

    # What happens.

    def start(self, daemon: Daemon) -> None:
        daemon.clock = self.clock
        self._perform(daemon, daemon.start())

    def kill(self, daemon: Daemon, written: int) -> None:
        """Kill a daemon. Those who wait for it learn that when they next could hear of it."""
        daemon.kill(written)
        for key in [key for key in self.in_progress if key[0] == daemon.name]:
            exchange = self.in_progress.pop(key)
            exchange.answer = PeerUnreachable("connection lost")
            self.answers.append(exchange)
        for asked in self.asked:
            if asked.daemon is daemon and asked.is_open:
                asked.is_open, asked.result = False, ConnectionError()

    def ask(self, daemon: Daemon, command: Command) -> Asked:
        asked = Asked(next(self._numbers), daemon, command)
        self.asked.append(asked)
        self.give(daemon, Requested(asked.number, command))
        return asked

    def hang_up(self, asked: Asked) -> None:
        """The client of a request is gone."""
        asked.is_open = False
        self.give(asked.daemon, Cancelled(asked.number))

    def deliver(self, exchange: Exchange, *, again: bool = False) -> None:
        """A message arrives; `again`, a copy of it may arrive once more."""
        if not again:
            self.messages.remove(exchange)
        receiver = exchange.receiver
        if receiver is None or receiver.machine is None or self._is_cut(exchange):
            self.answers.append(exchange)
            exchange.answer = PeerUnreachable("connection refused")
            return
        call = next(self._numbers)
        self.in_progress[receiver.name, call] = exchange
        if exchange.verb == "hello":
            exchange.new_session = receiver.next_session()
            self.give(receiver, Greeted(call, exchange.new_session, exchange.content))
        else:
            self.give(receiver, Received(call, str(exchange.session), exchange.verb, exchange.content))

    def deliver_answer(self, exchange: Exchange) -> None:
        self.answers.remove(exchange)
        if not self._is_awaited(exchange):
            return
        exchange.is_abandoned = True
        sender, answer = exchange.sender, exchange.answer
        if isinstance(answer, PeerError):
            if isinstance(answer, NotGreeted) and exchange.receiver is not None:
                sender.sessions.pop(exchange.receiver.url, None)
            self.give(sender, Failed(exchange.send, answer))
        else:
            if exchange.verb == "hello" and exchange.receiver is not None:
                sender.sessions[exchange.receiver.url] = str(exchange.new_session)
            self.give(sender, Answered(exchange.send, answer))

    def lose(self, exchange: Exchange) -> None:
        """A message or an answer is lost; the sender waits until its deadline."""
        for pile in (self.messages, self.answers):
            if exchange in pile:
                pile.remove(exchange)
        self._lost.append(exchange)

    def give(self, daemon: Daemon, given: Input) -> None:
        daemon.clock = self.clock
        self._perform(daemon, daemon.give(given))

    def finish_write(self, daemon: Daemon) -> None:
        daemon.clock = self.clock
        self._perform(daemon, daemon.finish_write())

    def refuse_writes(self, daemon: Daemon) -> None:
        daemon.clock = self.clock
        self._perform(daemon, daemon.refuse_writes("disk full"))

    def pass_time(self, seconds: float) -> None:
        """Let time pass: timers fire, and who waits too long gives up."""
        end = self.clock + seconds
        while (due := self._next_due()) is not None and due[0] <= end:
            at, act = due
            self.clock = max(self.clock, at)
            act()
        self.clock = end

    def settle(self, seconds: float) -> None:
        """Let everything arrive at once, in order, for some time."""
        end = self.clock + seconds
        for _ in range(_MOST_TURNS):
            if not self._step():
                due = self._next_due()
                if due is None or due[0] > end:
                    break
                self.pass_time(due[0] - self.clock)
        self.clock = end

    def _step(self) -> bool:
        for daemon in self.running:
            if daemon.unwritten:
                self.finish_write(daemon)
                return True
        if self.answers:
            self.deliver_answer(self.answers[0])
        elif self.messages:
            self.deliver(self.messages[0])
        else:
            return False
        return True

    def _next_due(self) -> tuple[float, Any] | None:
        due: list[tuple[float, Any]] = [
            (daemon.wake_at, partial(self.give, daemon, Ticked()))
            for daemon in self.running
            if daemon.wake_at is not None
        ]
        due += [(each.deadline, partial(self._give_up, each)) for each in self._under_way if self._is_awaited(each)]
        return min(due, key=lambda each: each[0], default=None)

    def _give_up(self, exchange: Exchange) -> None:
        exchange.is_abandoned = True
        self.give(exchange.sender, Failed(exchange.send, PeerUnreachable("no answer")))

    @property
    def _under_way(self) -> list[Exchange]:
        return [*self.messages, *self.answers, *self._lost, *self.in_progress.values()]

    def _is_awaited(self, exchange: Exchange) -> bool:
        sender = exchange.sender
        return not exchange.is_abandoned and sender.machine is not None and sender.starts == exchange.run

    def _is_cut(self, exchange: Exchange) -> bool:
        names = {exchange.sender.name, exchange.receiver.name if exchange.receiver is not None else ""}
        return frozenset(names) in self.cut

    # What the machines do.

    def _perform(self, daemon: Daemon, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self._send(daemon, effect)
            elif isinstance(effect, Abandon):
                self._abandon(daemon, effect.number)
            elif isinstance(effect, Respond):
                self._respond(daemon, effect)
            elif isinstance(effect, ClientReply):
                self._reply(daemon, effect)
            elif isinstance(effect, Wake):
                assert effect.at >= self.clock - 1e-9 or effect.at == daemon.wake_at
            elif isinstance(effect, Fence):
                self.errors.append(f"{daemon.name} is fenced: {effect.reason}")
            elif isinstance(effect, Log) and effect.level == "error":
                self.errors.append(f"{daemon.name} logs: {effect.text} {effect.fields}")

    def _send(self, daemon: Daemon, effect: Send) -> None:
        receiver = next((each for each in self.daemons if each.url == effect.url), None)
        session = None if effect.verb == "hello" else daemon.sessions.get(effect.url, "none")
        deadline = self.clock + effect.seconds
        exchange = Exchange(
            daemon, daemon.starts, effect.number, receiver, effect.verb, session, effect.message, deadline
        )
        self.messages.append(exchange)

    def _abandon(self, daemon: Daemon, send: int) -> None:
        for exchange in self._under_way:
            if (exchange.sender, exchange.send, exchange.run) == (daemon, send, daemon.starts):
                exchange.is_abandoned = True

    def hang_up_on(self, receiver: str, call: int) -> None:
        """The receiver of a message learns that its sender waits no longer."""
        exchange = self.in_progress[receiver, call]
        assert not self._is_awaited(exchange)
        assert exchange.receiver is not None
        self.give(exchange.receiver, HungUp(call))

    @property
    def deserted(self) -> list[tuple[str, int]]:
        """The messages in progress whose senders wait no longer."""
        return [key for key, exchange in self.in_progress.items() if not self._is_awaited(exchange)]

    def _respond(self, daemon: Daemon, effect: Respond) -> None:
        exchange = self.in_progress.pop((daemon.name, effect.number))
        answer = Exchange(**vars(exchange)) if exchange in self.messages else exchange
        answer.answer = effect.message
        if exchange.verb == "hello":
            assert isinstance(effect.message, (Hello, PeerError))
        self.answers.append(answer)

    def _reply(self, daemon: Daemon, effect: ClientReply) -> None:
        asked = next(each for each in self.asked if each.number == effect.number)
        assert asked.daemon is daemon
        assert asked.is_open, "answered twice, or after its client was gone"
        asked.is_open, asked.result = False, effect.result

    # What must hold at any moment.

    def check(self) -> None:
        """Everything under way is known to who waits for it, and only once."""
        for daemon in self.running:
            assert daemon.machine is not None
            state = daemon.machine.state
            writes = [each.number for each in daemon.unwritten if isinstance(each, Persist)]
            assert len(writes) == len(set(writes))
            waited_for = {*state.writes, *state.flushes}
            assert waited_for == set(writes), "a write that nobody waits for, or one that is not under way"
            awaited = {each.send for each in self._under_way if each.sender is daemon and self._is_awaited(each)}
            waiting = {number for peer in state.contacts.values() for number in peer.waiting}
            assert set(state.outgoing) - waiting <= awaited, "a message that is not under way"
            open_requests = {each.number for each in self.asked if each.is_open and each.daemon is daemon}
            assert {number for number in state.requests if number > 0} == open_requests
