"""The choice of faults in a run with peers: at any moment, or at the worst one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulated.host_faults import HostFaults
from tests.simulated.hosts import Host
from tests.simulated.schedule import Fault

if TYPE_CHECKING:
    from tests.simulated.world import AnyWorld

# A fault at the same moment as its reason follows it.
_AT_ONCE = 1e-6


class PeerFaults(HostFaults):
    """The faults of daemons that are peers: chosen at random, or those of a schedule."""

    def __init__(
        self, world: AnyWorld, kinds: tuple[str, ...], scheduled: Iterable[Fault] | None, random: Random
    ) -> None:
        super().__init__(world, kinds, random)
        self._choices = world.choices
        self._scheduled = scheduled
        self._backups = 0

    @property
    def _chooses(self) -> bool:
        """Report whether faults are chosen here."""
        return self._scheduled is None and not self.are_over

    def strike(self, kind: str, **given: Any) -> None:
        """Carry out a fault, and keep it in the schedule."""
        if self.are_over:
            return
        self._choices.fault(Fault(self._world.now, kind, given))
        if kind != "back_up":
            self._world.acts()
        super().strike(kind, **given)

    def plan(self, end: float) -> None:
        """Plan the faults until then."""
        world, random = self._world, self._random
        if self._scheduled is not None:
            for fault in self._scheduled:
                world.timeline.call_at(fault.at, lambda each=fault: self.strike(each.kind, **each.given))
            return
        self._plan_rates()
        if "clocks" in self.kinds:
            for host in world.hosts:
                skew = random.choice((0.0, round(random.uniform(-3600, 3600), 3)))
                if skew:
                    self.strike("jump", host=host.name, seconds=skew)
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
            ("drains", lambda: self.strike("drain", host=self._some_host().name)),
            ("stalls", self._stall),
        ]
        possible = [call for name, call in strikes if name in self.kinds]
        for _ in range(random.randrange(1, 9) if possible else 0):
            self._later(random.uniform(0, end - world.now), random.choice(possible))
        if "rollbacks" in self.kinds:
            for _ in range(2):
                self._later(random.uniform(0, end - world.now), self._back_up)

    def _plan_rates(self) -> None:
        random, rates = self._random, {}
        if "answers" in self.kinds:
            rates = {
                "answers": random.choice((0.0, 0.05, 0.3)),
                "loss": random.choice((0.0, 0.02, 0.2)),
                "slow": random.choice((0.0, 0.02, 0.2)),
                "late": random.choice((0.0, 0.0, 0.05, 0.2)),
            }
        if "repeats" in self.kinds:
            rates["repeats"] = random.choice((0.0, 0.1, 0.5))
        if any(rates.values()):
            self.strike("disturb", **rates)

    def on_disturb(self, **rates: float) -> None:
        """Disturb messages as often as this. A schedule has each of these messages too."""
        self._choices.rates.set(**rates)
        self._world.trace.log(f"messages are disturbed: {rates}")

    def heal(self) -> None:
        """End all faults of hosts and networks."""
        world = self._world
        self.are_over = True
        world.acts()
        world.trace.log("all faults end")
        world.net.calm()
        for host in world.hosts:
            host.disk.is_full = False
            if host.boot is None:
                world.timeline.callLater(1, host.start)
            elif host.boot.state.fenced is not None:
                host.crash(is_power_cut=False, is_kept=True)
                world.timeline.callLater(1, host.start)

    # Worst moments.

    def before_a_call(self) -> None:
        if self._chooses and "rollbacks" in self.kinds and self._random.random() < 0.3:
            self._back_up()

    def during_a_request(self, what: str, key: str, is_at_owner: bool) -> None:
        """Kill the process of a node while its request is at a daemon."""
        verb, _, addr = what.partition(" ")
        node = self._world.nodes.get((key, addr))
        if not self._chooses or node is None or not node.is_up or verb not in ("register", "claim"):
            return
        if "replacements" in self.kinds and self._random.random() < self.spite / 4:
            self._later(self._random.choice((_AT_ONCE, 0.001, 0.01)), lambda: self._replace_node(node))
        if "removals" in self.kinds and is_at_owner and self._random.random() < self.spite / 4:
            self._later(
                self._random.choice((_AT_ONCE, 0.001, 0.01)), lambda: self.strike("clean_up_before", node=node.addr)
            )

    def on_clean_up_before(self, node: str) -> None:
        found = self._running(node)
        if found is not None:
            self._world.operator.clean_up_before(found)

    def after_creation(self, owner: str | None) -> None:
        """Isolate the owner of an ID when the first of its nodes register."""
        host = self._at(owner)
        if self._chooses and host is not None and {"partitions", "disks"} <= set(self.kinds) and self._strikes():
            self._later(_AT_ONCE, lambda: self._cut_off(host))

    def after_a_grant(self, owner: str) -> None:
        """Apply a fault to an owner that has just granted a node."""
        host = self._at(owner)
        if not self._chooses or host is None or not self._strikes():
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
            self._later(self._random.choice((_AT_ONCE, 0.002, 0.02, 2)), lambda: strike(host))

    def _at(self, owner: str | None) -> Host | None:
        alive = [host for host in self._world.hosts if host.boot is not None and host.boot.owner == owner]
        return alive[0] if alive else None

    def _some_host(self) -> Host:
        host: Host = self._random.choice(self._world.hosts)
        return host

    # Networks.

    def _partition(self) -> None:
        names = [host.name for host in self._world.hosts]
        some = set(self._random.sample(names, self._random.randrange(1, len(names))))
        pairs = {(one, other) for one in names for other in names if (one in some) != (other in some)}
        self._cut(pairs, f"{sorted(some)} cut off")
        if self._strikes():
            near = next(host.name for host in self._world.hosts if host.name in some)
            number = self._random.randrange(2)
            self._later(self._random.uniform(0, 10), lambda: self.strike("add_node", near=near, number=number))

    def _cut_off(self, host: Host) -> None:
        names = [each.name for each in self._world.hosts if each is not host]
        self._cut({pair for each in names for pair in ((each, host.name), (host.name, each))}, f"{host.name} cut off")

    def _one_way(self) -> None:
        one, other = self._random.sample([host.name for host in self._world.hosts], 2)
        self._cut({(one, other)}, f"{one} to {other} cut")

    # Hosts.

    def _crash(self, host: Host | None = None) -> None:
        self.strike(
            "crash",
            host=(host or self._some_host()).name,
            is_power_cut=self._random.random() < 0.5,
            is_kept=self._random.random() < 0.5,
            back=self._random.choice((0.5, 5, 30)),
        )

    def _stall(self, host: Host | None = None) -> None:
        host = host or self._some_host()
        self.strike("stall", host=host.name, seconds=self._random.choice((0.5, 3, 6, 12, 20)))

    def _lose_disk(self, host: Host | None = None) -> None:
        host = host or self._some_host()
        self.strike("lose_disk", host=host.name, back=self._random.choice((0.5, 5, 30)))

    def _back_up(self) -> None:
        self._backups += 1
        self.strike("back_up", host=self._some_host().name, backup=self._backups)

    def _roll_back(self, host: Host | None = None) -> None:
        host = host or self._some_host()
        if host.backups:
            backup = self._random.choice(list(host.backups))
            self.strike("roll_back", host=host.name, backup=backup, back=self._random.choice((0.5, 5)))
            if "partitions" in self.kinds and self._strikes():
                # A host is restored before its network is.
                self._cut_off(host)

    def _copy(self, host: Host | None = None) -> None:
        host = host or self._some_host()
        if not any(each.name.endswith("'") for each in self._world.hosts):
            self.strike("copy", host=host.name, seconds=round(self._random.uniform(3, 20), 6))

    def _fill(self) -> None:
        self.strike("fill", host=self._some_host().name, seconds=round(self._random.uniform(1, 20), 6))
