"""Models of rqlited, each process with its supervisor: their requests, and their reactions to the
answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from tests.chaos.event_log import EventLog
from tests.chaos.requests import Requester
from tests.support.consul_nodes import RELEASES, Failed, leader_in, leader_value
from tests.support.process import Reply
from tests.support.rqlited import VERSIONS, nodes_in
from tests.support.virtual import NEW_ENDPOINTS, Peer

_JOIN_ATTEMPTS = 5


@dataclass(frozen=True)
class Pace:
    """Durations: rqlite's own (3 s between joins, and so on), divided by a factor."""

    fast: float

    @property
    def restart(self) -> float:
        return 5.0 / self.fast

    @property
    def join(self) -> float:
        return 3.0 / self.fast

    @property
    def poll(self) -> tuple[float, float]:
        return 3.0 / self.fast, 6.0 / self.fast

    @property
    def report(self) -> float:
        return 10.0 / self.fast


@dataclass(eq=False)
class Cluster:
    """A cluster and its seed; `members` are the nodes that have its data, by address, in order of
    joining.
    """

    seed: str
    members: dict[str, Node] = field(default_factory=dict)


@dataclass(eq=False)
class Setting:
    """Shared by the nodes of one ID. `bootstrapped` is called for each new cluster, before it is
    one.
    """

    discovery_id: str
    requester: Requester
    events: EventLog
    random: Random
    pace: Pace
    bootstrapped: Callable[[Node], None]
    nodes: dict[str, Node] = field(default_factory=dict)


class Node:
    """rqlited 6.10: registers once at a start without data, bootstraps if it is alone, else tries
    to join, else exits.

    `cluster` is the cluster of its data, `last` the last answer it received. `has_seeded` means
    that it bootstrapped since its operator last wiped it on purpose, `has_lost` that it lost its
    data since; `is_gone` that it is not meant to run any more.
    """

    version = VERSIONS[-1]

    def __init__(self, setting: Setting, addr: str, near: str | None) -> None:
        self.setting = setting
        self.addr = addr
        self.near = near
        self.cluster: Cluster | None = None
        self.last = "never asked"
        self.has_seeded = self.has_lost = self.is_gone = False
        self._process: asyncio.Task[None] | None = None
        setting.nodes[addr] = self

    @property
    def is_up(self) -> bool:
        return self._process is not None and not self._process.done()

    def start(self) -> None:
        """Have the supervisor start it, and restart it whenever it ends."""
        self.is_gone = False
        self._process = asyncio.create_task(self._supervised())

    async def kill(self) -> None:
        """Kill it; nobody receives the answer to a request on its way."""
        if self._process is not None:
            self._process.cancel()
            await asyncio.gather(self._process, return_exceptions=True)

    def wipe(self) -> None:
        """Lose its data."""
        if self.cluster is not None:
            self.setting.events.log(f"{self.addr} loses its data")
            self.cluster.members.pop(self.addr, None)
            self.cluster = None
            self.has_lost = True

    def renew(self) -> None:
        """Remove its data on purpose: the operator means it to begin from nothing."""
        self.wipe()
        self.has_seeded = self.has_lost = False

    async def _supervised(self) -> None:
        while self.cluster is None:
            await self._run()
            if self.cluster is None:
                await asyncio.sleep(self.setting.pace.restart * self.setting.random.uniform(0.8, 1.2))
        await asyncio.Event().wait()

    async def _run(self) -> None:
        request = self.version.request(self.addr, self.setting.discovery_id, "localhost")
        reply = await self.setting.requester.ask(self.addr, "POST", request, self.near)
        self._receive(reply)
        if reply is None or reply.status != 200:
            return
        others = self.version.others(self.addr, nodes_in(reply.body))
        if others:
            await self._join(others)
        else:
            self._bootstrap()

    def _receive(self, reply: Reply | None) -> None:
        if reply is not None:
            self.last = f"{reply.status} {reply.reason}"

    def _bootstrap(self) -> None:
        self.has_seeded = True
        self.setting.events.log(f"{self.addr} BOOTSTRAPS")
        self.setting.bootstrapped(self)
        self._enter(Cluster(self.addr))

    def _enter(self, cluster: Cluster) -> None:
        self.cluster = cluster
        cluster.members[self.addr] = self

    async def _join(self, addrs: list[str]) -> bool:
        for _ in range(_JOIN_ATTEMPTS):
            for addr in addrs:
                other = self.setting.nodes.get(addr)
                if other is not None and other is not self and other.is_up and other.cluster is not None:
                    self.setting.events.log(f"{self.addr} joins {addr}")
                    self._enter(other.cluster)
                    return True
            await asyncio.sleep(self.setting.pace.join)
        return False


class KeyNode(Node):
    """rqlited 10 with consul-kv: reads the leader key, joins the leader it finds, else claims the
    key; never gives up.

    The leader reports itself regularly.
    """

    release = RELEASES[-1]

    async def _supervised(self) -> None:
        while self.cluster is None:
            await self._run()
            if self.cluster is None:
                await asyncio.sleep(self.setting.random.uniform(*self.setting.pace.poll))
        while True:
            if self._leads():
                await self._put("report", "")
            await asyncio.sleep(self.setting.pace.report)

    async def _run(self) -> None:
        read = self.release.read(self.setting.discovery_id)
        reply = await self.setting.requester.ask(self.addr, "GET leader", read, self.near)
        self._receive(reply)
        if reply is not None and reply.status == 200:
            try:
                leader = leader_in(reply.body)
            except Failed:
                leader = None
            if leader is not None:
                await self._join([leader["http"].removeprefix("http://")])
                return
        reply = await self._put("claim", "cas=0")
        self._receive(reply)
        if reply is not None and reply.status == 200 and b"true" in reply.body:
            self._bootstrap()

    async def _put(self, what: str, query: str) -> Reply | None:
        peer = Peer(self.addr.partition(":")[0], self.addr, self.addr.replace(":4001", ":4002"), NEW_ENDPOINTS)
        request = self.release.put(self.setting.discovery_id, leader_value(peer), query)
        return await self.setting.requester.ask(self.addr, what, request, self.near)

    def _leads(self) -> bool:
        """Report whether it leads: the node that made the cluster while it runs, then the first of
        a majority.
        """
        assert self.cluster is not None
        members = list(self.cluster.members.values())
        running = [node for node in members if node.is_up]
        if 2 * len(running) <= len(members):
            return False
        return next((node for node in running if node.addr == self.cluster.seed), running[0]) is self
