"""The nodes of rqlite that use the daemons of a run, and the clusters they make."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.simulated.clients import PendingRequest
from tests.simulated.hosts import Host

if TYPE_CHECKING:
    from tests.simulated.world import AnyWorld

_SETTLES_SECONDS = 10.0
# A bootstrapped node leads after a timeout without a leader; the loss of a leader has to be noticed
# first.
_FIRST_ELECTION_SECONDS = 1.0, 2.0
_ELECTION_SECONDS = 1.8, 2.8
_JOIN_ATTEMPTS = 5
_LEGACY_JOIN_SECONDS = 5.0
_JOIN_SECONDS = 3.0
_RESTART_SECONDS = 5.0


@dataclass(eq=False)
class Cluster:
    """A Raft cluster that a node bootstrapped. It `has_led` once it had a leader: before that
    nobody can join it.
    """

    discovery_id: str
    seed: str
    members: set[str] = field(default_factory=set)
    leader: SimNode | None = None
    has_led: bool = False
    is_electing: bool = False

    def settle(self, world: AnyWorld) -> None:
        """Let a leader that is gone or without a majority step down, and a majority without a
        leader elect one.
        """
        candidates = self._candidates(world)
        if self.leader in candidates:
            return
        self.leader = None
        if candidates and not self.is_electing:
            self.is_electing = True
            seconds = _ELECTION_SECONDS if self.has_led else _FIRST_ELECTION_SECONDS
            world.timeline.callLater(world.raft_draws(self).uniform(*seconds), self._elect, world)

    def _elect(self, world: AnyWorld) -> None:
        self.is_electing = False
        candidates = self._candidates(world)
        if self.leader is None and candidates:
            self.leader, self.has_led = world.raft_draws(self).choice(candidates), True
            world.trace.log(f"{self.leader.addr} leads {self.discovery_id}")
            self.leader.leads()

    def _candidates(self, world: AnyWorld) -> list[SimNode]:
        """Return the members that run with their data, if they are most of all."""
        members = [world.nodes[self.discovery_id, addr] for addr in sorted(self.members)]
        running = [node for node in members if node.is_up and node.cluster is self]
        return running if 2 * len(running) > len(members) else []


@dataclass(eq=False)
class SimNode:
    """rqlited 6: registers once at a start without data, bootstraps if it is alone, else joins,
    else exits.

    A node that bootstraps leads a second or two later. Until then joins are refused, and retried
    five seconds later.

    `near` is the daemon that it uses while that runs, None for any. `granted_at` and `wiped` are
    when that last happened, `was_member` whether it ever was in a cluster, `has_led` whether it led
    one, `won_in_vain` whether it discarded a claim that it won, because it had been sent to a
    leader before, `has_wrong_address` whether the last answer was that only an operator can help it
    (R5d); `is_removed` means that its operator stopped it and removed it from the list,
    `is_replaced` that it died for good and is still listed.
    """

    world: AnyWorld
    discovery_id: str
    addr: str
    near: Host | None = None
    cluster: Cluster | None = None
    is_up: bool = False
    is_removed: bool = False
    is_replaced: bool = False
    was_member: bool = False
    has_led: bool = False
    won_in_vain: bool = False
    has_wrong_address: bool = False
    last: str = "never asked"
    granted_at: float | None = None
    grant_reason: str | None = None
    wiped: float | None = None
    lifetime: int = 0
    pending: PendingRequest | None = None
    doubtful: list[tuple[PendingRequest, float]] = field(default_factory=list)

    @property
    def may_be_granted(self) -> bool:
        """Report whether it may have been granted without receiving the answer."""
        # The owner revokes a grant that it did not answer, if it lives long enough and its disk has room.
        return any(
            each.may_be_granted or each.is_unrevoked(self.discovery_id, self.addr, settled)
            for each, settled in self.doubtful
        )

    def start(self) -> None:
        if self.is_up or self.is_removed or self.is_replaced:
            return
        self.lifetime += 1
        self.is_up = True
        self._settle()
        self._do(self._run(self.lifetime))

    def stop(self) -> None:
        """End its process; nobody receives the answer to a request on its way."""
        self.lifetime += 1
        self.is_up = False
        self._settle()
        if self.pending is not None:
            self.pending.stop()

    def lose_data(self) -> None:
        if self.cluster is not None:
            self.wiped = self.world.now
        self.cluster = None

    def start_anew(self) -> None:
        """The operator starts it anew, with the list as it is then."""
        self.is_removed = self.was_member = self.won_in_vain = False
        self.cluster = self.granted_at = self.wiped = None
        self.doubtful.clear()

    def leads(self) -> None:
        """It was elected; the service is not notified."""
        self.has_led = True

    async def _run(self, lifetime: int) -> None:
        while self.lifetime == lifetime and self.cluster is None:
            await self._try(lifetime)
            if self.lifetime == lifetime and self.cluster is None:
                await self.world.sleep(_RESTART_SECONDS)

    async def _try(self, lifetime: int) -> None:
        listed = await self._ask_for_a_list()
        if self.lifetime != lifetime or listed is None:
            return
        if listed == [self.addr]:
            self._bootstrap()
            return
        self.last = f"listed {listed}"
        for _ in range(_JOIN_ATTEMPTS):
            if self._join_one_of(listed):
                return
            await self.world.sleep(_LEGACY_JOIN_SECONDS)
            if self.lifetime != lifetime:
                return

    async def _ask_for_a_list(self) -> list[str] | None:
        self.pending = pending = PendingRequest()
        listed: list[str] | None = await self.world.clients.register(self.discovery_id, self.addr, self.near, pending)
        self._end_request(pending)
        if listed is None:
            self.last = "503"
        return listed

    def _end_request(self, pending: PendingRequest) -> None:
        self.doubtful.append((pending, self.world.now + _SETTLES_SECONDS))
        if self.pending is pending:
            self.pending = None

    def _bootstrap(self) -> None:
        self.granted_at = self.world.now
        self.last = "alone"
        self.cluster = Cluster(self.discovery_id, self.addr, {self.addr})
        self.was_member = True
        self.world.trace.log(f"{self.addr} bootstraps")
        self.world.judge.bootstrapped(self, self.cluster)
        self._settle()

    def _join_one_of(self, listed: list[str]) -> bool:
        """Join through the first that has, or had, a leader: Raft without a majority is not
        modelled.
        """
        for addr in listed:
            other = self.world.nodes.get((self.discovery_id, addr))
            if addr != self.addr and other is not None and other.is_up and other.cluster and other.cluster.has_led:
                self.cluster = other.cluster
                self.was_member = True
                self.cluster.members.add(self.addr)
                self.world.trace.log(f"{self.addr} joins {addr}")
                return True
        return False

    def _settle(self) -> None:
        if self.cluster is not None:
            self.cluster.settle(self.world)

    def _do(self, doing: Coroutine[Any, Any, None]) -> None:
        self.world.spawn(doing)


class ConsulNode(SimNode):
    """rqlited 7 to 10 with consul-kv: reads the leader key, joins the leader it finds, else claims
    the key; never gives up.

    A leader reports itself at the moment it is elected, and every 10 s (rqlite v7.16) or 300 s
    (before). A node that once looked for a leader to join does so for ever: a claim that it wins
    then is won in vain, and its own entry leads it to itself (rqlite cmd/rqlited/main.go
    createCluster).
    """

    def leads(self) -> None:
        super().leads()
        self._do(self.world.clients.report(self.discovery_id, self.addr))

    async def _run(self, lifetime: int) -> None:
        self._do(self._report_regularly(lifetime))
        if self.cluster is None:
            await self._find_cluster(lifetime)

    async def _find_cluster(self, lifetime: int) -> None:
        leader = await self._register(lifetime)
        if self.lifetime == lifetime and leader is None:
            self._bootstrap()
            return
        has_led = leader is not None and self.world.nodes[self.discovery_id, leader].has_led
        while self.lifetime == lifetime and not await self._join(lifetime, leader or self.addr):
            await self.world.sleep(1)
            leader = await self._register(lifetime)
            self.won_in_vain |= has_led and self.lifetime == lifetime and leader is None

    async def _register(self, lifetime: int) -> str | None:
        """Return the leader to join; None if the leader key was won."""
        while self.lifetime == lifetime:
            leader: str | None = await self.world.clients.leader(self.discovery_id)
            if leader is not None:
                self.last = f"found {leader}"
                return leader
            if self.lifetime == lifetime and await self._claim(lifetime):
                return None
            await self.world.sleep(self.world.draws(self.addr).uniform(3, 6))
        return None

    async def _claim(self, lifetime: int) -> bool:
        self.pending = pending = PendingRequest()
        won = await self.world.clients.claim(self.discovery_id, self.addr, self.near, pending)
        self._end_request(pending)
        if self.lifetime == lifetime:
            self.grant_reason = "won" if won else self.grant_reason
            self.last = "503" if won is None else "won" if won else "not won"
        return bool(won)

    async def _join(self, lifetime: int, leader: str) -> bool:
        """Make five attempts, three seconds apart (rqlite cluster/join.go)."""
        for attempt in range(_JOIN_ATTEMPTS):
            if attempt:
                await self.world.sleep(_JOIN_SECONDS)
            if self.lifetime != lifetime or self._join_one_of([leader]):
                return True
        return False

    async def _report_regularly(self, lifetime: int) -> None:
        while self.lifetime == lifetime:
            await self.world.sleep(self.world.report_seconds)
            if self.lifetime == lifetime and self.cluster is not None and self.cluster.leader is self:
                await self.world.clients.report(self.discovery_id, self.addr)
