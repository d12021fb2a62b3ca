"""Nodes in virtual time: a scheduler whose clock moves only when nothing else is left to do, and
what nodes see of each other.

Nodes are coroutines. They await moments of virtual time, and answers of the real daemon, which take
none of it. A seed decides the order of everything that happens at once, so a test can be repeated,
except for what the daemon decides.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random
from typing import Any, Generic, Literal, TypeVar

Answer = TypeVar("Answer")
Endpoint = Literal["http", "raft"]

# Nodes let others join by HTTP up to v7.21, by Raft from then on (rqlite http/service.go,
# cluster/service.go).
OLD_ENDPOINTS: frozenset[Endpoint] = frozenset({"http"})
BOTH_ENDPOINTS: frozenset[Endpoint] = frozenset({"http", "raft"})
NEW_ENDPOINTS: frozenset[Endpoint] = frozenset({"raft"})
PATIENCE = 20.0
# A bootstrapped node leads after a timeout without a leader. The loss of a leader has to be noticed
# first: a real cluster has its next leader 1.8 to 2.8 s later.
FIRST_ELECTION_SECONDS = 1.0, 2.0
ELECTION_SECONDS = 1.8, 2.8


@dataclass(frozen=True)
class InFlight(Generic[Answer]):
    """A real answer on its way; `receive` waits for it."""

    receive: Callable[[], Answer]

    def __await__(self) -> Generator[InFlight[Answer], Answer, Answer]:
        return (yield self)


@dataclass(frozen=True)
class _Moment:
    at: float

    def __await__(self) -> Generator[_Moment, None, None]:
        yield self


Coroutines = Callable[[], Coroutine[Any, Any, None]]
_Awaited = InFlight[Any] | _Moment


class Task:
    """A coroutine that a world runs when it is its turn."""

    def __init__(self, begin: Coroutines) -> None:
        self._begin = begin
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self.is_over = False

    def cancel(self) -> None:
        """Never run it again."""
        self.is_over = True
        if self._coroutine is not None:
            self._coroutine.close()

    def resume(self, receive: Callable[[], Any]) -> _Awaited | None:
        """Resume with what `receive` returns or raises, up to the next thing to await; return None
        if there is none.
        """
        self._coroutine = self._coroutine or self._begin()
        try:
            try:
                value = receive()
            except Exception as error:
                awaited: _Awaited = self._coroutine.throw(error)
            else:
                awaited = self._coroutine.send(value)
        except StopIteration:
            self.is_over = True
            return None
        return awaited


class World:
    """Runs coroutines: one step of one of them at a time, in an order that the seed decides."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self._due: list[tuple[Task, Callable[[], Any]]] = []
        self._asleep: list[tuple[float, float, Task]] = []

    def start(self, begin: Coroutines) -> Task:
        """Run a coroutine from now on."""
        task = Task(begin)
        self._due.append((task, _nothing))
        return task

    def sleep(self, seconds: float) -> _Moment:
        """Return an awaitable that resumes this many seconds later."""
        return _Moment(self.now + seconds)

    def jitter(self, seconds: float) -> float:
        """Return between once and twice as long (rqlite v10 internal/random Jitter)."""
        return seconds * self.random.uniform(1, 2)

    def step(self) -> bool:
        """Do the next thing; return False if there is nothing to do, now or later."""
        if not self._due and not self._wake():
            return False
        task, receive = self._due.pop(self.random.randrange(len(self._due)))
        awaited = None if task.is_over else task.resume(receive)
        if isinstance(awaited, InFlight):
            self._due.append((task, awaited.receive))
        elif awaited is not None:
            heappush(self._asleep, (awaited.at, self.random.random(), task))
        return True

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Run for this many seconds, or until something holds; return whether it does."""
        end = self.now + seconds
        while not until():
            if not self._due and (not self._asleep or self._asleep[0][0] > end):
                self.now = end
                return until()
            self.step()
        return True

    def result(self, begin: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        """Run a coroutine to its end; return or raise its result."""
        results: list[Answer] = []

        async def run() -> None:
            results.append(await begin())

        task = self.start(run)
        while not task.is_over:
            self.step()
        return results[0]

    def _wake(self) -> bool:
        """Advance to the next moment that is awaited."""
        if not self._asleep:
            return False
        self.now = self._asleep[0][0]
        while self._asleep and self._asleep[0][0] == self.now:
            self._due.append((heappop(self._asleep)[2], _nothing))
        return True


def _nothing() -> None:
    pass


@dataclass(eq=False)
class Peer:
    """A node as the others see it: its endpoints, whether it runs, and the cluster in its data
    directory.

    `expect` is its `-bootstrap-expect`.
    """

    node_id: str
    http_addr: str
    raft_addr: str
    endpoints: frozenset[Endpoint]
    votes: bool = True
    expect: int = 0
    is_up: bool = False
    cluster: Cluster | None = None
    notified_by: dict[str, Peer] = field(default_factory=dict)
    on_leading: Callable[[], None] = _nothing


@dataclass(eq=False)
class Cluster:
    """A Raft cluster: the nodes in its configuration, its leader, and whether it ever had one."""

    members: list[Peer]
    leader: Peer | None = None
    has_led: bool = False

    @property
    def candidates(self) -> list[Peer]:
        """Return the nodes that could lead now: the voters that run, if they are more than half."""
        voters = [member for member in self.members if member.votes]
        running = [voter for voter in voters if voter.is_up and voter.cluster is self]
        return running if 2 * len(running) > len(voters) else []


class VirtualNetwork:
    """Stands for the HTTP APIs and for Raft of all nodes of a test."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.peers: list[Peer] = []
        self.bootstrapped: list[Cluster] = []

    @property
    def clusters(self) -> dict[str, list[str]]:
        """The nodes of each cluster that has a leader, by its leader."""
        return {
            cluster.leader.node_id: sorted(member.node_id for member in cluster.members)
            for cluster in self.bootstrapped
            if cluster.leader is not None
        }

    def is_formed(self) -> bool:
        """Report whether all nodes that run have a leader."""
        running = [peer for peer in self.peers if peer.is_up]
        return bool(running) and all(leader_of(peer) is not None for peer in running)

    def add(self, peer: Peer) -> None:
        """Add a node, which does not run yet."""
        self.peers.append(peer)

    def switch(self, peer: Peer, *, on: bool) -> None:
        """Start or stop a node; what it had only in memory is gone."""
        peer.is_up = on
        peer.notified_by.clear()
        if peer.cluster is not None:
            self._settle(peer.cluster)

    def bootstrap(self, members: Iterable[Peer]) -> None:
        """Make a cluster of `members`; Raft makes one of two that bootstrap the same
        configuration.
        """
        members = list(members)
        if any(set(cluster.members) == set(members) for cluster in self.bootstrapped):
            return
        cluster = Cluster(members)
        self.bootstrapped.append(cluster)
        for member in members:
            member.cluster = member.cluster or cluster
        self._settle(cluster)

    def join(self, peer: Peer, addr: str, endpoint: Endpoint) -> bool:
        """Join through the node at `addr`, which redirects the joiner to its leader's endpoint of
        the same kind.
        """
        target = self._reach(addr, endpoint)
        leader = None if target is None else leader_of(target)
        if leader is None or leader.cluster is None or endpoint not in leader.endpoints:
            return False
        if peer not in leader.cluster.members:
            leader.cluster.members.append(peer)
        peer.cluster = leader.cluster
        return True

    def notify(self, peer: Peer, addr: str, endpoint: Endpoint) -> bool:
        """Notify the node at `addr` of `peer`; it bootstraps once it expects no more (store.go
        Notify).
        """
        target = self._reach(addr, endpoint)
        if target is None:
            return False
        if target.expect and target.cluster is None and leader_of(target) is None:
            target.notified_by.setdefault(peer.node_id, peer)
            if len(target.notified_by) == target.expect:
                self.bootstrap(target.notified_by.values())
        return True

    def _reach(self, addr: str, endpoint: Endpoint) -> Peer | None:
        """Return the running node with such an endpoint at `addr`, with a scheme or without."""
        addr = addr.removeprefix("http://")
        for peer in self.peers:
            if addr == (peer.http_addr if endpoint == "http" else peer.raft_addr):
                return peer if peer.is_up and endpoint in peer.endpoints else None
        return None

    def _settle(self, cluster: Cluster) -> None:
        """Let a leader without a majority step down, and a majority without a leader elect one."""
        if cluster.leader in cluster.candidates:
            return
        cluster.leader = None
        if cluster.candidates:
            self._world.start(lambda: self._elect(cluster))

    async def _elect(self, cluster: Cluster) -> None:
        seconds = ELECTION_SECONDS if cluster.has_led else FIRST_ELECTION_SECONDS
        await self._world.sleep(self._world.random.uniform(*seconds))
        if cluster.leader is None and cluster.candidates:
            cluster.leader, cluster.has_led = self._world.random.choice(cluster.candidates), True
            cluster.leader.on_leading()


