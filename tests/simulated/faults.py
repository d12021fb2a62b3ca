"""The faults of a run: at any moment, or at the worst one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulated.hosts import Host
from tests.simulated.nodes import SimNode

if TYPE_CHECKING:
    from tests.simulated.world import World

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
    "stalls",
    "repeats",
    "replacements",
)
# With this fault, daemons forget IDs that never had a node.
EXPIRY = "expiry"


class Faults:
    """`kinds` are the possible faults; `spite` is how often one happens at the worst moment."""

    def __init__(self, world: World, kinds: tuple[str, ...]) -> None:
        self._world = world
        self._random = world.random
        self.kinds = kinds
        self.are_over = False
        self.spite = self._random.choice((0.0, 0.3, 0.6))

    def plan(self, end: float) -> None:
        world, random = self._world, self._random
        if "answers" in self.kinds:
            world.clients.lost_answers = random.choice((0.0, 0.05, 0.3))
            world.net.loss = random.choice((0.0, 0.02, 0.2))
            world.net.slow = random.choice((0.0, 0.02, 0.2))
            world.net.late = random.choice((0.0, 0.0, 0.05, 0.2))
        if "repeats" in self.kinds:
            world.net.repeats = random.choice((0.0, 0.1, 0.5))
        if "clocks" in self.kinds:
            for host in world.hosts:
                host.skew = random.choice((0.0, random.uniform(-3600, 3600)))
        strikes: list[tuple[str, Callable[[], None]]] = [
            ("partitions", self._partition),
            ("partitions", self._one_way),
            ("crashes", self._crash),
            ("crashes", self._crash),
            ("crashes", self._crash_node),
            ("wipes", self._wipe_node),
            ("wipes", self._wipe_node),
            ("replacements", self._replace_node),
            ("replacements", self._replace_node),
            ("disks", self._lose_disk),
            ("rollbacks", self._roll_back),
            ("copies", self._copy),
            ("clocks", self._jump),
            ("full", self._fill),
            ("drains", lambda: world.operator.drain(self._some_host())),
            ("stalls", self._stall),
        ]
        possible = [call for name, call in strikes if name in self.kinds]
        for _ in range(random.randrange(1, 9) if possible else 0):
            world.timeline.callLater(random.uniform(0, end - world.now), random.choice(possible))
        if "rollbacks" in self.kinds:
            for _ in range(2):
                world.timeline.callLater(random.uniform(0, end - world.now), self._back_up)

    def heal(self) -> None:
        """End all faults of hosts and networks."""
        world = self._world
        self.are_over = True
        world.trace.log("all faults end")
        world.net.calm()
        world.clients.lost_answers = 0.0
        for host in world.hosts:
            host.disk.room = None
            if host.boot is None:
                world.timeline.callLater(1, host.start)
            elif host.boot.backend.peers.guard.fenced is not None:
                host.crash("kill")
                world.timeline.callLater(1, host.start)

    # Worst moments.

    def before_a_call(self) -> None:
        if "rollbacks" in self.kinds and not self.are_over and self._random.random() < 0.3:
            self._back_up()

    def during_a_request(self, what: str, key: str, is_at_owner: bool) -> None:
        """Kill the process of a node while its request is at a daemon."""
        verb, _, addr = what.partition(" ")
        node = self._world.nodes.get((key, addr))
        if self.are_over or node is None or not node.is_up or verb not in ("register", "claim"):
            return
        if "replacements" in self.kinds and self._random.random() < self.spite / 4:
            self._later(self._random.choice((0, 0.001, 0.01)), lambda: self._replace_node(node))
        if "removals" in self.kinds and is_at_owner and self._random.random() < self.spite / 4:
            self._later(self._random.choice((0, 0.001, 0.01)), lambda: self._world.operator.clean_up_before(node))

    def after_creation(self, owner: str | None) -> None:
        """Isolate the owner of an ID when the first of its nodes register."""
        host = self._at(owner)
        if host is not None and {"partitions", "disks"} <= set(self.kinds) and self._strikes():
            self._cut_off(host)

    def after_a_grant(self, owner: str) -> None:
        """Apply a fault to an owner that has just granted a node."""
        host = self._at(owner)
        if host is None or not self._strikes():
            return
        strikes: list[tuple[str, Callable[[Host], None]]] = [
            ("crashes", self._crash),
            ("disks", self._lose_disk),
            ("rollbacks", self._roll_back),
            ("partitions", self._cut_off),
            ("copies", self._copy),
            ("stalls", self._stall),
        ]
        possible = [call for name, call in strikes if name in self.kinds]
        if possible:
            strike = self._random.choice(possible)
            self._later(self._random.choice((0, 0.002, 0.02, 2)), lambda: strike(host))

    def _strikes(self) -> bool:
        return not self.are_over and self._random.random() < self.spite

    def _at(self, owner: str | None) -> Host | None:
        alive = [host for host in self._world.hosts if host.boot is not None and host.boot.owner == owner]
        return alive[0] if alive else None

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._world.timeline.callLater(seconds, call)

    def _some_host(self) -> Host:
        return self._random.choice(self._world.hosts)

    # Networks.

    def _partition(self) -> None:
        names = [host.name for host in self._world.hosts]
        some = set(self._random.sample(names, self._random.randrange(1, len(names))))
        pairs = {(one, other) for one in names for other in names if (one in some) != (other in some)}
        self._cut(pairs, f"{sorted(some)} cut off")
        if self._strikes():
            near = next(host for host in self._world.hosts if host.name in some)
            self._later(self._random.uniform(0, 10), lambda: self._world.operator.add_node(near))

    def _cut_off(self, host: Host) -> None:
        names = [each.name for each in self._world.hosts if each is not host]
        self._cut({pair for each in names for pair in ((each, host.name), (host.name, each))}, f"{host.name} cut off")

    def _one_way(self) -> None:
        one, other = self._random.sample([host.name for host in self._world.hosts], 2)
        self._cut({(one, other)}, f"{one} to {other} cut")

    def _cut(self, pairs: set[tuple[str, str]], text: str) -> None:
        self._world.trace.log(text)
        self._world.net.sever(pairs)
        self._later(self._random.choice((2, 10, 40)), lambda: self._join_again(pairs))

    def _join_again(self, pairs: set[tuple[str, str]]) -> None:
        self._world.net.rejoin(pairs)
        self._world.trace.log("links healed")

    # Hosts.

    def _crash(self, host: Host | None = None) -> None:
        host = host or self._some_host()
        kind = self._random.choice(("kill", "power"))
        host.crash(kind)
        self._world.judge.ages_are_known &= kind == "kill"
        self._later(self._random.choice((0.5, 5, 30)), host.start)

    def _stall(self, host: Host | None = None) -> None:
        (host or self._some_host()).stand_still(self._random.choice((0.5, 3, 6, 12, 20)))

    def _lose_disk(self, host: Host | None = None) -> None:
        host = host or self._some_host()
        self._world.judge.loses(host, "disk")
        host.lose_disk()
        self._later(self._random.choice((0.5, 5, 30)), host.start)

    def _back_up(self) -> None:
        self._some_host().back_up()

    def _roll_back(self, host: Host | None = None) -> None:
        host = host or self._some_host()
        if host.backups:
            self._world.judge.loses(host, "rollback")
            host.roll_back()
            if "partitions" in self.kinds and self._strikes():
                # A host is restored before its network is.
                self._cut_off(host)
            self._later(self._random.choice((0.5, 5)), host.start)

    def _copy(self, host: Host | None = None) -> None:
        """Start an image of a host beside it, under another name in the network."""
        world = self._world
        host = host or self._some_host()
        if any(each.name.endswith("'") for each in world.hosts):
            return
        world.judge.is_copied(host)
        duplicate = host.copy()
        world.hosts.append(duplicate)
        duplicate.start()

        def stop() -> None:
            duplicate.crash("kill")
            duplicate.is_gone = True
            world.judge.copy_is_gone()
            world.hosts.remove(duplicate)
            # The operator restarts a fenced daemon.
            self._later(1, lambda: host.crash("kill"))
            self._later(2, host.start)

        self._later(self._random.uniform(3, 20), stop)

    def _jump(self) -> None:
        self._some_host().skew += self._random.choice((-86400, -60, 60, 86400))

    def _fill(self) -> None:
        host = self._some_host()
        host.disk.room = 0
        self._world.trace.log(f"{host.name} has a full disk")

        def empty() -> None:
            host.disk.room = None

        self._later(self._random.uniform(1, 20), empty)

    # Nodes.

    def _some_node(self) -> SimNode | None:
        running = [node for node in self._world.nodes.values() if node.is_up]
        return self._random.choice(running) if running else None

    def _crash_node(self) -> None:
        node = self._some_node()
        if node is not None:
            node.stop()
            self._world.trace.log(f"{node.addr} dies")
            self._later(5, node.start)

    def _wipe_node(self) -> None:
        node = self._some_node()
        if node is not None:
            node.stop()
            node.lose_data()
            self._world.trace.log(f"{node.addr} loses its data")
            self._later(5, node.start)

    def _replace_node(self, node: SimNode | None = None) -> None:
        node = node or self._some_node()
        if node is not None and node.is_up:
            self._world.operator.replace_node(node)
