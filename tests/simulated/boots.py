"""One run of a daemon, from its start to its end: its machine, with models of its journal and its
process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rqdisco.backends.gossip.core import decide, effects, queries
from rqdisco.backends.gossip.core.inputs import (
    Answered,
    Command,
    Delivered,
    Discarded,
    Failed,
    Input,
    Persisted,
    Requested,
    Settled,
    Started,
    Stopped,
    Ticked,
    WriteRefused,
)
from rqdisco.backends.gossip.core.messages import Hint, Outcome
from rqdisco.backends.gossip.core.peer_errors import NotGreeted
from rqdisco.backends.gossip.core.state import MachineConfig, State
from rqdisco.backends.gossip.transport.seals import ReplayWindow
from rqdisco.core.expiry import ExpiryWatermarks
from rqdisco.core.records import Record
from tests.simulated.choices import Stream
from tests.simulated.directory import Commands
from tests.simulated.disk import Disk, ModelJournal
from tests.simulated.network import Deadlines, Exchange
from tests.simulated.process import Process
from tests.simulated.rests import Rests
from tests.simulated.sweep import Sweep
from tests.simulated.tasks import Promise

if TYPE_CHECKING:
    from tests.simulated.hosts import Host

# Parts of a second that a write of the disk takes, and how often it takes long.
_WRITE_SECONDS = 0.0001, 0.02
_LONG_WRITE_SECONDS = 0.02, 0.8
_ODDS_LONG = 0.02
# What the state keeps while something is under way.
_UNDER_WAY = ("pending_grants", "outgoing", "writes", "replication_waits", "convergence_waits", "barriers")


@dataclass(slots=True)
class Link:
    """The way from a daemon to whichever one is at a URL, with its session there. It `is_down` if
    the last message failed; `streams` are its messages, by verb.
    """

    to: str
    session: str | None = None
    counter: int = 0
    is_down: bool = False
    streams: dict[str, Stream] = field(default_factory=dict)


class Boot(Process):
    """One run of a daemon, from its start to its end."""

    def __init__(self, host: Host, number: int) -> None:
        super().__init__(host)
        world = host.world
        self._world, self.number = world, number
        self.began = world.now
        self.died: float | None = None
        # The grants that it could not revoke until its end, by ID and address, and since when its disk
        # was full.
        self.unrevoked: dict[tuple[str, str], float] = {}
        self.directory = Commands(world.new_id)
        # The registrations refused by an owner that this daemon forwarded to, by ID and address.
        self.refused: set[tuple[str, str]] = set()
        # By the number of a hint: when its node was answered first, and the version that it was sent.
        self.hinted: dict[int, tuple[float, int]] = {}
        self.settled_count = 0
        self.links: dict[int, Link] = {}
        self.sends: dict[int, Exchange] = {}
        self.deadlines = Deadlines(self, world.timeline)
        self.calls: dict[int, Exchange] = {}
        self._windows: dict[str, ReplayWindow] = {}
        self._last_call = self._last_request = 0
        self._requests: dict[int, Callable[[Any, bool], None]] = {}
        self._inputs: deque[Input] = deque()
        self._is_running = False
        self._wake_at: float | None = None
        self._wakes: float | None = None
        self.rests = Rests(self, world)
        self._start(host.disk)

    def _start(self, disk: Disk) -> None:
        host = self.host
        assert disk.incarnation is not None
        self.owner = disk.incarnation
        self.store, metadata = disk.recover()
        self._writes = self._world.choices.stream(f"{host.name} writes")
        self.journal = ModelJournal(
            self.store, disk, lambda call: self.later(0.0, call), lambda call: self.later(self._write_seconds(), call)
        )
        watermarks = ExpiryWatermarks(metadata)
        config = MachineConfig(
            incarnation=self.owner,
            run_id=self._world.choices.random_bytes(f"run {host.name} {self.number}", 16).hex(),
            name=host.name,
            url=f"http://{host.name}",
            host=host.name,
            seeds=host.seeds,
            limits=host.limits,
        )
        self.machine = self._world.make(config, self.store, metadata, watermarks, self.now())
        self.state: State = self.machine.state
        self.store.on_settled.append(self._settled)
        self.store.on_discarded.append(self._discarded)
        self.sweep = None if host.unused_seconds is None else Sweep(self, watermarks, metadata, host.unused_seconds)

    def run(self) -> None:
        """Begin to take part."""
        self.rests.change()
        self.put(Started())
        if self.sweep is not None:
            self.sweep.start()

    def stop(self) -> None:
        """Stop in order."""
        self.put(Stopped())

    def end(self) -> None:
        """End without notice."""
        self.is_alive, self.died = False, self._world.now
        disk = self.host.disk
        for pending in self.state.pending_grants.values() if disk.is_full else ():
            if pending.reason:
                self.unrevoked[pending.id, pending.outcome.record.grant.addr] = disk.full_since

    # The machine.

    def put(self, given: Input) -> None:
        """Give the machine an input, after those that came before, and do what it wants done."""
        if not self.is_alive:
            return
        if self._is_running:
            self._inputs.append(given)
            return
        self._is_running = True
        inputs, receive, steps = self._inputs, self.machine.receive, self._world.steps
        try:
            while True:
                wanted = receive(given, self.now())
                if steps is not None:
                    steps.step(self.host.name, given, wanted)
                for effect in wanted:
                    _PERFORM[type(effect)](self, effect)
                if not inputs:
                    break
                given = inputs.popleft()
        except Exception as error:
            inputs.clear()
            self._world.failed(error)
        self._is_running = False

    def _wake(self, effect: effects.Wake) -> None:
        self._wake_at = at = effect.at
        if self._wakes is None or at < self._wakes:
            self._tick_at(at if at > self._heap.now else self._heap.now)

    def wake_at(self, at: float) -> None:
        """Let the machine's timer run at a time, or earlier."""
        if self._wake_at is None or at < self._wake_at:
            self._wake_at = at
            self._tick_at(at)

    def _tick_at(self, at: float) -> None:
        self._wakes = at
        self._heap.call_at(at, self.when_awake, self._tick, (at,))

    def _tick(self, expected: float) -> None:
        if self._wakes != expected:
            return
        self._wakes, at = None, self._wake_at
        if at is None:
            return
        if at > self._heap.now:
            self._tick_at(at)
        else:
            self._wake_at = None
            if self.rests.put_off():
                self.state.woken_at = at = self.state.timers[0][0]
                self.wake_at(at)
            else:
                self.put(Ticked())

    def _persist(self, effect: effects.Persist) -> None:
        number = effect.number
        self.rests.change()

        def done(reason: str | None) -> None:
            self.rests.change()
            self.put(Persisted(number) if reason is None else WriteRefused(number, reason))

        self.journal.append(effect.changes, done)

    def _settled(self, changes: Any) -> None:
        self.settled_count += 1
        self.rests.change()
        self._world.look_soon()
        self.put(Settled(tuple(changes)))

    def _discarded(self, changes: Any) -> None:
        self.rests.change()
        self.put(Discarded(tuple(changes)))

    def _write_seconds(self) -> float:
        part, odds = self._writes.next()
        low, high = _LONG_WRITE_SECONDS if odds < _ODDS_LONG else _WRITE_SECONDS
        seconds: float = low + part * (high - low)
        return seconds

    # Messages.

    def _send(self, effect: effects.Send) -> None:
        link = self.links.get(effect.link)
        if link is None:
            link = self.links[effect.link] = Link(effect.url.removeprefix("http://"))
        if link.session is None and effect.verb != "hello":
            self.put(Failed(effect.number, NotGreeted()))
            return
        self.sends[effect.number] = exchange = Exchange(self._world.net, self, link, effect)
        exchange.begin()

    def _abandon(self, effect: effects.Abandon) -> None:
        exchange = self.sends.pop(effect.number, None)
        if exchange is not None:
            exchange.hang_up()

    def _respond(self, effect: effects.Respond) -> None:
        exchange = self.calls.pop(effect.number, None)
        if exchange is not None:
            exchange.respond(effect.message)

    def new_call(self) -> int:
        """Return a number for a message that arrives."""
        self._last_call += 1
        return self._last_call

    def new_session(self) -> str:
        """Begin a session; return its name."""
        name = f"{self.host.name}-{self.number}-{self._last_call}"
        self._windows[name] = ReplayWindow()
        return name

    def window(self, session: str) -> ReplayWindow | None:
        """Return the counters seen in a session, None if it did not begin here."""
        return self._windows.get(session)

    def answered(self, exchange: Exchange, message: Any) -> None:
        """Receive the answer to a message."""
        if isinstance(message, Outcome):
            if message.refusal == "Undecided" and exchange.message.op == "register":
                self.refused.add((exchange.message.id, exchange.message.node.addr))
            self._world.judge.owner_answered(message.record)
        self.put(Answered(exchange.number, message))

    # Clients.

    @property
    def next_request(self) -> int:
        """The number that the next request will have."""
        return self._last_request + 1

    def request(self, command: Command, answered: Callable[[Any, bool], None]) -> None:
        """Request something; `answered` gets the result or an exception, and whether the machine
        must be told that it was sent.
        """
        self._last_request += 1
        self._requests[self._last_request] = answered
        self.put(Requested(self._last_request, command))

    def ask(self, command: Command) -> Promise:
        """Request something for an operator, who does not hang up."""
        promise, number = Promise(), self.next_request

        def answered(result: Any, must_confirm: bool) -> None:
            if must_confirm:
                self.put(Delivered(number, was_delivered=True))
            promise.keep(result)

        self.request(command, answered)
        return promise

    def forget_request(self, number: int) -> None:
        """Take no answer to a request any more."""
        self._requests.pop(number, None)

    def _reply(self, effect: effects.ClientReply) -> None:
        answered = self._requests.pop(effect.number, None)
        if answered is not None:
            answered(effect.result, effect.confirm)
        elif effect.confirm:
            self.put(Delivered(effect.number, was_delivered=False))

    # Logs.

    def _fence(self, effect: effects.Fence) -> None:
        self.rests.change()
        self._world.trace.log(f"{self.host.name} is fenced: {effect.reason}")

    def _notify(self, effect: effects.Notify) -> None:
        pass

    def _log(self, effect: effects.Log) -> None:
        if effect.level == "error":
            self.rests.change()
            self._world.trace.log(f"{self.host.name}: {effect.text.format(**effect.fields)}")
            if "conflicting records" in effect.text:
                self._world.judge.owners_clashed(effect.fields["discovery_id"])

    # For the judge.

    @property
    def leftovers(self) -> list[str]:
        """The parts of the state that still hold requests or messages, although none is under way."""
        if self.calls or self._requests or self.sends:
            return []
        return [name for name in _UNDER_WAY if getattr(self.state, name)]

    def records(self) -> dict[str, Record]:
        """Return the records on its disk."""
        found = ((key, self.store.settled(key)) for key in self.store.ids())
        return {key: record for key, record in found if record is not None}

    def owns(self, record: Record) -> bool:
        """Report whether it decides about an ID."""
        return queries.owner(self.state, record) == self.owner

    def hints_of_its_own(self, key: str) -> list[Hint]:
        """Return the hints that it stored for an ID of its own and did not add yet, if it may decide
        about the ID.
        """
        state = self.state
        if not decide.is_ready(state):
            return []
        return [each.hint for each in state.hints.unmerged(key, self.owner)]

    def listed_on_behalf(self, key: str, addr: str, version: int) -> None:
        """Note that it sends a node to what this version of a record lists."""
        for each in self.state.hints.of_id(key):
            if each.hint.node.addr == addr:
                self.hinted.setdefault(each.hint.number, (self._heap.now, version))


_PERFORM: dict[type, Callable[[Boot, Any], None]] = {
    effects.Send: Boot._send,
    effects.Abandon: Boot._abandon,
    effects.Respond: Boot._respond,
    effects.Persist: Boot._persist,
    effects.ClientReply: Boot._reply,
    effects.Wake: Boot._wake,
    effects.Fence: Boot._fence,
    effects.Notify: Boot._notify,
    effects.Log: Boot._log,
}
