"""The lifecycle of one ID: its nodes, the incidents they suffer, the work of operators, and the
outcome.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Literal

from tests.chaos.daemons import NAMES, ThreeDaemons
from tests.chaos.event_log import EventLog
from tests.chaos.nodes import KeyNode, Node, Pace, Setting
from tests.chaos.requests import Losses, Requester

Kind = Literal["legacy", "created key", "named key"]
KINDS: tuple[Kind, ...] = ("legacy", "legacy", "legacy", "created key", "named key")
_AGAIN_SECONDS = 0.5


class Lifecycle:
    """One ID, the `number`th of its run. `random` decides everything except how long things take.

    Incidents happen within the `seconds` or so for which there are faults.
    """

    def __init__(self, number: int, three: ThreeDaemons, random: Random, pace: Pace, seconds: float) -> None:
        self.number = number
        self.kind: Kind = random.choice(KINDS)
        self.events = EventLog()
        self.id = ""
        self.second_clusters: list[str] = []
        # For each of those, whether its seed had lost its data, and may be mistaken for one whose
        # answer was lost.
        self.seeds_lost: list[bool] = []
        self.operations: list[str] = []
        self._three = three
        self._random = random
        self._pace = pace
        self._scale = seconds / 30
        losses = random.choice((Losses(), Losses(), Losses(), Losses(0.05, 0.03), Losses(0.2, 0.05)))
        self.requester = Requester(three, self.events, random, losses)
        self._setting: Setting
        self._operating: list[asyncio.Task[None]] = []
        self.is_over = self.seed_was_removed = False
        # When its operator last rebuilt all of it.
        self.began = 0.0

    @property
    def nodes(self) -> list[Node]:
        """The nodes that are meant to run."""
        return [node for node in self._setting.nodes.values() if not node.is_gone] if self.id else []

    @property
    def all_nodes(self) -> list[Node]:
        """The nodes that ever ran."""
        return list(self._setting.nodes.values()) if self.id else []

    @property
    def is_formed(self) -> bool:
        """Report whether all nodes that are meant to run are in one cluster."""
        clusters = {node.cluster for node in self.nodes}
        return len(clusters) == 1 and None not in clusters

    async def run(self) -> None:
        """Begin, and return when no more incidents will happen."""
        self.id = await self._created()
        self._setting = Setting(self.id, self.requester, self.events, self._random, self._pace, self._bootstrapped)
        for number in range(1, self._random.choice((2, 3, 3, 3, 4)) + 1):
            await self._rest(self._random.choice((0.0, 0.0, 0.3, 1.5)))
            self._node(number).start()
        befalls = self._chosen()
        for befall in befalls:
            await befall()

    async def end(self) -> None:
        """Stop all its nodes."""
        if self.id:
            await asyncio.gather(*(node.kill() for node in self._setting.nodes.values()))

    def _node(self, number: int) -> Node:
        kind = Node if self.kind == "legacy" else KeyNode
        near = self._random.choice((None, None, *NAMES))
        return kind(self._setting, f"n{number}.{self.number}:4001", near)

    async def _created(self) -> str:
        if self.kind == "named key":
            return f"key-{self.number}-{self._random.randrange(1 << 30)}"
        while True:
            reply = await self.requester.plain("operator", "POST", "/")
            if reply is not None and reply.status == 200:
                discovery_id: str = reply.document["disco_id"]
                self.events.log(f"{self.kind}: {discovery_id}")
                return discovery_id
            await asyncio.sleep(_AGAIN_SECONDS)

    def _bootstrapped(self, node: Node) -> None:
        others = {each.cluster for each in self._setting.nodes.values() if each.cluster is not None}
        for cluster in others:
            text = f"{node.addr} bootstraps beside {sorted(cluster.members)}"
            self.events.log(f"TWO CLUSTERS {text}")
            self.second_clusters.append(text)
            self.seeds_lost.append(node.has_lost and cluster.seed == node.addr)

    # Incidents.

    def _chosen(self) -> list[Callable[[], Awaitable[None]]]:
        chances: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (0.35, self._one_is_killed),
            (0.05, self._one_loses_its_data),
            (0.05, self._one_is_replaced),
            (0.2, self._one_is_added),
            # A member of consul-kv is listed once it has led: removing the only listed one makes a
            # second cluster.
            (0.12 if self.kind == "legacy" else 0.0, self._one_is_removed),
            (0.12, self._is_reset),
        ]
        chosen = [befall for chance, befall in chances if self._random.random() < chance]
        self._random.shuffle(chosen)
        return chosen

    async def _rest(self, most: float) -> None:
        await asyncio.sleep(self._random.uniform(0, most * self._scale))

    def _any(self) -> Node:
        return self._random.choice(self.nodes)

    async def _one_is_killed(self) -> None:
        await self._rest(1.5)
        await self._restarted(self._any())

    async def _one_loses_its_data(self) -> None:
        await self._rest(8)
        node = self._any()
        self.operations.append("wiped")
        await self._restarted(node, wiped=True)

    async def _restarted(self, node: Node, *, wiped: bool = False) -> None:
        self.events.log(f"{node.addr} is killed{' and wiped' if wiped else ''}")
        await node.kill()
        if wiped:
            node.wipe()
        await self._rest(2 * self._pace.restart)
        node.start()

    async def _one_is_replaced(self) -> None:
        """A node dies for good, and stays on the list."""
        await self._rest(8)
        node = self._any()
        self.operations.append("replaced")
        self.events.log(f"{node.addr} dies for good")
        await node.kill()
        node.is_gone = True
        node.wipe()
        await self._one_is_added()

    async def _one_is_added(self) -> None:
        await self._rest(6)
        self._node(len(self._setting.nodes) + 1).start()

    async def _one_is_removed(self) -> None:
        """The operator stops a node, removes it from the list, wipes it, and may start it again."""
        await self._rest(8)
        node = self._any()
        if len(self.nodes) < 2:
            return
        self.operations.append("removed")
        self.events.log(f"operator stops {node.addr} and removes it")
        # The holder of the grant takes it along, and with it the chance to be granted again.
        self.seed_was_removed = self.seed_was_removed or not any(
            each.cluster is not None for each in self.nodes if each is not node
        )
        await node.kill()
        node.is_gone = True
        near = self._random.choice((None, *NAMES))
        while not await self._removed(node.addr, near):
            await asyncio.sleep(_AGAIN_SECONDS)
        node.renew()
        if self._random.random() < 0.7:
            await self._rest(3)
            self.events.log(f"operator starts {node.addr} anew")
            node.start()

    async def _is_reset(self) -> None:
        """The operator stops all nodes, runs `rqdisco reset` until that succeeds, and starts all
        again.
        """
        await self._rest(8)
        self.operations.append("reset")
        self.seed_was_removed = False
        self.events.log("operator stops all nodes, and resets")
        nodes = self.nodes
        await asyncio.gather(*(node.kill() for node in nodes))
        for node in nodes:
            node.renew()
        looks = self._random.random() < 0.5
        while not await self._reset() or (looks and not await self._is_empty()):
            await asyncio.sleep(_AGAIN_SECONDS)
        self.events.log("operator starts all nodes anew")
        self.began = time.time()
        for node in nodes:
            await self._rest(self._random.choice((0.0, 0.0, 1.0)))
            node.start()

    async def _reset(self) -> bool:
        """Reset as the command does (rqdisco/cli/nodes.py)."""
        near = self._random.choice(NAMES)
        shown = await self.requester.plain("operator", "GET", f"/{self.id}", near=near)
        if shown is None or shown.status != 200:
            # A key without a claim is unknown, and so is an ID that was lost with the only disk
            # that had it.
            return shown is not None and shown.status == 404
        cleared = await self.requester.plain("operator", "DELETE", f"/v1/kv/{self.id}/leader", near=near)
        if cleared is None or cleared.status != 200:
            return False
        left: Any = shown.document
        for addr in left["nodes"]:
            reply = await self.requester.plain("operator", "DELETE", f"/{self.id}", {"addr": addr}, near)
            if reply is None or reply.status != 200:
                return False
            left = reply.document
        return not left["nodes"]

    async def _is_empty(self) -> bool:
        reply = await self.requester.plain("operator", "GET", f"/{self.id}?consistent=1")
        if reply is not None and reply.status == 404:
            # As above.
            return True
        return reply is not None and reply.status == 200 and not reply.document["nodes"]

    async def _removed(self, addr: str, near: str | None) -> bool:
        reply = await self.requester.plain("operator", "DELETE", f"/{self.id}", {"addr": addr}, near)
        return reply is not None and reply.status in (200, 404)

    async def records(self) -> dict[str, Any]:
        """Return the explanation of the ID at each daemon."""
        return {name: await self._three.explained(name, self.id) for name in NAMES}

    def describe(self) -> str:
        """Describe the nodes at the end."""
        return json.dumps(
            {
                node.addr: ("gone" if node.is_gone else "waits" if node.cluster is None else f"of {node.cluster.seed}")
                + f", {node.last}"
                for node in self.all_nodes
            }
        )
