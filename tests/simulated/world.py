"""One run: daemons, the nodes of a few clusters that ask them, an operator, faults; and what must never happen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import LogLevel, globalLogPublisher

from rqdisco import codec
from rqdisco.errors import CannotSucceed, RequestRefused, StoreUnavailable
from rqdisco.peers.assembly import Peered
from rqdisco.records import Node, Record
from tests.simulated.hosts import Boot, Host, Net, Trace
from tests.simulated.timeline import Timeline

FAULTS = (
    "answers",
    "partitions",
    "crashes",
    "disks",
    "rollbacks",
    "copies",
    "clocks",
    "full",
    "removals",
    "drains",
    "wipes",
)
DEADLINE = 7.0
FAULTY_SECONDS = 90.0
QUIET_SECONDS = 120.0
WINDOW = 30.0


@dataclass(eq=False)
class Cluster:
    """A Raft cluster that a node bootstrapped."""

    discovery_id: str
    members: set[str]


@dataclass(eq=False)
class SimNode:
    """rqlited 6.10: asks once at a start without data, bootstraps if it is alone, else joins, else exits."""

    world: World
    discovery_id: str
    addr: str
    cluster: Cluster | None = None
    is_up: bool = False
    life: int = 0
    last: str = "never asked"
    told_alone: float | None = None
    told: str | None = None
    wiped: float | None = None
    is_removed: bool = False

    def start(self) -> None:
        self.life += 1
        self.is_up = True
        Deferred.fromCoroutine(self._run(self.life)).addErrback(self.world.failed)

    def stop(self) -> None:
        self.life += 1
        self.is_up = False

    async def _run(self, life: int) -> None:
        world = self.world
        while self.life == life and self.cluster is None:
            listed = await world.ask(self)
            if self.life != life:
                return
            if listed is not None and listed == [self.addr]:
                self.told_alone = world.now
                self.last = "alone"
                world.bootstrap(self)
                return
            if listed is not None:
                self.last = f"listed {listed}"
                if await self._join(life, listed):
                    return
            await world.sleep(5)

    async def _join(self, life: int, listed: list[str]) -> bool:
        """Five attempts, three seconds apart (rqlite cluster/join.go), before it exits."""
        for _ in range(5):
            for addr in listed:
                other = self.world.nodes.get((self.discovery_id, addr))
                if addr != self.addr and other is not None and other.is_up and other.cluster is not None:
                    self.cluster = other.cluster
                    self.cluster.members.add(self.addr)
                    self.world.trace.say(f"{self.addr} joins {addr}")
                    return True
            await self.world.sleep(3)
            if self.life != life:
                return True
        return False


@dataclass
class Result:
    """What a run came to."""

    seed: int
    violations: list[str] = field(default_factory=list)
    excused: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    trace: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()[:16]


class World:
    """Everything of one run; `faults` are those that may happen."""

    def __init__(
        self,
        seed: int,
        daemons: int = 3,
        faults: tuple[str, ...] = FAULTS,
        make: Callable[..., Peered] = Peered,
        window: float = WINDOW,
    ) -> None:
        self.random = Random(f"world {seed}")
        self.timeline = Timeline()
        self.trace = Trace(self.timeline)
        self.faults = faults
        self.window = window
        self.net = Net(self.timeline, Random(f"net {seed}"))
        names = "abcde"[:daemons]
        self.hosts = [
            Host(
                self.net,
                self.trace,
                name,
                (f"http://{names[(names.index(name) + 1) % daemons]}",),
                Random(f"{name} {seed}"),
                make,
            )
            for name in names
        ]
        self.result = Result(seed)
        self.nodes: dict[tuple[str, str], SimNode] = {}
        self.clusters: list[Cluster] = []
        self.acknowledged: dict[str, set[str]] = {}
        self.doubtful: set[tuple[str, str]] = set()
        self.emptied: dict[str, float] = {}
        self.seen: dict[tuple[str, str, int], bytes] = {}
        self.lossy_disks = False
        self.is_faulty = True
        self.lost_answers = 0.0
        self.lost_grants = 0
        self.copied = False
        self.homes: dict[str, str] = {}
        # How often something happens just when it hurts.
        self.spite = self.random.choice((0.0, 0.3))

    @property
    def is_lossy(self) -> bool:
        """Whether answers may be lost, to clients or between daemons."""
        return bool({"answers", "partitions", "crashes", "copies", "rollbacks"} & set(self.faults))

    @property
    def now(self) -> float:
        return self.timeline.now

    def sleep(self, seconds: float) -> Deferred[None]:
        return deferLater(self.timeline, seconds)

    def violate(self, text: str) -> None:
        self.trace.say(f"VIOLATION {text}")
        self.result.violations.append(f"{self.now:.3f} {text}")

    def failed(self, failure: Any) -> None:
        self.violate(f"the simulation failed: {failure.getTraceback()}")

    def excuse(self, text: str) -> None:
        self.trace.say(f"excused: {text}")
        self.result.excused.append(text)

    def count(self, what: str) -> None:
        self.result.counts[what] = self.result.counts.get(what, 0) + 1

    # What clients do.

    async def call(self, what: str, make: Callable[[Boot], Any]) -> Any:
        """Ask some daemon; None for an error or no answer, else what it said. Checks that it is in time (I6)."""
        if "rollbacks" in self.faults and self.is_faulty and self.random.random() < 0.3:
            self._back_up()
        await self.sleep(self.net.delay())
        up = [host for host in self.hosts if host.boot is not None]
        if not up:
            return None
        host = self.random.choice(up)
        boot = host.boot
        assert boot is not None
        asked = self.now
        answer: Deferred[Any] = Deferred()
        calling = Deferred.fromCoroutine(make(boot))
        if not calling.called:
            boot.clock.callLater(DEADLINE, lambda: None if calling.called else calling.cancel())
        hangs_up = self.random.random() < self.lost_answers / 2
        if hangs_up:
            self.timeline.callLater(
                self.net.delay(), lambda: None if calling.called or not boot.is_alive else calling.cancel()
            )

        def said(outcome: Any) -> None:
            # The real door sends its answer in this very call.
            if self.now - asked > DEADLINE + 0.1 and boot.is_alive:
                self.violate(f"I6 {what} took {self.now - asked:.1f} s")
            if boot.is_alive and not answer.called:
                lost = hangs_up or self.random.random() < self.lost_answers
                if getattr(outcome, "alone", None) == "granted" and self.is_faulty:
                    self._strike(outcome.record.home)
                if getattr(outcome, "in_stead", False):
                    self.count("elsewhere")
                if lost and getattr(outcome, "alone", None) is not None:
                    self.trace.say(f"lost: {what} at {host.name}: {outcome.alone}")
                    self.lost_grants += 1
                self.timeline.callLater(self.net.delay(), self._deliver, answer, [None if lost else outcome])

        calling.addBoth(said)
        self.timeline.callLater(DEADLINE + 4.5, self._too_late, answer, boot, what)
        (outcome,) = await answer
        if outcome is not None and hasattr(outcome, "value"):
            error = outcome.value
            if not isinstance(error, (StoreUnavailable, RequestRefused, CancelledError)):
                self.violate(f"{what} failed: {outcome.getTraceback()}")
            why = getattr(error, "reason", None) or str(error) or type(error).__name__
            self.trace.say(f"{what} at {host.name}: no, {why}")
            self.count("refused")
            return None
        return (host.name, outcome) if outcome is not None else None

    def _deliver(self, answer: Deferred[Any], outcome: Any) -> None:
        if not answer.called:
            answer.callback(outcome)

    def _too_late(self, answer: Deferred[Any], boot: Boot, what: str) -> None:
        if not answer.called:
            # The daemon died, which the client sees; or it did not answer.
            if boot.is_alive and boot.host.name not in self._stopped():
                self.violate(f"I6 {what} is never answered")
            answer.callback([None])

    def _stopped(self) -> set[str]:
        return set()

    async def ask(self, node: SimNode) -> list[str] | None:
        """Register a node."""
        key = node.discovery_id
        told = await self.call(f"register {node.addr}", lambda boot: boot.directory.register(key, Node(addr=node.addr)))
        if told is None:
            node.last = "503"
            return None
        at, registration = told
        listed = [each.addr for each in registration.listed]
        how = "in its home's stead" if registration.in_stead else registration.alone or ""
        self.trace.say(f"register {node.addr} at {at}: {how} {listed}")
        if not node.is_removed:
            self.acknowledged.setdefault(key, set()).add(node.addr)
        node.told = registration.alone
        if listed == [node.addr]:
            self.count("alone")
        return listed

    def bootstrap(self, node: SimNode) -> None:
        """A node makes a cluster of its own (I1)."""
        others = [each for each in self.clusters if each.discovery_id == node.discovery_id and self._lives(each)]
        node.cluster = Cluster(node.discovery_id, {node.addr})
        self.trace.say(f"{node.addr} bootstraps")
        for each in others:
            if node.told == "again":
                # A lost answer and a lost disk look the same to the server.
                self.excuse("window: told again after its disk was lost")
            elif self.lossy_disks:
                text = f"I1 two clusters: {sorted(each.members)} and {node.addr}"
                self.excuse("rollback: " + text) if self._rolled_back else self.violate(text)
            else:
                self.violate(f"I1 two clusters: {sorted(each.members)} and {node.addr}")
        self.clusters.append(node.cluster)

    _rolled_back = False

    def _lives(self, cluster: Cluster) -> bool:
        return any(
            node.cluster is cluster and not node.is_removed
            for node in self.nodes.values()
            if node.discovery_id == cluster.discovery_id
        )

    # The run.

    def run(self) -> Result:
        """All of it. What the daemons log as a failure is one."""
        globalLogPublisher.addObserver(self._watch_log)
        try:
            return self._run()
        finally:
            globalLogPublisher.removeObserver(self._watch_log)

    def _watch_log(self, event: dict[str, Any]) -> None:
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            self.trace.say(str(event.get("log_format")).format(**{**event, "log_failure": ""}))
        if "log_failure" in event:
            self.violate(f"a daemon failed: {event['log_failure'].getTraceback()}")

    def _run(self) -> Result:
        self._begin()
        end = self.now + FAULTY_SECONDS
        self._plan_faults(end)
        while self.now < end:
            self.timeline.run_until(self.now + 2)
            self.look()
        self.heal()
        self.timeline.run_until(self.now + 30)
        self._retire_the_lost()
        self.timeline.run_until(self.now + QUIET_SECONDS)
        self.look()
        self.judge()
        for host in self.hosts:
            if host.boot is not None:
                host.boot.peered.peers.stopService()
                host.crash("kill")
        self.result.trace = self.trace.lines
        return self.result

    def _begin(self) -> None:
        for host in self.hosts:
            host.start()
        self.timeline.run_until(5)
        ids = 1 + self.random.randrange(2)
        for number in range(ids):
            Deferred.fromCoroutine(self._cluster(number)).addErrback(self.failed)

    async def _cluster(self, number: int) -> None:
        random = self.random
        await self.sleep(random.uniform(0, 10))
        told = None
        while told is None:
            told = await self.call("mint", lambda boot: boot.directory.create())
        discovery_id = told[1].id
        self.trace.say(f"minted {discovery_id} at {told[0]}")
        self.acknowledged.setdefault(discovery_id, set())
        spread = random.choice((0.01, 1.0, 20.0))
        for each in range(random.randrange(2, 5)):
            node = SimNode(self, discovery_id, f"n{number}{each}:1")
            self.nodes[discovery_id, node.addr] = node
            self.timeline.callLater(random.uniform(0, spread), node.start)
        self.homes[discovery_id] = told[1].home
        if "removals" in self.faults and random.random() < 0.6:
            self.timeline.callLater(
                random.uniform(15, 60),
                lambda: Deferred.fromCoroutine(self._rebuild(discovery_id)).addErrback(self.failed),
            )

    async def _rebuild(self, discovery_id: str) -> None:
        """The operator stops all nodes, removes each, waiting for the answers, and starts them anew without data."""
        nodes = [node for (key, _), node in self.nodes.items() if key == discovery_id]
        for node in nodes:
            node.stop()
        for node in nodes:
            node.is_removed = True
        self.trace.say(f"operator removes all nodes of {discovery_id}")
        for node in nodes:
            done = None
            self.acknowledged[discovery_id].discard(node.addr)
            while done is None:
                done = await self.call(
                    f"remove {node.addr}", lambda boot, addr=node.addr: boot.directory.remove(discovery_id, addr)
                )
                await self.sleep(1)
        # A hint for a node that was promised before may still come: the list is looked at, as the manual says.
        for node in nodes:
            node.cluster = None
            node.is_removed = False
            node.told_alone = node.wiped = None
        self.trace.say(f"operator starts {discovery_id} anew")
        for node in nodes:
            self.timeline.callLater(self.random.uniform(0, 1), node.start)

    # Faults.

    def _strike(self, home: str) -> None:
        """Something happens to a home that has just told a node that it is alone."""
        for host in self.hosts:
            if host.boot is not None and host.boot.home == home and self.random.random() < self.spite:
                possible = [
                    call
                    for name, call in (
                        ("crashes", self._crash),
                        ("disks", self._lose_disk),
                        ("rollbacks", self._roll_back),
                        ("partitions", self._cut_off),
                        ("copies", self._copy),
                    )
                    if name in self.faults
                ]
                if possible:
                    strike = self.random.choice(possible)
                    self.timeline.callLater(self.random.choice((0, 0.002, 0.02, 2)), strike, host)
                return

    def _plan_faults(self, end: float) -> None:
        random = self.random
        if "answers" in self.faults:
            self.lost_answers = random.choice((0.0, 0.05, 0.3))
            self.net.loss = random.choice((0.0, 0.02, 0.2))
            self.net.slow = random.choice((0.0, 0.02, 0.2))
        if "clocks" in self.faults:
            for host in self.hosts:
                host.skew = random.choice((0.0, random.uniform(-3600, 3600)))
        kinds: list[tuple[str, Callable[[], None]]] = [
            ("partitions", self._partition),
            ("partitions", self._one_way),
            ("crashes", self._crash),
            ("crashes", self._crash),
            ("crashes", self._crash_node),
            ("wipes", self._wipe_node),
            ("wipes", self._wipe_node),
            ("disks", self._lose_disk),
            ("rollbacks", self._roll_back),
            ("copies", self._copy),
            ("clocks", self._jump),
            ("full", self._fill),
            ("drains", self._drain),
        ]
        possible = [call for name, call in kinds if name in self.faults]
        for _ in range(random.randrange(1, 9) if possible else 0):
            self.timeline.callLater(random.uniform(0, end - self.now), random.choice(possible))
        if "rollbacks" in self.faults:
            for _ in range(2):
                self.timeline.callLater(random.uniform(0, end - self.now), self._back_up)

    def _partition(self) -> None:
        names = [host.name for host in self.hosts]
        some = set(self.random.sample(names, self.random.randrange(1, len(names))))
        pairs = {(one, other) for one in names for other in names if (one in some) != (other in some)}
        self._cut(pairs, f"{sorted(some)} cut off")

    def _cut_off(self, host: Host) -> None:
        names = [each.name for each in self.hosts if each is not host]
        self._cut({pair for each in names for pair in ((each, host.name), (host.name, each))}, f"{host.name} cut off")

    def _one_way(self) -> None:
        one, other = self.random.sample([host.name for host in self.hosts], 2)
        self._cut({(one, other)}, f"{one} to {other} cut")

    def _cut(self, pairs: set[tuple[str, str]], text: str) -> None:
        self.trace.say(text)
        self.net.cut |= pairs
        seconds = self.random.choice((2, 10, 40))
        self.timeline.callLater(seconds, self._join_again, pairs)

    def _join_again(self, pairs: set[tuple[str, str]]) -> None:
        self.net.cut -= pairs
        self.trace.say("links healed")

    def _crash(self, host: Host | None = None) -> None:
        host = host or self.random.choice(self.hosts)
        host.crash(self.random.choice(("kill", "power")))
        self.timeline.callLater(self.random.choice((0.5, 5, 30)), host.start)

    def _lose_disk(self, host: Host | None = None) -> None:
        host = host or self.random.choice(self.hosts)
        self.lossy_disks = True
        host.lose_disk()
        self.timeline.callLater(self.random.choice((0.5, 5, 30)), host.start)

    def _back_up(self) -> None:
        self.random.choice(self.hosts).back_up()

    def _roll_back(self, host: Host | None = None) -> None:
        host = host or self.random.choice(self.hosts)
        if host.backups:
            self.lossy_disks = self._rolled_back = True
            host.roll_back()
            self.timeline.callLater(self.random.choice((0.5, 5)), host.start)

    def _copy(self, host: Host | None = None) -> None:
        """Somebody starts an image of a machine beside it, under another name in the network."""
        host = host or self.random.choice(self.hosts)
        if any(each.name.endswith("'") for each in self.hosts):
            return
        twin = Host(self.net, self.trace, host.name + "'", host.seeds or ("http://b",), self.random, host._make)
        host.back_up()
        twin.disk = host.backups.pop()
        self.trace.say(f"{host.name} is copied")
        self.lossy_disks = self._rolled_back = self.copied = True
        self.hosts.append(twin)
        twin.start()

        def stop() -> None:
            twin.crash("kill")
            twin.is_gone = True
            self.hosts.remove(twin)
            # Whoever was fenced is started again by its operator.
            self.timeline.callLater(1, host.crash, "kill")
            self.timeline.callLater(2, host.start)

        self.timeline.callLater(self.random.uniform(3, 20), stop)

    def _jump(self) -> None:
        self.random.choice(self.hosts).skew += self.random.choice((-86400, -60, 60, 86400))

    def _fill(self) -> None:
        host = self.random.choice(self.hosts)
        host.disk.room = 0
        self.trace.say(f"{host.name} has a full disk")

        def empty() -> None:
            host.disk.room = None

        self.timeline.callLater(self.random.uniform(1, 20), empty)

    def _crash_node(self) -> None:
        if self.nodes:
            node = self.random.choice(list(self.nodes.values()))
            if node.is_up:
                node.stop()
                self.trace.say(f"{node.addr} dies")
                self.timeline.callLater(5, lambda: None if node.is_up or node.is_removed else node.start())

    def _wipe_node(self) -> None:
        if self.nodes:
            node = self.random.choice(list(self.nodes.values()))
            if node.is_up:
                node.stop()
                if node.cluster is not None and len(node.cluster.members) == 1:
                    node.wiped = self.now
                if node.cluster is not None:
                    node.wiped = self.now
                node.cluster = None
                self.trace.say(f"{node.addr} loses its data")
                self.timeline.callLater(5, lambda: None if node.is_up or node.is_removed else node.start())

    def _drain(self) -> None:
        host = self.random.choice(self.hosts)
        boot = host.boot
        if boot is not None and len(self.hosts) > 2:
            self.trace.say(f"{host.name} is drained")
            self._operator(boot, boot.peered.successions.drain())

    def _operator(self, boot: Boot, doing: Any) -> None:
        def done(outcome: Any) -> None:
            if boot.is_alive and hasattr(outcome, "value"):
                error = outcome.value
                self.trace.say(f"operator at {boot.host.name}: no, {error}")
                if not isinstance(error, (CannotSucceed, StoreUnavailable, CancelledError)):
                    self.violate(f"operator: {outcome.getTraceback()}")
            else:
                self.trace.say(f"operator at {boot.host.name}: {outcome}")

        Deferred.fromCoroutine(doing).addBoth(done)

    def heal(self) -> None:
        self.is_faulty = False
        self.trace.say("all faults end")
        self.net.cut.clear()
        self.net.loss = self.net.slow = self.lost_answers = 0.0
        for host in self.hosts:
            host.disk.room = None
            if host.boot is None:
                self.timeline.callLater(1, host.start)
            elif host.boot.peered.peers.standing.fenced is not None:
                host.crash("kill")
                self.timeline.callLater(1, host.start)

    def _retire_the_lost(self) -> None:
        """The operator forgets daemons whose disks were lost, by name, at some daemon, until all is done."""
        for host in self.hosts:
            if host.boot is not None and host.boot.peered.peers.members.own.state == "leaving":
                self._operator(host.boot, host.boot.peered.successions.drain())
        alive = {host.boot.home for host in self.hosts if host.boot is not None}
        for host in self.hosts:
            if host.boot is not None and host.takes_part:
                members = host.boot.peered.peers.members
                for member in members.others:
                    if member.incarnation not in alive:
                        self.trace.say(f"operator forgets {member.name} {member.incarnation} at {host.name}")
                        self._operator(host.boot, host.boot.peered.successions.forget(member.name))
                        self.timeline.callLater(15, self._retire_the_lost)
                        return

    # What must hold.

    def look(self) -> None:
        """I7: no version is issued twice with different content."""
        for host in self.hosts:
            if host.boot is None:
                continue
            for record in host.boot.records().values():
                key = record.home, record.id, record.version
                line = codec.encode_record(record)
                if self.seen.setdefault(key, line) != line:
                    text = f"I7 {record.id} version {record.version} says two things"
                    self.excuse(text) if self._rolled_back else self.violate(text)
                    self.seen[key] = line

    def judge(self) -> None:
        """What must hold once all faults are over for long."""
        views: list[tuple[str, dict[str, Record]]] = [
            (host.name, host.boot.records()) for host in self.hosts if host.boot is not None and host.takes_part
        ]
        if not views:
            return
        name, first = views[0]
        for other, view in views[1:]:
            for key in sorted(first.keys() | view.keys()):
                if first.get(key) != view.get(key):
                    text = f"I5 {name} and {other} differ over {key}: {first.get(key)} / {view.get(key)}"
                    # What a copy did is not known to its original, and is not looked for.
                    self.excuse(text) if self.copied else self.violate(text)
        for key, addresses in self.acknowledged.items():
            record = first.get(key)
            held = set() if record is None else {node.addr for node in record.nodes}
            lost = addresses - held
            if record is None or lost:
                text = f"I4 {key} lost {sorted(lost)}" if record is not None else f"I4 {key} is lost"
                self.excuse(text) if self.lossy_disks else self.violate(text)
        ids = {key for key, _ in self.nodes}
        for key in sorted(ids):
            self._judge_cluster(key, first.get(key))

    def _judge_cluster(self, key: str, record: Record | None) -> None:
        waiting = [
            node for (each, _), node in self.nodes.items() if each == key and node.is_up and node.cluster is None
        ]
        if not waiting:
            self.count("formed")
            return
        text = f"I3 {[(node.addr, node.last) for node in waiting]} wait for ever"
        seed = None if record is None or record.grant is None else record.grant.addr
        if record is None or record.lost or self.lossy_disks:
            self.excuse(text)
        elif record.nodes and record.grant is None:
            self.excuse(f"promised elsewhere: {text}")
        elif any(node.addr == seed and node.told_alone is None for node in waiting) and self.is_lossy:
            self.excuse(f"answer lost: {text}")
        elif any(node.wiped is not None for (each, _), node in self.nodes.items() if each == key):
            self.excuse(f"seed lost its data: {text}")
        else:
            self.violate(text)