def leader_of(peer: Peer) -> Peer | None:
    """Return the leader of a node's cluster, as far as that node can see."""
    return peer.cluster.leader if peer.is_up and peer.cluster is not None else None


@dataclass
class Service:
    """The address of the daemon; None while it has none. Tests change it when they stop and start the
    daemon.

    A datagram without an answer within `patience` seconds of real time counts as lost; the daemon
    loses none.
    """

    http: int | None = None
    dns: int | None = None
    patience: float | None = None


class Process:
    """The process of a node: everything it runs ends when it is killed, and its peer is down
    then.
    """

    def __init__(self, peer: Peer, world: World, network: VirtualNetwork) -> None:
        self.peer = peer
        self.log: list[str] = []
        self._world = world
        self._network = network
        self._tasks: list[Task] = []
        network.add(peer)

    def start(self) -> None:
        """Start it, on the data directory of its peer."""
        self._network.switch(self.peer, on=True)
        self._run(self.main)

    def start_in(self, seconds: float) -> None:
        """Start it later."""

        async def start() -> None:
            await self._world.sleep(seconds)
            self.start()

        self._run(start)

    def kill(self) -> None:
        """Send SIGKILL; its data directory stays."""
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        self._network.switch(self.peer, on=False)

    async def main(self) -> None:
        """Run as the process."""
        raise NotImplementedError

    def _run(self, begin: Coroutines) -> None:
        self._tasks.append(self._world.start(begin))
