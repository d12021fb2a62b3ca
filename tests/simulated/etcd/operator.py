"""People who repair clusters, and etcd: they restore backups, and import IDs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from rqdisco.core.exports import ImportedNode, TransferredRecord
from tests.simulated.etcd.hosts import EtcdBoot
from tests.simulated.nodes import Cluster, ConsulNode, SimNode
from tests.simulated.operator import Operator
from tests.support.any_daemon import WALL_US

if TYPE_CHECKING:
    from tests.simulated.etcd.world import EtcdWorld


class EtcdOperator(Operator):
    _world: EtcdWorld

    def __init__(self, world: EtcdWorld) -> None:
        super().__init__(world)
        # The IDs whose nodes somebody is about to replace.
        self._busy: set[str] = set()

    def begin(self) -> None:
        super().begin()
        if self._world.may("imports") and self._world.random.random() < 0.3:
            self._do(self._import())

    def clean_up_before(self, node: SimNode) -> None:
        """A script removes the address of a node as it starts, and is late: the node registers
        already.
        """
        self._do(self._remove(node.discovery_id, node.addr))

    async def _remove(self, discovery_id: str, addr: str) -> None:
        judge = self._world.judge
        judge.to_remove.append((discovery_id, addr))
        await super()._remove(discovery_id, addr)
        judge.to_remove.remove((discovery_id, addr))

    def clear_leader(self) -> None:
        """Remove the leader key of an ID, after all of its nodes were stopped and wiped."""
        world = self._world
        keys = sorted({key for (key, _), node in world.nodes.items() if isinstance(node, ConsulNode)})
        if keys:
            key = world.random.choice(keys)
            self._do(self._alone(key, self._start_over))

    async def _start_over(self, key: str) -> None:
        world = self._world
        nodes = [node for (each, _), node in world.nodes.items() if each == key]
        await self._take_away(nodes)
        while not await world.clients.clear_leader(key):
            await world.sleep(1)
        for node in nodes:
            await self._remove(key, node.addr)
        for node in nodes:
            node.start_anew()
            world.timeline.callLater(world.random.uniform(0, 1), node.start)

    def restart_in_a_hurry(self) -> None:
        """Remove all nodes of an ID, and start them anew without waiting for the answers."""
        world = self._world
        keys = sorted({key for (key, _), node in world.nodes.items() if type(node) is SimNode})
        if keys:
            # A leader key would have to be gone before its node starts without data.
            key = world.random.choice(keys)
            self._do(self._alone(key, self._hurry))

    async def _rebuild(self, discovery_id: str) -> None:
        await self._alone(discovery_id, super()._rebuild)

    async def _replace(self, discovery_id: str) -> None:
        await self._alone(discovery_id, super()._replace)

    async def _alone(self, key: str, act: Callable[[str], Coroutine[Any, Any, None]]) -> None:
        """Do one such thing at a time to an ID."""
        while key in self._busy:
            await self._world.sleep(1)
        self._busy.add(key)
        await act(key)
        self._busy.discard(key)

    async def _hurry(self, key: str) -> None:
        world = self._world
        nodes = [node for (each, _), node in world.nodes.items() if each == key and not node.is_replaced]
        await self._take_away(nodes)
        world.trace.log(f"operator removes {[node.addr for node in nodes]} in a hurry")
        for node in nodes:
            self._do(self._remove(key, node.addr))
            world.timeline.callLater(world.random.uniform(0, 5), self._start_anew, node)
        await world.sleep(5)

    def _start_anew(self, node: SimNode) -> None:
        self._world.judge.starts(node.discovery_id, node.addr)
        node.start_anew()
        node.start()

    def restore(self, *, is_announced: bool) -> None:
        """Put back the last backup; `is_announced` means that the manual's procedure is followed."""
        world, store = self._world, self._world.store
        if store.backup is None or world.is_restored:
            return
        world.is_restored = True
        if is_announced:
            self._hold(world.random.uniform(1, 5))
        changed = store.restore()
        world.trace.log(f"etcd is restored, {len(changed)} IDs change" + ("" if is_announced else "; nobody was told"))
        world.judge.restored(changed, is_announced=is_announced)
        world.was_unannounced = not is_announced

    def announce_the_restore(self) -> None:
        """Follow the procedure after all, once daemons refuse to grant."""
        if self._world.was_unannounced:
            self._hold(3)

    def _hold(self, seconds: float) -> None:
        """Stop the daemons, raise the epoch, and start them."""
        world = self._world
        for host in world.hosts:
            host.is_held = True
            host.crash()
        world.timeline.callLater(seconds, lambda: self._do(self._raise_epoch()))

    async def _raise_epoch(self) -> None:
        """Do as `rqdisco etcd restored` does."""
        world = self._world
        command = EtcdBoot(world.command, world)
        try:
            while not command.is_open:
                await world.sleep(0.5)
            while not await self._is_raised(command):
                await world.sleep(1)
        finally:
            command.is_alive = False
            command.clock.end()
        world.trace.log(f"epoch {world.store.meta.epoch}")
        for host in world.hosts:
            host.is_held = False
            host.start()

    async def _is_raised(self, command: EtcdBoot) -> bool:
        try:
            await command.backend.state.raise_epoch(WALL_US // 1_000_000 + int(self._world.now))
        except Exception as failure:
            self._world.trace.log(f"not raised: {failure}")
            return False
        return True

    async def _import(self) -> None:
        """Import an ID with the nodes of a cluster that runs, and add nodes to it."""
        world, random = self._world, self._world.random
        await world.sleep(random.uniform(0, 40))
        key, as_own = f"{random.getrandbits(32):08x}-moved", random.random() < 0.5
        nodes = [self._add(key, SimNode) for _ in range(random.randrange(1, 3))]
        cluster = Cluster(key, nodes[0].addr, {node.addr for node in nodes})
        cluster.has_led = True
        for node in nodes:
            node.cluster, node.was_member, node.is_up = cluster, True, True
        cluster.leader = nodes[0]
        world.judge.clusters.append(cluster)
        world.judge.imported.add(key)
        transferred = TransferredRecord(
            id=key, owner="0123456789abcdef", created_at=1, nodes=tuple(ImportedNode(addr=node.addr) for node in nodes)
        )
        while True:
            reply = await world.clients.call(
                "import", key, lambda boot: boot.directory.adopt(transferred, as_own=as_own)
            )
            if reply is not None and reply.refusal is None:
                break
            await world.sleep(1)
        world.trace.log(f"{key} is imported")
        for node in nodes:
            world.judge.acknowledge(key, node.addr)
        for _ in range(random.randrange(1, 3)):
            fresh = self._add(key, SimNode)
            world.timeline.callLater(random.uniform(0, 2), fresh.start)
        if random.random() < 0.4:
            await world.sleep(random.uniform(5, 20))
            await self._rebuild(key)
