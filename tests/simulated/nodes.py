"""The nodes of rqlite that ask the daemons of a run, and the clusters they make."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from tests.simulated.clients import Asking
from tests.simulated.hosts import Host

if TYPE_CHECKING:
    from tests.simulated.world import World

_SETTLES_SECONDS = 10.0


@dataclass(eq=False)
class Cluster:
    """A Raft cluster that a node bootstrapped."""

    discovery_id: str
    seed: str
    members: set[str] = field(default_factory=set)


@dataclass(eq=False)
class SimNode:
    """rqlited 6.10: asks once at a start without data, bootstraps if it is alone, else joins, else exits.

    `near` is the daemon that it asks as long as that runs, None for any. `told_alone` and `wiped` are when that last
    happened, `was_member` whether it ever was in a cluster; `is_removed` says that its operator stopped it and took it
    off the list, `is_replaced` that it died for good and is listed still.
    """

    world: World
    discovery_id: str
    addr: str
    near: Host | None = None
    cluster: Cluster | None = None
    is_up: bool = False
    is_removed: bool = False
    is_replaced: bool = False
    was_member: bool = False
    last: str = "never asked"
    told_alone: float | None = None
    told_how: str | None = None
    wiped: float | None = None
    life: int = 0
    asking: Asking | None = None
    doubtful: list[tuple[Asking, float]] = field(default_factory=list)

    @property
    def may_be_told(self) -> bool:
        """Whether it may have been told that it is alone without hearing it."""
        # What its home did not say it takes back, if it lives long enough.
        return any(
            each.may_be_told or (each.boot is not None and each.boot.died is not None and each.boot.died < at)
            for each, at in self.doubtful
        )

    def start(self) -> None:
        if self.is_up or self.is_removed or self.is_replaced:
            return
        self.life += 1
        self.is_up = True
        Deferred.fromCoroutine(self._run(self.life)).addErrback(self.world.failed)

    def stop(self) -> None:
        """Its process ends; a request that is on its way has nobody who would hear the answer."""
        self.life += 1
        self.is_up = False
        if self.asking is not None:
            self.asking.stop()

    def lose_data(self) -> None:
        if self.cluster is not None:
            self.wiped = self.world.now
        self.cluster = None

    def start_anew(self) -> None:
        """Its operator gives it a new life, with the list as it is then."""
        self.is_removed = self.was_member = False
        self.cluster = self.told_alone = self.wiped = None
        self.doubtful.clear()

    async def _run(self, life: int) -> None:
        while self.life == life and self.cluster is None:
            await self._try(life)
            if self.life == life and self.cluster is None:
                await self.world.sleep(5)

    async def _try(self, life: int) -> None:
        listed = await self._ask_for_a_list()
        if self.life != life or listed is None:
            return
        if listed == [self.addr]:
            self._bootstrap()
            return
        self.last = f"listed {listed}"
        await self._join(life, listed)

    async def _ask_for_a_list(self) -> list[str] | None:
        self.asking = asking = Asking()
        listed = await self.world.clients.register(self.discovery_id, self.addr, self.near, asking)
        self._asked(asking)
        if listed is None:
            self.last = "503"
        return listed

    def _asked(self, asking: Asking) -> None:
        self.doubtful.append((asking, self.world.now + _SETTLES_SECONDS))
        if self.asking is asking:
            self.asking = None

    def _bootstrap(self) -> None:
        self.told_alone = self.world.now
        self.last = "alone"
        self.cluster = Cluster(self.discovery_id, self.addr, {self.addr})
        self.was_member = True
        self.world.trace.say(f"{self.addr} bootstraps")
        self.world.judge.bootstrapped(self, self.cluster)

    async def _join(self, life: int, listed: list[str]) -> None:
        """Five attempts, three seconds apart (rqlite cluster/join.go), before it exits."""
        for _ in range(5):
            for addr in listed:
                other = self.world.nodes.get((self.discovery_id, addr))
                if addr != self.addr and other is not None and other.is_up and other.cluster is not None:
                    self.cluster = other.cluster
                    self.was_member = True
                    self.cluster.members.add(self.addr)
                    self.world.trace.say(f"{self.addr} joins {addr}")
                    return
            await self.world.sleep(3)
            if self.life != life:
                return


class ConsulNode(SimNode):
    """rqlited 7 to 10 with consul-kv: reads the leader key, joins whom it finds, else claims it; never gives up.

    What a leader reports is put every 10 s (rqlite v7.16), or every 300 s (before).
    """

    async def _run(self, life: int) -> None:
        while self.life == life and self.cluster is None:
            await self._try(life)
            if self.life == life and self.cluster is None:
                await self.world.sleep(self.world.random.uniform(3, 6))
        while self.life == life:
            if self._leads():
                await self.world.clients.report(self.discovery_id, self.addr)
            await self.world.sleep(self.world.report_seconds)

    async def _try(self, life: int) -> None:
        leader = await self.world.clients.leader(self.discovery_id)
        if self.life != life:
            return
        if leader is not None:
            self.last = f"found {leader}"
            await self._join(life, [leader])
            return
        self.asking = asking = Asking()
        won = await self.world.clients.claim(self.discovery_id, self.addr, self.near, asking)
        self._asked(asking)
        if self.life != life:
            return
        if won:
            self.told_how = "won"
            self._bootstrap()
        else:
            self.last = "503" if won is None else "not won"

    def _leads(self) -> bool:
        """Whoever made the cluster leads it as long as it runs, then the first of a majority."""
        assert self.cluster is not None
        nodes = [self.world.nodes[self.discovery_id, addr] for addr in sorted(self.cluster.members)]
        running = [node for node in nodes if node.is_up and node.cluster is self.cluster]
        if 2 * len(running) <= len(nodes):
            return False
        seed = next((node for node in running if node.addr == self.cluster.seed), running[0])
        return seed is self
