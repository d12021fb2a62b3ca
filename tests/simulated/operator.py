"""People who look after clusters and daemons: create IDs, remove and replace nodes, forget and drain
daemons.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rqdisco.backends.gossip.core.inputs import Command, Drain, Forget
from rqdisco.backends.gossip.core.messages import Member
from rqdisco.core.errors import NoSuccessor, StoreUnavailable
from tests.simulated.boots import Boot
from tests.simulated.faults import LOOPBACK
from tests.simulated.hosts import Host
from tests.simulated.nodes import ConsulNode, SimNode

if TYPE_CHECKING:
    from tests.simulated.world import AnyWorld

# As long as a decision may come about a request that was sent before.
_DEADLINE_SECONDS = 8.0


class Operator:
    """Waits for every answer, as the manual requires."""

    def __init__(self, world: AnyWorld) -> None:
        self._world = world
        self._next = 0

    def begin(self) -> None:
        for number in range(1 + self._world.draws("operator").randrange(2)):
            self._do(self._make_cluster(number))
        if self._world.unused_seconds is not None:
            for number in range(4):
                self._do(self._create_idle(f"idle {number}", self._world.unused_seconds))

    def forget_the_lost(self) -> None:
        """Forget daemons whose disks were lost, by name, at some daemon, and drain those that are
        leaving, until all is done.
        """
        world = self._world
        boots = [each.boot for each in world.hosts if each.boot is not None]
        leaving = [boot for boot in boots if boot.state.members.own.state == "leaving"]
        for boot in leaving:
            self._do(self._ask(boot, Drain()))
        alive = {host.boot.owner: host.boot for host in world.hosts if host.boot is not None}
        host = next((each for each in world.hosts if each.boot is not None and each.takes_part), None)
        if host is None or host.boot is None:
            return
        members = host.boot.state.members
        lost = [
            # The chosen successor of its IDs is asked, as the refusals of others advise.
            (alive.get(members.current_owner(each.successor), host.boot) if each.successor else host.boot, each)
            for each in members.others
            if each.incarnation not in alive
        ]
        if lost:
            self._do(self._forget(lost))
        if lost or leaving:
            world.timeline.callLater(15, self.forget_the_lost)

    async def _forget(self, lost: list[tuple[Boot, Member]]) -> None:
        for boot, member in lost:
            self._world.trace.log(f"operator forgets {member.name} at {boot.host.name}")
            self._do(self._forget_one(boot, member, [each for _, each in lost]))
            await self._world.sleep(5)

    async def _forget_one(self, boot: Boot, member: Member, lost: list[Member]) -> None:
        result = await self._ask(boot, Forget(member.name))
        if not isinstance(result, NoSuccessor):
            return
        # Two daemons have the name, or another one is lost as well: the operator gives the incarnation.
        named = [each for each in lost if each.incarnation in str(result)]
        for each in [member] if member in named else named:
            await self._ask(boot, Forget(each.incarnation))

    def drain(self, host: Host) -> None:
        if host.boot is not None and len(self._world.hosts) > 2:
            self._world.trace.log(f"{host.name} is drained")
            self._world.judge.ages_are_known = False
            self._do(self._ask(host.boot, Drain()))

    def replace_node(self, node: SimNode, seconds: float) -> None:
        """A node dies for good; where hosts come and go, another one replaces it after some
        seconds, at another address.
        """
        world = self._world
        node.stop()
        node.is_replaced = True
        fresh = self._add(node.discovery_id, type(node))
        world.trace.log(f"{node.addr} dies, and {fresh.addr} takes its place")
        world.timeline.callLater(seconds, fresh.start)

    def add_node(self, near: Host, number: int) -> None:
        """Add one node to some cluster, beside a daemon."""
        world = self._world
        keys = sorted({key for key, _ in world.nodes})
        if keys:
            key = keys[number % len(keys)]
            kind = next(type(node) for (each, _), node in world.nodes.items() if each == key)
            fresh = self._add(key, kind, near)
            world.trace.log(f"{fresh.addr} starts beside {near.name}")
            fresh.start()

    def clean_up_before(self, node: SimNode) -> None:
        """A script removes the address of a node as it starts, and is late: the node registers
        already (R9).
        """
        at = None if node.pending is None or node.pending.boot is None else node.pending.boot
        if at is not None and at.is_alive and not self._world.judge.lists(at, node.discovery_id, node.addr):
            self._do(self._world.clients.remove(node.discovery_id, node.addr, at.host))

    async def _make_cluster(self, number: int) -> None:
        world, random = self._world, self._world.draws(f"cluster {number}")
        await world.sleep(random.uniform(0, 10))
        kind = ConsulNode if random.random() < 0.25 else SimNode
        if kind is ConsulNode and random.random() < 0.5:
            discovery_id, owner = f"rqlite{number}", None
        else:
            record = None
            while record is None:
                record = await world.clients.create()
            discovery_id, owner = record.id, record.owner
        world.trace.log(f"{discovery_id} is at {owner}, for {kind.__name__}")
        world.judge.acknowledged.setdefault(discovery_id, set())
        world.faults.after_creation(owner)
        spread = random.choice((0.01, 1.0, 20.0))
        has_defaults = kind is SimNode and world.may(LOOPBACK)
        for _ in range(random.randrange(2, 5)):
            # On one of two machines, or at an address of its own.
            machine = random.randrange(3) if has_defaults else 0
            node = self._add(discovery_id, kind, world.some_host(random), machine)
            world.timeline.callLater(random.uniform(0, spread), node.start)
        if world.may("removals") and random.random() < 0.6:
            # With consul-kv the list has leaders only: all nodes are stopped.
            rebuild = self._rebuild if kind is ConsulNode else random.choice((self._rebuild, self._replace))
            world.timeline.callLater(random.uniform(15, 60), lambda: self._do(rebuild(discovery_id)))
        for _ in range(3):
            await world.sleep(random.uniform(5, 40))
            await world.clients.read(discovery_id)
            for _ in range(3):
                await world.clients.resolve(discovery_id)

    async def _create_idle(self, actor: str, seconds: float) -> None:
        """Create an ID that nobody uses, or that a node uses when its time is nearly over, perhaps
        not for long.
        """
        world, random = self._world, self._world.draws(actor)
        await world.sleep(random.uniform(0, 80))
        asked = world.now
        record = await world.clients.create()
        if record is None:
            return
        world.judge.created(record, asked)
        world.trace.log(f"{record.id} is at {record.owner}, for nobody yet")
        if random.random() < 0.6:
            await world.sleep(random.uniform(0.6, 1.4) * seconds)
            node = self._add(record.id, SimNode, world.some_host(random))
            node.start()
            if random.random() < 0.4:
                await world.sleep(random.uniform(1, 20))
                await self._take_away([node])
                await self._remove(record.id, node.addr)

    async def _rebuild(self, discovery_id: str) -> None:
        """Stop all nodes, remove each, and start them anew without data."""
        world = self._world
        nodes = [node for (key, _), node in world.nodes.items() if key == discovery_id]
        await self._take_away(nodes)
        for node in nodes:
            await self._remove(discovery_id, node.addr)
        # A hint or a report of one of them that was sent earlier may have arrived: the list is checked,
        # as the manual requires.
        left = set(await world.clients.read(discovery_id) or ()) & {node.addr for node in nodes}
        for addr in sorted(left):
            await self._remove(discovery_id, addr)
        world.trace.log(f"operator starts {discovery_id} anew")
        for node in nodes:
            node.start_anew()
            world.timeline.callLater(world.draws(node.addr).uniform(0, 1), node.start)

    async def _replace(self, discovery_id: str) -> None:
        """Stop and remove the listed nodes, and start as many others elsewhere."""
        world = self._world
        listed = None
        while listed is None:
            listed = await world.clients.read(discovery_id)
            await world.sleep(1)
        nodes = [world.nodes[discovery_id, addr] for addr in listed]
        await self._take_away(nodes)
        for addr in listed:
            await self._remove(discovery_id, addr)
        world.trace.log(f"operator starts other nodes of {discovery_id}")
        for node in nodes:
            random = world.draws(f"instead of {node.addr}")
            fresh = self._add(discovery_id, type(node), world.some_host(random))
            world.timeline.callLater(random.uniform(0, 1), fresh.start)

    async def _take_away(self, nodes: list[SimNode]) -> None:
        world = self._world
        for node in nodes:
            node.stop()
            node.is_removed = True
            world.judge.acknowledged.get(node.discovery_id, set()).discard(node.addr)
        world.trace.log(f"operator takes away {[node.addr for node in nodes]}")
        await world.sleep(_DEADLINE_SECONDS)

    async def _remove(self, discovery_id: str, addr: str) -> None:
        while await self._world.clients.remove(discovery_id, addr) is None:
            await self._world.sleep(1)

    def _add(self, discovery_id: str, kind: type[SimNode], near: Host | None = None, machine: int = 0) -> SimNode:
        self._next += 1
        addr = f"127.0.{machine}.{self._next}:1" if machine else f"n{self._next}:1"
        node = kind(self._world, discovery_id, addr, near)
        self._world.nodes[discovery_id, node.addr] = node
        return node

    def _do(self, doing: Any) -> None:
        self._world.spawn(doing)

    async def _ask(self, boot: Boot, command: Command) -> Any:
        """Return what a daemon answers to an operator, an exception if it refuses."""
        result = await boot.ask(command)
        is_refusal = isinstance(result, Exception)
        self._world.trace.log(f"operator at {boot.host.name}: {f'no, {result}' if is_refusal else result}")
        if is_refusal and not isinstance(result, (NoSuccessor, StoreUnavailable)):
            self._world.judge.violate(f"operator: {type(result).__name__}: {result}")
        return result
