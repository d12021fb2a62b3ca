"""Daemons on machines that crash, and the network between them. All that runs of a daemon is the real code."""

from __future__ import annotations

import copy
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.python.failure import Failure

from rqdisco.errors import CannotStart
from rqdisco.journal.segments import SegmentWriter
from rqdisco.journal.writer import Journal
from rqdisco.local import Limits
from rqdisco.peers.assembly import Peered, Peering
from rqdisco.peers.links import NotGreeted, Unreachable
from rqdisco.records import Moment, Record
from rqdisco.state import open_state
from rqdisco.store import Store
from tests.simulated.timeline import Timeline, ViewOfTime
from tests.support.daemon import STATE, WALL_US
from tests.support.disk import ModelDisk


class Trace:
    """What happened, in words, for who wants to read it, and as a number, for who wants to compare."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(f"{self._timeline.now:9.3f} {text}")


class Net:
    """Messages between hosts: late, lost, or refused."""

    def __init__(self, timeline: Timeline, random: Random) -> None:
        self.timeline = timeline
        self.random = random
        self.hosts: dict[str, Host] = {}
        self.cut: set[tuple[str, str]] = set()
        self.loss = 0.0
        self.slow = 0.0

    def delay(self) -> float:
        if self.random.random() < self.slow:
            return self.random.uniform(0.05, 3.0)
        return self.random.uniform(0.0005, 0.01)

    def is_lost(self, one: str, other: str) -> bool:
        return (one, other) in self.cut or self.random.random() < self.loss

    def link(self, boot: Boot, url: str) -> SimLink:
        return SimLink(self, boot, url)


class SimLink:
    """The way from one boot of a daemon to whoever is at a URL then."""

    def __init__(self, net: Net, sender: Boot, url: str) -> None:
        self._net = net
        self._sender = sender
        self._to = url.removeprefix("http://")
        self._session: str | None = None

    def greet(self, hello: bytes, seconds: float) -> Deferred[bytes]:
        def deliver(receiver: Boot) -> Deferred[Any]:
            return maybeDeferred(receiver.peered.answers.greet, hello)

        def keep(answer: tuple[str, bytes]) -> bytes:
            self._session = answer[0]
            return answer[1]

        return self._exchange(deliver, seconds).addCallback(keep)

    def ask(self, verb: str, body: bytes, seconds: float) -> Deferred[bytes]:
        session = self._session
        if session is None:
            return fail(NotGreeted())
        return self._exchange(
            lambda receiver: Deferred.fromCoroutine(receiver.peered.answers.serve(session, verb, body)), seconds
        )

    def _exchange(self, deliver: Callable[[Boot], Deferred[Any]], seconds: float) -> Deferred[Any]:
        net, one, other = self._net, self._sender.host.name, self._to
        serving: list[Deferred[Any]] = []

        def hang_up(_: Deferred[Any]) -> None:
            # The connection is closed, which the other side sees a little later.
            if not net.is_lost(one, other):
                net.timeline.callLater(net.delay(), lambda: [each.cancel() for each in serving])

        answered: Deferred[Any] = Deferred(hang_up)

        def arrive() -> None:
            boot = net.hosts[other].boot
            if boot is None:
                if (other, one) not in net.cut:
                    net.timeline.callLater(net.delay(), reply, Failure(Unreachable("refused")))
                return
            serving.append(deliver(boot))
            serving[0].addBoth(send_back, boot)

        def send_back(result: Any, boot: Boot) -> None:
            if boot.is_alive and not net.is_lost(other, one):
                net.timeline.callLater(net.delay(), reply, result)

        def reply(result: Any) -> None:
            if not answered.called and self._sender.is_alive:
                answered.callback(result) if not isinstance(result, Failure) else answered.errback(result)

        if not net.is_lost(one, other):
            net.timeline.callLater(net.delay(), arrive)
        return answered.addTimeout(seconds, self._sender.clock, _in_no_time)


def _in_no_time(result: Any, seconds: float) -> Any:
    return Failure(Unreachable("no answer in time")) if isinstance(result, Failure) else result


class Boot:
    """One life of a daemon, from its start to its end."""

    def __init__(self, host: Host, make: Callable[..., Peered] = Peered) -> None:
        self.host = host
        self.is_alive = True
        self.clock = ViewOfTime(host.net.timeline)
        random, net, timeline = host.random, host.net, host.net.timeline
        self.pending: list[Callable[[], Any]] = []
        self.home, found = open_state(host.disk, STATE, random.randbytes)
        boot = found.boot_number(host.boot_id)
        self.store = Store(found.records, found.last_version)
        segments = SegmentWriter(host.disk, STATE, found.position, boot, host.boot_id)
        self.journal = Journal(
            self.store,
            segments,
            self._in_thread,
            lambda call: self.clock.callLater(0, call),
            lambda why: host.crash("kill"),
            1 << 14,
        )
        self.peered = make(
            Peering(name=host.name, url=f"http://{host.name}", seeds=host.seeds, ack_required=host.ack_required),
            self.home,
            self.store,
            self.journal,
            found.notes.items(),
            self.clock,
            lambda url: net.link(self, url),
            now=lambda: Moment(boot, int(timeline.now * 1000)),
            wall_us=lambda: WALL_US + int((timeline.now + host.skew) * 1_000_000),
            random=random.randbytes,
            jitter=lambda: random.uniform(0.9, 1.1),
            limits=host.limits,
        )
        self.directory = self.peered.directory

    def records(self) -> dict[str, Record]:
        found = ((key, self.store.settled(key)) for key in self.store.ids())
        return {key: record for key, record in found if record is not None}

    def _in_thread(self, call: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        random = self.host.random
        seconds = random.uniform(0.0001, 0.02) if random.random() < 0.98 else random.uniform(0.02, 0.8)
        self.pending.append(call)

        def run() -> None:
            self.pending.remove(call)
            maybeDeferred(call).chainDeferred(done)

        self.clock.callLater(seconds, run)
        return done


class _PowerCut(BaseException):
    pass


class Host:
    """A machine that a daemon runs on."""

    def __init__(
        self, net: Net, trace: Trace, name: str, seeds: tuple[str, ...], random: Random, make: Callable[..., Peered]
    ) -> None:
        self.net, self.trace, self.name, self.seeds, self.random, self._make = net, trace, name, seeds, random, make
        self.disk = ModelDisk()
        self.boot: Boot | None = None
        self.boot_id = f"{name}-0"
        self.skew = 0.0
        self.limits = Limits()
        self.ack_required = False
        self.backups: list[ModelDisk] = []
        self.is_gone = False
        net.hosts[name] = self

    @property
    def takes_part(self) -> bool:
        """Whether what runs here is a member still, as far as it knows."""
        peers = None if self.boot is None else self.boot.peered.peers
        return peers is not None and peers.members.own.state == "member" and peers.standing.fenced is None

    def start(self) -> None:
        if self.boot is not None or self.is_gone:
            return
        try:
            self.boot = Boot(self, self._make)
        except CannotStart as refusal:
            self.trace.say(f"{self.name} cannot start: {refusal}")
            self.net.timeline.callLater(5, self.start)
            return
        self.trace.say(f"{self.name} starts as {self.boot.home}")
        self.boot.peered.peers.startService()

    def crash(self, kind: str) -> None:
        """End without a word: `kill` keeps what was written, `power` what was synced and perhaps more."""
        boot, self.boot = self.boot, None
        if boot is None:
            return
        boot.is_alive = False
        boot.clock.end()
        self.trace.say(f"{self.name} dies ({kind})")
        for call in boot.pending:
            self._cut_short(call)
        if kind == "power":
            self.boot_id = f"{self.name}-{self.random.randrange(1 << 30)}"
            self.disk = self.disk.crash(self.random)
        else:
            self.disk = self.disk.kill()

    def back_up(self) -> None:
        """Keep the disk as it is for later; a snapshot of a machine, identity and all."""
        disk = copy.deepcopy(self.disk)
        self.backups.append(disk.kill())

    def roll_back(self) -> None:
        if self.backups:
            self.trace.say(f"{self.name} is rolled back")
            self.crash("kill")
            self.disk = self.random.choice(self.backups)
            self.backups = []

    def lose_disk(self) -> None:
        self.trace.say(f"{self.name} loses its disk")
        self.crash("kill")
        self.disk = ModelDisk()
        self.backups = []

    def _cut_short(self, call: Callable[[], Any]) -> None:
        steps = self.random.randrange(4)

        def before(_: str) -> None:
            nonlocal steps
            steps -= 1
            if steps < 0:
                raise _PowerCut

        self.disk.before = before
        try:
            call()
        except (_PowerCut, Exception):
            pass
        finally:
            self.disk.before = lambda operation: None
